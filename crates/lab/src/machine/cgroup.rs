//! The control group of one droplet: which processes are its own, and how they are stopped all at once.
//!
//! `CGROUP2/cluster-lab/NAME/ID` belongs to the lab alone, outside whatever the host's init manages, and
//! no controller is enabled in it: it serves to tell processes apart. systemd-nspawn puts itself into `supervisor`
//! and the droplet into `payload` below it. Only what is in this group is ever killed or frozen.
//!
//! Works with cgroup v2 wherever it is mounted: at `/sys/fs/cgroup`, or beside the v1 controllers; there
//! systemd-nspawn mirrors the group in v1's own tree for systemd, where it is removed as well. `cgroup.kill` needs
//! Linux 5.14.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;

use crate::{LabName, home, mounts};

/// How long the kernel may take until killed processes are gone.
const GONE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A droplet's control group, which may not exist.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    mirror: Option<PathBuf>,
}

/// The parent of the groups of all of a lab's droplets.
///
/// # Errors
/// cgroup v2 is not mounted.
fn of_lab(name: &LabName) -> Result<PathBuf> {
    let all = mounts::all()?;
    let mount = all.iter().find(|mount| mount.kind == "cgroup2").context("cgroup v2 is not mounted")?;
    Ok(mount.target.join("cluster-lab").join(name.as_str()))
}

/// The same in the tree that systemd has to itself beside the v1 controllers, if there is one.
fn mirror_of_lab(name: &LabName) -> Result<Option<PathBuf>> {
    let is_mirror = |mount: &mounts::Mount| {
        mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "name=systemd")
    };
    let mount = mounts::all()?.into_iter().find(is_mirror);
    Ok(mount.map(|mount| mount.target.join("cluster-lab").join(name.as_str())))
}

/// The ids of the droplets that have a group.
pub(crate) fn droplets(name: &LabName) -> Result<Vec<u64>> {
    Ok(home::list(&of_lab(name)?)?.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Removes the lab's own group, and the parent of all labs' if this was the last one.
///
/// # Errors
/// A process is still in it.
pub(crate) fn remove_lab(name: &LabName) -> Result<()> {
    for lab in std::iter::once(of_lab(name)?).chain(mirror_of_lab(name)?) {
        remove_tree(&lab)?;
        // Not empty while another lab is there: then it stays.
        let _ = lab.parent().map(fs::remove_dir);
    }
    Ok(())
}

impl Cgroup {
    /// The group of a droplet.
    ///
    /// # Errors
    /// cgroup v2 is not mounted.
    pub(crate) fn of(name: &LabName, id: u64) -> Result<Self> {
        let id = id.to_string();
        let mirror = mirror_of_lab(name)?.map(|lab| lab.join(&id));
        Ok(Self { path: of_lab(name)?.join(id), mirror })
    }

    /// Makes the group anew: one that has been killed once must not be used again, since Linux (seen with 6.18)
    /// then also kills what systemd 257 starts in groups below it.
    pub(crate) fn create(&self) -> Result<()> {
        self.remove()?;
        fs::create_dir_all(&self.path).with_context(|| format!("cannot create {}", self.path.display()))
    }

    /// The file by which a process enters the group.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether a process is in the group or below it.
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// The droplet's init, as this machine numbers it.
    pub(crate) fn init(&self) -> Option<Pid> {
        first_process(&self.path.join("payload/init.scope"))
    }

    /// The systemd-nspawn that holds the droplet.
    pub(crate) fn supervisor(&self) -> Option<Pid> {
        first_process(&self.path.join("supervisor"))
    }

    /// Kills every process of the droplet at the same instant, and returns when all are gone.
    ///
    /// The payload goes first, so that systemd-nspawn has the chance to clean up behind it; what is left after a
    /// second goes too.
    ///
    /// # Errors
    /// The kernel has no `cgroup.kill`, or something survived it for ten seconds (an uninterruptible wait).
    pub(crate) async fn kill(&self) -> Result<()> {
        self.kill_below("payload")?;
        if self.wait_empty(Duration::from_secs(1)).await {
            return Ok(());
        }
        self.kill_below("")?;
        if self.wait_empty(GONE).await {
            return Ok(());
        }
        bail!("processes in {} survived SIGKILL", self.path.display())
    }

    /// Stops every process of the droplet where it is, or lets all go on; returns when that is so.
    ///
    /// # Errors
    /// The droplet does not run, or does not come to a halt within ten seconds.
    pub(crate) async fn freeze(&self, frozen: bool) -> Result<()> {
        let payload = self.path.join("payload");
        let wanted = if frozen { "1" } else { "0" };
        fs::write(payload.join("cgroup.freeze"), wanted).context("the droplet is not running")?;
        let state = format!("frozen {wanted}");
        let deadline = Instant::now() + GONE;
        while !fs::read_to_string(payload.join("cgroup.events"))
            .context("the droplet is not running")?
            .lines()
            .any(|line| line == state)
        {
            if Instant::now() > deadline {
                bail!("the droplet did not freeze");
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Whether the droplet's processes are stopped by [`Self::freeze`].
    pub(crate) fn is_frozen(&self) -> bool {
        fs::read_to_string(self.path.join("payload/cgroup.freeze")).is_ok_and(|state| state.trim() == "1")
    }

    /// Removes the group and those below it, if there.
    ///
    /// # Errors
    /// A process is still in one of them.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_tree(&self.path)?;
        self.mirror.as_deref().map_or(Ok(()), remove_tree)
    }

    /// Waits until no process is left. False if that did not happen in time.
    pub(crate) async fn wait_empty(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_populated() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(GLANCE).await;
        }
        true
    }

    fn kill_below(&self, group: &str) -> Result<()> {
        let file = self.path.join(group).join("cgroup.kill");
        match fs::write(&file, "1") {
            // It is not there (any more): nothing to kill. A group without the file is an old kernel's.
            Err(error) if error.kind() == ErrorKind::NotFound && !file.with_file_name("").exists() => Ok(()),
            // The group went away between opening and writing.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
            result => {
                result.with_context(|| format!("cannot write to {} (Linux 5.14 or newer)", file.display()))
            }
        }
    }
}

fn first_process(group: &Path) -> Option<Pid> {
    let processes = fs::read_to_string(group.join("cgroup.procs")).ok()?;
    Pid::from_raw(processes.lines().next()?.parse().ok()?)
}

fn remove_tree(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", directory.display())),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    remove_directory(directory)
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
