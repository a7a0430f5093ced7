//! A node's server and the one that takes its place: both are there for a while, and their names say which is which.

use super::{Action, Means, Phase, Plan, plan};
use crate::facts::Facts;
use crate::inventory::{Inventory, Node};

/// Behind the name of a node, after a dot, for the server that will take its place. No node's name has a dot.
pub const NEW: &str = "new";
/// The same for the server whose place is taken.
pub const OLD: &str = "old";

/// The node as which the new server is made ready.
pub fn stand_in(node: &Node) -> Node {
    Node { name: format!("{}.{NEW}", node.name), connection_host: None, ..node.clone() }
}

/// The inventory with the stand-in as one node more.
pub fn with_stand_in(inventory: &Inventory, node: &Node) -> Inventory {
    let mut with = inventory.clone();
    with.nodes.push(stand_in(node));
    with
}

/// What makes the stand-in ready: a server that is reached and has its packages. It is no part of the cluster, and nothing
/// else is touched.
pub fn prepare(inventory: &Inventory, facts: &Facts, means: &Means, stand_in: &str) -> Plan {
    let mut plan = plan(inventory, facts, means);
    plan.steps.retain(|step| {
        let is_its = step.node.as_deref() == Some(stand_in) && step.phase <= Phase::Install;
        is_its || matches!(step.action, Action::ImportSshKey)
    });
    // What else there is to say is said of the cluster without it.
    Plan { steps: plan.steps, refusals: plan.refusals, ..Plan::default() }
}
