//! Readers on a standby that is to become primary: nobody waits for them.

/// Ends the sessions of clients that are in a transaction: replay may wait for any of them, and the server does not say
/// for which one. Ours are none: each of their questions is a transaction of its own, and they come back.
pub(super) const END: &str = "\
    select count(pg_terminate_backend(pid)) from pg_stat_activity \
    where pid <> pg_backend_pid() and backend_type = 'client backend' and application_name <> 'cluster-node' \
        and (xact_start is not null or backend_xmin is not null)";
