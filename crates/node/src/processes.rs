//! The processes of PostgreSQL: whether there are any, and the end of all of them.
//!
//! A shutdown waits for clients and walsenders, and a stopped postmaster ignores signals while its backends go on
//! committing. So a fence kills the whole control group, and counts only when it is seen to be empty.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cluster_contract::Millis;
use cluster_contract::config::Config;
use cluster_contract::timing::FENCE_LIMIT;
use rustix::process::{Pid, Signal, kill_process};

/// How long the kernel is given to clear killed processes away.
const KILL_LIMIT: Millis = 1_400;
// The figures of the lease count on it.
const _: () = assert!(KILL_LIMIT < FENCE_LIMIT);
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
    if unit.is_empty() { unmanaged(config) } else { Ok(unit) }
}

/// Servers on this node's data directory, whoever started them: they stand in it. What initialises, recovers or rewinds
/// the data takes no connections, and is none.
fn unmanaged(config: &Config) -> Result<Vec<Pid>> {
    servers_in(Path::new(&config.data_directory()))
}

fn servers_in(data: &Path) -> Result<Vec<Pid>> {
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| -> Option<bool> {
        // A process that has ended meanwhile has none of these. A program that was replaced is marked as deleted.
        let place = PathBuf::from(format!("/proc/{pid}"));
        let program = std::fs::read_link(place.join("exe")).ok()?.file_name()?.to_str()?.to_owned();
        if !matches!(program.as_str(), "postgres" | "postgres (deleted)")
            || !stands_in(&place.join("cwd"), data)
        {
            return Some(false);
        }
        let words = std::fs::read(place.join("cmdline")).ok()?;
        Some(!words.split(|byte| *byte == 0).any(|word| NOT_SERVING.contains(&word)))
    };
    Ok(numbers.filter(|pid| serves(pid) == Some(true)).filter_map(Pid::from_raw).collect())
}

/// Whether `cwd`, a link of the kernel's, leads to `data`, by whatever name. The disk is asked only where the names differ:
/// a watch must not wait for one that hangs.
fn stands_in(cwd: &Path, data: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    std::fs::read_link(cwd).is_ok_and(|name| name == data)
        || place(cwd).is_some_and(|it| place(data) == Some(it))
}

/// What the server program is called with when it is to do something else than serve.
const NOT_SERVING: [&[u8]; 4] = [b"--single", b"--boot", b"--check", b"--describe-config"];

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

/// A figure that changes while they do anything: the time and the bytes that they have used, all together.
///
/// # Errors
/// When the kernel does not tell.
pub fn activity(config: &Config) -> Result<u64> {
    let used = |pid: &Pid| -> Option<u64> {
        let place = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let stat = std::fs::read_to_string(place.join("stat")).ok()?;
        // Behind the name, which may have blanks, the 12th and 13th.
        let times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
        let bytes = std::fs::read_to_string(place.join("io")).unwrap_or_default();
        let bytes = bytes.lines().filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok());
        Some(times.filter_map(|time| time.parse::<u64>().ok()).chain(bytes).fold(0, u64::wrapping_add))
    };
    let pid = |pid: Pid| u64::from(pid.as_raw_nonzero().get().unsigned_abs());
    Ok(list(config)?
        .iter()
        .fold(0, |sum: u64, it| sum.wrapping_add(used(it).unwrap_or(0)).wrapping_add(pid(*it))))
}

/// Whether a server runs programs or libraries that have been replaced since: an upgrade that is not in effect.
///
/// # Errors
/// When the kernel does not tell.
pub fn runs_old_program(config: &Config) -> Result<bool> {
    let processes = list(config)?;
    Ok(processes.iter().any(|pid| {
        // One that has ended meanwhile has none.
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero()));
        maps.is_ok_and(|maps| maps.lines().any(|line| is_replaced(line, config.version)))
    }))
}

fn is_replaced(map: &str, version: u32) -> bool {
    map.ends_with(" (deleted)") && map.contains(&format!(" /usr/lib/postgresql/{version}/"))
}

/// Kills them all, and returns when none is left. New ones may appear while it goes on: they are killed too.
///
/// # Errors
/// When some are left after [`KILL_LIMIT`]: they have been killed, and hang in the kernel.
pub fn kill(config: &Config) -> Result<usize> {
    let begun = Instant::now();
    // Counted before: the kernel may have ended them all by the first look.
    let mut killed = list(config).map_or(0, |processes| processes.len());
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
        if begun.elapsed() > Duration::from_millis(KILL_LIMIT) {
            bail!("{} processes of {} survived SIGKILL", left.len(), config.unit());
        }
        for process in left {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::{is_replaced, servers_in};

    /// A process of a server's name that stands in `place`.
    fn server(place: &std::path::Path) -> std::process::Child {
        let program = place.join("postgres");
        std::fs::copy("/bin/sleep", &program).unwrap();
        // Another test's process may still have the file open for writing, in the moment before it becomes a program.
        for _ in 0..100 {
            let begun = std::process::Command::new(&program).arg("60").current_dir(place).spawn();
            match begun {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                begun => return begun.unwrap(),
            }
        }
        panic!("{} stays busy", program.display());
    }

    #[test]
    fn a_server_is_found_by_whatever_name_its_directory_is_called() {
        let place = tempfile::tempdir().unwrap();
        let (data, other) = (place.path().join("moved/main"), place.path().join("other"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink("moved", place.path().join("link")).unwrap();
        let mut servers = [server(&data), server(&other)];
        let found = |name: &str| -> Vec<u32> {
            let found = servers_in(&place.path().join(name)).unwrap();
            found.iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect()
        };
        assert_eq!(found("moved/main"), [servers[0].id()]);
        assert_eq!(found("link/main"), [servers[0].id()]);
        assert_eq!(found("other"), [servers[1].id()]);
        assert!(found("none").is_empty() && found("moved").is_empty());
        for server in &mut servers {
            server.kill().unwrap();
            server.wait().unwrap();
        }
        assert!(found("moved/main").is_empty());
    }

    #[test]
    fn only_programs_and_libraries_of_this_version_are_outdated() {
        let map = |rest: &str| format!("55d0c0a00000-55d0c0ac0000 r--p 00000000 08:01 131 {rest}");
        assert!(is_replaced(&map("                   /usr/lib/postgresql/15/bin/postgres (deleted)"), 15));
        assert!(is_replaced(&map("                   /usr/lib/postgresql/15/lib/repmgr.so (deleted)"), 15));
        assert!(!is_replaced(&map("                   /usr/lib/postgresql/15/bin/postgres"), 15));
        assert!(!is_replaced(&map("                   /usr/lib/postgresql/14/bin/postgres (deleted)"), 15));
        assert!(!is_replaced(&map("                   /dev/zero (deleted)"), 15));
    }
}
