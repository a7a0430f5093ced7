//! Services: repmgrd, the guard and backups, and the program that the guard runs.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::{Node, Role};
use crate::plan::Reason;
use crate::plan::{Action, Phase, Unit};

impl Planner<'_> {
    pub(super) fn services(&mut self, node: &Node, host: &HostFacts, role: Role) {
        let phase = match role {
            Role::Witness => Phase::WatchWitness,
            Role::Standby => Phase::WatchStandbys,
            Role::Primary => Phase::WatchPrimary,
        };
        let program = self.facts.local.node_program != program_hash(host);
        let (mut new, mut stale) = (Vec::new(), Vec::new());
        let backs_up = self.inventory.backup.is_some() && node.role != Role::Witness;
        let backups = backs_up.then_some(Unit::ClusterBackup);
        for unit in [Unit::Repmgrd, Unit::ClusterNode].into_iter().chain(backups) {
            let state = host.units.get(unit.name());
            let runs = state.is_some_and(|state| {
                state.enabled == "enabled" && matches!(state.active.as_str(), "active" | "activating")
            });
            // A service that runs and has not said what it read is the package's own, not ours.
            if !runs || !host.loaded.contains_key(unit.name()) {
                new.push(unit);
            } else if host.loaded.get(unit.name()) == Some(&false)
                || state.is_some_and(|state| state.need_reload)
                || (unit != Unit::Repmgrd && program)
            {
                stale.push(unit);
            }
        }
        if !new.is_empty() {
            let action = Action::Services { units: new, restart: false };
            self.step(Phase::Watch, Some(node), action, Reason::ServicesNotRunning);
        }
        if host.is_in_a_rejoin() && stale.contains(&Unit::ClusterNode) {
            // Its work would end with it, and a rewind begin again as a clone.
            let primary = self.primary_name();
            return self.leave_to_its_guard(node, &primary);
        }
        if !stale.is_empty() {
            let why = Reason::ServicesStale;
            self.step(phase, Some(node), Action::Services { units: stale, restart: true }, why);
        }
    }

    pub(super) fn guard_runs(&self, host: &HostFacts) -> bool {
        host.units.get("cluster-node").is_some_and(|unit| unit.active == "active")
    }
}

pub(super) fn program_hash(host: &HostFacts) -> String {
    host.files.get("/usr/local/bin/cluster-node").map(|file| file.sha256.clone()).unwrap_or_default()
}
