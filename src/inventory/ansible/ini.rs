//! Inventories in Ansible's INI format.
//!
//! `[GROUP]` lists hosts with their variables, `[GROUP:children]` groups, `[GROUP:vars]` variables; what comes before
//! the first section is in no group. A line is one entry, whatever its indentation: Ansible knows no continuation.
//!
//! One thing is read here that Ansible reads as something else: a line of a group of hosts that begins with an
//! assignment. Ansible takes it for a host of the name `node_id=1`. No host has such a name; the tutorial's page breaks each
//! host's line in two, and whoever copies it has that. It belongs to the host before it, as long as that one
//! lacks these variables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Notes;
use super::groups::Groups;
use super::value::{Place, Vars};
use super::{literal, problem, ranges, words};
use crate::inventory::Problem;

/// What the lines of a section are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hosts,
    Children,
    Vars,
    /// A section that is refused: its lines would be refused for the same reason.
    Refused,
}

struct Reader<'a> {
    groups: &'a mut Groups,
    notes: &'a mut Notes,
    problems: Vec<Problem>,
    /// The host of the line before, and where that stands: none if it named several.
    before: Option<(String, Place)>,
    /// Groups that are named before they are declared, with the place.
    awaited: BTreeMap<String, (Place, Kind)>,
    /// `[GROUP:children]` entries, which may name a group that is declared below them.
    children: Vec<(String, String, Place)>,
}

