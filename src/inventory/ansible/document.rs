//! Inventories in YAML or JSON: groups with `hosts`, `vars` and `children`, or the output of `ansible-inventory --list`.

use super::groups::Groups;
use super::value::{Data, Value};
use super::{Notes, problem, ranges};
use crate::inventory::Problem;

const SECTIONS: &[&str] = &["hosts", "vars", "children"];

const SHAPE: &str = "a group has the keys `hosts`, `vars` and `children`";

/// Whether this is the output of `ansible-inventory --list`, or of a script that Ansible would run.
pub(super) fn is_listing(value: &Value) -> bool {
    entries(value).is_some_and(|entries| entries.iter().any(|(key, _)| key == "_meta"))
}

/// Whether a mapping has a group in it.
pub(super) fn is_groups(value: &Value) -> bool {
    let is_group = |value: &Value| {
        let keys = entries(value).unwrap_or_default();
        keys.iter().any(|(key, value)| {
            let collection =
                matches!(value.data, Data::Map(_) | Data::Null | Data::Text(_) | Data::Unsafe(_));
            collection && SECTIONS.contains(&key.as_str())
        })
    };
    let groups = entries(value).unwrap_or_default();
    groups.iter().any(|(key, value)| is_group(value) || ["all", "ungrouped"].contains(&key.as_str()))
}

/// Whether a mapping has nothing but names with nothing below them, which can be groups.
pub(super) fn names_groups(value: &Value) -> bool {
    let is_empty = |value: &Value| value.data == Data::Null || value.data == Data::Map(Vec::new());
    entries(value).is_some_and(|entries| entries.iter().all(|(_, value)| is_empty(value)))
}

fn entries(value: &Value) -> Option<&[(String, Value)]> {
    match &value.data {
        Data::Map(entries) => Some(entries),
        _ => None,
    }
}

/// Adds what the document declares.
pub(super) fn read(document: &Value, groups: &mut Groups, notes: &mut Notes) -> Vec<Problem> {
    let mut problems = Vec::new();
    if is_listing(document) {
        listing(document, groups, &mut problems);
        return problems;
    }
    for (name, value) in entries(document).unwrap_or_default() {
        group(name, value, groups, notes, &mut problems);
    }
    problems
}

fn group(name: &str, value: &Value, groups: &mut Groups, notes: &mut Notes, problems: &mut Vec<Problem>) {
    groups.group(name);
    let sections = match &value.data {
        Data::Map(sections) => sections,
        Data::Null => return,
        _ => {
            problems.push(problem(&value.place, name, "is not a group: it must be a mapping", SHAPE));
            return;
        }
    };
    for (section, value) in sections {
        if !SECTIONS.contains(&section.as_str()) {
            notes.skipped.push((format!("{name}.{section}"), value.place.clone()));
            continue;
        }
        // A single name may stand alone.
        let single;
        let members = match &value.data {
            Data::Map(members) => members,
            Data::Null => continue,
            Data::Text(text) | Data::Unsafe(text) => {
                single = vec![(text.clone(), Value::new(Data::Null, &value.place))];
                &single
            }
            _ => {
                let hint = "write a mapping: each name followed by a colon";
                problems.push(problem(&value.place, format!("{name}.{section}"), "must be a mapping", hint));
                continue;
            }
        };
        for (member, value) in members {
            match section.as_str() {
                "vars" => {
                    if let Err(message) = groups.set(name, member, value.clone()) {
                        problems.push(problem(&value.place, name, message, "for instance 10"));
                    }
                }
                "children" => {
                    group(member, value, groups, notes, problems);
                    if let Err(message) = groups.adopt(name, member) {
                        problems.push(problem(
                            &value.place,
                            name,
                            message,
                            "take one of the two entries out",
                        ));
                    }
                }
                _ => host(member, value, name, groups, problems),
            }
        }
    }
}

fn host(pattern: &str, value: &Value, group: &str, groups: &mut Groups, problems: &mut Vec<Problem>) {
    let vars = match &value.data {
        Data::Map(vars) => vars.as_slice(),
        Data::Null => &[],
        _ => {
            let hint = "write its variables as a mapping, or nothing";
            problems.push(problem(&value.place, pattern, "must be a mapping", hint));
            return;
        }
    };
    match ranges::hosts(pattern) {
        Ok((hosts, port)) => {
            for name in hosts {
                groups.host(&name, port, group, &value.place).vars.extend(vars.iter().cloned());
            }
        }
        Err(message) => {
            problems.push(problem(&value.place, "", message, "for instance pg[1:3], pg[01:10:2] or pg[a:c]"));
        }
    }
}

/// The output of `ansible-inventory --list`: names of hosts and of children in lists, the hosts' variables apart.
fn listing(document: &Value, groups: &mut Groups, problems: &mut Vec<Problem>) {
    let all = entries(document).unwrap_or_default();
    for (name, value) in all.iter().filter(|(name, _)| name != "_meta") {
        groups.group(name);
        let hosts_alone;
        let sections = match &value.data {
            Data::Map(sections) => sections,
            Data::List(_) => {
                hosts_alone = vec![("hosts".to_owned(), value.clone())];
                &hosts_alone
            }
            _ => {
                problems.push(problem(&value.place, name, "is not a group", SHAPE));
                continue;
            }
        };
        for (section, value) in sections {
            match (section.as_str(), &value.data) {
                ("hosts", Data::List(hosts)) => {
                    for host in hosts {
                        if let Some(host_name) = one_name(host, name, problems) {
                            groups.host(&host_name, None, name, &host.place);
                        }
                    }
                }
                ("children", Data::List(children)) => {
                    for child in children {
                        let Some(child_name) = one_name(child, name, problems) else { continue };
                        if let Err(message) = groups.adopt(name, &child_name) {
                            problems.push(problem(&child.place, name, message, "take one of the two out"));
                        }
                    }
                }
                ("vars", Data::Map(vars)) => {
                    for (key, value) in vars {
                        if let Err(message) = groups.set(name, key, value.clone()) {
                            problems.push(problem(&value.place, name, message, "for instance 10"));
                        }
                    }
                }
                _ => problems.push(problem(
                    &value.place,
                    format!("{name}.{section}"),
                    "is not understood",
                    SHAPE,
                )),
            }
        }
    }
    let meta = all.iter().find(|(name, _)| name == "_meta").and_then(|(_, value)| entries(value));
    let hostvars = meta.and_then(|meta| meta.iter().find(|(name, _)| name == "hostvars"));
    for (name, value) in hostvars.and_then(|(_, value)| entries(value)).unwrap_or_default() {
        let Some(host) = groups.hosts.iter_mut().find(|host| host.name == *name) else { continue };
        match &value.data {
            Data::Map(vars) => host.vars.extend(vars.iter().cloned()),
            Data::Null => {}
            _ => problems.push(problem(
                &value.place,
                name,
                "must be a mapping",
                "write its variables as a mapping",
            )),
        }
    }
}

/// The name of a host or of a group in a list.
fn one_name(value: &Value, group: &str, problems: &mut Vec<Problem>) -> Option<String> {
    let name = value.scalar();
    if name.is_none() {
        let hint = "write names alone; variables of hosts stand under `_meta`";
        problems.push(problem(&value.place, group, "has something in its list that is no name", hint));
    }
    name
}
