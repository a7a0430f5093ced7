//! What follows from the steps of a plan: reloads and restarts that hosts ask for once their files have changed. And
//! what the inventory says and nobody does.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use cluster_contract::paths;

use super::Planner;
use crate::facts::{Host, HostFacts, Server};
use crate::inventory::{Node, Provider, Role};
use crate::plan::TroubleKind;
use crate::plan::files::{self, Content, FileChange};
use crate::plan::{Action, Consequence, Interruption, Risk, Trouble, roles};
use crate::settings;

impl<'a> Planner<'a> {
    pub(super) fn then(&mut self) {
        let version = self.inventory.postgresql.version;
        let (conf, hba) = (files::postgresql_conf(version), files::pg_hba(version));
        let (mut reload, mut shrinks) = (Vec::new(), false);
        let (mut raised, mut lowered): (BTreeSet<String>, BTreeSet<String>) = Default::default();
        let (mut read, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut restart: Vec<&Node> = Vec::new();
        let mut services: [(&str, Vec<&Node>); 3] =
            [("repmgrd", Vec::new()), ("cluster-node", Vec::new()), ("cluster-backup", Vec::new())];
        for node in &self.inventory.nodes {
            let Some(host) = self.host(&node.name).up() else { continue };
            let changes = self.file_changes(&node.name);
            if host.postgres.is_some() && changes.iter().any(|file| file.path == conf || file.path == hba) {
                reload.push(node);
            }
            if let Some(file) = changes.iter().find(|file| file.path == conf)
                && host.postgres.is_some()
            {
                let changed = changed_settings(file);
                if changed.iter().any(|it| it.restart) {
                    restart.push(node);
                }
                for Changed { name, restart, held } in changed {
                    shrinks |= held == Some(Ordering::Less);
                    // The witness follows nobody.
                    match held.filter(|_| node.role != Role::Witness) {
                        Some(Ordering::Greater) => _ = raised.insert(name.clone()),
                        Some(Ordering::Less) => _ = lowered.insert(name.clone()),
                        Some(Ordering::Equal) | None => {}
                    }
                    // What an extension's own wait for, only the extension knows.
                    if !restart && name.contains('.') {
                        continue;
                    }
                    let names = if restart { &mut names } else { &mut read };
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            for (unit, nodes) in &mut services {
                if changes.iter().any(|file| is_read_by(unit, &file.path)) && runs(host, unit) {
                    nodes.push(node);
                }
            }
        }
        self.one_way_at_a_time(&raised, &lowered);
        let plain = |nodes: &[&Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        if !reload.is_empty() {
            let mut action = "reload PostgreSQL".to_owned();
            if let Some((first, rest)) = read.split_at_checked(SHOWN_SETTINGS)
                && rest.len() > 1
            {
                action += &format!(" for {} and {} more", first.join(", "), rest.len());
            } else if !read.is_empty() {
                action += &format!(" for {}", read.join(", "));
            }
            let reload = Consequence::safe("reload", action, plain(&reload));
            self.plan.then.push(Consequence { settings: read, ..reload });
        }
        let rank = |node: &&Node| match roles::role(self.inventory, &self.primary, node) {
            Role::Standby => {
                if shrinks {
                    2
                } else {
                    0
                }
            }
            Role::Witness => 1,
            Role::Primary => {
                if shrinks {
                    0
                } else {
                    2
                }
            }
        };
        restart.sort_by_key(rank);
        if !restart.is_empty() {
            let action = format!("restart PostgreSQL for {}", names.join(", "));
            let told = Action::Restart { settings: names.clone() };
            let interrupts = restart.iter().filter_map(|node| {
                Some(Interruption { node: node.name.clone(), what: self.interrupts(node, &told)? })
            });
            let (kind, nodes, interrupts) = (told.kind(), plain(&restart), interrupts.collect());
            self.plan.then.push(Consequence {
                kind,
                action,
                nodes,
                risk: Risk::Restart,
                settings: names,
                interrupts,
            });
        }
        for (unit, mut nodes) in services {
            nodes.sort_by_key(|node| match roles::role(self.inventory, &self.primary, node) {
                Role::Witness => 0,
                Role::Standby => 1,
                Role::Primary => 2,
            });
            if !nodes.is_empty() {
                let action = format!("restart {unit}");
                self.plan.then.push(Consequence::safe("restart-services", action, plain(&nodes)));
            }
        }
    }

    /// Where such settings rise, standbys are restarted first; where they fall, the primary is. For both at once there is no order
    /// in which a standby never has less than its primary.
    fn one_way_at_a_time(&mut self, raised: &BTreeSet<String>, lowered: &BTreeSet<String>) {
        let has_standbys = self.inventory.nodes.iter().any(|node| node.role == Role::Standby);
        // What nodes do not agree about, since only some of them had an earlier change, cannot be left as it is.
        let list = |names: &BTreeSet<String>, others: &BTreeSet<String>| {
            names.difference(others).map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let (raised, lowered) = (list(raised, lowered), list(lowered, raised));
        if !has_standbys || raised.is_empty() || lowered.is_empty() {
            return;
        }
        // As the manual says of each of these settings.
        let what = if self.inventory.postgresql.version < 14 { "stops" } else { "stops replaying" };
        self.refuse(
            TroubleKind::Changed,
            None,
            format!(
                "{raised} would rise and {lowered} would fall in one run: whichever of primary and standby restarts first, the \
                 standby has less of one than the primary, and {what}"
            ),
            format!("change one after the other: leave {lowered} as it is under postgresql.settings for this run"),
        );
    }

    fn file_changes(&self, node: &str) -> Vec<FileChange> {
        let steps = self.plan.steps.iter().filter(|step| step.node.as_deref() == Some(node));
        let files = steps.filter_map(|step| match &step.action {
            Action::WriteFiles { files } => Some(files.clone()),
            _ => None,
        });
        files.flatten().collect()
    }

    /// A repository is never taken away by an edit: whoever forgets the key must not lose the backups.
    fn backups_without_a_key(&mut self) {
        let has_repository =
            |host: &Host| host.up().is_some_and(|host| host.files.contains_key(paths::BACKUP));
        if self.inventory.backup.is_none() && self.facts.hosts.values().any(has_repository) {
            self.plan.notes.push(Trouble {
                kind: TroubleKind::Ignored,
                node: None,
                message: "the cluster is backed up, and the inventory has no `backup` key: backups continue, but WAL is \
                          no longer archived within a minute"
                    .into(),
                hint: "put `backup` back".into(),
            });
        }
    }

    /// Text in a collation other than C is sorted by the system's libraries, whose order changes between releases. What one
    /// system has indexed may be in the wrong order for another, and a standby has the primary's indexes as they are.
    fn systems_that_sort_differently(&mut self) {
        let mut systems: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for node in self.inventory.nodes.iter().filter(|node| node.role != Role::Witness) {
            if let Some(host) = self.host(&node.name).up() {
                systems.entry(format!("{} {}", host.os, host.codename)).or_default().push(&node.name);
            }
        }
        if systems.len() < 2 {
            return;
        }
        let what: Vec<String> =
            systems.into_iter().map(|(system, nodes)| format!("{} on {system}", nodes.join(", "))).collect();
        self.plan.notes.push(Trouble {
            kind: TroubleKind::SystemsDiffer,
            node: None,
            message: format!(
                "nodes with data run different systems: {}; they may sort text in collations other than C differently",
                what.join(", ")
            ),
            hint: "move all of them to one system; after a switchover to another one, rebuild the indexes that \
                   docs/operations.md tells how to find (\"Another system under the same data\")"
                .into(),
        });
    }

    /// Keys that only count when something is made.
    pub(super) fn ignored(&mut self) {
        self.backups_without_a_key();
        self.systems_that_sort_differently();
        let Provider::DigitalOcean(provider) = &self.inventory.provider else { return };
        let Some(cloud) = &self.facts.cloud else { return };
        let mut notes = Vec::new();
        if let (false, Some(address)) = (provider.floating_ip, &cloud.floating_ip) {
            let address = address.address;
            notes.push(Trouble {
                kind: TroubleKind::Ignored,
                node: None,
                message: format!(
                    "the cluster keeps its floating IP {address}: `floating_ip: false` is ignored"
                ),
                hint: "set `floating_ip: true`: a cluster keeps its address for life".into(),
            });
        }
        let region = |_: &'a Node| provider.region.as_str();
        let image = |node: &'a Node| provider.image_of(node);
        // Without it, it is the region's default, whichever that is.
        let vpc = |_: &'a Node| provider.vpc.as_deref().unwrap_or_default();
        type Has = fn(&Server) -> Option<&str>;
        type Wanted<'a, 'f> = &'f dyn Fn(&'a Node) -> &'a str;
        let keys: [(&str, Has, Wanted<'a, '_>); 3] = [
            ("region", |server| server.region.as_deref(), &region),
            ("image", |server| server.image.as_deref(), &image),
            ("vpc", |server| server.vpc.as_deref(), &vpc),
        ];
        for (key, has, wanted) in keys {
            let mut others: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
            for node in &self.inventory.nodes {
                let (has, wanted) = (cloud.servers.get(&node.name).and_then(has), wanted(node));
                if let Some(has) = has.filter(|has| !wanted.is_empty() && *has != wanted) {
                    others.entry((has, wanted)).or_default().push(&node.name);
                }
            }
            for ((found, wanted), nodes) in others {
                let (names, have) = (nodes.join(", "), if nodes.len() == 1 { "has" } else { "have" });
                let hint = match key {
                    "image" => format!(
                        "the image of a droplet cannot change: set `image: {found}`, or make the node anew with `cluster replace {}`",
                        nodes[0]
                    ),
                    _ => format!(
                        "the {key} of a droplet cannot change: set `{key}: {found}`, or create a cluster under another name"
                    ),
                };
                notes.push(Trouble {
                    kind: TroubleKind::Ignored,
                    node: None,
                    message: format!(
                        "{names} {have} {key} {found}; `{key}: {wanted}` applies to new droplets only"
                    ),
                    hint,
                });
            }
        }
        self.plan.notes.extend(notes);
    }
}

/// So many settings of a reload are named to people; programs read all of them.
const SHOWN_SETTINGS: usize = 6;

/// A setting that a changed file changes.
struct Changed {
    name: String,
    /// Whether it waits for a restart.
    restart: bool,
    /// Which way it goes, if a standby must not have less of it than its primary.
    held: Option<Ordering>,
}

fn changed_settings(file: &FileChange) -> Vec<Changed> {
    let (Some(before), Some(Content::Plain(after))) = (&file.before, &file.content) else {
        return Vec::new();
    };
    let (before, after) = (files::values(before), files::values(after));
    let of = |values: &BTreeMap<&str, &'_ str>, name: &str| {
        values.get(name).copied().or(settings::fit::stock(name)).map(str::to_owned)
    };
    let mut names: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| of(&before, name) != of(&after, name));
    let number = |value: Option<String>| value.and_then(|value| value.parse::<i64>().ok());
    names
        .into_iter()
        .map(|name| {
            let is_held = settings::hot_standby().any(|(it, _)| it == name);
            let both = number(of(&before, name)).zip(number(of(&after, name)));
            let held = both.filter(|_| is_held).map(|(before, after)| after.cmp(&before));
            Changed { name: name.to_owned(), restart: settings::needs_restart(name), held }
        })
        .collect()
}

/// The files that a service says it has read.
fn is_read_by(unit: &str, path: &str) -> bool {
    match unit {
        "repmgrd" => ["/etc/repmgr.conf", "/etc/systemd/system/repmgrd.service"].contains(&path),
        "cluster-backup" => [paths::BACKUP, paths::PGBACKREST_CONF, files::BACKUP_UNIT].contains(&path),
        _ => ["/etc/cluster/node.json", "/etc/cluster/key", "/etc/systemd/system/cluster-node.service"]
            .contains(&path),
    }
}

fn runs(host: &HostFacts, unit: &str) -> bool {
    host.units.get(unit).is_some_and(|unit| unit.active == "active")
}
