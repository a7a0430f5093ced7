//! From what is wanted and what is there to what is to be done: a pure function.
//!
//! `files` says what every host should hold, `roles` who is primary now, `steps` what is missing. A plan is made anew
//! after every phase, so a step need only be right for the world that was seen; success is the empty plan.

pub mod action;
pub mod changed;
pub mod files;
pub mod lint;
pub mod members;
pub mod reason;
pub mod roles;
pub(crate) mod steps;
pub mod trouble;
pub mod wish;

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::facts::Facts;
use crate::inventory::{Inventory, Node};
pub use action::{Action, Risk, Unit};
pub use lint::lint;
pub use reason::{Reason, Waiting};
pub use trouble::{Trouble, TroubleKind};

/// What a plan needs beside the inventory and the facts.
#[derive(Clone, Debug)]
pub struct Means {
    /// repmgr's password.
    pub repmgr_password: SecretString,
    /// The key with which guards seal what they say to each other.
    pub cluster_key: SecretString,
    /// Password of the role `cluster`, which checks that the cluster takes writes.
    pub check_password: SecretString,
    /// Passwords of the inventory's users: declared, or made. One that was made elsewhere is not here.
    pub user_passwords: BTreeMap<String, SecretString>,
    /// The token with which nodes move the floating IP.
    pub failover_token: Option<SecretString>,
    /// Base URL of the API, as the nodes see it.
    pub api_url: Option<String>,
}

/// Work that is done at the same time on all hosts; the next phase begins when all have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The operator's key at the provider.
    Keys,
    /// Droplets.
    Provide,
    /// Waiting for hosts; the floating IP is made meanwhile.
    Reach,
    /// apt's lists and sources.
    Lists,
    /// Packages.
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
    /// Services that do not run yet.
    Watch,
    /// Services of the witness that run and have to read something new.
    WatchWitness,
    /// The same of the standbys.
    WatchStandbys,
    /// The same of the primary.
    WatchPrimary,
    /// Who has a vote: one node at a time.
    Members,
    /// The floating IP leads to the primary.
    Address,
}

impl Phase {
    /// What a person reads while it runs.
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

/// One thing to do.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// On which node; none for the provider.
    pub node: Option<String>,
    /// What.
    pub action: Action,
    /// Why it is there.
    pub why: Reason,
}

/// What follows from the steps, and is planned once they are done: it depends on what the hosts say then.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Consequence {
    /// What.
    pub action: String,
    /// On which nodes, in order.
    pub nodes: Vec<String>,
    /// What it may cost.
    pub risk: Risk,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Why nothing may be done at all; the steps are empty then.
    pub refusals: Vec<Trouble>,
    /// What stays wrong when all steps are done.
    pub troubles: Vec<Trouble>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What follows from them.
    pub then: Vec<Consequence>,
    /// What the inventory says and nobody does, which is no mistake.
    pub notes: Vec<Trouble>,
    /// What the nodes will do by themselves, and is worth waiting for when all steps are done.
    pub waits: Vec<Waiting>,
}

impl Plan {
    /// The first phase that has anything to do, and its steps.
    pub fn first_phase(&self) -> Option<(Phase, Vec<&Step>)> {
        let phase = self.steps.iter().map(|step| step.phase).min()?;
        Some((phase, self.steps.iter().filter(|step| step.phase == phase).collect()))
    }
}

/// What takes a node's vote, one step after the other: empty when it has none, and a majority knows.
pub fn removal(inventory: &Inventory, facts: &Facts, means: &Means, node: &Node) -> Plan {
    steps::Planner::new(inventory, facts, means).removal(node)
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
