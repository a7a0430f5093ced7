//! From the variables of the hosts to an inventory of this program, as the YAML that a person would write, with where
//! each value comes from. Nothing is validated here that the inventory's own checks validate.

mod nodes;
mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value as Yaml};

use super::value::{Closed, Data, Place, Value, Vars};
use super::{Reading, problem, sources};
use crate::inventory::{Problem, file};

/// An inventory of this program, made from an Ansible inventory.
#[derive(Debug, Default)]
pub struct Translation {
    /// What the YAML would be.
    pub document: Mapping,
    /// Where its values come from, by the path of their keys (`nodes[1].role`).
    pub origins: BTreeMap<String, Origin>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Reasons for which there is no inventory.
    pub problems: Vec<Problem>,
    /// Variables that are understood and change nothing here.
    pub quiet: Vec<(String, Place)>,
    /// Variables that are not understood.
    pub unknown: Vec<(String, Place)>,
    /// The names of the nodes, in order.
    pub nodes: Vec<String>,
    /// Keys without a value that the inventory needs.
    pub missing: BTreeMap<String, &'static str>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The variable; none where a value is part of one, or of no variable.
    pub variable: Option<String>,
    /// None for what this program adds.
    pub place: Option<Place>,
    /// Why it is what it is, where that is not plain.
    pub remark: Option<String>,
}

/// Passwords that Ansible logs in with.
const LOGIN_PASSWORDS: &[&str] = &[
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
];

/// Variables that describe the cluster rather than a node, and the keys that they become.
const KEYS: &[(&str, &str)] = &[
    ("cluster_port", "postgresql.port"),
    ("cluster_settings", "postgresql.settings"),
    ("cluster_tune", "postgresql.tune"),
    ("cluster_failover", "failover"),
    ("cluster_backup", "backup"),
    ("cluster_users", "users"),
    ("cluster_databases", "databases"),
    ("cluster_extensions", "extensions"),
];

/// What this program's own variables begin with.
const OWN: &str = "cluster_";

/// Stands for a value that the inventory needs and does not have. No check accepts it.
pub(super) const MISSING: &str = "???";

/// Names that an inventory of any cluster may have: two clusters of one name would share their state.
const GENERIC: &[&str] = &["hosts", "host", "inventory", "inventories", "all"];

/// What is told of a value that an error has been told of.
const SEE: &str = "see the error";

struct Translator<'a> {
    reading: &'a Reading,
    /// The hosts that become nodes: indexes of the reading's.
    hosts: Vec<usize>,
    out: Translation,
    used: BTreeSet<String>,
    /// Variables that have been refused, each with the host of the reading: that they are missing is no second mistake.
    refused: BTreeSet<(usize, String)>,
}

/// Translates what was read.
pub(super) fn translate(reading: &Reading) -> Translation {
    let hosts = (0..reading.hosts.len()).collect();
    let (used, refused) = Default::default();
    let mut it = Translator { reading, hosts, out: Translation::default(), used, refused };
    it.choose();
    let name = it.cluster();
    it.set("cluster", name);
    it.existing();
    it.postgresql();
    for (variable, key) in KEYS.iter().filter(|(_, key)| !key.starts_with("postgresql")) {
        it.key(variable, key, Shape::Any);
    }
    it.clients();
    it.nodes();
    it.addresses();
    it.rest();
    it.out
}

/// The shapes that a value of a node or of the cluster may have in YAML.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Any,
    Number,
    Truth,
    /// A list, which a single value may stand for.
    List,
}

impl Shape {
    /// The value in this shape: what `-e key=value` gives is text, whatever it looks like.
    fn of(self, value: &Value) -> Yaml {
        let text = value.scalar();
        match (self, &value.data, text) {
            (Shape::Number, Data::Text(_), Some(text)) => {
                text.trim().parse::<u64>().map_or_else(|_| plain(value), Yaml::from)
            }
            (Shape::Truth, ..) => value.truth().map_or_else(|| plain(value), Yaml::from),
            (Shape::List, _, Some(_)) => Yaml::Sequence(vec![plain(value)]),
            _ => plain(value),
        }
    }
}

