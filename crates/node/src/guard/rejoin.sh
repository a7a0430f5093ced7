#!/bin/sh
set -eu
# Makes a standby of a data directory that was a primary's: VERSION PORT PRIMARY_HOST PRIMARY_ID CONNINFO HOW MARKED. HOW
# is rewind, which ends in a clone where that is impossible, or clone, which does not try. MARKED is the data's system
# identifier, as it was written down when the data was made.
# repmgr's own `node rejoin --force-rewind` fails on Debian's layout after a crash: pg_rewind starts a single-user
# server without Debian's configuration file, and a failed attempt leaves a standby.signal that forbids the next.
#
# It runs as root, in front of it is whose.sh. Everything in the data directory, its WAL and its tablespaces is done as
# postgres, to whom they belong; root stops and starts the server, and writes below /var/lib/cluster and /run/cluster
# alone.
version=$1 port=$2 host=$3 id=$4 conninfo=$5 how=$6 marked=$7
data=/var/lib/postgresql/$version/main
# The clone, and what it takes the place of. Nobody else gives such names: what is there is ours, and may go.
new=$data.cluster-new old=$data.cluster-old
bin=/usr/lib/postgresql/$version/bin
config=/etc/postgresql/$version/main/postgresql.conf
unit=postgresql@$version-main
kept=/var/lib/cluster/kept
node=/usr/local/bin/cluster-node
# There while the data is being rewound: a directory in which that was cut off is good for nothing but a new clone.
rewinding=/var/lib/cluster/rewinding
# A server that takes connections and says nothing keeps nobody waiting.
export LC_ALL=C PGCONNECT_TIMEOUT=30
cd /

control() { postgres "$bin/pg_controldata" -D "$data" | sed -n "s/^$1: *//p"; }
remote() { postgres "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -d "$conninfo" -c "$1"; }
note() { echo "rejoin: $1"; }
fail() {
    echo "$1" >&2
    exit 1
}

[ "$(remote 'select pg_is_in_recovery()')" = f ] || fail "node $id is not the primary"
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
# The data is good for something again.
whole() {
    rm -f "$rewinding"
    sync "${rewinding%/*}"
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
    postgres sync -f "$data"
    whole
    systemctl start "$unit"
    tries=0
    until "$bin/pg_isready" -q -p "$port"; do
        tries=$((tries + 1))
        # One that runs has much to replay: all that was written while it was copied.
        if [ "$tries" -gt 7200 ] || { [ "$tries" -gt 60 ] && ! systemctl is-active "$unit" | grep -q '^activ'; }; then
            fail "the clone does not answer; the old data is in $old"
        fi
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
    if [ ! -e "$data" ]; then postgres mv -T "$new" "$data"; fi
    if [ ! -e "$new" ]; then placed; fi
    # Neither has been moved. What is made again now must not be taken for whole when it is cut off in turn.
    only_a_clone
elif [ ! -e "$data" ] && [ -e "$old" ]; then
    # Cut off between the two moves that put a clone in its place: begin again.
    only_a_clone
    postgres mv -T "$old" "$data"
fi
theirs=$(remote 'select system_identifier from pg_control_system()')
ours=$(control 'Database system identifier')
if [ -z "$ours" ] && [ "$how$cut_off" != rewind ]; then
    # What is damaged cannot be asked; the marker was written when it was whole. Nothing can be told of what it has.
    ours=$marked
    [ "$theirs" != "$ours" ] || only_a_clone
fi
[ "$theirs" = "$ours" ] || fail "node $id belongs to another cluster"
stop
postgres rm -f "$data/postmaster.pid"
# What a server last was says whether it has written something of its own; the file beside it proves nothing. What is
# damaged says neither.
followed() {
    case $(control 'Database cluster state') in
        "in archive recovery" | "shut down in recovery" | "") return 0 ;;
        *) return 1 ;;
    esac
}
if [ "$how" = clone ] && [ -e "$data/standby.signal" ] && followed; then
    # A standby that is to be cloned anew has nothing of its own, and is a standby until the clone is there.
    cut_off=yes
else
    postgres rm -f "$data/standby.signal" "$data/recovery.signal"
fi

