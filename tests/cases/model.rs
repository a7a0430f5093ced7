//! A model of the world: what each step does to the facts, and what it needs to find. It plays state transitions
//! only; that the scripts do the same on real hosts is for the laboratory's tests to show.
//!
//! A step whose ground is not there, or that would touch data it must not, is a panic: the plan was wrong.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cluster::facts::host::{
    DataFacts, DatabaseFacts, FileFacts, Made, Marker, Packages, PgCluster, PostgresFacts, Receiver, Replica,
    RepmgrNode, RoleFacts, UnitFacts,
};
use cluster::facts::{Cloud, Droplet, Facts, FloatingIp, Host, HostFacts};
use cluster::inventory::{Inventory, Provider, Role};
use cluster::node::config::Config;
use cluster::plan::files::{Content, sha256};
use cluster::plan::roles::{self, Primary};
use cluster::plan::{Action, Means, Phase, Plan, Step, Unit, plan};
use cluster::scram;
use secrecy::SecretString;

/// Where the operator works, as the hosts see it.
const OPERATOR: &str = "198.51.100.7";
/// What identifies the cluster that the model makes.
pub(crate) const IDENTIFIER: &str = "7300000000000000001";
const FLOATING_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const PROGRAM: &str = "/usr/local/bin/cluster-node";

/// Whether a step is done, or cut off in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Whole,
    Half,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) inventory: Inventory,
    pub(crate) facts: Facts,
    pub(crate) means: Means,
    /// Hosts that are there and that nobody sees: switched off, or cut off.
    dark: BTreeMap<String, Box<HostFacts>>,
    clock: f64,
}

impl Model {
    /// Nothing at all: no droplet, or three bare hosts if the inventory names them.
    pub(crate) fn new(inventory: Inventory) -> Model {
        let mut facts = Facts::default();
        facts.local.node_program = "the hash of cluster-node".into();
        let droplets = matches!(inventory.provider, Provider::DigitalOcean(_));
        facts.cloud = droplets.then(Cloud::default);
        let mut model =
            Model { means: means(&inventory), inventory, facts, dark: BTreeMap::new(), clock: 1_000_000.0 };
        for node in model.inventory.nodes.clone() {
            let host = if droplets {
                Host::Missing
            } else {
                Host::Up(Box::new(bare(&node.name, "ssh-ed25519 own")))
            };
            model.facts.hosts.insert(node.name, host);
        }
        model
    }

    /// The inventory has been edited.
    pub(crate) fn edit(&mut self, inventory: Inventory) {
        let droplets = self.facts.cloud.is_some();
        for node in &inventory.nodes {
            let new = || {
                if droplets { Host::Missing } else { Host::Up(Box::new(bare(&node.name, "ssh-ed25519 own"))) }
            };
            self.facts.hosts.entry(node.name.clone()).or_insert_with(new);
        }
        self.means = means(&inventory);
        self.inventory = inventory;
    }

    /// Looks and plans, as every round of `up` does; who takes writes is remembered.
    pub(crate) fn plan(&mut self) -> Plan {
        let plan = plan(&self.inventory, &self.facts, &self.means);
        assert!(plan.refusals.is_empty() || plan.steps.is_empty(), "a refused plan has steps");
        if plan.refusals.is_empty()
            && let Primary::One(name) = roles::primary(&self.inventory, &self.facts)
        {
            self.facts.local.system_identifier = Some(self.running(&name).system_identifier.clone());
        }
        plan
    }

    /// `cluster up`: phase by phase until nothing is left, or `stop` says that the next phase is not to begin.
    pub(crate) fn up(&mut self, stop: impl Fn(Phase) -> bool) -> Plan {
        for _ in 0..40 {
            let plan = self.plan();
            let Some((phase, steps)) = plan.first_phase() else { return plan };
            if stop(phase) {
                return plan;
            }
            let steps: Vec<Step> = steps.into_iter().cloned().collect();
            for step in &steps {
                self.act(step, How::Whole);
            }
            let again = self.plan();
            for step in &steps {
                let identity = step.identity();
                assert!(
                    step.phase == Phase::Reach || again.steps.iter().all(|it| it.identity() != identity),
                    "`{identity}` was done and did not take effect"
                );
            }
        }
        panic!("the plan does not become empty: {:#?}", self.plan().steps);
    }

