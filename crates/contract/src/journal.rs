//! A node's journal: lines of JSON, each for people and for programs.

use serde::{Deserialize, Serialize};

use crate::status::{JobKind, Level, Server};
use crate::{Millis, Term};

/// A line of a node's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// On the node's own clock, in RFC 3339.
    pub at: String,
    /// The same moment in milliseconds of `CLOCK_BOOTTIME`; 0 from builds that did not write it.
    #[serde(default)]
    pub clock: Millis,
    /// For programs.
    #[serde(flatten)]
    pub event: Event,
    /// For people. No program reads it.
    pub text: String,
    /// When it had begun, where it was noticed late; as `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What may happen. A `term` of 0, and none in an optional field, are from an earlier build, which did not write it.
///
/// The words in `rename` are older than the names. They are in journals and do not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The guard has started.
    Started,
    /// It has started within a lease that it holds still.
    #[serde(rename = "holds")]
    LeaseResumed {
        #[serde(default)]
        term: Term,
    },
    /// A majority has answered the pre-vote with yes: the lease is requested.
    #[serde(rename = "asked")]
    LeaseRequested {
        #[serde(default)]
        term: Term,
    },
    /// This voter has granted a term for the first time. Renewals are not written down.
    Granted {
        #[serde(default)]
        term: Term,
        /// The new holder's name.
        #[serde(default)]
        to: Option<String>,
    },
    /// This node holds the lease.
    #[serde(rename = "won")]
    LeaseWon {
        #[serde(default)]
        term: Term,
    },
    /// The lease goes on under a higher term.
    #[serde(rename = "raised")]
    TermRaised {
        #[serde(default)]
        term: Term,
    },
    /// The requested term was not granted by a majority in time.
    #[serde(rename = "gave_up")]
    NoMajority {
        #[serde(default)]
        term: Term,
    },
    /// No majority has renewed the lease in time.
    #[serde(rename = "expired")]
    LeaseExpired {
        #[serde(default)]
        term: Term,
    },
    /// A majority has granted to another meanwhile: this node's clock has stood still.
    Superseded {
        /// The term that this node held.
        #[serde(default)]
        term: Term,
    },
    /// This node holds by force, without a majority.
    #[serde(rename = "forced")]
    TakenByForce {
        #[serde(default)]
        term: Term,
    },
    /// What was taken by force a majority has granted since.
    #[serde(rename = "confirmed")]
    ForceConfirmed {
        #[serde(default)]
        term: Term,
    },
    /// This node held by force, and lets go: another node holds too.
    Yielded,
    /// This node has stepped down.
    #[serde(rename = "released")]
    LeaseReleased {
        #[serde(default)]
        term: Term,
    },
    /// Another voter refuses.
    Refused,
    #[serde(rename = "begun")]
    JobBegun {
        #[serde(default)]
        job: Option<JobKind>,
    },
    #[serde(rename = "done")]
    JobDone {
        #[serde(default)]
        job: Option<JobKind>,
    },
    #[serde(rename = "failed")]
    JobFailed {
        #[serde(default)]
        job: Option<JobKind>,
    },
    /// PostgreSQL was seen to be something else than before.
    #[serde(rename = "postgresql")]
    ServerChanged {
        #[serde(default)]
        server: Option<Server>,
    },
    /// PostgreSQL's processes have ended.
    #[serde(rename = "ended")]
    ServerEnded,
    /// PostgreSQL's processes were killed.
    Fenced,
    /// PostgreSQL's processes could not be killed.
    FenceFailed,
    /// The primary has not been heard of for too long.
    #[serde(rename = "silent")]
    PrimarySilent {
        /// The primary's name.
        #[serde(default)]
        about: Option<String>,
    },
    /// A primary that had not been heard of for too long is heard of again.
    #[serde(rename = "heard")]
    PrimaryHeard {
        /// The primary's name.
        #[serde(default)]
        about: Option<String>,
    },
    /// The provider says that the holder's host is off.
    #[serde(rename = "off")]
    HostOff {
        /// The holder's name.
        #[serde(default)]
        about: Option<String>,
    },
    /// The floating IP leads here now.
    #[serde(rename = "address")]
    AddressMoved,
    /// This standby has WAL that the primary's history lacks.
    Diverged,
    /// What was written here beside another primary is kept until a person gives it up.
    #[serde(rename = "kept")]
    DivergedDataKept,
    /// A rewind or a clone has given up transactions.
    #[serde(rename = "lost")]
    TransactionsLost { lost: LostTransactions },
    /// The data could not be rewound, and was cloned.
    Cloned,
    /// A promotion goes on, and takes its time.
    #[serde(rename = "promoting")]
    PromotionProgress,
    /// Readers' sessions were ended, since replay may have waited for them.
    #[serde(rename = "readers")]
    ReadersEnded,
    /// A job waits for a package that is being changed.
    #[serde(rename = "waits")]
    PackageWait,
    /// The package has been waited for long enough, and the job goes on.
    #[serde(rename = "waited")]
    PackageWaitGivenUp,
    /// The disk has more room than before, or less.
    Room {
        #[serde(default)]
        level: Level,
    },
    /// The reserve on the disk was made or given up.
    Reserve,
    /// PostgreSQL refuses writes, or takes them again, since the disk is full or is not any more.
    WritesRefused {
        #[serde(default)]
        refused: bool,
    },
    /// Something was put right.
    #[serde(rename = "mended")]
    Repaired,
    /// Something is not as it should be.
    Trouble,
    /// A person has paused the node.
    Paused,
    /// The pause has ended.
    Resumed,
    /// A word of another build.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// The term that it is about; none if it is about none, or an earlier build wrote it down.
    pub fn term(&self) -> Option<Term> {
        match *self {
            Event::LeaseResumed { term }
            | Event::LeaseRequested { term }
            | Event::Granted { term, .. }
            | Event::LeaseWon { term }
            | Event::TermRaised { term }
            | Event::NoMajority { term }
            | Event::LeaseExpired { term }
            | Event::Superseded { term }
            | Event::TakenByForce { term }
            | Event::ForceConfirmed { term }
            | Event::LeaseReleased { term } => Some(term).filter(|term| *term > 0),
            _ => None,
        }
    }
}

