//! What runs on a node: the guard, the promote hook and the start check.
//!
//! What is decided is decided by pure functions (`lease`, `decision`) on what was seen (`view`, `postgres`); the rest is
//! the thin loop around them.

#[cfg(feature = "node")]
pub mod address;
#[cfg(feature = "node")]
pub mod clock;
pub mod config;
#[cfg(feature = "node")]
pub mod decision;
#[cfg(feature = "node")]
pub mod fence;
#[cfg(feature = "node")]
mod files;
#[cfg(feature = "node")]
pub mod guard;
pub mod lease;
#[cfg(feature = "node")]
pub mod memory;
#[cfg(feature = "node")]
pub mod postgres;
#[cfg(feature = "node")]
pub mod processes;
#[cfg(feature = "node")]
pub mod promote;
#[cfg(feature = "node")]
mod provider;
#[cfg(feature = "node")]
pub mod socket;
#[cfg(feature = "node")]
pub mod view;
pub mod wire;
