//! The files of every host.

mod backup;
pub mod host_keys;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use backup::{BACKUP_UNIT, BackupMeans, source};
use cluster_contract::config::{Config, FloatingIp, Member};
use cluster_contract::paths;
use cluster_contract::timing::Timing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::members::Configuration;
use super::{Extras, Means};
use crate::facts::host::FileFacts;
use crate::inventory::{Inventory, Node, Provider, Role};
use crate::settings::{self, Fitting, Scope};
use crate::templates::Template;

/// Written before PostgreSQL's packages are installed, so that they make no cluster of their own.
pub const CREATECLUSTER: &str = "/etc/postgresql-common/createcluster.d/90-cluster.conf";

/// The desired state of a file.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    /// Mode in octal.
    pub mode: &'static str,
    /// `user:group`.
    pub owner: &'static str,
    /// What it holds; none while an address that it names is not known yet.
    pub content: Option<Content>,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub enum Content {
    /// May be shown in a diff.
    Plain(String),
    /// Must not be shown.
    Secret(SecretString),
}

impl Content {
    pub fn expose(&self) -> &str {
        match self {
            Content::Plain(text) => text,
            Content::Secret(text) => text.expose_secret(),
        }
    }
}

/// A file that differs from its desired state.
#[derive(Clone, Debug)]
pub struct FileChange {
    pub path: String,
    /// Mode in octal.
    pub mode: &'static str,
    /// `user:group`.
    pub owner: &'static str,
    /// What it should hold; none while it cannot be known.
    pub content: Option<Content>,
    /// What it holds now; none if it is not there or secret.
    pub before: Option<String>,
}

impl File {
    /// Whether `found` is this file.
    pub fn matches(&self, found: &FileFacts) -> bool {
        let Some(content) = &self.content else { return false };
        found.mode == self.mode
            && found.owner == self.owner
            && found.sha256 == sha256(content.expose().as_bytes())
    }

