//! Chooses what to drill, or refuses. Pure.

use std::collections::BTreeMap;

use cluster_contract::status::Status;

use super::Fault;
use crate::error::Advice;
use crate::facts::Facts;
use crate::health::Health;
use crate::inventory::{Inventory, Provider, Role};

/// The target of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node that takes writes and will be lost.
    pub primary: String,
    /// Its server, where there is one.
    pub server: Option<u64>,
    /// The standby that is expected to take over: the one with the least to replay.
    pub successor: String,
    /// The data nodes and where they are reached, in the inventory's order.
    pub data: BTreeMap<String, String>,
    pub floating_ip: Option<String>,
    /// Hosts whose packet filter is used.
    pub filtered: Vec<String>,
}

impl Target {
    /// Chooses the target.
    ///
    /// # Errors
    /// [`Advice`], if the cluster could not stand the loss of its primary now, or the fault cannot be made here.
    pub fn choose(
        inventory: &Inventory,
        facts: &Facts,
        health: &Health,
        fault: Fault,
    ) -> Result<Target, Advice> {
        possible(inventory, fault)?;
        if let Some(node) = inventory.data_nodes().find(|node| !node.reach.is_direct()) {
            return Err(Advice::refused(format!(
                "{} is reached through another host, and the drill's clients connect from this machine",
                node.name
            ))
            .hint("run the drill on a machine that reaches PostgreSQL on the nodes, with an inventory without the jump host"));
        }
        let paused: Vec<&str> = inventory
            .nodes
            .iter()
            .filter(|node| guard(facts, &node.name).is_some_and(|guard| guard.paused))
            .map(|node| node.name.as_str())
            .collect();
        if !paused.is_empty() {
            return Err(Advice::refused(format!("failover is paused on {}", paused.join(" and ")))
                .hint("no node would take over; end the pause with `cluster resume`"));
        }
        let Some(primary) = health.primary.clone().filter(|_| health.healthy) else {
            let problems = health.problems.join("\n  and: ");
            return Err(Advice::refused(format!("the cluster is not healthy: {problems}")).hint(
                "a drill takes a working node away, so all must be healthy first; fix what `cluster status` reports",
            ));
        };
        let standbys = health.nodes.iter().filter(|it| it.role == "standby" && it.state == "streaming");
        let Some(successor) = standbys.min_by_key(|node| node.lag_bytes.unwrap_or(u64::MAX)) else {
            return Err(Advice::refused(format!("no standby streams from {primary}"))
                .hint("`cluster status` shows which standbys stream"));
        };
        let Some(its_guard) = guard(facts, &primary) else {
            return Err(Advice::refused(format!("the guard of {primary} did not answer"))
                .hint("run this again; `cluster status` shows what is wrong if it does not help"));
        };
        if fault != Fault::Switchover && !its_guard.automatic_failover {
            return Err(Advice::refused(
                "no node would take over: two nodes have no majority when one is lost",
            )
            .hint("add a witness to the inventory and run `cluster up`, or use --fault switchover"));
        }
        let is_data = |name: &str| inventory.node(name).is_some_and(|node| node.role != Role::Witness);
        let data: BTreeMap<String, String> = health
            .nodes
            .iter()
            .filter(|node| is_data(&node.name))
            .filter_map(|node| Some((node.name.clone(), node.address.clone()?)))
            .collect();
        let filtered = match fault {
            Fault::Isolate => vec![primary.clone()],
            Fault::ApiOutage => data.keys().cloned().collect(),
            _ => Vec::new(),
        };
        Ok(Target {
            server: facts.cloud.as_ref().and_then(|cloud| Some(cloud.servers.get(&primary)?.id)),
            successor: successor.name.clone(),
            data,
            floating_ip: health.floating_ip.as_ref().map(|it| it.address.clone()),
            filtered,
            primary,
        })
    }

    /// The standby that is read from: the one that is expected to take over.
    pub fn reader(&self) -> &str {
        &self.successor
    }
}

/// Whether the fault can be made on hosts like these.
///
/// # Errors
/// [`Advice`] that says what can.
pub fn possible(inventory: &Inventory, fault: Fault) -> Result<(), Advice> {
    let (existing, floating_ip) = match &inventory.provider {
        Provider::Existing(it) => (true, it.floating_ip.is_some()),
        Provider::DigitalOcean(it) => (false, it.floating_ip),
    };
    match fault {
        Fault::PowerOff if existing => {
            Err(Advice::refused("there is no API to power these hosts off and on")
                .hint("on existing hosts use --fault crash, freeze, isolate or switchover"))
        }
        Fault::ApiOutage if !floating_ip => {
            Err(Advice::refused("without a floating IP a failover does not use the API")
                .hint("use --fault crash: here it is the same drill"))
        }
        _ => Ok(()),
    }
}

fn guard<'a>(facts: &'a Facts, node: &str) -> Option<&'a Status> {
    facts.hosts.get(node)?.up()?.guard.as_ref()
}
