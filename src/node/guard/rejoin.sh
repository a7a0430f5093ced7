set -eu
# Makes a standby of a data directory that was a primary's: VERSION PORT PRIMARY_HOST PRIMARY_ID CONNINFO HOW. HOW is
# rewind, which ends in a clone where that is impossible, or clone, which does not try.
# repmgr's own `node rejoin --force-rewind` fails on Debian's layout after a crash: pg_rewind starts a single-user
# server without Debian's configuration file, and a failed attempt leaves a standby.signal that forbids the next.
version=$1 port=$2 host=$3 id=$4 conninfo=$5 how=$6
data=/var/lib/postgresql/$version/main
# The clone, and what it takes the place of. Nobody else gives such names: what is there is ours, and may go.
new=$data.cluster-new old=$data.cluster-old
bin=/usr/lib/postgresql/$version/bin
config=/etc/postgresql/$version/main/postgresql.conf
unit=postgresql@$version-main
kept=/var/lib/cluster/kept
# There while the data is being rewound: a directory in which that was cut off is good for nothing but a new clone.
rewinding=/var/lib/cluster/rewinding
export LC_ALL=C
cd /

postgres() { runuser -u postgres -- "$@" </dev/null; }
control() { "$bin/pg_controldata" -D "$data" | sed -n "s/^$1: *//p"; }
remote() { postgres "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -d "$conninfo" -c "$1"; }
note() { echo "rejoin: $1"; }

[ "$(remote 'select pg_is_in_recovery()')" = f ] || { echo "node $id is not primary" >&2; exit 1; }
# From here on nothing but a new clone can mend it, whenever this is cut off.
only_a_clone() {
    cut_off=yes
    mark clone
}
mark() { echo "$1" >"$rewinding" && sync "$rewinding" || exit 1; }
# A server whose stop never ends holds nothing that is not to be replaced, or replayed, anyway.
stop() {
    timeout 60 systemctl stop "$unit" && return
    systemctl kill -s KILL "$unit" || :
    timeout 60 systemctl stop "$unit"
}
# Not worth a clone: `cluster up` registers what is not.
register() {
    for pause in 1 3 0; do
        postgres "$bin/repmgr" -f /etc/repmgr.conf standby register --force && return
        sleep $pause
    done
    note "it is not registered"
}
# The clone is in its place: from here on it is a standby like any other.
placed() {
    sync -f "$data"
    rm -f "$rewinding"
    sync "${rewinding%/*}"
    systemctl start "$unit"
    tries=0
    until "$bin/pg_isready" -q -p "$port"; do
        tries=$((tries + 1))
        [ "$tries" -le 600 ] || { echo "the clone does not answer; the old data is in $old" >&2; exit 1; }
        sleep 0.5
    done
    register
    note "cloned; the old data is in $old"
    exit 0
}

cut_off=
if [ -e "$rewinding" ]; then cut_off=yes; fi
if [ "$(cat "$rewinding" 2>/dev/null)" = placing ]; then
    # Cut off while the clone was put in its place. It is whole, and what is in $old is nowhere else.
    if [ ! -e "$data" ]; then mv "$new" "$data"; fi
    if [ ! -e "$new" ]; then placed; fi
    # Neither has been moved. What is made again now must not be taken for whole when it is cut off in turn.
    only_a_clone
elif [ ! -e "$data" ] && [ -e "$old" ]; then
    # Cut off between the two moves that put a clone in its place: begin again.
    only_a_clone
    mv "$old" "$data"
fi
theirs=$(remote 'select system_identifier from pg_control_system()')
ours=$(control 'Database system identifier')
if [ -z "$ours" ] && [ "$how$cut_off" != rewind ]; then
    # What is damaged cannot be asked; the marker was written when it was whole. Nothing can be told of what it has.
    ours=$(sed -n 's/.*"system_identifier":"\([0-9]*\)".*/\1/p' /etc/cluster/data.json)
    [ "$theirs" != "$ours" ] || only_a_clone
fi
[ "$theirs" = "$ours" ] || { echo "node $id is of another cluster" >&2; exit 1; }
stop
rm -f "$data/postmaster.pid"
if [ "$how" = clone ] && [ -e "$data/standby.signal" ]; then
    # A standby that is to be cloned anew has nothing of its own, and is a standby until the clone is there.
    cut_off=yes
else
    rm -f "$data/standby.signal" "$data/recovery.signal"
fi

# A clean end, so that there is a last record to compare: what a crash left is replayed first.
case $cut_off$(control 'Database cluster state') in
    "shut down" | yes*) ;;
    *)
        postgres timeout 3600 "$bin/postgres" --single -F -D "$data" -c "config_file=$config" \
            -c shared_preload_libraries= -c archive_mode=off template1 >/dev/null 2>&1 || :
        sync -f "$data"
        ;;
