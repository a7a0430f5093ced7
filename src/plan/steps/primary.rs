//! The primary: its first start, its registration, the roles and databases on it.

use cluster_contract::marker::DataStage;

use super::Planner;
use crate::facts::HostFacts;
use crate::facts::host::PostgresFacts;
use crate::inventory::Node;
use crate::plan::reason::RoleUse;
use crate::plan::roles::{Data, Primary};
use crate::plan::{Action, Phase};
use crate::plan::{Reason, TroubleKind};
use crate::scram;
use crate::settings::ROLE;

impl Planner<'_> {
    pub(super) fn primary(&mut self, node: &Node, host: &HostFacts, data: &Data) {
        let rows = host.repmgr.as_deref().unwrap_or_default();
        if self.primary == Primary::Never && host.postgres.is_none() {
            let why = Reason::NewCluster;
            self.step(Phase::Setup, Some(node), Action::StartNew { made: DataStage::Primary }, why);
            if self.means.restore.is_some() {
                // What a restored database holds is for the next look to say.
                return;
            }
        }
        let Some(postgres) = &host.postgres else {
            if *data == Data::Ours {
                // Begun by a run that was killed; what it holds is for the next look to say.
                return;
            }
            // Never started: what follows is certain, and a reader of the plan wants to know.
            self.role(node, Phase::Setup, "repmgr", None, RoleUse::Repmgr);
            self.step(Phase::Setup, Some(node), Action::RegisterPrimary, Reason::Unregistered);
            self.applications(node, None);
            return;
        };
        if postgres.in_recovery {
            return;
        }
        self.role(node, Phase::Setup, "repmgr", Some(postgres), RoleUse::Repmgr);
        let registered = rows.iter().find(|row| row.id == node.id);
        if !registered
            .is_some_and(|row| row.kind == "primary" && row.active && self.is_reached_at(node, &row.conninfo))
        {
            self.step(Phase::Setup, Some(node), Action::RegisterPrimary, Reason::RegistrationDiffers);
        }
        self.applications(node, Some(postgres));
    }

    /// The roles and databases of applications, and the role that checks the cluster.
    fn applications(&mut self, node: &Node, postgres: Option<&PostgresFacts>) {
        self.role(node, Phase::Follow, "cluster", postgres, RoleUse::Checks);
        for user in &self.inventory.users {
            self.role(node, Phase::Follow, &user.name, postgres, RoleUse::Inventory);
        }
        let own = ("cluster".to_owned(), "cluster".to_owned());
        let declared =
            self.inventory.databases.iter().map(|database| (database.name.clone(), database.owner.clone()));
        for (name, owner) in std::iter::once(own).chain(declared) {
            let why = Reason::DatabaseNeeded { declared: name != "cluster" };
            match postgres.and_then(|postgres| postgres.databases.iter().find(|it| it.name == name)) {
                None => {
                    let action = Action::Database { name, owner };
                    self.step(Phase::Follow, Some(node), action, why);
                }
                Some(found) if found.owner != owner => self.trouble(
                    TroubleKind::DatabaseOwner,
                    None,
                    format!("database `{name}` belongs to `{}`, not to `{owner}`", found.owner),
                    format!(
                        "if you want to change the owner: `alter database \"{name}\" owner to \"{owner}\"`"
                    ),
                ),
                Some(_) => {}
            }
        }
    }

    pub(super) fn role(
        &mut self,
        node: &Node,
        phase: Phase,
        name: &str,
        postgres: Option<&PostgresFacts>,
        by: RoleUse,
    ) {
        let (password, superuser, replication) = match name {
            "repmgr" => (&self.means.repmgr_password, true, true),
            "cluster" => (&self.means.check_password, false, false),
            _ => {
                let superuser = self.inventory.users.iter().any(|user| user.name == name && user.superuser);
                match self.means.user_passwords.get(name) {
                    Some(password) => (password, superuser, false),
                    // It was made elsewhere, and resetting it would lock the application out.
                    None => return,
                }
            }
        };
        let settings: &[(&str, &str)] = if name == "repmgr" { ROLE } else { &[] };
        let found = postgres.and_then(|postgres| postgres.roles.iter().find(|role| role.name == name));
        let right = found.is_some_and(|role| {
            role.login
                && role.superuser == superuser
                && (role.replication || !replication)
                && settings.iter().all(|(name, value)| role.settings.contains(&format!("{name}={value}")))
                && role.password.as_deref().is_some_and(|verifier| scram::verifies(verifier, password))
        });
        if !right {
            let action = Action::Role {
                name: name.to_owned(),
                password: password.clone(),
                superuser,
                replication,
                settings,
                exists: found.is_some(),
            };
            let why = if found.is_some() { Reason::RoleDiffers } else { Reason::RoleNeeded { by } };
            self.step(phase, Some(node), action, why);
        }
    }
}
