set -u
# Undoes what drill-break did, whether or not there is anything left to undo; then nobody needs the timer any more.
exec 9>/run/cluster-drill.lock
flock -w 60 9 || die "a drill has been breaking something on this host for a minute; it undoes it by itself"
nft delete table inet cluster_drill 2>/dev/null
systemctl kill -s CONT "postgresql@$version-main.service" 2>/dev/null
systemctl stop cluster-drill-mend.timer 2>/dev/null
if command -v nft >/dev/null && nft list table inet cluster_drill >/dev/null 2>&1; then
    die "the nft table cluster_drill could not be deleted"
fi
