set -eu
# Starts PostgreSQL on a standby.
[ -e "$data/standby.signal" ] || die "this is not a standby's data directory"
systemctl reset-failed "postgresql@$version-main" 2>/dev/null || :
systemctl start "postgresql@$version-main"
ready
