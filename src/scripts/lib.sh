#!/bin/sh
# What the scripts share; put in front of those that need it. They set cluster, version and port.
data=/var/lib/postgresql/$version/main
bin=/usr/lib/postgresql/$version/bin

# The marker says what the data directory is, before and after each change of it.
node=/usr/local/bin/cluster-node
made() { "$node" marked || :; }
belongs() { "$node" marked --cluster "$cluster" >/dev/null; }
mark() { "$node" mark --cluster "$cluster" ${2:+--system-identifier "$2"} "$1"; }
identifier() { postgres "$bin/pg_controldata" -D "$data" | sed -n 's/^Database system identifier: *//p'; }

# Runs SQL as postgres; more arguments of psql may follow.
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

# Starts PostgreSQL and waits until it answers; if it does not, its log says why. It answers some two
# seconds before Debian's wrapper has satisfied itself that it does.
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
    tries=0 gone=0
    until "$bin/pg_isready" -q -p "$port"; do
        tries=$((tries + 1))
        case $(systemctl is-active "$unit" || :) in
            failed | inactive) [ "$tries" -gt 10 ] && tries=9999 ;;
            # Systemd may wait for what has died. It has no processes before the first one either.
            *) if has_processes; then gone=0; else gone=$((gone + 1)); fi ;;
        esac
        if [ "$tries" -gt 6000 ] || [ "$gone" -gt 50 ]; then
            echo "PostgreSQL does not answer on port $port" >&2
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
