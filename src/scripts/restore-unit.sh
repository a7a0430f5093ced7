set -eu
# The restore itself. $4 is the kind of target (latest, time or lsn), $5 the time or position. $6 says where to: `new` is
# the data directory, which this program made and which was never started; `beside` is a copy beside data in use, which
# takes $9 bytes. $7 and $8 are pgBackRest's configuration and stanza, whose files lead to the position ${10}.
kind=$4 target=$5 place=$6 config=$7 stanza=$8 needed=$9 end=${10}
asked="$kind $target"
log=/var/log/postgresql/cluster-restore.log
# What is to be done at the end is done when it is ended, too.
trap 'exit 143' TERM
# Another cluster's repository is opened for this alone.
if [ "$config" != /etc/cluster/pgbackrest.conf ]; then trap 'rm -f "$config" "${config%.conf}-ca.crt"' EXIT; fi
belongs || die "$data is not this cluster's"
case $place in
    new)
        into=$data
        case $(made) in
            virgin | creating) ;;
            *) die "$data holds data ($(made)) and is not deleted" ;;
        esac
        mark creating
        # pgBackRest has filled none of its tablespaces before they were empty: what is there is of an earlier attempt.
        # shellcheck disable=SC2016
        postgres sh -c 'for link in "$1"/pg_tblspc/*; do if [ -L "$link" ]; then rm -rf "$link"/PG_"$2"_*; fi; done' \
            sh "$into" "$version"
        postgres find "$into" -mindepth 1 -delete
        options=
        ;;
    beside)
        into=$copy
        await_swap
        settle_swap
        [ ! -e "$before" ] || die "$before, the data of before an earlier restore, is still there"
        if [ -e "$into" ] && is_copy_of "$kind" "$target" "$end"; then
            sed 1d "$restored_note" || :
            exit 0
        fi
        rm -f "$restored_note"
        for link in "$data" "$data/pg_wal" "$data"/pg_tblspc/*; do
            [ ! -L "$link" ] || die "$link is a symbolic link: only a data directory that is whole can be replaced"
            ! mountpoint -q "$link" || die "$link is a mount point and cannot be replaced"
        done
        postgres rm -rf "$into"
        # The data may have grown since the backup. Replay needs some of the WAL besides, and what runs here has to go on.
        room() { postgres df --output="$1" -BM "$data" | tail -n 1 | tr -dc 0-9; }
        needed=$((needed / 1048576))
        grown=$(postgres du -sm "$data" 2>/dev/null | cut -f 1)
        if [ "${grown:-0}" -gt "$needed" ]; then needed=$grown; fi
        kept=$(($(room size) / 20))
        if [ "$kept" -lt 1024 ]; then kept=1024; fi
        needed=$((needed + 1024 + kept))
        free=$(room avail)
        [ "$free" -gt "$needed" ] ||
            die "the copy beside $data needs $needed MB, $kept MB of which stay free, and $free MB are free"
        # A copy that comes to nothing leaves the disk as it was.
        watcher=
        give_up() {
            code=$?
            if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null || :; fi
            if [ "$code" -ne 0 ]; then
                if [ -e "$into/postmaster.pid" ]; then postgres "$bin/pg_ctl" -D "$into" -s -w -m immediate stop || :; fi
                postgres rm -rf "$into"
            fi
        }
        trap give_up EXIT
        postgres mkdir -m 700 "$into"
        # Ends all of it before the disk is full for the server that takes writes. It ends with this script, however that does: a
        # signal that comes too early is lost on it, and a process that has ended and that nobody has asked for is still there
        # for `kill -0`.
        while sleep 5 2>/dev/null && [ -e "/proc/$$/cwd" ]; do
            free=$(room avail)
            if [ "${free:-$kept}" -lt $((kept / 2)) ]; then
                echo "stopped: the disk of $data has $free MB left" >&2 || :
                systemctl kill cluster-restore
                break
            fi
        done >/dev/null &
        watcher=$!
        # Beside a server that runs with the same configuration: nothing of what belongs to that is touched.
        install -d -o postgres -g postgres -m 700 /run/cluster/restore
        export PGHOST=/run/cluster/restore
        options="-c data_directory=$into -c unix_socket_directories=$PGHOST -c external_pid_file= -c shared_buffers=128MB \
-c huge_pages=off -c max_wal_size=512MB -c min_wal_size=80MB"
        if [ "$version" -lt 13 ]; then options="$options -c wal_keep_segments=0"; else options="$options -c wal_keep_size=0"; fi
        if [ "$version" -lt 15 ]; then options="$options -c stats_temp_directory=pg_stat_tmp"; fi
        ;;
    *) die "$place is no place" ;;
esac
case $kind in
    latest) set -- --type=default ;;
    time | lsn) set -- --type="$kind" --target="$target" --target-action=promote ;;
    *) die "$kind is not a kind of target" ;;
esac
if [ "$place" = beside ]; then set -- --process-max=2 "$@"; fi
tell "copying the backup"
postgres pgbackrest --config="$config" --stanza="$stanza" --pg1-path="$into" \
    --log-level-console=off --log-level-stderr=warn "$@" restore
if [ "$place" = beside ]; then
    # Its timeline must be a later one than any that this server knows, archived or not.
    # shellcheck disable=SC2016
    postgres sh -c 'for file in "$1"/pg_wal/*.history; do if [ -e "$file" ]; then cp "$file" "$2/pg_wal/"; fi; done' \
        sh "$data" "$into"
fi

# A server of its own replays: nobody can connect to it from outside, and it promotes without a lease, which there is
# nobody to ask for yet. With hot_standby off it takes any max_connections, however many the old cluster had. What would be
# archived stays to be archived, for the server to do that takes writes with this data: of an attempt that comes to nothing
# the archive has no timeline. The log is read below, whatever the cluster's own is like: messages of recovery are of the
# level log, which ranks above warning there.
begin() {
    # shellcheck disable=SC2016
    postgres sh -c 'exec >"$1"; chmod 640 "$1"' sh "$log"
    postgres "$bin/pg_ctl" -D "$into" -s -W -l "$log" -o "-c config_file=/etc/postgresql/$version/main/postgresql.conf \
-c listen_addresses= -c hot_standby=off -c recovery_end_command= -c 'archive_command=exit 143' \
-c max_logical_replication_workers=0 -c log_destination=stderr -c logging_collector=off -c lc_messages=C -c log_min_messages=warning $options" start
}
# What is there is postgres': it may be anything, one that keeps whoever opens it waiting as well.
runs() {
    postmaster=$(postgres timeout 5 head -n 1 "$into/postmaster.pid" 2>/dev/null) || return 1
    case $postmaster in '' | *[!0-9]*) return 1 ;; esac
    [ "$(readlink "/proc/$postmaster/exe")" = "$bin/postgres" ]
}
last_transaction() {
    postgres sed -n 's/.*last completed transaction was at log time \([-+:. 0-9]*\)$/\1/p' "$log" | tail -n 1
}
# Returns when it takes writes, or has ended.
replay() {
    told='' tries=0
    until sql -d postgres -c 'select 1' >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 20 ] && ! runs; then return 1; fi
        now=$(ps -C postgres -o args= | sed -n 's/.*startup *recovering //p' | head -n 1)
        if [ -n "$now" ] && [ "$now" != "$told" ]; then
            tell "replaying $now"
            told=$now
        fi
        sleep 0.25
    done
}
begin
if ! replay; then
    # No commit is younger than the time, or lies behind the position, that was asked for: what there is, is what there was
    # then.
    if [ "$kind" = latest ] || ! postgres grep -q 'recovery ended before configured recovery target was reached' "$log"; then
        postgres tail -n 20 "$log" >&2
        die "PostgreSQL ended while it replayed"
    fi
    tell "the archive ends before $target: replaying all of it"
    # shellcheck disable=SC2016
    postgres sh -c 'sed -i "/^recovery_target/d" "$1"' sh "$into/postgresql.auto.conf"
    begin
    replay || {
        postgres tail -n 20 "$log" >&2
        die "PostgreSQL ended while it replayed"
    }
    kind=latest
elif [ "$kind" != latest ] && ! postgres grep -q 'recovery stopping' "$log"; then
    # PostgreSQL 12 ends recovery there without an error.
    tell "the archive ends before $target: all of it was replayed"
    kind=latest
fi
if [ "$kind" = latest ]; then asked="$asked $end"; fi
# pgBackRest may hand out a damaged file without a word, and PostgreSQL takes it for the end of the archive. The last file
# is not full.
if [ "$kind" = latest ]; then
    timeline=$(sql -d postgres -c 'select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)')
    ended=$(postgres tail -n 1 "$into/pg_wal/$timeline.history" | cut -f 2)
    size="(select setting::bigint from pg_settings where name = 'wal_segment_size')"
    if [ "$(sql -d postgres -c "select pg_wal_lsn_diff('$end', '$ended') <= $size")" != t ]; then
        newest=$(last_transaction)
        die "replay ended at $ended, and the files in the archive lead to $end: one of them is damaged. \
What can be restored is a moment before ${newest:-the end of the backup}"
    fi
fi
# When a file came into the archive is known before it is read, and not of when the writes in it are: it may have waited.
warning='' newest=$(last_transaction)
if [ "$kind:${asked%% *}" = latest:time ] && [ -n "$newest" ]; then
    within="(select make_interval(secs => greatest(60, setting::int)) from pg_settings where name = 'archive_timeout')"
    if [ "$(sql -d postgres -c "select '$target'::timestamptz - '$newest' > $within")" = t ]; then
        warning="$(printf 'warning\t')the archive has no transaction between $newest and $target"
    fi
fi
for setting in restore_command recovery_target_time recovery_target_lsn recovery_target_action recovery_target_timeline; do
    sql -d postgres -c "alter system reset $setting"
done
# Subscriptions would go on from the slots of the cluster that this is a copy of, and take from it what it has not had yet.
if [ "$config" != /etc/cluster/pgbackrest.conf ]; then
    disable=$(sql -d postgres -c "select format(E'\\\\connect %I\nalter subscription %I disable;', datname, subname)
        from pg_subscription join pg_database on pg_database.oid = subdbid where subenabled")
    if [ -n "$disable" ]; then
        printf '%s\n' "$disable" | sql -d postgres >/dev/null
        tell "the subscriptions of the copy are off"
    fi
fi
# The nodes of then: their addresses may belong to others by now, or to the cluster that this one is a copy of.
if [ -n "$(sql -d postgres -c "select 1 from pg_database where datname = 'repmgr'")" ] &&
    [ -n "$(sql -d repmgr -c "select to_regclass('repmgr.nodes')")" ]; then
    # Not through a pipe, which would hide that there was no answer.
    if [ "$place" = beside ]; then
        nodes=$(unset PGHOST && sql -d repmgr -c 'copy repmgr.nodes to stdout')
        [ -n "$nodes" ] || die "repmgr's records of the nodes cannot be read; nothing was replaced"
    fi
    sql -d repmgr -c 'delete from repmgr.nodes'
    if [ "$place" = beside ]; then printf '%s\n' "$nodes" | sql -d repmgr -c 'copy repmgr.nodes from stdin'; fi
fi
postgres "$bin/pg_ctl" -D "$into" -s -w -t 600 -m fast stop
newest=$(last_transaction)
last="${warning:+$warning
}restored up to ${newest:-the end of the backup}"
case $place in
    new) mark primary "$(identifier)" ;;
    beside)
        postgres sync -f "$into"
        printf '%s\n%s\n' "$asked" "$last" >"$restored_note"
        sync "$restored_note"
        # The copy is there, whoever still wants to hear of it.
        kill "$watcher" 2>/dev/null || :
        trap - EXIT
        ;;
esac
echo "$last" 2>/dev/null || :
