//! The cluster's resources at the provider, and which node each droplet is.
//!
//! A droplet is a node's by the cluster's tag and its name. A name and a tag are one click in a web page, so what this
//! machine remembers counts too: a droplet that was made as a node, and is there, is never made a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use cluster_cloud::model::{self, DropletStatus};
use cluster_cloud::{Client, Error, key, names};
use cluster_contract::config::Config;
use cluster_contract::paths;

use crate::error::Advice;
use crate::facts::{Cloud, Droplet, Facts, FloatingIp, Host, Stray};
use crate::state::{KnownDroplet, Memory};
use crate::world::World;

impl World {
    /// Queries the provider.
    ///
    /// # Errors
    /// When it does not answer; when two droplets could be the same node.
    pub(super) async fn observe_cloud(&self, client: &Client, memory: &Memory) -> Result<Cloud> {
        let cluster = &self.inventory.cluster;
        let tag = names::cluster_tag(cluster);
        let (listed, addresses) = tokio::try_join!(client.droplets(&tag), client.reserved_ips())
            .with_context(|| {
                format!("cannot list the cluster's droplets and floating IPs at {}", client.base_url())
            })?;
        let mut gone = BTreeSet::new();
        let mut unlisted = Vec::new();
        for id in memory.droplets.keys().filter(|id| listed.iter().all(|droplet| droplet.id != **id)) {
            match client.droplet(*id).await.with_context(|| format!("cannot look up droplet {id}"))? {
                Some(droplet) => unlisted.push(droplet),
                None => drop(gone.insert(*id)),
            }
        }
        // A list may lack what was made a moment ago.
        let late = unlisted.extract_if(.., |droplet| droplet.tags.contains(&tag));
        let listed: Vec<model::Droplet> = listed.into_iter().chain(late).collect();
        let ours: Vec<&model::Droplet> = listed.iter().chain(&unlisted).collect();
        let recorded: Vec<Ipv4Addr> = ours
            .iter()
            .flat_map(|droplet| &droplet.tags)
            .filter_map(|tag| names::recorded_address(cluster, tag))
            .chain(memory.floating_ip)
            .collect();
        let is_ours = |holder: u64| ours.iter().any(|droplet| droplet.id == holder);
        let is_recorded = |address: &&model::ReservedIp| recorded.contains(&address.ip);
        let fact = |it: &model::ReservedIp| FloatingIp { address: it.ip, droplet: it.holder() };
        // The address of one of our droplets, else one that is written down and that no stranger has.
        let floating_ip = addresses
            .iter()
            .find(|address| address.holder().is_some_and(is_ours))
            .or_else(|| addresses.iter().filter(is_recorded).find(|it| it.holder().is_none()))
            .map(fact);
        let taken = addresses.iter().find(is_recorded).map(fact).filter(|_| floating_ip.is_none());
        let record = floating_ip.as_ref().map(|it| names::address_tag(cluster, it.address));
        let nodes: Vec<&str> = self.inventory.nodes.iter().map(|node| node.name.as_str()).collect();
        let (mut droplets, strays) = sort(cluster, &nodes, &listed, &unlisted, &memory.droplets)?;
        for droplet in droplets.values_mut() {
            let seen = ours.iter().find(|it| it.id == droplet.id);
            droplet.records_floating_ip =
                record.as_ref().is_some_and(|tag| seen.is_some_and(|seen| seen.tags.contains(tag)));
            // Asked only where it matters: it should have addresses, and has none.
            if droplet.status == "new" && droplet.public.is_none() {
                droplet.failed = client
                    .creation_failed(droplet.id)
                    .await
                    .with_context(|| format!("cannot look up droplet {}", droplet.id))?;
            }
        }
        // Asked only when it matters: a droplet that is to be made.
        let ssh_key = if nodes.iter().all(|node| droplets.contains_key(*node)) {
            true
        } else {
            let fingerprint =
                key::fingerprint(&self.public_key().await?).context("cannot read the public key")?;
            client
                .ssh_key(&fingerprint)
                .await
                .context("cannot look up the SSH key at the provider")?
                .is_some()
        };
        let cloud = Cloud { ssh_key, droplets, strays, floating_ip, taken, remembered: None };
        self.state.remember(|memory| note(memory, &cloud, &nodes, &gone))?;
        Ok(cloud)
    }

    /// The cloud as it was last seen, for what needs no more than the way to the hosts. `None` if this machine has
    /// never seen it.
    pub(super) fn remembered_cloud(&self, memory: &Memory, why: &Error, url: &str) -> Option<Cloud> {
        let droplets: BTreeMap<String, Droplet> = memory
            .droplets
            .iter()
            .filter(|(_, known)| known.public.is_some() && self.inventory.node(&known.node).is_some())
            .map(|(id, known)| {
                let droplet = Droplet {
                    id: *id,
                    status: "active".into(),
                    public: known.public,
                    private: known.private,
                    region: None,
                    size: None,
                    image: None,
                    vpc: None,
                    records_floating_ip: true,
                    renamed: None,
                    untagged: false,
                    failed: false,
                };
                (known.node.clone(), droplet)
            })
            .collect();
        if droplets.is_empty() {
            return None;
        }
        let since = memory.listed.map_or("an earlier run".into(), |at| at.strftime("%F %TZ").to_string());
        let why = innermost(why);
        let remembered = Some(format!(
            "the provider's API does not answer ({url}: {why}): showing its state from memory of {since}"
        ));
        let floating_ip = memory.floating_ip.map(|address| FloatingIp { address, droplet: None });
        Some(Cloud { ssh_key: true, droplets, strays: Vec::new(), floating_ip, taken: None, remembered })
    }

