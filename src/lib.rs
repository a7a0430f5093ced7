//! `cluster` makes, from one inventory file, a PostgreSQL cluster that survives the loss of a server.
//!
//! Modules depend downwards only: `commands` → `apply` → `plan` → `facts`, `inventory`.
//! `cloud` is shared by the operator's program and by the node's; `lab` is known to nobody but its commands.

pub mod apply;
pub mod check;
pub mod cli;
pub mod commands;
pub mod connect;
pub mod control;
pub mod drill;
pub mod error;
pub mod facts;
pub mod health;
pub mod incident;
pub mod inventory;
pub mod observe;
pub mod plan;
pub mod poll;
pub mod remote;
pub mod report;
pub mod scram;
pub mod settings;
pub mod sql;
pub mod state;
pub mod templates;
pub mod visible;
pub mod world;