esac

# What this node has and the new primary never got. The WAL of it is set aside before anything is rewound.
timeline=$(control "Latest checkpoint's TimeLineID")
end=$(control 'Latest checkpoint location')
# Without a clean end nobody knows where what it wrote ends.
clean=
if [ "$(control 'Database cluster state')" = "shut down" ]; then clean=yes; fi
now=$(remote "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int")
fork=
[ -n "$cut_off" ] || rm -f /var/lib/cluster/lost.json
if [ -z "$cut_off" ] && [ "$now" -gt "$timeline" ]; then
    history=$(printf '%08X.history' "$now")
    fork=$(remote "select split_part(line, E'\t', 2) from regexp_split_to_table(pg_read_file('pg_wal/$history'), E'\n') line
        where split_part(line, E'\t', 1) = '$timeline'")
elif [ -z "$cut_off" ] && [ "$now" -lt "$timeline" ]; then
    # This node was promoted by force, and the others have gone on without a promotion: only its own history has the fork.
    fork=$(awk -v now="$now" '$1 == now { print $2; exit }' "$data/pg_wal/$(printf '%08X.history' "$timeline")" || :)
elif [ -z "$cut_off" ]; then
    # Two promotions that know nothing of each other have made the same number of two histories, and no tool tells them
    # apart: what is here stays beside the clone.
    how=clone
fi
if [ -n "$fork" ]; then
    lost=$(remote "select pg_wal_lsn_diff('$end', '$fork') > 0")
    if [ "$lost" = t ] || [ -z "$clean" ]; then
        aside=$kept/$(date -u +%Y%m%dT%H%M%SZ)
        install -d -m 700 "$aside"
        # Not through a pipe, which would hide that there was no answer. Without the timeline.
        first=$(remote "select pg_walfile_name('$fork')")
        last=$(remote "select pg_walfile_name('$end')")
        first=${first#????????} last=${last#????????}
        if [ -z "$clean" ]; then
            last=FFFFFFFFFFFFFFFF
            if [ "$lost" != t ]; then end=$fork; fi
        fi
        # With the slash: pg_wal may be a link.
        find "$data/pg_wal/" -maxdepth 1 -type f -name "$(printf '%08X' "$timeline")????????????????" | while read -r file; do
            segment=$(basename "$file" | cut -c9-)
            # Text, not numbers: they have the same length. What lies behind the end is empty, or old and to be used again.
            if [ "$(printf '%s\n%s\n%s\n' "$first" "$segment" "$last" | sort | sed -n 2p)" = "$segment" ]; then
                cp -p "$file" "$aside/"
            fi
        done
        # Not in pg_wal: it reads the size of a segment from any, and stumbles over one that was made in advance.
        "$bin/pg_waldump" -p "$aside" -t "$timeline" -s "$fork" ${clean:+-e "$end"} -r Transaction >"$aside/transactions" 2>"$aside/pg_waldump.said" || :
        count=$(grep -c 'desc: COMMIT' "$aside/transactions" || :)
        printf '{"timeline":%s,"from":"%s","to":"%s","transactions":%s,"wal":"%s"}\n' \
            "$timeline" "$fork" "$end" "${count:-0}" "$aside" >/var/lib/cluster/lost.json
        # Before anything takes the original away.
        sync -f "$aside"
        sync /var/lib/cluster/lost.json
        note "the new primary never got $count transactions ($fork to $end on timeline $timeline); their WAL is in $aside"
    fi
fi

# Whether the server streams from the primary.
streams() {
    [ "$(postgres "$bin/psql" -XAtqw -p "$port" -d postgres -c \
        "select count(*) from pg_stat_wal_receiver where status = 'streaming' and sender_host = '$host'" 2>/dev/null)" = 1 ]
}

said=/run/cluster/rejoin.said
rejoin() {
    : >"$said"
    [ -z "$cut_off" ] && [ "$how" = rewind ] || return 1
    mark rewind
    postgres timeout 3600 "$bin/repmgr" -f /etc/repmgr.conf node rejoin -d "$conninfo" --force-rewind 2>"$said" && return 0
    # repmgr looks for a minute for what may take longer, or a moment more. If it streams, there is nothing left to do
    # but to say so.
    tries=0 replays=0
    until streams; do
        [ -e "$data/standby.signal" ] && systemctl is-active "$unit" | grep -q '^activ' || return 1
        "$bin/pg_isready" -q -p "$port" && code=0 || code=$?
        # 1: it lets nobody in, because it still replays.
        if [ "$code" = 1 ]; then replays=$((replays + 1)); else tries=$((tries + 1)); fi
        [ "$tries" -le 20 ] && [ "$replays" -le 1800 ] || return 1
        sleep 0.5
    done
    register
}

if rejoin; then
    rm -f "$rewinding"
    note "rewound"
    exit 0
fi
why=$(grep -m 1 ERROR "$said" || echo "a clone was asked for, or an earlier attempt was cut off")
echo "rejoin: not rewound: $why" >&2

# The links that lead out of a data directory: to its tablespaces, and to its WAL if that lies elsewhere.
links() {
    find "$1/pg_wal" -maxdepth 0 -type l 2>/dev/null || :
    find "$1/pg_tblspc" -mindepth 1 -maxdepth 1 -type l 2>/dev/null || :
}
# The places beside which this has put something. Anybody may have made a tablespace of any name; only these are ours.
vacated=/var/lib/cluster/vacated
ours() { grep -qxF "$1" "$vacated" 2>/dev/null; }
moved() { [ "$1" != "${1%.cluster-old}" ] && ours "${1%.cluster-old}"; }
# Moves what a link leads to beside, and the link with it, so that the old data stays whole and the clone finds an empty
# directory at the place.
vacate() {
    place=$(readlink -m "$1")
    if moved "$place"; then
        # By an attempt that was cut off.
        place=${place%.cluster-old}
    else
        only_a_clone
        if [ -e "$place" ]; then
            rm -rf "$place.cluster-old"
            ours "$place" || echo "$place" >>"$vacated"
            sync "$vacated"
            mv "$place" "$place.cluster-old"
        fi
        ln -sfn "$place.cluster-old" "$1"
        sync "${1%/*}"
    fi
    rm -rf "$place"
    install -d -o postgres -g postgres -m 700 "$place"
}

stop
# Before anything is moved.
{ echo "$data"; links "$data" | xargs -rd '\n' readlink -m; } | while read -r place; do
    # What is mounted cannot be moved: to give it up is for somebody who knows what it is.
    if mountpoint -q "$place"; then
        echo "no clone can be made beside $place: it is a mount point (a directory in it would be none)" >&2
        exit 1
    fi
    if [ "$place" != "$data" ] && ! moved "$place" && ! ours "$place" && [ -e "$place.cluster-old" ]; then
        echo "no clone can be made beside $place: $place.cluster-old is in its way" >&2
        exit 1
    fi
done
links "$old" | xargs -rd '\n' readlink -m | while read -r place; do
    if moved "$place"; then rm -rf "$place"; fi
done
rm -rf "$new" "$old"
marked=
if [ -e "$rewinding" ]; then marked=yes; fi
links "$data" | while read -r link; do vacate "$link"; done
# Whole again: if no clone comes of this, what was good before still is.
[ -n "$marked" ] || rm -f "$rewinding"
# repmgr clones to where its configuration says, whatever it is told besides.
sed "s|^data_directory=.*|data_directory='$new'|" /etc/repmgr.conf >/run/cluster/clone.conf
if [ -L "$data/pg_wal" ]; then
    wal=$(readlink -m "$data/pg_wal")
    echo "pg_basebackup_options='--waldir=${wal%.cluster-old}'" >>/run/cluster/clone.conf
fi
# Where the primary has its tablespaces, which may not be where this node had them.
locations=$(remote "select pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> ''")
echo "$locations" | while read -r location; do
    [ -n "$location" ] || continue
    place=${location%.cluster-old}
    # The primary may itself live on what was moved beside, after a clone that came to nothing.
    [ "$place" = "$location" ] || echo "tablespace_mapping='$location=$place'" >>/run/cluster/clone.conf
    if [ ! -e "$place" ]; then
        install -d -o postgres -g postgres -m 700 "$place"
        ours "$place" || echo "$place" >>"$vacated"
    elif [ -z "$(ls -A "$place")" ]; then
        ours "$place" || echo "$place" >>"$vacated"
    elif ours "$place"; then
        # An attempt that was cut off has begun to fill it, and no data directory here leads to it.
        rm -rf "$place"/PG_[0-9]*
    fi
done
chmod 644 /run/cluster/clone.conf
# By the whole conninfo: it has the time-outs that notice a primary whose host is gone.
postgres "$bin/repmgr" -f /run/cluster/clone.conf -d "$conninfo" standby clone --fast-checkpoint
mark placing
# Nobody may have started the old data meanwhile.
stop
if [ -e "$data" ]; then mv "$data" "$old"; fi
mv "$new" "$data"
placed
