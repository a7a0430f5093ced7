#!/bin/sh
# What the scripts share; put in front of those that need it. They set cluster, version and port.
data=/var/lib/postgresql/$version/main
bin=/usr/lib/postgresql/$version/bin

# The marker says what the data directory is, before and after each change of it.
node=/usr/local/bin/cluster-node
made() { "$node" marked || :; }
belongs() { "$node" marked --cluster "$cluster" >/dev/null; }
mark() { "$node" mark --cluster "$cluster" ${2:+--system-identifier "$2"} "$1"; }
identifier_of() { postgres "$bin/pg_controldata" -D "$1" | sed -n 's/^Database system identifier: *//p'; }
identifier() { identifier_of "$data"; }

# A copy that is restored beside the data, and the data of before it took its place. Nobody else gives such names. The note
# says what the copy is: its target, or that it was about to be put in its place.
copy=$data.cluster-restored before=$data.before-restore
restored_note=/var/lib/cluster/restored
# Whether the copy is of that moment: KIND TARGET END. One that ends where the archive ended, at END, is of no other end;
# a moment before that stays the same moment.
is_copy_of() {
    noted=$(head -n 1 "$restored_note" 2>/dev/null) || return 1
    [ "$noted" = "$1 $2 $3" ] || { [ "$1" != latest ] && [ "$noted" = "$1 $2" ]; }
}
timeline_of() { postgres "$bin/pg_controldata" -D "$1" | sed -n "s/^Latest checkpoint's TimeLineID: *//p"; }
# One that an earlier run has begun settles itself.
await_swap() { while systemctl -q is-active cluster-swap; do sleep 1; done; }
# Whether or not a swap that was cut off had taken place: of the two, the one of the earlier timeline is what was replaced,
# or was to be.
settle_swap() {
    [ "$(head -n 1 "$restored_note" 2>/dev/null)" = swapping ] || return 0
    if [ -e "$copy" ]; then
        # Both are read before they are compared: without the note the next restore deletes what is there as its own copy.
        of_copy=$(timeline_of "$copy") of_data=$(timeline_of "$data")
        case $of_copy:$of_data in
            :* | *: | *[!0-9:]*) die "cannot tell which of $data and $copy is the data of before the restore: \
pg_controldata does not read both; nothing was moved or deleted" ;;
        esac
        if [ "$of_copy" -lt "$of_data" ]; then
            [ ! -e "$before" ] || die "$before, the data of before an earlier restore, is still there"
            postgres mv -T "$copy" "$before"
            postgres sync "${before%/*}"
        fi
    fi
    rm -f "$restored_note"
}

# Tells who waits for this how far it has come. Nobody may wait any more, and the work goes on.
tell() { printf 'progress\t%s\n' "$1" 2>/dev/null || :; }

# Runs a script (standard input) as a unit of its own, so that it goes on when the connection is lost: UNIT ARGUMENTS...
# Returns where an earlier run has begun one, when that has ended. What $properties has is the unit's.
properties=
detached() {
    unit=$1
    shift
    if ! systemctl -q is-active "$unit"; then
        install -d -m 755 /run/cluster
        cat >"/run/cluster/$unit.sh"
        # shellcheck disable=SC2086
        exec systemd-run -q --unit "$unit" $properties --collect --wait --pipe sh "/run/cluster/$unit.sh" "$@"
    fi
    tell "waiting for what an earlier run started ($unit)"
    while systemctl -q is-active "$unit"; do sleep 1; done
}

# Runs SQL as postgres; more arguments of psql may follow. A server that takes connections and says nothing keeps nobody waiting.
export PGCONNECT_TIMEOUT=30
sql() { (cd / && runuser -u postgres -- "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -p "$port" "$@"); }
repmgr() { (cd / && runuser -u postgres -- "$bin/repmgr" -f /etc/repmgr.conf "$@"); }

# repmgr's database; its role is there already.
repmgr_database() {
    if [ -z "$(sql -d postgres -c "select 1 from pg_database where datname = 'repmgr'")" ]; then
        sql -d postgres -c 'create database repmgr owner repmgr'
    fi
}

# Whether PostgreSQL's unit has processes, wherever this kernel has its control groups.
has_processes() {
    place=system.slice/system-postgresql.slice/postgresql@$version-main.service
    for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        if [ -n "$(cat "$root/$place/cgroup.procs" 2>/dev/null)" ]; then return 0; fi
    done
    return 1
}

# Starts PostgreSQL and waits until it answers, up to $patience seconds while it has processes: it may have much to replay.
# If it does not, its log says why. It answers some two seconds before Debian's wrapper has satisfied itself that it does.
patience=3600
bring_up() {
    unit="postgresql@$version-main"
    log=/var/log/postgresql/postgresql-$version-main.log
    from=$(($(stat -c %s "$log" 2>/dev/null || echo 0) + 1))
    case $(systemctl is-active "$unit" || :) in
        # An earlier start has died on the way: systemd would wait on, and this start with it.
        activating | active) has_processes || timeout 10 systemctl stop "$unit" || systemctl kill -s KILL "$unit" || : ;;
    esac
    systemctl reset-failed "$unit" 2>/dev/null || :
    systemctl --no-block start "$unit"
    read -r begun rest </proc/uptime
    tries=0 gone=0 told=0
    until "$bin/pg_isready" -q -p "$port"; do
        tries=$((tries + 1))
        read -r waited rest </proc/uptime
        waited=$((${waited%%.*} - ${begun%%.*}))
        if [ "$waited" -ge $((told + 15)) ]; then
            tell "PostgreSQL is starting ($waited s)"
            told=$waited
        fi
        case $(systemctl is-active "$unit" || :) in
            failed | inactive) if [ "$tries" -gt 10 ]; then gone=99; fi ;;
            # Systemd may wait for what has died. It has no processes before the first one either.
            *) if has_processes; then gone=0; else gone=$((gone + 1)); fi ;;
        esac
        if [ "$waited" -gt "$patience" ] || [ "$gone" -gt 50 ]; then
            echo "PostgreSQL does not answer on port $port after $waited s" >&2
            journalctl -q --no-pager -u "$unit" -n 3 -o cat >&2 || :
            postgres timeout 5 tail -c "+$from" "$log" | tail -n 12 >&2 || :
            if ! has_processes; then timeout 10 systemctl stop "$unit" || :; fi
            exit 1
        fi
        sleep 0.1
    done
}

die() {
    echo "$1" >&2
    exit 1
}
