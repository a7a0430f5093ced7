//! The table itself.

use super::{Bound, Class, Fit, Setting, Value, fit};

const fn setting(name: &'static str, class: Class, why: &'static str) -> Setting {
    Setting { name, since: 12, until: 18, class, least: None, bound: None, control: None, why }
}

const fn mandatory(name: &'static str, value: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Mandatory(Value::Text(value)), why)
}

const fn default(name: &'static str, value: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Default(Value::Text(value)), why)
}

const fn fitted(name: &'static str, rule: fn(&Fit) -> Option<String>, why: &'static str) -> Setting {
    setting(name, Class::Default(Value::Fitted(rule)), why)
}

const fn blocked(name: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Blocked, why)
}

const fn free(name: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Free, why)
}

impl Setting {
    const fn since(mut self, version: u32) -> Setting {
        self.since = version;
        self
    }

    const fn until(mut self, version: u32) -> Setting {
        self.until = version;
        self
    }

    const fn least(mut self, least: fn(usize) -> usize) -> Setting {
        self.least = Some(least);
        self
    }

    const fn bound(mut self, bound: Bound) -> Setting {
        self.bound = Some(bound);
        self
    }

    const fn control(mut self, name: &'static str) -> Setting {
        self.control = Some(name);
        self
    }
}

/// Each standby streams, and may be cloned anew at the same time. A change needs a restart: a node is added without one
/// for as long as the value of small clusters is enough.
const fn senders(nodes: usize) -> usize {
    if nodes * 2 > 10 { nodes * 2 } else { 10 }
}

const fn fewest_senders(nodes: usize) -> usize {
    nodes * 2
}

const fn slots(nodes: usize) -> usize {
    if nodes > 10 { nodes } else { 10 }
}

const fn fewest_slots(nodes: usize) -> usize {
    nodes
}

/// The guard's, repmgrd's, and those of `cluster` itself.
const fn reserved(_: usize) -> usize {
    5
}

const fn fewest_connections(_: usize) -> usize {
    20
}

const ARCHIVE: &str = "WAL is archived to the repository under `backup`";
const DATA: &str = "a power failure must not lose or corrupt data";
const DAMAGE: &str = "hiding damaged data would spread the damage to every standby";
const DELAYS: &str =
    "it delays every new session, the guard's included, and a late heartbeat costs the lease";
const FILES: &str = "file locations are set by the packages";
const HBA: &str = "pg_hba.conf is written by this program; use `clients` to control access";
const LOG: &str = "the log stays where the packages put it; it is read there when PostgreSQL does not start";
const RECOVERY: &str =
    "standbys follow the primary to the newest timeline; `backup` is the key for a repository";
const REPMGR: &str = "repmgr writes it";
const SESSIONS: &str = "it would apply to every session, and a standby or the guard may fail with it; set it for a \
     role: `alter role … set`";
const SOCKET: &str = "the guard and repmgr use the socket in /var/run/postgresql";
const SYNCHRONOUS: &str =
    "synchronous replication is not supported yet: writes would wait forever for a missing standby";
const TLS: &str = "the packages' certificates are used";
const VANISHED: &str = "replication to a dead host ends within seconds";

