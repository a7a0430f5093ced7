#!/bin/sh
set -u
# A primary and its standby with the settings of a job: what a failover needs, each within its time. As postgres:
# VERSION HOME JOB. Prints `JOB<tab>ok|harm<tab>words`, once.
version=$1 home=$2 job=$3
bin=/usr/lib/postgresql/$version/bin
work=$home/pair.$job port=$((20002 + job * 2))
export LC_ALL=C PGPASSFILE="$home/pgpass" PGCONNECT_TIMEOUT=5
# guard, heartbeat, table, primary, standby, session, limit
guard='' session='' limit='' heartbeat='' table='' primary='' standby=''
# shellcheck source=/dev/null
. "$home/words"
tab=$(printf '\t')
told=
say() {
    [ -n "$told" ] || printf '%s\t%s\t%s\n' "$job" "$1" "$(printf '%s' "$2" | tr '\n\t' '  ' | cut -c 1-400)"
    told=yes
}
clean() {
    [ -n "$told" ] || say harm "cut off at: $step"
    for data in "$work/p" "$work/s"; do
        if read -r pid 2>/dev/null <"$data/postmaster.pid"; then
            pkill -CONT -P "$pid" || :
            "$bin/pg_ctl" -D "$data" -m immediate -w -t 5 stop >/dev/null 2>&1 || kill -KILL "$pid"
        fi
    done
    rm -rf "$work"
}
step=begin
trap clean EXIT
trap 'exit 1' TERM INT
harm() {
    say harm "$step: ${1:-} $(tail -n 2 "$work/said" 2>/dev/null) $(grep -hE '(FATAL|PANIC|ERROR):' "$work/$2.log" 2>/dev/null | grep -v 'starting up' | tail -n 2)"
    exit 0
}
at() { if [ "$1" = p ]; then echo "$port"; else echo $((port + 1)); fi; }