    /// Droplets that the nodes know as their peers' and that nothing else leads to: looked for where a node seems to
    /// have none, so that it is not made a second time.
    pub(super) async fn find_peers(&self, facts: &mut Facts) -> Result<()> {
        let (Some(client), Some(cloud)) = (&self.cloud, &mut facts.cloud) else { return Ok(()) };
        let missing = |name: &str| matches!(facts.hosts.get(name), Some(Host::Missing));
        let known: BTreeMap<u64, String> = facts
            .hosts
            .values()
            .filter_map(|host| host.up()?.files.get(paths::CONFIG)?.content.as_deref())
            .filter_map(|text| serde_json::from_str::<Config>(text).ok())
            .filter(|config| config.cluster == self.inventory.cluster)
            .flat_map(|config| config.members)
            .filter_map(|member| Some((member.droplet_id?, member.name)))
            .filter(|(_, name)| missing(name))
            .collect();
        for (id, node) in known {
            if cloud.droplets.values().any(|it| it.id == id) || cloud.strays.iter().any(|it| it.id == id) {
                continue;
            }
            if let Some(found) =
                client.droplet(id).await.with_context(|| format!("cannot look up droplet {id}"))?
            {
                let tagged = found.tags.contains(&names::cluster_tag(&self.inventory.cluster));
                cloud.strays.push(Stray { id, name: found.name, tagged, node: Some(node) });
            }
        }
        Ok(())
    }
}

/// Assigns droplets to nodes; the rest are strays.
fn sort(
    cluster: &str,
    nodes: &[&str],
    listed: &[model::Droplet],
    unlisted: &[model::Droplet],
    known: &BTreeMap<u64, KnownDroplet>,
) -> Result<(BTreeMap<String, Droplet>, Vec<Stray>)> {
    let mut droplets: BTreeMap<String, Droplet> = BTreeMap::new();
    for droplet in listed.iter().filter(|droplet| nodes.contains(&droplet.name.as_str())) {
        if let Some(twin) = droplets.insert(droplet.name.clone(), fact(droplet)) {
            return Err(Advice::refused(format!(
                "two droplets of cluster `{cluster}` are named {}: {} and {}",
                droplet.name, twin.id, droplet.id
            ))
            .hint("delete the one that is not in use")
            .into());
        }
    }
    let mut strays = Vec::new();
    let renamed = listed.iter().filter(|droplet| !nodes.contains(&droplet.name.as_str()));
    for (droplet, tagged) in renamed.map(|it| (it, true)).chain(unlisted.iter().map(|it| (it, false))) {
        let node = known.get(&droplet.id).map(|known| known.node.clone());
        match node.filter(|node| nodes.contains(&node.as_str()) && !droplets.contains_key(node)) {
            Some(node) => {
                let renamed = Some(droplet.name.clone()).filter(|name| *name != node);
                drop(droplets.insert(node, Droplet { renamed, untagged: !tagged, ..fact(droplet) }));
            }
            None => strays.push(Stray {
                id: droplet.id,
                name: droplet.name.clone(),
                tagged,
                node: known.get(&droplet.id).map(|known| known.node.clone()).filter(|it| *it != droplet.name),
            }),
        }
    }
    Ok((droplets, strays))
}

fn fact(droplet: &model::Droplet) -> Droplet {
    Droplet {
        id: droplet.id,
        status: status(droplet.status).to_owned(),
        public: droplet.public_ipv4(),
        private: droplet.private_ipv4(),
        region: droplet.region.as_ref().map(|region| region.slug.clone()),
        size: Some(droplet.size_slug.clone()).filter(|slug| !slug.is_empty()),
        image: droplet.image.as_ref().and_then(|image| image.slug.clone()),
        vpc: droplet.vpc_uuid.clone(),
        records_floating_ip: false,
        renamed: None,
        untagged: false,
        failed: false,
    }
}

/// Remembers what was seen. A droplet that is gone is forgotten once another has its place: until then it may be one
/// that was made a moment ago, which the API does not know yet.
fn note(memory: &mut Memory, cloud: &Cloud, nodes: &[&str], gone: &BTreeSet<u64>) {
    for (node, droplet) in &cloud.droplets {
        let known = KnownDroplet { node: node.clone(), public: droplet.public, private: droplet.private };
        memory.droplets.insert(droplet.id, known);
    }
    let awaited = |node: &String| nodes.contains(&node.as_str()) && !cloud.droplets.contains_key(node);
    memory.droplets.retain(|id, known| !gone.contains(id) || awaited(&known.node));
    if let Some(address) = &cloud.floating_ip {
        memory.floating_ip = Some(address.address);
    }
    memory.listed = Some(jiff::Timestamp::now());
}

fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn status(status: DropletStatus) -> &'static str {
    match status {
        DropletStatus::New => "new",
        DropletStatus::Active => "active",
        DropletStatus::Off => "off",
        DropletStatus::Archive => "archive",
        DropletStatus::Unknown => "unknown",
    }
}
