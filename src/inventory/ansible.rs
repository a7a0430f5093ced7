//! Ansible inventories, read as they are.
//!
//! ```text
//! files ── ini, yaml or json + document ──► Groups ─┐
//! group_vars/, host_vars/, -e ── yaml or json ──────┴─ by precedence ──► Reading ── translate ──► Translation ─► Inventory
//! ```
//!
//! [`Groups`] is what the sources declare, [`Reading`] the hosts with their variables, the same as those that
//! `ansible-inventory --list` shows, and [`Translation`] the YAML of this program's own inventory. The inventory's own checks
//! read that YAML as if a person had written it; `cluster inventory convert` prints it. Every [`Value`] knows
//! the file and the line that it stands on, so that a refusal names the Ansible file and not the YAML between.
//!
//! The files of the 2020 tutorial, as the page prints them:
//!
//! ```text
//! digitalocean                                               group_vars/all.yaml
//! 1 [all]                                                    1 client_ip: "203.0.113.7"
//! 2 pg1 ansible_host=198.51.100.11 connection_host="…"       2 node1_ip: "198.51.100.11"
//! 3                                                          …
//! 4 node_id=1 role="primary"                                 5 pg_version: "12"
//! ```
//!
//! 1. `ini` makes the group `all` with the host `pg1`. Line 4 has no host: it is taken as the rest of line 2, which
//!    lacks both variables, and [`Notes`] remembers that.
//! 2. `sources` finds `group_vars/all.yaml` for the group `all`; `extra` reads `-e ansible_ssh_user=root`.
//! 3. `precedence` gives `pg1` its variables: `node_id` is 1 from line 4, `pg_version` the text `12`.
//! 4. `translate` makes `nodes[0].id: 1` (from `digitalocean:4`), `postgresql.version: 12` (from
//!    `group_vars/all.yaml:5`), `provider.existing.ssh_user: root` (from `-e`), `clients: [auto, 203.0.113.7]`; it
//!    compares `node1_ip` with `ansible_host`.
//! 5. The checks accept it, or refuse `nodes[0].id`, which is told as `digitalocean:4: pg1: node_id`.

mod convert;
mod document;
mod extra;
mod groups;
mod ini;
mod json;
mod literal;
mod ranges;
mod sources;
mod ssh_args;
mod translate;
mod value;
mod words;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use groups::Groups;
pub use translate::{Origin, Translation};
pub use value::{Data, Place, Value, Vars};

use super::{Inventory, Problem, Problems, Written, check, file};

/// An Ansible inventory: its hosts, with the variables that count for each.
#[derive(Debug)]
pub struct Reading {
    pub path: PathBuf,
    /// The format, in words.
    pub format: &'static str,
    pub groups: Groups,
    /// The variables of each host of `groups`, in its order.
    pub hosts: Vec<Vars>,
    notes: Notes,
}

