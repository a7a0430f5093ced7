//! What the guards know of a cluster whose hosts were probed by another version or port than theirs: where PostgreSQL's
//! paths are not what the inventory says, the probe finds nothing, and the guards still do.

use cluster_contract::config::Config;
use cluster_contract::status::{Server, Status};

use super::{Failover, Node, guard, probed};
use crate::facts::Facts;
use crate::inventory::{Inventory, Role};
use crate::plan::changed::config;

/// The configuration of a node that was looked at by another version or port than its own.
fn own_config(inventory: &Inventory, facts: &Facts, name: &str) -> Option<Config> {
    let config = config(inventory, probed(facts, name)?)?;
    let postgresql = &inventory.postgresql;
    (config.version != postgresql.version || config.port != postgresql.port).then_some(config)
}

/// Whether the probe looked for PostgreSQL where it is not.
pub(super) fn only_they_know(inventory: &Inventory, facts: &Facts) -> bool {
    inventory.nodes.iter().any(|node| own_config(inventory, facts, &node.name).is_some())
}

/// The node that takes writes with the lease.
pub(super) fn primary(inventory: &Inventory, facts: &Facts) -> Option<String> {
    let leads = |name: &str| guard(facts, name).is_some_and(Status::leads);
    inventory.nodes.iter().map(|node| &node.name).find(|name| leads(name)).cloned()
}

/// Corrects what the probe made of a node.
pub(super) fn correct(inventory: &Inventory, facts: &Facts, node: &mut Node) {
    let Some(config) = own_config(inventory, facts, &node.name) else { return };
    let Some(guard) = guard(facts, &node.name) else { return };
    let mut nodes = config.members.iter().chain(&config.observer);
    let is_witness = nodes.any(|member| member.name == config.node && member.witness);
    let (role, state) = match guard.postgresql {
        Server::Down => ("none", "stopped"),
        _ if is_witness => ("witness", "running"),
        Server::Primary => ("primary", "running"),
        Server::Standby => ("standby", "running"),
    };
    (node.role, node.state) = (role.into(), state.into());
    node.version = Some(config.version.to_string());
    node.timeline = guard.position.map(|position| position.timeline).filter(|_| !is_witness);
    // A standby's own guard compares with what the primary last reported.
    let behind = guard.report.zip(guard.position).filter(|_| guard.postgresql == Server::Standby);
    node.lag_bytes = behind.map(|(report, own)| report.position.lsn.saturating_sub(own.lsn));
}

/// Whether another node would take over, as far as the guards can tell.
pub(super) fn failover(inventory: &Inventory, facts: &Facts, nodes: &[Node]) -> Failover {
    let off = |why: &str| Failover { automatic: false, why: Some(why.into()) };
    let Some(leader) =
        inventory.nodes.iter().find_map(|node| guard(facts, &node.name).filter(|it| it.leads()))
    else {
        return off("no guard holds the lease with a PostgreSQL that takes writes");
    };
    if !leader.automatic_failover {
        return off("two nodes have no majority when one is lost");
    }
    let may_take_over = |node: &&Node| {
        let within = node.lag_bytes.is_none_or(|lag| lag <= inventory.failover.lag_limit_bytes);
        let able = node.paused == Some(false) && node.votes != Some(false) && !node.is_full();
        node.role == "standby" && node.inventory_role != Role::Witness && able && within
    };
    if !nodes.iter().any(|node| may_take_over(&node)) {
        return off("no standby with a guard could take over");
    }
    Failover { automatic: true, why: None }
}
