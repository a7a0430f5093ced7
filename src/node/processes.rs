//! The processes of PostgreSQL: whether there are any, and the end of all of them.
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

/// The processes of PostgreSQL: of its unit, or, if that has none, of a server that somebody has started past systemd on
/// the same data. (Both at once cannot be: the second one would find the first one's lock.)
///
/// # Errors
/// When the kernel does not tell.
pub fn list(config: &Config) -> Result<Vec<Pid>> {
    let unit = of_unit(config)?;
    if unit.is_empty() { outside(config) } else { Ok(unit) }
}

/// Servers on this node's data directory, whoever started them: they stand in it. What initialises, recovers or rewinds
/// the data takes no connections, and is none.
fn outside(config: &Config) -> Result<Vec<Pid>> {
    let (program, data) = (config.bin("postgres"), PathBuf::from(config.data_directory()));
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| -> Option<bool> {
        // A process that has ended meanwhile has none of these. A program that was replaced is marked as deleted.
        let place = PathBuf::from(format!("/proc/{pid}"));
        let runs = std::fs::read_link(place.join("exe")).ok()?;
        if !runs.to_str()?.starts_with(&program) || std::fs::read_link(place.join("cwd")).ok()? != data {
            return Some(false);
        }
        let words = std::fs::read(place.join("cmdline")).ok()?;
        Some(!words.split(|byte| *byte == 0).any(|word| ALONE.contains(&word)))
    };
    Ok(numbers.filter(|pid| serves(pid) == Some(true)).filter_map(Pid::from_raw).collect())
}

/// What the server program is called with when it is to do something else than serve.
const ALONE: [&[u8]; 4] = [b"--single", b"--boot", b"--check", b"--describe-config"];

fn of_unit(config: &Config) -> Result<Vec<Pid>> {
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
