# Reads one host, changes nothing. Usage: probe.sh VERSION PORT PACKAGES DATABASES FILE...
# PACKAGES and DATABASES are separated by spaces, which the names of files do not have; behind a package and a colon stands the
# oldest version that will do. A FILE that begins with ! is a secret: only its hash is told. One fact a line: name, tab, values.
# A run with nothing to do is this script, on every host: a process is started once, not once for each file.
set -u
version=$1 port=$2 packages=$3 databases=$4
shift 4
data=/var/lib/postgresql/$version/main
config=/etc/postgresql/$version/main
bin=/usr/lib/postgresql/$version/bin
n='
'

say() { printf '%s\t%s\n' "$1" "$2"; }

say uid "$(id -u)"
# shellcheck source=/dev/null
say os "$(. /etc/os-release && echo "${ID:-} ${VERSION_ID:-} ${VERSION_CODENAME:-}")"
say arch "$(uname -m)"
say client "${SSH_CONNECTION%% *}"
type='' key=''
if [ -e /etc/ssh/ssh_host_ed25519_key.pub ]; then read -r type key _ </etc/ssh/ssh_host_ed25519_key.pub; fi
say host_key "$type${key:+ $key}"
# What cloud-init leaves at its end of this boot says as much as asking it, which takes a second of Python.
if [ -e /run/cloud-init/result.json ]; then
    if grep -q '"errors": \[\]' /run/cloud-init/result.json; then say cloud_init "done"; else say cloud_init error; fi
elif command -v cloud-init >/dev/null; then
    state=$(cloud-init status 2>/dev/null | sed -n 's/^status: //p')
    case $state in
        # Where nothing starts it, it says so for ever.
        'not run' | 'not started')
            case $(systemctl is-system-running 2>/dev/null) in running | degraded) state=disabled ;; esac
            ;;
    esac
    say cloud_init "$state"
fi
# The disk of /var, and what PostgreSQL is fitted to: memory, processors, and its disk. WAL may be on one of its own; the
# smaller one counts. A container sees the machine's memory and processors, and may use less.
place=/var/lib/postgresql
if [ ! -d "$place" ]; then place=/var/lib; fi
wal=$data/pg_wal
if [ ! -e "$wal" ]; then wal=$place; fi
device='' size=''
{
    read -r _
    read -r _ total _ free _
    say disk "$total $free"
    while read -r source total _; do
        device=${device:-$source}
        if [ "${size:-$total}" -ge "$total" ]; then size=$total; fi
    done
} <<DISKS
$(df -Pk /var "$place" "$wal" 2>/dev/null)
DISKS
read -r _ memory _ </proc/meminfo
limit=''
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    if [ -z "$limit" ] && [ -r "$file" ]; then read -r limit <"$file"; fi
done
case $limit in
    '' | *[!0-9]*) ;;
    *) if [ $((limit / 1024)) -lt "$memory" ]; then memory=$((limit / 1024)); fi ;;
esac
cores=$(nproc) quota='' period=''
if [ -r /sys/fs/cgroup/cpu.max ]; then read -r quota period </sys/fs/cgroup/cpu.max; fi
case $quota in
    '' | *[!0-9]*) ;;
    *) if [ $(((quota + period - 1) / period)) -lt "$cores" ]; then cores=$(((quota + period - 1) / period)); fi ;;
