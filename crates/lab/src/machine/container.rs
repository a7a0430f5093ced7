//! Droplets that really boot: systemd-nspawn containers of a Debian image.
//!
//! The kernel is the only truth about what runs: every question is put to the droplet's control group, so a
//! daemon that was restarted finds its droplets as it left them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::cgroup::Cgroup;
use super::disk::Disk;
use super::wire::{self, Wire};
use super::{MachineSpec, Machines, seed};
use crate::fault::Faults;
use crate::{LabName, Subnets, floating, home, image, program};

/// How long systemd-nspawn may take until the droplet's init runs.
const BOOTS: Duration = Duration::from_secs(10);

/// Capabilities beyond systemd-nspawn's own choice: a droplet's root configures its network and its limits. The
/// clock, kernel modules and the host's log stay out of its reach.
const CAPABILITIES: &str = "--capability=CAP_NET_ADMIN,CAP_IPC_LOCK,CAP_SYS_RESOURCE";

/// The droplets of one lab.
#[derive(Clone, Debug)]
pub struct Containers {
    lab: LabName,
    subnets: Subnets,
    port: u16,
    stop: CancellationToken,
}

impl Containers {
    /// The droplets of this lab, whose API listens on this port. When `stop` is cancelled, no more images
    /// are made.
    pub fn new(lab: LabName, subnets: Subnets, port: u16, stop: CancellationToken) -> Self {
        Self { lab, subnets, port, stop }
    }

    fn cgroup(&self, id: u64) -> Result<Cgroup> {
        Cgroup::of(&self.lab, id)
    }

    fn faults(&self) -> Faults<'_> {
        Faults { lab: &self.lab, subnets: &self.subnets, port: self.port }
    }

    /// What a droplet was made from, if it was made.
    fn spec(&self, id: u64) -> Result<Option<MachineSpec>> {
        Ok(home::Home::of(&self.lab).specs()?.into_iter().find(|spec| spec.id == id))
    }

    /// Starts the supervisor and returns when the droplet's init runs.
    async fn boot(&self, spec: &MachineSpec) -> Result<()> {
        let cgroup = self.cgroup(spec.id)?;
        if cgroup.is_populated() {
            return Ok(());
        }
        let disk = Disk::of(&self.lab, spec.id);
        disk.mount().await?;
        cgroup.create()?;
        self.faults().melt(spec).await?;
        Wire { lab: &self.lab, subnets: &self.subnets, spec }.plug().await?;

        let script = include_str!("../../../../templates/lab/supervisor.sh");
        home::write(&disk.supervisor(), 0o600, script.as_bytes())?;
        let console = File::create(disk.console()).context("cannot write the console's log")?;
        let mut supervisor = program::command("setsid")
            .arg("sh")
            .arg(disk.supervisor())
            .arg(cgroup.entrance())
            .arg(self.lab.machine(spec.id))
            .arg(format!("--directory={}", disk.root().display()))
            .arg(format!("--machine={}", self.lab.machine(spec.id)))
            .arg(format!("--hostname={}", spec.name))
            .args(["--boot", "--register=no", "--keep-unit", "--console=read-only", "--link-journal=no"])
            .args(["--resolv-conf=off", "--timezone=off", "--rlimit=NOFILE=1024:524288", CAPABILITIES])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(console.try_clone().context("cannot write the console's log")?)
            .stderr(console)
            .spawn()
            .context("cannot run `setsid`")?;

        let deadline = Instant::now() + BOOTS;
        while cgroup.init().is_none() {
            let ended = supervisor.try_wait().context("cannot monitor a droplet")?;
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(disk.console()).unwrap_or_default();
                let last: Vec<_> = said.lines().rev().take(5).collect();
                bail!(
                    "droplet {} does not boot: {}",
                    spec.id,
                    last.into_iter().rev().collect::<Vec<_>>().join(" / ")
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Machines for Containers {
    async fn create(&self, spec: &MachineSpec) -> Result<()> {
        let disk = Disk::of(&self.lab, spec.id);
        if !disk.is_complete() {
            let image = tokio::select! {
                image = image::ensure(&spec.image, |_| {}) => image?,
                () = self.stop.cancelled() => bail!("the lab is being stopped"),
            };
            disk.create(&image).await?;
            seed::plant(&disk.root(), spec, self.subnets.gateway(), self.port)?;
            disk.complete(spec)?;
        }
        self.boot(spec).await
    }

    async fn power_on(&self, spec: &MachineSpec) -> Result<()> {
        if !Disk::of(&self.lab, spec.id).is_complete() {
            bail!("droplet {} has no disk", spec.id);
        }
        self.boot(spec).await
    }

    /// The cables first: then neither a FIN nor a reset tells the other hosts, as when the power goes.
    async fn power_off(&self, id: u64) -> Result<()> {
        let cgroup = self.cgroup(id)?;
        if cgroup.is_populated() {
            if let Some(spec) = self.spec(id)? {
                wire::cut(&self.lab, self.subnets.index(spec.public_ip)).await?;
            }
            cgroup.kill().await?;
        }
        wire::unplug(&self.lab, id).await?;
        cgroup.remove()
    }

    async fn shutdown(&self, id: u64) -> Result<()> {
        // systemd-nspawn passes SIGTERM on to the droplet's init as the signal to power off.
        if let Some(supervisor) = self.cgroup(id)?.supervisor() {
            kill_process(supervisor, Signal::TERM).context("cannot signal systemd-nspawn")?;
        }
        Ok(())
    }

    async fn is_running(&self, id: u64) -> bool {
        self.cgroup(id).is_ok_and(|cgroup| cgroup.is_populated())
    }

    async fn destroy(&self, id: u64) -> Result<()> {
        self.power_off(id).await?;
        if let Some(spec) = self.spec(id)? {
            self.faults().forget(&spec).await?;
        }
        Disk::of(&self.lab, id).destroy().await
    }

    async fn route(&self, table: &BTreeMap<Ipv4Addr, Ipv4Addr>) -> Result<()> {
        floating::replace(&self.lab, table).await
    }
}
