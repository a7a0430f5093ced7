//! Turns facts into a report that an operator can act on. Pure.

pub mod backup;
mod guards;
mod node;
mod room;

use std::collections::BTreeMap;

use cluster_contract::status::Status;
use serde::Serialize;

use crate::facts::{Facts, Host, HostFacts};
use crate::holder::Holder;
use crate::inventory::{Inventory, Provider, Role};
use crate::plan::changed::changed;
use crate::plan::roles::{self, Primary};
pub use node::Node;
use node::look_at;

/// The state of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    pub cluster: String,
    /// Whether there is no problem.
    pub healthy: bool,
    /// The node that takes writes.
    pub primary: Option<String>,
    /// The floating IP and the node that has it.
    pub floating_ip: Option<FloatingIp>,
    /// The node that holds the lease.
    pub holder: Option<String>,
    /// Whether that node confirms it; otherwise it is what the voters report.
    pub holder_confirmed: bool,
    /// The length of a lease by the inventory.
    pub lease_ms: u64,
    /// Whether failover is automatic.
    pub failover: Failover,
    /// Whether any node is paused.
    pub paused: bool,
    /// The price of the nodes' servers, in US dollars a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_cost: Option<f64>,
    /// The nodes, in the inventory's order.
    pub nodes: Vec<Node>,
    /// The backups; `None` where the inventory names no repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<backup::Backups>,
    /// The problems, as text.
    pub problems: Vec<String>,
    /// Why the provider was not asked, if its part comes from this machine's state.
    pub provider: Option<String>,
    /// The run that holds the cluster's lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Holder>,
}

/// Whether another node would take over by itself if the primary were lost now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failover {
    pub automatic: bool,
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FloatingIp {
    pub address: String,
    /// The node that it points to.
    pub node: Option<String>,
    /// Whether anybody knows where it points to: the API, or the primary's guard.
    pub known: bool,
}

/// Evaluates the facts.
pub fn health(inventory: &Inventory, facts: &Facts, addresses: &BTreeMap<String, String>) -> Health {
    let primary = roles::primary(inventory, facts);
    let mut problems = Vec::new();
    let changed = changed(inventory, facts);
    let nobody = |problems: &mut Vec<String>| {
        let unseen = |node: &&crate::inventory::Node| {
            matches!(facts.hosts.get(&node.name), Some(Host::Unreachable { .. }))
        };
        let unseen: Vec<&str> =
            inventory.data_nodes().filter(unseen).map(|node| node.name.as_str()).collect();
        let is_unknown =
            |host: &Host| matches!(host, Host::Unreachable { why, .. } if why.contains("host key is known"));
        problems.push(if unseen.is_empty() {
            "the cluster does not exist yet: `cluster up` creates it".into()
        } else if facts.hosts.values().any(is_unknown) {
            "this machine does not know the hosts' keys: if the cluster was created on another one, `cluster adopt` takes it \
             over here"
                .into()
        } else {
            format!("cannot tell whether the cluster exists: no answer from {}", unseen.join(", "))
        });
    };
    let name = match &primary {
        Primary::One(name) => Some(name.clone()),
        Primary::Never => {
            nobody(&mut problems);
            None
        }
        Primary::Several(names) => {
            problems.push(format!("SPLIT BRAIN: {} take writes at the same time", names.join(" and ")));
            None
        }
        Primary::Gone(identifier) => {
            problems.push(format!(
                "no host has data of the cluster that this machine remembers (system identifier {identifier})"
            ));
            None
        }
        Primary::Lost(why) => {
            problems.push(format!("no node takes writes: {why}"));
            None
        }
    };
    let only_guards_know = guards::only_they_know(inventory, facts);
    let name = if only_guards_know { guards::primary(inventory, facts) } else { name };
    let upstream = name.as_deref().and_then(|name| probed(facts, name));
    let mut of_guards = Vec::new();
    pause(inventory, facts, &mut of_guards);
    forced(inventory, facts, &mut of_guards);
    problems.extend(of_guards.iter().cloned());
    let mut nodes: Vec<Node> = inventory
        .nodes
        .iter()
        .map(|node| look_at(inventory, facts, node, name.as_deref(), upstream, addresses, &mut problems))
        .collect();
    let floating_ip = floating_ip(inventory, facts, name.as_deref(), &mut problems);
    mislaid(inventory, facts, &mut problems);
    let backups = backup::backups(inventory, facts, name.as_deref(), &mut problems);
    if !changed.is_empty() {
        // The hosts were looked at by an inventory that is not theirs: what else seems wrong may not be, but for what
        // the guards say.
        let changed = changed.into_iter().map(|it| {
            let place = it.node.map_or(String::new(), |node| format!("{node} "));
            format!("{place}{} ({})", it.message, it.hint)
        });
        problems = changed.chain(of_guards).collect();
    }
    if only_guards_know {
        nodes.iter_mut().for_each(|node| guards::correct(inventory, facts, node));
    }
    let failover = if only_guards_know {
        guards::failover(inventory, facts, &nodes)
    } else {
        failover(inventory, &primary, &nodes)
    };
    let (holder, holder_confirmed) = holder(inventory, facts);
    Health {
        cluster: inventory.cluster.clone(),
        healthy: problems.is_empty(),
        primary: name,
        floating_ip,
        holder,
        holder_confirmed,
        lease_ms: inventory.failover.lease_ms,
        failover,
        paused: nodes.iter().any(|node| node.paused == Some(true)),
        monthly_cost: crate::plan::cost_now(facts),
        nodes,
        backups,
        problems,
        provider: facts.cloud.as_ref().and_then(|cloud| cloud.remembered.clone()),
        run: facts.hosts.values().find_map(|host| host.up()?.operator.clone()),
    }
}

