//! Members: a node that was added gets its vote last of all, one node after the other, and every node is told by
//! itself.
//!
//! The newcomer is told first (it asks and grants nothing that counts before others know it), then the primary, whose
//! questions would be refused by voters that know newer members than it does, then the rest. The next configuration
//! begins when a majority of this one goes by it. `docs/decisions/0011-members-one-at-a-time.md` has the reasons.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::{Node, Role};
use crate::plan::changed::changed;
use crate::plan::files;
use crate::plan::members::Configuration;
use crate::plan::roles::Primary;
use crate::plan::{Action, Consequence, Phase, Plan};
use crate::plan::{Reason, TroubleKind, Waiting};

impl<'a> Planner<'a> {
    /// The members that a node's file names until it is told of others.
    pub(super) fn members_of(&self, node: &Node) -> Configuration {
        let own = self.host(&node.name).up().and_then(|host| Configuration::of(self.inventory, host));
        own.or_else(|| Configuration::newest(self.inventory, self.facts))
            .unwrap_or_else(|| Configuration::first(self.inventory))
    }

    pub(super) fn members(&mut self) {
        let Some(newest) = Configuration::newest(self.inventory, self.facts) else { return };
        let without = self.without_vote(&newest);
        let Primary::One(primary) = self.primary.clone() else { return };
        if !self.paused.is_empty() || self.tell(&newest, &primary) {
            return;
        }
        let Some(newcomer) = without.into_iter().find(|node| self.is_ready(node, &primary)) else { return };
        let next = newest.next(&newcomer.name);
        if !self.is_settled(&newest, &next, &primary, &newcomer.name, "is not made a voting member yet") {
            return;
        }
        self.configure(newcomer, &next, Reason::NoVoteYet);
    }

    /// Takes a node's vote: the next step on the way there, or what stands in it.
    pub(in crate::plan) fn removal(mut self, leaving: &'a Node) -> Plan {
        // Where the one that leaves would have gone is nobody's business any more.
        self.plan.refusals = changed(self.inventory, self.facts);
        self.plan
            .refusals
            .retain(|it| it.kind != TroubleKind::Moved || it.node.as_ref() != Some(&leaving.name));
        let Primary::One(primary) = self.primary.clone() else {
            self.refuse(
                TroubleKind::NoPrimary,
                None,
                "no node takes writes; membership changes only while one does",
                "`cluster status` shows why",
            );
            return self.plan;
        };
        if primary == leaving.name {
            self.refuse(
                TroubleKind::TakesWrites,
                Some(&leaving.name),
                "takes writes",
                "run `cluster switchover` first to move the primary to another node",
            );
        }
        if !self.paused.is_empty() {
            let names = self.paused.join(", ");
            self.refuse(
                TroubleKind::Paused,
                None,
                format!("paused on {names}"),
                "`cluster resume` ends the pause",
            );
        }
        self.lease();
        let Some(newest) = Configuration::newest(self.inventory, self.facts) else { return self.plan };
        if !self.plan.refusals.is_empty() || self.tell(&newest, &primary) {
            return self.plan;
        }
        let has_vote = newest.names.contains(&leaving.name);
        let next = if has_vote { newest.next(&leaving.name) } else { newest.clone() };
        if !self.is_settled(&newest, &next, &primary, &leaving.name, "keeps its vote") {
            return self.plan;
        }
        if has_vote {
            let primary = self.inventory.node(&primary).expect("the primary is one of the inventory's");
            self.configure(primary, &next, Reason::PrimaryAsksAsMember);
        } else if let Some(host) = self.host(&leaving.name).up()
            && Configuration::of(self.inventory, host).is_some_and(|own| own != newest)
        {
            self.configure(leaving, &newest, Reason::NoVoteAnyMore);
        }
        self.plan
    }

    /// Whether the `next` configuration may begin: a majority goes by the newest, no other was ever handed out, and the next
    /// has a majority that can grant from the moment at which the primary goes by it.
    fn is_settled(
        &mut self,
        newest: &Configuration,
        next: &Configuration,
        primary: &str,
        node: &str,
        else_: &str,
    ) -> bool {
        // A guard that is told of other members starts anew, and grants nothing for longer than a lease unless it had granted this one
        // before. With too many of those, nobody could renew.
        let stays = |name: &&String| next.names.contains(*name);
        let grants = |name: &&String| {
            let guard = self.host(name).up().and_then(|host| host.guard.as_ref());
            guard.map(|guard| guard.holder.as_deref() == Some(primary))
        };
        let (granting, abstaining): (Vec<_>, Vec<_>) =
            newest.names.iter().filter(stays).partition(|name| grants(name) == Some(true));
        let abstaining = abstaining.into_iter().find(|name| grants(name) == Some(false)).cloned();
        if let Some(name) = abstaining.filter(|_| granting.len() < next.majority()) {
            self.wait(Waiting::Grant { node: name.clone(), primary: primary.to_owned() });
            self.trouble(
                TroubleKind::MembersUnsettled,
                Some(node),
                format!("{else_}: the guard of {name} has not granted {primary} its lease yet"),
                "run this again once it has; `cluster status` shows which guards hear of each other",
            );
            return false;
        }
        // One that has just been told starts anew, and may not answer at once. What is there without it may be enough.
        let silent = |name: &&String| {
            let host = self.host(name).up();
            host.is_some_and(|host| self.guard_runs(host) && Configuration::in_use(host).is_none())
        };
        let silent: Vec<String> = newest.names.iter().chain(&next.names).filter(silent).cloned().collect();
        let in_use = newest.names.iter().filter(|name| self.goes_by(name).as_ref() == Some(newest));
        let (there, majority) = (in_use.count(), newest.majority());
        if there < majority {
            silent.into_iter().for_each(|node| self.wait(Waiting::Guard { node }));
            self.trouble(
                TroubleKind::MembersUnsettled,
                Some(node),
                format!(
                    "{else_}: {there} of {} members have the current configuration, and a majority is {majority}",
                    newest.names.len()
                ),
                "bring the missing members back, then run this again",
            );
            return false;
        }
        // A newcomer is told before all others.
        let can_grant =
            |name: &&String| !newest.names.contains(*name) || self.goes_by(name).as_ref() == Some(newest);
        let (there, majority) = (next.names.iter().filter(can_grant).count(), next.majority());
        if there < majority {
            silent.into_iter().for_each(|node| self.wait(Waiting::Guard { node }));
            self.trouble(
                TroubleKind::MembersUnsettled,
                Some(node),
                format!(
                    "{else_}: of the {} members that there would be, {there} could grant the lease, and a majority is {majority}",
                    next.names.len()
                ),
                "bring the missing members back, then run this again",
            );
            return false;
        }
        let handed_out = self.facts.local.generation;
        if handed_out > newest.generation
            && let Some(node) = self.inventory.node(primary)
        {
            // A configuration was handed out that no host here has: its number, and any majority of it, must be over
            // before another one begins. The same members under a higher number see to that.
            self.configure(node, &newest.again(handed_out), Reason::MembersUnfinished);
            return false;
        }
        true
    }

