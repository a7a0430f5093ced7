set -eu
# Deletes the data of before a restore, and says how many MB that were.
settle_swap
[ -e "$before" ] || exit 0
belongs || die "$data is not this cluster's"
postgres du -sm "$before" | cut -f 1
postgres rm -rf "$before"