esac
# The kernel's name of a root that it mounted by itself.
case $device in /dev/root) device=$(findmnt -nvo SOURCE -T "$place" 2>/dev/null) ;; esac
# A disk of a virtual machine says that it spins, whatever is below it.
spinning=0
case $device in
    /dev/vd* | /dev/xvd* | /dev/nvme*) ;;
    /dev/*) if [ "$(systemd-detect-virt --vm 2>/dev/null)" = none ]; then spinning=$(lsblk -ndo ROTA "$device" 2>/dev/null | tr -d ' '); fi ;;
esac
say machine "$memory $cores $size ${spinning:-0}"
ip -o addr show scope global 2>/dev/null | awk '{ split($4, a, "/"); print "address\t" a[1] }'

# Packages: what is there, and, if something is missing or too old, what apt could install.
missing='' names=
for package in $packages; do names="$names ${package%%:*}"; done
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n' $names 2>/dev/null)
for package in $packages; do
    name=${package%%:*}
    case $n$installed in
        *"$n$name installed "*)
            has=${installed##*"$name installed "}
            case $package in
                *:*) ! dpkg --compare-versions "${has%%"$n"*}" lt "${package#*:}" || missing="$missing $name" ;;
            esac
            ;;
        *) missing="$missing $name" ;;
    esac
done
printf '%s\n' "$installed" | while read -r name status number; do
    if [ "$status" = installed ]; then say package "$name $number"; fi
done
if [ -n "$missing" ]; then
    # When all lists were last fetched, by us: the files have the mirror's dates, and where a suite has had no updates, new ones are
    # old. Others fetch the lists of single sources.
    fetched=$(stat -c %Y /run/cluster/lists-fetched 2>/dev/null)
    say apt_lists "$([ -n "$fetched" ] && echo $(($(date +%s) - fetched)))"
    # Sources that are switched off are not among these.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sort -u |
        sed -n '/apt\(-archive\)\{0,1\}\.postgresql\.org/s/^/pgdg\t/p'
    # shellcheck disable=SC2086
    apt-cache policy $missing 2>/dev/null | awk '/^[^ ].*:$/ { sub(":", ""); p = $0 } /Candidate:/ && $2 != "(none)" { print "candidate\t" p " " $2 }'
    say audit "$(dpkg --audit 2>/dev/null | head -c 1)"
fi

units=$(systemctl show -p Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,MainPID \
    "postgresql@$version-main.service" repmgrd.service cluster-node.service cluster-backup.service cluster-clone.service 2>/dev/null)
printf '%s\n' "$units" | sed 's/^/unit\t/'

# Files. What lies in a directory of postgres' is read as postgres, and only if it is a file: root would read anything for
# whoever made a link of it. What cannot be read is not there, and will be written anew.
directories=' '
for file; do
    path=${file#!}
    case $directories in
        *" ${path%/*} "*) ;;
        *) directories="$directories${path%/*} " ;;
    esac
done
known=' ' left=${directories# }
while read -r owner _; do
    known="$known${left%% *}=$owner "
    left=${left#* }
done <<OWNERS
$(
    # shellcheck disable=SC2086
    whose_each $directories
)
OWNERS
roots='' theirs='' secrets=' '
for file; do
    path=${file#!}
    if [ "$path" != "$file" ]; then secrets="$secrets$path "; fi
    [ -f "$path" ] || continue
    case $known in
        *" ${path%/*}=root "*) roots="$roots $path" ;;
        *" ${path%/*}=postgres "*) if [ ! -L "$path" ]; then theirs="$theirs $path"; fi ;;
    esac
done
# $1 are the secrets; the others are the files. The contents come one after the other, as long as their sizes say.
read_files=$(cat <<'SCRIPT'
secrets=$1 told=
shift
stat --printf 'stat\t%n\t%a\t%U:%G\t%.Y\t%s\n' -- "$@"
sha256sum -- "$@" | sed 's/^/sha\t/'
for path; do
    case $secrets in *" $path "*) ;; *) if [ -r "$path" ]; then told="$told $path"; fi ;; esac
done
if [ -n "$told" ]; then
    printf 'contents\t%s\t' "${told# }"
    cat -- $told | head -c 1048576 | base64 -w 0
    echo
fi
SCRIPT
)
# The guard's unit has hashed the program and then started it, and nobody writes to a program that runs: as long as it is
# the same file, it has the same hash.
program=/usr/local/bin/cluster-node loaded=/run/cluster/cluster-node.loaded pid='' id='' sum=''
while IFS='=' read -r key value; do
    case $key in
        '') pid='' id='' ;;
        Id) id=$value ;;
        MainPID) pid=$value ;;
    esac
    # Every /bin/sh of Debian and Ubuntu knows it.
    # shellcheck disable=SC3013
    if [ "$id" = cluster-node.service ] && [ -n "$pid" ] && [ "/proc/$pid/exe" -ef "$program" ]; then
        if [ -r "$loaded" ]; then
            while read -r hash path; do
                if [ "$path" = "$program" ] && [ ${#hash} -eq 64 ]; then sum="$hash  $path"; fi
            done <"$loaded"
        fi
        break
    fi
done <<UNITS
$units
UNITS
case $sum,$roots' ' in
    ,*) ;;
    *" $program "*)
        roots=" $roots "
        roots="${roots%% "$program" *} ${roots##* "$program" }"
        stat --printf 'stat\t%n\t%a\t%U:%G\t%.Y\t%s\n' "$program"
        printf 'sha\t%s\n' "$sum"
        ;;
esac
found=
# shellcheck disable=SC2086
if [ -n "${roots#"${roots%%[! ]*}"}" ]; then
    found=$(sh -c "$read_files" sh "$secrets" $roots 2>/dev/null)
    printf '%s\n' "$found"
fi
# shellcheck disable=SC2086
if [ -n "$theirs" ]; then postgres timeout 5 sh -c "$read_files" sh "$secrets" $theirs 2>/dev/null; fi

# What the services were started with, as sha256sum prints it.
sums="${n}sha	$sum$n$found$n"
for unit in repmgrd cluster-node cluster-backup; do
    loaded=/run/cluster/$unit.loaded state=current
    [ -e "$loaded" ] || continue
    [ -s "$loaded" ] || state=stale
    while read -r line; do
        case $sums in *"${n}sha	$line$n"*) ;; *) state=stale ;; esac
    done <"$loaded"
    say loaded "$unit $state"
done

# Data: ours, somebody else's, or none.
if [ -e /etc/cluster/data.json ]; then say marker "$(tr -d '\n' </etc/cluster/data.json)"; fi
# Other clusters of Debian's tools, which are asked (they are Perl) unless there are none: only ours has a configuration,
# and that has not changed since ours was started on our data.
alone=
if [ -e /etc/cluster/data.json ] && [ -e "$data/postmaster.pid" ]; then alone=yes; fi
for place in /etc/postgresql/*/*/ "$config/postgresql.conf" "$config/conf.d" "$config/conf.d/"*.conf; do
    # shellcheck disable=SC3013
    case $place in
        "$config/") ;;
        */) alone= ;;
        *) if [ "$place" -nt "$data/postmaster.pid" ]; then alone=; fi ;;
    esac
