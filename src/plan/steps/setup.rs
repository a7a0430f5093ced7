//! What every node has, whatever its role: a data directory, files, the node's program, settings.

use cluster_contract::marker::DataStage;

use super::Planner;
use super::services::program_hash;
use crate::facts::HostFacts;
use crate::facts::host::PostgresFacts;
use crate::inventory::{Node, Role};
use crate::plan::roles::{self, Data, Primary};
use crate::plan::{Action, Phase, files};
use crate::plan::{Reason, TroubleKind};

impl<'a> Planner<'a> {
    pub(super) fn set_up(&mut self, node: &'a Node, host: &HostFacts, role: Role) {
        // First: what makes data writes down what it makes with it. A guard that runs goes on with what it was started
        // as, until its turn comes to be started anew.
        if self.facts.local.node_program != program_hash(host) {
            let action = Action::InstallProgram { sha256: self.facts.local.node_program.clone() };
            self.step(Phase::Setup, Some(node), action, Reason::ProgramDiffers);
        }
        let data = roles::data(self.inventory, self.facts, host);
        let running = host.postgres.is_some();
        if matches!(data, Data::None | Data::HalfMade)
            && !self.is_clone_under_way(host)
            && !self.is_being_placed(host)
        {
            let why = match data {
                Data::HalfMade => Reason::HalfMade,
                _ => Reason::NoData,
            };
            // A half-made clone is made anew by the clone itself.
            if !host.marker.as_ref().is_some_and(|marker| marker.stage == DataStage::Cloning) {
                let first = self.primary == Primary::Never || self.is_being_made();
                self.step(Phase::Setup, Some(node), Action::CreateData { first }, why);
            }
        }
        self.files(node, host);
        if let Some(restore) = &self.means.restore
            && self.primary == Primary::Never
            && role == Role::Primary
            && matches!(data, Data::None | Data::HalfMade | Data::Initialized)
        {
            let action = Action::Restore { target: restore.target.clone(), source: restore.source.clone() };
            self.step(Phase::Setup, Some(node), action, Reason::FromBackup);
        }
        if let Some(postgres) = &host.postgres {
            self.settings(node, host, postgres, role);
        } else if host.postgres_error.is_some() && host.loaded.get("postgresql") == Some(&false) {
            // What keeps it from answering may be what the files have put right.
            let why = Reason::ConfigurationUnreadUnanswered;
            self.step(Phase::Reload, Some(node), Action::Reload, why);
            return;
        }
        match role {
            Role::Primary => self.primary(node, host, &data),
            Role::Standby => self.standby(node, host, &data),
            Role::Witness => self.witness(node, host, &data, running),
        }
    }

    /// Whether no guard of this cluster has run yet, so that none can have granted anything. Some nodes may be behind others.
    pub(super) fn is_being_made(&self) -> bool {
        self.inventory.nodes.iter().all(|node| {
            self.host(&node.name).up().is_some_and(|host| {
                let unit = host.units.get("cluster-node");
                host.guard.is_none() && unit.is_none_or(|unit| unit.enabled != "enabled")
            })
        })
    }

    fn files(&mut self, node: &Node, host: &HostFacts) {
        let mut changes = Vec::new();
        // Its members are changed later, and one node at a time.
        let members = self.members_of(node);
        let extras = self.extras(node);
        for file in files::files(self.inventory, self.means, &self.addresses, node, &members, &extras) {
            let found = host.files.get(&file.path);
            if !found.is_some_and(|found| file.matches(found)) {
                changes.push(file.change(found));
            }
        }
        if !changes.is_empty() {
            let missing = changes.iter().any(|change| !host.files.contains_key(&change.path));
            let why = Reason::FilesDiffer { count: changes.len(), missing };
            self.step(Phase::Setup, Some(node), Action::WriteFiles { files: changes }, why);
        }
    }

    /// A changed setting: reload, and a restart only where PostgreSQL says so.
    fn settings(&mut self, node: &Node, host: &HostFacts, postgres: &PostgresFacts, role: Role) {
        for error in postgres.file_errors.iter().chain(&postgres.hba_errors) {
            self.trouble(
                TroubleKind::ConfigurationRefused,
                Some(&node.name),
                format!("PostgreSQL rejects its configuration: {error}"),
                "correct postgresql.settings or clients in the inventory",
            );
        }
        let version = self.inventory.postgresql.version;
        let newest = [files::postgresql_conf(version), files::pg_hba(version), files::pg_ident(version)]
            .iter()
            .filter_map(|path| Some(host.files.get(path)?.modified))
            .fold(0.0, f64::max);
        if newest <= postgres.conf_loaded {
            // Until the files are read, this is no more than news.
            for name in &postgres.not_applied {
                self.trouble(
                    TroubleKind::ConfigurationRefused,
                    Some(&node.name),
                    format!("PostgreSQL rejects its configuration: the value of {name} is invalid"),
                    "PostgreSQL would not restart; correct postgresql.settings in the inventory",
                );
            }
        }
        if newest > postgres.conf_loaded && postgres.file_errors.is_empty() && postgres.hba_errors.is_empty()
        {
            self.step(Phase::Reload, Some(node), Action::Reload, Reason::ConfigurationUnread);
        } else if !postgres.pending_restart.is_empty() {
            // A standby must never allow less than its primary: where values shrink, the primary goes first.
            let shrinks = postgres.file_settings.iter().any(|(name, wanted)| {
                let now = postgres.hot_standby_settings.get(name).and_then(|value| value.parse::<i64>().ok());
                matches!((wanted.parse::<i64>(), now), (Ok(wanted), Some(now)) if wanted < now)
            });
            let phase = match role {
                Role::Witness => Phase::RestartWitness,
                Role::Primary if shrinks => Phase::RestartFirst,
                Role::Standby if !shrinks => Phase::RestartFirst,
                Role::Primary | Role::Standby => Phase::RestartLast,
            };
            let settings = postgres.pending_restart.clone();
            self.step(phase, Some(node), Action::Restart { settings }, Reason::RestartPending);
        }
    }
}