# A clean end, so that there is a last record to compare: what a crash left is replayed first.
case $cut_off$(control 'Database cluster state') in
    "shut down" | yes*) ;;
    *)
        postgres timeout 3600 "$bin/postgres" --single -F -D "$data" -c "config_file=$config" \
            -c shared_preload_libraries= -c archive_mode=off template1 >/dev/null 2>&1 || :
        postgres sync -f "$data"
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
if [ -z "$cut_off" ] && [ "$now" -gt "$timeline" ]; then
    history=$(printf '%08X.history' "$now")
    fork=$(remote "select split_part(line, E'\t', 2) from regexp_split_to_table(pg_read_file('pg_wal/$history'), E'\n') line
        where split_part(line, E'\t', 1) = '$timeline'")
elif [ -z "$cut_off" ] && [ "$now" -lt "$timeline" ]; then
    # This node was promoted by force, and the others have gone on without a promotion: only its own history has the fork.
    # shellcheck disable=SC2016
    fork=$(postgres awk -v now="$now" '$1 == now { print $2; exit }' "$data/pg_wal/$(printf '%08X.history' "$timeline")" || :)
elif [ -z "$cut_off" ]; then
    # Two promotions that know nothing of each other have made the same number of two histories, and no tool tells them
    # apart: what is here stays beside the clone.
    how=clone
fi
# Whose words they are can be anybody's who is postgres on one of the two nodes.
for lsn in "$end" "$fork"; do
    case $lsn in
        *[!0-9A-F/]*) fail "not a WAL position: $lsn" ;;
    esac
done
lost=f
if [ -n "$fork" ]; then
    lost=$(remote "select pg_wal_lsn_diff('$end', '$fork') > 0")
