//! Extensions: created on the primary when every node that may become primary has the package. None is ever dropped.

use std::collections::BTreeMap;

use super::Planner;
use crate::extensions;
use crate::facts::Host;
use crate::inventory::Extension;
use crate::plan::roles::Primary;
use crate::plan::{Action, Phase, Reason, Trouble, TroubleKind};

impl Planner<'_> {
    pub(super) fn extensions(&mut self) {
        let name = match &self.primary {
            Primary::One(name) => name.clone(),
            // What a restored cluster holds is for the next look to say.
            Primary::Never if self.means.restore.is_none() => self.inventory.primary().name.clone(),
            Primary::Never | Primary::Several(_) | Primary::Lost(_) | Primary::Gone(_) => return,
        };
        let Some(node) = self.inventory.node(&name) else { return };
        let host = self.host(&name).up();
        if host.and_then(|host| host.postgres.as_ref()).is_some_and(|postgres| postgres.in_recovery) {
            return;
        }
        let nothing = BTreeMap::new();
        let installed = host.map_or(&nothing, |host| &host.extensions);
        for extension in &self.inventory.extensions {
            let lacks = |database: &&String| {
                !installed.get(*database).is_some_and(|installed| installed.contains_key(&extension.name))
            };
            let lacking: Vec<&String> = extension.databases.iter().filter(lacks).collect();
            if lacking.is_empty() {
                continue;
            }
            if let Some((away, why)) = self.without_package(extension) {
                let package = extension.package.as_deref().unwrap_or_default();
                self.trouble(
                    TroubleKind::ExtensionWaits,
                    Some(&away),
                    format!("may not have {package}: {why}"),
                    format!(
                        "the extension `{}` is created when every data node has its package; run this again when {away} is back",
                        extension.name
                    ),
                );
                continue;
            }
            for database in lacking {
                let action = Action::Extension { name: extension.name.clone(), database: database.clone() };
                let by_default = extension.name == extensions::BY_DEFAULT;
                // In a new cluster nothing can be in its way, and it costs no phase of its own. Everywhere else it comes
                // last: what goes wrong with an extension costs nothing else.
                let is_new = matches!(self.primary, Primary::Never) || self.is_being_made();
                let phase = if by_default && is_new { Phase::Follow } else { Phase::Extend };
                self.step(phase, Some(node), action, Reason::ExtensionNeeded { by_default });
            }
        }
        self.left(installed);
    }

    /// A data node of which it is not known whether it has an extension's package, and why not. One that is being made
    /// will have it.
    fn without_package(&self, extension: &Extension) -> Option<(String, String)> {
        extension.package.as_ref()?;
        self.inventory.data_nodes().find_map(|node| match self.host(&node.name) {
            Host::Up(_) | Host::Missing | Host::Unreachable { young: true, .. } => None,
            // It is about to be powered on.
            Host::Off if self.facts.cloud.is_some() && self.paused.is_empty() => None,
            host @ (Host::Off | Host::Unreachable { .. }) => Some((node.name.clone(), host.absence()?)),
        })
    }

    /// Extensions that are there and that the inventory does not list: whoever becomes a node later would lack the package,
    /// and a library that is loaded for one stays.
    fn left(&mut self, installed: &BTreeMap<String, BTreeMap<String, String>>) {
        let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (database, names) in installed {
            for name in names.keys() {
                let listed = self.inventory.extensions.iter().any(|it| it.name == *name);
                let needs = extensions::find(name)
                    .is_none_or(|known| known.library.is_some() || known.package(15).is_some());
                if !listed && needs && name != "plpgsql" {
                    left.entry(name).or_default().push(database);
                }
            }
        }
        for (name, databases) in left {
            let (list, first) = (databases.join("`, `"), databases[0]);
            let comes_along = extensions::find(name).is_some_and(|known| known.package(15).is_none());
            let but =
                if comes_along { "its library stays loaded" } else { "a new node will not have its package" };
            self.plan.notes.push(Trouble {
                kind: TroubleKind::Ignored,
                node: None,
                message: format!(
                    "the extension `{name}` is in `{list}` but not in `extensions`: it is left as it is, and {but}"
                ),
                hint: format!(
                    "list it under `extensions`; or drop it as postgres in `{first}`: `drop extension \"{name}\"`"
                ),
            });
        }
    }
}