mkdir -m 700 "$work" || exit 1
cp -a "$home/p" "$home/s" "$work/"
# What is the pair's own, behind the settings.
settle() {
    cat "$1" - >>"$work/$2/postgresql.conf" <<CONF
cluster_name = '$2'
listen_addresses = '127.0.0.1'
port = $(at "$2")
unix_socket_directories = '$work'
recovery_end_command = ''
restore_command = ''
ssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'
ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'
CONF
}
settle "$home/jobs/$job" p
# Whom a standby follows: $1 follows $2.
follow() {
    touch "$work/$1/standby.signal"
    cat >"$work/$1/postgresql.auto.conf" <<CONF
primary_conninfo = 'host=127.0.0.1 port=$(at "$2") user=repmgr passfile=$home/pgpass sslmode=require channel_binding=require application_name=$1 connect_timeout=2 keepalives=1 keepalives_idle=3 keepalives_interval=2 keepalives_count=3'
primary_slot_name = '$1'
CONF
}
start() {
    step="start of $2"
    said=$("$bin/pg_ctl" -D "$work/$1" -l "$work/$1.log" -w -t 60 start 2>&1) || harm "" "$1"
}
stop() {
    step="stop of $2"
    "$bin/pg_ctl" -D "$work/$1" -m fast -w -t 20 stop >/dev/null 2>&1 || harm "not within 20 s" "$1"
}
guard() {
    PGOPTIONS=$guard timeout "$limit" "$bin/psql" -XAtqw -F "$tab" -h "$work" -p "$(at "$1")" -U repmgr -d repmgr 2>"$work/said"
}
# One look of the guard at a primary: the first heartbeat makes its table.
beat() {
    step="heartbeat of $2"
    looks=0
    until said=$(printf '%s;\n' "$heartbeat" "$table" "$heartbeat" "$primary" \
        "select 'committed ' || count(*) from cluster_guard.heartbeat where node = current_setting('cluster_name') and at > now() - interval '5s'" | guard "$1") &&
        case $said in *"committed 1") : ;; *) false ;; esac; do
        looks=$((looks + 1))
        # The guard looks every second, and its lease outlives one that comes to nothing.
        [ "$looks" -lt "${3:-2}" ] || harm "$said" "$1"
        sleep 0.2
    done
    end=$(echo 'select pg_current_wal_flush_lsn()' | guard "$1")
}
# What $2 has from $1 is known there, as a switchover wants it.
streams() {
    step="$2 streams from $1, $3"
    tries=0
    until [ "$(echo "select count(*) from pg_stat_replication where application_name = '$2' and state = 'streaming'
            and flush_lsn >= '$end' and replay_lsn >= '$end'" | guard "$1")" = 1 ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || harm "$(echo 'select state, sent_lsn, flush_lsn, replay_lsn from pg_stat_replication' | guard "$1")" "$2"
        sleep 0.1
    done
    step="look at the standby $2"
    said=$(printf '%s;\n' "$standby" | guard "$2")
    case $said in *"${tab}127.0.0.1") ;; *) harm "$said" "$2" ;; esac
}
client() { timeout 10 "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 "host=127.0.0.1 port=$(at "$1") sslmode=require channel_binding=require $2" 2>"$work/said"; }

follow s p
if grep -q '^#shrinks' "$home/jobs/$job"; then
    # The primary first, as `up` restarts them: a standby must not have less until it has replayed that.
    settle /dev/null s
    start p "the primary"
    start s "the standby with more than its primary"
    beat p "the primary"
    streams p s "with more than its primary"
    stop s "the standby"
fi
settle "$home/jobs/$job" s
"$bin/pg_ctl" -D "$work/s" -l "$work/s.log" -w -t 60 start >/dev/null 2>&1 &
"$bin/pg_ctl" -D "$work/p" status >/dev/null || start p "the primary"
wait
step="start of the standby"
"$bin/pg_ctl" -D "$work/s" status >/dev/null || harm "" s
beat p "the primary"
step="session of the operator"
said=$(echo 'create table kept (row int); insert into kept values (1); select count(*) from kept' |
    PGOPTIONS=$session timeout 10 "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$work" -p "$port" -d postgres 2>"$work/said")
[ "$said" = 1 ] || harm "$said" p
step="session of repmgr that rests"
said=$(printf 'select 1;\n\\! sleep 0.3\nselect pg_is_in_recovery();\ncreate table public.mine (row int);\ninsert into public.mine values (1);\n' |
    client p "user=repmgr dbname=repmgr")
[ "$said" = "1
f" ] || harm "$said" p
streams p s "from the start"
step="crash of the primary"
"$bin/pg_ctl" -D "$work/p" -m immediate -w -t 10 stop >/dev/null 2>&1
start p "the primary after a crash"
beat p "the primary after a crash"
streams p s "after a crash of $port"
if grep -q '^#frozen' "$home/jobs/$job"; then
    # A standby that has vanished does not keep the primary from its end.
    read -r pid <"$work/s/postmaster.pid"
    pkill -STOP -P "$pid"
    kill -STOP "$pid"
    stop p "the primary, while its standby hangs"
    kill -CONT "$pid"
    pkill -CONT -P "$pid"
    start p "the primary"
    beat p "the primary"
    streams p s "after it hung"
fi
stop p "the primary"
step=promotion
guard s <<SQL >/dev/null
select pg_create_physical_replication_slot('p', true);
SQL
echo 'select pg_promote(false)' | guard s >/dev/null
began=$(date +%s%N)
until [ "$(echo 'select pg_is_in_recovery()' | guard s)" = f ]; do
    if [ $(($(date +%s%N) - began)) -gt 10000000000 ]; then harm "not within 10 s" s; fi
    sleep 0.1
done
beat s "the new primary" 5
millis=$((($(date +%s%N) - began) / 1000000))
follow p s
start p "the old primary as a standby"
streams s p "after the promotion"
stop p "the new standby"
stop s "the new primary"
say ok "$millis"
