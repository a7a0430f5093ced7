-- Node $id leaves. Whoever it says to follow it follows the primary, as it does.
update repmgr.nodes set upstream_node_id = (select node_id from repmgr.nodes where type = 'primary' and active)
    where upstream_node_id = $id;
insert into repmgr.events (node_id, event, successful, details)
    select node_id, type || '_unregister', true, 'removed by cluster' from repmgr.nodes where node_id = $id;
delete from repmgr.nodes where node_id = $id and not (type = 'primary' and active);
-- A sender whose standby was switched off waits for it a while.
do $$
begin
    for attempt in 1..100 loop
        perform pg_terminate_backend(active_pid) from pg_replication_slots
            where slot_name = 'repmgr_slot_$id' and active;
        exit when not found;
        perform pg_sleep(0.1);
    end loop;
    perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'repmgr_slot_$id';
end
$$;
