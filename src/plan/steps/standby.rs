//! A standby: its clone, its start, its registration.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::Node;
use crate::plan::roles::{Data, Primary};
use crate::plan::{Action, Phase};
use crate::plan::{Reason, Trouble, TroubleKind, Waiting};

impl<'a> Planner<'a> {
    pub(super) fn standby(&mut self, node: &'a Node, host: &HostFacts, data: &Data) {
        let primary = match &self.primary {
            Primary::One(name) => name.clone(),
            Primary::Never => self.inventory.primary().name.clone(),
            Primary::Several(_) | Primary::Gone(_) => return,
            Primary::Lost(why) => {
                let why = why.clone();
                return self.without_primary(node, host, data, &why);
            }
        };
        let conninfo =
            self.addresses.hosts.get(&primary).map(|host| self.conninfo(*host)).unwrap_or_default();
        let theirs = self.system_identifier(&primary);
        let mut starts = false;
        match data {
            // It has been moved, and what takes its place has not.
            Data::None if self.is_being_placed(host) => return self.leave_to_its_guard(node, &primary),
            Data::None | Data::HalfMade | Data::Initialized => {
                let why = match data {
                    Data::HalfMade if self.is_clone_under_way(host) => Reason::CloneUnderWay,
                    Data::HalfMade => Reason::CloneUnfinished,
                    _ => Reason::NoCloneYet,
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
                        TroubleKind::ClustersMixed,
                        Some(&node.name),
                        format!("its data (system identifier {identifier}) is not {primary}'s ({theirs})"),
                        "the hosts hold data of two different clusters; nothing is changed: correct the addresses in the inventory",
                    );
                }
                if host.postgres.is_none() && host.rejoins() {
                    return self.leave_to_its_guard(node, &primary);
                }
                let follows = host.data.as_ref().is_some_and(|data| data.standby_signal);
                if host.postgres.is_none() && !follows && host.keeps_data() {
                    return self.trouble(
                        TroubleKind::KeepsData,
                        Some(&node.name),
                        format!("took writes while {primary} was primary; its data is kept as it is"),
                        format!(
                            "check the data, then give it up and make the node a standby with `cluster rejoin {}`",
                            node.name
                        ),
                    );
                }
                if host.postgres.is_none() && !follows {
                    // Its guard rewinds it, or clones it beside its old data; here there is nothing to do but to wait.
                    self.wait(Waiting::Follow { node: node.name.clone(), primary: primary.clone() });
                    return self.trouble(
                        TroubleKind::WasPrimary,
                        Some(&node.name),
                        format!("was primary before {primary} took over, and is not its standby yet"),
                        "its guard makes it one by itself; `cluster-node status` on the node shows the progress",
                    );
                }
                starts |= host.postgres.is_none();
            }
        }
        if starts && self.is_paused(node) {
            // Whoever paused it may have stopped it, too; the rest is seen to once it runs.
            return self.trouble(
                TroubleKind::Paused,
                Some(&node.name),
                "is not running, and is paused",
                "end the pause with `cluster resume`; its guard then starts it",
            );
        }
        if starts {
            self.step(Phase::Follow, Some(node), Action::StartStandby, Reason::NotRunning);
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
            self.step(Phase::Follow, Some(node), Action::RegisterStandby, Reason::RegistrationDiffers);
        }
    }

    /// Whether a guard of this cluster is about to put a clone in the place of its node's data.
    pub(super) fn is_being_placed(&self, host: &HostFacts) -> bool {
        let is_of_this = host.marker.as_ref().is_some_and(|it| it.cluster == self.inventory.cluster);
        matches!(self.primary, Primary::One(_)) && is_of_this && host.is_between_two_names()
    }

    /// What is there now is being replaced: to start it, or to make another, would be in the way.
    pub(super) fn leave_to_its_guard(&mut self, node: &Node, primary: &str) {
        let is_said =
            |it: &Trouble| it.kind == TroubleKind::Rejoining && it.node.as_ref() == Some(&node.name);
        if self.plan.troubles.iter().any(is_said) {
            return;
        }
        self.wait(Waiting::Rejoin { node: node.name.clone() });
        self.trouble(
            TroubleKind::Rejoining,
            Some(&node.name),
            format!("is being made a standby of {primary}"),
            "its guard is working on it, and nothing else is started on it; `cluster-node status` on the node shows the progress",
        );
    }

    pub(super) fn is_clone_under_way(&self, host: &HostFacts) -> bool {
        host.units
            .get("cluster-clone")
            .is_some_and(|unit| unit.active == "active" || unit.active == "activating")
    }

    fn system_identifier(&self, node: &str) -> Option<&'a str> {
        let host = self.host(node).up()?;
        host.postgres.as_ref().map(|postgres| postgres.system_identifier.as_str())
    }
}
