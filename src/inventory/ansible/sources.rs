//! The files of an inventory: one, or a directory of them, and `group_vars/` and `host_vars/` beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::groups::Groups;
use super::value::{Data, Place, VAULT, Value, Vars};
use super::{Notes, document, ini, problem, yaml};
use crate::inventory::Problem;

/// Extensions of files in a directory that are no inventories to Ansible.
const IGNORED: &[&str] =
    &[".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg", ".retry"];

/// What Ansible itself is told.
pub(super) const CONFIGURATION: &str = "ansible.cfg";

/// Those that nobody takes for inventories.
const WASTE: &[&str] = &[".pyc", ".pyo", ".swp", "~", ".md", ".rst", ".retry"];

/// Extensions of files of variables, in the order in which Ansible looks for them.
const VARIABLES: &[&str] = &["", ".yml", ".yaml", ".json"];

/// What a text is.
pub(super) enum Format {
    Ini,
    Document(Value),
    /// An inventory of this program, or nothing that anybody knows.
    Other(Option<Value>),
}

/// Tells the formats apart.
pub(super) fn format(file: &Arc<Path>, text: &str, notes: &mut Notes) -> Result<Format, Problem> {
    let mut twice = yaml::Twice::default();
    let read = yaml::read(file, text, &mut twice);
    if read.is_err()
        && let Ok(Some(value)) = yaml::first(file, text)
        && (document::is_listing(&value) || document::is_groups(&value))
    {
        // What follows it is the mistake.
        return read.map(|_| Format::Ini);
    }
    if let Ok(Some(value)) = &read
        && (document::is_listing(value) || document::is_groups(value))
    {
        notes.twice.append(twice);
        return read.map(|value| value.map_or(Format::Ini, Format::Document));
    }
    if looks_like_ini(text) {
        return Ok(Format::Ini);
    }
    let yaml = file.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
    let groups = text.lines().any(|line| {
        ["all:", "ungrouped:", "  hosts:", "  children:"].iter().any(|begin| line.starts_with(begin))
    });
    match read {
        Err(problem) if yaml && groups => Err(problem),
        read => Ok(Format::Other(read.ok().flatten())),
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

fn is_host(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let pattern = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    name.chars().all(pattern) && !name.ends_with(':') && !name.starts_with(['-', '['])
        || ini::is_assignment(name)
}

/// Whether a text is the name of one host, which says too little where nothing tells that it is an inventory.
fn is_a_host(text: &str) -> bool {
    let mut lines = lines(text);
    lines.next().is_some_and(|line| is_host(line) && !line.contains(char::is_whitespace))
        && lines.next().is_none()
}

/// Whether a text has a section, or only lines that name hosts.
fn looks_like_ini(text: &str) -> bool {
    let mut lines = lines(text).peekable();
    let assigns = |line: &str| line.split_whitespace().skip(1).any(ini::is_assignment);
    let Some(first) = lines.peek() else { return false };
    if ini::section(first).is_some() || ini::not_alone(first).is_some() || (is_host(first) && assigns(first))
    {
        return true;
    }
    // A list of names alone; one is too little to tell.
    let lines: Vec<&str> = lines.collect();
    lines.iter().any(|line| ini::section(line).is_some()) && lines.iter().all(|line| !line.ends_with(':'))
        || lines.len() > 1
            && lines
                .iter()
                .all(|line| is_host(line) && (assigns(line) || !line.contains(char::is_whitespace)))
}

/// Reads an inventory that is a directory: its files by name, with those of the directories in it.
pub(super) fn directory(path: &Path, groups: &mut Groups, notes: &mut Notes) -> Vec<Problem> {
    let names = match names(path) {
        Ok(names) => names,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    for name in names {
        let special = ["group_vars", "host_vars", "vars_plugins", CONFIGURATION].contains(&name.as_str());
        if special || name.starts_with('.') {
            continue;
        }
        let is_ignored = IGNORED.iter().any(|end| name.ends_with(end));
        let is_waste = WASTE.iter().any(|end| name.ends_with(end));
        let path = path.join(name);
        if is_ignored {
            if !is_waste {
                notes.unread.push((path, "Ansible ignores this extension in a directory"));
            }
            continue;
        }
        if path.is_dir() {
            problems.extend(directory(&path, groups, notes));
            continue;
        }
        match text(&path) {
            Ok(text) => {
                problems.extend(file(&path, &text, groups, notes));
                notes.files.push(path);
            }
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// Reads one file of a directory.
fn file(path: &Path, text: &str, groups: &mut Groups, notes: &mut Notes) -> Vec<Problem> {
    let name: Arc<Path> = path.into();
    match format(&name, text, notes) {
        Ok(Format::Ini) => ini::read(&name, text, groups, notes),
        Ok(Format::Document(value)) => document::read(&value, groups, notes),
        Ok(Format::Other(_)) if super::is_empty(text) => Vec::new(),
        Ok(Format::Other(Some(value))) if document::names_groups(&value) => {
            document::read(&value, groups, notes)
        }
        Ok(Format::Other(_)) if is_a_host(text) => ini::read(&name, text, groups, notes),
        Ok(Format::Other(_)) => {
            let hint = "name the inventory itself with -i, or move the file out of the directory";
            vec![problem(&Place::Whole(name), "", "is not an Ansible inventory", hint)]
        }
        Err(problem) => vec![problem],
    }
}

/// The text of an inventory.
///
/// # Errors
/// If it cannot be read, is a program or is encrypted.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let place = Place::Whole(path.into());
    let bytes = fs::read(path).map_err(|error| {
        let hint = "name an inventory with -i FILE; `cluster up --help` shows the smallest one";
        problem(&place, "", format!("cannot be read: {error}"), hint)
    })?;
    if bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF") {
        let path = path.display();
        return Err(problem(
            &place,
            "",
            "is a program that makes an inventory; cluster does not run it",
            format!(
                "save what it makes: `ansible-inventory -i {path} --list --yaml --output inventory.yaml`"
            ),
        ));
    }
    if bytes.starts_with(VAULT.as_bytes()) {
        return Err(problem(
            &place,
            "",
            "is encrypted with Ansible Vault, which cluster does not decrypt",
            "keep only secrets encrypted: hosts, addresses and roles in a file that is not",
        ));
    }
    utf_8(bytes, &place)
}

/// Text without the mark that some editors put before it.
fn utf_8(bytes: Vec<u8>, place: &Place) -> Result<String, Problem> {
    let text =
        String::from_utf8(bytes).map_err(|_| problem(place, "", "is not UTF-8 text", "save it as UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Notes what is in `group_vars/` or `host_vars/` and belongs to nobody, or has a name that is not looked for.
pub(super) fn unread(
    directory: &Path,
    nobody: &'static str,
    is_known: impl Fn(&str) -> bool,
    notes: &mut Notes,
) {
    if directory.is_file() {
        notes.unread.push((directory.to_owned(), "it is not a directory"));
    }
    for name in names(directory).unwrap_or_default() {
        let path = directory.join(&name);
        if name.starts_with('.') || WASTE.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let stems = VARIABLES.iter().filter_map(|end| name.strip_suffix(end));
        let mut stems = stems.filter(|stem| !stem.is_empty());
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if stems.any(&is_known) {
            if !path.exists() {
                notes.unread.push((path, "it is a link to nothing"));
            }
        } else if is_known(&stem) {
            notes.unread.push((path, NOT_VARIABLES));
        } else {
            notes.unread.push((path, nobody));
        }
    }
}

/// Why Ansible does not read a file of variables either.
const NOT_VARIABLES: &str = "a file of variables has no extension, or .yml, .yaml or .json";

/// The variables in `group_vars/` or `host_vars/` that belong to a name.
pub(super) fn beside(directory: &Path, name: &str, notes: &mut Notes, problems: &mut Vec<Problem>) -> Vars {
    let mut vars = Vars::new();
    if name.is_empty() || name.contains('/') {
        return vars;
    }
    let mut found = VARIABLES
        .iter()
        .map(|extension| directory.join(format!("{name}{extension}")))
        .filter(|path| path.exists());
    let Some(first) = found.next() else { return vars };
    notes.shadowed.extend(found.map(|path| (path, first.clone())));
    let mut files = Vec::new();
    if first.is_dir() {
        in_directory(&first, &mut files, notes, problems)
    } else {
        files.push(first)
    }
    for file in files {
        vars.extend(variables(&file, notes, problems));
    }
    vars
}

fn in_directory(directory: &Path, files: &mut Vec<PathBuf>, notes: &mut Notes, problems: &mut Vec<Problem>) {
    let names = match names(directory) {
        Ok(names) => names,
        Err(problem) => return problems.push(problem),
    };
    for name in names {
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let path = directory.join(&name);
        let extension = path.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
        if path.is_dir() && extension.is_empty() {
            in_directory(&path, files, notes, problems);
        } else if path.is_file() && VARIABLES.contains(&extension.as_str()) {
            files.push(path);
        } else if !path.exists() {
            notes.unread.push((path, "it is a link to nothing"));
        } else {
            notes.unread.push((path, NOT_VARIABLES));
        }
    }
}

/// The variables of one file.
pub(super) fn variables(path: &Path, notes: &mut Notes, problems: &mut Vec<Problem>) -> Vars {
    let file: Arc<Path> = path.into();
    let place = Place::Whole(file.clone());
    let read = fs::read(path).map_err(|error| {
        let hint = "check the file's name and rights";
        problem(&place, "", format!("cannot be read: {error}"), hint)
    });
    let text = match read.and_then(|bytes| utf_8(bytes, &place)) {
        Ok(text) => text,
        Err(problem) => {
            problems.push(problem);
            return Vars::new();
        }
    };
    notes.files.push(path.to_owned());
    if text.starts_with(VAULT) {
        notes.encrypted.push(path.to_owned());
        return Vars::new();
    }
    match yaml::read(&file, &text, &mut notes.twice) {
        Ok(Some(Value { data: Data::Map(entries), .. })) => entries.into_iter().collect::<BTreeMap<_, _>>(),
        Ok(None) => Vars::new(),
        Ok(Some(value)) => {
            problems.push(problem(
                &value.place,
                "",
                "is not a file of variables",
                "write `key: value` lines",
            ));
            Vars::new()
        }
        Err(problem) => {
            problems.push(problem);
            Vars::new()
        }
    }
}

/// The names in a directory, in order.
fn names(path: &Path) -> Result<Vec<String>, Problem> {
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|error| {
        let hint = "check the directory's rights";
        problem(&Place::Whole(path.into()), "", format!("cannot be read: {error}"), hint)
    })
}
