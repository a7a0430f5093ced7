//! Steps carried out by the provider.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::error::{Advice, hinted};
use crate::facts::{Cloud, Facts, ServerStatus};
use crate::inventory::Node;
use crate::plan::{Action, Step};
use crate::provider::{Api, Left, NotEnsured};
use crate::world::World;

fn parts<'a>(world: &'a World, facts: &'a Facts) -> Result<(&'a Api, &'a Cloud)> {
    world.provider.as_ref().zip(facts.cloud.as_ref()).context("this inventory has no provider")
}

pub(super) async fn run(world: &World, facts: &Facts, step: &Step) -> Result<()> {
    let (api, cloud) = parts(world, facts)?;
    let ids: Vec<u64> = cloud.servers.values().map(|server| server.id).collect();
    match &step.action {
        Action::ImportSshKey => api.ensure_ssh_key(&world.public_key().await?).await,
        Action::MakeRepository => world.make_repository().await,
        Action::CreateFloatingIp { node } => {
            let preferred = cloud.servers.get(node).with_context(|| format!("{node} has no droplet"))?.id;
            let address = api.ensure_address(&ids, preferred).await?;
            world.state.remember(|memory| memory.floating_ip = Some(address))?;
            api.assign_address(address, preferred).await
        }
        Action::RecordFloatingIp => {
            let preferred = *ids.first().context("the cluster has no droplets")?;
            api.ensure_address(&ids, preferred).await.map(drop)
        }
        Action::AssignFloatingIp { server, .. } => {
            let address = cloud.floating_ip.as_ref().context("the cluster has no floating IP")?.address;
            api.assign_address(address, *server).await
        }
        other => bail!("{other:?} is not a step for the provider"),
    }
}

/// Creates a node's server and waits until it is active; the next phase waits for its boot.
pub(super) async fn create_server(world: &World, facts: &Facts, node: &str) -> Result<()> {
    let (api, _) = parts(world, facts)?;
    let node = world.inventory.node(node).context("no such node")?;
    let server = match api.ensure_server(node, world.public_key(), world.user_data(node)).await {
        Ok(server) => server,
        Err(NotEnsured { error, left }) => {
            match left {
                Left::Server(id) => remember(world, node, id)?,
                Left::Nothing => world.not_made(node)?,
                // It may have been made, and then the key is all that knows it.
                Left::Unknown => {}
            }
            return Err(error);
        }
    };
    remember(world, node, server.id)?;
    if server.made {
        world.made(node)?;
    }
    api.await_server(server.id).await
}

/// Records the server's id: without its tag, nothing else would identify it.
fn remember(world: &World, node: &Node, id: u64) -> Result<()> {
    world.state.remember(|memory| {
        memory.servers.entry(id).or_default().node.clone_from(&node.name);
    })
}

/// Deletes a server that the provider has failed to make, and makes it anew.
pub(super) async fn remake_server(world: &World, facts: &Facts, node: &str, id: u64) -> Result<()> {
    let (api, _) = parts(world, facts)?;
    api.delete_failed_server(node, id).await?;
    create_server(world, facts, node).await
}

/// Waits for a server that an earlier run requested.
pub(super) async fn await_server(world: &World, facts: &Facts, id: u64) -> Result<()> {
    let (api, _) = parts(world, facts)?;
    api.await_server(id).await
}

/// Whether the provider reports that a node's server does not exist. False if the provider does not answer.
pub(super) async fn is_gone(world: &World, facts: &Facts, node: &str) -> bool {
    let Ok((api, cloud)) = parts(world, facts) else { return false };
    let id = cloud.servers.get(node).map(|server| server.id).or_else(|| {
        // Made since those facts were seen.
        let known = world.state.memory().ok()?.servers;
        known.into_iter().rev().find(|(_, server)| server.node == node).map(|(id, _)| id)
    });
    match id {
        Some(id) => api.is_gone(id).await,
        None => false,
    }
}

/// Systems that are asked to shut down do so within a minute, or never.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(90);