    fn known(&self, node: &str) -> Option<&HostFacts> {
        self.facts.hosts.get(node).and_then(Host::up)
    }

    /// A host, seen or not.
    pub(crate) fn host(&mut self, node: &str) -> &mut HostFacts {
        if let Some(dark) = self.dark.get_mut(node) {
            return dark;
        }
        match self.facts.hosts.get_mut(node) {
            Some(Host::Up(host)) => host,
            other => panic!("{node} is not there: {other:?}"),
        }
    }

    fn running(&mut self, node: &str) -> &mut PostgresFacts {
        self.host(node).postgres.as_mut().unwrap_or_else(|| panic!("PostgreSQL does not run on {node}"))
    }

    fn id(&self, node: &str) -> u32 {
        self.inventory.node(node).unwrap().id
    }

    fn number(&self, node: &str) -> u8 {
        u8::try_from(self.id(node)).unwrap()
    }

    fn connection_host(&self, node: &str) -> std::net::IpAddr {
        let declared =
            self.inventory.node(node).and_then(|it| it.connection_host.or(it.address.as_ref()?.parse().ok()));
        let private = || self.facts.cloud.as_ref()?.droplets.get(node)?.private.map(Into::into);
        declared.or_else(private).unwrap()
    }

    fn conninfo(&self, node: &str) -> String {
        Config::conninfo(self.connection_host(node), self.inventory.postgresql.port)
    }

    /// Who takes writes, whether it is seen or not.
    pub(crate) fn writers(&mut self) -> Vec<String> {
        let data: Vec<String> = self.inventory.data_nodes().map(|node| node.name.clone()).collect();
        data.into_iter()
            .filter(|name| {
                let host =
                    self.dark.get(name).map(|it| &**it).or(self.facts.hosts.get(name).and_then(Host::up));
                host.and_then(|host| host.postgres.as_ref()).is_some_and(|it| !it.in_recovery)
            })
            .collect()
    }

    fn writer(&mut self) -> String {
        let writers = self.writers();
        assert_eq!(writers.len(), 1, "one node takes writes");
        writers[0].clone()
    }

    /// Does a step, or the first half of it.
    pub(crate) fn act(&mut self, step: &Step, how: How) {
        self.clock += 1.0;
        match &step.node {
            Some(node) => self.act_on_host(node, &step.action, how),
            None if how == How::Whole => self.act_at_provider(&step.action),
            None => {}
        }
        self.replicate();
    }

    fn cloud(&mut self) -> &mut Cloud {
        self.facts.cloud.as_mut().expect("there is a provider")
    }

    fn act_at_provider(&mut self, action: &Action) {
        let cloud = self.facts.cloud.as_mut().unwrap();
        match action {
            Action::ImportSshKey => cloud.ssh_key = true,
            Action::CreateFloatingIp { node } => {
                assert!(cloud.floating_ip.is_none(), "a second floating IP");
                let droplet = cloud.droplets[node].id;
                cloud.floating_ip = Some(FloatingIp { address: FLOATING_IP, droplet: Some(droplet) });
                cloud.droplets.values_mut().for_each(|droplet| droplet.records_floating_ip = true);
            }
            Action::RecordFloatingIp => {
                cloud.droplets.values_mut().for_each(|droplet| droplet.records_floating_ip = true);
            }
            Action::AssignFloatingIp { node, droplet } => {
                assert_eq!(cloud.droplets[node].id, *droplet);
                cloud.floating_ip.as_mut().unwrap().droplet = Some(*droplet);
                assert_eq!(self.writer(), *node, "the floating IP leads to who takes writes");
            }
            other => panic!("{other:?} is not the provider's"),
        }
    }

