//! The cloud as its clients see it: a DigitalOcean-compatible API on loopback.
//!
//! [`state`] is a state machine: a request and the time go in, an answer and work for the machines come out, and
//! nothing in it waits or looks at a clock. [`lab`] drives it: it carries out the work through
//! [`Machines`](crate::machine::Machines), keeps the state on disk, and lets time pass. [`server`] is the
//! HTTP in front, with the faults that can be ordered ([`fault`]).
//!
//! Statuses, bodies and errors follow DigitalOcean's OpenAPI description (2026-08) and, where that is silent,
//! what its users have seen and reported.

pub mod catalog;
pub mod control;
pub mod cord;
pub mod fake;
pub mod fault;
pub mod journal;
pub mod lab;
pub mod layout;
pub mod rate;
pub mod server;
pub mod settings;
pub mod spaces_fault;
pub mod spaces_keys;
pub mod state;
pub mod wire;
pub mod work;

mod actions;
mod addresses;
mod droplets;
mod half;
mod keys;
mod metadata;
mod offers;
mod projects;
mod render;
mod route;
mod save;
mod tags;

pub use fake::FakeMachines;
pub use lab::{Config, Lab, Tokens};
pub use layout::Layout;
pub use server::serve;
pub use settings::Settings;
