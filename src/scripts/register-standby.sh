set -eu
# Registers a standby, and waits until its row has come back by replication. Its slot goes when a node is removed, and no
# clone makes it again for one that comes back with its data.
slot=$(sql -d postgres -c 'show primary_slot_name')
if [ -n "$slot" ]; then
    sql -d "$(sql -d postgres -c 'show primary_conninfo')" -v "slot=$slot" <<'SQL'
select pg_create_physical_replication_slot(:'slot', true)
    where not exists (select from pg_replication_slots where slot_name = :'slot')
SQL
fi
repmgr standby register --force --wait-sync=600