impl<'a> Translator<'a> {
    fn wrong(&mut self, place: &Place, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let problem = problem(place, key, message, hint);
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn inventory(&self) -> Place {
        Place::Whole(self.reading.path.as_path().into())
    }

    /// The host's name, and where it is first named.
    fn host(&self, index: usize) -> (&'a str, &'a Place) {
        let host = &self.reading.groups.hosts[self.hosts[index]];
        (&host.name, &host.place)
    }

    fn vars(&self, index: usize) -> &'a Vars {
        &self.reading.hosts[self.hosts[index]]
    }

    /// Restricts the nodes to the hosts of a group, if one is named.
    fn choose(&mut self) {
        let Some((_, value)) = self.common(&["cluster_group"]) else { return };
        let group = value.scalar().unwrap_or_default();
        let members: BTreeSet<&str> =
            self.reading.groups.members(&group).into_iter().map(|host| host.name.as_str()).collect();
        if !self.reading.groups.has(&group) {
            let hint = "name a group whose hosts are the nodes";
            self.wrong(&value.place, "cluster_group", format!("there is no group `{group}`"), hint);
            return;
        }
        self.hosts = (0..self.reading.hosts.len())
            .filter(|index| members.contains(self.reading.groups.hosts[*index].name.as_str()))
            .collect();
    }

    /// The value of a variable for one host; of several names the last one counts, as with Ansible. What is
    /// encrypted or an expression is refused.
    fn get(&mut self, index: usize, names: &[&str]) -> Option<(String, Value)> {
        let vars = self.vars(index);
        let mut found: Vec<(String, Value)> = Vec::new();
        for name in names {
            self.used.insert((*name).to_owned());
            if let Some(value) = vars.get(*name).filter(|value| value.data != Data::Null) {
                found.push(((*name).to_owned(), value.clone()));
            }
        }
        let (name, value) = found.pop()?;
        if let Some((other, overruled)) = found.pop().filter(|(_, other)| !other.same(&value)) {
            let warning = format!(
                "{name} ({}) takes precedence over {other} ({}), as it does in Ansible",
                value.place, overruled.place
            );
            if !self.out.warnings.contains(&warning) {
                self.out.warnings.push(warning);
            }
        }
        let Some((closed, place)) = value.closed() else { return Some((name, value)) };
        let (message, hint) = match closed {
            Closed::Vault => (
                "is encrypted with Ansible Vault, which cluster does not decrypt",
                format!("write the value in plain text, or give it with -e: {name}=…"),
            ),
            Closed::Template => (
                "is a Jinja expression, which cluster does not evaluate",
                format!("write the value itself, or give it with -e: {name}=…"),
            ),
        };
        let place = place.clone();
        self.wrong(&place, &name, message, hint);
        let host = self.hosts[index];
        self.refused.extend(names.iter().map(|name| (host, (*name).to_owned())));
        None
    }

    /// Whether a variable has been refused, for any host.
    fn is_refused(&self, name: &str) -> bool {
        self.refused.iter().any(|(_, refused)| refused == name)
    }

    /// Whether a variable of one host has been refused.
    fn is_refused_for(&self, index: usize, name: &str) -> bool {
        self.refused.contains(&(self.hosts[index], name.to_owned()))
    }

    /// Stands in the document for a value that has been refused.
    fn set_missing(&mut self, key: &str) {
        self.set(key, MISSING);
        self.missing(key, SEE);
    }

    /// The value of a variable that is one for all nodes: those that have it must agree.
    fn common(&mut self, names: &[&str]) -> Option<(String, Value)> {
        let mut first: Option<(usize, String, Value)> = None;
        for index in 0..self.hosts.len() {
            let Some((name, value)) = self.get(index, names) else { continue };
            match &first {
                None => first = Some((index, name, value)),
                Some((_, _, known)) if known.same(&value) => {}
                Some((other, _, known)) => {
                    let message = format!(
                        "is not the same for {} as for {} ({})",
                        self.host(index).0,
                        self.host(*other).0,
                        known.place
                    );
                    let place = value.place.clone();
                    self.wrong(&place, &name, message, "give all nodes the same value");
                }
            }
        }
        first.map(|(_, name, value)| (name, value))
    }

    /// Sets a key of the document, with the places of all that it holds.
    fn set_value(&mut self, key: &str, variable: &str, value: &Value, shape: Shape) {
        self.set(key, shape.of(value));
        self.origin(key, Some(variable), Some(&value.place), None);
        self.places(key, value);
    }

