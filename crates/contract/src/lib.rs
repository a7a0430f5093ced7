//! What the operator's program and the nodes' program say to each other: types and paths, and nothing that does
//! anything.
//!
//! Both halves write and read the same types, so no program reads another's prose. The two need not be of the same
//! build: `cluster up` meets guards of the build before it, and a guard's disk holds what an earlier guard wrote. So a
//! field is added with a default, a word that is not known is read as `Unknown`, and neither ever changes: where a name
//! has become a better one since, `#[serde(rename)]` keeps the word (`tests/wire.rs`).

pub mod backup;
pub mod config;
pub mod journal;
pub mod marker;
pub mod paths;
pub mod position;
pub mod request;
pub mod status;
pub mod timing;

pub use position::{HolderReport, WalPosition};
pub use timing::Millis;

/// repmgr's node id.
pub type NodeId = u32;
/// A term of the lease. A voter grants each to one node only, and never goes back to a lower one.
pub type Term = u64;
/// The number of a configuration: which nodes have a vote.
pub type Generation = u64;

/// Shell functions that check whose a path is: they go in front of scripts that run as root and touch what belongs to
/// postgres.
pub const WHOSE_SH: &str = include_str!("whose.sh");