/// Reports servers that are renamed, untagged or unknown.
fn mislaid(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    let Some(cloud) = &facts.cloud else { return };
    for node in &inventory.nodes {
        let server = cloud.servers.get(&node.name);
        if let Some(wrong) = server.and_then(|server| server.mislabelled(&inventory.cluster)) {
            problems.push(format!("{}: {wrong}", node.name));
        }
    }
    for stray in &cloud.strays {
        problems.push(stray.describe(&inventory.cluster));
    }
}

/// What was read from a node's host, if it answered.
fn probed<'a>(facts: &'a Facts, node: &str) -> Option<&'a HostFacts> {
    facts.hosts.get(node)?.up()
}

/// The status that a node's guard reports.
fn guard<'a>(facts: &'a Facts, node: &str) -> Option<&'a Status> {
    probed(facts, node)?.guard.as_ref()
}

/// Reports a pause as a problem: a forgotten one shows only when a server is lost.
fn pause(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    let mut paused = Vec::new();
    let mut others = Vec::new();
    for node in &inventory.nodes {
        let host = facts.hosts.get(&node.name).and_then(Host::up);
        match host.map(HostFacts::paused) {
            Some(Some(true)) => paused.push(node.name.as_str()),
            Some(Some(false)) => others.push(format!("not on {}", node.name)),
            Some(None) | None => others.push(format!("unknown on {}", node.name)),
        }
    }
    if paused.is_empty() {
        return;
    }
    let since = paused.iter().filter_map(|name| guard(facts, name)?.paused_since.as_deref()).min();
    let since = since.map_or(String::new(), |since| match since.parse::<jiff::Timestamp>() {
        Ok(since) => format!(" since {}", since.strftime("%F %TZ")),
        Err(_) => format!(" since {since}"),
    });
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    problems.push(format!(
        "PAUSED on {}{since}{others}: guards there do not start, promote or rejoin PostgreSQL; `cluster resume` ends the pause",
        paused.join(", ")
    ));
}

/// Reports a forced primary until a majority is back.
fn forced(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    for node in &inventory.nodes {
        let Some(guard) = guard(facts, &node.name) else { continue };
        if guard.forced {
            problems.push(format!(
                "{} took over BY FORCE and has had no majority since: there is no failover, and it is not fenced \
                 when it is cut off; bring the other nodes back where they can reach it",
                node.name
            ));
        }
        if guard.diverged_data_kept {
            problems.push(format!(
                "{}: took writes while another node was primary; its data is kept until you have checked it and \
                 given it up with `cluster rejoin {}`",
                node.name, node.name
            ));
        }
    }
}

/// The lease holder, and whether that node confirms it; otherwise the node that most voters name.
fn holder(inventory: &Inventory, facts: &Facts) -> (Option<String>, bool) {
    let says = |name: &str| facts.hosts.get(name).and_then(|host| host.up()?.holds_lease());
    if let Some(node) = inventory.nodes.iter().find(|node| says(&node.name) == Some(true)) {
        return (Some(node.name.clone()), true);
    }
    let named = |node: &crate::inventory::Node| guard(facts, &node.name)?.holder.as_deref();
    let names: Vec<&str> = inventory.nodes.iter().filter_map(named).collect();
    let most = names.iter().max_by_key(|name| names.iter().filter(|it| it == name).count());
    (most.map(|name| (*name).to_owned()), false)
}

