//! The JSON Schema of an inventory says what the program says: what is accepted is valid, and what has the wrong shape is not.
//! Another program than ours judges: `scripts/prerequisites.sh tests` installs it, and in CI it must be there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster::inventory::schema;
use serde_json::{Value, json};

/// Reads a schema and the paths of inventories, and says of each what is wrong with it, or null; of what is no YAML, nothing.
const JUDGE: &str = "
import json, sys, fastjsonschema, yaml
asked = json.load(sys.stdin)
validate = fastjsonschema.compile(asked['schema'])
said = {}
for path in asked['paths']:
    try:
        inventory = yaml.safe_load(open(path))
    except yaml.YAMLError:
        continue
    try:
        validate(inventory)
        said[path] = None
    except fastjsonschema.JsonSchemaException as error:
        said[path] = str(error)
json.dump(said, sys.stdout)
";

/// What the judge says; none where nobody has installed it.
fn judged(paths: &[PathBuf]) -> Option<BTreeMap<PathBuf, Option<String>>> {
    let program = Path::new("target/ansible/bin/python");
    if !program.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", program.display());
        eprintln!("skipped: scripts/prerequisites.sh tests installs what judges");
        return None;
    }
    let mut child = Command::new(program)
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({"schema": schema(), "paths": paths}).to_string();
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml" || it == "yml"));
    files
}

#[test]
fn what_is_accepted_is_valid_and_a_wrong_shape_is_not() {
    let (ours, cases) = (files("inventories"), files("tests/data/inventory"));
    let Some(judged) = judged(&[ours.clone(), cases.clone()].concat()) else { return };
    for path in ours {
        assert_eq!(judged[&path], None, "{}", path.display());
    }
    let shape = ["is not a known key", " is missing", "must be a ", "must be true or false"];
    let (mut valid, mut invalid) = (0, 0);
    for path in cases {
        let Some(said) = judged.get(&path) else { continue };
        // What the program says of it.
        let told = fs::read_to_string(path.with_extension("txt")).unwrap();
        let first = told.lines().next().unwrap_or_default();
        if told.starts_with("accepted") {
            assert_eq!(*said, None, "{}: the schema refuses what is accepted", path.display());
            valid += 1;
        } else if shape.iter().any(|words| first.contains(words))
            && !first.contains("nodes[")
            && !first.contains("smaller")
        {
            assert!(said.is_some(), "{}: the schema takes it, and the program says {told}", path.display());
            invalid += 1;
        }
    }
    println!("{valid} accepted inventories are valid, {invalid} of a wrong shape are not");
    assert!(valid > 5 && invalid > 5, "{valid} and {invalid}");
}

#[test]
fn every_key_is_described_and_settings_are_completed() {
    let schema = schema();
    let mut types: Vec<(&str, &Value)> = vec![("", &schema)];
    types.extend(schema["definitions"].as_object().unwrap().iter().map(|(name, it)| (name.as_str(), it)));
    let mut undescribed = Vec::new();
    for (name, it) in types {
        for (key, property) in it["properties"].as_object().into_iter().flatten() {
            if property["description"].is_null() {
                undescribed.push(format!("{name}.{key}"));
            }
        }
    }
    assert_eq!(undescribed, [""; 0]);
    let settings = &schema["definitions"]["Postgresql"]["properties"]["settings"]["properties"];
    assert!(settings["work_mem"].is_object() && settings["wal_sender_timeout"]["description"].is_string());
    assert!(settings["hba_file"].is_null() && settings["listen_addresses"].is_null(), "not the inventory's");
}
