set -eu
# Runs SQL from standard input as postgres, in the database $4.
sql -d "$4" -f -