/// Adds what the text declares.
pub(super) fn read(file: &Arc<Path>, text: &str, groups: &mut Groups, notes: &mut Notes) -> Vec<Problem> {
    let mut reader = Reader {
        groups,
        notes,
        problems: Vec::new(),
        before: None,
        awaited: BTreeMap::new(),
        children: Vec::new(),
    };
    let (mut group, mut kind) = ("ungrouped".to_owned(), Kind::Hosts);
    for (index, line) in text.lines().enumerate() {
        let place = Place::Line(file.clone(), index as u64 + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some((name, suffix)) = section(line) {
            kind = match suffix {
                None | Some("hosts") => Kind::Hosts,
                Some("children") => Kind::Children,
                Some("vars") => Kind::Vars,
                Some(other) => {
                    reader.wrong(
                        &place,
                        format!("`{other}` is not a kind of section"),
                        "write [GROUP], [GROUP:children] or [GROUP:vars]",
                    );
                    Kind::Refused
                }
            };
            name.clone_into(&mut group);
            reader.section(name, kind, &place);
            continue;
        }
        if let Some(section) = not_alone(line) {
            let hint = "a section stands alone on its line, and a comment behind it begins with `#`";
            reader.wrong(&place, format!("`{section}` has something behind it"), hint);
            kind = Kind::Refused;
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            let hint = "a group's name has no spaces: write [GROUP]";
            let message = match line.contains('=') {
                true => "is not a section".to_owned(),
                false => format!("`{line}` is not a section"),
            };
            reader.wrong(&place, message, hint);
            continue;
        }
        match kind {
            Kind::Hosts => reader.host(line, &group, &place),
            Kind::Children => {
                let child = line.split('#').next().unwrap_or(line).trim();
                if child.contains([':', ']', '=']) || child.contains(char::is_whitespace) {
                    let hint =
                        format!("below [{group}:children] stands one group on each line, and nothing else");
                    reader.wrong(&place, "is not the name of a group", hint);
                } else {
                    reader.children.push((group.clone(), child.to_owned(), place));
                }
            }
            Kind::Vars => reader.variable(line, &group, &place),
            Kind::Refused => {}
        }
    }
    reader.end();
    reader.problems
}

/// The name of the group and what follows the colon, if the line is a section's.
pub(super) fn section(line: &str) -> Option<(&str, Option<&str>)> {
    let (inner, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_start();
    if !(rest.is_empty() || rest.starts_with('#')) || inner.contains(char::is_whitespace) {
        return None;
    }
    let (name, suffix) = match inner.split_once(':') {
        Some((name, suffix)) => (name, Some(suffix)),
        None => (inner, None),
    };
    let is_word = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    (!name.is_empty() && suffix.is_none_or(|suffix| !suffix.is_empty() && is_word(suffix)))
        .then_some((name, suffix))
}

/// The section that a line begins with, if something follows that is no comment. A range of hosts may look like one.
pub(super) fn not_alone(line: &str) -> Option<&str> {
    let (head, rest) = line.split_at(line.find(']')? + 1);
    let is_section = section(head).is_some() && ranges::hosts(head).is_err();
    (is_section && rest.starts_with([' ', '\t', ';', '['])).then_some(head)
}

/// Whether a word is an assignment and no host: `node_id=1`.
pub(super) fn is_assignment(word: &str) -> bool {
    variable_of(word).is_some()
}

/// The variable of an assignment.
pub(super) fn variable_of(word: &str) -> Option<&str> {
    word.split_once('=').map(|(name, _)| name).filter(|name| is_variable(name))
}

/// Whether this can be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Reader<'_> {
    fn wrong(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(problem(place, "", message, hint));
    }

    fn section(&mut self, name: &str, kind: Kind, place: &Place) {
        self.before = None;
        if kind == Kind::Vars {
            if !self.groups.has(name) {
                self.awaited.entry(name.to_owned()).or_insert((place.clone(), kind));
            }
        } else {
            self.groups.group(name);
            self.awaited.remove(name);
        }
    }

    fn host(&mut self, line: &str, group: &str, place: &Place) {
        let Ok(words) = words::with_comment(line) else {
            self.wrong(place, "a quote is not closed", "close it on the same line");
            return;
        };
        let Some(first) = words.first() else { return };
        if is_assignment(first) {
            self.rest_of_a_host(&words, place);
            return;
        }
        if first == "---" {
            self.wrong(
                place,
                "`---` begins a YAML file, and the rest is not YAML",
                "keep one of the formats",
            );
            return;
        }
        let vars = self.assignments(&words, 1, place);
        match ranges::hosts(first) {
            Ok((hosts, port)) => {
                for name in &hosts {
                    let host = self.groups.host(name, port, group, place);
                    host.vars.extend(vars.clone());
                }
                self.before = match &hosts[..] {
                    [one] => Some((one.clone(), place.clone())),
                    _ => None,
                };
            }
            Err(message) => {
                self.wrong(place, message, "for instance pg[1:3], pg[01:10:2] or pg[a:c]");
                self.before = None;
            }
        }
    }

    /// The rest of a broken line.
    fn rest_of_a_host(&mut self, words: &[String], place: &Place) {
        const JOIN: &str =
            "write a host and its variables on one line; a line that begins with an assignment has no host";
        // What they are may be a password.
        let names: Vec<&str> = words.iter().filter_map(|word| variable_of(word)).collect();
        let names = names.join(", ");
        let Some((name, above)) = self.before.take() else {
            let message =
                format!("a line with {names} has no host, and no line before it names a single one");
            self.wrong(place, message, JOIN);
            return;
        };
        let vars = self.assignments(words, 0, place);
        let Some(host) = self.groups.hosts.iter_mut().find(|host| host.name == name) else { return };
        if let Some((twice, value)) = vars.keys().find_map(|key| host.vars.get_key_value(key)) {
            let message = format!(
                "a line with {names} has no host: it looks like the rest of {name}'s line, but {name} has `{twice}` already ({})",
                value.place
            );
            self.wrong(place, message, JOIN);
            return;
        }
        host.vars.extend(vars);
        self.notes.broken.push((name, above, place.clone()));
    }

    /// The assignments among the words of a line, from the one with this index on.
    fn assignments(&mut self, words: &[String], first: usize, place: &Place) -> Vars {
        let mut vars = Vars::new();
        for (index, word) in words.iter().enumerate().skip(first) {
            match word.split_once('=') {
                Some((name, text)) => {
                    vars.insert(name.to_owned(), literal::value(text, place));
                }
                None => {
                    let hint =
                        "write `variable=value` without spaces, or with quotes around a value that has some";
                    self.wrong(place, format!("word {} is not an assignment", index + 1), hint);
                    // What follows may be its rest.
                    break;
                }
            }
        }
        vars
    }

    fn variable(&mut self, line: &str, group: &str, place: &Place) {
        let Some((name, text)) = line.split_once('=') else {
            // A word alone may be anything.
            let name =
                line.split_once([':', ' ', '\t']).map(|(name, _)| name).filter(|name| is_variable(name));
            let message = match name {
                Some(name) => format!("`{name}` has no `=` behind it"),
                None => "is not an assignment".to_owned(),
            };
            self.wrong(place, message, "write `variable=value`, one on a line");
            return;
        };
        let value = literal::value(text.trim(), place);
        if let Err(message) = self.groups.set(group, name.trim(), value) {
            self.wrong(place, message, "for instance 10");
        }
    }

    fn end(&mut self) {
        for (parent, child, place) in std::mem::take(&mut self.children) {
            // Variables alone do not declare a group.
            if !self.groups.has(&child) || self.awaited.contains_key(&child) {
                self.awaited.insert(child, (place, Kind::Children));
            } else if let Err(message) = self.groups.adopt(&parent, &child) {
                self.wrong(&place, message, "take one of the two entries out");
            }
        }
        for (name, (place, _)) in std::mem::take(&mut self.awaited) {
            self.wrong(
                &place,
                format!("there is no group `{name}`"),
                format!("declare it: a section [{name}] with its hosts"),
            );
        }
    }
}
