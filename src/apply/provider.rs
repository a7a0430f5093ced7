//! Steps that the provider's API does.

use anyhow::{Context as _, Result, bail};

use crate::cloud::preflight::{Setting, Wanted};
use crate::cloud::{Client, droplet, key};
use crate::error::Advice;
use crate::facts::{Cloud, Facts};
use crate::inventory::{DigitalOcean, Provider};
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
            let mut memory = world.state.memory()?;
            memory.floating_ip = Some(made.value.ip);
            world.state.remember(&memory)?;
            client.assign(made.value.ip, preferred, world.pace).await?;
        }
        Action::RecordFloatingIp => {
            let preferred = *ids.first().context("there are no droplets")?;
            client.ensure_reserved_ip(cluster, &ids, preferred, world.pace).await?;
        }
        Action::AssignFloatingIp { droplet, .. } => {
            let address = cloud.floating_ip.as_ref().context("there is no floating IP")?.address;
            client.assign(address, *droplet, world.pace).await?;
        }
        other => bail!("{other:?} is not the provider's"),
    }
    Ok(())
}

/// Makes a node's droplet and waits until it is there; that it has booted is for the next phase.
pub(super) async fn create_droplet(world: &World, facts: &Facts, node: &str) -> Result<()> {
    let (client, provider, _) = parts(world, facts)?;
    let node = world.inventory.node(node).context("no such node")?;
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
        tags: Vec::new(),
        monitoring: false,
    };
    let made = client.ensure_droplet(&spec, world.pace).await?;
    client.wait_droplet_ready(made.value.id, world.pace).await?;
    Ok(())
}

/// Waits for a droplet that an earlier run asked for.
pub(super) async fn await_droplet(world: &World, facts: &Facts, droplet: u64) -> Result<()> {
    let (client, _, _) = parts(world, facts)?;
    client.wait_droplet_ready(droplet, world.pace).await?;
    Ok(())
}

/// Switches a droplet on.
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
