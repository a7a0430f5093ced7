//! What happens to hosts: cables, power, PostgreSQL that ends, a standby that takes over.

use cluster::facts::host::{DatabaseFacts, PostgresFacts, RepmgrNode, RoleFacts};
use cluster::facts::{Host, ServerStatus};
use cluster::inventory::Role;
use cluster::settings::ROLE;

use super::Model;
use super::postgres::{own, verifier};

impl Model {
    pub(super) fn unseen(&mut self, node: &str, why: &str, young: bool) {
        if let Some(Host::Up(host)) =
            self.facts.hosts.insert(node.into(), Host::Unreachable { why: why.into(), young })
        {
            self.dark.insert(node.into(), host);
        }
    }

    /// The cable is cut.
    pub(crate) fn unreachable(&mut self, node: &str) {
        self.unseen(node, "Connection timed out", false);
        self.replicate();
    }

    /// The cable is mended, or the host has booted.
    pub(crate) fn reachable(&mut self, node: &str) {
        if let Some(host) = self.dark.remove(node) {
            self.facts.hosts.insert(node.into(), Host::Up(host));
        }
        self.replicate();
    }

    /// The power is cut.
    pub(crate) fn power_off(&mut self, node: &str) {
        if let Some(server) = self.facts.cloud.as_mut().and_then(|cloud| cloud.servers.get_mut(node)) {
            server.status = ServerStatus::Off;
        }
        self.host(node).postgres = None;
        self.host(node).repmgr = None;
        if let Some(Host::Up(host)) = self.facts.hosts.insert(node.into(), Host::Off) {
            self.dark.insert(node.into(), host);
        }
        self.replicate();
    }

    /// The power comes back, and the guard starts what may be started.
    pub(crate) fn power_on(&mut self, node: &str) {
        if let Some(server) = self.facts.cloud.as_mut().and_then(|cloud| cloud.servers.get_mut(node)) {
            server.status = ServerStatus::Active;
        }
        self.reachable(node);
        let others = !self.writers().is_empty();
        let witness = self.inventory.node(node).is_some_and(|node| node.role == Role::Witness);
        let host = self.host(node);
        let guarded = host.units.get("cluster-node").is_some_and(|unit| unit.active == "active");
        let standby = host.data.as_ref().is_some_and(|data| data.standby_signal);
        if !guarded {
            return;
        }
        if standby {
            self.start_standby(node);
        } else if witness || !others {
            let identifier =
                host.data.as_ref().and_then(|data| data.system_identifier.clone()).unwrap_or_default();
            let roles = ["repmgr", "cluster"].map(|name| {
                let password =
                    if name == "repmgr" { &self.means.repmgr_password } else { &self.means.check_password };
                RoleFacts {
                    name: name.into(),
                    superuser: name == "repmgr",
                    replication: name == "repmgr",
                    login: true,
                    password: Some(verifier(password)),
                    settings: own(if name == "repmgr" { ROLE } else { &[] }),
                }
            });
            let users = self.inventory.users.iter().map(|user| RoleFacts {
                name: user.name.clone(),
                superuser: user.superuser,
                login: true,
                replication: false,
                settings: Vec::new(),
                password: Some(verifier(&self.means.user_passwords[&user.name])),
            });
            let roles = roles.into_iter().chain(users).collect();
            let own = DatabaseFacts { name: "cluster".into(), owner: "cluster".into() };
            let databases = self
                .inventory
                .databases
                .iter()
                .map(|it| DatabaseFacts { name: it.name.clone(), owner: it.owner.clone() })
                .chain([own])
                .collect();
            self.host(node).postgres = Some(PostgresFacts {
                system_identifier: identifier,
                timeline: 1,
                roles,
                databases,
                ..PostgresFacts::default()
            });
            self.started(node);
            let rows: Vec<RepmgrNode> = self
                .inventory
                .nodes
                .clone()
                .iter()
                .filter_map(|it| {
                    let kind = it.role.to_string();
                    let primary = self
                        .inventory
                        .nodes
                        .iter()
                        .find(|it| if witness { it.role == Role::Primary } else { it.name == node })?
                        .id;
                    Some(self.row(
                        &it.name,
                        if it.id == primary {
                            "primary"
                        } else if kind == "primary" {
                            "standby"
                        } else {
                            &kind
                        },
                        (it.id != primary).then_some(primary),
                    ))
                })
                .collect();
            self.host(node).repmgr = Some(rows);
        }
        self.replicate();
    }

    /// PostgreSQL ends, and nobody starts it again.
    pub(crate) fn stop(&mut self, node: &str) {
        self.host(node).postgres = None;
        self.host(node).repmgr = None;
        self.replicate();
    }

    /// The primary hands over and becomes a standby.
    pub(super) fn switch_over(&mut self, from: &str, to: &str) {
        assert_eq!(self.writer(), from, "who hands over takes writes");
        assert!(self.running(to).in_recovery, "{to} is a standby");
        self.stop(from);
        self.promote(to);
        self.host(from).data.as_mut().unwrap().standby_signal = true;
        self.start_standby(from);
        let id = self.id(from);
        for row in self.host(to).repmgr.as_mut().unwrap() {
            if row.id == id {
                (row.kind, row.active) = ("standby".into(), true);
            }
        }
        self.replicate();
    }

    /// A standby takes over: repmgr's rows, the other standbys and the floating IP follow.
    pub(crate) fn promote(&mut self, node: &str) {
        let old = self
            .inventory
            .data_nodes()
            .find(|it| {
                it.name != node
                    && self
                        .known(&it.name)
                        .and_then(|host| host.postgres.as_ref())
                        .is_none_or(|it| !it.in_recovery)
            })
            .map(|it| it.id);
        let timeline = self.running(node).timeline + 1;
        let id = self.id(node);
        let host = self.host(node);
        host.data.as_mut().unwrap().standby_signal = false;
        let postgres = host.postgres.as_mut().unwrap();
        (postgres.in_recovery, postgres.timeline) = (false, timeline);
        for row in host.repmgr.as_mut().unwrap() {
            if row.id == id {
                (row.kind, row.upstream) = ("primary".into(), None);
            } else {
                row.upstream = Some(i64::from(id));
                row.active = Some(row.id) != old;
            }
        }
        let server = self.facts.cloud.as_ref().map(|cloud| cloud.servers[node].id);
        if let (Some(cloud), Some(server)) = (&mut self.facts.cloud, server)
            && let Some(floating_ip) = &mut cloud.floating_ip
        {
            floating_ip.server = Some(server);
        }
        self.replicate();
    }
}
