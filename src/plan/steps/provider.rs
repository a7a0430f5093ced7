//! What the provider holds: the key, droplets, the floating IP; and the addresses that follow from them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Planner;
use crate::facts::{Facts, Host};
use crate::inventory::{Inventory, Node, Provider};
use crate::plan::files::Addresses;
use crate::plan::roles::Primary;
use crate::plan::{Action, Phase};

impl Planner<'_> {
    pub(super) fn provider(&mut self) {
        let Some(cloud) = &self.facts.cloud else { return };
        let missing: Vec<&Node> =
            self.inventory.nodes.iter().filter(|node| !cloud.droplets.contains_key(&node.name)).collect();
        if !missing.is_empty() && !cloud.ssh_key {
            self.step(Phase::Keys, None, Action::ImportSshKey, "the account does not know it");
        }
        for node in missing {
            let why = format!("no droplet `{}` has the tag of this cluster", node.name);
            self.step(Phase::Provide, Some(node), Action::CreateDroplet, why);
        }
        for node in &self.inventory.nodes {
            if let Some(droplet) = cloud.droplets.get(&node.name)
                && matches!(self.host(&node.name), Host::Off)
            {
                if !self.paused.is_empty() {
                    continue;
                }
                let action = Action::PowerOn { droplet: droplet.id };
                self.step(Phase::Provide, Some(node), action, "its droplet is off");
            } else if let Some(droplet) = cloud.droplets.get(&node.name)
                && droplet.public.is_none()
            {
                let action = Action::AwaitDroplet { droplet: droplet.id };
                self.step(Phase::Provide, Some(node), action, "it is being made and has no address yet");
            }
        }
        if !self.addresses.wants_floating_ip {
            return;
        }
        if cloud.floating_ip.is_none() {
            let node = match &self.primary {
                Primary::One(name) => name.clone(),
                _ => self.inventory.primary().name.clone(),
            };
            let action = Action::CreateFloatingIp { node };
            self.step(Phase::Reach, None, action, "the cluster has none");
        } else if self
            .inventory
            .nodes
            .iter()
            .any(|node| cloud.droplets.get(&node.name).is_none_or(|droplet| !droplet.records_floating_ip))
        {
            let why = "so that it is found again when it leads nowhere";
            self.step(Phase::Reach, None, Action::RecordFloatingIp, why);
        }
    }

    /// Where the floating IP must lead.
    pub(super) fn address(&mut self) {
        let Some(cloud) = &self.facts.cloud else { return };
        let (Primary::One(name), Some(floating_ip)) = (&self.primary, &cloud.floating_ip) else { return };
        let Some(droplet) = cloud.droplets.get(name) else { return };
        if floating_ip.droplet != Some(droplet.id) {
            let action = Action::AssignFloatingIp { node: name.clone(), droplet: droplet.id };
            let why = format!("{name} takes writes");
            self.step(Phase::Address, None, action, why);
        }
    }
}

/// Where nodes are, as far as it is known.
pub(super) fn addresses(inventory: &Inventory, facts: &Facts) -> Addresses {
    let mut hosts = BTreeMap::new();
    let mut droplets = BTreeMap::new();
    for node in &inventory.nodes {
        let droplet = facts.cloud.as_ref().and_then(|cloud| cloud.droplets.get(&node.name));
        let host = node
            .connection_host
            .or_else(|| droplet.and_then(|droplet| droplet.private).map(IpAddr::V4))
            .or_else(|| node.address.as_deref()?.parse().ok());
        if let Some(host) = host {
            hosts.insert(node.name.clone(), host);
        }
        if let Some(id) = node.droplet_id.or(droplet.map(|droplet| droplet.id)) {
            droplets.insert(node.name.clone(), id);
        }
    }
    let (wants_floating_ip, floating_ip) = match &inventory.provider {
        Provider::DigitalOcean(it) => (
            it.floating_ip,
            facts
                .cloud
                .as_ref()
                .and_then(|cloud| cloud.floating_ip.as_ref())
                .map(|it| IpAddr::V4(it.address)),
        ),
        Provider::Existing(it) => (it.floating_ip.is_some(), it.floating_ip.as_ref().map(|it| it.address)),
    };
    let operator = facts
        .hosts
        .values()
        .filter_map(|host| host.up()?.client.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect();
    Addresses { hosts, droplets, floating_ip, wants_floating_ip, operator }
}
