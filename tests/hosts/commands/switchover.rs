//! `cluster switchover`.

use serde_json::{Value, json};

use super::stage::Stage;

pub(super) fn a_switchover_and_back(stage: &Stage) {
    stage.refuses("switchover pg9", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("switchover pg3", 3, &["pg3 is the witness and holds no data", "name a data node"]);
    stage.refuses("switchover pg1", 3, &["pg1 is already the primary"]);
    assert_eq!(stage.healthy()["primary"], "pg1");

    stage.write("pg1", "a");
    stage.says("switchover pg2", 0, &["pg2 takes writes (", "pg1 streams from it ("]);
    let status = stage.healthy();
    assert_eq!((&status["primary"], &status["holder"]), (&json!("pg2"), &json!("pg2")));
    assert_eq!((stage.recovers("pg1"), stage.recovers("pg2")), ("t".into(), "f".into()));
    assert_eq!(stage.answers(), "pg2");
    stage.write("pg2", "b");

    // Back, and to nobody in particular: there is one standby.
    let told = stage.says("switchover --json", 0, &[]).json();
    assert_eq!((&told["from"], &told["to"]), (&json!("pg2"), &json!("pg1")));
    let (moved, whole) = (told["seconds"].as_f64().unwrap(), told["redundant_after"].as_f64().unwrap());
    assert!(0.0 < moved && moved < whole && whole < 60.0, "{told}");
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!(stage.words("pg1"), "a b", "nothing acknowledged is lost");
}

/// PostgreSQL is stopped where it takes writes, by somebody who does not pause, and the other node takes over. Says what it was.
fn stopped(stage: &Stage) -> [&'static str; 2] {
    let of = |status: &Value| if status["primary"] == "pg1" { ["pg1", "pg2"] } else { ["pg2", "pg1"] };
    let [old, new] = of(&stage.healthy());
    // Where nobody is quick enough, it comes back by itself, and rightly.
    for _ in 0..3 {
        stage.lab.ssh(old, "systemctl stop postgresql@15-main");
        let (status, _) = stage.wait_for(60, |status| status["primary"].is_string());
        if status["primary"] == new {
            return [old, new];
        }
    }
    panic!("{new} does not take over");
}

/// Each command comes while the cluster still settles from what was before, and nobody waits for it to be whole.
pub(super) fn one_right_after_another(stage: &Stage) {
    // A second after PostgreSQL was allowed to start, that still counted as one that runs.
    stage.lab.ssh("pg1", "cluster-node restart && systemctl restart postgresql@15-main");
    stage.says("switchover", 0, &["pg2 takes writes (", "pg1 streams from it ("]);
    stage.says("switchover", 0, &["pg1 takes writes (", "pg2 streams from it ("]);
    // The old primary is only about to become a standby.
    let [old, new] = stopped(stage);
    stage.says("switchover", 0, &[&format!("{old} takes writes ("), &format!("{new} streams from it (")]);
    let [old, new] = stopped(stage);
    stage.says(&format!("rejoin {old}"), 0, &[&format!("{old} streams from {new} (")]);
    if new == "pg2" {
        stage.says("switchover", 0, &["pg1 takes writes ("]);
    }
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!(stage.words("pg2"), "a b", "nothing acknowledged is lost");
}
