//! What is missing, node by node. Here is the order in which it is asked; each question has a file of its own.

mod extensions;
mod members;
mod packages;
mod primary;
mod provider;
pub(crate) mod refusals;
mod services;
mod setup;
mod size;
mod standby;
mod then;
mod trial;
mod waits;
mod witness;

use std::net::IpAddr;

use cluster_contract::config::Config;

use super::changed::changed;
use super::files::Addresses;
use super::roles::{self, Data, Primary};
use super::{Action, Extras, Means, Phase, Plan, Risk, Step, Trouble};
use super::{Reason, TroubleKind, Waiting};
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Node, Role};

pub(super) struct Planner<'a> {
    inventory: &'a Inventory,
    facts: &'a Facts,
    means: &'a Means,
    primary: Primary,
    addresses: Addresses,
    /// The nodes that a person has paused.
    paused: Vec<&'a str>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(inventory: &'a Inventory, facts: &'a Facts, means: &'a Means) -> Self {
        let primary = match roles::primary(inventory, facts) {
            // What this machine remembers is what is to be had again.
            Primary::Gone(_) if means.restore.is_some() => Primary::Never,
            Primary::Lost(_) if means.restore.is_some() && roles::only_the_first(inventory, facts) => {
                Primary::Never
            }
            primary => primary,
        };
        let addresses = provider::addresses(inventory, facts);
        let is_paused = |name: &str| facts.hosts.get(name).and_then(|host| host.up()?.paused()) == Some(true);
        let paused =
            inventory.nodes.iter().map(|node| node.name.as_str()).filter(|name| is_paused(name)).collect();
        let followed = match &primary {
            Primary::One(name) => Some(name.clone()),
            Primary::Never => Some(inventory.primary().name.clone()),
            Primary::Several(_) | Primary::Lost(_) | Primary::Gone(_) => None,
        };
        let plan = Plan { primary: followed, ..Plan::default() };
        Planner { inventory, facts, means, primary, addresses, paused, plan }
    }

    pub(super) fn plan(mut self) -> Plan {
        let changed = changed(self.inventory, self.facts);
        if !changed.is_empty() {
            // Everything below looks at the hosts by what the inventory says.
            self.plan.refusals = changed;
            return self.plan;
        }
        self.refusals();
        self.provider();
        for node in &self.inventory.nodes {
            self.node(node);
        }
        self.try_settings();
        self.address();
        self.extensions();
        self.members();
        self.lease();
        self.sizes();
        self.pause();
        self.ignored();
        self.then();
        self.then_members();
        self.plan
    }

    fn node(&mut self, node: &'a Node) {
        let bare = HostFacts::default();
        let host = match self.host(&node.name) {
            Host::Up(host) => host.as_ref(),
            Host::Off if self.facts.cloud.is_some() && self.paused.is_empty() => {
                self.step(Phase::Reach, Some(node), Action::Reach, Reason::ServerOff);
                return;
            }
            Host::Off => {
                return self.trouble(
                    TroubleKind::SwitchedOff,
                    Some(&node.name),
                    "is powered off",
                    "power it on",
                );
            }
            // What boots may be silent, or refuse connections. It does not refuse a login.
            Host::Unreachable { why, young: false }
                if self.facts.local.booting.contains(&node.name)
                    && refusals::way_in(self.inventory, node, why).is_none() =>
            {
                self.step(Phase::Reach, Some(node), Action::Reach, Reason::PoweredOn);
                return;
            }
            Host::Unreachable { why, young: false } => {
                if self.primary == Primary::Never {
                    // It is refused for this.
                    return;
                }
                let hint = refusals::way_in(self.inventory, node, why).unwrap_or_else(|| {
                    "the other nodes are taken care of; run this again when it is back".into()
                });
                return self.trouble(
                    TroubleKind::Unreachable,
                    Some(&node.name),
                    format!("is unreachable: {why}"),
                    hint,
                );
            }
            Host::Unreachable { why, young: true } => {
                self.step(Phase::Reach, Some(node), Action::Reach, Reason::NotReached { why: why.clone() });
                &bare
            }
            Host::Missing => {
                self.step(Phase::Reach, Some(node), Action::Reach, Reason::ServerNew);
                &bare
            }
        };
        let known = self.host(&node.name).up().is_some();
        if known && !["", "done", "error", "degraded", "disabled"].contains(&host.cloud_init.as_str()) {
            self.step(
                Phase::Reach,
                Some(node),
                Action::Reach,
                Reason::CloudInit { state: host.cloud_init.clone() },
            );
        }
        // A bootstrap key that is not the host's is pinned all the same, and goes the same way.
        if !known || self.facts.local.bootstrap_keys.contains_key(&node.name) {
            let why = Reason::KeyExposed;
            self.step(Phase::Reach, Some(node), Action::ReplaceHostKey, why);
        }
        let role = roles::role(self.inventory, &self.primary, node);
        self.packages(node, host, known);
        if let Primary::Lost(why) = &self.primary {
            let data = roles::data(self.inventory, self.facts, host);
            if matches!(data, Data::None | Data::HalfMade | Data::Initialized) {
                // While the cluster's own data is looked for, nothing is made in its place.
                let why = why.clone();
                return self.without_primary(node, host, &data, &why);
            }
        }
        self.set_up(node, host, role);
        self.services(node, host, role);
    }

    fn step(&mut self, phase: Phase, node: Option<&Node>, action: Action, why: Reason) {
        let interrupts = node.and_then(|node| self.interrupts(node, &action));
        let node = node.map(|node| node.name.clone());
        self.plan.steps.push(Step { phase, node, action, why, interrupts });
    }

    /// What an action on a node interrupts, and for how long.
    fn interrupts(&self, node: &Node, action: &Action) -> Option<String> {
        let name = &node.name;
        let role = roles::role(self.inventory, &self.primary, node);
        match (action, role) {
            (Action::Restart { .. }, Role::Primary) => {
                Some(format!("writes pause for the seconds that {name} takes to shut down and start"))
            }
            (Action::Restart { .. }, Role::Standby) => Some(format!("reads on {name} pause for seconds")),
            (Action::Switchover { .. }, _) => Some("writes pause for about 3 s".into()),
            (Action::Resize { .. }, _) => {
                let members = self.inventory.nodes.len();
                let alone = members - 1 == members / 2 + 1;
                let lost = if alone { ", and nothing fails over meanwhile" } else { "" };
                Some(format!("{name} is off for some minutes{lost}"))
            }
            _ => None,
        }
    }

    fn trouble(
        &mut self,
        kind: TroubleKind,
        node: Option<&str>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let node = node.map(str::to_owned);
        self.plan.troubles.push(Trouble { kind, node, message: message.into(), hint: hint.into() });
    }

    fn refuse(
        &mut self,
        kind: TroubleKind,
        node: Option<&str>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let node = node.map(str::to_owned);
        self.plan.refusals.push(Trouble { kind, node, message: message.into(), hint: hint.into() });
    }

    fn wait(&mut self, waiting: Waiting) {
        if !self.plan.waits.contains(&waiting) {
            self.plan.waits.push(waiting);
        }
    }

    fn host(&self, node: &str) -> &'a Host {
        self.facts.hosts.get(node).unwrap_or(&Host::Missing)
    }

    fn extras(&self, node: &Node) -> Extras {
        Extras::of(self.inventory, self.facts, node)
    }

    fn is_reached_at(&self, node: &Node, conninfo: &str) -> bool {
        self.addresses.hosts.get(&node.name).is_some_and(|host| self.conninfo(*host) == conninfo)
    }

    /// How every node reaches `host`'s PostgreSQL as repmgr.
    fn conninfo(&self, host: IpAddr) -> String {
        Config::conninfo(host, self.inventory.postgresql.port, self.inventory.postgresql.version)
    }

    fn is_paused(&self, node: &Node) -> bool {
        self.paused.contains(&node.name.as_str())
    }

    fn primary_name(&self) -> String {
        match &self.primary {
            Primary::One(name) => name.clone(),
            _ => self.inventory.primary().name.clone(),
        }
    }
}

impl Step {
    /// What it may cost.
    pub fn risk(&self) -> Risk {
        self.action.risk()
    }
}
