//! `cluster` makes, from one inventory file, a PostgreSQL cluster that survives the loss of a server.
//!
//! Modules depend downwards only: `commands` → `apply` → `plan` → `facts`, `inventory`.
//! `cloud` is shared by the operator's program and by the node's; `lab` is known to nobody but its commands.

pub mod cloud;
pub mod error;
#[cfg(feature = "operator")]
pub mod facts;
#[cfg(feature = "operator")]
pub mod inventory;
#[cfg(feature = "operator")]
pub mod lab;
pub mod node;
#[cfg(feature = "operator")]
pub mod plan;
#[cfg(feature = "operator")]
pub mod remote;
#[cfg(feature = "operator")]
pub mod scram;
#[cfg(feature = "operator")]
pub mod templates;
