//! What the provider has of the cluster, and what this machine remembers of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cluster_contract::config::Config;
use cluster_contract::paths;

use crate::facts::{Cloud, Facts, FloatingIp, Host, Server, ServerStatus, Stray};
use crate::inventory::Provider;
use crate::provider::{Api, Listing};
use crate::state::Memory;
use crate::world::World;

impl World {
    /// Queries the provider.
    ///
    /// # Errors
    /// When it does not answer; when two servers could be the same node.
    pub(super) async fn observe_cloud(&self, api: &Api, memory: &Memory) -> Result<Cloud> {
        let nodes: Vec<&str> = self.inventory.nodes.iter().map(|node| node.name.as_str()).collect();
        let Listing { mut cloud, gone } = api.list(&nodes, memory, self.public_key()).await?;
        self.state.remember(|memory| note(memory, &cloud, &nodes, &gone))?;
        if self.needs_sizes(&cloud) {
            cloud.sizes = api.sizes().await?;
        }
        Ok(cloud)
    }

    /// Whether a plan depends on what the provider's sizes are.
    fn needs_sizes(&self, cloud: &Cloud) -> bool {
        let Provider::DigitalOcean(settings) = &self.inventory.provider else { return false };
        settings.resize_disk
            || self.inventory.nodes.iter().any(|node| {
                let server = cloud.servers.get(&node.name);
                server.is_none_or(|it| it.size.as_deref().is_some_and(|it| it != settings.size_of(node)))
            })
    }

    /// The cloud as it was last seen, for what needs no more than the way to the hosts. `None` if this machine has
    /// never seen it.
    pub(super) fn remembered_cloud(&self, memory: &Memory, why: &str, url: &str) -> Option<Cloud> {
        let servers: BTreeMap<String, Server> = memory
            .servers
            .iter()
            .filter(|(_, known)| known.public.is_some() && self.inventory.node(&known.node).is_some())
            .map(|(id, known)| {
                let server = Server {
                    id: *id,
                    status: ServerStatus::Active,
                    public: known.public,
                    private: known.private,
                    region: None,
                    size: None,
                    image: None,
                    vpc: None,
                    disk_gib: None,
                    monthly_price: None,
                    records_floating_ip: true,
                    renamed: None,
                    untagged: false,
                    failed: false,
                };
                (known.node.clone(), server)
            })
            .collect();
        if servers.is_empty() {
            return None;
        }
        let since = memory.listed.map_or("an earlier run".into(), |at| at.strftime("%F %TZ").to_string());
        let remembered = Some(format!(
            "the provider's API does not answer ({url}: {why}): showing its state from memory of {since}"
        ));
        let floating_ip = memory.floating_ip.map(|address| FloatingIp { address, server: None });
        Some(Cloud { ssh_key: true, servers, floating_ip, remembered, ..Cloud::default() })
    }

    /// Servers that the nodes know as their peers' and that nothing else leads to: looked for where a node seems to
    /// have none, so that it is not made a second time.
    pub(super) async fn find_peers(&self, facts: &mut Facts) -> Result<()> {
        let (Some(api), Some(cloud)) = (&self.provider, &mut facts.cloud) else { return Ok(()) };
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
            if cloud.servers.values().any(|it| it.id == id) || cloud.strays.iter().any(|it| it.id == id) {
                continue;
            }
            if let Some(stray) = api.stray(id).await? {
                cloud.strays.push(Stray { node: Some(node), ..stray });
            }
        }
        Ok(())
    }
}

/// Remembers what was seen. A server that is gone is forgotten once another has its place: until then it may be one
/// that was made a moment ago, which the API does not know yet.
fn note(memory: &mut Memory, cloud: &Cloud, nodes: &[&str], gone: &BTreeSet<u64>) {
    for (node, server) in &cloud.servers {
        let known = memory.servers.entry(server.id).or_default();
        known.node.clone_from(node);
        (known.public, known.private) = (server.public, server.private);
    }
    let awaited = |node: &String| nodes.contains(&node.as_str()) && !cloud.servers.contains_key(node);
    memory.servers.retain(|id, known| !gone.contains(id) || awaited(&known.node));
    if let Some(address) = &cloud.floating_ip {
        memory.floating_ip = Some(address.address);
    }
    memory.listed = Some(jiff::Timestamp::now());
}
