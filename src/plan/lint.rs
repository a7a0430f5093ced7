//! Rules that every plan must obey, checked before its first step and by the tests.

use std::collections::BTreeSet;
use std::fmt;

use cluster_contract::marker::DataStage;

use super::members::Configuration;
use super::roles::{self, Data};
use super::wish::Wish;
use super::{Action, Phase, Plan};
use crate::facts::{Facts, Host};
use crate::inventory::Inventory;

/// A bug in the planner. Such a plan is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A plan that is refused has steps.
    StepsOfRefused,
    /// The same is wanted twice.
    Twice(Wish),
    /// A directory is replaced that holds this cluster's data, or somebody else's.
    ReplacesData {
        node: String,
        /// What is there.
        data: Data,
    },
    /// A new primary where the cluster existed.
    SecondBeginning { node: String },
    /// Two configurations of members, or one that differs by more than a member from the newest.
    LeapOfMembers {
        /// The node that would be told.
        node: String,
        /// The number of the configuration.
        generation: u64,
    },
    /// A server is switched off that takes writes, or two at once.
    SwitchesOff { node: String },
    /// Two nodes restart PostgreSQL at the same time.
    RestartsAtOnce { phase: Phase },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::StepsOfRefused => f.write_str("the plan is refused and still has steps"),
            Breach::Twice(wish) => write!(f, "`{wish}` is planned twice"),
            Breach::ReplacesData { node, data } => write!(f, "it would replace data on {node} ({data:?})"),
            Breach::SecondBeginning { node } => {
                write!(f, "it would initialize a new cluster on {node} although the cluster exists")
            }
            Breach::LeapOfMembers { node, generation } => write!(
                f,
                "it would give {node} membership {generation}, which differs from the current one by more than one member"
            ),
            Breach::SwitchesOff { node } => {
                write!(f, "it would switch off {node}, which takes writes or is not the only one")
            }
            Breach::RestartsAtOnce { phase } => {
                write!(f, "it would restart two nodes at the same time ({})", phase.title())
            }
        }
    }
}

/// All rules that a plan breaks for these facts.
pub fn lint(inventory: &Inventory, facts: &Facts, plan: &Plan) -> Vec<Breach> {
    let mut found = Vec::new();
    if !plan.refusals.is_empty() && !plan.steps.is_empty() {
        found.push(Breach::StepsOfRefused);
    }
    let data = |node: &str| {
        let host = facts.hosts.get(node).and_then(Host::up)?;
        Some(roles::data(inventory, facts, host))
    };
    let newest = Configuration::newest(inventory, facts);
    let mut wishes = BTreeSet::new();
    let mut restarts = BTreeSet::new();
    let mut switches_off = false;
    let mut members: Option<&Configuration> = None;
    for step in &plan.steps {
        found
            .extend(step.wishes().into_iter().filter(|wish| !wishes.insert(wish.clone())).map(Breach::Twice));
        let Some(node) = step.node.clone() else { continue };
        match &step.action {
            Action::Clone { .. } | Action::CreateData { .. } => {
                if let Some(data @ (Data::Ours | Data::Foreign(_))) = data(&node) {
                    found.push(Breach::ReplacesData { node, data });
                }
            }
            Action::StartNew { made: DataStage::Primary } => {
                // What is restored, now or by a run that was killed, is what is remembered.
                let is_restored = data(&node) == Some(Data::Ours)
                    || plan.steps.iter().any(|other| {
                        other.node == step.node && matches!(other.action, Action::Restore { .. })
                    });
                let is_remembered = facts.local.system_identifier.is_some() && !is_restored;
                if is_remembered || lives(inventory, facts) {
                    found.push(Breach::SecondBeginning { node });
                }
            }
            Action::Restore { .. } => {
                if let Some(data @ (Data::Ours | Data::Foreign(_))) = data(&node) {
                    found.push(Breach::ReplacesData { node, data });
                } else if lives(inventory, facts) {
                    found.push(Breach::SecondBeginning { node });
                }
            }
            Action::Configure { members: next, .. } => {
                let leaps = newest.as_ref().is_some_and(|newest| newest.distance(next) > 1);
                if leaps || members.is_some_and(|other| other != next) {
                    found.push(Breach::LeapOfMembers { node, generation: next.generation });
                }
                members = Some(next);
            }
            Action::Resize { .. } => {
                let takes_writes = roles::primary(inventory, facts) == roles::Primary::One(node.clone());
                // One that is off already is not switched off.
                let runs = !matches!(facts.hosts.get(&node), Some(Host::Off));
                if runs && (takes_writes || std::mem::replace(&mut switches_off, true)) {
                    found.push(Breach::SwitchesOff { node });
                }
            }
            Action::Restart { .. } if !step.phase.one_at_a_time() && !restarts.insert(step.phase) => {
                found.push(Breach::RestartsAtOnce { phase: step.phase });
            }
            _ => {}
        }
    }
    found
}

/// Whether a node holds data of the cluster. What a killed run has begun on the first primary, and nobody has taken up
/// yet, is not that.
fn lives(inventory: &Inventory, facts: &Facts) -> bool {
    let holds = |node: &crate::inventory::Node| {
        facts.hosts.get(&node.name).and_then(Host::up).is_some_and(|host| {
            let taken_up = host.postgres.is_some() || node.name != inventory.primary().name;
            roles::data(inventory, facts, host) == Data::Ours && taken_up
        })
    };
    inventory.data_nodes().any(holds)
}
