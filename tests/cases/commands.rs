//! Steps as commands, and the files that reach hosts: values that can be read without a host.

use std::path::Path;

use base64::Engine as _;
use cluster::apply::command;
use cluster::facts::Host;
use cluster::inventory::Inventory;
use cluster::plan::files::Content;
use cluster::plan::{Action, Phase};
use cluster::remote::Command;
use cluster::script;

use crate::golden;
use crate::model::Model;
use crate::plan::base;

fn inventory(base_name: &str, version: u32) -> Inventory {
    let mut yaml = base(base_name);
    yaml["postgresql"]["version"] = version.into();
    let text = serde_yaml::to_string(&yaml).unwrap();
    Inventory::parse(Path::new("inventory.yaml"), &text).unwrap()
}

/// Every command of a whole `up`, with the node that it runs on.
fn commands_of_up() -> Vec<(String, Command)> {
    let mut model = Model::new(inventory("droplets", 15));
    let mut commands = Vec::new();
    loop {
        let plan = model.plan();
        let Some((_, steps)) = plan.first_phase() else { return commands };
        for step in steps.into_iter().cloned().collect::<Vec<_>>() {
            if let Some(command) = command::of(&model.inventory, &step.action, b"the program") {
                commands.push((step.node.clone().unwrap_or_default(), command));
            }
            model.act(&step, crate::model::How::Whole);
        }
    }
}

/// What runs on the hosts, in order: label and arguments, and what goes through standard input without its secrets.
#[test]
fn the_commands_of_a_whole_run_are_as_written_down() {
    let mut text = String::new();
    for (node, command) in commands_of_up() {
        let stdin = match command.stdin.len() {
            0 => String::new(),
            _ => " < …".into(),
        };
        text += &format!("{node}  {command:?}{stdin}\n");
    }
    golden::check("tests/data/expected/commands.txt", &text);
}

#[test]
fn secrets_travel_on_standard_input_alone() {
    let mut seen = 0;
    for (node, command) in commands_of_up() {
        let open = format!("{} {} {command:?}", command.script, command.args.join(" "));
        for secret in ["hunter2", "SCRAM-SHA-256$"] {
            assert!(!open.contains(secret), "{node}: `{}` shows {secret}", command.label);
        }
        let stdin = String::from_utf8_lossy(&command.stdin);
        let decoded: Vec<u8> = stdin
            .split_whitespace()
            .filter_map(|word| base64::engine::general_purpose::STANDARD.decode(word).ok())
            .flatten()
            .collect();
        let decoded = String::from_utf8_lossy(&decoded);
        // Applications' passwords reach a host as verifiers; what root alone may read there, as it is.
        assert!(!stdin.contains("hunter2-app") && !decoded.contains("hunter2-app"));
        assert!(!stdin.contains("hunter2-cluster"));
        seen += usize::from(decoded.contains("hunter2-repmgr"));
    }
    assert_eq!(seen, 3, "every node has its .pgpass");
}

#[test]
fn scripts_take_values_as_arguments_and_not_as_text() {
    for (node, command) in commands_of_up() {
        assert!(
            script::ALL.iter().any(|(_, text)| *text == command.script),
            "{node}: {command:?} is no script of ours"
        );
        assert!(!command.limit.is_zero());
    }
}

#[test]
fn a_step_that_needs_what_is_not_known_yet_is_no_command() {
    let mut model = Model::new(inventory("droplets", 15));
    let plan = model.plan();
    let early = plan
        .steps
        .iter()
        .find(|step| step.phase == Phase::Setup && matches!(step.action, Action::WriteFiles { .. }));
    let early = early.expect("files are planned from the start");
    assert!(
        command::of(&model.inventory, &early.action, b"").is_none(),
        "addresses are not known before droplets are"
    );
}

/// Every file of every node, for one version.
fn files(version: u32) -> String {
    let mut inventory = inventory("droplets", version);
    let settings = [
        ("work_mem", "16MB"),
        ("log_line_prefix", r"%m 'quoted' \back"),
        ("shared_preload_libraries", "pg_stat_statements"),
    ];
    inventory.postgresql.settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut model = Model::new(inventory);
    model.up(|_| false);
    let mut text = String::new();
    for (name, host) in &model.facts.hosts {
        let Host::Up(host) = host else { panic!("{name} is not up") };
        for (path, file) in &host.files {
            // The same on every node but for its name: once is enough.
            let own = ["conf.d", "pg_hba", "repmgr.conf", "node.json"].iter().any(|own| path.contains(own));
            if path.ends_with("bin/cluster-node") || (name != "pg1" && !own) || (version != 15 && !own) {
                continue;
            }
            let content = file.content.as_deref().unwrap_or("(secret)\n");
            text += &format!("=== {name} {path} {} {}\n{content}", file.mode, file.owner);
        }
    }
    text
}

#[test]
fn files_of_every_version_are_as_written_down() {
    for version in cluster::inventory::VERSIONS {
        golden::check(&format!("tests/data/expected/files-{version}.txt"), &files(version));
    }
}

#[test]
fn only_root_reads_the_token_and_only_postgres_the_password() {
    let mut model = Model::new(inventory("droplets", 15));
    model.up(|phase| phase == Phase::Setup);
    let plan = model.plan();
    let mut secrets = 0;
    for step in &plan.steps {
        let Action::WriteFiles { files } = &step.action else { continue };
        for file in files {
            let secret = matches!(file.content, Some(Content::Secret(_)));
            let owner = if file.path.ends_with(".pgpass") { "postgres:postgres" } else { "root:root" };
            assert!(!secret || (file.mode == "600" && file.owner == owner), "{file:?}");
            let exposed = file.content.as_ref().map_or("", Content::expose);
            assert!(secret || !exposed.contains("hunter2"), "{} is readable and holds a secret", file.path);
            secrets += usize::from(secret);
        }
    }
    assert_eq!(secrets, 12, "three .pgpass, three keys, three tokens, three passwords of the role cluster");
}
