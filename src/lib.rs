//! `cluster` makes, from one inventory file, a PostgreSQL cluster that survives the loss of a server.
//!
//! Modules depend downwards only: `commands` → `control`, `apply` → `plan` → `facts`, `inventory`. What the nodes'
//! program has in common with this one is in `cluster-contract`; `cluster-lab` is known to nobody but its commands.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod adopt;
pub mod apply;
pub mod check;
pub mod cli;
pub mod commands;
pub mod connect;
pub mod control;
pub mod drill;
pub mod error;
pub mod extensions;
pub mod facts;
pub mod handover;
pub mod health;
pub mod holder;
pub mod incident;
pub mod inventory;
pub mod observe;
pub mod plan;
pub mod poll;
pub mod provider;
pub mod remote;
pub mod report;
pub mod scram;
pub mod screen;
pub mod script;
pub mod settings;
pub mod sql;
pub mod state;
pub mod templates;
pub mod timings;
pub mod visible;
pub mod world;
