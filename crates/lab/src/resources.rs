//! What the droplets take of this machine: said before they boot, since one that lacks it fails in ways that do not name
//! it.

use std::fs;
use std::path::Path;

/// Where the kernel keeps how many inotify instances one user may have. Every container's systemd and its services take
/// some twenty, all as root.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Enough for fifty droplets.
const ENOUGH_INSTANCES: u64 = 1024;
/// Three droplets with PostgreSQL take about this much, in MiB.
const ENOUGH_MEMORY: u64 = 1024;
/// Three droplets with packages and data take about this much, in MiB.
const ENOUGH_DISK: u64 = 4096;

/// Raises what may be raised, and says what is short.
pub(super) fn prepare(home: &Path) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(found) = read(INSTANCES).and_then(|text| text.trim().parse().ok())
        && found < ENOUGH_INSTANCES
    {
        let raised = fs::write(INSTANCES, ENOUGH_INSTANCES.to_string()).is_ok();
        said.push(instances(found, raised));
    }
    said.extend(read("/proc/meminfo").as_deref().and_then(available).and_then(memory));
    // The directory may have to be made yet: the file system is its parent's.
    let place = home.ancestors().find(|place| place.exists());
    if let Some(stat) = place.and_then(|place| rustix::fs::statvfs(place).ok()) {
        said.extend(disk((stat.f_bavail * stat.f_frsize) >> 20, home));
    }
    said
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn instances(found: u64, raised: bool) -> String {
    if raised {
        format!("raised fs.inotify.max_user_instances from {found} to {ENOUGH_INSTANCES} until the next boot")
    } else {
        format!(
            "warning: fs.inotify.max_user_instances is {found}; a droplet uses about twenty, and does not boot when none \
             are left: `sysctl fs.inotify.max_user_instances={ENOUGH_INSTANCES}`"
        )
    }
}

/// `MemAvailable` in MiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

fn memory(available: u64) -> Option<String> {
    (available < ENOUGH_MEMORY).then(|| {
        format!("warning: {available} MiB of memory available; three droplets need about {ENOUGH_MEMORY} MiB")
    })
}

fn disk(free: u64, home: &Path) -> Option<String> {
    (free < ENOUGH_DISK).then(|| {
        format!("warning: {free} MiB free in {}; three droplets need about {ENOUGH_DISK} MiB", home.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_said_and_what_is_enough_is_not() {
        assert_eq!(available("MemTotal:  1 kB\nMemAvailable:    524288 kB\n"), Some(512));
        assert!(memory(512).is_some_and(|text| text.contains("512 MiB")));
        assert_eq!(memory(ENOUGH_MEMORY), None);
        assert!(disk(100, Path::new("/var/lib/x")).is_some_and(|text| text.contains("/var/lib/x")));
        assert_eq!(disk(ENOUGH_DISK, Path::new("/")), None);
        assert!(instances(192, false).contains("sysctl fs.inotify.max_user_instances=1024"));
    }
}
