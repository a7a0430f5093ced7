set -eu
# Removes files that this program has put on the host for a while.
rm -f "$@"
