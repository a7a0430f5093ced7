//! Ansible inventories: what is understood, what it becomes, and what is refused.
//!
//! A case has the files of an inventory; the `.txt` beside it has what `cluster inventory show` and `convert` print, with the
//! warnings or the errors between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    _temporary: TempDir,
    /// Its name may become the cluster's.
    directory: PathBuf,
    source: Source,
}

impl Written {
    fn new(case: &Case) -> Written {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("demo");
        std::fs::create_dir(&directory).unwrap();
        for (name, text) in &case.files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let dir = directory.display().to_string();
        let extra_vars = case.extra_vars.iter().map(|option| option.replace("DIR", &dir)).collect();
        let source = Source { file: directory.join(&case.inventory), extra_vars };
        Written { _temporary: temporary, directory, source }
    }

    fn read(path: &Path) -> Written {
        let text = std::fs::read_to_string(path).unwrap();
        let case: Case =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Written::new(&case)
    }

    /// As somebody sees it who works in the inventory's directory.
    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.display()), "")
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

/// What is printed of them.
fn told(problems: &Problems) -> String {
    let notes: String = problems.notes.iter().map(|note| format!("warning: {note}\n")).collect();
    format!("{notes}error: {problems}\n")
}

fn transcript(path: &Path) -> String {
    let written = Written::read(path);
    let (shown, checked) = match show(&written.source, false) {
        Ok(printed) => printed,
        Err(problems) => return written.shown(&told(&problems)),
    };
    let mut text = shown;
    match &checked {
        Ok(inventory) => {
            inventory.warnings.iter().for_each(|warning| text += &format!("warning: {warning}\n"));
        }
        Err(problems) => text += &told(problems),
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
        let path = written.directory.join("converted.yaml");
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

/// The variables that mean something.
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

/// Those of them that may be a list or a mapping.
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

/// Whichever variable cannot be read, of one host or of all: the YAML says so, and is refused until somebody has completed it.
#[test]
fn what_cannot_be_read_is_marked_in_the_yaml() {
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
                let written =
                    Written::new(&Case { inventory: "hosts".into(), extra_vars: Vec::new(), files });
                let (yaml, checked) = convert(&written.source, false).unwrap();
                let problems = checked.expect_err(variable);
                assert!(is_closed(&problems), "{variable}: {problems}");
                assert_eq!(problems.list.len(), 1, "{variable}: {problems}");
                assert!(yaml.contains("must be completed"), "{variable} in {file}:\n{yaml}");
                let path = written.directory.join("converted.yaml");
                std::fs::write(&path, &yaml).unwrap();
                assert!(Inventory::read(&path).is_err(), "{variable} in {file} is accepted:\n{yaml}");
            }
        }
    }
}

/// A list or a mapping where one value must be is refused, whichever variable it is, and marked in the YAML.
#[test]
fn a_list_is_not_taken_for_a_value() {
    for variable in VARIABLES.iter().filter(|variable| !COLLECTIONS.contains(variable)) {
        let own = |line: &str| -> String {
            let stays = |word: &&str| !word.starts_with(&format!("{variable}="));
            line.split(' ').filter(stays).collect::<Vec<_>>().join(" ")
        };
        let hosts = own("[nodes]\npg1 ansible_host=198.51.100.11 node_id=1 role=primary");
        let mut vars = format!("{variable}: [a, b]\n");
        for (name, value) in [("pg_version", "15"), ("cluster_name", "demo")] {
            if name != *variable {
                vars += &format!("{name}: {value}\n");
            }
        }
        for vars in [vars.clone(), vars.replace("[a, b]", "{a: b}")] {
            let files = BTreeMap::from([
                ("hosts".to_owned(), hosts.clone()),
                ("group_vars/all.yml".to_owned(), vars.clone()),
            ]);
            let written = Written::new(&Case { inventory: "hosts".into(), extra_vars: Vec::new(), files });
            let (yaml, checked) = convert(&written.source, false).unwrap();
            let problems = checked.expect_err(&vars);
            let [problem] = &problems.list[..] else { panic!("{vars}: {problems}") };
            assert_eq!((&problem.key[..], problem.line), (*variable, Some(1)), "{problems}");
            assert!(problem.message.starts_with("must be one value"), "{problems}");
            assert!(yaml.contains("must be completed"), "{vars}:\n{yaml}");
        }
    }
}

