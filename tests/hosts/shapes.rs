//! Other shapes of a cluster than three nodes and a floating IP.

use cluster_cloud::droplet::Power;
use serde_json::{Value, json};

use super::drill::faults;
use super::node;
use super::proofs::until;
use super::support::{Lab, PREPARED};

const FOUR: &str = "    floating_ip: false
postgresql:
  version: 15
users:
  - name: app
databases:
  - name: app
nodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: standby}
  - {name: pg4, id: 4, role: witness}
";

fn streams_from(status: &Value, name: &str) -> bool {
    node(status, name)["state"] == "streaming"
}

/// Nobody moves an address: applications name all nodes and ask for the one that takes writes.
#[test]
#[ignore = "needs root and a lab"]
fn two_standbys_and_no_floating_ip() {
    let lab = Lab::start(10, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, FOUR);
    let healthy = || lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true).0;
    lab.cluster(&["up", "-i", &inventory]).ok();
    let status = healthy();
    assert_eq!(lab.count(), (4, 0));
    assert_eq!(status["floating_ip"], json!(null));
    assert!(streams_from(&status, "pg2") && streams_from(&status, "pg3"), "{status:#}");
    lab.nothing_to_do(&inventory);

    // The primary is lost: one standby takes over, and the other one follows it.
    lab.sql("pg1", "app", "create table t as select 42 as answer");
    lab.power("pg1", Power::Off);
    let other = |primary: &str| if primary == "pg2" { "pg3" } else { "pg2" };
    let (status, took) = lab.wait_for_status(&inventory, 60, |status| {
        let primary = status["primary"].as_str().unwrap_or_default();
        ["pg2", "pg3"].contains(&primary) && streams_from(status, other(primary))
    });
    let primary = status["primary"].as_str().unwrap().to_owned();
    println!("{primary} took over, and {} follows it: {:.1} s", other(&primary), took.as_secs_f64());
    lab.sql(&primary, "app", "insert into t values (43)");
    until(60, "the other standby to have it", || {
        lab.sql(other(&primary), "app", "select count(*) from t") == "2"
    });
    lab.power("pg1", Power::On);
    let status = healthy();
    assert_eq!(status["primary"], primary.as_str());
    assert_eq!(lab.sql("pg1", "app", "select count(*) from t"), "2");
    let senders = "select count(*) from pg_stat_replication where state = 'streaming'";
    assert_eq!(lab.sql(&primary, "postgres", senders), "2");

    // The writer of a drill finds the primary by itself.
    for fault in faults().iter().filter(|it| ["crash", "switchover"].contains(&it.as_str())) {
        let run = lab.cluster(&["drill", "-i", &inventory, "--fault", fault, "--yes", "--json"]);
        assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
        let report = run.json();
        println!("drill {fault}: {} {}", report["seconds"], report["writes"]);
        assert_eq!(report["passed"], true, "{report:#}");
        let status = healthy();
        assert_eq!(status["primary"], report["new_primary"]);
        assert_eq!(lab.sql(status["primary"].as_str().unwrap(), "postgres", senders), "2");
    }
    lab.cluster(&["switchover", "pg1", "-i", &inventory]).ok();
    assert_eq!(healthy()["primary"], "pg1");
    lab.nothing_to_do(&inventory);
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    assert_eq!(lab.count(), (0, 0));
    lab.stop();
}
