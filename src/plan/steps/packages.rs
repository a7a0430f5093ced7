//! apt: lists, sources, packages.

use super::Planner;
use crate::facts::HostFacts;
use crate::inventory::Node;
use crate::plan::packages::{in_words, is_new_enough, packages};
use crate::plan::{Action, Phase, files};
use crate::plan::{Reason, TroubleKind};

/// Package lists that are older are fetched again before something is installed.
const LISTS_MAX_AGE: u64 = 24 * 3600;

fn is_of_postgresql(package: &str) -> bool {
    package.starts_with("postgresql") || package.starts_with("pg") || package == "sudo"
}

impl Planner<'_> {
    pub(super) fn packages(&mut self, node: &Node, host: &HostFacts, known: bool) {
        let file = files::before_install();
        let there = host.files.get(files::CREATECLUSTER);
        if !there.is_some_and(|found| file.matches(found)) {
            let action = Action::WriteFiles { files: vec![file.change(there)] };
            self.step(Phase::Lists, Some(node), action, Reason::NoClusterOfPackages);
        }
        let postgresql = self.inventory.postgresql.version;
        let is_new_enough = |package: &str, version: &str| is_new_enough(package, version, postgresql);
        let missing: Vec<String> = packages(self.inventory, node)
            .into_iter()
            .filter(|package| {
                !host.packages.installed.get(package).is_some_and(|it| is_new_enough(package, it))
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        let why = if host.packages.interrupted { Reason::DpkgInterrupted } else { Reason::NotInstalled };
        let has = |package: &&String| match host.packages.candidates.get(*package) {
            Some(version) => is_new_enough(package, version),
            // What is installed is too old, and what apt has instead is not asked for.
            None => host.packages.installed.contains_key(*package) && !host.packages.pgdg.is_empty(),
        };
        let lacking: Vec<&String> = missing.iter().filter(|package| !has(package)).collect();
        if host.packages.lists_age.is_none_or(|age| age > LISTS_MAX_AGE) {
            self.step(Phase::Lists, Some(node), Action::UpdateLists, Reason::ListsOld);
        } else if !lacking.is_empty() && known {
            // The distribution does not have it: the PostgreSQL project's repository, then its archive.
            let archive = host.packages.pgdg.iter().any(|line| line.contains("apt.postgresql.org"));
            let tried_all = host.packages.pgdg.iter().any(|line| line.contains("apt-archive.postgresql.org"));
            // For a name that no repository of PostgreSQL's would have, none is added to the host's.
            let stranger = lacking.iter().find(|package| !is_of_postgresql(package));
            let asked_for = |package: &str| {
                self.inventory.extensions.iter().find(|it| it.package.as_deref() == Some(package))
            };
            let wanted = lacking.iter().filter_map(|package| asked_for(package)).next();
            let wanted = wanted.map(|extension| extension.name.clone());
            if let (Some(stranger), Some(extension)) = (stranger, stranger.and_then(|it| asked_for(it))) {
                let message = format!("apt has no {stranger} for the extension `{}`", extension.name);
                let hint = "correct its `package` under `extensions`, or add the repository that has it to the apt sources \
                            of every data node";
                return self.refuse(TroubleKind::NoPackages, Some(&node.name), message, hint);
            }
            let lacking = lacking.iter().map(|it| in_words(it, postgresql)).collect::<Vec<_>>().join(", ");
            if tried_all {
                let hint = match wanted {
                    Some(extension) => format!(
                        "take `{extension}` out of `extensions`, or name the `package` that has it; another version of \
                         PostgreSQL or another image may have it, too"
                    ),
                    None => "choose another version of PostgreSQL or another image".into(),
                };
                return self.refuse(
                    TroubleKind::NoPackages,
                    Some(&node.name),
                    format!(
                        "neither {} {} nor the PostgreSQL apt repository provides {lacking}",
                        host.os, host.codename
                    ),
                    hint,
                );
            }
            let os = format!("{} {}", host.os, host.codename);
            let why = Reason::NotInDistribution { os, packages: lacking };
            self.step(Phase::Lists, Some(node), Action::AddRepository { archive }, why);
        }
        self.step(Phase::Install, Some(node), Action::Install { packages: missing }, why);
    }
}