/// No password and nothing encrypted is printed where it is not asked for: `convert` has it as a value, and nowhere else.
#[test]
fn secrets_are_neither_shown_nor_told() {
    for case in golden::cases("ansible") {
        let written = Written::read(&case);
        let json = show(&written.source, true).map_or_else(|problems| told(&problems), |(json, _)| json);
        let (text, told) = match show(&written.source, false) {
            Ok((text, Ok(inventory))) => (text, inventory.warnings.join("\n")),
            Ok((text, Err(problems))) => (text, told(&problems)),
            Err(problems) => (String::new(), told(&problems)),
        };
        let yaml = convert(&written.source, false).map(|(yaml, _)| yaml).unwrap_or_default();
        let comments = yaml.lines().filter_map(|line| line.split_once("# ")).map(|(_, comment)| comment);
        for text in [text, json, told, comments.collect()] {
            assert!(!text.contains("hunter2"), "{}: {text}", case.display());
        }
    }
}

/// The same for inventories of our own, with mistakes that somebody makes who looks for the key's name.
#[test]
fn secrets_in_an_inventory_of_our_own_are_not_shown() {
    let nodes = "nodes: [{name: pg1, id: 1, role: primary, address: 198.51.100.11}]";
    for wrong in [
        "provider: {digitalocean: {region: fra1, size: s-1vcpu-1gb, token: hunter2}}",
        "provider: {digitalocean: {region: fra1, size: s-1vcpu-1gb, token_file: {token: hunter2}}}",
        "provider: {existing: {floating_ip: {address: 203.0.113.9, api_url: 'https://a:hunter2@example.com'}}}",
        "provider: {existing: {ssh_key: \"-----BEGIN OPENSSH PRIVATE KEY-----\\nhunter2\"}}",
        "provider: {existing: {ssh_jump: 'admin:hunter2@bastion'}}",
        "user: [{name: app, password: hunter2}]",
        "users: {app: {password: hunter2}}",
        "users: {app: hunter2}",
        "users: [hunter2]",
        "users: hunter2",
        "users: [{name: app, password: [hunter2]}]",
        "users: [{name: app, password: !secret hunter2}]",
        "backup: {s3: {endpoint: 'https://a:hunter2@s3.example.com', region: a, bucket: demo, secret_key: hunter2}}",
        "backup: {passphrase: hunter2}",
        "backup: hunter2",
        "postgresql: {version: 15, settings: {primary_conninfo: 'host=a password=hunter2'}}",
        "password: hunter2",
    ] {
        let key = wrong.split(':').next().unwrap_or_default();
        let right = ["provider: {existing: {}}", "postgresql: {version: 15}", nodes];
        let right = right.into_iter().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        let files = BTreeMap::from([("demo.yaml".to_owned(), format!("cluster: demo\n{right}\n{wrong}\n"))]);
        let written = Written::new(&Case { inventory: "demo.yaml".into(), extra_vars: Vec::new(), files });
        for json in [false, true] {
            let (text, checked) = show(&written.source, json).unwrap();
            let told = checked.map_or_else(|problems| told(&problems), |it| it.warnings.join("\n"));
            assert!(!text.contains("hunter2"), "{wrong}: {text}");
            assert!(!told.contains("hunter2"), "{wrong}: {told}");
        }
    }
}

#[test]
fn what_is_shown_is_json_as_well() {
    let written = Written::read(Path::new("tests/data/ansible/tutorial-as-printed.yaml"));
    let (json, _) = show(&written.source, true).unwrap();
    golden::check("tests/data/expected/inventory-show.json", &written.shown(&(json + "\n")));
}

/// What was noticed may be the reason for an error: it is told with the errors, and is in the JSON.
#[test]
fn notes_are_told_with_errors_as_well() {
    let written = Written::read(Path::new("tests/data/ansible/notes-with-errors.yaml"));
    let (json, checked) = show(&written.source, true).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let notes = checked.unwrap_err().notes;
    assert!(notes.len() > 3, "{notes:?}");
    assert_eq!(json["warnings"], serde_json::json!(notes));
}