done
if [ -z "$alone" ]; then
    pg_lsclusters -h 2>/dev/null | awk '{ print "pg_cluster\t" $1 " " $2 " " $3 " " $4 " " $6 }'
fi
if [ -e /var/lib/cluster/rewinding ]; then say half_rewound "$(head -c 20 /var/lib/cluster/rewinding)"; fi
if [ -e "$data.before-restore" ]; then say kept "$data.before-restore"; fi
if [ -e "$data" ]; then
    say data "$(find "$data/" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)"
    [ -e "$data/standby.signal" ] && say standby_signal yes
    if [ -x "$bin/pg_controldata" ]; then
        postgres "$bin/pg_controldata" -D "$data" 2>/dev/null | sed -n \
            -e 's/^Database system identifier: */control\tsystem_identifier /p' \
            -e 's/^Database cluster state: */control\tstate /p' \
            -e "s/^Latest checkpoint's TimeLineID: */control\ttimeline /p" \
            -e 's/^pg_control last modified: */control\tmodified /p'
    fi
fi
# What each database has that matters. Last of all: one that lets nobody in ends the session.
extensions_here() {
    cat <<'SQL'
select 'extensions' || E'\t' || json_build_object('database', current_database(),
  'installed', (select coalesce(json_object_agg(extname, extversion), '{}') from pg_extension));
SQL
}
extensions() {
    for database in $databases; do
        if [ "$database" = postgres ]; then continue; fi
        cat <<SQL
select exists(select from pg_database where datname = '$database' and datallowconn) as is_there \\gset
\\if :is_there
\\c "$database"
SQL
        extensions_here
        printf '%s\n' '\endif'
    done
}
look() {
    # Every look at these views reads all files, or all settings.
    cat <<'SQL'
with s as materialized (select name, setting, boot_val, pending_restart from pg_settings),
  f as materialized (select name, setting, error, seqno from pg_file_settings)
select 'postgres' || E'\t' || json_build_object(
  'version', current_setting('server_version'),
  'in_recovery', pg_is_in_recovery(),
  'system_identifier', (select system_identifier::text from pg_control_system()),
  'timeline', case when pg_is_in_recovery()
    then coalesce((select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint()))
    else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
  'lsn', case when pg_is_in_recovery() then coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
    else pg_current_wal_lsn() end,
  'now', extract(epoch from clock_timestamp()),
  'replayed_at', extract(epoch from pg_last_xact_replay_timestamp()),
  'replay_paused', case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end,
  'synchronous_waits', (select count(*) from pg_stat_activity where wait_event = 'SyncRep'),
  'conf_loaded', extract(epoch from pg_conf_load_time()),
  'pending_restart', (select coalesce(json_agg(s.name order by s.name), '[]') from s where pending_restart),
  'file_errors', (select coalesce(json_agg(coalesce(f.name, '') || ': ' || f.error), '[]') from f
    where f.error is not null and f.error <> 'setting could not be applied'
      -- One that was taken out of the files: no error, but a restart.
      and f.error not like 'parameter "%" cannot be changed without restarting the server'),
  'not_applied', (select coalesce(json_agg(distinct f.name), '[]') from f
    where f.error = 'setting could not be applied' and not exists
      (select from s where s.name = f.name and s.pending_restart)),
  'hot_standby_settings', (select json_object_agg(s.name, s.setting) from s where s.name in
    ('max_wal_senders', 'max_connections', 'max_worker_processes', 'max_prepared_transactions', 'max_locks_per_transaction')),
  'file_settings', (select json_object_agg(s.name, coalesce(f.setting, s.boot_val)) from s left join
    (select distinct on (name) name, setting from f
      where error is null or error = 'setting could not be applied' order by name, seqno desc) f on f.name = s.name
    where s.name in ('max_wal_senders', 'max_connections', 'max_worker_processes', 'max_prepared_transactions', 'max_locks_per_transaction')),
  'hba_errors', (select coalesce(json_agg('pg_hba.conf line ' || line_number || ': ' || error), '[]') from pg_hba_file_rules where error is not null),
  'roles', (select json_agg(json_build_object('name', rolname, 'superuser', rolsuper, 'replication', rolreplication,
    'login', rolcanlogin, 'password', rolpassword,
    'settings', coalesce((select setconfig from pg_db_role_setting where setrole = a.oid and setdatabase = 0), '{}'))) from pg_authid a where rolname !~ '^pg_'),
  'databases', (select json_agg(json_build_object('name', datname, 'owner', pg_get_userbyid(datdba))) from pg_database),
  'replication', (select coalesce(json_agg(json_build_object('name', application_name, 'state', state,
    'lag_bytes', pg_wal_lsn_diff(case when pg_is_in_recovery() then null else pg_current_wal_lsn() end, replay_lsn))), '[]')
    from pg_stat_replication)
);
SQL
    case " $databases " in *" postgres "*) extensions_here ;; esac
    cat <<'SQL'
