//! What guards say to each other: the requests, the replies, and why a voter says no.
//!
//! Guards of two builds talk to each other while `cluster up` runs. So the words on the wire do not change: where a
//! name has become a better one since, `#[serde(rename)]` keeps the word. A field is added with a default.

use std::fmt;

use cluster_contract::timing::default_lease;
use cluster_contract::{Generation, Millis, NodeId, Term, WalPosition};
use serde::{Deserialize, Serialize};

/// What guards say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Would you grant me this term?
    #[serde(rename = "canvass")]
    PreVote {
        term: Term,
        /// The WAL that I have.
        position: WalPosition,
        /// The configuration that I know. Guards that do not say it know the first.
        #[serde(default)]
        generation: Generation,
    },
    /// Whether I would grant it.
    #[serde(rename = "straw")]
    PreVoteReply {
        /// The term that was asked about.
        term: Term,
        /// Why not; none for yes.
        refusal: Option<Refusal>,
        /// The highest term that I have granted.
        #[serde(rename = "known")]
        highest_term: Term,
        /// Whether my own node has a standby that could take over as well.
        #[serde(default, rename = "sound")]
        sound_standby: bool,
    },
    /// Grant me this term, or renew it.
    #[serde(rename = "ask")]
    RequestLease {
        term: Term,
        /// My clock before I sent this. It comes back with the reply and means nothing to anybody else.
        asked_at: Millis,
        /// The WAL that I have.
        position: WalPosition,
        /// Whether I take writes.
        writable: bool,
        /// For how long: [`ENDLESS`] where leases do not run out. Guards that do not say it know one length only.
        ///
        /// [`ENDLESS`]: cluster_contract::timing::ENDLESS
        #[serde(default = "default_lease")]
        lease: Millis,
        /// Whether I hold without a majority: a person has said that the others are lost.
        #[serde(default)]
        forced: bool,
        /// The term with which this claim began; it may have been raised since. Guards that do not say it send 0.
        #[serde(default, rename = "won")]
        claim_term: Term,
        /// The configuration that I know.
        #[serde(default)]
        generation: Generation,
        /// The highest term that a majority has granted to this claim: `term` may have been raised beyond it, by a node
        /// whose clock has stood still and that knows of no other. None from guards that do not say it.
        #[serde(default, rename = "confirmed")]
        confirmed_term: Option<Term>,
    },
    /// Whether I have granted it.
    #[serde(rename = "answer")]
    LeaseReply {
        /// The term that was requested.
        term: Term,
        /// `asked_at` of the request.
        asked_at: Millis,
        /// Why not; none for yes.
        refusal: Option<Refusal>,
        /// The highest term that I have granted.
        #[serde(rename = "known")]
        highest_term: Term,
        /// For how long I have granted it, whatever my own configuration says.
        #[serde(default = "default_lease")]
        lease: Millis,
    },
    /// I hold nothing any more, of this term or an earlier one, and no PostgreSQL of mine takes writes.
    Release {
        /// My last term.
        term: Term,
        /// The one node that may have the next term; none for any.
        #[serde(rename = "heir")]
        successor: Option<NodeId>,
        /// The end of the WAL that I know to have written: all of it after a clean stop, at least so much after a
        /// crash.
        #[serde(default)]
        end: Option<WalPosition>,
    },
}

/// Why a voter does not grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The candidate, or this voter, is not a member of this cluster.
    #[serde(rename = "stranger")]
    NotMember,
    /// The candidate knows an older configuration than this voter: two majorities need not meet.
    #[serde(rename = "old_members")]
    StaleConfiguration {
        /// The configuration that this voter knows.
        #[serde(rename = "known")]
        generation: Generation,
    },
    /// This voter cannot write down what it grants.
    #[serde(rename = "no_memory")]
    CannotPersist,
    /// This voter's node has data of its own, and finds out how much before it prefers another.
    #[serde(rename = "looking")]
    InspectingOwnWal,
    /// This voter has granted a later term, or this one to another node.
    #[serde(rename = "past")]
    StaleTerm,
    /// Somebody's lease may still run.
    #[serde(rename = "held")]
    LeaseActive {
        /// The holder; none where this voter has just started and does not know.
        by: Option<NodeId>,
        /// For how long it may still run.
        millis: Millis,
    },
    /// The last holder named another node.
    #[serde(rename = "promised")]
    ReservedForSuccessor {
        #[serde(rename = "heir")]
        successor: NodeId,
    },
    /// The candidate lacks more of what the last holder reported than the inventory allows.
    #[serde(rename = "lags")]
    BehindLagLimit {
        /// How much WAL it lacks.
        bytes: u64,
        /// How much it may lack.
        #[serde(rename = "limit")]
        limit_bytes: u64,
    },
    /// The candidate lacks some of what the last holder has, which let go a moment ago and may be back at once.
    #[serde(rename = "lacks")]
    MissingWal { bytes: u64 },
    /// The candidate has missed a promotion.
    #[serde(rename = "old_timeline")]
    StaleTimeline {
        /// The last holder's timeline.
        needed: u32,
    },
    /// Another candidate has more WAL, or as much and the lower id.
    #[serde(rename = "better")]
    BetterCandidate { node: NodeId },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotMember => write!(f, "the candidate is not a member of this cluster"),
            Refusal::StaleConfiguration { generation } => {
                write!(f, "the candidate's membership is older than configuration {generation}")
            }
            Refusal::CannotPersist => write!(f, "this guard cannot write to its disk and grants nothing"),
            Refusal::InspectingOwnWal => write!(f, "this node is checking its own WAL position first"),
            Refusal::StaleTerm => write!(f, "the term is stale"),
            Refusal::LeaseActive { by: Some(by), millis } => {
                write!(
                    f,
                    "node {by} may hold the lease for another {}.{} s",
                    millis / 1000,
                    millis % 1000 / 100
                )
            }
            Refusal::LeaseActive { by: None, millis } => {
                write!(
                    f,
                    "this guard has just started and grants nothing for another {}.{} s",
                    millis / 1000,
                    millis % 1000 / 100
                )
            }
            Refusal::ReservedForSuccessor { successor } => {
                write!(f, "the lease is reserved for node {successor}")
            }
            Refusal::BehindLagLimit { bytes, limit_bytes } => {
                write!(f, "the candidate is {bytes} bytes of WAL behind; the limit is {limit_bytes}")
            }
            Refusal::MissingWal { bytes } => {
                write!(
                    f,
                    "the candidate is {bytes} bytes of WAL behind the last primary, which is expected back"
                )
            }
            Refusal::StaleTimeline { needed } => {
                write!(f, "the candidate missed the promotion to timeline {needed}")
            }
            Refusal::BetterCandidate { node } => write!(f, "node {node} is the better candidate"),
        }
    }
}
