//! What the operator's program and the nodes' program say to each other: types and paths, and nothing that does
//! anything.
//!
//! Both halves write and read the same types, so no program reads another's prose. The two need not be of the same build:
//! `cluster up` meets guards of the build before it, and a guard's disk holds what an earlier guard wrote. So a field is
//! added with a default, a word that is not known is read as `Unknown`, and neither is ever renamed.

#![warn(missing_docs)]

pub mod config;
pub mod journal;
pub mod marker;
pub mod paths;
pub mod position;
pub mod request;
pub mod status;
pub mod timing;

pub use position::{Position, Report};
pub use timing::Millis;

/// repmgr's node id.
pub type NodeId = u32;
/// Counts grants of the lease upwards: a voter never goes back to a lower one.
pub type Term = u64;
/// Counts the configurations of members that the cluster has had.
pub type Generation = u64;

/// What stands in front of scripts that run as root and come near what belongs to postgres: whose a path is.
pub const WHOSE_SH: &str = include_str!("whose.sh");