    fn act_on_host(&mut self, node: &str, action: &Action, how: How) {
        let whole = how == How::Whole;
        let clock = self.clock;
        match action {
            Action::CreateDroplet => {
                let number = self.number(node);
                let boot = format!("ssh-ed25519 boot-{node}");
                self.facts.local.bootstrap_keys.insert(node.into(), boot.clone());
                let droplet = Droplet {
                    id: 100 + u64::from(number),
                    status: if whole { "active" } else { "new" }.into(),
                    public: whole.then_some(Ipv4Addr::new(198, 51, 100, 10 + number)),
                    private: whole.then_some(Ipv4Addr::new(10, 20, 0, 10 + number)),
                    records_floating_ip: false,
                };
                assert!(
                    self.cloud().droplets.insert(node.into(), droplet).is_none(),
                    "a second droplet {node}"
                );
                self.dark.insert(node.into(), Box::new(bare(node, &boot)));
                self.unseen(node, "connection refused", true);
            }
            Action::AwaitDroplet { .. } if whole => {
                let number = self.number(node);
                let droplet = self.cloud().droplets.get_mut(node).unwrap();
                droplet.status = "active".into();
                droplet.public = Some(Ipv4Addr::new(198, 51, 100, 10 + number));
                droplet.private = Some(Ipv4Addr::new(10, 20, 0, 10 + number));
            }
            Action::PowerOn { .. } if whole => self.power_on(node),
            Action::Reach if whole => {
                if let Some(droplet) = self.facts.cloud.as_ref().map(|cloud| &cloud.droplets[node]) {
                    assert!(droplet.public.is_some(), "{node} has no address that SSH could go to");
                }
                self.reachable(node);
                self.host(node).cloud_init = "done".into();
            }
            Action::ReplaceHostKey => {
                self.host(node).host_key = format!("ssh-ed25519 own-{node}");
                if whole {
                    self.facts.local.bootstrap_keys.remove(node);
                }
            }
            Action::UpdateLists if whole => self.update_lists(node),
            Action::AddRepository { archive } if whole => {
                let host = if *archive { "apt-archive" } else { "apt" };
                let line = format!("deb https://{host}.postgresql.org/pub/repos/apt bookworm-pgdg main");
                self.host(node).packages.pgdg.push(line);
                self.update_lists(node);
            }
            Action::Install { packages } if !whole => {
                self.host(node).packages.interrupted = true;
                let first = packages[0].clone();
                self.host(node).packages.installed.insert(first, "1".into());
            }
            Action::Install { packages } => {
                let host = self.host(node);
                assert!(
                    host.files.contains_key(cluster::plan::files::CREATECLUSTER),
                    "the package makes a cluster"
                );
                for package in packages {
                    assert!(host.packages.candidates.contains_key(package), "apt has no {package}");
                    host.packages.installed.insert(package.clone(), "1".into());
                }
                host.packages.interrupted = false;
            }
            Action::WriteFiles { files } => {
                let count = if whole { files.len() } else { files.len() / 2 };
                let host = self.host(node);
                for file in &files[..count] {
                    let Some(content) = &file.content else { panic!("{} is not known yet", file.path) };
                    let plain = match content {
                        Content::Plain(text) => Some(text.clone()),
                        Content::Secret(_) => None,
                    };
                    let found = FileFacts {
                        mode: file.mode.into(),
                        owner: file.owner.into(),
                        sha256: sha256(content.expose().as_bytes()),
                        modified: clock,
                        content: plain,
                    };
                    host.files.insert(file.path.clone(), found);
                    for (unit, words) in [
                        ("repmgrd", ["repmgr.conf", "repmgrd.service"]),
                        ("cluster-node", ["node.json", "cluster-node.service"]),
                    ] {
                        if words.iter().any(|word| file.path.ends_with(word))
                            && let Some(loaded) = host.loaded.get_mut(unit)
                        {
                            *loaded = false;
                        }
                    }
                }
            }
            Action::InstallProgram { sha256 } if whole => {
                let found = FileFacts {
                    mode: "755".into(),
                    owner: "root:root".into(),
                    sha256: sha256.clone(),
                    ..FileFacts::default()
                };
                let host = self.host(node);
                host.files.insert(PROGRAM.into(), found);
                if let Some(loaded) = host.loaded.get_mut("cluster-node") {
                    *loaded = false;
                }
            }
            Action::CreateData { .. } => self.create_data(node, whole),
            Action::StartNew { made } => self.start_new(node, *made, whole),
            Action::Clone { from, .. } => self.clone_from(node, from, whole),
            Action::StartStandby if whole => {
                let host = self.host(node);
                assert!(
                    host.data.as_ref().is_some_and(|data| data.standby_signal),
                    "{node} is not a standby"
                );
                self.start_standby(node);
            }
            Action::RegisterPrimary if whole => {
                assert!(!self.running(node).in_recovery && self.has_role(node, "repmgr"));
                let row = self.row(node, "primary", None);
                put(self.host(node).repmgr.get_or_insert_default(), row);
            }
            Action::RegisterStandby if whole => {
                assert!(self.running(node).in_recovery);
                let primary = self.writer();
                let row = self.row(node, "standby", Some(self.id(&primary)));
                put(self.host(&primary).repmgr.as_mut().expect("the primary is registered"), row);
            }
            Action::RegisterWitness { primary_host } if whole => {
                let primary = self.writer();
                assert_eq!(self.connection_host(&primary).to_string(), *primary_host);
                assert!(self.has_role(node, "repmgr") && !self.running(node).in_recovery);
                let row = self.row(node, "witness", Some(self.id(&primary)));
                put(self.host(&primary).repmgr.as_mut().expect("the primary is registered"), row);
                self.host(node).repmgr = self.host(&primary).repmgr.clone();
            }
            Action::Role { name, password, superuser, replication, exists } if whole => {
                assert!(!self.running(node).in_recovery, "{node} takes no writes");
                assert_eq!(self.has_role(node, name), *exists);
                let role = RoleFacts {
                    name: name.clone(),
                    superuser: *superuser,
                    replication: *replication,
                    login: true,
                    password: Some(verifier(password)),
                };
                let roles = &mut self.running(node).roles;
                roles.retain(|role| role.name != *name);
                roles.push(role);
            }
            Action::Database { name, owner } if whole => {
                assert!(self.has_role(node, owner), "there is no role {owner} yet");
                self.running(node).databases.push(DatabaseFacts { name: name.clone(), owner: owner.clone() });
            }
            Action::Reload if whole => {
                self.running(node).conf_loaded = clock;
                self.read_settings(node);
            }
            Action::Restart { .. } if whole => {
                let postgres = self.running(node);
                (postgres.started, postgres.conf_loaded) = (clock, clock);
                postgres.hot_standby_settings = postgres.file_settings.clone();
                postgres.pending_restart.clear();
                self.standbys_allow_as_much();
            }
            Action::Services { units, .. } if whole => {
                let host = self.host(node);
                for unit in units {
                    let path = format!("/etc/systemd/system/{}.service", unit.name());
                    assert!(host.files.contains_key(&path), "{node} has no {path}");
                    assert!(*unit == Unit::Repmgrd || host.files.contains_key(PROGRAM));
                    host.units.insert(unit.name().into(), active());
                    host.loaded.insert(unit.name().into(), true);
                }
            }
            _ if !whole => {}
            other => panic!("{other:?} is not a host's"),
        }
    }

