//! What a node's settings hold beside what the inventory says by itself: what is fitted to the host, and what extensions
//! bring.

use crate::extensions::{self, Known};
use crate::facts::{Facts, HostFacts};
use crate::inventory::{Inventory, Node, Role};
use crate::settings::{Fit, Fitting, Size};

use super::files;

/// What a node's settings hold besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extras {
    pub fitting: Fitting,
    /// Libraries that extensions need to be loaded at the start.
    pub libraries: Vec<String>,
    /// Settings that extensions bring, with the extension.
    pub settings: Vec<(&'static str, String, &'static str)>,
}

impl Extras {
    /// Nothing fitted, nothing brought.
    pub fn none() -> Extras {
        Extras { fitting: Fitting::Off, libraries: Vec::new(), settings: Vec::new() }
    }

    /// Those of a node.
    pub fn of(inventory: &Inventory, facts: &Facts, node: &Node) -> Extras {
        let fitting = fitting(inventory, facts, node);
        if node.role == Role::Witness {
            return Extras { fitting, ..Extras::none() };
        }
        let (mut libraries, mut settings) = (Vec::new(), Vec::new());
        for extension in &inventory.extensions {
            libraries.extend(extension.library.clone());
            let database = extension.databases.first().map_or("postgres", String::as_str);
            settings
                .extend(extensions::find(&extension.name).into_iter().flat_map(|it| it.settings(database)));
        }
        for (library, known) in kept(inventory, facts, node) {
            // Where it works is as it was.
            let database = placed(inventory, facts, known.name);
            settings.extend(known.settings(&database));
            libraries.push(library);
        }
        // Others build on its library, and must come after it.
        libraries.sort_by_key(|library| library != extensions::BY_DEFAULT);
        Extras { fitting, libraries, settings }
    }
}

/// Libraries that the node loads for extensions that are no longer listed: they stay until it is seen that no database has
/// the extension, because without its library one that is there fails, or fails everything else.
fn kept(inventory: &Inventory, facts: &Facts, node: &Node) -> Vec<(String, &'static Known)> {
    let path = files::postgresql_conf(inventory.postgresql.version);
    let conf = seen(facts, node).and_then(|host| host.files.get(&path)?.content.as_deref());
    let now = conf.and_then(|conf| files::values(conf).get("shared_preload_libraries").copied());
    let is_listed = |known: &Known| inventory.extensions.iter().any(|it| it.name == known.name);
    let is_gone = |known: &Known| {
        let hosts = inventory.data_nodes().filter_map(|node| seen(facts, node));
        let mut looked =
            hosts.map(|host| &host.extensions).filter(|all| all.contains_key("postgres")).peekable();
        looked.peek().is_some() && looked.all(|all| all.values().all(|it| !it.contains_key(known.name)))
    };
    now.unwrap_or_default()
        .split(',')
        .filter_map(|library| Some((library.to_owned(), extensions::of_library(library)?)))
        .filter(|(_, known)| !is_listed(known) && !is_gone(known))
        .collect()
}

/// The database that has an extension which is in one alone.
fn placed(inventory: &Inventory, facts: &Facts, extension: &str) -> String {
    let hosts = inventory.data_nodes().filter_map(|node| seen(facts, node));
    let mut all = hosts.flat_map(|host| &host.extensions);
    let found = all.find(|(_, installed)| installed.contains_key(extension));
    found.map_or_else(|| "postgres".to_owned(), |(database, _)| database.clone())
}

fn fitting(inventory: &Inventory, facts: &Facts, node: &Node) -> Fitting {
    if !inventory.postgresql.tune {
        return Fitting::Off;
    }
    let Some(machine) = seen(facts, node).and_then(|host| host.machine) else { return Fitting::Unknown };
    let own = |name: &str| inventory.postgresql.settings.get(name)?.trim().parse::<u64>().ok();
    Fitting::To(Fit {
        version: inventory.postgresql.version,
        witness: node.role == Role::Witness,
        size: Size::of(machine),
        connections: own("max_connections")
            .or_else(|| common(inventory, facts, "max_connections", Size::connections)),
        workers: own("max_worker_processes")
            .or_else(|| common(inventory, facts, "max_worker_processes", Size::workers)),
    })
}

fn seen<'a>(facts: &'a Facts, node: &Node) -> Option<&'a HostFacts> {
    facts.hosts.get(&node.name)?.up()
}

/// A value that a standby must not have lower than its primary: the smallest data node's for all of them. It is raised
/// only while all of them are seen, because one that is away would come back with less than its primary has; and it is
/// never lowered by itself, because applications count on it.
fn common(inventory: &Inventory, facts: &Facts, name: &str, rule: fn(Size) -> u64) -> Option<u64> {
    let path = files::postgresql_conf(inventory.postgresql.version);
    let conf = |node: &Node| seen(facts, node)?.files.get(&path)?.content.as_deref();
    let now = inventory.data_nodes().filter_map(|node| fitted(conf(node)?, name)).max();
    let sizes: Vec<Size> =
        inventory.data_nodes().filter_map(|node| Some(Size::of(seen(facts, node)?.machine?))).collect();
    let least = sizes.iter().copied().map(rule).min();
    let all = sizes.len() == inventory.data_nodes().count();
    // Files that are there and say nothing are of an older version of this program.
    let is_new = || inventory.data_nodes().all(|node| conf(node).is_none());
    match now {
        Some(now) if all => Some(now.max(least?)),
        Some(now) => Some(now),
        None if all || is_new() => least,
        None => None,
    }
}

/// The value of a setting that was fitted, and not the inventory's: it stands with its rule.
fn fitted(conf: &str, name: &str) -> Option<u64> {
    let line =
        conf.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" = ")))?;
    let (value, _) = line.split_once("' # ")?;
    value.rsplit_once('\'')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn only_what_was_fitted_holds() {
        let conf = "max_connections = '200' # 25 for each GB\nmax_worker_processes = '9'\n";
        assert_eq!(fitted(conf, "max_connections"), Some(200));
        assert_eq!(fitted(conf, "max_worker_processes"), None);
        assert_eq!(fitted(conf, "connections"), None);
    }
}
