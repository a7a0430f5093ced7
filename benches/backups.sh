#!/usr/bin/env bash
# What backups cost, and how long a restore takes, on a cluster of the lab. Usage: benches/backups.sh [ROUNDS [SECONDS [GB]]], as
# root, on a machine that does nothing else.
#
# 1. Transactions a second of pgbench with archiving off, with archiving on, and with a full backup running besides, in turn.
# 2. GB of data restored beside the primary's, by the step of `cluster restore` and by pgBackRest alone, in turn.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-30} gigabytes=${3:-5}
cluster=${BENCH_CLUSTER:-$PWD/target/release/cluster}
lab=benchb port=8498 subnet=10.95.0.0/16
work=$(mktemp -d)
export CLUSTER_STATE_DIR=$work/state CI=true
trap '$cluster lab stop --name $lab >/dev/null 2>&1; rm -rf "$work"' EXIT

$cluster lab start --name $lab --port $port --subnet $subnet --no-delays --image debian-12-x64-postgresql-15 >/dev/null 2>&1
home=/var/lib/cluster-lab/$lab
cat >"$work/demo.yaml" <<EOF
cluster: demo
provider:
  digitalocean:
    api_url: http://127.0.0.1:$port
    token_file: $home/token
    failover_token_file: $home/failover_token
    region: fra1
    size: s-1vcpu-1gb
    image: debian-12-x64-postgresql-15
backup:
  spaces:
    bucket: demo-backups
    endpoint: https://spaces.lab:$((port + 1000))
    address: 127.0.0.1
    ca: $home/spaces_ca.crt
  prove_every: never
postgresql:
  version: 15
nodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: witness}
EOF
$cluster up -i "$work/demo.yaml" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
on() { ssh -F "$CLUSTER_STATE_DIR/demo/ssh_config" "$1" "cd / && runuser -u postgres -- sh -c \"\$(cat)\""; }
as_root() { ssh -F "$CLUSTER_STATE_DIR/demo/ssh_config" "$1" "sh -s $(printf '%q ' "${@:2}")"; }
sql() { on pg1 <<<"psql -XAtqw -d postgres -c \"$1\""; }
median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }
until [ "$($cluster status -i "$work/demo.yaml" --json | jq '.backups.contents.backups | length')" != 0 ]; do sleep 2; done

echo "pgbench, scale 70 (1 GB), 8 clients, $seconds s each: transactions a second"
sql 'create database bench' && on pg1 <<<'/usr/lib/postgresql/15/bin/pgbench -i -q -s 70 bench 2>/dev/null'
tps() {
    sql checkpoint
    on pg1 <<<"/usr/lib/postgresql/15/bin/pgbench -c 8 -j 2 -T $seconds bench 2>/dev/null" | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}
archive() {
    sql "alter system $1" && sql 'select pg_reload_conf()' >/dev/null
    until [ "$(sql "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'")" = 0 ]; do sleep 1; done
}
printf '%5s %9s %9s %9s\n' round off archiving backup
off=() archiving=() backup=()
for round in $(seq "$rounds"); do
    archive "set archive_command = '/bin/true'"
    off+=("$(tps)")
    archive 'reset archive_command'
    archiving+=("$(tps)")
    # Backups one after the other, for as long as it takes. One is refused where the service takes its own.
    (while :; do $cluster backup --full -i "$work/demo.yaml" >/dev/null 2>&1 || sleep 1; done) &
    backups=$!
    sleep 2
    backup+=("$(tps)")
    kill "$backups"
    wait "$backups" 2>/dev/null || :
    until ! on pg1 <<<'pgrep -f "^/usr/bin/pgbackrest .* backup " >/dev/null'; do sleep 1; done
    printf '%5s %9.0f %9.0f %9.0f\n' "$round" "${off[-1]}" "${archiving[-1]}" "${backup[-1]}"
done
base=$(median "${off[@]}")
printf '%5s %9.0f %9.0f %9.0f\n' median "$base" "$(median "${archiving[@]}")" "$(median "${backup[@]}")"
printf '%5s %9s %9s %9s\n' ratio 1 "$(ratio "$(median "${archiving[@]}")" "$base")" "$(ratio "$(median "${backup[@]}")" "$base")"

scale=$((gigabytes * 68))
echo
echo "restore of pgbench, scale $scale ($gigabytes GB), beside the primary's data, until the copy takes writes: seconds"
sql 'drop database bench' && sql 'create database bench' &&
    on pg1 <<<"/usr/lib/postgresql/15/bin/pgbench -i -q -s $scale bench 2>/dev/null"
$cluster backup --full -i "$work/demo.yaml" >/dev/null 2>&1
$cluster render "$work/scripts"
contents=$($cluster backup list -i "$work/demo.yaml" --json)
end=$(jq -r '.intervals[-1].until_lsn' <<<"$contents")
bytes=$(jq -r '[.backups[].size] | max' <<<"$contents")
ours() {
    as_root pg1 demo 15 5432 latest '' beside /etc/cluster/pgbackrest.conf demo "$bytes" "$end" <"$work/scripts/restore-unit.sh" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
}
by_hand() {
    on pg1 <<'EOF'
set -eu
copy=/var/lib/postgresql/15/by-hand
mkdir -m 700 $copy
pgbackrest --config=/etc/cluster/pgbackrest.conf --stanza=demo --pg1-path=$copy --log-level-console=off restore
/usr/lib/postgresql/15/bin/pg_ctl -D $copy -s -W -l /tmp/by-hand.log -o "-c config_file=/etc/postgresql/15/main/postgresql.conf \
-c data_directory=$copy -c listen_addresses= -c unix_socket_directories=/tmp -c external_pid_file= -c hot_standby=off \
-c recovery_end_command= -c archive_command=/bin/false -c shared_buffers=128MB" start
until psql -XAtqw -h /tmp -d postgres -c 'select 1' >/dev/null 2>&1; do sleep 0.1; done
EOF
}
seconds_of() {
    local began=$EPOCHREALTIME
    "$@"
    awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }"
}
gone() {
    on pg1 <<'EOF'
if [ -e /var/lib/postgresql/15/by-hand ]; then /usr/lib/postgresql/15/bin/pg_ctl -D /var/lib/postgresql/15/by-hand -s -m immediate stop; fi
rm -rf /var/lib/postgresql/15/by-hand /var/lib/postgresql/15/main.cluster-restored
EOF
    as_root pg1 <<<'rm -f /var/lib/cluster/restored; sync'
}
printf '%5s %12s %12s\n' round 'by hand' 'cluster'
hand=() own=()
for round in $(seq "$(((rounds + 1) / 2))"); do
    hand+=("$(seconds_of by_hand)")
    gone
    own+=("$(seconds_of ours)")
    gone
    printf '%5s %12s %12s\n' "$round" "${hand[-1]}" "${own[-1]}"
done
printf '%5s %12s %12s\n' median "$(median "${hand[@]}")" "$(median "${own[@]}")"
printf '%5s %12s %12s\n' ratio 1 "$(ratio "$(median "${own[@]}")" "$(median "${hand[@]}")")"