    fn update_lists(&mut self, node: &str) {
        let host = self.host(node);
        let from = |name: &str| host.packages.pgdg.iter().any(|line| line.contains(name));
        let mut versions = vec![15];
        if from("//apt.postgresql.org") {
            versions.extend([13, 14, 16, 17]);
        }
        if from("//apt-archive.postgresql.org") {
            versions.push(12);
        }
        host.packages.lists_age = Some(1);
        host.packages.candidates = versions
            .iter()
            .flat_map(|version| [format!("postgresql-{version}"), format!("postgresql-{version}-repmgr")])
            .chain(["sudo".into()])
            .map(|package| (package, "1".into()))
            .collect();
    }

    fn create_data(&mut self, node: &str, whole: bool) {
        let version = self.inventory.postgresql.version;
        let (cluster, port) = (self.inventory.cluster.clone(), self.inventory.postgresql.port);
        let number = self.number(node);
        let host = self.host(node);
        assert!(
            host.packages.installed.contains_key(&format!("postgresql-{version}")),
            "nothing could make it"
        );
        if host.data.as_ref().is_some_and(|data| data.entries > 0) {
            let marker = host.marker.as_ref().expect("somebody's data is overwritten");
            assert!(
                marker.made == Made::Creating && marker.cluster == cluster,
                "data of {marker:?} is overwritten"
            );
        }
        host.marker =
            Some(Marker { cluster: cluster.clone(), made: Made::Creating, system_identifier: None });
        host.data = Some(DataFacts { entries: 5, ..DataFacts::default() });
        if whole {
            // Every data directory has an identifier of its own, until it is cloned.
            let identifier = if node == self.inventory.primary().name {
                IDENTIFIER.to_owned()
            } else {
                format!("720000000000000000{number}")
            };
            let host = self.host(node);
            host.marker =
                Some(Marker { cluster, made: Made::Virgin, system_identifier: Some(identifier.clone()) });
            host.data = Some(DataFacts {
                entries: 23,
                system_identifier: Some(identifier),
                state: Some("shut down".into()),
                timeline: Some(1),
                ..DataFacts::default()
            });
            let data = format!("/var/lib/postgresql/{version}/main");
            host.pg_clusters = vec![PgCluster {
                version: version.to_string(),
                name: "main".into(),
                port,
                status: "down".into(),
                data,
            }];
        }
    }

