//! `cluster failover --force`.

use std::time::{Duration, Instant};

use cluster_cloud::droplet::Power;
use serde_json::{Value, json};

use super::stage::{Stage, has_problem, serves};
use crate::node;

pub(super) fn force_where_a_majority_is_there(stage: &Stage) {
    stage.refuses(
        "failover",
        3,
        &["pg1 takes writes: there is nothing to fail over from", "`cluster switchover`"],
    );
    stage.refuses("failover pg9 --force --yes", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("failover pg3 --force --yes", 3, &["pg3 is the witness and holds no data"]);
    stage.refuses("failover pg2 --force --yes", 3, &["pg1 takes writes", "`cluster switchover`"]);
    // One that is slow takes them all the same, and is not powered off for it.
    stage
        .lab
        .ssh("pg1", "touch /root/.bashrc; cp -p /root/.bashrc /root/kept; echo 'sleep 12' >/root/.bashrc");
    stage.refuses("failover pg2 --force --yes", 3, &["pg1 answers after all, and takes writes"]);
    stage.lab.ssh("pg1", "mv /root/kept /root/.bashrc");
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// The witness first: with it, pg2 would take over by itself.
fn lose_the_majority(stage: &Stage) {
    stage.lab.power("pg3", Power::Off);
    stage.lab.power("pg1", Power::Off);
}

const FORCED: &str = "pg2 took over BY FORCE and has had no majority since";

fn force(stage: &Stage) {
    stage.says("failover pg2 --force --yes", 0, &["pg2 takes writes, by force ("]);
    let status = stage.status();
    assert_eq!((&status["primary"], &status["holder"]), (&json!("pg2"), &json!("pg2")), "{status:#}");
    assert_eq!(stage.recovers("pg2"), "f");
    stage.says("status", 4, &[FORCED, "failover: off: "]);
}

pub(super) fn a_majority_is_lost(stage: &Stage) {
    lose_the_majority(stage);
    stage.all_the_while(|status| status["primary"].is_null() && node(status, "pg2")["role"] == "standby");
    stage.refuses("failover", 3, &["1 of 3 guards are reachable", "`cluster failover NODE --force`"]);
    // Nobody to ask: what it may cost is told, and nothing is done.
    let costs = [
        "pg2 will be forced to become primary:",
        "it has WAL up to ",
        "pg1 is off. Transactions that pg2 never received are set aside when pg1 rejoins",
        "until a majority of the nodes is back, there is no failover from pg2",
        "cannot ask for confirmation",
    ];
    stage.refuses("failover pg2 --force", 3, &costs);
    stage.refuses("failover pg1 --force --yes", 3, &["pg1: its droplet is off", "name a reachable node"]);
    assert_eq!(stage.recovers("pg2"), "t", "nothing was changed");
    force(stage);
    assert_eq!(stage.answers(), "pg2");
    stage.write("pg2", "b");

    // The others come back: never a second primary, and in the end three nodes of one mind.
    stage.lab.power("pg3", Power::On);
    stage.lab.power("pg1", Power::On);
    let begun = Instant::now();
    loop {
        let status = stage.status();
        assert_eq!(status["primary"], "pg2", "{status:#}");
        assert_ne!(stage.recovers("pg1"), "f", "{status:#}");
        if status["healthy"] == true {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(240), "{status:#}");
    }
    println!("power on to health: {:.1} s", begun.elapsed().as_secs_f64());
    assert!(!stage.says("status", 0, &["healthy"]).stdout.contains("BY FORCE"));
    assert_eq!((stage.recovers("pg1"), stage.words("pg1")), ("t".into(), "a b".into()));
    stage.says("explain", 0, &["forced failover: pg1 to pg2"]);
    stage.says("switchover pg1", 0, &["pg1 takes writes ("]);
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// Nothing passes between pg2 and the other nodes; a person reaches all of them.
fn cut_off(stage: &Stage) {
    let peers =
        stage.lab.ssh("pg2", "grep -o '\"host\": *\"[^\"]*\"' /etc/cluster/node.json | cut -d'\"' -f4");
    let own = stage.lab.ssh("pg2", "hostname -I");
    let others: Vec<&str> = peers.lines().filter(|peer| !own.split(' ').any(|own| own == *peer)).collect();
    assert_eq!(others.len(), 2, "{peers}, {own}");
    let others = others.join(", ");
    stage.lab.ssh(
        "pg2",
        &format!(
            "nft 'add table inet test_cut; add chain inet test_cut in {{ type filter hook input priority -200; }}; \
             add rule inet test_cut in ip saddr {{ {others} }} drop; \
             add chain inet test_cut out {{ type filter hook output priority -200; }}; \
             add rule inet test_cut out ip daddr {{ {others} }} drop'"
        ),
    );
}

/// What cannot be prevented (decision 10): both take writes until they hear of each other. It ends with one primary,
/// and nothing is thrown away before somebody has looked.
pub(super) fn a_majority_comes_back_without_the_forced_one(stage: &Stage) {
    lose_the_majority(stage);
    stage.wait_for(30, |status| status["primary"].is_null());
    force(stage);
    stage.write("pg2", "forced");
    cut_off(stage);
    stage.lab.power("pg3", Power::On);
    stage.lab.power("pg1", Power::On);
    let (status, took) = stage.wait_for(90, |status| has_problem(status, "SPLIT BRAIN: pg1 and pg2"));
    println!("two primaries, told after {:.1} s", took.as_secs_f64());
    assert!(status["primary"].is_null(), "{status:#}");
    stage.refuses("up", 3, &["pg1 and pg2 take writes at the same time"]);
    stage.write("pg1", "majority");

    stage.lab.ssh("pg2", "nft delete table inet test_cut");
    let kept = "pg2: took writes while another node was primary; its data is kept";
    // Both kept the address; the one that is left looks after it every 15 s.
    let (_, took) = stage.wait_for(60, |status| serves("pg1")(status) && has_problem(status, kept));
    println!("the forced one gave way after {:.1} s", took.as_secs_f64());
    stage.all_the_while(|status| {
        serves("pg1")(status) && node(status, "pg2")["state"] == "stopped" && has_problem(status, kept)
    });
    stage.says("status", 4, &[kept, "given it up with `cluster rejoin pg2`"]);
    stage.refuses("rejoin pg2", 3, &["cannot ask for confirmation"]);
    stage.says("status", 4, &[kept]);
    stage.says("rejoin pg2 --yes", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a b majority".into()));
    let lost: Value = serde_json::from_str(&stage.lab.ssh("pg2", "cat /var/lib/cluster/lost.json")).unwrap();
    assert!(lost["transactions"].as_u64() >= Some(1), "{lost}");
    let wal = stage.lab.ssh("pg2", &format!("ls {}", lost["wal"].as_str().unwrap()));
    assert!(wal.contains("transactions"), "{wal}");
}
