//! Reasons to refuse the whole plan.

use super::Planner;
use crate::facts::Host;
use crate::inventory::{Inventory, Node, Provider};
use crate::plan::roles::{self, Data, Primary};
use crate::plan::{Trouble, TroubleKind};

/// PostgreSQL wants this much for packages, WAL and a little data.
const DISK_NEEDED_KIB: u64 = 1_500_000;

const SUDO: &str = "log in as root, or as a user that can run any command with `sudo -n`: `NAME ALL=(ALL) NOPASSWD: ALL` in \
                    /etc/sudoers.d";

/// What lets us in, where the host is there and does not. ssh's and sudo's own words say which it is.
pub(crate) fn way_in(inventory: &Inventory, node: &Node, why: &str) -> Option<String> {
    let user = inventory.ssh_user(node);
    let address = node.address.as_deref().unwrap_or(&node.name);
    let options = node.reach.options();
    if let Some(jump) = node.reach.jump_in(why) {
        return Some(format!(
            "the connection ended at the jump host or behind it: `ssh {jump}` must log in without a question, with the \
             host's key in ~/.ssh/known_hosts"
        ));
    }
    if why.contains("Host key verification failed") || why.contains("host key is known") {
        return Some(match inventory.provider {
            Provider::Existing(_) => format!(
                "log in once with `ssh {options}{user}@{address}` and compare the fingerprint; or give the node its `host_key`, \
                 which is the line in /etc/ssh/ssh_host_ed25519_key.pub on the host; if the cluster was created on another \
                 machine, `cluster adopt` takes it over on this one"
            ),
            Provider::DigitalOcean(_) => {
                "the droplet was created from another machine: `cluster adopt` takes the cluster over on this one".into()
            }
        });
    }
    if why.contains(crate::remote::ANOTHER_KEY) {
        return Some(
            "if the host was reinstalled, correct its `host_key` or remove its line from known_hosts; otherwise do not \
             continue"
                .into(),
        );
    }
    if why.contains("Permission denied") {
        if matches!(inventory.provider, Provider::DigitalOcean(_)) && inventory.provider.ssh_key().is_none() {
            return Some(
                "the droplet does not accept the key that was made on this machine: `cluster adopt --ssh-key FILE` names the \
                 one that it was created with, or another that it lets in"
                    .into(),
            );
        }
        return Some(format!(
            "the host does not accept your key for {user}: install it with `ssh-copy-id {options}{user}@{address}`, or set `ssh_key` \
             and `ssh_user` in the inventory"
        ));
    }
    why.contains("sudo: ").then(|| SUDO.into())
}

impl<'a> Planner<'a> {
    /// See [`crate::plan::unfit`].
    pub(in crate::plan) fn unfit(mut self, node: &'a Node) -> Vec<Trouble> {
        self.refusals();
        self.node(node);
        let found = self.plan.refusals.into_iter();
        found.filter(|it| it.node.as_ref() == Some(&node.name)).collect()
    }

    /// Reasons to refuse the whole plan.
    pub(super) fn refusals(&mut self) {
        if let Primary::Several(names) = &self.primary {
            let names = names.join(" and ");
            self.refuse(
                TroubleKind::SplitBrain,
                None,
                format!("{names} take writes at the same time"),
                "nothing is changed; decide which of them is right, stop PostgreSQL on the other, and check its data \
                 before it rejoins",
            );
        }
        if let Primary::Gone(identifier) = &self.primary {
            let message = format!(
                "this machine remembers the cluster (system identifier {identifier}), but no host has its data"
            );
            self.refuse(
                TroubleKind::ClusterGone,
                None,
                message,
                "no new cluster is created in its place: name the hosts that hold it. Only if its data is lost for good, \
                 delete cluster.json in its state directory; a new one is then created",
            );
        }
        if self.primary == Primary::Never {
            for node in &self.inventory.nodes {
                if let Host::Unreachable { why, young: false } = self.host(&node.name) {
                    let hint = match way_in(self.inventory, node, why) {
                        Some(hint) => hint,
                        None => format!(
                            "no primary is initialized until every node has answered: bring {} back, or correct its \
                             `address`",
                            node.name
                        ),
                    };
                    self.refuse(
                        TroubleKind::ExistenceUnknown,
                        Some(&node.name),
                        format!("may hold data of this cluster, but is unreachable: {why}"),
                        hint,
                    );
                }
            }
        }
        for node in &self.inventory.nodes {
            let Some(host) = self.host(&node.name).up() else { continue };
            if !host.root {
                self.refuse(TroubleKind::NotRoot, Some(&node.name), "commands are not run as root", SUDO);
                continue;
            }
            if !["debian", "ubuntu"].contains(&host.os.as_str()) {
                self.refuse(
                    TroubleKind::Unsupported,
                    Some(&node.name),
                    format!("runs {} {}", host.os, host.os_version),
                    "use Debian or Ubuntu",
                );
            }
            if host.arch != "x86_64" {
                self.refuse(
                    TroubleKind::Unsupported,
                    Some(&node.name),
                    format!("is {}", host.arch),
                    "use an x86_64 host: cluster-node is built for no other architecture",
                );
            }
            if let Data::Foreign(whose) = roles::data(self.inventory, self.facts, host) {
                self.refuse(
                    TroubleKind::ForeignData,
                    Some(&node.name),
                    whose,
                    "it does not belong to this cluster and is left alone: use another host or, if it is part of the \
                     cluster of that name, correct `cluster` in the inventory",
                );
            }
            let port = self.inventory.postgresql.port;
            let ours = roles::data(self.inventory, self.facts, host);
            if let (Data::None, Some(program)) = (&ours, host.listeners.get(&port)) {
                self.refuse(
                    TroubleKind::PortTaken,
                    Some(&node.name),
                    format!("port {port} is in use by {program}"),
                    "stop that program, or choose another `postgresql.port`",
                );
            }
            if let Some(address) = node.connection_host.map(|address| address.to_string())
                && !host.addresses.is_empty()
                && !host.addresses.contains(&address)
            {
                let other = self.inventory.nodes.iter().find(|other| {
                    other.name != node.name
                        && self.host(&other.name).up().is_some_and(|host| host.addresses.contains(&address))
                });
                let whose = other.map_or(String::new(), |other| format!("; {} has it", other.name));
                self.refuse(
                    TroubleKind::WrongAddress,
                    Some(&node.name),
                    format!("does not have its connection_host {address}{whose}"),
                    format!(
                        "{} has {}: PostgreSQL and the guard need an address of the host itself, behind no address translation",
                        node.name,
                        host.addresses.join(", ")
                    ),
                );
            }
            let server = format!("postgresql-{}", self.inventory.postgresql.version);
            if !host.packages.installed.contains_key(&server) && host.disk_free_kib < DISK_NEEDED_KIB {
                self.refuse(
                    TroubleKind::NoRoom,
                    Some(&node.name),
                    format!("has {} MiB free below /var", host.disk_free_kib / 1024),
                    format!("free some space: PostgreSQL needs at least {} MiB", DISK_NEEDED_KIB / 1024),
                );
            }
        }
    }
}
