//! Starting a lab, stopping it, and clearing away what a killed one has left.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::home::{Exclusive, Home};
use super::machine::{cgroup, wire};
use super::network::{self, Network};
use super::settings::LabSettings;
use super::{LabName, daemon, firewall, home, image, mounts, prerequisites, resources};
use crate::Wrong;

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was running, with these settings.
    AlreadyRunning,
    /// It runs now.
    Now,
}

/// Starts a lab: images, networks, daemon. What a killed run of the same name left behind is cleared away
/// first, or, with `resume`, taken up again: droplets that still run are not disturbed.
///
/// `say` is told what takes long.
///
/// # Errors
/// Something is missing on this machine, the port or an address range is in use, or the lab runs with
/// other settings. What a failed start has made, it has taken away again.
pub async fn start(
    settings: &LabSettings,
    images: &[String],
    resume: bool,
    say: impl Fn(&str),
) -> Result<Started> {
    prerequisites::check()?;
    for line in resources::prepare(Home::of(&settings.name).path()) {
        say(&line);
    }
    for slug in images {
        if !image::is_cached(slug) {
            say(&format!("building the image {slug}: half a minute, once"));
        }
        image::ensure(slug, &say).await?;
    }
    let exclusive = Exclusive::acquire(&say).await?;
    let name = &settings.name;
    if daemon::running(name)?.is_some() {
        let running = LabSettings::load(name)?.context("the lab is running, but its settings are missing")?;
        if (running.port, running.subnets) != (settings.port, settings.subnets) {
            bail!(Wrong::new(
                format!("lab {name} is already running, on port {} with {}", running.port, running.subnets),
                format!("stop it with `cluster lab stop --name {name}`, or choose another --name")
            ));
        }
        if daemon::answers(&running).await? {
            return Ok(Started::AlreadyRunning);
        }
        // It does not serve, or no longer: whatever keeps it, it is of no use.
        daemon::end(name).await?;
    }
    let kept = if resume { LabSettings::load(name)? } else { None };
    let resume = kept.is_some();
    let settings = kept.as_ref().unwrap_or(settings);
    if !resume {
        clear(name).await?;
        network::remove_routes(&others(name)?).await?;
    }
    let begun = begin(settings, resume).await;
    if begun.is_err() && !resume {
        clear(name).await?;
        tidy(name, exclusive, &say).await?;
    }
    begun?;
    if let Some(warning) = firewall::warning(name).await? {
        say(&warning);
    }
    Ok(Started::Now)
}

async fn begin(settings: &LabSettings, resume: bool) -> Result<()> {
    for port in [settings.port, settings.spaces_port()] {
        if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            bail!(Wrong::new(format!("port {port} is not free: {error}"), "choose another port with --port"));
        }
    }
    let home = Home::of(&settings.name);
    if !resume {
        fs::create_dir_all(home.path())
            .with_context(|| format!("cannot create {}", home.path().display()))?;
        // What is in it has secrets, and files with the set-user-id bit.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(home.droplets())
            .context("cannot create the droplets' directory")?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(home.spaces())
            .context("cannot create the directory of Spaces")?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))
            .context("cannot set permissions")?;
        settings.save()?;
        for file in [home.token(), home.failover_token()] {
            home::write(&file, 0o600, token()?.as_bytes())?;
        }
    }
    let network = Network { lab: &settings.name, subnets: &settings.subnets, port: settings.port };
    if !(resume && network.is_up().await?) {
        if resume {
            for id in cgroup::droplets(&settings.name)? {
                if cgroup::Cgroup::of(&settings.name, id)?.is_populated() {
                    bail!(Wrong::new(
                        "droplets run, and a part of the laboratory's network is gone (after `nft flush ruleset`, maybe)",
                        "stop it with `cluster lab stop`, which deletes its droplets, and start it anew"
                    ));
                }
            }
            // After a start of this machine there is nothing of it; one that was killed may have made half of it.
            network::down(&settings.name).await?;
            network::remove_routes(&others(&settings.name)?).await?;
        }
        network.up().await?;
    }
    daemon::launch(settings).await
}

/// A token of the provider's form.
fn token() -> Result<String> {
    let mut random = [0_u8; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("dop_v1_{digits}"))
}

/// Stops a lab and takes away everything it made; with `purge`, the images as well. True if there was
/// anything to stop. `say` is told what stays as it is.
///
/// # Errors
/// Something could not be taken away: the error says what, the rest is gone, and a second stop tries again.
pub async fn stop(name: &LabName, purge: bool, say: impl Fn(&str)) -> Result<bool> {
    prerequisites::root()?;
    let exclusive = Exclusive::acquire(&say).await?;
    let was_there = Home::of(name).path().exists();
    daemon::end(name).await?;
    clear(name).await?;
    let others = others(name)?;
    tidy(name, exclusive, &say).await?;
    image::sweep()?;
    if purge {
        if !others.is_empty() {
            bail!("the images are kept: another lab uses them");
        }
        image::purge(&say).await?;
    }
    Ok(was_there)
}

/// Takes away whatever a lab without a daemon has left on this machine: processes, namespaces, mounts,
/// links, rules, files. Everything is found by the lab's name, and no process is touched that is not in the
/// control group of one of its droplets.
async fn clear(name: &LabName) -> Result<()> {
    let mut problems = Vec::new();
    let mut note = |result: Result<()>| problems.extend(result.err().map(|error| format!("{error:#}")));

    for id in cgroup::droplets(name)? {
        let group = cgroup::Cgroup::of(name, id)?;
        note(group.kill().await);
        note(group.remove());
    }
    note(cgroup::remove_lab(name));
    for id in wire::namespaces()?.iter().filter_map(|namespace| name.machine_id(namespace)) {
        note(wire::unplug(name, id).await);
    }
    note(network::down(name).await);
    note(forget_nspawn(name));
    let home = Home::of(name);
    let unmounted = mounts::unmount_below(home.path()).await;
    // Never delete through a mount.
    if unmounted.is_ok() {
        note(remove(home.path()));
    }
    note(unmounted);
    if !problems.is_empty() {
        bail!("parts of lab {name} could not be removed:\n{}", problems.join("\n"));
    }
    Ok(())
}

/// What systemd-nspawn leaves when it is killed, and its directories, if nothing else uses them.
fn forget_nspawn(name: &LabName) -> Result<()> {
    let nspawn = Path::new("/run/systemd/nspawn");
    let propagate = nspawn.join("propagate");
    for machine in home::list(&propagate)? {
        if name.machine_id(&machine).is_some() {
            remove(&propagate.join(machine))?;
        }
    }
    for directory in [&propagate, &nspawn.join("locks"), nspawn] {
        // Not empty while any container runs: then it stays.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// What all labs share goes with the last one.
async fn tidy(name: &LabName, exclusive: Exclusive, say: impl Fn(&str)) -> Result<()> {
    let others = others(name)?;
    network::remove_routes(&others).await?;
    if others.is_empty() {
        if let Some(note) = network::restore_forwarding().await? {
            say(&note);
        }
        wire::tidy().await?;
    }
    exclusive.release();
    Ok(())
}

/// The ranges of the other labs on this machine.
fn others(name: &LabName) -> Result<Vec<super::Subnets>> {
    let all = LabSettings::all()?;
    Ok(all.into_iter().filter(|other| other.name != *name).map(|other| other.subnets).collect())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
