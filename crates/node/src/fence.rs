//! The end of whatever takes writes without a lease; and the second watch, for when the guard cannot.
//!
//! The guard fences at the end of its lease. If it is dead, systemd starts it again, and fences in between if the
//! lease has run out (`ExecStopPost`). If it is frozen, systemd's watchdog kills it after a few seconds, and the watch,
//! a process in a unit of its own, does not wait for that. It also outlives a guard that a person has stopped.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::Millis;
use cluster_contract::config::Config;
use cluster_contract::journal::Event;
use cluster_contract::timing::{WATCH_GRACE, WATCH_INTERVAL};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::setpriority_process;

use super::{clock, processes, store};
use crate::journal;

/// Fences if this node's lease has run out. Returns how many processes were killed.
///
/// # Errors
/// When they do not go.
pub fn if_lease_expired(config: &Config, grace: Millis) -> Result<usize> {
    match store::held_lease() {
        Ok(Some(held)) if clock::now() < held.until.saturating_add(grace) => Ok(0),
        // No lease is noted: this node has let go of it, or never had one.
        Ok(None) => Ok(0),
        Ok(Some(_)) => processes::kill(config),
        // A note that cannot be read proves nothing, and a lease must be proved.
        Err(_) => processes::kill(config),
    }
}

/// The unit of the watch. The guard makes it: what `cluster up` installs knows nothing of it.
const UNIT: &str = "cluster-watch.service";
/// How often the guard checks that the watch runs.
const WATCH_CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// Starts the watch, anew so that it is of this program, and keeps it for as long as the guard runs.
pub async fn keep_watch() {
    // There may be none.
    let _ = systemd("systemctl", &["stop", UNIT]).await;
    let mut reported = false;
    loop {
        if systemd("systemctl", &["is-active", UNIT]).await.is_err() {
            match start_watch().await {
                Ok(()) => reported = false,
                Err(error) if !reported => {
                    reported = true;
                    journal::note(Event::Trouble, &format!("the guard's watch is not running: {error:#}"));
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(WATCH_CHECK_INTERVAL).await;
    }
}

async fn start_watch() -> Result<()> {
    let program = std::env::current_exe()?;
    let program = program.to_str().context("this program's path is not UTF-8")?;
    let words = ["--quiet", "--collect", "--unit", UNIT, "--description", "Fence beside the guard"];
    let restart = ["-p", "Restart=always", "-p", "RestartSec=250ms", "-p", "OOMScoreAdjust=-1000"];
    systemd("systemd-run", &[&words[..], &restart, &[program, "watch"]].concat()).await
}

async fn systemd(program: &str, words: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(WATCH_CHECK_INTERVAL, command.output())
        .await
        .context("systemd does not answer")??;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Keeps this program in memory, so that it needs no disk to end PostgreSQL: the one with the data may work while the
/// one with the programs hangs. What is there now is read and stays; what comes later stays once it has been used.
///
/// # Errors
/// When the kernel or the container does not allow it: it may still work, and is not certain to.
pub fn stay_in_memory() -> std::io::Result<()> {
    mlockall(MlockAllFlags::CURRENT)?;
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// Watches until it is killed.
pub fn watch(config: &Config) -> ! {
    if let Err(error) = stay_in_memory() {
        journal::warn(&format!("the watch could not be locked into memory: {error}"));
    }
    // Before whatever keeps the processors busy; it uses next to nothing. A container may forbid it.
    if let Err(error) = setpriority_process(None, -10) {
        journal::warn(&format!("the watch could not raise its priority: {error}"));
    }
    let mut reported = false;
    loop {
        match if_lease_expired(config, WATCH_GRACE) {
            Ok(0) => reported = false,
            Ok(count) => {
                journal::note(
                    Event::Fenced,
                    &format!(
                        "the lease has expired and the guard did not act: killed {count} PostgreSQL processes"
                    ),
                );
            }
            Err(error) if !reported => {
                reported = true;
                journal::note(Event::FenceFailed, &format!("{error:#}"));
            }
            Err(_) => {}
        }
        std::thread::sleep(Duration::from_millis(WATCH_INTERVAL));
    }
}
