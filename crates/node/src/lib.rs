//! What runs on a node: the guard, the promote hook and the start check.
//!
//! What is decided is decided by pure functions (`lease`, `decision`) on what was seen (`view`, `postgres`); the rest is
//! the thin loop around them.

pub mod address;
pub mod clock;
pub mod control;
pub mod core;
pub mod decision;
pub mod fence;
pub mod file;
pub mod guard;
pub mod journal;
pub mod lease;
pub mod marker;
pub mod memory;
pub mod packages;
mod plain;
pub mod postgres;
pub mod processes;
pub mod promote;
mod provider;
mod slots;
pub mod socket;
pub mod view;
pub mod wire;
