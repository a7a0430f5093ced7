//! What the provider holds: the key, servers, the floating IP; and the addresses that follow from them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Planner;
use crate::facts::{Cloud, Facts, Host};
use crate::inventory::{Inventory, Node, Provider};
use crate::plan::files::Addresses;
use crate::plan::files::host_keys::HostKeys;
use crate::plan::replace as names;
use crate::plan::roles::Primary;
use crate::plan::{Action, Phase};
use crate::plan::{Reason, TroubleKind};

impl<'a> Planner<'a> {
    pub(super) fn provider(&mut self) {
        let Some(cloud) = &self.facts.cloud else { return };
        self.mislaid(cloud);
        let missing: Vec<&Node> =
            self.inventory.nodes.iter().filter(|node| !cloud.servers.contains_key(&node.name)).collect();
        if !missing.is_empty() && !cloud.ssh_key {
            self.step(Phase::Keys, None, Action::ImportSshKey, Reason::KeyUnknown);
        }
        self.repository();
        for node in missing {
            let why = Reason::NoServer { node: node.name.clone() };
            self.step(Phase::Provide, Some(node), Action::CreateServer, why);
        }
        for node in &self.inventory.nodes {
            if let Some(server) = cloud.servers.get(&node.name)
                && matches!(self.host(&node.name), Host::Off)
            {
                if !self.paused.is_empty() {
                    continue;
                }
                let (action, why) = match self.resize(node) {
                    // A run that was killed has switched it off; or it is a good moment.
                    Some(resize) => (resize.into_action(), Reason::SizeDiffers),
                    None => (Action::PowerOn { server: server.id }, Reason::ServerOff),
                };
                self.step(Phase::Provide, Some(node), action, why);
            } else if let Some(server) = cloud.servers.get(&node.name)
                && server.public.is_none()
            {
                let (action, why) = if server.failed {
                    (Action::RemakeServer { server: server.id }, Reason::CreationFailed)
                } else {
                    (Action::AwaitServer { server: server.id }, Reason::ServerBeingMade)
                };
                self.step(Phase::Provide, Some(node), action, why);
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
            self.step(Phase::Reach, None, action, Reason::NoFloatingIp);
        } else if self
            .inventory
            .nodes
            .iter()
            .any(|node| cloud.servers.get(&node.name).is_none_or(|server| !server.records_floating_ip))
        {
            let why = Reason::FloatingIpUnrecorded;
            self.step(Phase::Reach, None, Action::RecordFloatingIp, why);
        }
    }

    /// The bucket and its key, where the provider makes them.
    fn repository(&mut self) {
        let (Some(backup), Some(means)) = (&self.inventory.backup, &self.means.backup) else { return };
        let refused = |name: &String| {
            self.host(name).up().is_some_and(|host| means.is_refused(self.inventory, backup, host))
        };
        let why = match &self.primary {
            _ if means.lacks_key(backup) => Reason::NoRepositoryKey,
            Primary::One(name) if backup.repository.is_made() && refused(name) => Reason::RepositoryRefused,
            _ => return,
        };
        self.step(Phase::Keys, None, Action::MakeRepository, why);
    }

    /// Servers and addresses that are not where they should be. While one of them may be what a node or the cluster
    /// seems to lack, nothing is made in its place: there would be two.
    fn mislaid(&mut self, cloud: &Cloud) {
        let cluster = &self.inventory.cluster;
        for (node, server) in &cloud.servers {
            if let Some(wrong) = server.mislabelled(cluster) {
                let hint = match (&server.renamed, server.untagged) {
                    (Some(_), false) => format!("rename it back to `{node}`"),
                    (None, _) => format!("give it the tag cluster:{cluster} again"),
                    (Some(_), true) => {
                        format!("rename it back to `{node}` and give it the tag cluster:{cluster} again")
                    }
                };
                let hint = format!("{hint}; if it is no longer needed, delete it and `up` creates another");
                self.refuse(TroubleKind::Mislabelled, Some(node), wrong, hint);
            }
        }
        let missing: Vec<&str> = self.inventory.nodes.iter().map(|node| node.name.as_str()).collect();
        let missing: Vec<&str> =
            missing.into_iter().filter(|node| !cloud.servers.contains_key(*node)).collect();
        for stray in &cloud.strays {
            if let Some(node) = self.being_replaced(&stray.name) {
                let name = &node.name;
                let message =
                    format!("droplet {} `{}` is left of a replacement of {name}", stray.id, stray.name);
                let hint = format!("`cluster replace {name}` finishes it");
                if missing.contains(&name.as_str()) {
                    self.refuse(TroubleKind::Stray, None, message, hint);
                } else {
                    self.trouble(TroubleKind::Stray, None, message, hint);
                }
                continue;
            }
            let what = stray.describe(cluster);
            if let [first, others @ ..] = missing.as_slice() {
                let lacks = if others.is_empty() { "has" } else { "have" };
                let as_what = stray.node.as_deref().filter(|node| missing.contains(node)).unwrap_or(first);
                self.refuse(
                    TroubleKind::Stray,
                    None,
                    format!("{what}, and {} {lacks} no droplet", missing.join(", ")),
                    format!(
                        "no other droplet is created beside it: if it is {as_what}, give it that name and the tag cluster:{cluster}; if the inventory is wrong, add it there; if it is not needed, delete it"
                    ),
                );
            } else if !matches!(self.primary, Primary::One(_)) {
                self.refuse(
                    TroubleKind::Stray,
                    None,
                    format!("{what}, and no node of the inventory takes writes"),
                    format!(
                        "the droplet may be the primary: put `{}` back into the inventory",
                        stray.node.as_ref().unwrap_or(&stray.name)
                    ),
                );
            } else {
                let node = stray.node.as_ref().unwrap_or(&stray.name);
                self.trouble(
                    TroubleKind::Stray,
                    None,
                    what,
                    format!("it costs money: put `{node}` back into the inventory or, if nothing on it is needed, delete it"),
                );
            }
        }
        if let Some(taken) = cloud.taken.as_ref().filter(|_| self.addresses.wants_floating_ip) {
            self.refuse(
                TroubleKind::AddressTaken,
                None,
                taken.stranger(),
                format!(
                    "no second address is created: the primary's guard takes this one back within a minute; if it does not, assign {} to a droplet of the cluster, or release it",
                    taken.address
                ),
            );
        }
    }

    /// The node that a server with this name takes the place of, or had the place of.
    fn being_replaced(&self, name: &str) -> Option<&'a Node> {
        let (node, suffix) = name.rsplit_once('.')?;
        self.inventory.node(node).filter(|_| [names::NEW, names::OLD].contains(&suffix))
    }

