//! Changed settings are tried on one node before any has them: a server that starts with them says that they work.

use super::Planner;
use crate::inventory::{Node, Role};
use crate::plan::Reason;
use crate::plan::roles::{self, Data};
use crate::plan::{Action, Phase, files};

impl Planner<'_> {
    pub(super) fn try_settings(&mut self) {
        let conf = files::postgresql_conf(self.inventory.postgresql.version);
        let changes = self.plan.steps.iter().any(|step| match (&step.action, &step.node) {
            (Action::WriteFiles { files }, Some(node)) => {
                files.iter().any(|file| file.path == conf && file.before.is_some()) && self.has_our_data(node)
            }
            _ => false,
        });
        let text = files::trial(self.inventory);
        let sha256 = files::sha256(text.as_bytes());
        let tried = |node: &Node| {
            self.host(&node.name).up().and_then(|host| host.tried.as_deref()) == Some(sha256.as_str())
        };
        if !changes || self.inventory.nodes.iter().any(tried) {
            return;
        }
        // One whose loss costs least, with the memory of a node that has data.
        let rank = |node: &&Node| match roles::role(self.inventory, &self.primary, node) {
            Role::Standby => 0,
            Role::Witness => 1,
            Role::Primary => 2,
        };
        let there = self.inventory.nodes.iter().filter(|node| self.has_our_data(&node.name));
        let Some(node) = there.min_by_key(rank) else { return };
        let why = Reason::SettingsUntried;
        self.step(Phase::Try, Some(node), Action::TrySettings { text, sha256 }, why);
    }

    fn has_our_data(&self, node: &str) -> bool {
        let ours = |host| roles::data(self.inventory, self.facts, host) == Data::Ours;
        self.host(node).up().is_some_and(ours)
    }
}