/// Whether another node would take over if the primary were lost now.
fn failover(inventory: &Inventory, primary: &Primary, nodes: &[Node]) -> Failover {
    let off = |why: String| Failover { automatic: false, why: Some(why) };
    let nodes: Vec<&Node> = nodes.iter().filter(|node| node.votes != Some(false)).collect();
    let count = nodes.len();
    if *primary == Primary::Never {
        return off("the cluster does not exist yet".into());
    }
    if inventory.data_nodes().count() < 2 {
        return off("there is no standby".into());
    }
    if count < 3 {
        return off(
            "two nodes have no majority when one is lost; add a third, for instance a witness, to turn it on"
                .into(),
        );
    }
    let paused: Vec<&str> =
        nodes.iter().filter(|node| node.paused == Some(true)).map(|node| node.name.as_str()).collect();
    let takes_writes = |node: &&Node| node.role == "primary";
    if nodes.iter().any(takes_writes) {
        if !nodes.iter().any(|node| node.state == "streaming" && node.paused != Some(true)) {
            let why =
                if paused.is_empty() { "no standby streams" } else { "every streaming standby is paused" };
            return off(why.into());
        }
        if !nodes.iter().any(|node| node.state == "streaming" && node.paused != Some(true) && !node.is_full())
        {
            return off("the disk of every streaming standby is full".into());
        }
        let within = |node: &Node| node.lag_bytes.is_none_or(|lag| lag <= inventory.failover.lag_limit_bytes);
        if !nodes.iter().any(|node| {
            node.state == "streaming" && node.paused != Some(true) && !node.is_full() && within(node)
        }) {
            return off("every standby lags by more than failover.lag_limit".into());
        }
        let voters: Vec<&Node> = nodes.into_iter().filter(|node| !takes_writes(node)).collect();
        let there = voters.iter().filter(|node| node.guard.as_deref() == Some("active")).count();
        if there < count / 2 + 1 {
            return off(format!(
                "without the primary, {there} of {count} guards would remain, and a majority is {}",
                count / 2 + 1
            ));
        }
    } else if !paused.is_empty() {
        return off(format!("{} paused", if paused.len() == 1 { "one node is" } else { "some nodes are" }));
    } else {
        let there = |node: &&&Node| node.guard.as_deref() == Some("active");
        let (guards, majority) = (nodes.iter().filter(there).count(), count / 2 + 1);
        if guards < majority {
            return off(format!("{guards} of {count} guards are reachable, and a majority is {majority}"));
        }
        let has_data = |node: &&Node| node.inventory_role != Role::Witness && node.state != "bare";
        if !nodes.iter().filter(there).any(has_data) {
            return off("no data node with a guard is reachable".into());
        }
    }
    Failover { automatic: true, why: None }
}

/// Whether a node's guard reports that it has the floating IP.
fn has_address(facts: &Facts, node: &str) -> bool {
    guard(facts, node).is_some_and(|guard| guard.has_address == Some(true))
}

fn floating_ip(
    inventory: &Inventory,
    facts: &Facts,
    primary: Option<&str>,
    problems: &mut Vec<String>,
) -> Option<FloatingIp> {
    if let Provider::Existing(existing) = &inventory.provider {
        // No API is asked: the guard of the primary knows.
        let address = existing.floating_ip.as_ref()?.address.to_string();
        let node = primary.filter(|name| has_address(facts, name)).map(str::to_owned);
        return Some(FloatingIp { address, known: node.is_some(), node });
    }
    let cloud = facts.cloud.as_ref()?;
    let found = cloud.floating_ip.as_ref();
    if cloud.remembered.is_some() {
        let node = primary.filter(|name| has_address(facts, name)).map(str::to_owned);
        return Some(FloatingIp { address: found?.address.to_string(), known: node.is_some(), node });
    }
    let wanted = matches!(&inventory.provider, Provider::DigitalOcean(it) if it.floating_ip);
    if let Some(taken) = cloud.taken.as_ref().filter(|_| wanted) {
        problems.push(taken.stranger());
        return None;
    }
    let Some(found) = found else {
        if wanted && !cloud.servers.is_empty() {
            problems.push("the cluster has no floating IP: `cluster up` creates one".into());
        }
        return None;
    };
    let holder = cloud
        .servers
        .iter()
        .find(|(_, server)| Some(server.id) == found.server)
        .map(|(name, _)| name.clone());
    if let Some(primary) = primary
        && holder.as_deref() != Some(primary)
    {
        let where_to = holder.as_deref().unwrap_or("nowhere");
        problems.push(format!("the floating IP {} points to {where_to}, not to {primary}", found.address));
    }
    Some(FloatingIp { address: found.address.to_string(), node: holder, known: true })
}
