//! What runs on a node: the guard, the promote hook and the start check.
//!
//! What is decided is decided by pure functions (`lease`, `decision`) on what was observed (`postgres`, `processes`,
//! `control_file`); the rest is the thin loop around them.

pub mod archive;
pub mod backups;
pub mod clock;
pub mod config;
pub mod control_file;
pub mod core;
pub mod decision;
pub mod fence;
pub mod file;
pub mod guard;
pub mod journal;
pub mod lease;
pub mod marker;
pub mod packages;
pub mod pgbackrest;
mod plain;
pub mod postgres;
pub mod processes;
pub mod promote;
mod provider;
mod psql;
pub mod room;
mod slots;
pub mod socket;
pub mod store;
pub mod wire;

/// Prints a line. Who reads it may have gone, which is no reason to fail.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}
