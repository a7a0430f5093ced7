#!/usr/bin/env bash
# What settings that fit the host are worth: pgbench with `tune: true` and `tune: false` in turn, on one host of the lab. Usage:
# benches/fit.sh [ROUNDS [SECONDS [SCALE]]], as root, on a machine that does nothing else. SCALE is 15 MB of data each; the
# size of the host, and so what is fitted, is s-2vcpu-4gb.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-40} scale=${3:-100}
cluster=${BENCH_CLUSTER:-$PWD/target/release/cluster}
lab=benchf port=8496 subnet=10.96.0.0/16
work=$(mktemp -d)
export CLUSTER_STATE_DIR=$work/state CI=true
trap '$cluster lab stop --name $lab >/dev/null 2>&1; rm -rf "$work"' EXIT

$cluster lab start --name $lab --port $port --subnet $subnet --no-delays --image debian-12-x64-postgresql-15 >/dev/null 2>&1
home=/var/lib/cluster-lab/$lab
for tune in true false; do
    cat >"$work/$tune.yaml" <<END
cluster: demo
provider:
  digitalocean:
    api_url: http://127.0.0.1:$port
    token_file: $home/token
    failover_token_file: $home/failover_token
    region: fra1
    size: s-2vcpu-4gb
    image: debian-12-x64-postgresql-15
postgresql:
  version: 15
  tune: $tune
databases: [{name: bench}]
nodes:
  - {name: pg1, id: 1, role: primary}
END
done
up() { $cluster up -i "$work/$1.yaml" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }; }
on() { ssh -F "$CLUSTER_STATE_DIR/demo/ssh_config" pg1 "cd / && runuser -u postgres -- sh -c \"\$(cat)\""; }
sql() { on <<<"psql -XAtqw -d postgres -c \"$1\""; }
median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }
tps() { on <<<"/usr/lib/postgresql/15/bin/pgbench -c 8 -j 2 -T $seconds $1 bench 2>/dev/null" | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
sorted() {
    local began=$EPOCHREALTIME
    on <<<"psql -XAtqw -d bench -c 'select count(*) from (select distinct aid % 100000, filler from pgbench_accounts where aid <= 1000000) it'" >/dev/null
    awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $began }"
}

# Both files as `up` writes them; what changes with a turn is the file, and PostgreSQL is restarted as `up` does it.
as_root() { ssh -F "$CLUSTER_STATE_DIR/demo/ssh_config" pg1 "cd / && sh -euc \"\$(cat)\""; }
conf=/etc/postgresql/15/main/conf.d/90-cluster.conf
for tune in true false; do
    up $tune
    as_root <<<"cp -p $conf /root/$tune.conf"
done
use() {
    as_root <<<"cp -p /root/$1.conf $conf; cluster-node restart >/dev/null; systemctl restart postgresql@15-main
        until runuser -u postgres -- psql -XAtqw -d postgres -c 'select 1' >/dev/null 2>&1; do sleep 0.2; done"
    until [ "$(sql 'select pg_is_in_recovery()')" = f ]; do sleep 0.2; done
}
on <<<"/usr/lib/postgresql/15/bin/pgbench -i -q -s $scale bench 2>/dev/null"
echo "scale $scale, $(sql "select pg_size_pretty(pg_database_size('bench'))"); 8 clients, $seconds s each: transactions a second; a large sort: seconds"
printf '%6s %10s %10s %10s %10s %10s %10s\n' round stock/rw fitted/rw stock/ro fitted/ro stock/sort fitted/sort
declare -A rw ro sort wal
for round in $(seq "$rounds"); do
    # Neither is always the first.
    turns=(false true)
    if [ $((round % 2)) = 0 ]; then turns=(true false); fi
    for tune in "${turns[@]}"; do
        use "$tune"
        # What counts is a server that has run for a while: the kernel and the buffers hold what they can.
        on <<<"psql -XAtqw -d bench -c 'select count(*) from pgbench_accounts'" >/dev/null
        tps -S >/dev/null
        sql 'checkpoint'
        before=$(sql 'select pg_current_wal_lsn()')
        rw[$tune]+="$(tps '') "
        wal[$tune]+="$(sql "select (pg_current_wal_lsn() - '$before')::bigint / 1000000") "
        ro[$tune]+="$(tps -S) "
        sort[$tune]+="$(sorted) "
    done
    last() { printf '%s\n' "${1##* }"; }
    printf '%6s %10.0f %10.0f %10.0f %10.0f %10.2f %10.2f\n' "$round" \
        "$(last "${rw[false]% }")" "$(last "${rw[true]% }")" "$(last "${ro[false]% }")" "$(last "${ro[true]% }")" \
        "$(last "${sort[false]% }")" "$(last "${sort[true]% }")"
done
# shellcheck disable=SC2086
of() { median $1; }
printf '%6s %10.0f %10.0f %10.0f %10.0f %10.2f %10.2f\n' median "$(of "${rw[false]}")" "$(of "${rw[true]}")" \
    "$(of "${ro[false]}")" "$(of "${ro[true]}")" "$(of "${sort[false]}")" "$(of "${sort[true]}")"
printf '%6s %10s %10s %10s %10s %10s %10s\n' ratio 1 "$(ratio "$(of "${rw[true]}")" "$(of "${rw[false]}")")" \
    1 "$(ratio "$(of "${ro[true]}")" "$(of "${ro[false]}")")" 1 "$(ratio "$(of "${sort[true]}")" "$(of "${sort[false]}")")"
echo "WAL of a turn, MB: stock $(of "${wal[false]}"), fitted $(of "${wal[true]}")"
