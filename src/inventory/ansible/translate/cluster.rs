//! What is one for the whole cluster: its name, PostgreSQL, and who may connect.

use std::path::Path;

use serde_yaml::Value as Yaml;

use super::shape::{Shape, plain};
use super::{SEE, Translator};
use crate::inventory::ansible::value::Data;
use crate::inventory::shown::MISSING;

/// Variables that describe the cluster rather than a node, and the keys that they become.
const KEYS: &[(&str, &str, Shape)] = &[
    ("cluster_port", "postgresql.port", Shape::Number),
    ("cluster_settings", "postgresql.settings", Shape::Any),
    ("cluster_tune", "postgresql.tune", Shape::Truth),
    ("cluster_failover", "failover", Shape::Any),
    ("cluster_backup", "backup", Shape::Any),
    ("cluster_users", "users", Shape::Any),
    ("cluster_databases", "databases", Shape::Any),
    ("cluster_extensions", "extensions", Shape::Any),
];

/// Names that an inventory of any cluster may have: two clusters of one name would share their state.
const GENERIC: &[&str] = &["hosts", "host", "inventory", "inventories", "all"];

/// Extensions of inventories. What follows another dot is part of the name: `hosts.prod` and `hosts.staging` are two
/// clusters.
const EXTENSIONS: &[&str] = &["ini", "yml", "yaml", "json", "cfg", "txt"];

impl Translator<'_> {
    /// The cluster's name.
    pub(super) fn cluster(&mut self) -> String {
        let found = self.common(&["cluster_name"], Shape::Any);
        if self.is_refused("cluster_name") {
            self.missing("cluster", SEE);
            return MISSING.into();
        }
        if let Some((name, value)) = found {
            self.origin("cluster", Some(&name), Some(&value.place), None);
            return value.scalar().unwrap_or_default();
        }
        let path = &self.reading.path;
        let absolute = path.canonicalize().unwrap_or_else(|_| path.clone());
        let extension = absolute.extension().map(|it| it.to_string_lossy().to_lowercase());
        let is_known = extension.is_some_and(|it| EXTENSIONS.contains(&it.as_str()));
        let stem = match is_known && !absolute.is_dir() {
            true => absolute.file_stem(),
            false => absolute.file_name(),
        };
        let above = absolute.parent().and_then(Path::file_name);
        let [stem, above] = [stem, above].map(|name| as_name(&name.unwrap_or_default().to_string_lossy()));
        let place = self.inventory();
        let is_generic = |name: &String| name.is_empty() || GENERIC.contains(&name.as_str());
        let (name, remark) = match (is_generic(&stem), is_generic(&above)) {
            (false, _) => (stem, "the name of the inventory; set cluster_name for another"),
            (true, false) => (above, "the name of the inventory's directory; set cluster_name for another"),
            (true, true) => {
                let message = format!(
                    "is missing, and neither `{stem}` nor the directory `{above}` is a name for one cluster among several"
                );
                let hint = format!(
                    "set it for all hosts, for instance in group_vars/all.yaml: `cluster_name: demo`{}",
                    self.perhaps_in(None)
                );
                self.wrong(&place, "cluster_name", message, hint);
                self.missing("cluster", "a name of its own");
                return MISSING.into();
            }
        };
        self.origin("cluster", Some("cluster_name"), Some(&place), Some(remark));
        name
    }

    /// PostgreSQL, and what becomes a key as it is.
    pub(super) fn settings(&mut self) {
        match self.common(&["pg_version"], Shape::Number) {
            _ if self.is_refused("pg_version") => self.set_missing("postgresql.version"),
            Some((name, value)) => self.set_value("postgresql.version", &name, &value, Shape::Number),
            None => {
                self.set("postgresql.version", MISSING);
                self.missing("postgresql.version", "the major version of PostgreSQL");
                if !self.hosts.is_empty() {
                    let place = self.inventory();
                    let hint = format!(
                        "set it for all hosts, for instance in group_vars/all.yaml: `pg_version: 15`{}",
                        self.perhaps_in(None)
                    );
                    self.wrong(&place, "pg_version", "is missing", hint);
                }
            }
        }
        for (variable, key, shape) in KEYS {
            self.key(variable, key, *shape);
        }
    }

    /// Who may connect: `cluster_clients`, and the tutorial's `client_ip` with this machine.
    pub(super) fn clients(&mut self) {
        let own = self.common(&["cluster_clients"], Shape::List);
        let client_ip = self.common(&["client_ip"], Shape::List);
        let mut clients = Vec::new();
        if self.is_refused("cluster_clients") {
            self.set_missing("clients");
            return self.client_tls();
        }
        if let Some((name, value)) = &own {
            self.set_value("clients", name, value, Shape::List);
            match self.out.document.get("clients") {
                Some(Yaml::Sequence(items)) => clients.clone_from(items),
                // The checks say what it must be.
                _ => return self.client_tls(),
            }
        } else if client_ip.is_some() || self.is_refused("client_ip") {
            clients.push("auto".into());
            let remark = "this machine, from which `up` writes once at its end";
            self.origin("clients[0]", None, None, Some(remark));
        }
        if self.is_refused("client_ip") {
            self.missing(&format!("clients[{}]", clients.len()), SEE);
            clients.push(MISSING.into());
        } else if let Some((name, value)) = client_ip {
            let several = match &value.data {
                Data::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&value),
            };
            for value in several {
                let client = plain(value);
                if !clients.contains(&client) {
                    let key = format!("clients[{}]", clients.len());
                    self.origin(&key, Some(&name), Some(&value.place), None);
                    clients.push(client);
                }
            }
        }
        if !clients.is_empty() {
            self.set("clients", clients);
        }
        self.client_tls();
    }

    fn client_tls(&mut self) {
        self.key("cluster_client_tls", "client_tls", Shape::Truth);
    }
}

/// Text as the name of a cluster has it.
fn as_name(text: &str) -> String {
    let text = text.to_lowercase();
    let sound = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    text.chars().map(sound).collect::<String>().trim_matches('-').to_owned()
}
