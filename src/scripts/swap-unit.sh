set -eu
# The swap itself: the copy of the moment $4 $5, made when the archive ended at $6, takes the place of the data, which
# stays beside it. The node keeps its lease meanwhile, as in any planned restart: nobody promotes what is given up here.
patience=600
read -r began rest </proc/uptime
settle_swap
belongs || die "$data is not this cluster's"
is_copy_of "$4" "$5" "$6" || die "there is no copy of that moment"
[ ! -e "$before" ] || die "$before, the data of before an earlier restore, is still there"
"$node" marked --system-identifier "$(identifier_of "$copy")" >/dev/null || die "the copy is of another cluster's data"
# The later timeline wins everywhere: with voters, standbys and in the archive. A failover since the copy was made may
# have taken the number.
now=$(sql -d postgres -c "set statement_timeout = '5min'" -c "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int")
if [ "$(timeline_of "$copy")" -le "$now" ]; then
    rm -f "$restored_note"
    die "the cluster has begun timeline $now since the copy was made; run this again"
fi
sql -d postgres -c "set statement_timeout = '20min'" -c checkpoint
# Nobody starts PostgreSQL in between, however long that takes: its unit looks at this lock.
install -d -m 755 /run/cluster
exec 9>/run/cluster/swap.lock
flock -w 60 9 || die "PostgreSQL is being started on this node; run this again"
# Whoever asked for this waits for an hour: what would begin when nobody waits any more does not begin.
read -r reached rest </proc/uptime
[ $((${reached%%.*} - ${began%%.*})) -lt 1800 ] || die "this host took half an hour to get ready; nothing was replaced: run this again"
"$node" restart
timeout 90 systemctl stop "postgresql@$version-main" || die "PostgreSQL has not stopped; nothing was replaced"
echo swapping >"$restored_note"
sync "$restored_note"
# Both at once: at no moment is there no data directory.
postgres "$node" exchange "$data" "$copy"
flock -u 9
if (bring_up); then
    settle_swap
    exit 0
fi
flock -w 60 9 || :
timeout 90 systemctl stop "postgresql@$version-main" || systemctl kill -s KILL "postgresql@$version-main" || :
postgres "$node" exchange "$data" "$copy"
rm -f "$restored_note"
flock -u 9
(bring_up) || :
die "PostgreSQL does not start with the restored data; the old data is in its place again"
