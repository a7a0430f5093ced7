//! Hosts, groups and their variables, as the sources declare them, and which variable takes precedence.

use std::collections::{BTreeMap, BTreeSet};

use super::value::{Data, Place, Value, Vars};

/// Every group's ancestor.
pub(super) const ALL: &str = "all";
/// The group of hosts that are in no other.
const UNGROUPED: &str = "ungrouped";

/// Hosts and groups, in the order in which they are first named.
#[derive(Debug)]
pub struct Groups {
    pub hosts: Vec<Host>,
    groups: Vec<Group>,
}

#[derive(Debug)]
pub struct Host {
    pub name: String,
    /// Where it is first named.
    pub place: Place,
    /// The variables of the inventory itself.
    pub(super) vars: Vars,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) vars: Vars,
    children: Vec<String>,
    hosts: Vec<String>,
    /// Among groups of one depth, the higher one takes precedence.
    priority: Option<i64>,
}

impl Default for Groups {
    fn default() -> Groups {
        let group = |name: &str| Group { name: name.into(), ..Group::default() };
        Groups { hosts: Vec::new(), groups: vec![group(ALL), group(UNGROUPED)] }
    }
}

impl Groups {
    pub(super) fn has(&self, group: &str) -> bool {
        self.groups.iter().any(|it| it.name == group)
    }

    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        let index = self.groups.iter().position(|it| it.name == name).unwrap_or_else(|| {
            self.groups.push(Group { name: name.into(), ..Group::default() });
            self.groups.len() - 1
        });
        &mut self.groups[index]
    }

    /// Puts a host into a group. A port behind the name is a variable.
    pub(super) fn host(&mut self, name: &str, port: Option<u16>, group: &str, place: &Place) -> &mut Host {
        let members = &mut self.group(group).hosts;
        if !members.iter().any(|it| it == name) {
            members.push(name.to_owned());
        }
        let index = self.hosts.iter().position(|it| it.name == name).unwrap_or_else(|| {
            let mut vars = Vars::new();
            if let Some(port) = port {
                vars.insert("ansible_port".into(), Value::new(Data::Integer(port.into()), place));
            }
            self.hosts.push(Host { name: name.into(), place: place.clone(), vars });
            self.hosts.len() - 1
        });
        &mut self.hosts[index]
    }

    /// Sets a variable of a group; its priority is none.
    ///
    /// # Errors
    /// If the priority is not a whole number.
    pub(super) fn set(&mut self, group: &str, name: &str, value: Value) -> Result<(), String> {
        let group = self.group(group);
        if name != "ansible_group_priority" {
            group.vars.insert(name.to_owned(), value);
            return Ok(());
        }
        let priority = value.scalar().and_then(|text| text.parse().ok());
        group.priority = Some(priority.ok_or("`ansible_group_priority` is not a whole number")?);
        Ok(())
    }

    /// Makes a group the child of another.
    ///
    /// # Errors
    /// If it would be its own ancestor.
    pub(super) fn adopt(&mut self, parent: &str, child: &str) -> Result<(), String> {
        if parent == child || self.ancestors(parent).contains(child) {
            return Err(format!("`{child}` would be a child of itself"));
        }
        self.group(child);
        let children = &mut self.group(parent).children;
        if !children.iter().any(|it| it == child) {
            children.push(child.to_owned());
        }
        Ok(())
    }

    /// All groups above one.
    fn ancestors(&self, group: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut open = vec![group];
        while let Some(name) = open.pop() {
            for parent in self.groups.iter().filter(|it| it.children.iter().any(|child| child == name)) {
                if found.insert(parent.name.as_str()) {
                    open.push(&parent.name);
                }
            }
        }
        found
    }

    /// The hosts of a group and of those below it.
    pub(super) fn members(&self, group: &str) -> Vec<&Host> {
        self.hosts.iter().filter(|host| group == ALL || self.of(&host.name).contains(group)).collect()
    }

    /// The groups that a host is in, those above included, without `all`.
    fn of(&self, host: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for group in self.groups.iter().filter(|it| it.hosts.iter().any(|name| name == host)) {
            found.insert(group.name.as_str());
            found.extend(self.ancestors(&group.name));
        }
        found.remove(ALL);
        // Whoever is in a group is not ungrouped, wherever the inventory puts it.
        if found.len() > 1 {
            found.remove(UNGROUPED);
        }
        if found.is_empty() {
            found.insert(UNGROUPED);
        }
        found
    }

    /// How far a group is below `all`, on the longest way.
    fn depth(&self, group: &str) -> usize {
        if group == ALL {
            return 0;
        }
        let parents = self.groups.iter().filter(|it| it.children.iter().any(|child| child == group));
        1 + parents.map(|parent| self.depth(&parent.name)).max().unwrap_or_default()
    }

    /// The groups of a host, the one that takes precedence last.
    pub(super) fn in_order(&self, host: &str) -> Vec<&Group> {
        let names = self.of(host);
        let mut groups: Vec<&Group> =
            self.groups.iter().filter(|group| names.contains(group.name.as_str())).collect();
        groups.sort_by_cached_key(|group| {
            (self.depth(&group.name), group.priority.unwrap_or(1), group.name.clone())
        });
        groups
    }

    /// The variables of the group `all`.
    pub(super) fn of_all(&self) -> &Vars {
        &self.groups[0].vars
    }

    /// The hosts and children of each group that has any, as `ansible-inventory --list` shows them.
    pub fn listing(&self) -> BTreeMap<&str, (Vec<&str>, Vec<&str>)> {
        let mut listing = BTreeMap::new();
        for group in &self.groups {
            let mut hosts: Vec<&str> = group.hosts.iter().map(String::as_str).collect();
            let mut children: Vec<&str> = group.children.iter().map(String::as_str).collect();
            match group.name.as_str() {
                ALL => {
                    hosts.clear();
                    let free = |it: &&Group| it.name != ALL && self.ancestors(&it.name).is_empty();
                    children.extend(self.groups.iter().filter(free).map(|it| it.name.as_str()));
                }
                UNGROUPED => {
                    let free = |host: &&Host| self.of(&host.name).contains(UNGROUPED);
                    hosts = self.hosts.iter().filter(free).map(|host| host.name.as_str()).collect();
                }
                _ => {}
            }
            if !hosts.is_empty() || !children.is_empty() {
                listing.insert(group.name.as_str(), (hosts, children));
            }
        }
        listing
    }
}
