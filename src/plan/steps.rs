//! What is missing, node by node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::action::{Action, Unit};
use super::files::{self, Addresses};
use super::roles::{self, Data, Primary};
use super::{Means, Phase, Plan, Step, Trouble};
use crate::facts::host::{Made, PostgresFacts};
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Node, Provider, Role};
use crate::node::config::Config;
use crate::plan::Risk;
use crate::scram;

/// PostgreSQL wants this much for packages, WAL and a little data.
const DISK_NEEDED_KIB: u64 = 1_500_000;
/// Package lists that are older are fetched again before something is installed.
const LISTS_MAX_AGE: u64 = 24 * 3600;

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
        let primary = roles::primary(inventory, facts);
        let addresses = addresses(inventory, facts);
        let is_paused = |name: &str| facts.hosts.get(name).and_then(|host| host.up()?.paused()) == Some(true);
        let paused =
            inventory.nodes.iter().map(|node| node.name.as_str()).filter(|name| is_paused(name)).collect();
        Planner { inventory, facts, means, primary, addresses, paused, plan: Plan::default() }
    }

    pub(super) fn plan(mut self) -> Plan {
        self.refusals();
        self.provider();
        for node in &self.inventory.nodes {
            self.node(node);
        }
        self.address();
        self.lease();
        self.pause();
        self.plan
    }

    /// Somebody is at work on the cluster: what stands still is left alone, and nothing that guards would do by
    /// themselves is waited for.
    fn pause(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        self.plan.waits = None;
        let names = self.paused.join(", ");
        self.trouble(
            None,
            format!("paused on {names}: guards start, promote and rejoin nothing there, and this run starts nothing"),
            "`cluster resume` ends the pause",
        );
    }

    /// A primary that has not been granted its first lease yet has nobody who would take over from it.
    fn lease(&mut self) {
        let Primary::One(name) = &self.primary else { return };
        let name = name.clone();
        if self.host(&name).up().and_then(HostFacts::holds_lease) == Some(false) {
            self.plan.waits = Some(format!("a majority to grant {name} the lease"));
            self.trouble(
                Some(&name),
                "has not been granted the lease: until it is, nobody takes over from it",
                "a majority of the guards must run and reach each other (UDP port 5480); `cluster-node status` on the \
                 nodes says what each of them waits for",
            );
        }
    }

    fn step(&mut self, phase: Phase, node: Option<&Node>, action: Action, why: impl Into<String>) {
        self.plan.steps.push(Step {
            phase,
            node: node.map(|node| node.name.clone()),
            action,
            why: why.into(),
        });
    }

    fn trouble(&mut self, node: Option<&str>, message: impl Into<String>, hint: impl Into<String>) {
        let node = node.map(str::to_owned);
        self.plan.troubles.push(Trouble { node, message: message.into(), hint: hint.into() });
    }

    fn refuse(&mut self, node: Option<&str>, message: impl Into<String>, hint: impl Into<String>) {
        let node = node.map(str::to_owned);
        self.plan.refusals.push(Trouble { node, message: message.into(), hint: hint.into() });
    }

    fn host(&self, node: &str) -> &'a Host {
        self.facts.hosts.get(node).unwrap_or(&Host::Missing)
    }

    /// What forbids everything.
    fn refusals(&mut self) {
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

    fn provider(&mut self) {
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
    fn address(&mut self) {
        let Some(cloud) = &self.facts.cloud else { return };
        let (Primary::One(name), Some(floating_ip)) = (&self.primary, &cloud.floating_ip) else { return };
        let Some(droplet) = cloud.droplets.get(name) else { return };
        if floating_ip.droplet != Some(droplet.id) {
            let action = Action::AssignFloatingIp { node: name.clone(), droplet: droplet.id };
            let why = format!("{name} takes writes");
            self.step(Phase::Address, None, action, why);
        }
    }

    fn node(&mut self, node: &'a Node) {
        let bare = HostFacts::default();
        let host = match self.host(&node.name) {
            Host::Up(host) => host.as_ref(),
            Host::Off if self.facts.cloud.is_some() && self.paused.is_empty() => {
                self.step(Phase::Reach, Some(node), Action::Reach, "its droplet is off");
                return;
            }
            Host::Off => return self.trouble(Some(&node.name), "is switched off", "switch it on"),
            Host::Unreachable { why, young: false } => {
                return self.trouble(
                    Some(&node.name),
                    format!("cannot be reached: {why}"),
                    "the other nodes are looked after; run this again when it is back",
                );
            }
            Host::Unreachable { why, young: true } => {
                self.step(Phase::Reach, Some(node), Action::Reach, why.clone());
                &bare
            }
            Host::Missing => {
                self.step(Phase::Reach, Some(node), Action::Reach, "its droplet is new");
                &bare
            }
        };
        let known = self.host(&node.name).up().is_some();
        if known && !["", "done", "error", "degraded", "disabled"].contains(&host.cloud_init.as_str()) {
            self.step(Phase::Reach, Some(node), Action::Reach, format!("cloud-init is {}", host.cloud_init));
        }
        if !known || self.facts.local.bootstrap_keys.get(&node.name).is_some_and(|key| *key == host.host_key)
        {
            let why = "every process on a droplet can read its user data";
            self.step(Phase::Reach, Some(node), Action::ReplaceHostKey, why);
        }
        let role = roles::role(self.inventory, &self.primary, node);
        self.packages(node, host, known);
        if let Primary::Lost(why) = &self.primary {
            let data = roles::data(self.inventory, self.facts, host);
            if matches!(data, Data::None | Data::HalfMade | Data::Virgin) {
                // While the cluster's own data is looked for, nothing is made in its place.
                let why = why.clone();
                return self.without_primary(node, host, &data, &why);
            }
        }
        self.set_up(node, host, role);
        self.services(node, host, role);
    }

    fn packages(&mut self, node: &Node, host: &HostFacts, known: bool) {
        let version = self.inventory.postgresql.version;
        let file = files::before_install();
        let there = host.files.get(files::CREATECLUSTER);
        if !there.is_some_and(|found| file.matches(found)) {
            let action = Action::WriteFiles { files: vec![file.change(there)] };
            self.step(Phase::Lists, Some(node), action, "packages must not make a cluster of their own");
        }
        let wanted =
            [format!("postgresql-{version}"), format!("postgresql-{version}-repmgr"), "sudo".to_owned()];
        let missing: Vec<String> =
            wanted.into_iter().filter(|package| !host.packages.installed.contains_key(package)).collect();
        if missing.is_empty() {
            return;
        }
        let why = if host.packages.interrupted { "dpkg was interrupted" } else { "not installed" };
        let lacking: Vec<&String> =
            missing.iter().filter(|package| !host.packages.candidates.contains_key(*package)).collect();
        if host.packages.lists_age.is_none_or(|age| age > LISTS_MAX_AGE) {
            self.step(Phase::Lists, Some(node), Action::UpdateLists, "apt's lists are missing or old");
        } else if !lacking.is_empty() && known {
            // The distribution does not have it: the PostgreSQL project's repository, then its archive.
            let archive = host.packages.pgdg.iter().any(|line| line.contains("apt.postgresql.org"));
            let tried_all = host.packages.pgdg.iter().any(|line| line.contains("apt-archive.postgresql.org"));
            let lacking = lacking.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", ");
            if tried_all {
                return self.refuse(
                    Some(&node.name),
                    format!("neither {} {} nor the PostgreSQL project has {lacking}", host.os, host.codename),
                    "choose another version of PostgreSQL or another image",
                );
            }
            let why = format!("{} {} does not have {lacking}", host.os, host.codename);
            self.step(Phase::Lists, Some(node), Action::AddRepository { archive }, why);
        }
        self.step(Phase::Install, Some(node), Action::Install { packages: missing }, why);
    }

    fn set_up(&mut self, node: &'a Node, host: &HostFacts, role: Role) {
        let data = roles::data(self.inventory, self.facts, host);
        let running = host.postgres.is_some();
        if matches!(data, Data::None | Data::HalfMade) && !self.is_clone_under_way(host) {
            let why = match data {
                Data::HalfMade => "a run that was killed left it half made",
                _ => "there is none",
            };
            // A half-made clone is made anew by the clone itself.
            if !host.marker.as_ref().is_some_and(|marker| marker.made == Made::Cloning) {
                let first = self.primary == Primary::Never;
                self.step(Phase::Setup, Some(node), Action::CreateData { first }, why);
            }
        }
        self.files(node, host);
        if self.facts.local.node_program != program_hash(host) && !self.guard_runs(host) {
            let action = Action::InstallProgram { sha256: self.facts.local.node_program.clone() };
            self.step(Phase::Setup, Some(node), action, "it is missing or of another version");
        }
        if let Some(postgres) = &host.postgres {
            self.settings(node, host, postgres, role);
        }
        match role {
            Role::Primary => self.primary(node, host, &data),
            Role::Standby => self.standby(node, host, &data),
            Role::Witness => self.witness(node, host, &data, running),
        }
    }

    fn is_clone_under_way(&self, host: &HostFacts) -> bool {
        host.units
            .get("cluster-clone")
            .is_some_and(|unit| unit.active == "active" || unit.active == "activating")
    }

    fn guard_runs(&self, host: &HostFacts) -> bool {
        host.units.get("cluster-node").is_some_and(|unit| unit.active == "active")
    }

    fn files(&mut self, node: &Node, host: &HostFacts) {
        let mut changes = Vec::new();
        for file in files::files(self.inventory, self.means, &self.addresses, node) {
            let found = host.files.get(&file.path);
            if !found.is_some_and(|found| file.matches(found)) {
                changes.push(file.change(found));
            }
        }
        if !changes.is_empty() {
            let there = changes.iter().all(|change| host.files.contains_key(&change.path));
            let why = match (there, changes.len()) {
                (true, 1) => "it differs from what the inventory makes",
                (true, _) => "they differ from what the inventory makes",
                (false, 1) => "it is missing",
                (false, _) => "some or all are missing",
            };
            self.step(Phase::Setup, Some(node), Action::WriteFiles { files: changes }, why);
        }
    }

    /// A changed setting: reload, and a restart only where PostgreSQL says so.
    fn settings(&mut self, node: &Node, host: &HostFacts, postgres: &PostgresFacts, role: Role) {
        for error in postgres.file_errors.iter().chain(&postgres.hba_errors) {
            self.trouble(
                Some(&node.name),
                format!("PostgreSQL does not accept its configuration: {error}"),
                "look at postgresql.settings and clients in the inventory",
            );
        }
        let version = self.inventory.postgresql.version;
        let newest = [files::postgresql_conf(version), files::pg_hba(version)]
            .iter()
            .filter_map(|path| Some(host.files.get(path)?.modified))
            .fold(0.0, f64::max);
        if newest > postgres.conf_loaded && postgres.file_errors.is_empty() && postgres.hba_errors.is_empty()
        {
            self.step(
                Phase::Reload,
                Some(node),
                Action::Reload,
                "its files are newer than what PostgreSQL has read",
            );
        } else if !postgres.pending_restart.is_empty() {
            // A standby must never allow less than its primary: where values shrink, the primary goes first.
            let shrinks = postgres.file_settings.iter().any(|(name, wanted)| {
                let now = postgres.hot_standby_settings.get(name).and_then(|value| value.parse::<i64>().ok());
                matches!((wanted.parse::<i64>(), now), (Ok(wanted), Some(now)) if wanted < now)
            });
            let phase =
                if (role == Role::Primary) == shrinks { Phase::RestartFirst } else { Phase::RestartLast };
            let settings = postgres.pending_restart.clone();
            self.step(
                phase,
                Some(node),
                Action::Restart { settings },
                "PostgreSQL says that they wait for a restart",
            );
        }
    }

    fn primary(&mut self, node: &Node, host: &HostFacts, data: &Data) {
        let rows = host.repmgr.as_deref().unwrap_or_default();
        if self.primary == Primary::Never && host.postgres.is_none() {
            let why = "this cluster has never been";
            self.step(Phase::Setup, Some(node), Action::StartNew { made: Made::Primary }, why);
        }
        let Some(postgres) = &host.postgres else {
            if *data == Data::Ours {
                // Begun by a run that was killed; what it holds is for the next look to say.
                return;
            }
            // Never started: what follows is certain, and a reader of the plan wants to know.
            self.role(node, Phase::Setup, "repmgr", None, "repmgr logs in with it");
            self.step(Phase::Setup, Some(node), Action::RegisterPrimary, "repmgr does not know it");
            self.applications(node, None);
            return;
        };
        if postgres.in_recovery {
            return;
        }
        self.role(node, Phase::Setup, "repmgr", Some(postgres), "repmgr logs in with it");
        let registered = rows.iter().find(|row| row.id == node.id);
        if !registered
            .is_some_and(|row| row.kind == "primary" && row.active && self.is_reached_at(node, &row.conninfo))
        {
            self.step(Phase::Setup, Some(node), Action::RegisterPrimary, "repmgr does not know it as it is");
        }
        self.applications(node, Some(postgres));
    }

    fn is_reached_at(&self, node: &Node, conninfo: &str) -> bool {
        let port = self.inventory.postgresql.port;
        self.addresses.hosts.get(&node.name).is_some_and(|host| Config::conninfo(*host, port) == conninfo)
    }

    /// The roles and databases of applications, and the role that checks the cluster.
    fn applications(&mut self, node: &Node, postgres: Option<&PostgresFacts>) {
        self.role(node, Phase::Follow, "cluster", postgres, "`up` and `drill` write with it");
        for user in &self.inventory.users {
            self.role(node, Phase::Follow, &user.name, postgres, "the inventory declares it");
        }
        let own = ("cluster".to_owned(), "cluster".to_owned());
        let declared =
            self.inventory.databases.iter().map(|database| (database.name.clone(), database.owner.clone()));
        for (name, owner) in std::iter::once(own).chain(declared) {
            match postgres.and_then(|postgres| postgres.databases.iter().find(|it| it.name == name)) {
                None => {
                    let action = Action::Database { name, owner };
                    self.step(Phase::Follow, Some(node), action, "the inventory declares it");
                }
                Some(found) if found.owner != owner => self.trouble(
                    None,
                    format!("database `{name}` belongs to `{}`, not to `{owner}`", found.owner),
                    format!("`alter database {name} owner to {owner}` if that is what you want"),
                ),
                Some(_) => {}
            }
        }
    }

    fn role(&mut self, node: &Node, phase: Phase, name: &str, postgres: Option<&PostgresFacts>, why: &str) {
        let (password, superuser, replication) = match name {
            "repmgr" => (&self.means.repmgr_password, true, true),
            "cluster" => (&self.means.check_password, false, false),
            _ => {
                let superuser = self.inventory.users.iter().any(|user| user.name == name && user.superuser);
                match self.means.user_passwords.get(name) {
                    Some(password) => (password, superuser, false),
                    // It was made elsewhere, and resetting it would lock the application out.
                    None => return,
                }
            }
        };
        let found = postgres.and_then(|postgres| postgres.roles.iter().find(|role| role.name == name));
        let right = found.is_some_and(|role| {
            role.login
                && role.superuser == superuser
                && (role.replication || !replication)
                && role.password.as_deref().is_some_and(|verifier| scram::verifies(verifier, password))
        });
        if !right {
            let action = Action::Role {
                name: name.to_owned(),
                password: password.clone(),
                superuser,
                replication,
                exists: found.is_some(),
            };
            let why = if found.is_some() { "its rights or its password differ" } else { why };
            self.step(phase, Some(node), action, why);
        }
    }

    fn standby(&mut self, node: &'a Node, host: &HostFacts, data: &Data) {
        let primary = match &self.primary {
            Primary::One(name) => name.clone(),
            Primary::Never => self.inventory.primary().name.clone(),
            Primary::Several(_) | Primary::Gone(_) => return,
            Primary::Lost(why) => {
                let why = why.clone();
                return self.without_primary(node, host, data, &why);
            }
        };
        let conninfo = self
            .addresses
            .hosts
            .get(&primary)
            .map(|host| Config::conninfo(*host, self.inventory.postgresql.port))
            .unwrap_or_default();
        let theirs = self.system_identifier(&primary);
        let mut starts = false;
        match data {
            Data::None | Data::HalfMade | Data::Virgin => {
                let why = match data {
                    Data::HalfMade if self.is_clone_under_way(host) => "a clone is under way",
                    Data::HalfMade => "the last clone did not end",
                    _ => "it has no data yet",
                };
                self.step(Phase::Follow, Some(node), Action::Clone { from: primary, conninfo }, why);
                starts = true;
            }
            Data::Foreign(_) => return,
            Data::Ours => {
                let identifier = host.data.as_ref().and_then(|data| data.system_identifier.as_deref());
                if let (Some(theirs), Some(identifier)) = (theirs, identifier)
                    && theirs != identifier
                {
                    return self.refuse(
                        Some(&node.name),
                        format!("its data (system identifier {identifier}) is not {primary}'s ({theirs})"),
                        "two clusters have been mixed; nothing is touched",
                    );
                }
                let follows = host.data.as_ref().is_some_and(|data| data.standby_signal);
                if host.postgres.is_none() && !follows {
                    // Its guard rewinds it, or clones it beside its old data; here there is nothing to do but to wait.
                    self.plan.waits = Some(format!("{} to become a standby of {primary}", node.name));
                    return self.trouble(
                        Some(&node.name),
                        format!("was primary before {primary} took over, and is not its standby yet"),
                        "its guard makes it one by itself; `cluster-node status` on the node says how far it is",
                    );
                }
                starts |= host.postgres.is_none();
            }
        }
        if starts && self.is_paused(node) {
            // Whoever paused it may have stopped it, too; the rest is seen to once it runs.
            return self.trouble(
                Some(&node.name),
                "does not run, and is paused",
                "`cluster resume` starts it",
            );
        }
        if starts {
            self.step(Phase::Follow, Some(node), Action::StartStandby, "it does not run");
        }
        let rows =
            self.host(&self.primary_name()).up().and_then(|host| host.repmgr.as_deref()).unwrap_or_default();
        let upstream = self.inventory.node(&self.primary_name()).map(|node| i64::from(node.id));
        let registered = rows.iter().find(|row| row.id == node.id).is_some_and(|row| {
            row.kind == "standby"
                && row.active
                && row.upstream == upstream
                && self.is_reached_at(node, &row.conninfo)
        });
        if !registered {
            self.step(Phase::Follow, Some(node), Action::RegisterStandby, "repmgr does not know it as it is");
        }
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

    /// The cluster has been, and nobody takes writes: start what can be started safely, decide nothing.
    fn without_primary(&mut self, node: &Node, host: &HostFacts, data: &Data, why: &str) {
        if self.plan.troubles.iter().all(|trouble| trouble.message != why) {
            let hint = if self.paused.is_empty() {
                "no new primary is made, so that nothing is lost; the guards start the old one as soon as a majority \
                 of the nodes is there: bring the missing ones back"
            } else {
                "no new primary is made, so that nothing is lost; the guards go on from here once the pause has ended"
            };
            self.trouble(None, why, hint);
        }
        let up = self.inventory.nodes.iter().filter(|node| self.host(&node.name).up().is_some()).count();
        if up * 2 > self.inventory.nodes.len() {
            self.plan.waits = Some("the guards to agree on a primary".into());
        }
        if *data == Data::Ours
            && host.postgres.is_none()
            && host.data.as_ref().is_some_and(|data| data.standby_signal)
            && !self.is_paused(node)
        {
            self.step(Phase::Follow, Some(node), Action::StartStandby, "it does not run");
        }
    }

    fn witness(&mut self, node: &Node, host: &HostFacts, data: &Data, running: bool) {
        match data {
            Data::Foreign(_) => return,
            Data::Ours if !running && self.is_paused(node) => {
                return self.trouble(
                    Some(&node.name),
                    "does not run, and is paused",
                    "`cluster resume` starts it",
                );
            }
            _ if !running => {
                let why = "it does not run";
                self.step(Phase::Setup, Some(node), Action::StartNew { made: Made::Witness }, why);
                if *data == Data::Ours {
                    // It has run before; what it holds is for the next look to say.
                    return;
                }
            }
            _ => {}
        }
        self.role(node, Phase::Setup, "repmgr", host.postgres.as_ref(), "repmgr logs in with it");
        let name = match &self.primary {
            Primary::One(name) => name.clone(),
            Primary::Never => self.inventory.primary().name.clone(),
            Primary::Several(_) | Primary::Lost(_) | Primary::Gone(_) => return,
        };
        let upstream = self.inventory.node(&name).map(|node| i64::from(node.id));
        let right = |rows: Option<&[crate::facts::host::RepmgrNode]>| {
            rows.unwrap_or_default().iter().find(|row| row.id == node.id).is_some_and(|row| {
                row.kind == "witness"
                    && row.active
                    && row.upstream == upstream
                    && self.is_reached_at(node, &row.conninfo)
            })
        };
        let primary_rows = self.host(&name).up().and_then(|host| host.repmgr.as_deref());
        if !(right(host.repmgr.as_deref()) && right(primary_rows)) {
            let primary_host = self.addresses.hosts.get(&name).map(IpAddr::to_string).unwrap_or_default();
            let action = Action::RegisterWitness { primary_host };
            self.step(Phase::Follow, Some(node), action, "repmgr does not know it as it is");
        }
    }

    fn services(&mut self, node: &Node, host: &HostFacts, role: Role) {
        let phase = match role {
            Role::Witness => Phase::WatchWitness,
            Role::Standby => Phase::WatchStandbys,
            Role::Primary => Phase::WatchPrimary,
        };
        let program = self.facts.local.node_program != program_hash(host);
        let (mut new, mut stale) = (Vec::new(), Vec::new());
        for unit in [Unit::Repmgrd, Unit::ClusterNode] {
            let state = host.units.get(unit.name());
            let runs = state.is_some_and(|state| {
                state.enabled == "enabled" && matches!(state.active.as_str(), "active" | "activating")
            });
            // A service that runs and has not said what it read is the package's own, not ours.
            if !runs || !host.loaded.contains_key(unit.name()) {
                new.push(unit);
            } else if host.loaded.get(unit.name()) == Some(&false)
                || state.is_some_and(|state| state.need_reload)
                || (unit == Unit::ClusterNode && program)
            {
                stale.push(unit);
            }
        }
        if !new.is_empty() {
            let action = Action::Services { units: new, restart: false };
            self.step(Phase::Watch, Some(node), action, "they do not run");
        }
        if stale.contains(&Unit::ClusterNode) && program {
            let action = Action::InstallProgram { sha256: self.facts.local.node_program.clone() };
            self.step(phase, Some(node), action, "it is of another version");
        }
        if !stale.is_empty() {
            let why = "what runs has read an older program or configuration";
            self.step(phase, Some(node), Action::Services { units: stale, restart: true }, why);
        }
    }

    fn system_identifier(&self, node: &str) -> Option<&'a str> {
        let host = self.host(node).up()?;
        host.postgres.as_ref().map(|postgres| postgres.system_identifier.as_str())
    }
}

fn program_hash(host: &HostFacts) -> String {
    host.files.get("/usr/local/bin/cluster-node").map(|file| file.sha256.clone()).unwrap_or_default()
}

/// Where nodes are, as far as it is known.
fn addresses(inventory: &Inventory, facts: &Facts) -> Addresses {
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

impl Step {
    /// What it may cost.
    pub fn risk(&self) -> Risk {
        self.action.risk()
    }
}
