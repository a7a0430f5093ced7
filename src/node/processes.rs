//! The processes of PostgreSQL's unit: whether there are any, and the end of all of them.
//!
//! A shutdown waits for clients and walsenders, and a stopped postmaster ignores signals while its backends go on
//! committing. So a fence kills the whole control group, and counts only when it is seen to be empty.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::config::Config;

/// How long the kernel is given to clear killed processes away. [`super::lease::timing`] counts on it.
const PATIENCE: Duration = Duration::from_millis(1_400);
/// Where control groups are: version 2, or systemd's own hierarchy of version 1, alone or beside a version 2.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];

fn groups(config: &Config) -> impl Iterator<Item = PathBuf> {
    let path = format!("system.slice/system-postgresql.slice/{}", config.unit());
    ROOTS
        .iter()
        .map(move |root| PathBuf::from(root).join(&path))
        .filter(|path| path.join("cgroup.procs").exists())
}

/// The processes of PostgreSQL's unit.
///
/// # Errors
/// When the kernel does not tell.
pub fn list(config: &Config) -> Result<Vec<Pid>> {
    let mut processes = Vec::new();
    for group in groups(config) {
        let text = match std::fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => text,
            // The unit ended between two looks.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", group.display())),
        };
        // A process of another namespace shows as 0.
        processes.extend(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)));
    }
    processes.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    processes.dedup();
    Ok(processes)
}

/// Kills them all, and returns when none is left. New ones may appear while it goes on: they are killed too.
///
/// # Errors
/// When some are left after [`PATIENCE`]: they have been killed, and hang in the kernel.
pub fn kill(config: &Config) -> Result<usize> {
    let begun = Instant::now();
    let mut killed = 0;
    for group in groups(config) {
        // One write ends them all where the kernel is 5.14 or newer; the loop below is for the others.
        let _ = std::fs::write(group.join("cgroup.kill"), "1");
    }
    loop {
        let left = list(config)?;
        if left.is_empty() {
            return Ok(killed);
        }
        killed = killed.max(left.len());
        if begun.elapsed() > PATIENCE {
            bail!("{} processes of {} were killed and have not gone", left.len(), config.unit());
        }
        for process in left {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
