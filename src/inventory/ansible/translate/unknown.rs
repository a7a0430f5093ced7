//! Variables that mean nothing here.

use std::collections::{BTreeMap, BTreeSet};

use super::Translator;
use crate::inventory::ansible::value::{Closed, Place};
use crate::inventory::file;

/// Passwords that Ansible logs in with.
const LOGIN_PASSWORDS: &[&str] = &[
    "ansible_password",
    "ansible_ssh_pass",
    "ansible_ssh_password",
    "ansible_become_password",
    "ansible_become_pass",
    "ansible_sudo_pass",
];

/// What this program's own variables begin with.
const OWN: &str = "cluster_";

impl Translator<'_> {
    /// Says what is not understood, and what the reading noticed.
    pub(super) fn rest(&mut self) {
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
