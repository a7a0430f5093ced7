//! What a guard is asked on its node, and its answer.

use serde::{Deserialize, Serialize};

/// What a guard is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What it sees and does ([`crate::status::Status`]).
    Status,
    /// May PostgreSQL start here as a primary?
    MayStart,
    /// May this standby promote?
    MayPromote,
    /// PostgreSQL is about to be restarted on purpose: the lease is kept meanwhile.
    Restart,
    /// Hold the lease without a majority, and promote: a person says that the others are lost.
    #[serde(rename = "take")]
    TakeByForce,
    /// Make a standby of this node now, rather than when it is next tried.
    Rejoin {
        /// Clone beside the old data, and rewind nothing.
        clone: bool,
    },
    /// Stop, and let this node take over.
    HandOver {
        /// The successor's name.
        to: String,
    },
}

impl Request {
    /// Whether only root may ask for it. The promote hook runs as postgres, and only asks; to be asked for a start has
    /// consequences, and systemd does it as root.
    pub fn needs_root(&self) -> bool {
        !matches!(self, Request::Status | Request::MayPromote)
    }
}

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub allowed: bool,
    /// Why, for programs. An earlier build does not say it.
    #[serde(default)]
    pub code: Code,
    /// Why, for people.
    pub why: String,
}

impl Verdict {
    pub fn yes(why: impl Into<String>) -> Verdict {
        Verdict { allowed: true, code: Code::Allowed, why: why.into() }
    }

    pub fn no(code: Code, why: impl Into<String>) -> Verdict {
        Verdict { allowed: false, code, why: why.into() }
    }
}

/// What a pause or its end has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// False where it was so already.
    pub changed: bool,
}

/// Why a guard says yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    Allowed,
    /// Only root may ask for it.
    NotRoot,
    /// A person has paused the node.
    Paused,
    /// The node holds by force, and no majority stands behind it.
    #[serde(rename = "forced")]
    HoldsByForce,
    /// The node does not hold the lease.
    NotHolder,
    /// The node holds the lease, or its server takes writes.
    TakesWrites,
    /// The successor that was named is none of the other data nodes.
    #[serde(rename = "no-such-node")]
    NoSuccessor,
    /// Another job is under way.
    Busy,
    /// The node has no data for it: it is the witness, or `cluster up` has not finished it.
    NoData,
    /// The node is a sound standby already.
    #[serde(rename = "standby")]
    AlreadyStandby,
    /// A rewind was begun and not ended.
    HalfRewound,
    /// The guard hears of another node that takes writes. Transient: it may fall silent.
    PrimaryHeard,
    /// The guard hears of no node that takes writes.
    NoPrimary,
    /// A lease that this voter has granted to another may still run. Transient.
    #[serde(rename = "lease-held")]
    LeaseActive,
    /// The node cannot tell how much WAL it has.
    NoPosition,
    /// The lease is refused for another reason, which `why` names.
    Refused,
    /// A word of another build, or none.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Code {
    /// Whether what is refused now may be allowed soon, with nobody's help.
    pub fn is_transient(self) -> bool {
        matches!(self, Code::PrimaryHeard | Code::LeaseActive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_other_builds_are_read() {
        let before: Verdict = serde_json::from_str(r#"{"allowed":false,"why":"it is paused"}"#).unwrap();
        assert_eq!(before.code, Code::Unknown);
        let after: Verdict =
            serde_json::from_str(r#"{"allowed":false,"why":"?","code":"moon-phase","more":1}"#).unwrap();
        assert_eq!(after.code, Code::Unknown);
        let now = Verdict::no(Code::LeaseActive, "pg1 holds");
        assert_eq!(serde_json::from_str::<Verdict>(&serde_json::to_string(&now).unwrap()).unwrap(), now);
    }

    #[test]
    fn a_request_is_one_line() {
        let request = Request::HandOver { to: "pg2\n".into() };
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert_eq!(serde_json::to_string(&Request::MayStart).unwrap(), "\"may-start\"");
    }
}
