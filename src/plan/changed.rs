//! What an edit of the inventory would do to a cluster that lives and cannot be done: told before anything else is,
//! because every other look at the hosts goes by the inventory. What a node is, its own configuration says.

use std::collections::BTreeMap;

use cluster_contract::config::Config;
use cluster_contract::paths;

use super::Trouble;
use super::TroubleKind;
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Provider, Role};

/// What a host was last told that it is; none where it is no node of this cluster.
pub fn config(inventory: &Inventory, host: &HostFacts) -> Option<Config> {
    let text = host.files.get(paths::CONFIG)?.content.as_deref()?;
    let config: Config = serde_json::from_str(text).ok()?;
    let ours = config.cluster == inventory.cluster
        && host.marker.as_ref().is_some_and(|marker| marker.cluster == inventory.cluster);
    ours.then_some(config)
}

/// Everything that the inventory says otherwise than the cluster is, and that does not change on a cluster that lives.
pub fn changed(inventory: &Inventory, facts: &Facts) -> Vec<Trouble> {
    let mut found = Vec::new();
    let configs: BTreeMap<&str, Config> = inventory
        .nodes
        .iter()
        .filter_map(|node| {
            let host = facts.hosts.get(&node.name)?.up()?;
            Some((node.name.as_str(), config(inventory, host)?))
        })
        .collect();
    let mut tell = |kind: TroubleKind, node: Option<&str>, message: String, hint: String| {
        let trouble = Trouble { kind, node: node.map(str::to_owned), message, hint };
        if !found.contains(&trouble) {
            found.push(trouble);
        }
    };
    moved(inventory, facts, &configs, &mut |node, message, hint| {
        tell(TroubleKind::Moved, Some(node), message, hint);
    });
    let mut say = |node: Option<&str>, message: String, hint: String| {
        tell(TroubleKind::Changed, node, message, hint);
    };
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in &inventory.nodes {
        let marker = facts.hosts.get(&node.name).and_then(|host| host.up()?.marker.as_ref());
        if let Some(marker) = marker.filter(|marker| marker.cluster != inventory.cluster) {
            others.entry(&marker.cluster).or_default().push(&node.name);
        }
    }
    for (cluster, nodes) in others {
        let belong = if nodes.len() == 1 { "belongs" } else { "belong" };
        say(
            None,
            format!("{} {belong} to cluster `{cluster}`", nodes.join(", ")),
            format!(
                "their data is left alone: use other hosts or, if this is the same cluster under a new name, keep \
                 `cluster: {cluster}`"
            ),
        );
    }
    let postgresql = &inventory.postgresql;
    for config in configs.values() {
        if config.version != postgresql.version {
            say(
                None,
                format!(
                    "the cluster runs PostgreSQL {}, and the inventory says {}",
                    config.version, postgresql.version
                ),
                format!(
                    "`up` does not perform major upgrades: keep `version: {}`, or create a new cluster beside this one and \
                     move the data with pg_dumpall",
                    config.version
                ),
            );
        }
        if config.port != postgresql.port {
            say(
                None,
                format!("the cluster's port is {}, and the inventory says {}", config.port, postgresql.port),
                format!("the port of an existing cluster cannot change: keep `port: {}`", config.port),
            );
        }
    }
    for (name, config) in &configs {
        if config.node != *name {
            say(
                Some(name),
                format!("is already node `{}` of this cluster", config.node),
                format!("a node's name cannot change: keep `name: {}`", config.node),
            );
        }
        for member in &config.members {
            let Some(node) = inventory.node(&member.name) else {
                let same_id = inventory.nodes.iter().find(|node| node.id == member.id);
                match same_id.filter(|node| config.members.iter().all(|it| it.name != node.name)) {
                    Some(node) => say(
                        None,
                        format!(
                            "node {} of the cluster is named {}, but {} in the inventory",
                            member.id, member.name, node.name
                        ),
                        format!(
                            "a node's name does not change: keep `name: {}`; a new node has an id of its own",
                            member.name
                        ),
                    ),
                    None => say(
                        None,
                        format!("{} is a node of the cluster but is not in the inventory", member.name),
                        format!(
                            "put {} back into `nodes`: it has a vote and may take writes, and leaving it out does not \
                             stop it; to remove it, list it in `nodes` and run `cluster remove {}`",
                            member.name, member.name
                        ),
                    ),
                }
                continue;
            };
            if node.id != member.id {
                say(
                    Some(&node.name),
                    format!("has the id {}, but {} in the inventory", member.id, node.id),
                    format!("a node's id cannot change: keep `id: {}`", member.id),
                );
            }
            if (node.role == Role::Witness) != member.witness {
                let (is, wanted) = if member.witness {
                    ("the witness", "a node with data")
                } else {
                    ("a node with data", "the witness")
                };
                say(
                    Some(&node.name),
                    format!("is {is}, but {wanted} in the inventory"),
                    format!(
                        "a node cannot change between data node and witness: keep `role: {}`; a node added under a new name and \
                         id may be either",
                        if member.witness { "witness" } else { "standby" }
                    ),
                );
            }
        }
        // The one that clients know would stay where it is and never move again.
        if let (Provider::Existing(existing), Some(is)) = (&inventory.provider, &config.floating_ip)
            && let Some(wanted) = existing.floating_ip.as_ref().map(|it| it.address)
            && wanted != is.address
        {
            let is = is.address;
            say(
                None,
                format!("the cluster's floating IP is {is}, and the inventory says {wanted}"),
                format!(
                    "keep `address: {is}`; or remove `floating_ip`, run `up`, assign {wanted} to the primary, and \
                     add it again"
                ),
            );
        }
        // A host that was made anew has another address, and has no configuration yet.
        if let Some(node) = inventory.node(name)
            && let Some(host) = node.connection_host.or_else(|| match inventory.provider {
                Provider::Existing(_) => node.address.as_deref()?.parse().ok(),
                // A server's own is known from the API.
                Provider::DigitalOcean(_) => None,
            })
            && let Some(me) = config.members.iter().find(|member| member.name == config.node)
            && me.host != host
        {
            say(
                Some(name),
                format!("is known to the other nodes as {}, but as {host} in the inventory", me.host),
                format!("the address of an existing node cannot change: keep `connection_host: {}`", me.host),
            );
        }
    }
    found
}

/// Existing hosts that the inventory names in the place of those that the others know. The old one may run, with its vote
/// and its data: two nodes of one name could each be part of a majority.
fn moved(
    inventory: &Inventory,
    facts: &Facts,
    configs: &BTreeMap<&str, Config>,
    say: &mut dyn FnMut(&str, String, String),
) {
    if matches!(inventory.provider, Provider::DigitalOcean(_)) {
        // The API tells whether a droplet is gone.
        return;
    }
    let members = configs.values().flat_map(|config| &config.members);
    for member in members.filter(|member| !configs.contains_key(member.name.as_str())) {
        let Some(node) = inventory.node(&member.name) else { continue };
        let host = node.connection_host.or_else(|| node.address.as_deref()?.parse().ok());
        let Some(host) = host.filter(|host| *host != member.host) else { continue };
        let there = match facts.hosts.get(&node.name) {
            Some(Host::Up(_)) => "where there is no node of this cluster",
            _ => "where nobody answers",
        };
        say(
            &node.name,
            format!(
                "is known to the other nodes as {}, but as {host} in the inventory, {there}",
                member.host
            ),
            format!(
                "to keep the host, put {} back; to make the node anew on {host}, run `cluster replace {}`, which takes the \
                 vote of the old host first",
                member.host, node.name
            ),
        );
    }
}