/// What was noticed while reading.
#[derive(Debug, Default)]
struct Notes {
    /// Hosts whose line is broken, where it begins and where it goes on.
    broken: Vec<(String, Place, Place)>,
    /// Keys of a group that mean nothing.
    skipped: Vec<(String, Place)>,
    /// Files that cannot be read, because Ansible Vault has encrypted them.
    encrypted: Vec<PathBuf>,
    /// Files that Ansible does not read, because another one of the same name comes before.
    shadowed: Vec<(PathBuf, PathBuf)>,
    /// Directories of variables that belong to a playbook.
    elsewhere: Vec<PathBuf>,
    /// Hosts that have the name of a group.
    ambiguous: Vec<(String, Place)>,
    /// Files that are not read, and why.
    unread: Vec<(PathBuf, &'static str)>,
    /// Keys that two values stand for.
    twice: yaml::Twice,
    /// Every file that was read.
    files: Vec<PathBuf>,
}

/// A problem at a place.
fn problem(
    place: &Place,
    key: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Problem {
    let hint = hint.into();
    Problem {
        file: Some(place.file().to_owned()),
        key: key.into(),
        line: place.line(),
        message: message.into(),
        hint: (!hint.is_empty()).then_some(hint),
    }
}

/// Reads an inventory and tells whose it is.
///
/// # Errors
/// [`Problems`], if it cannot be read, or is neither.
pub(super) fn find(path: &Path, options: &[String]) -> Result<Written, Problems> {
    let refused = |list: Vec<Problem>| Problems { file: path.to_owned(), list, notes: Vec::new() };
    let (mut groups, mut notes) = (Groups::default(), Notes::default());
    let mut problems = Vec::new();
    let format = if path.is_dir() {
        problems.extend(sources::directory(path, &mut groups, &mut notes));
        "a directory"
    } else {
        if !path.exists()
            && let Some(problem) = list_of_hosts(path)
        {
            return Err(refused(vec![problem]));
        }
        let text = sources::text(path).map_err(|problem| refused(vec![problem]))?;
        let name: Arc<Path> = path.into();
        match sources::format(&name, &text, &mut notes).map_err(|problem| refused(vec![problem]))? {
            sources::Format::Ini => {
                problems.extend(ini::read(&name, &text, &mut groups, &mut notes));
                "INI"
            }
            sources::Format::Document(value) => {
                problems.extend(document::read(&value, &mut groups, &mut notes));
                if document::is_listing(&value) { "the output of ansible-inventory" } else { "YAML" }
            }
            sources::Format::Other(None) if is_empty(&text) => {
                let hint = "name an inventory with -i FILE; `cluster up --help` shows the smallest one";
                let place = Place::Whole(name);
                return Err(refused(vec![problem(&place, "", "has nothing in it", hint)]));
            }
            sources::Format::Other(value) => match neither(&name, value.as_ref()) {
                Some(problem) => return Err(refused(vec![problem])),
                None => return Ok(Written::Own(text)),
            },
        }
    };
    notes.files.insert(0, path.to_owned());
    let extra = extra::read(options, &mut notes, &mut problems);
    let hosts = precedence(path, &groups, &extra, &mut notes, &mut problems);
    if problems.is_empty() {
        return Ok(Written::Ansible(Box::new(Reading {
            path: path.to_owned(),
            format,
            groups,
            hosts,
            notes,
        })));
    }
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Err(Problems { file: path.to_owned(), list: problems, notes: notes.warnings() })
}

fn is_empty(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line == "---" || line.starts_with(['#', ';']))
}

/// `-i pg1,pg2,` is a list of hosts to Ansible.
fn list_of_hosts(path: &Path) -> Option<Problem> {
    let place = Place::Whole(path.into());
    let hint =
        "write the hosts into a file, and name that: `pg1 ansible_host=198.51.100.11 node_id=1 role=primary`";
    let message = "is a list of hosts, which cluster does not read: their variables have no place in it";
    path.to_string_lossy().contains(',').then(|| problem(&place, "", message, hint))
}

/// Says what a file is that is no inventory; none for what is to be read as one of this program.
fn neither(file: &Arc<Path>, value: Option<&Value>) -> Option<Problem> {
    const SHAPES: &str = "an inventory of cluster's has `cluster`, `provider`, `postgresql` and `nodes`; one of Ansible's has groups \
                          with `hosts`, or sections such as [all]";
    let place = Place::Whole(file.clone());
    let keys: Vec<&str> = match &value?.data {
        Data::Map(entries) => entries.iter().map(|(key, _)| key.as_str()).collect(),
        Data::List(items) => {
            let Data::Map(first) = &items.first()?.data else { return None };
            let is_play = first.iter().any(|(key, _)| ["tasks", "roles"].contains(&key.as_str()));
            let play = is_play && first.iter().any(|(key, _)| key == "hosts");
            let hint = "name the inventory, which ansible-playbook is given with -i";
            return play.then(|| problem(&place, "", "is a playbook and no inventory", hint));
        }
        _ => return None,
    };
    if keys.iter().any(|key| ["cluster", "provider", "postgresql", "nodes"].contains(key)) {
        return None;
    }
    let variables = ["ansible_", "cluster_", "node", "pg_version", "client_ip", "connection_host", "role"];
    if keys.iter().all(|key| variables.iter().any(|begin| key.starts_with(begin))) {
        let hint = "name the inventory with -i: variables are read from group_vars/ and host_vars/ beside it, or with `-e @FILE`";
        return Some(problem(&place, "", format!("has variables and no host: {}", keys.join(", ")), hint));
    }
    let message =
        format!("is no inventory: it has the keys {}, and no nodes, hosts or groups", keys.join(", "));
    Some(problem(&place, "", message, SHAPES))
}

/// The variables of every host. What comes later takes precedence: the inventory's variables of `all`, of the groups,
/// `group_vars/all`, `group_vars/` of the groups, the inventory's variables of the host, `host_vars/`, `-e`. Groups further
/// from `all` come later; among equals the higher `ansible_group_priority`, then the alphabet.
fn precedence(
    path: &Path,
    groups: &Groups,
    extra: &Vars,
    notes: &mut Notes,
    problems: &mut Vec<Problem>,
) -> Vec<Vars> {
    let beside = check::beside(path);
    let (group_vars, host_vars) = (beside.join("group_vars"), beside.join("host_vars"));
    sources::unread(&group_vars, "there is no such group", |name| groups.has(name), notes);
    let is_host = |name: &str| groups.hosts.iter().any(|host| host.name == name);
    sources::unread(&host_vars, "there is no such host", is_host, notes);
    configuration(path, beside, notes);
    let mut of_groups: BTreeMap<String, Vars> = BTreeMap::new();
    let mut of = |name: &str, notes: &mut Notes, problems: &mut Vec<Problem>| {
        let read = || sources::beside(&group_vars, name, notes, problems);
        of_groups.entry(name.to_owned()).or_insert_with(read).clone()
    };
    let mut hosts = Vec::new();
    for host in &groups.hosts {
        let ordered = groups.in_order(&host.name);
        let mut vars = groups.of_all().clone();
        for group in &ordered {
            vars.extend(group.vars.clone());
        }
        vars.extend(of(groups::ALL, notes, problems));
        for group in &ordered {
            vars.extend(of(&group.name, notes, problems));
        }
        vars.extend(host.vars.clone());
        vars.extend(sources::beside(&host_vars, &host.name, notes, problems));
        vars.extend(extra.clone());
        hosts.push(vars);
    }
    notes.elsewhere = of_playbooks(beside);
    let ambiguous = groups.hosts.iter().filter(|host| groups.has(&host.name));
    notes.ambiguous = ambiguous.map(|host| (host.name.clone(), host.place.clone())).collect();
    hosts
}

/// The directories of variables that a playbook would have, in the directory above and in the one where this runs. To Ansible
/// they come after those beside the inventory.
fn of_playbooks(beside: &Path) -> Vec<PathBuf> {
    let above = match beside.parent() {
        Some(above) => above.to_owned(),
        None => PathBuf::from(".."),
    };
    let in_each = |directory: PathBuf| ["group_vars", "host_vars"].map(|name| directory.join(name));
    let mut seen: BTreeSet<PathBuf> =
        in_each(beside.to_owned()).iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut is_new =
        |path: &PathBuf| path.is_dir() && path.canonicalize().is_ok_and(|real| seen.insert(real));
    [above, PathBuf::new()].into_iter().flat_map(in_each).filter(|path| is_new(path)).collect()
}

/// Ansible's own configuration, which Ansible reads where it runs.
fn configuration(path: &Path, beside: &Path, notes: &mut Notes) {
    let mut seen = BTreeSet::new();
    for directory in [beside, path.parent().unwrap_or(Path::new("")), Path::new("")] {
        let file = directory.join(sources::CONFIGURATION);
        if let Ok(real) = file.canonicalize()
            && seen.insert(real)
        {
            notes.unread.push((file, "it is Ansible's own configuration"));
        }
    }
}

impl Notes {
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.broken.is_empty() {
            let lines: Vec<String> =
                self.broken.iter().map(|(host, above, place)| format!("{place} ({host}, {above})")).collect();
            warnings.push(format!(
                "lines without a host are read as the rest of the host's line before them: {}. Join them: Ansible takes \
                 each for another host",
                lines.join(", ")
            ));
        }
        let list = |found: &[(String, Place)]| -> String {
            let found: Vec<String> = found.iter().map(|(name, place)| format!("{name} ({place})")).collect();
            found.join(", ")
        };
        if !self.skipped.is_empty() {
            warnings.push(format!(
                "keys that are none of a group have no effect: {}; a group has `hosts`, `vars` and `children`",
                list(&self.skipped)
            ));
        }
        for path in &self.encrypted {
            warnings.push(format!(
                "{} is encrypted with Ansible Vault: its variables have no effect",
                path.display()
            ));
        }
        for (path, first) in &self.shadowed {
            let (path, first) = (path.display(), first.display());
            warnings.push(format!("{path} has no effect, as with Ansible: {first} comes before it"));
        }
        let mut unread: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (path, why) in &self.unread {
            unread.entry(why).or_default().insert(path.display().to_string());
        }
        for (why, paths) in unread {
            let paths: Vec<String> = paths.into_iter().collect();
            warnings.push(format!("not read, because {why}: {}", paths.join(", ")));
        }
        let told = [
            (&self.twice.keys, "keys stand twice in one mapping, and the last one counts, as with Ansible"),
            (
                &self.twice.merged,
                "keys stand in two mappings of one list behind `<<`, of which the first counts here, and with Ansible \
                 sometimes the last",
            ),
        ];
        for (keys, what) in told {
            let keys: BTreeSet<String> =
                keys.iter().map(|(key, first, second)| format!("{key} ({first}, {second})")).collect();
            if !keys.is_empty() {
                let keys: Vec<String> = keys.into_iter().collect();
                warnings.push(format!("{what}: {}", keys.join(", ")));
            }
        }
        for (host, place) in &self.ambiguous {
            warnings.push(format!(
                "{host} ({place}) is the name of a host and of a group: Ansible gives the host's variables to the group. Give \
                 one of them another name"
            ));
        }
        for path in &self.elsewhere {
            warnings.push(format!(
                "{} belongs to a playbook and is not read: only what is beside the inventory is",
                path.display()
            ));
        }
        warnings
    }
}

