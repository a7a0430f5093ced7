//! What happened on a node: lines of JSON, each for people and for programs.

use serde::{Deserialize, Serialize};

use crate::status::{Job, Server};
use crate::{Millis, Term};

/// A line of a node's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, on the node's own clock, in RFC 3339.
    pub at: String,
    /// When, in milliseconds of `CLOCK_BOOTTIME`.
    #[serde(default)]
    pub clock: Millis,
    /// What, for programs.
    #[serde(flatten)]
    pub event: Event,
    /// What, for people. No program reads it.
    pub text: String,
    /// Since when it had been so, where that is known; as `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What may happen. What an earlier build did not write down is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// The guard has started.
    Started,
    /// It has started within a lease that it holds still.
    Holds {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// A majority would grant the lease; it is asked to.
    Asked {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// This voter has granted a term.
    Granted {
        /// The term.
        #[serde(default)]
        term: Term,
        /// To whom, by name.
        #[serde(default)]
        to: Option<String>,
    },
    /// This node holds the lease.
    Won {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// The lease goes on under a higher term.
    Raised {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// A majority was not there in time.
    GaveUp {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// Nobody has renewed the lease in time.
    Expired {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// A majority has granted to another meanwhile: this node's clock has stood still.
    Superseded {
        /// The term of this node.
        #[serde(default)]
        term: Term,
    },
    /// This node holds by force, without a majority.
    Forced {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// What was taken by force a majority has granted since.
    Confirmed {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// This node held by force, and lets go.
    Yielded,
    /// This node has let go of the lease.
    Released {
        /// The term.
        #[serde(default)]
        term: Term,
    },
    /// Another voter refuses.
    Refused,
    /// A job has begun.
    Begun {
        /// Which.
        #[serde(default)]
        job: Option<Job>,
    },
    /// A job was done.
    Done {
        /// Which.
        #[serde(default)]
        job: Option<Job>,
    },
    /// A job has failed.
    Failed {
        /// Which.
        #[serde(default)]
        job: Option<Job>,
    },
    /// PostgreSQL was seen to be something else than before.
    Postgresql {
        /// What; none from an earlier build.
        #[serde(default)]
        server: Option<Server>,
    },
    /// PostgreSQL's processes have ended.
    Ended,
    /// PostgreSQL's processes were killed.
    Fenced,
    /// They could not be.
    FenceFailed,
    /// The primary has not been heard of for too long.
    Silent {
        /// Its name.
        #[serde(default)]
        about: Option<String>,
    },
    /// The provider says that the holder's host is off.
    Off {
        /// Its name.
        #[serde(default)]
        about: Option<String>,
    },
    /// The floating IP leads here now.
    Address,
    /// This standby has WAL that the primary's history lacks.
    Diverged,
    /// What was written here beside another primary is kept.
    Kept,
    /// What a node that was rewound or cloned gave up.
    Lost {
        /// What.
        lost: Lost,
    },
    /// The data could not be rewound, and was cloned.
    Cloned,
    /// A promotion is under way.
    Promoting,
    /// Readers' sessions were ended.
    Readers,
    /// A job waits for a package that is being changed.
    Waits,
    /// It has waited long enough.
    Waited,
    /// Something was put right.
    Mended,
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
            Event::Holds { term }
            | Event::Asked { term }
            | Event::Granted { term, .. }
            | Event::Won { term }
            | Event::Raised { term }
            | Event::GaveUp { term }
            | Event::Expired { term }
            | Event::Superseded { term }
            | Event::Forced { term }
            | Event::Confirmed { term }
            | Event::Released { term } => Some(term).filter(|term| *term > 0),
            _ => None,
        }
    }
}

/// Transactions that an old primary had committed and the new one never got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// On which timeline.
    pub timeline: u32,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// How many transactions.
    pub transactions: u64,
    /// Where their WAL is, on the old primary.
    pub wal: String,
    /// The old primary.
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
        assert_eq!(read(&format!(r#"{{{stamp},"what":"begun"}}"#)), Event::Begun { job: None });
        assert_eq!(read(&format!(r#"{{{stamp},"what":"moonrise","full":true}}"#)), Event::Unknown);
        assert_eq!(
            read(&format!(r#"{{{stamp},"what":"begun","job":"backup"}}"#)),
            Event::Begun { job: Some(Job::Unknown) }
        );
        // A line without the time within the boot, and one that says since when.
        let line = r#"{"at":"2026-01-02T03:04:05Z","what":"silent","text":"?","about":"pg1","since":"2026-01-02T03:04:01Z"}"#;
        let line: Line = serde_json::from_str(line).unwrap();
        assert_eq!(line.event, Event::Silent { about: Some("pg1".into()) });
        assert!(line.since.is_some());
    }

    #[test]
    fn what_is_written_is_read() {
        for event in [
            Event::Started,
            Event::Granted { term: 3, to: Some("pg1".into()) },
            Event::Done { job: Some(Job::Promote) },
            Event::Postgresql { server: Some(Server::Primary) },
            Event::Lost {
                lost: Lost {
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
