//! What runs on a node: the guard, the promote hook and the start check.
//!
//! What is decided is decided by pure functions (`decision`) on what was seen (`view`); the rest is the thin loop
//! around them. Everything works through the programs that are on every node (psql, repmgr, systemctl).

#[cfg(feature = "node")]
pub mod address;
pub mod config;
#[cfg(feature = "node")]
pub mod decision;
#[cfg(feature = "node")]
pub mod guard;
pub mod lease;
#[cfg(feature = "node")]
pub mod promote;
#[cfg(feature = "node")]
pub mod socket;
#[cfg(feature = "node")]
pub mod view;
