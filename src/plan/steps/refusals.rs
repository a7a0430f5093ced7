//! What forbids everything.

use super::Planner;
use crate::facts::Host;
use crate::plan::roles::{self, Data, Primary};

/// PostgreSQL wants this much for packages, WAL and a little data.
const DISK_NEEDED_KIB: u64 = 1_500_000;

impl Planner<'_> {
    /// What forbids everything.
    pub(super) fn refusals(&mut self) {
        if let Primary::Several(names) = &self.primary {
            let names = names.join(" and ");
            self.refuse(
                None,
                format!("{names} take writes at the same time"),
                "nothing is changed; decide which of them is right, stop PostgreSQL on the other, and look at its data \
                 before you let it rejoin",
            );
        }
        if let Primary::Gone(identifier) = &self.primary {
            let message = format!(
                "this machine remembers the cluster (system identifier {identifier}), and no host holds any of it"
            );
            self.refuse(
                None,
                message,
                "no new cluster is made in its place: name the hosts that hold it; or, if its data is lost for good, \
                 forget it: `cluster down`, or delete cluster.json in its state directory",
            );
        }
        if self.primary == Primary::Never {
            for node in &self.inventory.nodes {
                if let Host::Unreachable { why, young: false } = self.host(&node.name) {
                    self.refuse(
                        Some(&node.name),
                        format!("cannot be asked whether this cluster existed before: {why}"),
                        format!(
                            "no new primary is made until every node has answered; bring {0} back, or correct its \
                             address or host_key in the inventory",
                            node.name
                        ),
                    );
                }
            }
        }
        for node in &self.inventory.nodes {
            let Some(host) = self.host(&node.name).up() else { continue };
            if !host.root {
                self.refuse(
                    Some(&node.name),
                    "commands do not run as root",
                    "log in as root, or as a user that may `sudo -n`",
                );
            }
            if !["debian", "ubuntu"].contains(&host.os.as_str()) {
                self.refuse(
                    Some(&node.name),
                    format!("runs {} {}", host.os, host.os_version),
                    "Debian and Ubuntu are supported",
                );
            }
            if host.arch != "x86_64" {
                self.refuse(
                    Some(&node.name),
                    format!("is {}", host.arch),
                    "cluster-node is built for x86_64",
                );
            }
            if let Data::Foreign(whose) = roles::data(self.inventory, self.facts, host) {
                self.refuse(
                    Some(&node.name),
                    whose,
                    "it is not this cluster's and is left alone; use another host, or remove it yourself \
                     (pg_lsclusters shows it, pg_dropcluster deletes it)",
                );
            }
            let server = format!("postgresql-{}", self.inventory.postgresql.version);
            if !host.packages.installed.contains_key(&server) && host.disk_free_kib < DISK_NEEDED_KIB {
                self.refuse(
                    Some(&node.name),
                    format!("has {} MiB free below /var", host.disk_free_kib / 1024),
                    format!("PostgreSQL needs {} MiB to begin with", DISK_NEEDED_KIB / 1024),
                );
            }
        }
    }
}