fi
told=/var/lib/cluster/lost.json
if [ "$lost" = t ] || { [ -n "$fork" ] && [ -z "$clean" ]; }; then
    # The same may have been set aside by an attempt that came to nothing.
    if [ -z "$clean" ] && [ "$lost" != t ]; then end=$fork; fi
    if ! "$node" lost "$timeline" "$fork" "$end"; then
        rm -f "$told"
        # An attempt that came to nothing, for want of room maybe, leaves no more than one copy behind.
        whole_aside=$kept/$(date -u +%Y%m%dT%H%M%SZ) aside=$kept/.unfinished
        rm -rf "$aside"
        # postgres may read it, and cannot change it.
        install -d -m 755 "$kept"
        install -d -m 750 -g postgres "$aside"
        # Not through a pipe, which would hide that there was no answer. Without the timeline.
        first=$(remote "select pg_walfile_name('$fork')")
        last=$(remote "select pg_walfile_name('$end')")
        first=${first#????????} last=${last#????????}
        if [ -z "$clean" ]; then last=FFFFFFFFFFFFFFFF; fi
        # With the slash: pg_wal may be a link.
        postgres find "$data/pg_wal/" -maxdepth 1 -type f -name "$(printf '%08X' "$timeline")????????????????" \
            -printf '%f\n' | while read -r file; do
            case $file in *[!0-9A-F]*) continue ;; esac
            segment=${file#????????}
            # Text, not numbers: they have the same length. What lies behind the end is empty, or old and to be used again.
            if [ "$(printf '%s\n%s\n%s\n' "$first" "$segment" "$last" | sort | sed -n 2p)" = "$segment" ]; then
                # As postgres, and no more than a segment can have: the name may lead anywhere by now.
                postgres timeout 600 head -c 1073741824 "$data/pg_wal/$file" >"$aside/$file"
            fi
        done
        # Not in pg_wal: it reads the size of a segment from any, and stumbles over one that was made in advance.
        postgres "$bin/pg_waldump" -p "$aside" -t "$timeline" -s "$fork" ${clean:+-e "$end"} -r Transaction >"$aside/transactions" 2>"$aside/pg_waldump.said" || :
        count=$(grep -c 'desc: COMMIT' "$aside/transactions" || :)
        # Before anything takes the original away.
        sync -f "$aside"
        mv -T "$aside" "$whole_aside"
        sync -f "$kept"
        aside=$whole_aside
        "$node" lost "$timeline" "$fork" "$end" "${count:-0}" "$aside"
        note "the new primary never got $count transactions ($fork to $end on timeline $timeline); their WAL is in $aside"
    fi
elif [ -z "$cut_off" ]; then
    rm -f "$told"
fi

# Whether the server streams from the primary.
streams() {
    [ "$(postgres "$bin/psql" -XAtqw -p "$port" -d postgres -c \
        "select count(*) from pg_stat_wal_receiver where status = 'streaming' and sender_host = '$host'" 2>/dev/null)" = 1 ]
}

said=/run/cluster/rejoin.said
# Whether nothing in the data directory has changed since the marker was written: then pg_rewind has not begun.
untouched() { [ -z "$(postgres find -L "$data/" -cnewer "$rewinding" -print -quit 2>&1)" ]; }
rejoin() {
    : >"$said"
    [ -z "$cut_off" ] && [ "$how" = rewind ] || return 1
    mark rewind
    # The clock of files stands still for some milliseconds at a time.
    sleep 0.1
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

# A moment without the new primary is not worth a clone, as long as nothing was changed here.
rejoin_or_clone() {
    attempts=1
    until rejoin; do
        [ -z "$cut_off" ] && [ "$how" = rewind ] && untouched || return 1
        if [ "$(remote 'select pg_is_in_recovery()')" != f ]; then
            whole
            fail "node $id no longer answers; nothing was changed on this node"
        fi
        [ "$attempts" -lt 3 ] || return 1
        attempts=$((attempts + 1))
        sleep 2
    done
}

if rejoin_or_clone; then
    whole
    note "rewound"
    exit 0
fi
why=$(grep -m 1 ERROR "$said" || echo "a clone was requested, or an earlier attempt was interrupted")
note "not rewound: $why"
# For the guard, which writes it down if the clone works.
echo "$why" >/run/cluster/not-rewound

# Where the links of a data directory lead: one line for each, the link and, behind a tab, the place.
links() {
    # shellcheck disable=SC2016
    postgres sh -c '
        for link in "$1"/pg_wal "$1"/pg_tblspc/*; do
            if [ -L "$link" ]; then printf "%s\t%s\n" "$link" "$(readlink -m "$link")"; fi
        done' sh "$1"
}
tab=$(printf '\t')
# The places beside which this has put something. Anybody may have made a tablespace of any name; only these are ours.
vacated=/var/lib/cluster/vacated
ours() { grep -qxF "$1" "$vacated" 2>/dev/null; }
moved() { [ "$1" != "${1%.cluster-old}" ] && ours "${1%.cluster-old}"; }
remember() {
    ours "$1" || echo "$1" >>"$vacated"
    sync "$vacated"
}
# Where the primary has its tablespaces, which may not be where this node had them. It may itself live on what was moved
# beside, after a clone that came to nothing.
locations=$(remote "select pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> ''")
known() {
    echo "$locations" | while read -r location; do
        if [ -n "$location" ]; then readlink -m "${location%.cluster-old}"; fi
    done | grep -qxF "$1"
}
# A link is no more than what somebody wrote who is postgres here. It is followed for the WAL, and for a tablespace that
# the primary has, to a directory that is postgres'; what another link leads to is in no clone's way.
concerns() {
    base=$2
    if moved "$2"; then base=${2%.cluster-old}; fi
    [ "$2" != "$data" ] || return 0
    [ "${1##*/}" = pg_wal ] || known "$base" || return 1
    if [ -e "$2" ]; then
        [ "$(whose "$2")" = postgres ] || fail "cannot clone beside $2, the target of $1: it does not belong to postgres"
    else
        ours "$base" || [ "$(whose "$2")" = postgres ]
    fi
}
# Removes a directory of postgres' with all that is in it.
remove() {
    [ -e "$1" ] || return 0
    [ "$(whose "$1")" = postgres ] || fail "$1 is not removed: it does not belong to postgres"
    postgres find "$1" -depth -mindepth 1 -delete
    as_owner_of "${1%/*}" rmdir "$1"
}
# Makes an empty one.
make() {
    as_owner_of "${1%/*}" mkdir -m 700 "$1"
    if [ "$(whose "$1")" = root ]; then chown postgres:postgres "$1"; fi
}
# Moves what a link leads to beside, and the link with it, so that the old data stays whole and the clone finds an empty
# directory at the place.
vacate() {
    place=$2
    if moved "$place"; then
        # By an attempt that was cut off.
        place=${place%.cluster-old}
    else
        only_a_clone
        if [ -e "$place" ]; then
            remove "$place.cluster-old"
            remember "$place"
            as_owner_of "${place%/*}" mv -T "$place" "$place.cluster-old"
        fi
        postgres ln -sfn "$place.cluster-old" "$1"
        postgres sync "${1%/*}"
    fi
    remove "$place"
    make "$place"
}

stop
# Before anything is moved.
{ printf '%s\t%s\n' "$data" "$data"; links "$data"; } | while IFS=$tab read -r link place; do
    concerns "$link" "$place" || continue
    # What is mounted cannot be moved: to give it up is for somebody who knows what it is.
    if mountpoint -q "$place"; then
        fail "cannot clone beside $place: it is a mount point and cannot be renamed"
    fi
    if [ "$place" != "$data" ] && ! moved "$place" && ! ours "$place" && [ -e "$place.cluster-old" ]; then
        fail "cannot clone beside $place: $place.cluster-old is in the way"
    fi
done
# Whether the clone finds room beside what it takes the place of, on each of the disks that it goes to. What an earlier one
# has left there goes before it.
needs=$(remote "select pg_tablespace_size(oid) / 1048576 + 1 || ' ' || pg_tablespace_location(oid) from pg_tablespace
    union all select coalesce(sum(size), 0)::bigint / 1048576 || ' /pg_wal' from pg_ls_waldir()")
taken() { postgres du -sm "$1" 2>/dev/null | cut -f 1; }
lacks=$(
    {
        echo "$needs" | while read -r megabytes place; do
            case $place in
                '') place=$data ;;
                /pg_wal) place=$(postgres readlink -m "$data/pg_wal") ;;
                *) place=$(readlink -m "${place%.cluster-old}") ;;
            esac
            place=${place%.cluster-old}
            echo "$megabytes $place"
            if ours "$place"; then echo "-$(taken "$place.cluster-old") $place"; fi
        done
        echo "-$(taken "$new") $data"
        echo "-$(taken "$old") $data"
    } | while read -r megabytes place; do
        # The directory nearest to it that is there.
        until [ -e "$place" ]; do
            place=${place%/*}
            [ -n "$place" ] || place=/
        done
        echo "$(stat -L -c %d "$place") $megabytes $(postgres df --output=avail -BM "$place" | tail -n 1 | tr -dc 0-9) $place"
    done | awk '{
        disk = $1; need[disk] += $2; free[disk] = $3
        if (!(disk in at)) { at[disk] = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ /, "", at[disk]) }
    } END {
        for (disk in need) if (need[disk] > free[disk])
            printf "the copy needs %d MB on the disk of %s, and %d MB are free there; ", need[disk], at[disk], free[disk]
    }'
)
[ -z "$lacks" ] || fail "cannot clone: ${lacks}free some space, or use a larger disk"
links "$old" | while IFS=$tab read -r link place; do
    if moved "$place"; then remove "$place"; fi
done
postgres rm -rf "$new" "$old"
marked=
if [ -e "$rewinding" ]; then marked=yes; fi
links "$data" | while IFS=$tab read -r link place; do
    if concerns "$link" "$place"; then vacate "$link" "$place"; fi
done
# Whole again: if no clone comes of this, what was good before still is.
[ -n "$marked" ] || whole
# repmgr clones to where its configuration says, whatever it is told besides.
sed "s|^data_directory=.*|data_directory='$new'|" /etc/repmgr.conf >/run/cluster/clone.conf
# repmgr hands the names on to a shell.
plain() {
    case $1 in *[!A-Za-z0-9/_.+@:-]*) fail "cannot clone: repmgr cannot handle the name $1" ;; esac
}
if [ -L "$data/pg_wal" ]; then
    wal=$(postgres readlink -m "$data/pg_wal")
    plain "$wal"
    echo "pg_basebackup_options='--waldir=${wal%.cluster-old}'" >>/run/cluster/clone.conf
fi
echo "$locations" | while read -r location; do
    [ -n "$location" ] || continue
    place=$(readlink -m "${location%.cluster-old}")
    if [ "${location%.cluster-old}" != "$location" ]; then
        plain "$location"
        echo "tablespace_mapping='$location=${location%.cluster-old}'" >>/run/cluster/clone.conf
    fi
    if [ ! -e "$place" ]; then
        # Another node's word is not enough for root to make a directory of that name.
        [ "$(whose "$place")" = postgres ] || ours "$place" ||
            fail "the primary has a tablespace in $place, which is missing here: create it (install -d -o postgres -g postgres -m 700 $place)"
        if [ ! -e "${place%/*}" ]; then as_owner_of "${place%/*}" mkdir -p "${place%/*}"; fi
        make "$place"
        remember "$place"
        continue
    fi
    [ "$(whose "$place")" = postgres ] || fail "the primary has a tablespace in $place, which does not belong to postgres here"
    if [ -z "$(postgres ls -A "$place")" ]; then
        remember "$place"
    elif ours "$place"; then
        # An attempt that was cut off has begun to fill it, and no data directory here leads to it.
        # shellcheck disable=SC2016
        postgres sh -c 'rm -rf "$1"/PG_[0-9]*' sh "$place"
    fi
done
chmod 644 /run/cluster/clone.conf
# By the whole conninfo: it has the time-outs that notice a primary whose host is gone.
postgres "$bin/repmgr" -f /run/cluster/clone.conf -d "$conninfo" standby clone --fast-checkpoint
mark placing
# Nobody may have started the old data meanwhile.
stop
if [ -e "$data" ]; then postgres mv -T "$data" "$old"; fi
postgres mv -T "$new" "$data"
placed
