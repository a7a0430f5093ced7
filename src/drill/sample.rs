//! What clients saw, attempt by attempt, and the spans of time that it makes.

use serde::{Deserialize, Serialize};

/// Milliseconds since the drill began, on the operator's machine.
pub type Millis = u64;

/// What a client does, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// It writes where applications write.
    Address,
    /// It writes to this node.
    Node(String),
    /// It reads on this node.
    Reader(String),
}

impl Lane {
    /// Whether it writes.
    pub fn writes(&self) -> bool {
        !matches!(self, Lane::Reader(_))
    }
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A node acknowledged it.
    Done {
        /// The node, by its own word.
        node: String,
        /// PostgreSQL's timeline; every promotion begins another. None of a read.
        timeline: Option<u32>,
    },
    /// The node is a standby, and takes no writes.
    Standby,
    /// It was refused, in these words.
    Refused(String),
    /// No answer in time: it is unknown whether it was done.
    Silent,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub lane: Lane,
    /// Its number, which no other attempt of the drill has: the key of the row that is written.
    pub number: u64,
    /// The start.
    pub began: Millis,
    /// The end.
    pub ended: Millis,
    /// The result.
    pub outcome: Outcome,
}

impl Sample {
    /// The node that acknowledged this write.
    pub fn acknowledged_by(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Done { node, .. } if self.lane.writes() => Some(node),
            _ => None,
        }
    }

    /// Whether it was refused, or not answered.
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Refused(_) | Outcome::Silent)
    }

    /// The moment for which it speaks: a success for its end, anything else for its beginning.
    fn moment(&self) -> Millis {
        if matches!(self.outcome, Outcome::Done { .. }) { self.ended } else { self.began }
    }

    fn what(&self) -> What {
        match &self.outcome {
            Outcome::Done { .. } => What::Accepted,
            Outcome::Standby => What::Standby,
            Outcome::Refused(_) => What::Refused,
            Outcome::Silent => What::Silent,
        }
    }
}

/// The state of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Attempts succeeded.
    Accepted,
    /// The node said that it is a standby.
    Standby,
    /// Attempts were refused.
    Refused,
    /// Attempts were not answered.
    Silent,
}

/// A span of time in which a lane was one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Millis,
    /// Its end, which is the next one's beginning.
    pub to: Millis,
    /// How the lane was.
    pub what: What,
    /// The node that answered, where one did.
    pub node: Option<String>,
}

/// The spans of one lane, in order and without gaps, from its first attempt to `end`.
pub fn spans<'a>(samples: impl IntoIterator<Item = &'a Sample>, lane: &Lane, end: Millis) -> Vec<Span> {
    let mut own: Vec<&Sample> = samples.into_iter().filter(|sample| sample.lane == *lane).collect();
    own.sort_by_key(|sample| (sample.moment(), sample.number));
    let mut spans: Vec<Span> = Vec::new();
    for sample in own {
        let node = match &sample.outcome {
            Outcome::Done { node, .. } => Some(node.clone()),
            _ => None,
        };
        let (what, moment) = (sample.what(), sample.moment().min(end));
        if let Some(last) = spans.last_mut() {
            last.to = moment;
            if last.what == what && last.node == node {
                continue;
            }
        }
        spans.push(Span { from: moment, to: end, what, node });
    }
    if let Some(last) = spans.last_mut() {
        last.to = end;
    }
    spans.retain(|span| span.from < span.to);
    spans
}
