//! apt: lists, sources, packages.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::Node;
use crate::plan::{Action, Phase, files};
use crate::plan::{Reason, TroubleKind};

/// Package lists that are older are fetched again before something is installed.
const LISTS_MAX_AGE: u64 = 24 * 3600;

impl Planner<'_> {
    pub(super) fn packages(&mut self, node: &Node, host: &HostFacts, known: bool) {
        let file = files::before_install();
        let there = host.files.get(files::CREATECLUSTER);
        if !there.is_some_and(|found| file.matches(found)) {
            let action = Action::WriteFiles { files: vec![file.change(there)] };
            self.step(Phase::Lists, Some(node), action, Reason::NoClusterOfPackages);
        }
        let missing: Vec<String> = files::packages(self.inventory, node)
            .into_iter()
            .filter(|package| !host.packages.installed.contains_key(package))
            .collect();
        if missing.is_empty() {
            return;
        }
        let why = if host.packages.interrupted { Reason::DpkgInterrupted } else { Reason::NotInstalled };
        let lacking: Vec<&String> =
            missing.iter().filter(|package| !host.packages.candidates.contains_key(*package)).collect();
        if host.packages.lists_age.is_none_or(|age| age > LISTS_MAX_AGE) {
            self.step(Phase::Lists, Some(node), Action::UpdateLists, Reason::ListsOld);
        } else if !lacking.is_empty() && known {
            // The distribution does not have it: the PostgreSQL project's repository, then its archive.
            let archive = host.packages.pgdg.iter().any(|line| line.contains("apt.postgresql.org"));
            let tried_all = host.packages.pgdg.iter().any(|line| line.contains("apt-archive.postgresql.org"));
            let lacking = lacking.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", ");
            if tried_all {
                return self.refuse(
                    TroubleKind::NoPackages,
                    Some(&node.name),
                    format!(
                        "neither {} {} nor the PostgreSQL apt repository provides {lacking}",
                        host.os, host.codename
                    ),
                    "choose another version of PostgreSQL or another image",
                );
            }
            let os = format!("{} {}", host.os, host.codename);
            let why = Reason::NotInDistribution { os, packages: lacking };
            self.step(Phase::Lists, Some(node), Action::AddRepository { archive }, why);
        }
        self.step(Phase::Install, Some(node), Action::Install { packages: missing }, why);
    }
}
