//! Computes from the desired and the actual state what has to be done. A pure function.
//!
//! `files` says what every host should hold, `roles` who is primary now, `steps` what is missing. A plan is made anew
//! after every phase, so a step need only be right for the world that was seen; success is the empty plan.

pub mod action;
pub mod changed;
pub mod cost;
pub mod extras;
pub mod files;
pub mod lint;
pub mod members;
pub mod old_hosts;
pub mod pace;
pub mod packages;
pub mod reason;
pub mod replace;
pub mod restore;
pub mod roles;
pub mod saved;
pub(crate) mod steps;
pub mod trouble;
pub mod wish;

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::facts::Facts;
use crate::inventory::{Inventory, Node};
pub use action::{Action, Risk, Unit};
pub use cost::{Cost, cost, cost_now};
pub use extras::Extras;
pub use lint::lint;
pub use pace::{Batch, Lane, Pace};
pub use reason::{Reason, Waiting};
pub use restore::{Restore, RestoreSource, RestoreTarget};
pub use trouble::{Trouble, TroubleKind};

/// Secrets and addresses that a plan needs besides the inventory and the facts.
#[derive(Clone, Debug)]
pub struct Means {
    /// repmgr's password.
    pub repmgr_password: SecretString,
    /// The key with which guards authenticate their messages.
    pub cluster_key: SecretString,
    /// Password of the role `cluster`, which checks that the cluster takes writes.
    pub check_password: SecretString,
    /// Passwords of the inventory's users, declared or generated on this machine.
    pub user_passwords: BTreeMap<String, SecretString>,
    /// The token with which nodes move the floating IP.
    pub failover_token: Option<SecretString>,
    /// Base URL of the API, as the nodes see it.
    pub api_url: Option<String>,
    /// How the backup repository is opened; none where the inventory names none.
    pub backup: Option<files::BackupMeans>,
    /// The moment to which a cluster that is lost is restored; none unless the operator asks for it.
    pub restore: Option<Restore>,
}

/// What steps are for, and their order: a node does its steps of one phase before those of the next. How far it has to wait for
/// others says [`pace`]; from the first restart on, all of them finish a phase before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The operator's key at the provider.
    Keys,
    Provide,
    /// Waiting for hosts; the floating IP is made meanwhile.
    Reach,
    /// apt's lists and sources.
    Lists,
    Install,
    /// Changed settings, on one node, before any has them.
    Try,
    /// Data directories and files; the first primary and the witness start.
    Setup,
    /// PostgreSQL reads its files again.
    Reload,
    /// Standbys are made and the witness is registered; roles and databases, meanwhile, on the primary.
    Follow,
    /// Settings that need a restart: nodes that go first.
    RestartFirst,
    /// Settings that need a restart: the witness.
    RestartWitness,
    /// Settings that need a restart: nodes that go last.
    RestartLast,
    Watch,
    /// Running services of the witness that have to read new files.
    WatchWitness,
    /// Running services of the standbys that have to read new files.
    WatchStandbys,
    /// Running services of the primary that have to read new files.
    WatchPrimary,
    /// Membership changes, one node at a time.
    Members,
    /// The floating IP leads to the primary.
    Address,
    /// Servers get another size, one at a time.
    Resize,
    /// Extensions, on the primary: what goes wrong with one costs nothing else.
    Extend,
}

impl Phase {
    /// The title shown while the phase runs.
    pub fn title(self) -> &'static str {
        match self {
            Phase::Keys => "keys",
            Phase::Provide => "create",
            Phase::Reach => "wait for hosts",
            Phase::Lists => "package lists",
            Phase::Install => "packages",
            Phase::Try => "try settings",
            Phase::Setup => "set up",
            Phase::Reload => "reload",
            Phase::Follow => "standbys and witness",
            Phase::RestartFirst | Phase::RestartWitness | Phase::RestartLast => "restart",
            Phase::Watch | Phase::WatchWitness | Phase::WatchStandbys | Phase::WatchPrimary => "services",
            Phase::Members => "members",
            Phase::Address => "floating IP",
            Phase::Resize => "resize",
            Phase::Extend => "extensions",
        }
    }
}

impl Phase {
    /// Whether one node at a time is worked on, in the plan's order, and the next only when the last is well: what may
    /// go wrong costs one node.
    pub fn one_at_a_time(self) -> bool {
        matches!(self, Phase::RestartFirst | Phase::RestartWitness | Phase::RestartLast)
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    pub phase: Phase,
    /// The node; `None` for the provider.
    pub node: Option<String>,
    pub action: Action,
    /// The reason.
    pub why: Reason,
    /// What is interrupted meanwhile, and for how long.
    pub interrupts: Option<String>,
}

/// What will follow from the steps. It is planned once they are done, because it depends on the hosts' state then.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Consequence {
    /// The kind of step that it will be ([`Action::kind`]).
    pub kind: &'static str,
    pub action: String,
    /// The nodes, in order.
    pub nodes: Vec<String>,
    /// What it may cost.
    pub risk: Risk,
    /// The changed settings of PostgreSQL that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// What is interrupted meanwhile on each node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interrupts: Vec<Interruption>,
}

/// What something interrupts on a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Interruption {
    pub node: String,
    /// What, and for how long.
    pub what: String,
}

impl Consequence {
    /// One that interrupts nothing.
    fn safe(kind: &'static str, action: String, nodes: Vec<String>) -> Consequence {
        let (settings, interrupts) = (Vec::new(), Vec::new());
        Consequence { kind, action, nodes, risk: Risk::Safe, settings, interrupts }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Reasons to do nothing at all; there are no steps then.
    pub refusals: Vec<Trouble>,
    /// Problems that remain after all steps.
    pub troubles: Vec<Trouble>,
    pub steps: Vec<Step>,
    /// What follows from the steps.
    pub then: Vec<Consequence>,
    /// Inventory values that are ignored.
    pub notes: Vec<Trouble>,
    /// What the nodes will do by themselves; worth waiting for when no step is left.
    pub waits: Vec<Waiting>,
    /// The node that the others follow: the one that takes writes, or is to be the first.
    pub primary: Option<String>,
}

impl Plan {
    /// The first phase with steps, and those steps.
    pub fn first_phase(&self) -> Option<(Phase, Vec<&Step>)> {
        let phase = self.steps.iter().map(|step| step.phase).min()?;
        Some((phase, self.steps.iter().filter(|step| step.phase == phase).collect()))
    }
}

/// What takes a node's vote, one step after the other: empty when it has none, and a majority knows.
pub fn removal(inventory: &Inventory, facts: &Facts, means: &Means, node: &Node) -> Plan {
    steps::Planner::new(inventory, facts, means).removal(node)
}

/// What speaks against the host that the inventory names for a node, whatever host the node has had.
pub fn unfit(inventory: &Inventory, facts: &Facts, means: &Means, node: &Node) -> Vec<Trouble> {
    steps::Planner::new(inventory, facts, means).unfit(node)
}

/// Makes the plan.
pub fn plan(inventory: &Inventory, facts: &Facts, means: &Means) -> Plan {
    let mut plan = steps::Planner::new(inventory, facts, means).plan();
    // Stable: within a phase and a node, the order in which steps were thought of.
    plan.steps.sort_by_key(|step| step.phase);
    if !plan.refusals.is_empty() {
        plan.steps.clear();
        plan.then.clear();
    }
    plan
}
