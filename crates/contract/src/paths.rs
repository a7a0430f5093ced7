//! Where things lie on a node.

/// The guard's configuration, written by `cluster up`.
pub const CONFIG: &str = "/etc/cluster/node.json";
/// The token that may move the floating IP; readable by root alone.
pub const FAILOVER_TOKEN: &str = "/etc/cluster/failover-token";
/// The key with which guards seal what they say to each other; readable by root alone.
pub const KEY: &str = "/etc/cluster/key";
/// The password of the role `cluster`; readable by root alone. The nodes have no use for it: a machine that takes the
/// cluster over reads it here.
pub const CHECK_PASSWORD: &str = "/etc/cluster/check-password";
/// What every node states of the others: their SSH host keys, in the format of ssh's known_hosts.
pub const KNOWN_HOSTS: &str = "/etc/cluster/known_hosts";
/// What the data directory is ([`crate::marker::Marker`]).
pub const MARKER: &str = "/etc/cluster/data.json";

/// How the cluster is backed up ([`crate::backup::BackupConfig`]); there is none without a repository.
pub const BACKUP: &str = "/etc/cluster/backup.json";
/// pgBackRest's configuration, with the repository's keys; a DBA's own in /etc/pgbackrest is left alone.
pub const PGBACKREST_CONF: &str = "/etc/cluster/pgbackrest.conf";
/// The CA that the repository's certificate is checked with, where the inventory names one.
pub const BACKUP_CA: &str = "/etc/cluster/backup-ca.crt";
/// What the node knows of backups ([`crate::backup::BackupStatus`]); belongs to postgres.
pub const BACKUP_STATUS: &str = "/var/lib/cluster-backup/status.json";
/// Why WAL is not archived ([`crate::backup::Failing`]), while it is not; belongs to postgres.
pub const PUSH_FAILS: &str = "/var/lib/cluster-backup/push-fails.json";
/// What the node knows of restores that it has tried ([`crate::backup::Proofs`]); belongs to postgres.
pub const PROOFS: &str = "/var/lib/cluster-backup/proofs.json";
/// Locked while a restore is tried; belongs to postgres.
pub const PROOF_LOCK: &str = "/var/lib/cluster-backup/proof.lock";

/// The directory of everything of the guard's that outlives a boot.
pub const STATE: &str = "/var/lib/cluster";
/// The guard's hard state: what it has granted.
pub const HARD_STATE: &str = "/var/lib/cluster/lease.json";
/// What happened, a line of JSON each ([`crate::journal::Line`]).
pub const JOURNAL: &str = "/var/lib/cluster/journal.jsonl";
/// What the last rejoin gave up ([`crate::journal::LostTransactions`]).
pub const LOST: &str = "/var/lib/cluster/lost.json";
/// There while a rejoin rewinds or replaces the data, with a word for how far it is: `rewind`, `clone`, or `placing`.
pub const REWINDING: &str = "/var/lib/cluster/rewinding";
/// WAL that a rejoin has set aside.
pub const KEPT_WAL: &str = "/var/lib/cluster/kept";

/// Why a rejoin could not rewind, in words; only while one is under way.
pub const NOT_REWOUND: &str = "/run/cluster/not-rewound";

/// There while this standby is being promoted: nothing may hold it up then.
pub const PROMOTING: &str = "/run/cluster/promoting";
/// Written when the repository has not answered a standby, which does without it for a while; belongs to postgres.
pub const REPOSITORY_AWAY: &str = "/var/lib/cluster-backup/away";
/// Locked while `cluster restore` exchanges the data directory: PostgreSQL does not start then, whoever asks for it.
pub const SWAP_LOCK: &str = "/run/cluster/swap.lock";
/// Settings that the guard has PostgreSQL obey for as long as its disk is full; our settings include it. Not beside
/// them: a full disk could not take it, a clone would copy it, and it is over with the boot.
pub const FULL_DISK_CONF: &str = "/run/cluster/full-disk.conf";
/// The name of the file that holds room in reserve, on the file system of the WAL.
pub const RESERVE: &str = "cluster-reserve";

/// Where the guard answers requests.
pub const SOCKET: &str = "/run/cluster/guard.sock";
/// The port on which guards listen to each other (UDP).
pub const GUARD_PORT: u16 = 5480;

/// The nodes' program.
pub const PROGRAM: &str = "/usr/local/bin/cluster-node";
/// The home of the OS user postgres; the password file lies in it.
pub const POSTGRES_HOME: &str = "/var/lib/postgresql";
/// The passwords with which nodes reach each other.
pub const PGPASS: &str = "/var/lib/postgresql/.pgpass";

/// The data directory of a major version.
pub fn data_directory(version: u32) -> String {
    format!("{POSTGRES_HOME}/{version}/main")
}

/// Where a restore is tried, and thrown away: on the disk of the data.
pub fn proof_directory(version: u32) -> String {
    format!("{POSTGRES_HOME}/{version}/cluster-proof")
}

/// The path of one of PostgreSQL's own programs, past Debian's wrappers.
pub fn bin(version: u32, program: &str) -> String {
    format!("/usr/lib/postgresql/{version}/bin/{program}")
}

/// PostgreSQL's systemd unit.
pub fn unit(version: u32) -> String {
    format!("postgresql@{version}-main.service")
}
