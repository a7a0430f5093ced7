//! Ansible inventories: what is understood, what it becomes, and what is refused.
//!
//! A case has the files of an inventory; the `.txt` beside it has what `cluster inventory show` and `convert` print, with the
//! warnings or the errors between them.

use std::collections::BTreeMap;
use std::path::Path;

use cluster::commands::inventory::{convert, show};
use cluster::inventory::{Inventory, Problems, Source};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tempfile::TempDir;

use crate::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The argument of `-i`.
    inventory: String,
    /// The arguments of `-e`; `DIR` is where the files are.
    #[serde(default)]
    extra_vars: Vec<String>,
    files: BTreeMap<String, String>,
}

/// The files of a case, in a directory of their own.
struct Written {
    directory: TempDir,
    source: Source,
}

impl Written {
    fn new(case: &Case) -> Written {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in &case.files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let dir = directory.path().display().to_string();
        let extra_vars = case.extra_vars.iter().map(|option| option.replace("DIR", &dir)).collect();
        let source = Source { file: directory.path().join(&case.inventory), extra_vars };
        Written { directory, source }
    }

    fn read(path: &Path) -> Written {
        let text = std::fs::read_to_string(path).unwrap();
        let case: Case =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Written::new(&case)
    }

    /// As somebody sees it who works in the inventory's directory.
    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }

    fn inventory(&self) -> Result<Inventory, Problems> {
        Inventory::read_from(&self.source)
    }
}

/// What the case refuses; none if it is accepted.
pub(crate) fn refusal(path: &Path) -> Option<String> {
    let written = Written::read(path);
    written.inventory().err().map(|problems| written.shown(&problems.to_string()))
}

fn transcript(path: &Path) -> String {
    let written = Written::read(path);
    let (shown, checked) = match show(&written.source, false) {
        Ok(printed) => printed,
        Err(problems) => return written.shown(&format!("error: {problems}\n")),
    };
    let mut text = shown;
    match &checked {
        Ok(inventory) => {
            inventory.warnings.iter().for_each(|warning| text += &format!("warning: {warning}\n"));
        }
        Err(problems) => text += &format!("error: {problems}\n"),
    }
    if let Ok((yaml, _)) = convert(&written.source, false) {
        text += &format!("-- convert\n{yaml}");
    }
    written.shown(&text)
}

#[test]
fn ansible_inventories_are_understood_or_refused_as_it_is_written_down() {
    golden::each("ansible", transcript);
}

/// Everything that an inventory says, passwords included, but for its files and what is said of them.
fn said(inventory: &Inventory) -> String {
    let mut inventory = inventory.clone();
    inventory.file = "inventory".into();
    inventory.password_files.clear();
    inventory.warnings.clear();
    let passwords: Vec<_> = inventory
        .users
        .iter()
        .map(|user| user.password.as_ref().map(|password| password.expose_secret().to_owned()))
        .collect();
    format!("{inventory:#?}\n{passwords:?}")
}

/// The YAML that is printed describes the same cluster, and one that must be completed is refused.
#[test]
fn what_is_converted_is_the_same_inventory() {
    let mut accepted = 0;
    for case in golden::cases("ansible") {
        let written = Written::read(&case);
        let Ok((yaml, checked)) = convert(&written.source, false) else { continue };
        let path = written.directory.path().join("converted.yaml");
        std::fs::write(&path, &yaml).unwrap();
        match (checked, Inventory::read(&path)) {
            (Ok(ansible), Ok(ours)) => {
                assert_eq!(said(&ansible), said(&ours), "{}", case.display());
                accepted += 1;
            }
            (Err(problems), ours) => {
                let marked = yaml.contains("must be completed");
                assert!(marked || !is_closed(&problems), "{}: nothing is marked", case.display());
                assert!(!marked || ours.is_err(), "{}: accepted as it is", case.display());
            }
            (Ok(_), Err(problems)) => panic!("{}: {problems}", case.display()),
        }
    }
    assert!(accepted > 10, "{accepted}");
}

/// Whether a value could not be read.
fn is_closed(problems: &Problems) -> bool {
    let closed = ["is encrypted with Ansible Vault", "is a Jinja expression"];
    problems.list.iter().any(|problem| closed.iter().any(|message| problem.message.starts_with(message)))
}

