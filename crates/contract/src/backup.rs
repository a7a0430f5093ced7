//! Backups: what `cluster up` tells the nodes of them, and what the nodes say.
//!
//! The repository itself, with its keys, is in pgBackRest's own configuration ([`crate::paths::PGBACKREST_CONF`]).
//! Times are seconds since 1970.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::position::Lsn;

/// How this cluster is backed up. Where there is no such file, there is no repository, and WAL is archived nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupConfig {
    /// pgBackRest's name for this cluster in the repository: the cluster's own.
    pub stanza: String,
    /// A full backup is due when the last one is older than this, in seconds.
    pub full_every_s: u64,
    /// A differential backup is due when the last backup of any kind is older than this, in seconds.
    pub differential_every_s: u64,
}

/// How much a backup copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BackupKind {
    /// Everything.
    #[serde(rename = "full")]
    Full,
    /// What has changed since the last full backup.
    #[serde(rename = "diff")]
    Differential,
    /// What has changed since the last backup. `cluster` makes none; somebody else may have.
    #[serde(rename = "incr")]
    Incremental,
    /// A word of another build.
    #[serde(other)]
    Unknown,
}

impl BackupKind {
    /// pgBackRest's word.
    pub fn word(self) -> &'static str {
        match self {
            BackupKind::Full => "full",
            BackupKind::Differential => "diff",
            BackupKind::Incremental => "incr",
            BackupKind::Unknown => "unknown",
        }
    }
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackupKind::Full => "full",
            BackupKind::Differential => "differential",
            BackupKind::Incremental => "incremental",
            BackupKind::Unknown => "unknown",
        })
    }
}

/// A backup that has ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// pgBackRest's name for it.
    pub label: String,
    pub kind: BackupKind,
    /// When it began.
    pub started: i64,
    /// When it ended: the earliest moment to which it can be restored.
    pub ended: i64,
    /// The WAL position at its beginning.
    pub start_lsn: Lsn,
    /// The WAL position at its end.
    pub stop_lsn: Lsn,
    /// The timeline on which it ended.
    pub timeline: u32,
    /// What the data takes when restored, in bytes.
    pub size: u64,
    /// What it has added to the repository, in bytes.
    pub added: u64,
    /// Whether pgBackRest found pages whose checksum is wrong.
    #[serde(default)]
    pub damaged: bool,
}

/// A stretch of time to every moment of which the cluster can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The end of the backup that it begins with.
    pub from: i64,
    pub from_lsn: Lsn,
    /// When the last WAL file behind it was archived: no later commit can be restored.
    pub until: i64,
    /// Where that file ends.
    pub until_lsn: Lsn,
    /// The timeline on which it ends.
    pub timeline: u32,
}

/// WAL files that are not in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first.
    pub from: String,
    /// The last.
    pub to: String,
    /// How many.
    pub files: u64,
    /// Whether a later backup makes a fresh start behind it.
    pub closed_by_backup: bool,
}

/// What is in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contents {
    /// The oldest first.
    pub backups: Vec<Backup>,
    /// What can be restored: from the files that are there. The oldest first.
    pub intervals: Vec<Interval>,
    /// What is missing in between.
    pub gaps: Vec<Gap>,
}

/// What a node knows of the cluster's backups. Only the primary's is worth reading: nobody else looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupStatus {
    /// When this was written.
    pub at: i64,
    /// Whether this node backs up: it takes writes, with the lease.
    pub leads: bool,
    /// The backup that is under way.
    pub running: Option<Running>,
    /// What is in the repository; none before the first look.
    pub contents: Option<Contents>,
    /// How WAL gets there.
    pub archive: Archive,
    /// What went wrong with the repository or the last backup, and has not gone right since, for people.
    pub trouble: Option<String>,
    /// Since when.
    pub trouble_since: Option<i64>,
}

/// A backup that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub kind: BackupKind,
    pub since: i64,
    /// Why it was begun, for people.
    pub why: String,
}

/// How WAL gets to the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Archive {
    /// Files that wait to be archived.
    pub waiting: u64,
    /// For how long the oldest of them has waited, in seconds.
    pub oldest_waits_s: Option<u64>,
    /// The last file that was archived.
    pub last: Option<String>,
    /// When.
    pub last_at: Option<i64>,
    /// The bytes of WAL that wait.
    pub waiting_bytes: u64,
    /// What is free where the WAL lies, in bytes.
    pub free_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_another_build_is_read() {
        let status: BackupStatus = serde_json::from_str(r#"{"at":5,"moon":"full"}"#).unwrap();
        assert_eq!(status, BackupStatus { at: 5, ..BackupStatus::default() });
        let kind: BackupKind = serde_json::from_str("\"synthetic\"").unwrap();
        assert_eq!(kind, BackupKind::Unknown);
    }

    #[test]
    fn pgbackrests_words_are_written_as_they_are_read() {
        for kind in [BackupKind::Full, BackupKind::Differential, BackupKind::Incremental] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.word()));
        }
    }
}