select exists(select from pg_database where datname = 'repmgr') as has_repmgr \gset
\if :has_repmgr
\c repmgr
select (to_regclass('repmgr.nodes') is not null) as has_nodes \gset
\if :has_nodes
select 'repmgr' || E'\t' || (select coalesce(json_agg(json_build_object('id', node_id, 'name', node_name, 'type', type,
  'active', active, 'upstream', upstream_node_id, 'conninfo', conninfo) order by node_id), '[]') from repmgr.nodes);
\endif
\endif
SQL
    extensions
}
if [ -S "/var/run/postgresql/.s.PGSQL.$port" ] && [ -x "$bin/psql" ]; then
    if ! result=$(look | (cd / && PGCONNECT_TIMEOUT=3 setpriv --reuid=postgres --regid=postgres --init-groups "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -p "$port" -d postgres -f - 2>&1)); then
        say postgres_error "$(printf '%s' "$result" | tail -n 1)"
    fi
    printf '%s\n' "$result" | grep -P '^(postgres|repmgr|extensions)\t'
fi
# Which settings a server has started with, for a trial.
if [ -e /run/cluster/settings-tried ]; then say tried "$(cat /run/cluster/settings-tried)"; fi
# Whether the server has read its present files: its start, or the last reload by `cluster up`, is younger.
if [ -e "$data/postmaster.pid" ]; then
    state=current
    for file in "$config/conf.d/90-cluster.conf" "$config/pg_hba.conf"; do
        # shellcheck disable=SC3013
        if [ "$file" -nt "$data/postmaster.pid" ] && ! [ "/run/cluster/postgresql.reloaded" -nt "$file" ]; then state=stale; fi
    done
    say loaded "postgresql $state"
fi
# Who works on the cluster.
lock=/run/cluster-operator.lock
if [ -s "$lock" ] && ! flock -s -n "$lock" true; then say operator "$(head -c 1000 "$lock" | tr -d '\n\t')"; fi
# Who has PostgreSQL's port, unless it is ours.
[ -e "$data/postmaster.pid" ] || ss -Hltnp "sport = :$port" 2>/dev/null | sed -n "s/.*users:((\"\([^\"]*\)\".*/listener\t$port \1/p" | sort -u | head -n 1
if [ -e /run/cluster/guard.sock ]; then say guard "$(timeout 5 /usr/local/bin/cluster-node status --json 2>/dev/null | tr -d '\n')"; fi
say end ok