    fn start_new(&mut self, node: &str, made: Made, whole: bool) {
        if made == Made::Primary {
            assert_eq!(self.writers(), Vec::<String>::new(), "a second primary");
            assert!(self.facts.local.system_identifier.is_none(), "a cluster that existed is begun anew");
        }
        let host = self.host(node);
        let marker = host.marker.as_mut().expect("no data directory was made");
        assert!(marker.made == Made::Virgin || marker.made == made, "a {marker:?} starts as {made:?}");
        marker.made = made;
        if whole {
            let identifier = marker.system_identifier.clone().unwrap();
            host.data.as_mut().unwrap().state = Some("in production".into());
            host.postgres = Some(PostgresFacts {
                version: "15.8 (Debian 15.8-0+deb12u1)".into(),
                system_identifier: identifier,
                timeline: 1,
                lsn: Some("0/3000000".into()),
                databases: vec![DatabaseFacts { name: "postgres".into(), owner: "postgres".into() }],
                roles: vec![RoleFacts {
                    name: "postgres".into(),
                    superuser: true,
                    login: true,
                    ..RoleFacts::default()
                }],
                ..PostgresFacts::default()
            });
            self.started(node);
        }
    }

    fn clone_from(&mut self, node: &str, from: &str, whole: bool) {
        assert_eq!(self.writer(), from);
        assert!(self.has_role(from, "repmgr"));
        let (version, port, cluster) = (
            self.inventory.postgresql.version,
            self.inventory.postgresql.port,
            self.inventory.cluster.clone(),
        );
        let identifier = self.running(from).system_identifier.clone();
        let host = self.host(node);
        if let Some(marker) = host.marker.as_ref().filter(|_| host.data.is_some()) {
            assert!(
                matches!(marker.made, Made::Virgin | Made::Cloning),
                "a {:?} is overwritten",
                marker.made
            );
        }
        assert!(host.postgres.is_none(), "a running PostgreSQL is overwritten");
        host.marker = Some(Marker { cluster: cluster.clone(), made: Made::Cloning, system_identifier: None });
        host.data = None;
        if whole {
            host.marker =
                Some(Marker { cluster, made: Made::Standby, system_identifier: Some(identifier.clone()) });
            host.data = Some(DataFacts {
                entries: 24,
                standby_signal: true,
                system_identifier: Some(identifier),
                timeline: Some(1),
                ..DataFacts::default()
            });
            let data = format!("/var/lib/postgresql/{version}/main");
            host.pg_clusters = vec![PgCluster {
                version: version.to_string(),
                name: "main".into(),
                port,
                status: "down".into(),
                data,
            }];
        }
    }

