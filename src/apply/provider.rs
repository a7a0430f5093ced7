//! Steps carried out by the provider's API.

use anyhow::{Context as _, Result, bail};
use cluster_cloud::preflight::{Setting, Wanted};
use cluster_cloud::{Client, Error, droplet, key};

use crate::error::Advice;
use crate::facts::{Cloud, Facts};
use crate::inventory::{DigitalOcean, Node, Provider};
use crate::plan::{Action, Step};
use crate::world::World;

fn parts<'a>(world: &'a World, facts: &'a Facts) -> Result<(&'a Client, &'a DigitalOcean, &'a Cloud)> {
    match (&world.cloud, &world.inventory.provider, &facts.cloud) {
        (Some(client), Provider::DigitalOcean(provider), Some(cloud)) => Ok((client, provider, cloud)),
        _ => bail!("this inventory has no provider"),
    }
}

pub(super) async fn run(world: &World, facts: &Facts, step: &Step) -> Result<()> {
    let (client, _, cloud) = parts(world, facts)?;
    let cluster = &world.inventory.cluster;
    let ids: Vec<u64> = cloud.droplets.values().map(|droplet| droplet.id).collect();
    match &step.action {
        Action::ImportSshKey => {
            client.ensure_ssh_key(cluster, &world.public_key().await?).await?;
        }
        Action::CreateFloatingIp { node } => {
            let preferred = cloud.droplets.get(node).with_context(|| format!("{node} has no droplet"))?.id;
            let made = client.ensure_reserved_ip(cluster, &ids, preferred, world.pace).await?;
            world.state.remember(|memory| memory.floating_ip = Some(made.value.ip))?;
            client.assign(made.value.ip, preferred, world.pace).await?;
        }
        Action::RecordFloatingIp => {
            let preferred = *ids.first().context("the cluster has no droplets")?;
            client.ensure_reserved_ip(cluster, &ids, preferred, world.pace).await?;
        }
        Action::AssignFloatingIp { droplet, .. } => {
            let address = cloud.floating_ip.as_ref().context("the cluster has no floating IP")?.address;
            client.assign(address, *droplet, world.pace).await?;
        }
        other => bail!("{other:?} is not a step for the provider"),
    }
    Ok(())
}

/// Creates a node's droplet and waits until it is active; the next phase waits for its boot.
pub(super) async fn create_droplet(world: &World, facts: &Facts, node: &str) -> Result<()> {
    let (client, provider, _) = parts(world, facts)?;
    let node = world.inventory.node(node).context("no such node")?;
    // A look first: for one that is there, no key is made and none that is pinned is touched.
    if let Some(found) = client.find_droplet(&world.inventory.cluster, &node.name, world.pace).await? {
        remember(world, node, found.id)?;
        client.wait_droplet_ready(found.id, world.pace).await?;
        return Ok(());
    }
    let fingerprint =
        key::fingerprint(&world.public_key().await?).context("the public key cannot be read")?;
    let spec = droplet::DropletSpec {
        cluster: world.inventory.cluster.clone(),
        name: node.name.clone(),
        region: provider.region.clone(),
        size: provider.size.clone(),
        image: provider.image.clone(),
        ssh_keys: vec![fingerprint],
        user_data: Some(world.user_data(node).await?),
        vpc_uuid: provider.vpc.clone(),
    };
    let made = match client.ensure_droplet(&spec, world.pace).await {
        Ok(made) => made,
        Err(error) => {
            match &error {
                // It is there, and nothing but its id leads to it.
                Error::Untagged { id, .. } => remember(world, node, *id)?,
                // After any other error it may have been made, and then the key is all that knows it.
                Error::Refused(answer) if answer.call.method == "POST" => world.not_made(node)?,
                _ => {}
            }
            return Err(error.into());
        }
    };
    remember(world, node, made.value.id)?;
    if made.made {
        world.made(node)?;
    }
    client.wait_droplet_ready(made.value.id, world.pace).await?;
    Ok(())
}

/// Records the droplet's id: without its tag, nothing else would identify it.
fn remember(world: &World, node: &Node, id: u64) -> Result<()> {
    world.state.remember(|memory| {
        memory.droplets.entry(id).or_default().node.clone_from(&node.name);
    })
}

/// Deletes a droplet that the provider has failed to make, and makes it anew. Everything that says that it holds
/// nothing is asked once more.
pub(super) async fn remake_droplet(world: &World, facts: &Facts, node: &str, id: u64) -> Result<()> {
    let (client, _, _) = parts(world, facts)?;
    client.destroy_failed_droplet(&world.inventory.cluster, node, id, world.pace).await?;
    create_droplet(world, facts, node).await
}

/// Waits for a droplet that an earlier run requested.
pub(super) async fn await_droplet(world: &World, facts: &Facts, droplet: u64) -> Result<()> {
    let (client, _, _) = parts(world, facts)?;
    client.wait_droplet_ready(droplet, world.pace).await?;
    Ok(())
}

/// Whether the provider reports that a node's droplet does not exist. False if the provider does not answer.
pub(super) async fn is_gone(world: &World, facts: &Facts, node: &str) -> bool {
    let Ok((client, _, cloud)) = parts(world, facts) else { return false };
    let id = cloud.droplets.get(node).map(|droplet| droplet.id).or_else(|| {
        // Made since those facts were seen.
        let known = world.state.memory().ok()?.droplets;
        known.into_iter().rev().find(|(_, droplet)| droplet.node == node).map(|(id, _)| id)
    });
    match id {
        Some(id) => matches!(client.droplet(id).await, Ok(None)),
        None => false,
    }
}

/// Powers a droplet on.
pub(super) async fn power_on(world: &World, facts: &Facts, droplet: u64) -> Result<()> {
    let (client, _, _) = parts(world, facts)?;
    Ok(client.power(droplet, droplet::Power::On, world.pace).await?)
}

impl World {
    /// Asks the provider, before anything is made, whether it can be.
    ///
    /// # Errors
    /// [`Advice`] with everything that stands in the way.
    pub async fn preflight(&self, facts: &Facts) -> Result<()> {
        self.usable_key().await?;
        let Ok((client, provider, cloud)) = parts(self, facts) else { return Ok(()) };
        let missing =
            self.inventory.nodes.iter().filter(|node| !cloud.droplets.contains_key(&node.name)).count();
        if missing == 0 {
            return Ok(());
        }
        let setting = |value: &str, key: &str| Setting {
            value: value.to_owned(),
            key: format!("provider.digitalocean.{key}"),
        };
        let wanted = Wanted {
            region: setting(&provider.region, "region"),
            sizes: vec![setting(&provider.size, "size")],
            images: vec![setting(&provider.image, "image")],
            vpc: provider.vpc.as_deref().map(|vpc| setting(vpc, "vpc")),
            new_droplets: missing as u64,
            new_addresses: u64::from(provider.floating_ip && cloud.floating_ip.is_none()),
        };
        let problems = client.preflight(&wanted).await?;
        if problems.is_empty() {
            return Ok(());
        }
        let reasons = problems.into_iter().map(|it| (format!("{}: {}", it.place, it.what), it.hint));
        Err(Advice::refused_for(reasons).into())
    }
}
