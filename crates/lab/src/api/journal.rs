//! What was asked of the API and changed something, or tried to.

use serde::{Deserialize, Serialize};

use super::wire::Millis;

/// A request other than a GET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it came, in milliseconds since 1970.
    pub at: Millis,
    /// Whose token it carried: `operator` or `failover`.
    pub token: String,
    /// Method.
    pub method: String,
    /// Path without query.
    pub path: String,
    /// Status of the answer, be it sent or not. 0 if nothing was done.
    pub status: u16,
    /// Whether the client got no answer.
    pub lost: bool,
}

/// The latest requests, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Journal(Vec<Entry>);

impl Journal {
    /// Requests that are kept.
    const KEPT: usize = 10_000;

    /// Adds a request.
    pub fn add(&mut self, entry: Entry) {
        if self.0.len() >= Self::KEPT {
            self.0.drain(..Self::KEPT / 10);
        }
        self.0.push(entry);
    }

    /// All that are kept.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
