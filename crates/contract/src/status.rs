//! What a guard says of itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Generation, Millis, Position, Report, Term};

/// What `cluster-node status --json` prints. What an earlier guard does not say has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What PostgreSQL was last seen to be.
    pub postgresql: Server,
    /// The node that holds the lease, as far as this voter knows.
    pub holder: Option<String>,
    /// Whether this node holds it.
    pub holds: bool,
    /// Whether it took it by force, and no majority has granted it since.
    pub forced: bool,
    /// For how long it still does, in milliseconds; none where leases do not run out.
    pub holds_for: Option<Millis>,
    /// The length of the leases that this guard asks for, in milliseconds; 0 from guards that do not say it.
    pub lease: Millis,
    /// The highest term granted here.
    pub term: Term,
    /// The number of the members' configuration that this guard knows; none from a guard of before there were numbers.
    pub generation: Option<Generation>,
    /// The members' names; none from a guard that does not say it.
    pub members: Option<Vec<String>>,
    /// The WAL that is here.
    pub position: Option<Position>,
    /// What the last holder reported, as far as this voter has heard.
    pub report: Option<Report>,
    /// Whether what was written here beside another primary is kept until a person gives it up.
    pub kept: bool,
    /// Whether one lost node leaves a majority: without that there is no automatic failover.
    pub failover: bool,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Since when.
    pub paused_since: Option<String>,
    /// Whether the address was seen here at the last look; none before the first, and on other nodes.
    pub has_address: Option<bool>,
    /// What is being done.
    pub doing: Option<Job>,
    /// Why nothing else is, for people.
    pub why: String,
    /// What went wrong last, and has not gone right since, for people.
    pub trouble: Option<String>,
    /// Why this guard cannot remember what it grants; a voter without memory grants nothing.
    pub disk: Option<String>,
    /// Why its disk takes nothing else: no journal is written then, and nothing can rejoin.
    pub room: Option<String>,
    /// Whether PostgreSQL runs a program that was replaced since: an upgrade that is not in effect.
    pub outdated: bool,
    /// Guards that have not been heard of for long, and for how many milliseconds.
    pub deaf_to: BTreeMap<String, Millis>,
    /// Whether a `standby.signal` lies beside a server that takes writes: it does no harm while that runs, and would make
    /// a standby of it when it starts again.
    pub stray_standby_signal: bool,
    /// What it last did, for people.
    pub last: Option<String>,
}

impl Status {
    /// Whether this node takes writes, with the lease.
    pub fn leads(&self) -> bool {
        self.holds && self.postgresql == Server::Primary
    }
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

/// What a guard may be busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// It starts PostgreSQL.
    Start,
    /// It promotes.
    Promote,
    /// It makes a standby of what was a primary, or a fresh clone.
    Rejoin,
    /// It stops, so that another takes over.
    HandOver,
    /// A word of another build.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Start => "start",
            Job::Promote => "promotion",
            Job::Rejoin => "rejoin",
            Job::HandOver => "hand-over",
            Job::Unknown => "another job",
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
            status.leads()
                && status.generation.is_none()
                && status.members.is_none()
                && status.doing.is_none()
        );
        let after = r#"{"postgresql":"starting","holds":false,"doing":"backup","moon":"full"}"#;
        let status: Status = serde_json::from_str(after).unwrap();
        assert_eq!((status.postgresql, status.doing), (Server::Down, Some(Job::Unknown)));
    }

    #[test]
    fn what_is_written_is_read() {
        let status = Status {
            postgresql: Server::Standby,
            doing: Some(Job::HandOver),
            generation: Some(3),
            deaf_to: [("pg3".to_owned(), 21_000)].into(),
            ..Status::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""doing":"handover""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
