//! Inventories as Ansible reads them: the same hosts, groups and variables. `scripts/prerequisites.sh tests` installs the
//! ansible-core that this compares with; in CI it must be there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::inventory::ansible::Reading;
use cluster::inventory::{Source, Written};
use serde_json::Value;

const CASES: &str = "tests/data/ansible/compare";

/// What is compared: the variables of each host that has any, and the hosts and children of each group.
#[derive(Debug, Default, PartialEq)]
struct Listing {
    hosts: BTreeMap<String, Value>,
    groups: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

/// The program; none where nobody has installed it, which in CI is a mistake.
fn ansible_inventory() -> Option<PathBuf> {
    let program = std::path::absolute("target/ansible/bin/ansible-inventory").unwrap();
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing", program.display());
    // Past the test harness, which keeps back what a test that passes prints.
    let told = "\nSKIPPED: nothing is compared with Ansible; `scripts/prerequisites.sh tests` installs ansible-core\n";
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    None
}

/// The inventories, each in a directory of its own, and their `-e` options.
fn cases() -> Vec<(PathBuf, Vec<String>)> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(CASES).unwrap() {
        let directory = entry.unwrap().path();
        let names = ["hosts", "hosts.yaml", "hosts.yml", "hosts.json", "inventory"];
        let found: Vec<PathBuf> =
            names.iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect();
        let [inventory] = &found[..] else { panic!("{}: {found:?}", directory.display()) };
        let extra = std::fs::read_to_string(directory.join("extra-vars")).unwrap_or_default();
        cases.push((inventory.clone(), extra.lines().map(str::to_owned).collect()));
    }
    cases.sort();
    assert_eq!(cases.len(), 25);
    cases
}

/// What Ansible prints. It runs beside the inventory, where a playbook would be.
fn printed(program: &Path, inventory: &Path, extra: &[String], format: &[&str]) -> String {
    let mut command = Command::new(program);
    command.arg("-i").arg(inventory.file_name().unwrap()).arg("--list").args(format);
    for option in extra {
        command.args(["-e", option]);
    }
    // Neither the configuration of this machine nor that of its user.
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("ansible.cfg");
    std::fs::write(&config, "").unwrap();
    let output = command
        .current_dir(inventory.parent().unwrap())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8")])
        .env("ANSIBLE_CONFIG", config)
        .env("HOME", home.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", inventory.display());
    assert!(!errors.contains("Unable to parse"), "{}: {errors}", inventory.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Ansible says of a text that is no Jinja expression what it is.
fn without_marks(value: Value) -> Value {
    match value {
        Value::Object(mut entries) => match entries.remove("__ansible_unsafe") {
            Some(text) => text,
            None => entries.into_iter().map(|(key, value)| (key, without_marks(value))).collect(),
        },
        Value::Array(items) => items.into_iter().map(without_marks).collect(),
        other => other,
    }
}

fn theirs(json: &str) -> Listing {
    let listing: Value = without_marks(serde_json::from_str(json).unwrap());
    let listing: BTreeMap<String, Value> = serde_json::from_value(listing).unwrap();
    let mut found = Listing::default();
    let names = |value: Option<&Value>| -> Vec<String> {
        let mut names: Vec<String> =
            value.map(|it| serde_json::from_value(it.clone()).unwrap()).unwrap_or_default();
        names.sort();
        names
    };
    for (name, value) in listing {
        if name == "_meta" {
            found.hosts = serde_json::from_value(value["hostvars"].clone()).unwrap();
        } else {
            found.groups.insert(name, (names(value.get("hosts")), names(value.get("children"))));
        }
    }
    found
}

fn ours(reading: &Reading) -> Listing {
    let mut found = Listing::default();
    for (host, vars) in reading.groups.hosts.iter().zip(&reading.hosts) {
        let vars: serde_json::Map<String, Value> =
            vars.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        if !vars.is_empty() {
            found.hosts.insert(host.name.clone(), vars.into());
        }
    }
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    for (name, (hosts, children)) in reading.groups.listing() {
        found.groups.insert(name.to_owned(), (sorted(&hosts), sorted(&children)));
    }
    found
}

#[track_caller]
fn read(inventory: &Path, extra: &[String]) -> Listing {
    // `-e @FILE` is relative to where Ansible runs.
    let beside = format!("@{}/", inventory.parent().unwrap().display());
    let extra_vars = extra.iter().map(|option| option.replacen('@', &beside, 1)).collect();
    match Written::find(&Source { file: inventory.to_owned(), extra_vars }) {
        Ok(Written::Ansible(reading)) => ours(&reading),
        Ok(Written::Own(_)) => panic!("{} is taken for one of ours", inventory.display()),
        Err(problems) => panic!("{problems}"),
    }
}

/// The differences, host by host.
fn compare(name: &str, theirs: &Listing, ours: &Listing, differences: &mut Vec<String>) {
    for host in theirs.hosts.keys().chain(ours.hosts.keys().filter(|host| !theirs.hosts.contains_key(*host)))
    {
        let (theirs, ours) = (theirs.hosts.get(host), ours.hosts.get(host));
        if theirs != ours {
            differences.push(format!("{name}: {host}\n  ansible: {theirs:?}\n  cluster: {ours:?}"));
        }
    }
    if theirs.groups != ours.groups {
        differences.push(format!("{name}\n  ansible: {:?}\n  cluster: {:?}", theirs.groups, ours.groups));
    }
}

#[test]
fn ansible_finds_the_same_hosts_groups_and_variables() {
    let Some(program) = ansible_inventory() else { return };
    let mut differences = Vec::new();
    for (inventory, extra) in cases() {
        let json = printed(&program, &inventory, &extra, &[]);
        let name = inventory.display().to_string();
        compare(&name, &theirs(&json), &read(&inventory, &extra), &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What `ansible-inventory` prints is an inventory as well, with the same variables.
#[test]
fn what_ansible_prints_of_an_inventory_says_the_same() {
    let Some(program) = ansible_inventory() else { return };
    let mut differences = Vec::new();
    for (inventory, extra) in cases() {
        let directory = tempfile::tempdir().unwrap();
        let original = read(&inventory, &extra);
        for (format, file) in [(&[][..], "saved.json"), (&["--yaml"], "saved.yaml")] {
            let saved = directory.path().join(file);
            std::fs::write(&saved, printed(&program, &inventory, &extra, format)).unwrap();
            let read = read(&saved, &[]);
            let again = Listing { hosts: read.hosts, groups: BTreeMap::new() };
            let original = Listing { hosts: original.hosts.clone(), groups: BTreeMap::new() };
            compare(&format!("{} {file}", inventory.display()), &original, &again, &mut differences);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
