# The host's clock, in milliseconds since 1970.
date +%s%3N
