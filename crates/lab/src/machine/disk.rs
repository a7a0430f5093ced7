//! A droplet's disk: an overlay of its own changes on its image.
//!
//! It lives through a power cycle as it is, page cache included: what a database had not yet fsynced when the
//! plug was pulled is *not* lost here, as it would be on hardware. Tests of durability need something else.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::MachineSpec;
use crate::home::{self, Home};
use crate::{LabName, mounts, program};

/// The disk of one droplet, which may not exist.
pub(crate) struct Disk {
    directory: PathBuf,
    source: String,
}

impl Disk {
    /// The disk of this droplet.
    pub(crate) fn of(lab: &LabName, id: u64) -> Self {
        Self { directory: Home::of(lab).droplet(id), source: lab.machine(id) }
    }

    /// Where the droplet's root directory is when it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The script that holds the droplet while it is on.
    pub(crate) fn supervisor(&self) -> PathBuf {
        self.directory.join("supervisor.sh")
    }

    /// What the droplet's console said since it last booted.
    pub(crate) fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Makes an empty disk on this image and mounts it. One that exists is mounted as it is.
    ///
    /// # Errors
    /// The disk is full, or the kernel has no overlay file system.
    pub(crate) async fn create(&self, image: &std::path::Path) -> Result<()> {
        for part in ["upper", "work", "root"] {
            let part = self.directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let lower = self.directory.join("image");
        let _ = fs::remove_file(&lower);
        std::os::unix::fs::symlink(image, &lower)
            .with_context(|| format!("cannot create {}", lower.display()))?;
        self.mount().await
    }

    /// Records what the droplet is made from: with this its creation is complete.
    pub(crate) fn complete(&self, spec: &MachineSpec) -> Result<()> {
        let json = serde_json::to_vec_pretty(spec).context("cannot write a droplet's specification")?;
        home::write(&self.directory.join("spec.json"), 0o600, &json)
    }

    /// Whether [`Self::complete`] has been reached.
    pub(crate) fn is_complete(&self) -> bool {
        self.directory.join("spec.json").exists()
    }

    /// Mounts the disk, if it is not: after a restart of the machine it is not.
    pub(crate) async fn mount(&self) -> Result<()> {
        let root = self.root();
        if mounts::is_mounted(&root)? {
            return Ok(());
        }
        let image = self.directory.join("image");
        let lower = fs::read_link(&image).with_context(|| format!("cannot read {}", image.display()))?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            self.directory.join("upper").display(),
            self.directory.join("work").display()
        );
        program::run(
            "mount",
            &[
                "-t".as_ref(),
                "overlay".as_ref(),
                self.source.as_ref(),
                "-o".as_ref(),
                options.as_ref(),
                root.as_os_str(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Unmounts and deletes the disk, if it is there.
    ///
    /// # Errors
    /// Something still uses it.
    pub(crate) async fn destroy(&self) -> Result<()> {
        mounts::unmount_below(&self.directory).await?;
        let directory = self.directory.clone();
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(directory)).await?;
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}