    /// The change from the found file to this one.
    pub fn change(self, found: Option<&FileFacts>) -> FileChange {
        let before = found.and_then(|found| found.content.clone());
        FileChange { path: self.path, mode: self.mode, owner: self.owner, content: self.content, before }
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The addresses that files name.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Where each node is reached by the others.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Server ids.
    pub servers: BTreeMap<String, u64>,
    pub floating_ip: Option<IpAddr>,
    /// Whether the cluster uses a floating IP, whose address may not be known yet.
    pub wants_floating_ip: bool,
    /// The operator's addresses, as the nodes see them.
    pub operator: BTreeSet<IpAddr>,
    /// The nodes' SSH host keys.
    pub host_keys: host_keys::HostKeys,
}

/// Paths of all files that `files` may want, for the probe; secrets are marked with `!`.
pub fn paths(version: u32) -> Vec<String> {
    let mut paths = vec![CREATECLUSTER.to_owned(), "/usr/local/bin/cluster-node".to_owned()];
    paths[1].insert(0, '!');
    for (path, secret) in all_paths(version) {
        paths.push(if secret { format!("!{path}") } else { path });
    }
    paths
}

fn all_paths(version: u32) -> Vec<(String, bool)> {
    let mut paths = vec![
        (postgresql_conf(version), false),
        (pg_hba(version), false),
        (pg_ident(version), false),
        ("/etc/repmgr.conf".into(), false),
        ("/var/lib/postgresql/.pgpass".into(), true),
        ("/etc/sudoers.d/cluster".into(), false),
        ("/etc/systemd/system/repmgrd.service".into(), false),
        ("/etc/systemd/system/cluster-node.service".into(), false),
        (postgresql_unit(version), false),
        (paths::CONFIG.into(), false),
        (paths::FAILOVER_TOKEN.into(), true),
        (paths::KEY.into(), true),
        (paths::CHECK_PASSWORD.into(), true),
        (paths::KNOWN_HOSTS.into(), false),
    ];
    paths.extend(backup::paths());
    paths
}

/// The path of the settings file.
pub fn postgresql_conf(version: u32) -> String {
    format!("/etc/postgresql/{version}/main/conf.d/90-cluster.conf")
}

/// Who may connect.
pub fn pg_hba(version: u32) -> String {
    format!("/etc/postgresql/{version}/main/pg_hba.conf")
}

/// The path of pg_ident.conf.
pub fn pg_ident(version: u32) -> String {
    format!("/etc/postgresql/{version}/main/pg_ident.conf")
}

fn postgresql_unit(version: u32) -> String {
    format!("/etc/systemd/system/postgresql@{version}-main.service.d/cluster.conf")
}

/// The file that must be there before packages are installed.
pub fn before_install() -> File {
    let content = Some(Content::Plain(Template::CreateCluster.render(&json!({}))));
    File { path: CREATECLUSTER.into(), mode: "644", owner: "root:root", content }
}

/// The files of one node.
pub fn files(
    inventory: &Inventory,
    means: &Means,
    addresses: &Addresses,
    node: &Node,
    members: &Configuration,
    extras: &Extras,
) -> Vec<File> {
    let version = inventory.postgresql.version;
    let port = inventory.postgresql.port;
    let known = inventory.nodes.iter().all(|node| addresses.hosts.contains_key(&node.name))
        && (!addresses.wants_floating_ip || addresses.floating_ip.is_some());
    let cluster = &inventory.cluster;
    let file = |path: String, mode, owner, content: Option<String>| File {
        path,
        mode,
        owner,
        content: content.map(Content::Plain),
    };
    let repmgr = addresses.hosts.get(&node.name).map(|host| {
        Template::Repmgr.render(&json!({
            "node": node.name, "cluster": cluster, "id": node.id, "version": version,
            "witness": node.role == Role::Witness, "conninfo": Config::conninfo(*host, port, version),
        }))
    });
    let pgpass =
        Template::Pgpass.render(&json!({"port": port, "password": means.repmgr_password.expose_secret()}));
    let unit = json!({"cluster": cluster, "version": version});
    let ident = Template::PgIdent.render(&json!({"node": node.name, "cluster": cluster}));
    let mut files = vec![
        file(
            postgresql_conf(version),
            "644",
            "postgres:postgres",
            postgresql_settings(inventory, node, extras),
        ),
        // The rules name the map: it is there first.
        file(pg_ident(version), "640", "postgres:postgres", Some(ident)),
        file(pg_hba(version), "640", "postgres:postgres", known.then(|| hba(inventory, addresses, node))),
        file("/etc/repmgr.conf".into(), "644", "root:root", repmgr),
        File {
            path: "/var/lib/postgresql/.pgpass".into(),
            mode: "600",
            owner: "postgres:postgres",
            content: Some(Content::Secret(pgpass.into())),
        },
        file("/etc/sudoers.d/cluster".into(), "440", "root:root", Some(Template::Sudoers.render(&unit))),
        file(
            "/etc/systemd/system/repmgrd.service".into(),
            "644",
            "root:root",
            Some(Template::RepmgrdService.render(&unit)),
        ),
        file(
            "/etc/systemd/system/cluster-node.service".into(),
            "644",
            "root:root",
            Some(Template::NodeService.render(&json!({
                "cluster": cluster, "version": version, "watchdog_ms": Timing::watchdog(inventory.failover.lease_ms),
            }))),
        ),
        node_file(inventory, means, addresses, node, members),
        File {
            path: paths::KEY.into(),
            mode: "600",
            owner: "root:root",
            content: Some(Content::Secret(means.cluster_key.clone())),
        },
        File {
            path: paths::CHECK_PASSWORD.into(),
            mode: "600",
            owner: "root:root",
            content: Some(Content::Secret(means.check_password.clone())),
        },
        file(paths::KNOWN_HOSTS.into(), "644", "root:root", addresses.host_keys.file(cluster)),
        file(
            postgresql_unit(version),
            "644",
            "root:root",
            Some(Template::PostgresqlUnit.render(&json!({"huge_pages_mib": huge_pages_mib(inventory, extras)}))),
        ),
    ];
    if node.role != Role::Witness {
        files.extend(backup::files(inventory, means));
    }
    // The witness moves nothing, but its vote needs to know whether a silent primary is off.
    if addresses.wants_floating_ip {
        files.push(File {
            path: paths::FAILOVER_TOKEN.into(),
            mode: "600",
            owner: "root:root",
            content: means.failover_token.clone().map(Content::Secret),
        });
    }
    files
}

/// How much memory PostgreSQL's unit sets aside in huge pages; none where the inventory decides itself.
fn huge_pages_mib(inventory: &Inventory, extras: &Extras) -> Option<u64> {
    let is_own = |name: &str| inventory.postgresql.settings.contains_key(name);
    match &extras.fitting {
        Fitting::To(fit) if !is_own("shared_buffers") && !is_own("huge_pages") => fit.huge_pages_mib(),
        _ => None,
    }
}

/// Between quotes PostgreSQL takes a backslash for an escape; what the operator wrote is meant as it stands.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''")
}

fn scope<'a>(inventory: &Inventory, node: &'a Node, extras: &'a Extras) -> Scope<'a> {
    Scope {
        version: inventory.postgresql.version,
        port: inventory.postgresql.port,
        node: &node.name,
        nodes: inventory.nodes.len(),
        archive_within_s: inventory.backup.as_ref().map_or(0, |backup| backup.archive_within_s),
        fit: match &extras.fitting {
            Fitting::To(fit) => Some(fit),
            Fitting::Off | Fitting::Unknown => None,
        },
        libraries: &extras.libraries,
    }
}

