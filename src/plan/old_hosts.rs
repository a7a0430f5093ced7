//! Hosts whose system gets no more security fixes. Pure: the day is an argument.

use std::collections::BTreeMap;

use jiff::civil::Date;

use crate::facts::{Facts, Host};
use crate::inventory::end_of_life::{system_of_image, system_warning};
use crate::inventory::{Inventory, Provider};

/// A warning for each system whose life has ended, or soon will have, with the hosts that run it. One that the inventory's
/// image names is warned of with the inventory.
pub fn old_hosts(inventory: &Inventory, facts: &Facts, today: Date) -> Vec<String> {
    let mut nodes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in &inventory.nodes {
        let Some(host) = facts.hosts.get(&node.name).and_then(Host::up) else { continue };
        let of_image = match &inventory.provider {
            Provider::DigitalOcean(provider) => system_of_image(provider.image_of(node)),
            Provider::Existing(_) => None,
        };
        if of_image.is_some_and(|(id, version)| id == host.os && version == host.os_version) {
            continue;
        }
        if let Some(what) = system_warning(&host.os, &host.os_version, today) {
            nodes.entry(what).or_default().push(&node.name);
        }
    }
    let warning = |(what, nodes): (String, Vec<&str>)| {
        format!(
            "{}: {what}: `cluster replace NODE` moves a node to a host with a newer one (docs/operations.md, \"Another system \
             under the same data\")",
            nodes.join(", ")
        )
    };
    nodes.into_iter().map(warning).collect()
}
