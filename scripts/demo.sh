#!/usr/bin/env bash
# The main job, end to end: a lab, a cluster on three hosts in it, a write through the floating IP and a read on
# the standby.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=target/release/cluster
inventory=inventories/lab.yaml

if [ "$(id -u)" != 0 ]; then
    echo "the lab needs root: sudo make demo" >&2
    exit 1
fi
run() {
    printf '\n$ %s\n' "$*"
    "$@"
}
run $cluster lab start
run $cluster up -i $inventory

state=${CLUSTER_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/cluster}/demo
address=$($cluster status -i $inventory --json | jq -r .floating_ip.address)
PGPASSWORD=$(jq -r '.passwords["user:app"]' "$state/secrets.json")
export PGPASSWORD PGSSLMODE=require PGCONNECT_TIMEOUT=5

echo
echo "Writing through the floating IP ($address):"
psql -X -q -h "$address" -U app app <<'SQL'
create table if not exists country (country_id serial primary key, name text, is_eu_member boolean);
insert into country (name, is_eu_member) values ('Estonia', true);
select current_setting('cluster_name') as node, count(*) as countries from country;
SQL
standby=$($cluster status -i $inventory --json | jq -r '[.nodes[] | select(.role == "standby")][0].address')
sleep 1
echo "Reading on the standby ($standby):"
psql -X -q -h "$standby" -U app app <<'SQL'
select current_setting('cluster_name') as node, pg_is_in_recovery() as standby, count(*) as countries from country;
SQL
# The first backup is taken by itself, soon after the start.
for _ in $(seq 60); do
    [ "$($cluster status -i $inventory --json | jq '.backups.contents.backups | length')" = 0 ] || break
    sleep 1
done
run $cluster status -i $inventory
run $cluster backup list -i $inventory
echo
echo "make demo-down removes all of it."
