set -eu
# Puts the copy that was restored beside the data in the place of the data, by the work on standard input.
detached cluster-swap "$@"
if [ -e "$copy" ] || [ ! -e "$before" ]; then
    die "the restored copy is not in its place; see journalctl -u cluster-swap"
fi
