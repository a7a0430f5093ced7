//! `cluster` makes, from one inventory file, a PostgreSQL cluster that survives the loss of a server.
//!
//! Modules depend downwards only: `commands` → `apply` → `plan` → `facts`, `inventory`.
//! `cloud` is shared by the operator's program and by the node's; `lab` is known to nobody but its commands.

#[cfg(feature = "operator")]
pub mod apply;
#[cfg(feature = "operator")]
pub mod check;
#[cfg(feature = "operator")]
pub mod cli;
pub mod cloud;
#[cfg(feature = "operator")]
pub mod commands;
#[cfg(feature = "operator")]
pub mod connect;
#[cfg(feature = "operator")]
pub mod drill;
pub mod error;
#[cfg(feature = "operator")]
pub mod facts;
#[cfg(feature = "operator")]
pub mod health;
#[cfg(feature = "operator")]
pub mod incident;
#[cfg(feature = "operator")]
pub mod inventory;
#[cfg(feature = "operator")]
pub mod lab;
pub mod node;
#[cfg(feature = "operator")]
pub mod observe;
#[cfg(feature = "operator")]
pub mod plan;
#[cfg(feature = "operator")]
pub mod remote;
#[cfg(feature = "operator")]
pub mod report;
#[cfg(feature = "operator")]
pub mod scram;
#[cfg(feature = "operator")]
pub mod settings;
#[cfg(feature = "operator")]
pub mod sql;
#[cfg(feature = "operator")]
pub mod state;
#[cfg(feature = "operator")]
pub mod templates;
pub mod visible;
#[cfg(feature = "operator")]
pub mod world;