/// Transactions that an old primary had committed and the new one never got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostTransactions {
    /// The old primary's timeline.
    pub timeline: u32,
    /// The LSN at which the new primary's history left that timeline.
    pub from: String,
    /// The LSN of the last byte that the old primary wrote there.
    pub to: String,
    pub transactions: u64,
    /// The directory on the old primary that has their WAL.
    pub wal: String,
    /// The old primary's name; empty on its own disk, where it goes without saying.
    #[serde(default)]
    pub node: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_builds_are_read() {
        let read = |text: &str| serde_json::from_str::<Line>(text).unwrap().event;
        let stamp = r#""at":"2026-01-02T03:04:05Z","clock":7,"text":"?""#;
        assert_eq!(read(&format!(r#"{{{stamp},"what":"granted"}}"#)), Event::Granted { term: 0, to: None });
        assert_eq!(read(&format!(r#"{{{stamp},"what":"begun"}}"#)), Event::JobBegun { job: None });
        assert_eq!(read(&format!(r#"{{{stamp},"what":"moonrise","full":true}}"#)), Event::Unknown);
        assert_eq!(
            read(&format!(r#"{{{stamp},"what":"begun","job":"backup"}}"#)),
            Event::JobBegun { job: Some(JobKind::Unknown) }
        );
        // A line without the time within the boot, and one that says since when.
        let line = r#"{"at":"2026-01-02T03:04:05Z","what":"silent","text":"?","about":"pg1","since":"2026-01-02T03:04:01Z"}"#;
        let line: Line = serde_json::from_str(line).unwrap();
        assert_eq!(line.event, Event::PrimarySilent { about: Some("pg1".into()) });
        assert!(line.since.is_some());
    }

    #[test]
    fn what_is_written_is_read() {
        for event in [
            Event::Started,
            Event::Granted { term: 3, to: Some("pg1".into()) },
            Event::JobDone { job: Some(JobKind::Promote) },
            Event::ServerChanged { server: Some(Server::Primary) },
            Event::TransactionsLost {
                lost: LostTransactions {
                    timeline: 1,
                    from: "0/1".into(),
                    to: "0/2".into(),
                    transactions: 3,
                    wal: "/x".into(),
                    node: String::new(),
                },
            },
        ] {
            let line = Line { at: "now".into(), clock: 1, event, text: "so".into(), since: None };
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
