set -eu
# Prints a file, read as the one whose its directory is: root would follow a link to any other.
as_owner_of "${1%/*}" head -c 65536 "$1"