/// Every setting that this program has an opinion of, in the order in which they are written.
pub const SETTINGS: &[Setting] = &[
    mandatory("listen_addresses", "*", "use `clients` to control access"),
    setting("port", Class::Mandatory(Value::Port), "set `postgresql.port`"),
    setting("cluster_name", Class::Mandatory(Value::Node), "the node's name is used"),
    mandatory("password_encryption", "scram-sha-256", "all passwords use SCRAM"),
    mandatory("ssl", "on", "TLS is always on"),
    mandatory("wal_level", "replica", "replication needs `replica`; `logical` is not tested yet"),
    mandatory("hot_standby", "on", "read queries and repmgr need it"),
    mandatory("wal_log_hints", "on", "pg_rewind needs it"),
    mandatory("full_page_writes", "on", DATA),
    mandatory("fsync", "on", DATA),
    mandatory(
        "restart_after_crash",
        "on",
        "PostgreSQL recovers from the crash of one session by itself, without a failover",
    ),
    mandatory(
        "recovery_end_command",
        // An exit code above 125 stops the server.
        "/usr/local/bin/cluster-node may-promote || exit 126",
        "it asks the guard whether a promotion was granted",
    ),
    // On from the start, so that a repository needs no restart. Without one the command does nothing.
    mandatory("archive_mode", "on", ARCHIVE),
    // The name of pgBackRest in it is what pgBackRest looks for.
    mandatory("archive_command", "/usr/local/bin/cluster-node pgbackrest-push %p", ARCHIVE),
    // For a standby that lacks WAL which its primary has no more. It gives up at once where that would hold something up.
    mandatory("restore_command", "/usr/local/bin/cluster-node pgbackrest-get %f %p", ARCHIVE),
    setting("archive_timeout", Class::Mandatory(Value::ArchiveTimeout), "set `backup.archive_within`"),
    setting(
        "shared_preload_libraries",
        Class::Mandatory(Value::Libraries),
        "repmgr's library is needed; yours are added",
    ),
    default("ssl_min_protocol_version", "TLSv1.2", "older TLS versions are insecure"),
    setting(
        "max_wal_senders",
        Class::Default(Value::Count(senders)),
        "every standby streams, and may be cloned again",
    )
    .least(fewest_senders)
    .control("max_wal_senders"),
    setting("max_replication_slots", Class::Default(Value::Count(slots)), "every standby needs a slot")
        .least(fewest_slots),
    // A slot keeps WAL for every standby. This is for what has none yet; and all of it is copied when a node is rewound.
    default("wal_keep_size", "256MB", "a standby that was away for a while still finds its WAL").since(13),
    default("max_slot_wal_keep_size", "4GB", "a standby that stays away must not fill the primary's disk")
        .since(13),
    default("wal_keep_segments", "16", "a standby that was away for a while still finds its WAL").until(12),
    default("wal_sender_timeout", "5s", VANISHED).bound(Bound::Time("1s", "15s", "ms")),
    default("wal_receiver_timeout", "5s", VANISHED),
    default("wal_receiver_status_interval", "1s", "lag is known within a second"),
    default("wal_retrieve_retry_interval", "1s", "a standby finds its new primary within a second")
        .bound(Bound::Time("1ms", "5s", "ms")),
    default("tcp_keepalives_idle", "3", "a dead client is noticed within ten seconds"),
    default("tcp_keepalives_interval", "2", "a dead client is noticed within ten seconds"),
    default("tcp_keepalives_count", "3", "a dead client is noticed within ten seconds"),
    default(
        "authentication_timeout",
        "5s",
        "a client that does not log in must not hold a connection for long",
    ),
    setting(
        "superuser_reserved_connections",
        Class::Default(Value::Count(reserved)),
        "repmgr and the guard can connect when applications use every other connection",
    )
    .least(reserved),
    fitted("shared_buffers", fit::shared_buffers, "a quarter of the memory; 32MB on the witness"),
    fitted(
        "effective_cache_size",
        fit::effective_cache_size,
        "three quarters of the memory; an estimate, not a reservation",
    ),
    fitted(
        "work_mem",
        fit::work_mem,
        "the rest of the memory for three times as many as there can be connections and workers",
    ),
    fitted("maintenance_work_mem", fit::maintenance_work_mem, "a sixteenth of the memory, 2GB at most"),
    fitted(
        "max_connections",
        fit::max_connections,
        "25 for each GB of the smallest data node, 100 to 500; some are reserved for the guard and repmgr",
    )
    .least(fewest_connections)
    .control("max_connections"),
    fitted("max_wal_size", fit::max_wal_size, "a tenth of the disk or less, 1GB to 4GB"),
    fitted("min_wal_size", fit::min_wal_size, "a quarter of max_wal_size"),
    fitted("checkpoint_completion_target", fit::checkpoint_completion_target, "as from PostgreSQL 14 on"),
    fitted("random_page_cost", fit::random_page_cost, "an SSD"),
    fitted("effective_io_concurrency", fit::effective_io_concurrency, "an SSD, and PostgreSQL 17 or older"),
    fitted("max_parallel_workers", fit::max_parallel_workers, "one a core"),
    fitted("max_parallel_workers_per_gather", fit::half_the_cores, "half the cores, 4 at most"),
    fitted("max_parallel_maintenance_workers", fit::half_the_cores, "half the cores, 4 at most"),
    fitted("autovacuum_max_workers", fit::autovacuum_max_workers, "3, from 16 cores on 4, from 32 on 5"),
    fitted("autovacuum_vacuum_cost_limit", fit::autovacuum_vacuum_cost_limit, "an SSD"),
    free("huge_pages", "with `on`, PostgreSQL does not start on a host with too few huge pages")
        .bound(Bound::Only(&["try", "off"])),
    fitted(
        "max_worker_processes",
        fit::max_worker_processes,
        "the cores of the smallest data node and 4, 8 at least; not lower on a standby than on its primary",
    )
    .control("max_worker_processes"),
    free(
        "max_prepared_transactions",
        "not lower on a standby than on its primary; very high values make crash recovery take minutes",
    )
    .bound(Bound::Most(10_000))
    .control("max_prepared_xacts"),
    free("max_locks_per_transaction", "not lower on a standby than on its primary")
        .control("max_locks_per_xact"),
    blocked("config_file", FILES),
    blocked("data_directory", FILES),
    blocked("external_pid_file", FILES),
    blocked("stats_temp_directory", FILES).until(14),
    blocked("temp_tablespaces", "standbys and clones need the same tablespaces; set it for a role"),
    blocked("jit_provider", FILES),
    blocked("hba_file", HBA),
    blocked("ident_file", HBA),
    blocked("unix_socket_directories", SOCKET),
    blocked("unix_socket_group", SOCKET),
    blocked("unix_socket_permissions", SOCKET),
    blocked("bonjour", "nodes must not announce themselves on the network"),
    blocked("bonjour_name", "nodes must not announce themselves on the network"),
    blocked("primary_conninfo", REPMGR),
    blocked("primary_slot_name", REPMGR),
    blocked("promote_trigger_file", "only the guard may promote").until(15),
    blocked("synchronous_standby_names", SYNCHRONOUS),
    blocked("synchronized_standby_slots", SYNCHRONOUS).since(17),
    blocked("sync_replication_slots", "logical replication is not tested yet").since(17),
    blocked("idle_replication_slot_timeout", "the guards drop slots of standbys that are gone").since(18),
    blocked("archive_library", ARCHIVE).since(15),
    blocked("archive_cleanup_command", RECOVERY),
    blocked("recovery_min_apply_delay", "a delayed standby cannot take over"),
    blocked("recovery_target", RECOVERY),
    blocked("recovery_target_action", RECOVERY),
    blocked("recovery_target_inclusive", RECOVERY),
    blocked("recovery_target_lsn", RECOVERY),
    blocked("recovery_target_name", RECOVERY),
    blocked("recovery_target_time", RECOVERY),
    blocked("recovery_target_timeline", RECOVERY),
    blocked("recovery_target_xid", RECOVERY),
    blocked("data_sync_retry", DATA),
    blocked("ignore_checksum_failure", DAMAGE),
    blocked("ignore_invalid_pages", DAMAGE).since(13),
    blocked("ignore_system_indexes", DAMAGE),
    blocked("zero_damaged_pages", DAMAGE),
    blocked("allow_system_table_mods", DAMAGE),
    blocked("default_transaction_deferrable", SESSIONS),
    blocked("default_transaction_isolation", SESSIONS),
    blocked("default_transaction_read_only", SESSIONS),
    blocked(
        "default_table_access_method",
        "the tables of `cluster` and repmgr would use it too; set it for a role or a database",
    ),
    blocked("exit_on_error", "any error would end the session, the guard's included"),
    blocked("pre_auth_delay", DELAYS),
    blocked("post_auth_delay", DELAYS),
    blocked("ssl_ca_file", TLS),
    blocked("ssl_cert_file", TLS),
    blocked("ssl_crl_dir", TLS).since(14),
    blocked("ssl_crl_file", TLS),
    blocked("ssl_dh_params_file", TLS),
    blocked("ssl_key_file", TLS),
    blocked("ssl_passphrase_command", TLS),
    blocked("ssl_passphrase_command_supports_reload", TLS),
    blocked("ssl_prefer_server_ciphers", TLS),
    blocked("logging_collector", LOG),
    blocked("log_destination", LOG),
    blocked("log_directory", LOG),
    blocked("log_file_mode", LOG),
    blocked("log_filename", LOG),
    blocked("log_rotation_age", LOG),
    blocked("log_rotation_size", LOG),
    blocked("log_truncate_on_rotation", LOG),
    blocked("event_source", LOG),
    blocked("syslog_facility", LOG),
    blocked("syslog_ident", LOG),
    blocked("syslog_sequence_numbers", LOG),
    blocked("syslog_split_messages", LOG),
];
