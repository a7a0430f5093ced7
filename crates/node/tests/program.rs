//! The program as `cluster`, systemd, repmgr and repmgrd call it, on a machine that is no node.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cluster-node"))
        .args(arguments)
        .env_remove("CLUSTER_NODE_JSON")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Whoever asks whether PostgreSQL may start or a standby may promote goes by the exit code.
#[test]
fn without_a_guard_nothing_is_allowed() {
    let asked: [&[&str]; 6] = [
        &["may-promote", "--node", "2", "--visible", "1", "--total", "3"],
        &["start-check"],
        &["promote"],
        &["restart"],
        &["take"],
        &["hand-over", "pg2"],
    ];
    for arguments in asked {
        for json in [false, true] {
            let arguments = [arguments, if json { &["--json"] } else { &[] }].concat();
            let output = run(&arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            assert_eq!(text(&output.stdout), "", "{arguments:?}");
            let told = text(&output.stderr);
            assert!(told.starts_with("cluster-node: ") && told.lines().count() == 1, "{arguments:?}: {told}");
        }
    }
}

#[test]
fn a_machine_that_is_no_node_is_told_what_makes_it_one() {
    let told = text(&run(&["guard"]).stderr);
    assert!(told.contains("/etc/cluster/node.json") && told.contains("`cluster up`"), "{told}");
}

/// repmgr's details are its own prose, with quotes and all; they go through as they are.
#[test]
fn an_event_of_repmgr_is_one_line_of_json() {
    let details = "node \"pg2\" (ID: 2)\nis \\ unreachable";
    let output = run(&[
        "event",
        "--node",
        "2",
        "--event",
        "standby_promote",
        "--success",
        "1",
        "--at",
        "2026-11-26",
        "--details",
        details,
    ]);
    let line = text(&output.stdout);
    assert_eq!(line.lines().count(), 1, "{line}");
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["details"], details);
    assert_eq!(event["success"], true);
    assert_eq!(event["node"], "2");
}

#[test]
fn a_stage_that_does_not_exist_is_refused_with_those_that_do() {
    let output = run(&["mark", "--cluster", "demo", "finished"]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    for stage in cluster_contract::marker::DataStage::ALL {
        assert!(told.contains(stage.word()), "{told}");
    }
}

/// People see what is for people; `up`, the guard and a rejoin call the rest.
#[test]
fn the_help_does_not_list_what_others_call() {
    let help = text(&run(&["--help"]).stdout);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(listed.contains(&"status") && listed.contains(&"guard"), "{help}");
    for hidden in ["watch", "mark", "marked", "lost", "new-cluster"] {
        assert!(!listed.contains(&hidden), "{help}");
    }
}