    fn start_standby(&mut self, node: &str) {
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

    fn started(&mut self, node: &str) {
        let clock = self.clock;
        self.read_settings(node);
        let host = self.host(node);
        host.pg_clusters.iter_mut().for_each(|cluster| cluster.status = "online".into());
        host.units.insert("postgresql@15-main".into(), active());
        let postgres = host.postgres.as_mut().unwrap();
        (postgres.started, postgres.conf_loaded) = (clock, clock);
        postgres.hot_standby_settings = postgres.file_settings.clone();
        postgres.pending_restart.clear();
    }

    /// What PostgreSQL makes of its files when it reads them.
    fn read_settings(&mut self, node: &str) {
        let path = cluster::plan::files::postgresql_conf(self.inventory.postgresql.version);
        let host = self.host(node);
        let text = host.files.get(&path).and_then(|file| file.content.clone()).unwrap_or_default();
        let wanted = text
            .lines()
            .find_map(|line| line.strip_prefix("max_connections = '"))
            .map(|it| it.trim_end_matches('\''));
        let wanted = BTreeMap::from([("max_connections".to_owned(), wanted.unwrap_or("100").to_owned())]);
        let postgres = host.postgres.as_mut().unwrap();
        if postgres.hot_standby_settings != wanted {
            postgres.pending_restart = vec!["max_connections".into()];
        }
        postgres.file_settings = wanted;
    }

    /// A standby that allows less than its primary stops replaying.
    fn standbys_allow_as_much(&mut self) {
        let writers = self.writers();
        let [primary] = writers.as_slice() else { return };
        let allowed = |postgres: &PostgresFacts| {
            postgres.hot_standby_settings["max_connections"].parse::<u32>().unwrap()
        };
        let most = allowed(self.running(primary));
        let nodes: Vec<String> = self.inventory.data_nodes().map(|node| node.name.clone()).collect();
        for node in nodes {
            if let Some(postgres) =
                self.known(&node).and_then(|host| host.postgres.as_ref()).filter(|it| it.in_recovery)
            {
                assert!(allowed(postgres) >= most, "{node} allows fewer connections than {primary}");
            }
        }
    }

    fn has_role(&mut self, node: &str, name: &str) -> bool {
        self.running(node).roles.iter().any(|role| role.name == name)
    }

    fn row(&self, node: &str, kind: &str, upstream: Option<u32>) -> RepmgrNode {
        RepmgrNode {
            id: self.id(node),
            name: node.into(),
            kind: kind.into(),
            active: true,
            upstream: upstream.map(i64::from),
            conninfo: self.conninfo(node),
        }
    }

    /// What happens by itself: standbys have what the primary has, and repmgrd copies its rows to the witness.
    pub(crate) fn replicate(&mut self) {
        let writers = self.writers();
        let [primary] = writers.as_slice() else { return };
        if self.dark.contains_key(primary) {
            return;
        }
        let (theirs, rows) = (self.running(primary).clone(), self.host(primary).repmgr.clone());
        let mut replicas = Vec::new();
        for node in self.inventory.nodes.clone() {
            let Some(Host::Up(host)) = self.facts.hosts.get_mut(&node.name) else { continue };
            if node.role == Role::Witness {
                let runs = host.units.get("repmgrd").is_some_and(|unit| unit.active == "active");
                if runs && host.repmgr.is_some() {
                    host.repmgr = rows.clone();
                }
                continue;
            }
            let Some(postgres) = host.postgres.as_mut().filter(|it| it.in_recovery) else { continue };
            postgres.roles = theirs.roles.clone();
            postgres.databases = theirs.databases.clone();
            postgres.timeline = theirs.timeline;
            postgres.receiver = Some(Receiver { status: "streaming".into(), host: None });
            host.repmgr = rows.clone();
            replicas.push(Replica { name: node.name, state: "streaming".into(), lag_bytes: Some(0.0) });
        }
        self.running(primary).replication = replicas;
    }

    fn unseen(&mut self, node: &str, why: &str, young: bool) {
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
        if let Some(droplet) = self.facts.cloud.as_mut().and_then(|cloud| cloud.droplets.get_mut(node)) {
            droplet.status = "off".into();
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
        if let Some(droplet) = self.facts.cloud.as_mut().and_then(|cloud| cloud.droplets.get_mut(node)) {
            droplet.status = "active".into();
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
                }
            });
            let users = self.inventory.users.iter().map(|user| RoleFacts {
                name: user.name.clone(),
                superuser: user.superuser,
                login: true,
                replication: false,
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
        (postgres.in_recovery, postgres.timeline, postgres.receiver) = (false, timeline, None);
        for row in host.repmgr.as_mut().unwrap() {
            if row.id == id {
                (row.kind, row.upstream) = ("primary".into(), None);
            } else {
                row.upstream = Some(i64::from(id));
                row.active = Some(row.id) != old;
            }
        }
        let droplet = self.facts.cloud.as_ref().map(|cloud| cloud.droplets[node].id);
        if let (Some(cloud), Some(droplet)) = (&mut self.facts.cloud, droplet)
            && let Some(floating_ip) = &mut cloud.floating_ip
        {
            floating_ip.droplet = Some(droplet);
        }
        self.replicate();
    }
}

/// A verifier that is quickly made and quickly checked.
fn verifier(password: &SecretString) -> String {
    scram::derive(password, b"salt", 1)
}

fn put(rows: &mut Vec<RepmgrNode>, row: RepmgrNode) {
    rows.retain(|it| it.id != row.id);
    rows.push(row);
    rows.sort_by_key(|row| row.id);
}

fn active() -> UnitFacts {
    UnitFacts {
        load: "loaded".into(),
        active: "active".into(),
        sub: "running".into(),
        enabled: "enabled".into(),
        need_reload: false,
    }
}

/// A Debian 12 that has just booted.
fn bare(name: &str, key: &str) -> HostFacts {
    HostFacts {
        root: true,
        hostname: name.into(),
        os: "debian".into(),
        os_version: "12".into(),
        codename: "bookworm".into(),
        arch: "x86_64".into(),
        client: OPERATOR.into(),
        host_key: key.into(),
        cloud_init: "done".into(),
        disk_free_kib: 20_000_000,
        packages: Packages {
            installed: BTreeMap::from([("sudo".into(), "1.9.13p3-1+deb12u4".into())]),
            ..Packages::default()
        },
        ..HostFacts::default()
    }
}

/// Secrets that are odd enough to be found wherever they leak to.
fn means(inventory: &Inventory) -> Means {
    let user = |user: &cluster::inventory::User| {
        let made = || format!("hunter2-{}", user.name).into();
        (user.name.clone(), user.password.clone().unwrap_or_else(made))
    };
    Means {
        repmgr_password: "hunter2-repmgr".to_owned().into(),
        cluster_key: "hunter2-key".to_owned().into(),
        check_password: "hunter2-cluster".to_owned().into(),
        user_passwords: inventory.users.iter().map(user).collect(),
        failover_token: Some("hunter2-token".to_owned().into()),
        api_url: Some("https://api.digitalocean.com".into()),
    }
}
