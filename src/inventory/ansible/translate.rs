//! From the variables of the hosts to an inventory of this program, as the YAML that a person would write, with where
//! each value comes from. Nothing is validated here that the inventory's own checks validate.

mod addresses;
mod cluster;
mod nodes;
mod reach;
mod shape;
mod translation;
mod unknown;

use std::collections::BTreeSet;
use std::path::Path;

use serde_yaml::{Mapping, Value as Yaml};

use super::value::{Closed, Data, Place, Value, Vars};
use super::{Reading, problem, sources};
use crate::inventory::shown::MISSING;
use shape::Shape;
pub use translation::{Origin, Translation};

/// Variables that may be a list or a mapping; what each must be, the inventory's own checks say. All others have one value.
const COLLECTIONS: &[&str] = &[
    "client_ip",
    "cluster_backup",
    "cluster_clients",
    "cluster_databases",
    "cluster_extensions",
    "cluster_failover",
    "cluster_floating_ip",
    "cluster_settings",
    "cluster_users",
];

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
    it.settings();
    it.clients();
    it.nodes();
    it.addresses();
    it.rest();
    it.out
}

impl<'a> Translator<'a> {
    fn wrong(&mut self, place: &Place, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        let problem = problem(place, key, message, hint);
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn warn(&mut self, warning: String) {
        if !self.out.warnings.contains(&warning) {
            self.out.warnings.push(warning);
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
        let Some((_, value)) = self.common(&["cluster_group"], Shape::Any) else { return };
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
            self.warn(format!(
                "{name} ({}) takes precedence over {other} ({}), as it does in Ansible",
                value.place, overruled.place
            ));
        }
        let (message, hint, place) = match value.closed() {
            Some((Closed::Vault, place)) => (
                "is encrypted with Ansible Vault, which cluster does not decrypt",
                format!("write the value in plain text, or give it with -e: {name}=…"),
                place.clone(),
            ),
            Some((Closed::Template, place)) => (
                "is a Jinja expression, which cluster does not evaluate",
                format!("write the value itself, or give it with -e: {name}=…"),
                place.clone(),
            ),
            None if value.is_several() && !COLLECTIONS.contains(&name.as_str()) => (
                "must be one value, and is a list or a mapping",
                "write it as one text or number, without brackets, braces and dashes".to_owned(),
                value.place.clone(),
            ),
            None => return Some((name, value)),
        };
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
    fn common(&mut self, names: &[&str], shape: Shape) -> Option<(String, Value)> {
        let mut first: Option<(usize, String, Value)> = None;
        for index in 0..self.hosts.len() {
            let Some((name, value)) = self.get(index, names) else { continue };
            match &first {
                None => first = Some((index, name, value)),
                Some((_, _, known)) if shape.same(known, &value) => {}
                Some((other, _, known)) => {
                    let (host, other) = (self.host(index).0, self.host(*other).0);
                    // What is a mapping otherwise may be a password here.
                    let is_told = !COLLECTIONS.contains(&name.as_str()) || shape == Shape::List;
                    let message = match (value.scalar(), known.scalar()) {
                        (Some(own), Some(others)) if is_told => {
                            format!("is `{own}` for {host}, but `{others}` for {other} ({})", known.place)
                        }
                        _ => format!("is not the same for {host} as for {other} ({})", known.place),
                    };
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
        let found = self.common(&[variable], shape);
        if self.is_refused(variable) {
            self.set_missing(key);
        } else if let Some((name, value)) = found {
            self.set_value(key, &name, &value, shape);
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
}
