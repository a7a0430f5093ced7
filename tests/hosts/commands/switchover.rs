//! `cluster switchover`.

use serde_json::json;

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