    /// What is planned once the new nodes have what the others have.
    pub(super) fn then_members(&mut self) {
        let Some(newest) = Configuration::newest(self.inventory, self.facts) else { return };
        let nodes: Vec<String> = self.without_vote(&newest).iter().map(|node| node.name.clone()).collect();
        if !nodes.is_empty() {
            let action = "enable voting, one node at a time,".to_owned();
            self.plan.then.push(Consequence::safe("configure-members", action, nodes));
        }
    }

    fn without_vote(&self, members: &Configuration) -> Vec<&'a Node> {
        self.inventory.nodes.iter().filter(|node| !members.names.contains(&node.name)).collect()
    }

    /// Tells the next node that does not go by `members`, if there is one; or waits until it does.
    fn tell(&mut self, members: &Configuration, primary: &str) -> bool {
        let inventory = self.inventory;
        let mut order: Vec<&'a Node> =
            inventory.nodes.iter().filter(|node| members.names.contains(&node.name)).collect();
        order.sort_by_key(|node| {
            let own = self.host(&node.name).up().and_then(|host| Configuration::of(inventory, host));
            match own {
                Some(own) if own.names.contains(&node.name) => 1 + u8::from(node.name != primary),
                _ => 0,
            }
        });
        for node in order {
            let Some(host) = self.host(&node.name).up() else { continue };
            let own = Configuration::of(inventory, host);
            if own.is_some_and(|own| own != *members) {
                if host.is_in_a_rejoin() {
                    // Its guard starts anew with its members, and a rewind would begin again as a clone.
                    self.leave_to_its_guard(node, primary);
                    return true;
                }
                let why = if node.name == primary { Reason::PrimaryAsksAsMember } else { Reason::MembersOld };
                self.configure(node, members, why);
                return true;
            }
            if self.guard_runs(host) && self.goes_by(&node.name).is_some_and(|it| it != *members) {
                self.wait(Waiting::Members { node: node.name.clone(), generation: members.generation });
                self.trouble(
                    TroubleKind::MembersPending,
                    Some(&node.name),
                    format!("its guard has not applied membership {} yet", members.generation),
                    "see its journal with `cluster logs`; run this again once it has",
                );
                return true;
            }
            if node.name == primary && host.holds_lease() == Some(false) {
                // `lease` says so, and it is waited for.
                return true;
            }
        }
        false
    }

    fn configure(&mut self, node: &Node, members: &Configuration, why: Reason) {
        let file = files::node_file(self.inventory, self.means, &self.addresses, node, members);
        let found = self.host(&node.name).up().and_then(|host| host.files.get(&file.path));
        let action = Action::Configure { members: members.clone(), file: Box::new(file.change(found)) };
        self.step(Phase::Members, Some(node), action, why);
    }

    fn goes_by(&self, node: &str) -> Option<Configuration> {
        self.host(node).up().and_then(Configuration::in_use)
    }

    /// Whether a node would be worth its vote: its guard runs, and it has data that follows the primary, or is the
    /// witness.
    fn is_ready(&mut self, node: &Node, primary: &str) -> bool {
        let Some(host) = self.host(&node.name).up() else { return false };
        if !self.guard_runs(host) || Configuration::in_use(host).is_none() {
            if self.plan.steps.is_empty() {
                self.wait(Waiting::Guard { node: node.name.clone() });
                self.trouble(
                    TroubleKind::NoVote,
                    Some(&node.name),
                    "has no vote yet: its guard does not answer",
                    "see its journal with `cluster logs`",
                );
            }
            return false;
        }
        let streams = |host: &HostFacts| {
            let replicas = host.postgres.as_ref().map(|postgres| postgres.replication.as_slice());
            replicas.unwrap_or_default().iter().any(|it| it.name == node.name && it.state == "streaming")
        };
        let is_ready = match node.role {
            Role::Witness => host.postgres.is_some(),
            Role::Primary | Role::Standby => self.host(primary).up().is_some_and(streams),
        };
        if !is_ready {
            self.wait(Waiting::Newcomer { node: node.name.clone(), primary: primary.to_owned() });
            self.trouble(
                TroubleKind::NoVote,
                Some(&node.name),
                format!("has no vote yet: it does not stream from {primary}"),
                "run this again once it does; follow it with `cluster status`",
            );
        }
        is_ready
    }
}
