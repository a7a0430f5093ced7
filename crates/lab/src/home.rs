//! Where a lab keeps its files: `/var/lib/cluster-lab/NAME`, gone when it is stopped.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::LabName;
use super::machine::MachineSpec;

/// All labs' homes.
const ROOT: &str = "/var/lib/cluster-lab";

/// The directory of one lab.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The home of the lab of this name, which may not exist.
    pub fn of(name: &LabName) -> Self {
        Self(Path::new(ROOT).join(name.as_str()))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the lab was started with.
    pub(crate) fn settings(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// The API's own state.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The operator's token, mode 0600.
    pub fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// The token that only moves addresses, mode 0600.
    pub fn failover_token(&self) -> PathBuf {
        self.0.join("failover_token")
    }

    /// The certificate authority of Spaces, as PEM.
    pub fn spaces_ca(&self) -> PathBuf {
        self.0.join("spaces_ca.crt")
    }

    /// Buckets, and the certificate that Spaces shows.
    pub(crate) fn spaces(&self) -> PathBuf {
        self.0.join("spaces")
    }

    /// What the daemon says.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("daemon.log")
    }

    /// The daemon's process id; the daemon holds a lock on this file for as long as it lives.
    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("daemon.pid")
    }

    /// The parent of the droplets' directories.
    pub(crate) fn droplets(&self) -> PathBuf {
        self.0.join("droplets")
    }

    /// A droplet's directory.
    pub(crate) fn droplet(&self, id: u64) -> PathBuf {
        self.droplets().join(id.to_string())
    }

    /// What a droplet was made from.
    pub(crate) fn spec(&self, id: u64) -> PathBuf {
        self.droplet(id).join("spec.json")
    }

    /// What all droplets were made from, in the order of their ids; those only half made are left out.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read.
    pub fn specs(&self) -> Result<Vec<MachineSpec>> {
        let mut specs = Vec::new();
        for name in list(&self.droplets())? {
            let Ok(id) = name.parse() else { continue };
            let file = self.spec(id);
            match fs::read(&file) {
                Ok(json) => specs.push(
                    serde_json::from_slice::<MachineSpec>(&json)
                        .with_context(|| format!("cannot parse {}", file.display()))?,
                ),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
            }
        }
        specs.sort_by_key(|spec| spec.id);
        Ok(specs)
    }
}

/// The names of all labs that have a home on this machine.
pub(crate) fn all() -> Result<Vec<LabName>> {
    Ok(list(Path::new(ROOT))?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Where the value of `net.ipv4.ip_forward` from before the first lab is kept.
pub(crate) fn forwarding_before() -> PathBuf {
    Path::new(ROOT).join("ip_forward.before")
}

/// Locks a directory itself, which is made if it is not there: no lock file is left behind. Waits for whoever has locked
/// it, once `waits` was told so.
///
/// # Errors
/// The directory cannot be made or locked.
pub(crate) async fn lock_directory(path: &'static str, waits: impl Fn()) -> Result<File> {
    loop {
        fs::create_dir_all(path).with_context(|| format!("cannot create {path}"))?;
        let mut directory = File::open(path).with_context(|| format!("cannot open {path}"))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {path}"));
            }
            Err(TryLockError::WouldBlock) => {
                waits();
                let locked =
                    tokio::task::spawn_blocking(move || directory.lock().map(|()| directory)).await?;
                directory = locked.with_context(|| format!("cannot lock {path}"))?;
            }
        }
        // The one who held the lock may have removed the directory: then this lock is worth nothing.
        let ours = directory.metadata().with_context(|| format!("cannot check {path}"))?;
        if fs::metadata(path).is_ok_and(|now| now.ino() == ours.ino()) {
            return Ok(directory);
        }
    }
}

/// Keeps other starts and stops on this machine out until it is dropped.
pub(crate) struct Exclusive(File);

impl Exclusive {
    /// Waits until no other start or stop is under way; `say` is told if there is one.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub(crate) async fn acquire(say: impl Fn(&str)) -> Result<Self> {
        let waits = || say("waiting for another `cluster lab start` or `stop` on this machine");
        lock_directory(ROOT, waits).await.map(Self)
    }

    /// Lets go, and takes the directory away if no lab is left in it.
    pub(crate) fn release(self) {
        // It is not empty while there is another lab: then it stays.
        let _ = fs::remove_dir(ROOT);
        drop(self.0);
    }
}

/// The names in a directory; none if it does not exist.
pub(crate) fn list(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", directory.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Writes a file whole or not at all, with these permissions from its first byte.
///
/// # Errors
/// The file cannot be written; the old one, if any, is then untouched.
pub(crate) fn write(file: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let attempt = || -> std::io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut handle = File::options().write(true).create_new(true).mode(mode).open(&new)?;
        handle.write_all(content)?;
        fs::rename(&new, file)
    };
    attempt().with_context(|| format!("cannot write {}", file.display()))
}
