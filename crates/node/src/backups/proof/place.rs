//! The directory in which a restore is tried: beside the data, on the same disk, and thrown away with all that is in it.
//!
//! Nothing else is ever deleted, and nothing in it that this program did not make. Everything that works there stands
//! there (its working directory), so that what a killed run has left can be found and ended.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use cluster_contract::paths;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

/// Says that the directory was made by this program. It is made first and deleted last.
const MADE: &str = "made-by-cluster";
/// How long a server may take to end by itself, and how long the kernel may take to clear away what was killed.
const QUIT_LIMIT: Duration = Duration::from_secs(3);
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// What stays free on the disk in any case: a part of it, and no less than this many bytes.
const FREE_PART: u64 = 20;
const FREE_LEAST: u64 = 1 << 30;

/// Where a restore is tried.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: PathBuf,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub free: u64,
    pub total: u64,
}

impl Room {
    /// What must stay free for the standby, whatever else the disk is used for.
    pub(super) fn kept_free(self) -> u64 {
        (self.total / FREE_PART).max(FREE_LEAST)
    }
}

/// Held while a restore is tried on this node; none if somebody else holds it. It ends with the process.
///
/// # Errors
/// When the file cannot be opened.
pub(super) fn lock() -> Result<Option<File>> {
    let path = paths::PROOF_LOCK;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file =
        open.with_context(|| format!("cannot open {path}: the service cluster-backup makes its directory"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {path}")),
    }
}

impl Place {
    pub(super) fn new(version: u32) -> Place {
        Place { root: PathBuf::from(paths::proof_directory(version)) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The copy's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the copy's tablespaces lie.
    pub(super) fn tablespaces(&self) -> PathBuf {
        self.root.join("tablespaces")
    }

    /// What the copy's server says.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Whether anything is there.
    pub(super) fn exists(&self) -> bool {
        self.root.symlink_metadata().is_ok()
    }

    /// Makes it, for postgres alone.
    ///
    /// # Errors
    /// When something is there, or it cannot be made.
    pub(super) fn make(&self) -> Result<()> {
        let attempt = || -> std::io::Result<()> {
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o700);
            builder.create(&self.root)?;
            File::create(self.root.join(MADE))?.write_all(
                b"A backup is restored here to prove that it can be. cluster-backup deletes all of it.\n",
            )?;
            builder.create(self.data())?;
            builder.create(self.tablespaces())
        };
        attempt().with_context(|| format!("cannot make {}", self.root.display()))
    }

    /// Ends what works there and deletes all of it. Does nothing if nothing is there.
    ///
    /// # Errors
    /// When it was not made by this program, or cannot be deleted.
    pub(super) fn clear(&self) -> Result<()> {
        let place = self.root.display();
        match self.root.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot look at {place}")),
            // A link leads to what is somebody else's.
            Ok(it) => ensure!(it.is_dir(), "{place} is no directory: move it away"),
        }
        let mark = self.root.join(MADE);
        let entries = || -> std::io::Result<Vec<PathBuf>> {
            fs::read_dir(&self.root)?.map(|entry| Ok(entry?.path())).collect()
        };
        let found = entries().with_context(|| format!("cannot read {place}"))?;
        ensure!(
            found.is_empty() || found.contains(&mark),
            "{place} was not made by this program, and is in the way of proving restores: move it away"
        );
        self.end_processes()?;
        let attempt = || -> std::io::Result<()> {
            for path in entries()?.into_iter().filter(|path| *path != mark) {
                if path.symlink_metadata()?.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                }?;
            }
            match fs::remove_file(&mark) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::remove_dir(&self.root)
        };
        attempt().with_context(|| format!("cannot delete {place}"))
    }

    /// What stands in it, as far as this user may see.
    fn processes(&self) -> Result<Vec<Pid>> {
        // The kernel tells of a place by its own name, whatever links lead there.
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let entries = fs::read_dir("/proc").context("cannot read /proc")?;
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let stands_here = |pid: &i32| {
            let place = fs::read_link(format!("/proc/{pid}/cwd"));
            place.is_ok_and(|place| place.starts_with(&root))
        };
        Ok(numbers.filter(stands_here).filter_map(Pid::from_raw).collect())
    }

    fn end_processes(&self) -> Result<()> {
        // A server that quits gives its shared memory back.
        let pid = fs::read_to_string(self.data().join("postmaster.pid"));
        let postmaster = pid.ok().and_then(|text| Pid::from_raw(text.lines().next()?.trim().parse().ok()?));
        let begun = Instant::now();
        if let Some(postmaster) = postmaster
            && self.processes()?.contains(&postmaster)
        {
            let _ = kill_process(postmaster, Signal::QUIT);
            while begun.elapsed() < QUIT_LIMIT && self.processes()?.contains(&postmaster) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        loop {
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > KILL_LIMIT {
                bail!("{} processes in {} survived SIGKILL", left.len(), self.root.display());
            }
            for process in left {
                // It may have ended by itself.
                let _ = kill_process(process, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it takes on the disk, in bytes.
    pub(super) fn size(&self) -> u64 {
        size(&self.root)
    }

    /// The room on its disk.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn room(&self) -> Result<Room> {
        let beside = self.root.parent().unwrap_or(Path::new("/"));
        let it =
            rustix::fs::statvfs(beside).with_context(|| format!("cannot look at {}", beside.display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(it.f_frsize);
        Ok(Room { free: bytes(it.f_bavail), total: bytes(it.f_blocks) })
    }
}

/// Files come and go meanwhile: what is gone takes nothing.
fn size(path: &Path) -> u64 {
    let Ok(it) = path.symlink_metadata() else { return 0 };
    let below = fs::read_dir(path).ok().filter(|_| it.is_dir());
    let below: u64 = below.into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum();
    it.blocks() * 512 + below
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn place() -> (tempfile::TempDir, Place) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cluster-proof");
        (directory, Place { root })
    }

    #[test]
    fn what_was_made_is_deleted_however_far_it_came() {
        let (_directory, place) = place();
        place.clear().unwrap();
        place.make().unwrap();
        fs::write(place.data().join("PG_VERSION"), "15\n").unwrap();
        std::os::unix::fs::symlink("/etc", place.data().join("link")).unwrap();
        assert!(place.exists() && place.size() > 0);
        assert!(place.make().is_err(), "it is in use");
        place.clear().unwrap();
        assert!(!place.exists() && Path::new("/etc").exists());
        // Killed between its first two steps.
        fs::create_dir(place.root()).unwrap();
        place.clear().unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn what_somebody_else_has_there_is_left_alone() {
        let (directory, place) = place();
        fs::create_dir(place.root()).unwrap();
        fs::write(place.root().join("precious"), "").unwrap();
        let error = place.clear().unwrap_err().to_string();
        assert!(error.contains("was not made by this program"), "{error}");
        assert!(place.root().join("precious").exists());
        fs::remove_dir_all(place.root()).unwrap();

        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join(MADE), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.root()).unwrap();
        assert!(place.clear().unwrap_err().to_string().contains("is no directory"));
        assert!(elsewhere.join(MADE).exists());
    }

    #[test]
    fn what_works_there_is_ended_first_and_nothing_else_is() {
        let (directory, _) = place();
        // By another name than the kernel's.
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(".", &link).unwrap();
        let place = Place { root: link.join("cluster-proof") };
        place.make().unwrap();
        let sleeper = |at: &Path| {
            Command::new("sleep").arg("600").current_dir(at).stdin(Stdio::null()).spawn().unwrap()
        };
        let (mut inside, mut outside) = (sleeper(&place.data()), sleeper(directory.path()));
        place.clear().unwrap();
        assert!(!inside.wait().unwrap().success());
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }

    #[test]
    fn a_part_of_the_disk_stays_free() {
        let gigabytes = |total: u64| Room { free: 0, total: total << 30 };
        assert_eq!(gigabytes(10).kept_free(), 1 << 30);
        assert_eq!(gigabytes(100).kept_free(), 5 << 30);
    }
}
