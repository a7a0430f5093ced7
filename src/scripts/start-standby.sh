set -eu
# Starts PostgreSQL on a standby.
[ -e "$data/standby.signal" ] || die "this is not a standby's data directory"
bring_up
