//! The end of whatever takes writes without a lease; and the second watch, for when the guard cannot.
//!
//! The guard fences at the end of its lease. If it is dead, systemd starts it again, and fences in between if the
//! lease has run out (`ExecStopPost`). If it is frozen, systemd's watchdog kills it after a few seconds, and the watch,
//! a process of its own, does not wait for that.

use std::time::Duration;

use anyhow::Result;

use super::config::Config;
use super::lease::Millis;
use super::{clock, memory, processes};

/// How often the watch looks.
const LOOK: Duration = Duration::from_millis(250);
/// The guard fences first, and tells why.
const GRACE: Millis = 400;

/// Fences if this node's lease has run out. Returns how many processes were killed.
///
/// # Errors
/// When they do not go.
pub fn if_lease_expired(config: &Config, grace: Millis) -> Result<usize> {
    match memory::held() {
        Ok(Some(held)) if clock::now() < held.until.saturating_add(grace) => Ok(0),
        // No lease is noted: this node has let go of it, or never had one.
        Ok(None) => Ok(0),
        Ok(Some(_)) => processes::kill(config),
        // A note that cannot be read proves nothing, and a lease must be proved.
        Err(_) => processes::kill(config),
    }
}

/// Watches until it is killed.
pub fn watch(config: &Config) -> ! {
    let mut told = false;
    loop {
        match if_lease_expired(config, GRACE) {
            Ok(0) => told = false,
            Ok(count) => {
                memory::note(
                    "fenced",
                    &format!(
                        "the lease has run out and the guard did not act: killed {count} processes of PostgreSQL"
                    ),
                );
            }
            Err(error) if !told => {
                told = true;
                memory::note("fence_failed", &format!("{error:#}"));
            }
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}
