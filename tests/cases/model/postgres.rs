//! PostgreSQL that runs: its start, its settings, roles and databases, and what it replicates.

use std::collections::BTreeMap;

use cluster::facts::Host;
use cluster::facts::host::{DatabaseFacts, PostgresFacts, Replica, RoleFacts};
use cluster::inventory::Role;
use cluster::scram;
use cluster::settings;
use secrecy::SecretString;

use super::Model;
use super::files::active;

/// What a standby must not have less of than its primary, and PostgreSQL's own values.
const HOT_STANDBY: [(&str, &str); 5] = [
    ("max_connections", "100"),
    ("max_worker_processes", "8"),
    ("max_wal_senders", "10"),
    ("max_prepared_transactions", "0"),
    ("max_locks_per_transaction", "64"),
];

impl Model {
    pub(super) fn start_standby(&mut self, node: &str) {
        let identifier = self.host(node).data.as_ref().unwrap().system_identifier.clone().unwrap();
        self.host(node).postgres = Some(PostgresFacts {
            version: "15.8 (Debian 15.8-0+deb12u1)".into(),
            in_recovery: true,
            system_identifier: identifier,
            timeline: 1,
            ..PostgresFacts::default()
        });
        self.started(node);
        self.standbys_allow_as_much();
    }

    pub(super) fn started(&mut self, node: &str) {
        let clock = self.clock;
        self.read_settings(node);
        let host = self.host(node);
        host.pg_clusters.iter_mut().for_each(|cluster| cluster.status = "online".into());
        host.units.insert("postgresql@15-main".into(), active());
        host.postgres.as_mut().unwrap().conf_loaded = clock;
        self.takes_up_all(node);
    }

    pub(super) fn reload(&mut self, node: &str) {
        if self.host(node).postgres.is_none() {
            // It ran, and answered with an error; what its files had wrong is put right.
            self.host(node).postgres_error = None;
            self.host(node).loaded.insert("postgresql".into(), true);
            return self.start_standby(node);
        }
        self.running(node).conf_loaded = self.clock;
        self.read_settings(node);
    }

    pub(super) fn restart(&mut self, node: &str) {
        self.running(node).conf_loaded = self.clock;
        self.takes_up_all(node);
        self.standbys_allow_as_much();
    }

