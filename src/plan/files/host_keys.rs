//! What the nodes state of each other: the SSH host keys of all of them, on every one. A machine that takes the cluster
//! over compares what a host presents with what the others say of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cluster_contract::paths;

use crate::facts::{Facts, Host};
use crate::inventory::Inventory;

/// How a node is called in files of known hosts. Addresses are used again by others, so a host is never known by its.
pub fn alias(cluster: &str, node: &str) -> String {
    format!("{cluster}-{node}")
}

/// The nodes' host keys (type and key), as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct HostKeys {
    by_node: BTreeMap<String, String>,
    /// Whether a host is still to be made, or to boot for the first time: its key comes with it.
    incomplete: bool,
}

impl HostKeys {
    /// What the hosts show, and of those that cannot be reached what the others were last told.
    pub fn of(inventory: &Inventory, facts: &Facts) -> HostKeys {
        let mut keys = HostKeys::default();
        let mut told = None;
        for node in &inventory.nodes {
            let key = match facts.hosts.get(&node.name) {
                Some(Host::Up(host)) => Some(host.host_key.clone()).filter(|key| !key.is_empty()),
                None | Some(Host::Missing | Host::Unreachable { young: true, .. }) => {
                    keys.incomplete = true;
                    continue;
                }
                Some(Host::Off | Host::Unreachable { young: false, .. }) => {
                    let told = told.get_or_insert_with(|| last_told(inventory, facts));
                    told.remove(&node.name)
                }
            };
            keys.by_node.extend(key.map(|key| (node.name.clone(), key)));
        }
        keys
    }

    /// The file; none while the key of a node that is still to come is not known.
    pub(super) fn file(&self, cluster: &str) -> Option<String> {
        let mut text = format!("# SSH host keys of cluster {cluster}; written by `cluster up`.\n");
        for (node, key) in &self.by_node {
            let _ = writeln!(text, "{} {key}", alias(cluster, node));
        }
        (!self.incomplete).then_some(text)
    }
}

/// What one node's file states, by node.
pub fn stated(cluster: &str, file: &str) -> BTreeMap<String, String> {
    let prefix = alias(cluster, "");
    let lines = file.lines().filter_map(|line| line.split_once(' '));
    let ours = lines.filter_map(|(name, key)| Some((name.strip_prefix(&prefix)?, key)));
    ours.map(|(node, key)| (node.to_owned(), key.trim().to_owned())).collect()
}

/// What the nodes were told last: of two that differ the younger file counts.
fn last_told(inventory: &Inventory, facts: &Facts) -> BTreeMap<String, String> {
    let files = facts.hosts.values().filter_map(|host| host.up()?.files.get(paths::KNOWN_HOSTS));
    let mut files: Vec<_> =
        files.filter_map(|file| Some((file.modified, file.content.as_deref()?))).collect();
    files.sort_by(|one, other| one.0.total_cmp(&other.0));
    files.into_iter().flat_map(|(_, text)| stated(&inventory.cluster, text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_read_as_it_is_written() {
        let by_node: BTreeMap<String, String> =
            [("pg1", "ssh-ed25519 A"), ("pg2", "ssh-ed25519 B")].map(|(k, v)| (k.into(), v.into())).into();
        let keys = HostKeys { by_node: by_node.clone(), incomplete: false };
        let text = keys.file("demo").unwrap();
        assert_eq!(stated("demo", &text), by_node);
        assert_eq!(stated("demo2", &text), BTreeMap::new());
        assert_eq!(HostKeys { incomplete: true, ..keys }.file("demo"), None);
    }
}
