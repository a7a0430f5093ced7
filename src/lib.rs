//! `cluster` makes, from one inventory file, a PostgreSQL cluster that survives the loss of a server.
//!
//! Modules depend downwards only: `commands` → `apply` → `plan` → `facts`, `inventory`.
//! `cloud` is shared by the operator's program and by the node's; `lab` is known to nobody but its commands.

pub mod cloud;
#[cfg(feature = "operator")]
pub mod commands;
#[cfg(feature = "operator")]
pub mod lab;
