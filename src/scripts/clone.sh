set -eu
# Clones the primary that the conninfo $4 leads to, by the work on standard input.
detached cluster-clone "$@"
[ "$(made)" = standby ] || die "the clone failed; see journalctl -u cluster-clone"
