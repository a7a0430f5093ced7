//! What guards say to each other: the questions, the answers, and why a voter says no.

use std::fmt;

use cluster_contract::timing::default_lease;
use cluster_contract::{Generation, Millis, NodeId, Position, Term};
use serde::{Deserialize, Serialize};

/// What guards say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Would you grant me this term?
    Canvass {
        /// The term.
        term: Term,
        /// What I have.
        position: Position,
        /// The configuration of members that I know. Guards that do not say it know the first.
        #[serde(default)]
        generation: Generation,
    },
    /// Whether I would.
    Straw {
        /// The term that was asked about.
        term: Term,
        /// Why not; none for yes.
        refusal: Option<Refusal>,
        /// The highest term that I have granted.
        known: Term,
        /// Whether my own node has a standby that could take over as well.
        #[serde(default)]
        sound: bool,
    },
    /// Grant me this term, or renew it.
    Ask {
        /// The term.
        term: Term,
        /// My clock before I sent this. It comes back with the answer and means nothing to anybody else.
        asked_at: Millis,
        /// What I have.
        position: Position,
        /// Whether I take writes.
        writable: bool,
        /// For how long: [`ENDLESS`] where leases do not run out. Guards that do not say it know one length only.
        #[serde(default = "default_lease")]
        lease: Millis,
        /// Whether I hold without a majority: a person has said that the others are lost.
        #[serde(default)]
        forced: bool,
        /// The term with which this claim began; it may have been raised since. Guards that do not say it send 0.
        #[serde(default)]
        won: Term,
        /// The configuration of members that I know.
        #[serde(default)]
        generation: Generation,
        /// The highest term that a majority has granted to this claim: `term` may have been raised beyond it, by a node
        /// whose clock has stood still and that knows of no other. None from guards that do not say it.
        #[serde(default)]
        confirmed: Option<Term>,
    },
    /// Whether I do.
    Answer {
        /// The term that was asked for.
        term: Term,
        /// `asked_at` of the question.
        asked_at: Millis,
        /// Why not; none for yes.
        refusal: Option<Refusal>,
        /// The highest term that I have granted.
        known: Term,
        /// For how long I have granted it, whatever my own configuration says.
        #[serde(default = "default_lease")]
        lease: Millis,
    },
    /// I hold nothing any more, of this term or an earlier one, and no PostgreSQL of mine takes writes.
    Release {
        /// My last term.
        term: Term,
        /// Who is to have the next one.
        heir: Option<NodeId>,
        /// The last byte that I know to have written: all of it after a clean stop, at least so much after a crash.
        #[serde(default)]
        end: Option<Position>,
    },
}

/// Why a voter does not grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is not a member of this cluster.
    Stranger,
    /// It knows older members than this voter: two majorities need not meet.
    OldMembers {
        /// This voter's configuration.
        known: Generation,
    },
    /// This voter cannot write down what it grants.
    NoMemory,
    /// This voter's node has data of its own, and is looking how much before it prefers another.
    Looking,
    /// The term is used up.
    Past,
    /// Somebody's lease may still run.
    Held {
        /// Whose.
        by: Option<NodeId>,
        /// For how long it may.
        millis: Millis,
    },
    /// The last holder named another one.
    Promised {
        /// Whom.
        heir: NodeId,
    },
    /// It lacks more of what the last holder reported than the inventory allows.
    Lags {
        /// How much, in bytes.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// It lacks some of what the last holder has, which let go a moment ago and may be back at once.
    Lacks {
        /// How much, in bytes.
        bytes: u64,
    },
    /// It has missed a promotion.
    OldTimeline {
        /// The last holder's.
        needed: u32,
    },
    /// Another candidate has more, or as much and the lower id.
    Better {
        /// Who.
        node: NodeId,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Stranger => write!(f, "the candidate is not a member of this cluster"),
            Refusal::OldMembers { known } => {
                write!(f, "the candidate's membership is older than configuration {known}")
            }
            Refusal::NoMemory => write!(f, "this guard cannot write to its disk and grants nothing"),
            Refusal::Looking => write!(f, "this node is checking its own WAL position first"),
            Refusal::Past => write!(f, "the term is stale"),
            Refusal::Held { by: Some(by), millis } => {
                write!(
                    f,
                    "node {by} may hold the lease for another {}.{} s",
                    millis / 1000,
                    millis % 1000 / 100
                )
            }
            Refusal::Held { by: None, millis } => {
                write!(
                    f,
                    "this guard has just started and grants nothing for another {}.{} s",
                    millis / 1000,
                    millis % 1000 / 100
                )
            }
            Refusal::Promised { heir } => write!(f, "the lease is reserved for node {heir}"),
            Refusal::Lags { bytes, limit } => {
                write!(f, "the candidate is {bytes} bytes of WAL behind; the limit is {limit}")
            }
            Refusal::Lacks { bytes } => {
                write!(
                    f,
                    "the candidate is {bytes} bytes of WAL behind the last primary, which is expected back"
                )
            }
            Refusal::OldTimeline { needed } => {
                write!(f, "the candidate missed the promotion to timeline {needed}")
            }
            Refusal::Better { node } => write!(f, "node {node} is the better candidate"),
        }
    }
}
