//! The table itself.

use super::{Bound, Class, Setting, Value};

const fn setting(name: &'static str, class: Class, why: &'static str) -> Setting {
    Setting { name, since: 12, until: 17, class, least: None, bound: None, control: None, why }
}

const fn mandatory(name: &'static str, value: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Mandatory(Value::Text(value)), why)
}

const fn default(name: &'static str, value: &'static str, why: &'static str) -> Setting {
    setting(name, Class::Default(Value::Text(value)), why)
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

const DATA: &str = "a cluster that loses data on power failure cannot promise anything";
const DAMAGE: &str = "damaged data must not pass for whole: the damage would reach every standby";
const DELAYS: &str = "every new session would wait, the guard's among them, and a heartbeat that comes too late costs the lease";
const FILES: &str = "the packages decide where files are";
const HBA: &str = "pg_hba.conf is written by this program, and nothing else says who may connect";
const LOG: &str = "the packages decide where the log is; it is read there when PostgreSQL does not start";
const RECOVERY: &str =
    "standbys follow the primary to the newest timeline; restoring from an archive is not supported yet";
const REPMGR: &str = "repmgr writes it";
const SESSIONS: &str = "it would be the default of every session, and a standby or the guard may refuse to work with it; set it for a \
     role: `alter role … set`";
const SOCKET: &str = "the guard and repmgr reach PostgreSQL by the socket in /var/run/postgresql";
const SYNCHRONOUS: &str =
    "synchronous replication is not supported yet: writes would wait for ever for a standby that is away";
const TLS: &str = "certificates are the packages' own";
const VANISHED: &str = "replication to a host that has vanished ends within seconds";

/// Every setting that this program has an opinion of, in the order in which they are written.
pub const SETTINGS: &[Setting] = &[
    mandatory("listen_addresses", "*", "who may connect is said under `clients`"),
    setting("port", Class::Mandatory(Value::Port), "set `postgresql.port`"),
    setting("cluster_name", Class::Mandatory(Value::Node), "it is the node's name"),
    mandatory("password_encryption", "scram-sha-256", "passwords are SCRAM everywhere"),
    mandatory("ssl", "on", "TLS is always on"),
    mandatory("wal_level", "replica", "replication needs `replica`, and `logical` is not tested yet"),
    mandatory("hot_standby", "on", "readers and repmgr need it"),
    mandatory("wal_log_hints", "on", "pg_rewind needs it"),
    mandatory("full_page_writes", "on", DATA),
    mandatory("fsync", "on", DATA),
    mandatory(
        "restart_after_crash",
        "on",
        "a crash of one session is mended by PostgreSQL itself, without a failover",
    ),
    mandatory(
        "recovery_end_command",
        // An exit code above 125 stops the server.
        "/usr/local/bin/cluster-node may-promote || exit 126",
        "the guard is asked there whether a promotion was granted",
    ),
    setting(
        "shared_preload_libraries",
        Class::Mandatory(Value::Libraries),
        "repmgr's is needed; yours are added to it",
    ),
    default("ssl_min_protocol_version", "TLSv1.2", "older versions of TLS are broken"),
    setting(
        "max_wal_senders",
        Class::Default(Value::Count(senders)),
        "every standby streams, and may be cloned anew",
    )
    .least(fewest_senders)
    .control("max_wal_senders"),
    setting("max_replication_slots", Class::Default(Value::Count(slots)), "every standby has one")
        .least(fewest_slots),
    default("wal_keep_size", "1GB", "a standby that was away for a while finds its WAL").since(13),
    default("max_slot_wal_keep_size", "4GB", "a standby that stays away must not fill the disk").since(13),
    default("wal_keep_segments", "64", "a standby that was away for a while finds its WAL").until(12),
    default("wal_sender_timeout", "5s", VANISHED).bound(Bound::Time("1s", "1min", "ms")),
    default("wal_receiver_timeout", "5s", VANISHED),
    default("wal_receiver_status_interval", "1s", "lag is known within a second"),
    default("wal_retrieve_retry_interval", "1s", "a standby finds its new primary within a second")
        .bound(Bound::Time("1ms", "10s", "ms")),
    default("tcp_keepalives_idle", "3", "a client that has vanished is noticed within ten seconds"),
    default("tcp_keepalives_interval", "2", "a client that has vanished is noticed within ten seconds"),
    default("tcp_keepalives_count", "3", "a client that has vanished is noticed within ten seconds"),
    default("authentication_timeout", "5s", "who does not log in holds no connection for long"),
    setting(
        "superuser_reserved_connections",
        Class::Default(Value::Count(reserved)),
        "repmgr and the guard get in when applications have taken every other connection",
    )
    .least(reserved),
    free("max_connections", "some are reserved for the guard and repmgr")
        .least(fewest_connections)
        .control("max_connections"),
    free("huge_pages", "with `on`, a host that has too few of them does not start PostgreSQL again")
        .bound(Bound::Only(&["try", "off"])),
    free("max_worker_processes", "not lower on a standby than on its primary")
        .control("max_worker_processes"),
    free(
        "max_prepared_transactions",
        "not lower on a standby than on its primary, and with very many a start after a crash takes minutes",
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
    blocked("bonjour", "the network must not learn of nodes by itself"),
    blocked("bonjour_name", "the network must not learn of nodes by itself"),
    blocked("primary_conninfo", REPMGR),
    blocked("primary_slot_name", REPMGR),
    blocked("promote_trigger_file", "the guard alone promotes").until(15),
    blocked("synchronous_standby_names", SYNCHRONOUS),
    blocked("synchronized_standby_slots", SYNCHRONOUS).since(17),
    blocked("sync_replication_slots", "logical replication is not tested yet").since(17),
    blocked(
        "archive_mode",
        "changing it by hand on one node breaks a failover; WAL archiving is not supported yet",
    ),
    blocked("archive_command", "WAL archiving is not supported yet"),
    blocked("archive_library", "WAL archiving is not supported yet").since(15),
    blocked("archive_cleanup_command", RECOVERY),
    blocked("restore_command", RECOVERY),
    blocked("recovery_min_apply_delay", "a standby that lags on purpose cannot take over"),
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
        "the tables of `cluster` and of repmgr would be made with it, too; set it for a role or a database",
    ),
    blocked("exit_on_error", "an error of one statement would end the session, the guard's with it"),
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
