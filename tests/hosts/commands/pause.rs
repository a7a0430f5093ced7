//! `cluster pause` and `cluster resume`.

use cluster_cloud::droplet::Power;
use serde_json::{Value, json};

use super::stage::{Stage, has_problem, serves};
use crate::node;
use crate::support::Run;

/// What `pause --json` and `resume --json` say of every node.
#[track_caller]
fn told(run: &Run, paused: bool, changed: bool) {
    let told = run.json();
    assert_eq!((&told["paused"], &told["complete"]), (&json!(paused), &json!(true)));
    for name in ["pg1", "pg2", "pg3"] {
        assert_eq!(told["nodes"][name], json!({"paused": paused, "changed": changed, "error": null}));
    }
}

pub(super) fn a_killed_primary_in_a_pause(stage: &Stage) {
    told(&stage.says("pause --json", 0, &[]), true, true);
    told(&stage.says("pause --json", 0, &[]), true, false);
    stage.says("pause", 0, &["pg1: already paused", "no failover until `cluster resume`"]);
    let loud = [
        "PAUSED on pg1, pg2, pg3 since ",
        "`cluster resume` ends the pause",
        "failover: off: every streaming standby is paused",
    ];
    stage.says("status", 4, &loud);
    let status = stage.status();
    assert_eq!((&status["paused"], &status["healthy"]), (&json!(true), &json!(false)));
    assert_eq!(status["failover"]["automatic"], false);
    let timeline = node(&status, "pg1")["timeline"].clone();
    for name in ["pg1", "pg2", "pg3"] {
        assert_eq!(node(&status, name)["paused"], true);
    }
    assert_eq!(stage.answers(), "pg1", "the primary goes on");
    stage.refuses("drill --fault crash --yes", 3, &["failover is paused on pg1", "`cluster resume`"]);
    stage.refuses("switchover pg2", 3, &["the cluster is paused", "`cluster resume`"]);

    stage.lab.ssh("pg1", "kill -9 $(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)");
    let stands_still = |status: &Value| {
        status["primary"].is_null() && status["holder"] == "pg1" && node(status, "pg2")["role"] == "standby"
    };
    stage.wait_for(60, stands_still);
    stage.all_the_while(stands_still);
    stage.refuses("failover", 3, &["the cluster is paused", "`cluster resume`"]);
    stage.refuses("failover pg2 --force --yes", 3, &["pg2 is paused and would not promote"]);
    let before = stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()");
    stage.says("up", 1, &["paused on pg1, pg2, pg3", "`cluster resume` ends the pause"]);
    assert!(stands_still(&stage.status()), "{:#}", stage.status());
    assert_eq!((stage.recovers("pg1"), stage.recovers("pg2")), (String::new(), "t".into()));
    assert_eq!(stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()"), before);

    told(&stage.says("resume --json", 0, &[]), false, true);
    let (status, took) = stage.wait_for(30, serves("pg1"));
    println!("resume to pg1: {:.1} s", took.as_secs_f64());
    assert_eq!(node(&status, "pg1")["timeline"], timeline, "nobody was promoted");
    told(&stage.says("resume --json", 0, &[]), false, false);
    stage.says("resume", 0, &["pg1: not paused"]);
    assert_eq!(stage.healthy()["paused"], false);
    assert_eq!(stage.words("pg1"), "a b");
}

pub(super) fn a_primary_that_is_lost_in_a_pause(stage: &Stage) {
    stage.says("pause", 0, &["pg1: paused", "pg2: paused", "pg3: paused"]);
    stage.lab.power("pg2", Power::Off);
    let lost = |status: &Value| {
        status["primary"].is_null()
            && node(status, "pg1")["role"] == "standby"
            && node(status, "pg2")["state"] == "off"
    };
    stage.all_the_while(lost);
    stage.says("up", 1, &["paused on pg1, pg3"]);
    assert!(lost(&stage.status()), "no droplet is switched on in a pause: {:#}", stage.status());

    // Who cannot be told is named, and the others go on.
    let told = stage.says("resume --json", 1, &[]).json();
    assert_eq!(told["complete"], false);
    assert_eq!(told["nodes"]["pg1"], json!({"paused": false, "changed": true, "error": null}));
    assert!(told["nodes"]["pg2"]["error"].is_string(), "{told}");
    let (_, took) = stage.wait_for(30, serves("pg1"));
    println!("resume to pg1: {:.1} s", took.as_secs_f64());
    assert_eq!(stage.answers(), "pg1");

    // A host that boots in its pause starts nothing, and the mixture is a problem.
    stage.lab.power("pg2", Power::On);
    let mixed = "PAUSED on pg2 since ";
    stage.wait_for(60, |status| has_problem(status, mixed));
    stage.all_the_while(|status| node(status, "pg2")["state"] == "stopped" && status["primary"] == "pg1");
    stage.says("status", 4, &[mixed, "(not on pg1, not on pg3)"]);
    stage.says("resume", 0, &["pg1: not paused", "pg2: resumed", "pg3: not paused"]);
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a b".into()));
}
