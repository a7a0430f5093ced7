set -eu
# Deletes the data of before a restore, and says how many MB that were. And a copy of which nothing came.
await_swap
if [ ! -e "$copy" ] && [ ! -e "$before" ]; then exit 0; fi
belongs || die "$data is not this cluster's"
settle_swap
systemctl -q is-active cluster-restore || postgres rm -rf "$copy"
[ -e "$before" ] || exit 0
postgres du -sm "$before" | cut -f 1
postgres rm -rf "$before"