    /// Where the parts of a value stand.
    fn places(&mut self, key: &str, value: &Value) {
        let parts: Vec<(String, &Value)> = match &value.data {
            Data::Map(entries) => {
                entries.iter().map(|(name, value)| (format!("{key}.{name}"), value)).collect()
            }
            Data::List(items) => {
                items.iter().enumerate().map(|(index, value)| (format!("{key}[{index}]"), value)).collect()
            }
            _ => return,
        };
        for (key, value) in parts {
            self.origin(&key, None, Some(&value.place), None);
            self.places(&key, value);
        }
    }

    fn origin(&mut self, key: &str, variable: Option<&str>, place: Option<&Place>, remark: Option<&str>) {
        let origin = Origin {
            variable: variable.map(str::to_owned),
            place: place.cloned(),
            remark: remark.map(str::to_owned),
        };
        self.out.origins.insert(key.to_owned(), origin);
    }

    /// Sets a key of the document, whose path has no list in it.
    fn set(&mut self, key: &str, value: impl Into<Yaml>) {
        let mut at = &mut self.out.document;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.into(), value.into());
                return;
            }
            let below = at.entry(part.into()).or_insert_with(|| Mapping::new().into());
            let Yaml::Mapping(below) = below else { return };
            at = below;
        }
    }

    /// A variable that becomes a key as it is.
    fn key(&mut self, variable: &str, key: &str, shape: Shape) {
        let found = self.common(&[variable]);
        if self.is_refused(variable) {
            self.set_missing(key);
        } else if let Some((name, value)) = found {
            self.set_value(key, &name, &value, shape);
        }
    }

    /// The cluster's name.
    fn cluster(&mut self) -> String {
        let found = self.common(&["cluster_name"]);
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
        let stem = match absolute.is_dir() {
            true => absolute.file_name(),
            false => absolute.file_stem(),
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

    fn postgresql(&mut self) {
        match self.common(&["pg_version"]) {
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
        for (variable, key) in KEYS.iter().filter(|(_, key)| key.starts_with("postgresql")) {
            let shape = match *key {
                "postgresql.port" => Shape::Number,
                "postgresql.tune" => Shape::Truth,
                _ => Shape::Any,
            };
            self.key(variable, key, shape);
        }
    }

    /// The files that may hold what is missing, for the end of a hint: none of them is read.
    fn perhaps_in(&self, host: Option<&str>) -> String {
        let notes = &self.reading.notes;
        // What belongs to one host is of no other, and not of all.
        let of_another = |path: &Path| {
            let mut parts = path.iter().skip_while(|part| *part != "host_vars").skip(1);
            let of = parts.next().map(|name| name.to_string_lossy().into_owned());
            of.is_some_and(|of| host.is_none_or(|host| of.strip_prefix(host).is_none()))
        };
        let unread = notes.unread.iter().map(|(path, _)| path);
        let unread =
            unread.filter(|path| path.file_name().is_some_and(|name| name != sources::CONFIGURATION));
        let encrypted = notes.encrypted.iter().map(|path| ("encrypted", path));
        let unread = notes.elsewhere.iter().chain(unread).map(|path| ("not read", path));
        let files: Vec<String> = encrypted
            .chain(unread)
            .filter(|(_, path)| !of_another(path))
            .map(|(why, path)| format!("{}, which is {why}", path.display()))
            .collect();
        match files.is_empty() {
            true => String::new(),
            false => format!("; perhaps it stands in {}", files.join(", or in ")),
        }
    }

    fn missing(&mut self, key: &str, what: &'static str) {
        self.out.missing.insert(key.to_owned(), what);
    }

    /// Who may connect: `cluster_clients`, and the tutorial's `client_ip` with this machine.
    fn clients(&mut self) {
        let own = self.common(&["cluster_clients"]);
        let client_ip = self.common(&["client_ip"]);
        let mut clients = Vec::new();
        if self.is_refused("cluster_clients") {
            self.set_missing("clients");
            return self.client_tls();
        }
        if let Some((name, value)) = &own {
            self.set_value("clients", name, value, Shape::List);
            if let Some(Yaml::Sequence(items)) = self.out.document.get("clients") {
                clients.clone_from(items);
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

    /// The tutorial's `node1_ip`, `node2_ip`, …, which repeat addresses of the hosts.
    fn addresses(&mut self) {
        let all = (0..self.hosts.len()).flat_map(|index| self.vars(index).keys());
        let names: BTreeSet<&str> = all.map(String::as_str).collect();
        for name in names {
            let Some(id) = node_number(name) else { continue };
            let closed = |index: usize| self.vars(index).get(name)?.closed();
            if let Some((closed, place)) = (0..self.hosts.len()).find_map(closed) {
                // It says nothing that the inventory needs.
                let what = match closed {
                    Closed::Vault => "is encrypted with Ansible Vault",
                    Closed::Template => "is a Jinja expression",
                };
                self.out.warnings.push(format!("{name} ({place}) is compared with no address: it {what}"));
                self.used.insert(name.to_owned());
                continue;
            }
            let Some((_, value)) = self.common(&[name]) else { continue };
            let text = value.scalar().unwrap_or_default();
            let node = (0..self.hosts.len()).find(|index| self.number(*index, "node_id") == Some(id));
            let Some(node) = node else {
                self.out
                    .warnings
                    .push(format!("{name} ({}) has no effect: no host has node_id {id}", value.place));
                continue;
            };
            let mut own = Vec::new();
            for names in [&["ansible_host", "ansible_ssh_host"][..], &["connection_host"]] {
                own.extend(self.get(node, names));
            }
            if own.is_empty() {
                let (host, place) = self.host(node);
                own.push(("its name".into(), Value::text(host, place)));
            }
            if own.iter().all(|(_, own)| own.scalar().as_deref() != Some(&text)) {
                let (variable, has) = &own[0];
                let message = format!(
                    "is {text}, but {variable} of {} is {} ({})",
                    self.host(node).0,
                    has.scalar().unwrap_or_default(),
                    has.place
                );
                let place = value.place.clone();
                self.wrong(&place, name, message, "correct the one that is wrong");
            } else {
                self.out.quiet.push((format!("{name}, as the host says itself"), value.place));
            }
        }
    }

    fn number(&self, index: usize, name: &str) -> Option<u64> {
        self.vars(index).get(name)?.scalar()?.parse().ok()
    }

    /// Says what is not understood, and what the reading noticed.
    fn rest(&mut self) {
        let reading = self.reading;
        let mut unknown: BTreeMap<String, BTreeMap<Place, &'static str>> = BTreeMap::new();
        let mut passwords: BTreeMap<&str, Place> = BTreeMap::new();
        let mut misspelled: BTreeSet<(String, Place)> = BTreeSet::new();
        for host in &self.hosts {
            for (name, value) in &reading.hosts[*host] {
                if LOGIN_PASSWORDS.contains(&name.as_str()) {
                    passwords.entry(name).or_insert_with(|| value.place.clone());
                } else if name.starts_with(OWN) && !self.used.contains(name) {
                    misspelled.insert((name.clone(), value.place.clone()));
                } else if !self.used.contains(name) && name != "ansible_group_priority" {
                    let closed = match value.closed() {
                        Some((Closed::Vault, _)) => ", encrypted",
                        Some((Closed::Template, _)) => ", a Jinja expression",
                        None => "",
                    };
                    unknown.entry(name.clone()).or_default().insert(value.place.clone(), closed);
                }
            }
        }
        let mut warnings = reading.notes.warnings();
        if !unknown.is_empty() {
            let list: Vec<String> = unknown
                .iter()
                .map(|(name, places)| {
                    let places: Vec<String> =
                        places.iter().map(|(place, closed)| format!("{place}{closed}")).collect();
                    format!("{name} ({})", places.join(", "))
                })
                .collect();
            warnings
                .push(format!("variables that cluster does not know have no effect: {}", list.join(", ")));
        }
        for (name, place) in passwords {
            warnings.push(format!(
                "{name} ({place}) has no effect: cluster logs in with SSH keys, and uses sudo without a password"
            ));
        }
        warnings.append(&mut self.out.warnings);
        self.out.warnings = warnings;
        for (name, place) in misspelled {
            // What all of them begin with makes none of them more alike.
            let known: Vec<&str> = self.used.iter().filter_map(|name| name.strip_prefix(OWN)).collect();
            let hint = match file::nearest(name.strip_prefix(OWN).unwrap_or(&name), &known) {
                Some(nearest) => format!("did you mean `{OWN}{nearest}`?"),
                None => format!(
                    "take it out, or give it another name if it is not for cluster, whose own are {OWN}{}",
                    known.join(&format!(", {OWN}"))
                ),
            };
            self.wrong(&place, &name, "is no variable that cluster knows", hint);
        }
        for (name, places) in unknown {
            self.out.unknown.extend(places.into_keys().map(|place| (name.clone(), place)));
        }
        self.out.quiet.sort();
        self.out.quiet.dedup();
        self.out.problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    }
}

/// Text as the name of a cluster has it.
fn as_name(text: &str) -> String {
    let text = text.to_lowercase();
    let sound = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    text.chars().map(sound).collect::<String>().trim_matches('-').to_owned()
}

/// The number in `node1_ip`.
fn node_number(name: &str) -> Option<u64> {
    name.strip_prefix("node")?.strip_suffix("_ip")?.parse().ok()
}

/// The value as YAML.
fn plain(value: &Value) -> Yaml {
    match &value.data {
        Data::Null | Data::Vault => Yaml::Null,
        Data::Bool(on) => (*on).into(),
        Data::Integer(number) => (*number).into(),
        Data::Float(number) => (*number).into(),
        Data::Text(text) => text.as_str().into(),
        Data::List(items) => Yaml::Sequence(items.iter().map(plain).collect()),
        Data::Map(entries) => {
            Yaml::Mapping(entries.iter().map(|(key, value)| (key.as_str().into(), plain(value))).collect())
        }
    }
}

impl Translation {
    /// The files that passwords stand in.
    pub(super) fn password_files(&self) -> Vec<PathBuf> {
        let passwords = self.origins.iter().filter(|(key, _)| key.ends_with("].password"));
        let files: BTreeSet<PathBuf> = passwords
            .filter_map(|(_, origin)| origin.place.as_ref())
            .filter(|place| **place != Place::CommandLine)
            .map(|place| place.file().to_owned())
            .collect();
        files.into_iter().collect()
    }

    /// The variable that a key of the document comes from, or the key, and where it stands.
    pub(super) fn label(&self, key: &str) -> (String, Option<Place>) {
        let mut place = None;
        let mut at = key;
        while !at.is_empty() {
            if let Some(origin) = self.origins.get(at) {
                place = place.or_else(|| origin.place.clone());
                if let Some(variable) = &origin.variable {
                    let rest = &key[at.len()..];
                    let node = self.node_of(at).map(|name| format!("{name}: ")).unwrap_or_default();
                    return (format!("{node}{variable}{rest}"), place);
                }
            }
            at = at.rfind(['.', '[']).map_or("", |end| &at[..end]);
        }
        let label = match (self.node_of(key), key.split_once("].")) {
            (Some(name), Some((_, rest))) => format!("{name}: {rest}"),
            (Some(name), None) => name.to_owned(),
            _ => key.to_owned(),
        };
        (label, place)
    }

    fn node_of(&self, key: &str) -> Option<&str> {
        let index = key.strip_prefix("nodes[")?.split(']').next()?;
        self.nodes.get(index.parse::<usize>().ok()?).map(String::as_str)
    }

    /// A message of the inventory's checks, in which a node has its name.
    pub(super) fn named(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (index, name) in self.nodes.iter().enumerate() {
            message = message.replace(&format!("nodes[{index}]"), name);
        }
        message
    }

    /// A problem that the checks have found, where the Ansible inventory has its cause.
    pub(super) fn placed(&self, found: Problem, inventory: &Path) -> Problem {
        let (key, place) = self.label(&found.key);
        let place = place.unwrap_or_else(|| Place::Whole(inventory.into()));
        let mut hint = found.hint.unwrap_or_default();
        let origin = self.origins.get(&found.key).filter(|origin| origin.variable.is_none());
        if origin.is_some() && found.key.starts_with("nodes[") && found.key.ends_with("].name") {
            hint.push_str("; or keep the host's name, and set `cluster_node_name` for it");
        }
        problem(&place, key, self.named(&found.message), hint)
    }
}
