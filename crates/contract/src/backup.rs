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
    /// WAL with writes in it is archived at least this often, in seconds.
    #[serde(default = "a_minute")]
    pub archive_within_s: u64,
    /// A restore is proved when the last proof is older than this, in seconds; never without it.
    #[serde(default)]
    pub prove_every_s: Option<u64>,
}

fn a_minute() -> u64 {
    60
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
    /// The object storage's refusal, if it was one.
    pub refusal: Option<Refusal>,
}

impl BackupStatus {
    /// What the object storage has refused last, reading or writing.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let of_archiver = self.archive.failing.as_ref().and_then(|failing| failing.refusal.as_ref());
        self.refusal.iter().chain(of_archiver)
    }
}

/// What an object storage has answered instead of doing what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When what was refused began: what has been put right since then counts for the next try.
    pub at: i64,
    /// S3's error code, such as `NoSuchBucket` (Amazon S3 API reference, "Error responses").
    pub code: String,
}

impl Refusal {
    /// Whether another key, or a bucket that is made anew, would be the remedy.
    pub fn is_for_want_of_a_key(&self) -> bool {
        ["NoSuchBucket", "InvalidAccessKeyId"].contains(&self.code.as_str())
    }
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
    /// When the last file was finished that is archived with all before it: later writes exist in the cluster alone.
    pub reaches: Option<i64>,
    /// Why nothing is archived; none while it is.
    pub failing: Option<Failing>,
}

/// Tries to archive a WAL file, none of which has gone well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failing {
    /// When the first one failed.
    pub since: i64,
    /// When the last one did.
    pub at: i64,
    /// Why, for people.
    pub why: String,
    /// The object storage's refusal, if that is why.
    pub refusal: Option<Refusal>,
}

/// A restore that was tried beside a standby: what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proof {
    /// When it ended.
    pub at: i64,
    /// pgBackRest's name for the backup; none if it did not come to choosing one.
    pub backup: Option<String>,
    /// How long all of it took, in seconds.
    pub seconds: u64,
    /// Of these, copying the backup.
    pub copy_seconds: u64,
    /// Replaying WAL.
    pub replay_seconds: u64,
    /// Checking.
    pub check_seconds: u64,
    /// What the copy took on the disk when it had replayed, in bytes.
    pub bytes: u64,
    /// The time of the newest transaction in it.
    pub restored_to: Option<i64>,
    /// Where its WAL ends.
    pub end_lsn: Option<Lsn>,
    /// How much WAL it lacked of what the standby had replayed when the proof began, in bytes.
    pub missing_bytes: Option<u64>,
    /// How much older its newest transaction was than the standby's then, in seconds.
    pub missing_seconds: Option<u64>,
    /// How many databases were checked.
    pub databases: u64,
    /// What they were checked with.
    pub checked: Vec<String>,
    /// Why it failed, or was not tried, for people; none if all of it went well.
    pub error: Option<String>,
    /// Whether it was not tried, because the node has no room for it.
    pub impossible: bool,
}

/// A proof that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proving {
    pub since: i64,
    /// What it does now, for people.
    pub doing: String,
}

/// What a node knows of the restores that it has tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proofs {
    /// When this node first could have proved one: it was a standby, and there was a backup.
    pub possible_since: Option<i64>,
    /// The last one, however it ended.
    pub last: Option<Proof>,
    /// The last one that went well.
    pub good: Option<Proof>,
    /// How many have failed since.
    pub failures: u32,
    pub running: Option<Proving>,
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
    fn a_configuration_of_an_earlier_build_proves_nothing() {
        let config: BackupConfig =
            serde_json::from_str(r#"{"stanza":"demo","full_every_s":604800,"differential_every_s":86400}"#)
                .unwrap();
        assert_eq!((config.archive_within_s, config.prove_every_s), (60, None));
        let proofs: Proofs = serde_json::from_str(r#"{"good":{"at":5,"moon":"full"}}"#).unwrap();
        assert_eq!(proofs.good, Some(Proof { at: 5, ..Proof::default() }));
    }

    #[test]
    fn pgbackrests_words_are_written_as_they_are_read() {
        for kind in [BackupKind::Full, BackupKind::Differential, BackupKind::Incremental] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.word()));
        }
    }
}