/// Our settings, for one node; none while it is not known what they are to fit.
fn postgresql_settings(inventory: &Inventory, node: &Node, extras: &Extras) -> Option<String> {
    let host = match &extras.fitting {
        Fitting::Off => None,
        Fitting::Unknown => return None,
        Fitting::To(fit) => Some(fit.size.words()),
    };
    let own = &inventory.postgresql.settings;
    let rendered = settings::render(scope(inventory, node, extras), own);
    let line = |name: &str, value: &str| json!({"name": name, "value": quoted(value)});
    let lines = |list: &[(&'static str, String)]| -> Vec<_> {
        list.iter().map(|(name, value)| line(name, value)).collect()
    };
    let with_why = |(name, value, why): &(&'static str, String, &'static str)| json!({"name": name, "value": quoted(value), "why": why});
    Some(Template::Postgresql.render(&json!({
        "node": node.name, "cluster": inventory.cluster, "host": host,
        "mandatory": lines(&rendered.mandatory), "defaults": lines(&rendered.defaults),
        "fitted": rendered.fitted.iter().map(with_why).collect::<Vec<_>>(),
        "brought": brought(own, extras).map(with_why).collect::<Vec<_>>(),
        "own": rendered.own.iter().map(|(name, value)| line(name, value)).collect::<Vec<_>>(),
    })))
}

/// What extensions bring and the inventory leaves as it is.
fn brought<'a>(
    own: &'a BTreeMap<String, String>,
    extras: &'a Extras,
) -> impl Iterator<Item = &'a (&'static str, String, &'static str)> {
    extras.settings.iter().filter(|(name, ..)| !own.contains_key(*name))
}

/// Where `try-settings.sh` makes its data directory.
const SCRATCH: &str = "/var/lib/postgresql/.cluster-trial";

/// The settings, as a node tries them: the same on all nodes that have the same values.
pub fn trial(inventory: &Inventory, extras: &Extras) -> String {
    let own = &inventory.postgresql.settings;
    let settings = settings::trial(scope(inventory, inventory.primary(), extras), own, SCRATCH);
    let brought = brought(own, extras).map(|(name, value, _)| ((*name).to_owned(), value.clone()));
    settings
        .into_iter()
        .chain(brought)
        .map(|(name, value)| format!("{name} = '{}'\n", quoted(&value)))
        .collect()
}

/// What a file of settings has, by name; what stands later counts.
pub fn values(conf: &str) -> BTreeMap<&str, &str> {
    let lines = conf.lines().filter_map(|line| line.split_once(" = "));
    lines
        .filter(|(name, _)| !name.starts_with('#'))
        // Behind a value may stand why it is so.
        .map(|(name, value)| {
            (name, value.rfind('\'').map_or(value, |end| &value[..end]).trim_start_matches('\''))
        })
        .collect()
}

fn hba(inventory: &Inventory, addresses: &Addresses, node: &Node) -> String {
    let single = |address: &IpAddr| {
        format!("{:<22}", format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
    };
    let peers: Vec<_> = inventory
        .nodes
        .iter()
        .filter_map(|peer| {
            let address = addresses.hosts.get(&peer.name)?;
            Some(json!({"address": single(address), "data": peer.role != Role::Witness}))
        })
        .collect();
    let mut clients: Vec<String> =
        inventory.clients.networks.iter().map(|network| format!("{:<22}", network.to_string())).collect();
    if inventory.clients.auto {
        clients.extend(addresses.operator.iter().map(single));
    }
    clients.dedup();
    Template::PgHba.render(&json!({
        "node": node.name, "cluster": inventory.cluster, "peers": peers, "clients": clients,
        "client_type": if inventory.clients.require_tls { "hostssl" } else { "host   " },
    }))
}

/// The node program's configuration, as a file; without content while it names an address that is not known yet.
pub fn node_file(
    inventory: &Inventory,
    means: &Means,
    addresses: &Addresses,
    node: &Node,
    members: &Configuration,
) -> File {
    let content = node_config(inventory, means, addresses, node, members).map(Content::Plain);
    File { path: paths::CONFIG.into(), mode: "644", owner: "root:root", content }
}

fn node_config(
    inventory: &Inventory,
    means: &Means,
    addresses: &Addresses,
    node: &Node,
    members: &Configuration,
) -> Option<String> {
    if addresses.wants_floating_ip && addresses.floating_ip.is_none() {
        return None;
    }
    let member = |node: &Node| {
        Some(Member {
            name: node.name.clone(),
            id: node.id,
            witness: node.role == Role::Witness,
            host: *addresses.hosts.get(&node.name)?,
            droplet_id: addresses.servers.get(&node.name).copied(),
        })
    };
    let voters = inventory.nodes.iter().filter(|node| members.names.contains(&node.name));
    let voters = voters.map(member).collect::<Option<Vec<Member>>>()?;
    let observer = if members.names.contains(&node.name) { None } else { Some(member(node)?) };
    let api_url = means.api_url.clone().or_else(|| match &inventory.provider {
        Provider::Existing(existing) => existing.floating_ip.as_ref()?.api_url.clone(),
        Provider::DigitalOcean(_) => None,
    });
    let floating_ip = addresses.floating_ip.map(|address| FloatingIp {
        address,
        api_url: api_url.unwrap_or_else(|| "https://api.digitalocean.com".into()),
    });
    let config = Config {
        cluster: inventory.cluster.clone(),
        node: node.name.clone(),
        version: inventory.postgresql.version,
        port: inventory.postgresql.port,
        generation: members.generation,
        members: voters,
        observer,
        floating_ip,
        failover: inventory.failover,
    };
    let mut text = serde_json::to_string_pretty(&config).expect("a configuration is plain data");
    text.push('\n');
    Some(text)
}
