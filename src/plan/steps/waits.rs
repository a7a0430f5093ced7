//! What is left to the guards or to a person: a lease that is not granted, a pause, a cluster without a primary.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::Node;
use crate::plan::roles::{Data, Primary};
use crate::plan::{Action, Phase};
use crate::plan::{Reason, TroubleKind, Waiting};

impl Planner<'_> {
    /// A primary that has not been granted its first lease yet has nobody who would take over from it.
    pub(super) fn lease(&mut self) {
        let Primary::One(name) = &self.primary else { return };
        let name = name.clone();
        if self.host(&name).up().and_then(HostFacts::holds_lease) == Some(false) {
            self.wait(Waiting::Lease { node: name.clone() });
            self.trouble(
                TroubleKind::NoLease,
                Some(&name),
                "does not hold the lease: until it does, no node can take over from it",
                "a majority of the guards must be running and reach each other (UDP port 5480); `cluster-node status` on the \
                 nodes shows what each is waiting for",
            );
        }
    }

    /// Somebody is at work on the cluster: what stands still is left alone, and nothing that guards would do by
    /// themselves is waited for.
    pub(super) fn pause(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        self.plan.waits.clear();
        let names = self.paused.join(", ");
        self.trouble(
            TroubleKind::Paused,
            None,
            format!("paused on {names}: guards there do not start, promote or rejoin PostgreSQL, and this run starts nothing"),
            "`cluster resume` ends the pause",
        );
    }

    /// The cluster has been, and nobody takes writes: start what can be started safely, decide nothing.
    pub(super) fn without_primary(&mut self, node: &Node, host: &HostFacts, data: &Data, why: &str) {
        if self.plan.troubles.iter().all(|trouble| trouble.kind != TroubleKind::NoPrimary) {
            let hint = if self.paused.is_empty() {
                "no new primary is initialized, so nothing is lost: the guards start the old one as soon as a majority \
                 of the nodes is up; bring the missing ones back"
            } else {
                "no new primary is initialized, so nothing is lost: the guards continue once the pause has ended"
            };
            self.trouble(TroubleKind::NoPrimary, None, why, hint);
        }
        let up = self.inventory.nodes.iter().filter(|node| self.host(&node.name).up().is_some()).count();
        if up * 2 > self.inventory.nodes.len() {
            self.wait(Waiting::Primary);
        }
        if *data == Data::Ours
            && host.postgres.is_none()
            && host.data.as_ref().is_some_and(|data| data.standby_signal)
            && !host.rejoins()
            && !self.is_paused(node)
        {
            self.step(Phase::Follow, Some(node), Action::StartStandby, Reason::NotRunning);
        }
    }
}