impl Reading {
    /// Every file that was read, the inventory first.
    pub fn files(&self) -> &[PathBuf] {
        &self.notes.files
    }

    /// What it means to this program.
    pub fn translation(&self) -> Translation {
        translate::translate(self)
    }

    /// The inventory that it describes.
    ///
    /// # Errors
    /// [`Problems`], each with the place in Ansible's files.
    pub fn inventory(&self) -> Result<Inventory, Problems> {
        let translation = self.translation();
        self.checked(&translation)
    }

    /// The same, from its translation.
    ///
    /// # Errors
    /// As [`Reading::inventory`].
    pub fn checked(&self, translation: &Translation) -> Result<Inventory, Problems> {
        let notes = || translation.warnings.clone();
        let refused = |list: Vec<Problem>| Problems { file: self.path.clone(), list, notes: notes() };
        if !translation.problems.is_empty() {
            return Err(refused(translation.problems.clone()));
        }
        let (raw, mut list) = file::parse_value(translation.document.clone().into());
        match raw.map(|raw| check::check(&self.path, raw)) {
            Some(Ok(mut inventory)) if list.is_empty() => {
                inventory.password_files = translation.password_files();
                inventory.warnings =
                    inventory.warnings.iter().map(|warning| translation.named(warning)).collect();
                inventory.warnings.extend(notes());
                return Ok(inventory);
            }
            Some(Err(more)) => list.extend(more),
            Some(Ok(_)) | None => {}
        }
        let mut list: Vec<Problem> =
            list.into_iter().map(|problem| translation.placed(problem, &self.path)).collect();
        list.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(refused(list))
    }

    /// What the YAML says, wherever it will stand.
    pub fn document(&self, translation: &Translation) -> serde_yaml::Mapping {
        convert::document(self, translation)
    }

    /// The YAML of this program, with comments that say where each value comes from.
    pub fn convert(&self) -> String {
        convert::yaml(self, &self.translation())
    }
}
