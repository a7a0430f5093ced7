//! The result of a drill, for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Fault;
use super::sample::What;

/// The beginning of the one problem that must never be overlooked.
pub const SPLIT_BRAIN: &str = "SPLIT BRAIN";

/// The result of a drill. Its JSON is an interface: keys may be added, but do not change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub cluster: String,
    pub fault: Fault,
    /// The start.
    pub began: String,
    /// Where applications write.
    pub address: String,
    /// The node that took writes before.
    pub old_primary: String,
    /// The node that took them afterwards; none if none did.
    pub new_primary: Option<String>,
    /// Whether every promise was kept.
    pub passed: bool,
    /// Broken promises.
    pub problems: Vec<String>,
    /// Further notes.
    pub notes: Vec<String>,
    /// Spans of time.
    pub seconds: Seconds,
    /// Writes where applications write.
    pub writes: Writes,
    /// Writes to each data node.
    pub direct: BTreeMap<String, Writes>,
    pub reads: Reads,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What can be drawn: a lane for each client.
    pub lanes: Vec<Strip>,
}

/// Spans of time, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// From the order to the cut: what the provider or the shutdown took.
    pub order_to_cut: f64,
    /// From the cut to the first write that a node took.
    pub cut_to_writable: Option<f64>,
    /// From the cut to the first write through the address.
    pub cut_to_address: Option<f64>,
    /// From the cut to the moment at which everything was put back.
    pub cut_to_put_back: Option<f64>,
    /// From the cut to the moment at which every standby streamed again.
    pub cut_to_redundancy: Option<f64>,
    /// The longest time without an acknowledged write through the address.
    pub longest_write_gap: f64,
}

/// Writes of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Writes {
    pub attempted: usize,
    /// Those that were acknowledged.
    pub acknowledged: usize,
    /// Those that were refused.
    pub refused: usize,
    /// Those that reached a node which was a standby, and takes no writes.
    pub standby: usize,
    /// Those that were not answered in time.
    pub unanswered: usize,
    /// Those that are there at the end though nobody acknowledged them; none if the rows could not be counted.
    pub unacknowledged_kept: Option<usize>,
    /// Those that were acknowledged and are not there at the end; none if the rows could not be counted.
    pub lost: Option<usize>,
    /// Their numbers.
    pub lost_numbers: Vec<u64>,
}

/// Reads of one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reads {
    /// The node that was read from.
    pub node: String,
    pub attempted: usize,
    /// Those that were answered.
    pub answered: usize,
    /// The longest time without an answer, in seconds.
    pub longest_gap: f64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Seconds since the cut; negative before it.
    pub at: f64,
    /// One word for programs: `ordered`, `cut`, `writable`, `moved`, `address`, `put-back` or `redundant`.
    pub what: &'static str,
    /// A few words for people.
    pub text: String,
}

impl Event {
    /// The time, as text.
    pub fn when(&self) -> String {
        if self.at.abs() < 0.05 { "0 s".to_owned() } else { format!("{:+.1} s", self.at) }
    }
}

/// A client's lane in the picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    /// `address`, `node` or `reads`.
    pub kind: &'static str,
    /// The node; the address for applications' own way.
    pub name: String,
    /// How it was, in order and without gaps.
    pub spans: Vec<Stretch>,
}

/// A span, in seconds since the cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// How it was.
    pub what: What,
    /// Who answered.
    pub node: Option<String>,
}