fn minimal(inventory: &str, more: &[(&str, &str)]) -> Case {
    let hosts = "[nodes]\npg1 ansible_host=198.51.100.11 node_id=1 role=primary\n[all:vars]\npg_version=15\n";
    let mut files = BTreeMap::from([(inventory.to_owned(), hosts.to_owned())]);
    files.extend(more.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    Case { inventory: inventory.into(), extra_vars: Vec::new(), files }
}

/// Two inventories that are both called `hosts` are two clusters, each with a state of its own.
#[test]
fn a_name_that_every_inventory_has_is_no_clusters() {
    for (inventory, cluster) in [
        ("digitalocean", "digitalocean"),
        ("production", "production"),
        ("hosts", "demo"),
        ("prod/hosts", "prod"),
        ("staging/hosts.ini", "staging"),
        ("prod/inventory/hosts", ""),
        ("hosts.prod", "hosts-prod"),
        ("hosts.staging", "hosts-staging"),
        ("hosts.YML", "demo"),
        ("shop.v2.ini", "shop-v2"),
    ] {
        let read = Written::new(&minimal(inventory, &[])).inventory();
        assert_eq!(read.map(|it| it.cluster).unwrap_or_default(), cluster, "{inventory}");
    }
}

/// A key's path is relative to the inventory, or to the directory that is one, and converted it is found from anywhere.
#[test]
fn keys_are_found_beside_the_inventory() {
    for (inventory, hosts) in [("prod", "prod/10-hosts"), ("prod/hosts", "prod/hosts")] {
        let vars = ("prod/group_vars/all.yml", "ansible_ssh_private_key_file: .keys/a");
        let case = Case { inventory: inventory.into(), ..minimal(hosts, &[vars, ("prod/.keys/a", "")]) };
        let written = Written::new(&case);
        let key = Some(written.directory.join("prod/.keys/a"));
        let read = |inventory: Inventory| inventory.provider.ssh_key().map(Path::to_owned);
        assert_eq!(read(written.inventory().unwrap()), key);
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("converted.yaml");
        std::fs::write(&path, convert(&written.source, false).unwrap().0).unwrap();
        assert_eq!(read(Inventory::read(&path).unwrap()), key);
    }
}

/// Bytes that a case's YAML cannot hold, and what is no file.
#[test]
fn other_encodings_and_links_to_nothing_are_told_as_what_they_are() {
    let written = Written::new(&minimal("hosts", &[("group_vars/all.yml", "")]));
    std::fs::write(written.directory.join("group_vars/all.yml"), b"motd: Gr\xfc\xdfe\n").unwrap();
    let told = written.inventory().unwrap_err().to_string();
    assert_eq!(written.shown(&told), "group_vars/all.yml: is not UTF-8 text\n  hint: save it as UTF-8");

    let written = Written::new(&minimal("hosts", &[("group_vars/a/b.yml", "a: 1")]));
    for name in ["group_vars/all.yml", "group_vars/nodes"] {
        std::os::unix::fs::symlink("/nowhere", written.directory.join(name)).unwrap();
    }
    let warnings = written.inventory().unwrap().warnings.join("\n");
    let links = "not read, because it is a link to nothing: group_vars/all.yml, group_vars/nodes";
    assert!(written.shown(&warnings).contains(links), "{warnings}");
    assert!(
        written.shown(&warnings).contains("not read, because there is no such group: group_vars/a"),
        "{warnings}"
    );

    let bom = "\u{feff}client_ip: 203.0.113.7\n";
    let written = Written::new(&minimal("hosts", &[("group_vars/all.yml", bom)]));
    assert_eq!(written.inventory().unwrap().clients.networks.len(), 1);
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
        Just("a\u{2028}b: c\u{85}".to_owned()),
        Just("\u{1f600}".to_owned()),
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
        let path = written.directory.join("converted.yaml");
        std::fs::write(&path, &yaml).unwrap();
        match (checked, Inventory::read(&path)) {
            (Ok(ansible), Ok(ours)) => prop_assert_eq!(said(&ansible), said(&ours), "{}", yaml),
            (Err(_), Err(_)) => {}
            (ansible, ours) => prop_assert!(false, "{:?}\n{:?}\n{}", ansible.err(), ours.err(), yaml),
        }
    }
}
