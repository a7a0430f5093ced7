set -eu
# The restore itself, into a directory that this program made and that was never started.
kind=$4 target=$5
log=/var/log/postgresql/cluster-restore.log
belongs || die "$data is not this cluster's"
case $(made) in
    virgin | creating) ;;
    *) die "$data holds data ($(made)) and is not deleted" ;;
esac
mark creating
postgres find "$data" -mindepth 1 -delete
case $kind in
    latest) set -- --type=default ;;
    time | lsn) set -- --type="$kind" --target="$target" --target-action=promote ;;
    *) die "$kind is not a kind of target" ;;
esac
echo "copying the backup"
postgres pgbackrest --config=/etc/cluster/pgbackrest.conf --stanza="$cluster" \
    --log-level-console=off --log-level-stderr=warn "$@" restore

# A server of its own replays: nobody can connect to it from outside, and it promotes without a lease, which there is
# nobody to ask for yet. With hot_standby off it takes any max_connections, however many the old cluster had.
begin() {
    # shellcheck disable=SC2016
    postgres sh -c 'exec >"$1"; chmod 640 "$1"' sh "$log"
    postgres "$bin/pg_ctl" -D "$data" -s -W -l "$log" -o "-c config_file=/etc/postgresql/$version/main/postgresql.conf \
-c listen_addresses= -c hot_standby=off -c recovery_end_command= -c log_destination=stderr -c logging_collector=off" start
}
runs() { [ -e "$data/postmaster.pid" ] && kill -0 "$(head -n 1 "$data/postmaster.pid")" 2>/dev/null; }
# Returns when it takes writes, or has ended.
replay() {
    told='' tries=0
    until sql -d postgres -c 'select 1' >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 20 ] && ! runs; then return 1; fi
        now=$(ps -C postgres -o args= | sed -n 's/.*startup *recovering //p' | head -n 1)
        if [ -n "$now" ] && [ "$now" != "$told" ]; then
            echo "replaying $now"
            told=$now
        fi
        sleep 0.25
    done
}
begin
if ! replay; then
    # No commit is younger than the time that was asked for: what there is, is what there was then.
    if [ "$kind" != time ] || ! postgres grep -q 'recovery ended before configured recovery target was reached' "$log"; then
        postgres tail -n 20 "$log" >&2
        die "PostgreSQL ended while it replayed"
    fi
    echo "the archive ends before $target: replaying all of it"
    # shellcheck disable=SC2016
    postgres sh -c 'sed -i "/^recovery_target/d" "$1"' sh "$data/postgresql.auto.conf"
    begin
    replay || {
        postgres tail -n 20 "$log" >&2
        die "PostgreSQL ended while it replayed"
    }
fi
for setting in restore_command recovery_target_time recovery_target_lsn recovery_target_action recovery_target_timeline; do
    sql -d postgres -c "alter system reset $setting"
done
# The nodes of then: their addresses may belong to others by now, or to the cluster that this one is a copy of.
if [ -n "$(sql -d postgres -c "select 1 from pg_database where datname = 'repmgr'")" ] &&
    [ -n "$(sql -d repmgr -c "select to_regclass('repmgr.nodes')")" ]; then
    sql -d repmgr -c 'delete from repmgr.nodes'
fi
postgres "$bin/pg_ctl" -D "$data" -s -w -t 600 -m fast stop
last=$(postgres sed -n 's/.*last completed transaction was at log time //p' "$log" | tail -n 1)
echo "restored up to ${last:-the end of the backup}"
mark primary "$(identifier)"
