//! Which node is primary. The inventory decides for a new cluster; after that the hosts do.

use cluster_contract::marker::DataStage;

use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Node, Role};

/// Who takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primary {
    /// None yet: the cluster does not exist. The inventory's primary starts it.
    Never,
    /// This node.
    One(String),
    /// More than one: a split brain.
    Several(Vec<String>),
    /// None, although the cluster exists: why, in words.
    Lost(String),
    /// None, and no host has data of the cluster with this system identifier, which this machine remembers.
    Gone(String),
}

/// How a data directory relates to this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    /// Left incomplete by a run that was killed; may be replaced.
    HalfMade,
    /// New and empty, never started.
    Initialized,
    /// This cluster's.
    Ours,
    /// Belongs to something else: described in words.
    Foreign(String),
}

/// Classifies a host's data directory.
pub fn data(inventory: &Inventory, facts: &Facts, host: &HostFacts) -> Data {
    let version = inventory.postgresql.version;
    let port = inventory.postgresql.port;
    let path = format!("/var/lib/postgresql/{version}/main");
    if let Some(other) = host.pg_clusters.iter().find(|other| other.port == port && other.data != path) {
        return Data::Foreign(format!(
            "PostgreSQL {} cluster `{}` ({}) uses port {port}, with data in {}",
            other.version, other.name, other.status, other.data
        ));
    }
    let Some(found) = &host.data else { return Data::None };
    let marker = host.marker.as_ref();
    if let Some(marker) = marker
        && marker.cluster != inventory.cluster
    {
        return Data::Foreign(format!("{path} belongs to cluster `{}`", marker.cluster));
    }
    match marker.map(|marker| marker.stage) {
        Some(DataStage::Creating | DataStage::Cloning) => return Data::HalfMade,
        None if found.entries == 0 => return Data::None,
        _ => {}
    }
    let identifier =
        host.postgres.as_ref().map(|it| it.system_identifier.as_str()).or(found.system_identifier.as_deref());
    let ours = marker.and_then(|marker| marker.system_identifier.as_deref());
    if marker.is_some() && ours.is_some() && ours == identifier {
        return if marker.is_some_and(|marker| marker.stage == DataStage::Initialized) {
            Data::Initialized
        } else {
            Data::Ours
        };
    }
    // The marker was lost; the data itself says whose it is.
    if marker.is_none() && identifier.is_some() && identifier == facts.local.system_identifier.as_deref() {
        return Data::Ours;
    }
    Data::Foreign(describe(&path, host, identifier))
}

fn describe(path: &str, host: &HostFacts, identifier: Option<&str>) -> String {
    let mut text = match (identifier, &host.data) {
        (Some(identifier), _) => format!("{path} holds a database with system identifier {identifier}"),
        (None, Some(data)) => format!("{path} holds {} files or directories of unknown origin", data.entries),
        (None, None) => format!("{path} is in use"),
    };
    if let Some(modified) = host.data.as_ref().and_then(|data| data.modified.as_deref()) {
        text.push_str(&format!(", last written {modified}"));
    }
    if let Some(postgres) = &host.postgres {
        let names: Vec<_> = postgres
            .databases
            .iter()
            .map(|database| database.name.as_str())
            .filter(|name| !name.starts_with("template"))
            .collect();
        text.push_str(&format!("; it is running, with the databases {}", names.join(", ")));
    }
    text
}

/// Determines the primary from all hosts.
pub fn primary(inventory: &Inventory, facts: &Facts) -> Primary {
    let mut writable = Vec::new();
    let mut traces = Vec::new();
    for node in &inventory.nodes {
        let Some(host) = facts.hosts.get(&node.name).and_then(|host| host.up()) else { continue };
        if !holds_data(node, host) {
            continue;
        }
        let data = data(inventory, facts, host);
        if data == Data::Ours && host.postgres.as_ref().is_some_and(|postgres| !postgres.in_recovery) {
            writable.push(node.name.clone());
        }
        if data == Data::Ours || host.marker.as_ref().is_some_and(|marker| marker.stage == DataStage::Cloning)
        {
            traces.push(node.name.clone());
        }
    }
    match writable.len() {
        1 => return Primary::One(writable.remove(0)),
        2.. => return Primary::Several(writable),
        0 => {}
    }
    if let Some(witness) = inventory.witness()
        && let Some(host) = facts.hosts.get(&witness.name).and_then(|host| host.up())
        && host.marker.as_ref().is_none_or(|marker| marker.cluster == inventory.cluster)
        && let Some(rows) = &host.repmgr
        && rows.iter().any(|row| row.kind != "witness")
    {
        traces.push(witness.name.clone());
    }
    if begun(inventory, facts, &traces) {
        return Primary::Never;
    }
    if !traces.is_empty() {
        return Primary::Lost(format!(
            "{} held this cluster's data, and none of them takes writes",
            traces.join(", ")
        ));
    }
    if let Some(identifier) = &facts.local.system_identifier {
        if facts.hosts.values().all(|host| matches!(host, Host::Up(_) | Host::Missing)) {
            return Primary::Gone(identifier.clone());
        }
        return Primary::Lost(format!(
            "this machine remembers the cluster (system identifier {identifier}), but no reachable host does"
        ));
    }
    Primary::Never
}

/// Whether a node holds the cluster's data: what it is counts, not what the inventory calls it. A witness's PostgreSQL
/// always takes writes, and they are nobody's.
pub fn holds_data(node: &Node, host: &HostFacts) -> bool {
    match host.marker.as_ref().map(|marker| marker.stage) {
        Some(DataStage::Witness) => false,
        Some(DataStage::Primary | DataStage::Standby) => true,
        Some(DataStage::Creating | DataStage::Initialized | DataStage::Cloning) | None => {
            node.role != Role::Witness
        }
    }
}

/// Whether the only trace is the inventory's own primary, made and not yet started by a run that was killed: every
/// other host was looked at and has nothing, so that starting it cannot make a second primary.
fn begun(inventory: &Inventory, facts: &Facts, traces: &[String]) -> bool {
    traces == [inventory.primary().name.clone()]
        && facts.local.system_identifier.is_none()
        && only_the_first(inventory, facts)
}

/// Whether every host was looked at, and none has data of the cluster but the inventory's primary, made and not yet
/// started.
pub fn only_the_first(inventory: &Inventory, facts: &Facts) -> bool {
    inventory.nodes.iter().all(|node| {
        let Some(host) = facts.hosts.get(&node.name).and_then(Host::up) else { return false };
        let stage = host.marker.as_ref().map(|marker| marker.stage);
        match node.role {
            Role::Primary => stage == Some(DataStage::Primary) && host.postgres.is_none(),
            Role::Standby => data(inventory, facts, host) != Data::Ours && stage != Some(DataStage::Cloning),
            Role::Witness => true,
        }
    })
}

/// The role that a node should have: live if there is a primary, the inventory's otherwise.
pub fn role(inventory: &Inventory, primary: &Primary, node: &Node) -> Role {
    match (node.role, primary) {
        (Role::Witness, _) => Role::Witness,
        (_, Primary::One(name)) if *name == node.name => Role::Primary,
        (_, Primary::Never) if inventory.primary().name == node.name => Role::Primary,
        _ => Role::Standby,
    }
}