/// Whichever variable cannot be read, of one host or of all: the YAML says so, and is refused until somebody has completed it.
#[test]
fn what_cannot_be_read_is_marked_in_the_yaml() {
    const VARIABLES: &[&str] = &[
        "ansible_become",
        "ansible_become_method",
        "ansible_connection",
        "ansible_host",
        "ansible_port",
        "ansible_ssh_common_args",
        "ansible_ssh_extra_args",
        "ansible_ssh_private_key_file",
        "ansible_ssh_user",
        "ansible_user",
        "client_ip",
        "cluster_backup",
        "cluster_client_tls",
        "cluster_clients",
        "cluster_databases",
        "cluster_droplet_id",
        "cluster_extensions",
        "cluster_failover",
        "cluster_floating_ip",
        "cluster_group",
        "cluster_host_key",
        "cluster_name",
        "cluster_node_name",
        "cluster_port",
        "cluster_settings",
        "cluster_tune",
        "cluster_users",
        "connection_host",
        "node_id",
        "pg_version",
        "role",
    ];
    for variable in VARIABLES {
        for file in ["group_vars/all.yml", "host_vars/pg2.yml"] {
            for others in ["", "ansible_user=root client_ip=203.0.113.7"] {
                // What a host says itself counts before what the file of a group says.
                let own = |line: &str| -> String {
                    let counts = |word: &&str| {
                        file.starts_with("host_vars") || !word.starts_with(&format!("{variable}="))
                    };
                    line.split(' ').filter(counts).collect::<Vec<_>>().join(" ")
                };
                let hosts = [
                    "[nodes]",
                    &own(&format!("pg1 ansible_host=198.51.100.11 node_id=1 role=primary {others}")),
                    &own(&format!("pg2 ansible_host=198.51.100.12 node_id=2 role=standby {others}")),
                    "[all:vars]",
                    "pg_version=15",
                    "cluster_name=demo",
                ]
                .join("\n");
                let files = BTreeMap::from([
                    ("hosts".to_owned(), hosts),
                    (file.to_owned(), format!("{variable}: \"{{{{ elsewhere }}}}\"\n")),
                ]);
                let written = Written::new(&Case { inventory: "hosts".into(), extra_vars: Vec::new(), files });
                let (yaml, checked) = convert(&written.source, false).unwrap();
                let problems = checked.expect_err(variable);
                assert!(is_closed(&problems), "{variable}: {problems}");
                assert_eq!(problems.list.len(), 1, "{variable}: {problems}");
                assert!(yaml.contains("must be completed"), "{variable} in {file}:\n{yaml}");
                let path = written.directory.path().join("converted.yaml");
                std::fs::write(&path, &yaml).unwrap();
                assert!(Inventory::read(&path).is_err(), "{variable} in {file} is accepted:\n{yaml}");
            }
        }
    }
}

/// No password and nothing encrypted is printed where it is not asked for.
#[test]
fn secrets_are_neither_shown_nor_told() {
    for case in golden::cases("ansible") {
        let written = Written::read(&case);
        let Ok((text, checked)) = show(&written.source, false) else { continue };
        let json = show(&written.source, true).map(|(json, _)| json).unwrap_or_default();
        let told = checked.map_or_else(|problems| problems.to_string(), |it| it.warnings.join("\n"));
        for text in [text, json, told] {
            assert!(!text.contains("hunter2"), "{}: {text}", case.display());
        }
    }
}

#[test]
fn what_is_shown_is_json_as_well() {
    let written = Written::read(Path::new("tests/data/ansible/tutorial-as-printed.yaml"));
    let (json, _) = show(&written.source, true).unwrap();
    golden::check("tests/data/expected/inventory-show.json", &written.shown(&(json + "\n")));
}

/// Text that YAML or Python could take for something else.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        Just("yes".to_owned()),
        Just("012".to_owned()),
        Just("1e3".to_owned()),
        Just("~".to_owned()),
        Just("# a".to_owned()),
        Just("a: b".to_owned()),
        Just("'quoted'".to_owned()),
        Just("\"\\".to_owned()),
        Just("%m [%p] ".to_owned()),
        "[ -~]{0,12}",
    ]
}

proptest! {
    /// Whatever values it has: what is converted is read as the same inventory.
    #[test]
    fn any_value_survives_its_conversion(
        setting in tricky(),
        password in tricky(),
        ids in prop::sample::subsequence((1..40).collect::<Vec<u32>>(), 3),
        port in 1024_u16..,
    ) {
        let settings = serde_json::json!({"log_line_prefix": setting});
        let users = serde_json::json!([{"name": "app", "password": password}]);
        let files = BTreeMap::from([
            ("group_vars/all.json".to_owned(), serde_json::json!({
                "pg_version": 15, "cluster_settings": settings, "cluster_users": users, "cluster_port": port
            }).to_string()),
            ("hosts".to_owned(), format!(
                "pg1 node_id={} role=primary\npg2 node_id='{}' role=standby ansible_port=2200\npg3 node_id={} role=witness\n\
                 ",
                ids[0], ids[1], ids[2]
            )),
            ("host_vars/pg1".to_owned(), "ansible_host: 198.51.100.1".into()),
            ("host_vars/pg2".to_owned(), "ansible_host: 198.51.100.2".into()),
            ("host_vars/pg3".to_owned(), "ansible_host: 198.51.100.3".into()),
        ]);
        let written = Written::new(&Case { inventory: "hosts".into(), extra_vars: Vec::new(), files });
        let (yaml, checked) = convert(&written.source, false).unwrap();
        let path = written.directory.path().join("converted.yaml");
        std::fs::write(&path, &yaml).unwrap();
        match (checked, Inventory::read(&path)) {
            (Ok(ansible), Ok(ours)) => prop_assert_eq!(said(&ansible), said(&ours), "{}", yaml),
            (Err(_), Err(_)) => {}
            (ansible, ours) => prop_assert!(false, "{:?}\n{:?}\n{}", ansible.err(), ours.err(), yaml),
        }
    }
}
