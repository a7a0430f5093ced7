//! A model of the world: what each step does to the facts, and what it needs to find. It plays state transitions
//! only; that the scripts do the same on real hosts is for the lab's tests to show.
//!
//! A step whose ground is not there, or that would touch data it must not, is a panic: the plan was wrong.

mod data;
mod files;
mod host;
mod mishaps;
mod packages;
mod postgres;
mod provider;
mod repmgr;

use std::collections::BTreeMap;

use cluster::facts::host::PostgresFacts;
use cluster::facts::{Facts, Host, HostFacts};
use cluster::inventory::{Inventory, Provider, Repository};
use cluster::plan::files::BackupMeans;
use cluster::plan::roles::{self, Primary};
use cluster::plan::saved::Saved;
use cluster::plan::wish::Wish;
use cluster::plan::{Action, Means, Phase, Plan, Step, lint, plan};
use cluster_contract::config::Config;

use host::bare;

/// What identifies the cluster that the model makes.
pub(crate) const IDENTIFIER: &str = "7300000000000000001";

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
    /// With which values each node's server has started, of the settings that a running one does not take up.
    started_with: BTreeMap<String, BTreeMap<String, String>>,
    clock: f64,
    /// Whether the witness's repmgrd copies the table later than anything here takes: it does so every five seconds.
    pub(crate) copies_late: bool,
}

impl Model {
    /// Nothing at all: no server, or three bare hosts if the inventory names them.
    pub(crate) fn new(inventory: Inventory) -> Model {
        let mut facts = Facts::default();
        facts.local.node_program = "the hash of cluster-node".into();
        let servers = matches!(inventory.provider, Provider::DigitalOcean(_));
        facts.cloud = servers.then(provider::empty);
        let mut model = Model {
            means: means(&inventory),
            inventory,
            facts,
            dark: BTreeMap::new(),
            started_with: BTreeMap::new(),
            clock: 1_000_000.0,
            copies_late: false,
        };
        for node in model.inventory.nodes.clone() {
            let host = if servers { Host::Missing } else { Host::Up(Box::new(bare("ssh-ed25519 own"))) };
            model.facts.hosts.insert(node.name, host);
        }
        model
    }

    /// The inventory has been edited.
    pub(crate) fn edit(&mut self, inventory: Inventory) {
        let servers = self.facts.cloud.is_some();
        for node in &inventory.nodes {
            let new = || {
                if servers { Host::Missing } else { Host::Up(Box::new(bare("ssh-ed25519 own"))) }
            };
            self.facts.hosts.entry(node.name.clone()).or_insert_with(new);
        }
        let kept = self.means.backup.take().and_then(|backup| backup.key);
        self.means = means(&inventory);
        if let Some(backup) = &mut self.means.backup {
            backup.key = backup.key.take().or(kept);
        }
        self.inventory = inventory;
    }

    /// Looks and plans, as every round of `up` does; who takes writes is remembered.
    pub(crate) fn plan(&mut self) -> Plan {
        let plan = plan(&self.inventory, &self.facts, &self.means);
        let breaches = lint(&self.inventory, &self.facts, &plan);
        assert_eq!(breaches, [], "the plan breaks a rule");
        if plan.refusals.is_empty()
            && let Primary::One(name) = roles::primary(&self.inventory, &self.facts)
        {
            self.facts.local.system_identifier = Some(self.running(&name).system_identifier.clone());
        }
        plan
    }

    /// `cluster up`: phase by phase until nothing is left, or `stop` says that the next phase is not to begin.
    pub(crate) fn up(&mut self, stop: impl Fn(Phase) -> bool) -> Plan {
        let mut looked_at: Option<Saved> = None;
        for _ in 0..40 {
            let plan = self.plan();
            let key = &self.means.cluster_key;
            let first = looked_at
                .get_or_insert_with(|| Saved::new("demo", &plan, &self.facts, key, serde_json::Value::Null));
            // Nothing is interrupted that `cluster plan` did not show.
            assert_eq!(first.unforeseen(&plan), [""; 0], "not in the first plan");
            let Some((phase, steps)) = plan.first_phase() else { return plan };
            if stop(phase) {
                return plan;
            }
            let steps: Vec<Step> = steps.into_iter().cloned().collect();
            for step in &steps {
                self.act(step, How::Whole);
            }
            let again = self.plan();
            let wanted: Vec<Wish> = again.steps.iter().flat_map(Step::wishes).collect();
            for step in steps.iter().filter(|step| step.phase != Phase::Reach) {
                for wish in step.wishes() {
                    assert!(!wanted.contains(&wish), "`{wish}` succeeded but had no effect");
                }
            }
        }
        panic!("the plan does not become empty: {:#?}", self.plan().steps);
    }

    /// Does a step, or the first half of it.
    pub(crate) fn act(&mut self, step: &Step, how: How) {
        self.clock += 1.0;
        if let Action::Configure { members, .. } = &step.action {
            self.facts.local.generation = self.facts.local.generation.max(members.generation);
        }
        match &step.node {
            Some(node) => self.act_on_host(node, &step.action, how),
            None if how == How::Whole => self.act_at_provider(&step.action),
            None => {}
        }
        self.replicate();
    }

    fn known(&self, node: &str) -> Option<&HostFacts> {
        self.facts.hosts.get(node).and_then(Host::up)
    }

    /// A host, whether it can be reached or not; none if there is none.
    pub(crate) fn seen_or_not(&self, node: &str) -> Option<&HostFacts> {
        self.dark.get(node).map(|host| &**host).or(self.known(node))
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
        let private = || self.facts.cloud.as_ref()?.servers.get(node)?.private.map(Into::into);
        declared.or_else(private).unwrap()
    }

    fn conninfo(&self, node: &str) -> String {
        let postgresql = &self.inventory.postgresql;
        Config::conninfo(self.connection_host(node), postgresql.port, postgresql.version)
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
        backup: inventory.backup.as_ref().map(|backup| BackupMeans {
            passphrase: "hunter2-passphrase".to_owned().into(),
            key: match backup.repository {
                Repository::S3(_) => Some(("NAMED".into(), "hunter2-named-key".to_owned().into())),
                Repository::Spaces { .. } | Repository::Path(_) => None,
            },
            ca: None,
        }),
        restore: None,
    }
}
