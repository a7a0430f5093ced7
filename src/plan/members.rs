//! Who has a vote: numbered configurations of members, of which the guards know one each. Two that are in use at the
//! same time differ by one member, so that any majority of the one meets any majority of the other.

use std::collections::BTreeSet;

use super::changed;
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::Inventory;

/// A configuration of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Its number; the higher one is the newer.
    pub generation: u64,
    /// The names of the nodes that have a vote.
    pub names: BTreeSet<String>,
}

impl Configuration {
    /// Every node of the inventory, as a new cluster begins.
    pub fn first(inventory: &Inventory) -> Configuration {
        let names = inventory.nodes.iter().map(|node| node.name.clone()).collect();
        Configuration { generation: 0, names }
    }

    /// The configuration that a host's file has; none where it is no node of this cluster.
    pub fn of(inventory: &Inventory, host: &HostFacts) -> Option<Configuration> {
        let config = changed::config(inventory, host)?;
        let names = config.members.into_iter().map(|member| member.name).collect();
        Some(Configuration { generation: config.generation, names })
    }

    /// The newest that any host has; none for a cluster that is not made yet.
    pub fn newest(inventory: &Inventory, facts: &Facts) -> Option<Configuration> {
        let hosts = inventory.nodes.iter().filter_map(|node| facts.hosts.get(&node.name).and_then(Host::up));
        hosts.filter_map(|host| Configuration::of(inventory, host)).max_by_key(|it| it.generation)
    }

    /// The configuration that a host's guard goes by; none if it says nothing, or is too old to know of configurations.
    pub fn in_use(host: &HostFacts) -> Option<Configuration> {
        let guard = host.guard.as_ref()?;
        let names = guard.members.iter().flatten().cloned().collect();
        guard.members.as_ref().and(Some(Configuration { generation: guard.generation?, names }))
    }

    /// How many of its members are a majority.
    pub fn majority(&self) -> usize {
        self.names.len() / 2 + 1
    }

    /// By how many members it differs from another one.
    pub fn distance(&self, other: &Configuration) -> usize {
        self.names.symmetric_difference(&other.names).count()
    }

    /// The next configuration, in which `node` gains its vote, or loses the one it has.
    pub fn next(&self, node: &str) -> Configuration {
        let mut names = self.names.clone();
        if !names.remove(node) {
            names.insert(node.to_owned());
        }
        Configuration { generation: self.generation + 1, names }
    }

    /// The same members under a number that nobody has been given yet.
    pub fn again(&self, handed_out: u64) -> Configuration {
        Configuration { generation: self.generation.max(handed_out) + 1, names: self.names.clone() }
    }

    /// The names, for a person.
    pub fn list(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