    /// Assigns the floating IP to the primary.
    pub(super) fn address(&mut self) {
        let Some(cloud) = &self.facts.cloud else { return };
        let (Primary::One(name), Some(floating_ip)) = (&self.primary, &cloud.floating_ip) else { return };
        let Some(server) = cloud.servers.get(name) else { return };
        if floating_ip.server != Some(server.id) {
            let action = Action::AssignFloatingIp { node: name.clone(), server: server.id };
            let why = Reason::TakesWrites { node: name.clone() };
            self.step(Phase::Address, None, action, why);
        }
    }
}

/// The nodes' addresses, as far as they are known.
pub(super) fn addresses(inventory: &Inventory, facts: &Facts) -> Addresses {
    let mut hosts = BTreeMap::new();
    let mut servers = BTreeMap::new();
    for node in &inventory.nodes {
        let server = facts.cloud.as_ref().and_then(|cloud| cloud.servers.get(&node.name));
        let host = node
            .connection_host
            .or_else(|| server.and_then(|server| server.private).map(IpAddr::V4))
            .or_else(|| node.address.as_deref()?.parse().ok());
        if let Some(host) = host {
            hosts.insert(node.name.clone(), host);
        }
        if let Some(id) = node.droplet_id.or(server.map(|server| server.id)) {
            servers.insert(node.name.clone(), id);
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
    let host_keys = HostKeys::of(inventory, facts);
    Addresses { hosts, servers, floating_ip, wants_floating_ip, operator, host_keys }
}