/// Shuts a server down, gives it another size and powers it on. Whatever of that is done already is not done again.
pub(super) async fn resize(
    world: &World,
    facts: &Facts,
    id: u64,
    size: &str,
    disk_gib: Option<u64>,
    node: &str,
) -> Result<()> {
    let (api, cloud) = parts(world, facts)?;
    let is_off = cloud.servers.get(node).is_some_and(|server| server.status == ServerStatus::Off);
    if !is_off {
        world.report.progress(node, "shutting down");
        world.disconnect(node).await;
        if let Err(error) = api.shut_down(id, SHUTDOWN_PATIENCE).await {
            // It may go off yet.
            return resized_and_on(id, Err(error), power_on(world, facts, id).await);
        }
    }
    world.report.progress(node, format!("the provider makes it {size}: up to a minute for each GB in use"));
    let disk = cloud.servers.get(node).and_then(|server| server.disk_gib).unwrap_or(LARGEST_DISK_GIB);
    let resized = api.resize(id, size, disk_gib, resize_patience(disk)).await;
    // Whether it has another size or not: a node that is off protects nothing.
    let powered_on = power_on(world, facts, id).await;
    resized_and_on(id, resized, powered_on)
}

/// The disk of the largest droplets.
const LARGEST_DISK_GIB: u64 = 2_000;

/// As long as the provider says that it may take, and ten minutes: it copies a disk at about a minute for each GB in use.
fn resize_patience(disk_gib: u64) -> Duration {
    Duration::from_secs(60 * (10 + disk_gib))
}

/// What came of a resize, and of powering on after it.
fn resized_and_on(id: u64, resized: Result<()>, powered_on: Result<()>) -> Result<()> {
    match (resized, powered_on) {
        (Ok(()), powered_on) => powered_on,
        (Err(error), Ok(())) => {
            Err(error.context(format!("cannot resize droplet {id}, which is powered on again")))
        }
        (Err(error), Err(off)) => Err(hinted(
            error.context(format!(
                "cannot resize droplet {id}, which is off, and cannot be powered on: {off:#}"
            )),
            "the provider may still be working on it; once it has finished, run this again: it powers the droplet on",
        )),
    }
}

/// Powers a server on, and remembers it: a host that boots is silent for a while, whoever asks.
pub(super) async fn power_on(world: &World, facts: &Facts, id: u64) -> Result<()> {
    let (api, _) = parts(world, facts)?;
    world.state.remember(|memory| {
        if let Some(server) = memory.servers.get_mut(&id) {
            server.powered_on = Some(jiff::Timestamp::now());
        }
    })?;
    api.power_on(id).await
}

impl World {
    /// Asks the provider, before anything is made, whether it can be.
    ///
    /// # Errors
    /// [`Advice`] with everything that stands in the way.
    pub async fn preflight(&self, facts: &Facts) -> Result<()> {
        self.usable_key().await?;
        let Ok((api, cloud)) = parts(self, facts) else { return Ok(()) };
        let lacks = |node: &&Node| !cloud.servers.contains_key(&node.name);
        let missing: Vec<(usize, &Node)> =
            self.inventory.nodes.iter().enumerate().filter(|(_, node)| lacks(node)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let problems = api.preflight(&missing, cloud.floating_ip.is_some()).await?;
        if problems.is_empty() {
            return Ok(());
        }
        Err(Advice::refused_for(problems).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{hint_of, render};

    #[test]
    fn a_droplet_is_called_powered_on_only_if_it_is() {
        let failed = |what: &str| Err(anyhow::anyhow!("{what}"));
        assert!(resized_and_on(7, Ok(()), Ok(())).is_ok());
        assert_eq!(resized_and_on(7, Ok(()), failed("no power")).unwrap_err().to_string(), "no power");
        let on = resized_and_on(7, failed("no size"), Ok(())).unwrap_err();
        assert!(
            render(&on).contains("droplet 7, which is powered on again") && render(&on).contains("no size")
        );
        let off = resized_and_on(7, failed("no size"), failed("no power")).unwrap_err();
        assert!(!render(&off).contains("powered on again"), "{}", render(&off));
        assert!(render(&off).contains("no size") && render(&off).contains("no power"));
        assert!(hint_of(&off).unwrap().contains("run this again"));
    }

    #[test]
    fn a_full_disk_of_the_largest_droplet_is_waited_for() {
        assert!(resize_patience(25) > Duration::from_secs(25 * 60));
        assert!(resize_patience(LARGEST_DISK_GIB) > Duration::from_secs(LARGEST_DISK_GIB * 60));
    }
}
