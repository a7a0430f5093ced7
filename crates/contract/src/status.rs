//! What a guard says of itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Generation, HolderReport, Millis, Term, WalPosition};

/// What `cluster-node status --json` prints. What an earlier guard does not say has its default.
///
/// The words in `rename` are older than the names. They are on the wire and do not change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What PostgreSQL was last seen to be.
    pub postgresql: Server,
    /// The name of the node that holds the lease, as far as this voter knows.
    pub holder: Option<String>,
    /// Whether this node holds the lease.
    pub holds: bool,
    /// Whether it took it by force, and no majority has granted it since.
    pub forced: bool,
    /// For how long this node still holds; none where it does not, and where leases do not run out.
    #[serde(rename = "holds_for")]
    pub lease_left: Option<Millis>,
    /// The length of the leases that this guard requests; 0 from guards that do not say it.
    #[serde(rename = "lease")]
    pub lease_length: Millis,
    /// The highest term granted here.
    pub term: Term,
    /// The number of the configuration that this guard knows; none from a guard of before there were numbers.
    pub generation: Option<Generation>,
    /// The members' names; none from a guard that does not say it.
    pub members: Option<Vec<String>>,
    /// The WAL that this node has; none if that cannot be told.
    pub position: Option<WalPosition>,
    /// What the last holder reported, as far as this voter has heard.
    pub report: Option<HolderReport>,
    /// Whether what was written here beside another primary is kept until a person gives it up.
    #[serde(rename = "kept")]
    pub diverged_data_kept: bool,
    /// Whether one lost node leaves a majority: without that there is no automatic failover.
    #[serde(rename = "failover")]
    pub automatic_failover: bool,
    /// Whether a person has paused this node.
    pub paused: bool,
    /// When the pause began, in RFC 3339; none where the file was made by hand.
    pub paused_since: Option<String>,
    /// Whether the floating IP led here when that was last known; none before the first look that was answered, and on other
    /// nodes. Earlier builds said no where the API had not answered.
    pub has_address: Option<bool>,
    /// The job that is under way.
    #[serde(rename = "doing")]
    pub job: Option<JobKind>,
    /// Why nothing else is done, for people.
    pub why: String,
    /// What went wrong last, and has not gone right since, for people.
    pub trouble: Option<String>,
    /// Why this guard cannot persist what it grants, for people. It grants nothing then.
    #[serde(rename = "disk")]
    pub cannot_persist: Option<String>,
    /// Why its disk takes nothing else, for people: no journal is written then, and nothing can rejoin.
    #[serde(rename = "room")]
    pub no_room: Option<String>,
    /// How much room PostgreSQL has; none where that cannot be told, and from guards that do not say it.
    pub space: Option<Space>,
    /// Whether PostgreSQL runs programs or libraries that were replaced since: an upgrade that is not in effect.
    #[serde(rename = "outdated")]
    pub runs_old_program: bool,
    /// The names of guards that have not been heard of for too long, and for how long.
    #[serde(rename = "deaf_to")]
    pub silent_peers: BTreeMap<String, Millis>,
    /// Whether a `standby.signal` lies beside a server that takes writes: it does no harm while that runs, and would make
    /// a standby of it when it starts again.
    pub stray_standby_signal: bool,
    /// What this guard did last, for people.
    #[serde(rename = "last")]
    pub last_action: Option<String>,
}

impl Status {
    /// Whether this node takes writes, with the lease.
    pub fn leads(&self) -> bool {
        self.holds && self.postgresql == Server::Primary
    }
}

/// The file system that PostgreSQL is closest to filling. All figures are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    pub level: Level,
    /// For how long it is at that level, in milliseconds.
    pub level_for: Millis,
    /// A directory on it: that of the WAL, or that of the data.
    pub path: String,
    pub size: u64,
    /// What postgres may still take, the guard's reserve not counted.
    pub free: u64,
    /// What the reserve takes.
    pub reserve: u64,
    /// Below this writes are refused.
    pub full_below: u64,
    /// From here on they are taken again.
    pub writes_again_at: u64,
    /// Whether PostgreSQL has been told to refuse writes.
    pub refuses_writes: bool,
    /// Why it could not be told, or why the reserve could not be made, for people.
    pub trouble: Option<String>,
    /// What takes the room, as far as PostgreSQL can tell; none where nobody has looked.
    pub wal: Option<WalKept>,
}

/// What is in the directory of the WAL, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WalKept {
    /// Its size in bytes.
    pub bytes: u64,
    /// How many of its files wait to be archived.
    pub unarchived: u64,
    /// Replication slots that nobody reads, and how many bytes of WAL each keeps.
    pub idle_slots: BTreeMap<String, u64>,
}

/// How much room there is, and what is done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Enough.
    #[default]
    Ample,
    /// There is a warning.
    Low,
    /// Slots of standbys that are gone are dropped, and then the reserve is given up.
    Scarce,
    /// Writes are refused.
    Full,
    /// A word of another build.
    #[serde(other)]
    Unknown,
}

/// What a PostgreSQL server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// It takes writes.
    Primary,
    /// It is a standby, or on its way up.
    Standby,
    /// It does not answer.
    #[default]
    #[serde(other)]
    Down,
}

/// Kinds of jobs: what takes a guard a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Starts PostgreSQL.
    Start,
    /// Promotes the standby.
    Promote,
    /// Makes a standby of what was a primary or has diverged, by a rewind or a fresh clone.
    Rejoin,
    /// Stops the primary, for its successor to take over.
    HandOver,
    /// A word of another build.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobKind::Start => "start",
            JobKind::Promote => "promotion",
            JobKind::Rejoin => "rejoin",
            JobKind::HandOver => "hand-over",
            JobKind::Unknown => "another job",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_of_another_build_is_read() {
        let before = r#"{"postgresql":"primary","holder":"pg1","holds":true,"term":4,"why":"","position":{"timeline":1,"lsn":9}}"#;
        let status: Status = serde_json::from_str(before).unwrap();
        assert!(
            status.leads() && status.generation.is_none() && status.members.is_none() && status.job.is_none()
        );
        let after = r#"{"postgresql":"starting","holds":false,"doing":"backup","moon":"full"}"#;
        let status: Status = serde_json::from_str(after).unwrap();
        assert_eq!((status.postgresql, status.job), (Server::Down, Some(JobKind::Unknown)));
    }

    #[test]
    fn what_is_written_is_read() {
        let status = Status {
            postgresql: Server::Standby,
            job: Some(JobKind::HandOver),
            generation: Some(3),
            silent_peers: [("pg3".to_owned(), 21_000)].into(),
            ..Status::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""doing":"handover""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
