//! Changed settings are tried on one node before any has them: a server that starts with them says that they work.

use std::collections::BTreeMap;

use super::Planner;
use crate::inventory::{Node, Role};
use crate::plan::Reason;
use crate::plan::roles::{self, Data};
use crate::plan::{Action, Phase, files};

impl Planner<'_> {
    pub(super) fn try_settings(&mut self) {
        let conf = files::postgresql_conf(self.inventory.postgresql.version);
        let changes = |node: &Node| {
            self.has_our_data(&node.name)
                && self.plan.steps.iter().any(|step| match &step.action {
                    Action::WriteFiles { files } if step.node.as_deref() == Some(&node.name) => {
                        files.iter().any(|file| file.path == conf && file.before.is_some())
                    }
                    _ => false,
                })
        };
        // What is fitted to hosts of two sizes is tried on one of each. The witness has no values that are not tried
        // elsewhere, or smaller.
        let mut wanted: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
        for node in self.inventory.nodes.iter().filter(|node| changes(node)) {
            let like = match node.role {
                Role::Witness => self.inventory.primary(),
                Role::Primary | Role::Standby => node,
            };
            wanted.entry(files::trial(self.inventory, &self.extras(like))).or_default();
        }
        for node in self.inventory.nodes.iter().filter(|node| self.has_our_data(&node.name)) {
            let text = files::trial(self.inventory, &self.extras(node));
            if let Some(nodes) = wanted.get_mut(&text) {
                nodes.push(node);
            }
        }
        // One whose loss costs least.
        let rank = |node: &&Node| match roles::role(self.inventory, &self.primary, node) {
            Role::Standby => 0,
            Role::Witness => 1,
            Role::Primary => 2,
        };
        let mut steps = Vec::new();
        for (text, nodes) in wanted {
            let sha256 = files::sha256(text.as_bytes());
            let tried = |node: &Node| {
                self.host(&node.name).up().and_then(|host| host.tried.as_deref()) == Some(sha256.as_str())
            };
            if self.inventory.nodes.iter().any(tried) {
                continue;
            }
            let Some(node) = nodes.into_iter().min_by_key(rank) else { continue };
            steps.push((node, Action::TrySettings { text, sha256 }));
        }
        for (node, action) in steps {
            self.step(Phase::Try, Some(node), action, Reason::SettingsUntried);
        }
    }

    fn has_our_data(&self, node: &str) -> bool {
        let ours = |host| roles::data(self.inventory, self.facts, host) == Data::Ours;
        self.host(node).up().is_some_and(ours)
    }
}
