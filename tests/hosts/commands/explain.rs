//! `cluster explain`.

use std::time::{Duration, Instant};

use cluster_cloud::droplet::Power;
use serde_json::{Value, json};

use super::stage::{Stage, serves};

fn seconds(incident: &Value, key: &str) -> f64 {
    incident[key].as_f64().unwrap_or_else(|| panic!("{key}: {incident:#}"))
}

/// The parts of a failover follow one another without a gap, so they come to the whole.
#[track_caller]
fn parts_make_the_whole(incident: &Value, seen: Duration) {
    let phases = incident["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["detect", "decide", "promote", "move the floating IP"], "{incident:#}");
    let sum: f64 = phases.iter().map(|phase| seconds(phase, "seconds")).sum();
    let (writable, address) = (seconds(incident, "writable_after"), seconds(incident, "address_after"));
    assert!((sum - address).abs() < 0.05, "{sum} s of parts, {address} s in all: {incident:#}");
    assert!(0.0 < writable && writable <= address, "{incident:#}");
    // The last word of the primary came up to a second before its power went.
    assert!(address < seen.as_secs_f64() + 1.5, "{address} s, and it was seen after {seen:?}");
}

pub(super) fn a_failover_is_explained(stage: &Stage) {
    let cut = Instant::now();
    stage.lab.power("pg1", Power::Off);
    stage.wait_for(60, serves("pg2"));
    let seen = cut.elapsed();
    let story = stage.says("explain --json", 0, &[]).json();
    assert_eq!(story["incident"]["kind"], "failover");
    assert_eq!((&story["incident"]["from"], &story["incident"]["to"]), (&json!("pg1"), &json!("pg2")));
    assert!(story["missing"]["pg1"].is_string(), "its journal is on its disk, and it is off");
    parts_make_the_whole(&story["incident"], seen);
    let parts =
        ["failover: pg1 to pg2", "detect", "decide", "promote", "move the floating IP", "writes after "];
    stage.says("explain", 0, &parts);
    // Whichever the guard hears first.
    let told = stage.says("explain", 0, &["the journal of pg1 is missing: "]);
    assert!(
        told.says("the provider reports that pg1 is off") || told.says("no message from pg1"),
        "{told:?}"
    );

    // The same story, once everybody can tell his part.
    stage.lab.power("pg1", Power::On);
    stage.healthy();
    let story = stage.look("explain --json").ok().json();
    assert_eq!(story["missing"], json!({}));
    parts_make_the_whole(&story["incident"], seen);
    assert!(seconds(&story["incident"], "redundant_after") > seconds(&story["incident"], "address_after"));
    stage.says("explain", 0, &["failover: pg1 to pg2", "redundancy after "]);
    let list = stage.says("explain --list", 0, &["beginning", "switchover", "pg2 to pg1"]).stdout;
    assert!(list.lines().last().unwrap().contains("failover           pg1 to pg2; writes after "), "{list}");
    let list = stage.look("explain --list --json").ok().json();
    let last = list.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["kind"], &last["from"], &last["to"]),
        (&json!("failover"), &json!("pg1"), &json!("pg2"))
    );
    assert_eq!((stage.recovers("pg1"), stage.words("pg2")), ("t".into(), "a b".into()));
}
