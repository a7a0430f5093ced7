//! What the API lists of a cluster, and which node each droplet is.
//!
//! A droplet is a node's by the cluster's tag and its name. A name and a tag are one click in a web page, so what this
//! machine remembers counts too: a droplet that was made as a node, and is there, is never made a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use cluster_cloud::model::{self, DropletStatus};
use cluster_cloud::{key, names};

use super::Api;
use crate::error::Advice;
use crate::facts::{Cloud, FloatingIp, Server, ServerStatus, Stray};
use crate::provider::Listing;
use crate::state::{KnownServer, Memory};

impl Api {
    /// The cluster's servers, its floating IP, and whether the account has the operator's key, which is asked for only
    /// where a node has no server.
    ///
    /// # Errors
    /// When the API does not answer; when two droplets could be the same node.
    pub async fn list(
        &self,
        nodes: &[&str],
        memory: &Memory,
        public_key: impl Future<Output = Result<String>>,
    ) -> Result<Listing> {
        let Api { cluster, client, .. } = self;
        let tag = self.tag();
        let (listed, addresses) = tokio::try_join!(client.droplets(&tag), client.reserved_ips())
            .with_context(|| {
                format!("cannot list the cluster's droplets and floating IPs at {}", client.base_url())
            })?;
        let mut gone = BTreeSet::new();
        let mut unlisted = Vec::new();
        for id in memory.servers.keys().filter(|id| listed.iter().all(|droplet| droplet.id != **id)) {
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
        let fact = |it: &model::ReservedIp| FloatingIp { address: it.ip, server: it.holder() };
        // The address of one of our droplets, else one that is written down and that no stranger has.
        let floating_ip = addresses
            .iter()
            .find(|address| address.holder().is_some_and(is_ours))
            .or_else(|| addresses.iter().filter(is_recorded).find(|it| it.holder().is_none()))
            .map(fact);
        let taken = addresses.iter().find(is_recorded).map(fact).filter(|_| floating_ip.is_none());
        let record = floating_ip.as_ref().map(|it| names::address_tag(cluster, it.address));
        let (mut servers, strays) = sort(cluster, nodes, &listed, &unlisted, &memory.servers)?;
        for server in servers.values_mut() {
            let seen = ours.iter().find(|it| it.id == server.id);
            server.records_floating_ip =
                record.as_ref().is_some_and(|tag| seen.is_some_and(|seen| seen.tags.contains(tag)));
            // Asked only where it matters: it should have addresses, and has none.
            if server.status == ServerStatus::New && server.public.is_none() {
                server.failed = client
                    .creation_failed(server.id)
                    .await
                    .with_context(|| format!("cannot look up droplet {}", server.id))?;
            }
        }
        // Asked only when it matters: a droplet that is to be made.
        let ssh_key = if nodes.iter().all(|node| servers.contains_key(*node)) {
            true
        } else {
            let fingerprint = key::fingerprint(&public_key.await?).context("cannot read the public key")?;
            client
                .ssh_key(&fingerprint)
                .await
                .context("cannot look up the SSH key at the provider")?
                .is_some()
        };
        let cloud = Cloud { ssh_key, servers, strays, floating_ip, taken, ..Cloud::default() };
        Ok(Listing { cloud, gone })
    }
}

/// Assigns droplets to nodes; the rest are strays.
fn sort(
    cluster: &str,
    nodes: &[&str],
    listed: &[model::Droplet],
    unlisted: &[model::Droplet],
    known: &BTreeMap<u64, KnownServer>,
) -> Result<(BTreeMap<String, Server>, Vec<Stray>)> {
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    for droplet in listed.iter().filter(|droplet| nodes.contains(&droplet.name.as_str())) {
        if let Some(twin) = servers.insert(droplet.name.clone(), fact(droplet)) {
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
        match node.filter(|node| nodes.contains(&node.as_str()) && !servers.contains_key(node)) {
            Some(node) => {
                let renamed = Some(droplet.name.clone()).filter(|name| *name != node);
                drop(servers.insert(node, Server { renamed, untagged: !tagged, ..fact(droplet) }));
            }
            None => strays.push(Stray {
                id: droplet.id,
                name: droplet.name.clone(),
                tagged,
                node: known.get(&droplet.id).map(|known| known.node.clone()).filter(|it| *it != droplet.name),
                monthly_price: monthly_price(droplet),
            }),
        }
    }
    Ok((servers, strays))
}

fn fact(droplet: &model::Droplet) -> Server {
    Server {
        id: droplet.id,
        status: status(droplet.status),
        public: droplet.public_ipv4(),
        private: droplet.private_ipv4(),
        region: droplet.region.as_ref().map(|region| region.slug.clone()),
        size: Some(droplet.size_slug.clone()).filter(|slug| !slug.is_empty()),
        image: droplet.image.as_ref().and_then(|image| image.slug.clone()),
        disk_gib: droplet.disk,
        monthly_price: monthly_price(droplet),
        vpc: droplet.vpc_uuid.clone(),
        records_floating_ip: false,
        renamed: None,
        untagged: false,
        failed: false,
    }
}

pub(super) fn monthly_price(droplet: &model::Droplet) -> Option<f64> {
    droplet.size.as_ref()?.price_monthly
}

fn status(status: DropletStatus) -> ServerStatus {
    match status {
        DropletStatus::New => ServerStatus::New,
        DropletStatus::Active => ServerStatus::Active,
        DropletStatus::Off => ServerStatus::Off,
        DropletStatus::Archive => ServerStatus::Archive,
        DropletStatus::Unknown => ServerStatus::Unknown,
    }
}