    /// What its settings file has of the settings that a running server does not take up.
    fn at_next_start(&mut self, node: &str) -> BTreeMap<String, String> {
        let path = cluster::plan::files::postgresql_conf(self.inventory.postgresql.version);
        let text = self.host(node).files.get(&path).and_then(|file| file.content.clone()).unwrap_or_default();
        let values = cluster::plan::files::values(&text);
        let values = values.into_iter().filter(|(name, _)| settings::needs_restart(name));
        values.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// A server has started.
    fn takes_up_all(&mut self, node: &str) {
        let values = self.at_next_start(node);
        self.started_with.insert(node.to_owned(), values);
        let postgres = self.running(node);
        postgres.hot_standby_settings = postgres.file_settings.clone();
        postgres.pending_restart.clear();
    }

    /// What PostgreSQL makes of its files when it reads them.
    fn read_settings(&mut self, node: &str) {
        let next = self.at_next_start(node);
        let started = self.started_with.get(node).cloned().unwrap_or_default();
        let of = |values: &BTreeMap<String, String>, name: &str| {
            let own = values.get(name).map(String::as_str);
            own.or(settings::fit::stock(name)).map(str::to_owned)
        };
        let mut names: Vec<&String> = next.keys().chain(started.keys()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| of(&next, name) != of(&started, name));
        let pending = names.into_iter().cloned().collect();
        let wanted = HOT_STANDBY
            .map(|(name, stock)| (name.to_owned(), next.get(name).map_or(stock, String::as_str).to_owned()));
        let postgres = self.running(node);
        postgres.pending_restart = pending;
        postgres.file_settings = BTreeMap::from(wanted);
    }

    /// A standby that allows less than its primary does not start, or stops replaying.
    fn standbys_allow_as_much(&mut self) {
        let writers = self.writers();
        let [primary] = writers.as_slice() else { return };
        let allowed = |postgres: &PostgresFacts, name: &str| {
            postgres.hot_standby_settings[name].parse::<u32>().unwrap()
        };
        let most = HOT_STANDBY.map(|(name, _)| (name, allowed(self.running(primary), name)));
        let nodes: Vec<String> = self.inventory.data_nodes().map(|node| node.name.clone()).collect();
        for node in nodes {
            if let Some(postgres) =
                self.known(&node).and_then(|host| host.postgres.as_ref()).filter(|it| it.in_recovery)
            {
                for (name, most) in most {
                    assert!(allowed(postgres, name) >= most, "{node} has less {name} than {primary}");
                }
            }
        }
    }

    pub(super) fn has_role(&mut self, node: &str, name: &str) -> bool {
        self.running(node).roles.iter().any(|role| role.name == name)
    }

    pub(super) fn set_role(&mut self, node: &str, role: RoleFacts, exists: bool) {
        assert!(!self.running(node).in_recovery, "{node} takes no writes");
        assert_eq!(self.has_role(node, &role.name), exists);
        let roles = &mut self.running(node).roles;
        roles.retain(|it| it.name != role.name);
        roles.push(role);
    }

    pub(super) fn create_database(&mut self, node: &str, name: &str, owner: &str) {
        assert!(self.has_role(node, owner), "there is no role {owner} yet");
        self.running(node).databases.push(DatabaseFacts { name: name.into(), owner: owner.into() });
    }

    pub(super) fn create_extension(&mut self, node: &str, name: &str, database: &str) {
        assert!(!self.running(node).in_recovery, "{node} takes no writes");
        let extension = self.inventory.extensions.iter().find(|it| it.name == name).unwrap().clone();
        for node in self.inventory.data_nodes().map(|node| node.name.clone()).collect::<Vec<_>>() {
            let installed = self.known(&node).map(|host| &host.packages.installed);
            if let Some(package) = &extension.package {
                assert!(installed.is_none_or(|it| it.contains_key(package)), "{node} has no {package}");
            }
        }
        let path = cluster::plan::files::postgresql_conf(self.inventory.postgresql.version);
        let text = self.host(node).files[&path].content.clone().unwrap();
        let loaded = cluster::plan::files::values(&text)["shared_preload_libraries"];
        if let Some(library) = &extension.library {
            assert!(loaded.split(',').any(|it| it == library), "{library} is not loaded");
        }
        let there = self.running(node).databases.iter().any(|it| it.name == database);
        assert!(there || database == "postgres", "there is no database {database}");
        self.host(node).extensions.entry(database.into()).or_default().insert(name.into(), "1.0".into());
    }

    /// What happens by itself: standbys have what the primary has, and repmgrd copies its rows to the witness.
    pub(crate) fn replicate(&mut self) {
        self.lease();
        let writers = self.writers();
        let [primary] = writers.as_slice() else { return };
        if self.dark.contains_key(primary) {
            return;
        }
        let (theirs, rows) = (self.running(primary).clone(), self.host(primary).repmgr.clone());
        let mut extensions = self.host(primary).extensions.clone();
        for database in theirs.databases.iter().map(|it| it.name.as_str()).chain(["postgres"]) {
            if self.inventory.own_databases().contains(&database) {
                extensions.entry(database.to_owned()).or_default().insert("plpgsql".into(), "1.0".into());
            }
        }
        self.host(primary).extensions = extensions.clone();
        let mut replicas = Vec::new();
        for node in self.inventory.nodes.clone() {
            let Some(Host::Up(host)) = self.facts.hosts.get_mut(&node.name) else { continue };
            if node.role == Role::Witness {
                let runs = host.units.get("repmgrd").is_some_and(|unit| unit.active == "active");
                if runs && host.repmgr.is_some() && !self.copies_late {
                    host.repmgr = rows.clone();
                }
                continue;
            }
            let Some(postgres) = host.postgres.as_mut().filter(|it| it.in_recovery) else { continue };
            postgres.roles = theirs.roles.clone();
            postgres.databases = theirs.databases.clone();
            postgres.timeline = theirs.timeline;
            host.repmgr = rows.clone();
            host.extensions = extensions.clone();
            replicas.push(Replica { name: node.name, state: "streaming".into(), lag_bytes: Some(0.0) });
        }
        self.running(primary).replication = replicas;
    }
}

impl Model {
    /// Every guard that runs knows who holds the lease: the node that takes writes.
    pub(super) fn lease(&mut self) {
        let writers = self.writers();
        let failover = self.inventory.nodes.len() > 2;
        for node in &self.inventory.nodes {
            let Some(Host::Up(host)) = self.facts.hosts.get_mut(&node.name) else { continue };
            let Some(guard) = &mut host.guard else { continue };
            guard.holds = writers.contains(&node.name);
            guard.holder = writers.first().cloned();
            guard.automatic_failover = failover;
        }
    }
}

/// The settings of a role, as PostgreSQL keeps them.
pub(super) fn own(settings: &[(&str, &str)]) -> Vec<String> {
    settings.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// A verifier that is quickly made and quickly checked.
pub(super) fn verifier(password: &SecretString) -> String {
    scram::verifier_with(password, b"salt", 1)
}
