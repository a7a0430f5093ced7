//! What this program does at the cluster's provider, as a handful of verbs, and the plain values that they take and
//! return. Everything above speaks of servers and of the floating IP, in the words of [`crate::facts`]; what a provider
//! calls them, and how its API is used, is known to its own module alone.
//!
//! [`Api`] is DigitalOcean's, the one API so far. With a second one it becomes an enum of the two, with the same verbs.

pub mod digitalocean;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::facts::Cloud;
pub use digitalocean::{Api, Belongings, ProviderLock, Token, api_url, why_away};

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as it takes: what is begun should not be left half done.
    Long,
    /// An operator is waiting.
    Short,
    /// What follows can do without the answer.
    Brief,
}

/// What the provider lists of a cluster.
pub struct Listing {
    pub cloud: Cloud,
    /// Servers that this machine remembers and the provider does not know, by id.
    pub gone: BTreeSet<u64>,
}

/// A server that had to be there.
pub struct EnsuredServer {
    pub id: u64,
    /// Whether it was made for this.
    pub made: bool,
}

/// Why a server that had to be there may not be.
pub struct NotEnsured {
    pub error: anyhow::Error,
    pub left: Left,
}

/// What a request for a server has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A server that nothing but this id leads to.
    Server(u64),
    /// Nothing, surely.
    Nothing,
    /// Perhaps a server.
    Unknown,
}

/// Something that happened to a server or to the floating IP, as the provider lists it.
pub struct Event {
    /// `power_off`, `assign_ip`, …
    pub kind: String,
    pub started: Timestamp,
    pub completed: Option<Timestamp>,
}
