//! A cluster that grows while it is written to.

use std::time::{Duration, Instant};

use cluster_cloud::droplet::Power;
use serde_json::Value;

use super::node;
use super::support::{Lab, PREPARED};
use super::writer::Writer;

const THREE: &str = "postgresql:\n  version: 15\nnodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: witness}
";
const TWO_MORE: &str = "  - {name: pg4, id: 4, role: standby}\n  - {name: pg5, id: 5, role: standby}\n";

/// The configuration that each guard goes by.
pub(super) fn members(lab: &Lab, nodes: &[&str]) -> Vec<(u64, Vec<String>)> {
    let of = |node: &&str| {
        let status: Value = serde_json::from_str(&lab.ssh(node, "cluster-node status --json")).unwrap();
        let names =
            status["members"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        (status["generation"].as_u64().unwrap(), names.collect())
    };
    nodes.iter().map(of).collect()
}

/// Two nodes in one edit, a run that is killed between two guards, and then two servers lost at once: three of five are
/// a majority, and one of the new ones is primary.
#[test]
#[ignore = "needs root and a lab"]
fn two_nodes_are_added_one_at_a_time_and_two_may_then_be_lost() {
    let all = ["pg1", "pg2", "pg3", "pg4", "pg5"];
    let lab = Lab::start(23, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, THREE);
    let healthy = || lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true).0;
    lab.cluster(&["up", "-i", &inventory]).ok();
    healthy();

    let writer = Writer::start(&lab);
    lab.inventory("demo.yaml", PREPARED, &format!("{THREE}{TWO_MORE}"));
    let plan = lab.look(&["plan", "-i", &inventory]).stdout;
    assert!(plan.contains("enable voting, one node at a time, on pg4, pg5"), "{plan}");
    // Killed when the first newcomer and the primary know of each other, and the next is about to be told.
    let up = ["up", "-i", &inventory];
    assert!(lab.cluster_killed_at(&up, "pg2 apply membership 1", Duration::ZERO), "it was killed");
    let run = lab.cluster(&["up", "-i", &inventory]).ok();
    println!("{}", run.stderr);
    let five: Vec<String> = all.map(str::to_owned).to_vec();
    assert_eq!(members(&lab, &all), vec![(2, five); 5]);
    writer.stop(&lab, "two nodes were added", 0);

    // At once: guards that were just told of their members have granted nothing yet, and both that led before are lost.
    lab.power("pg1", Power::Off);
    lab.power("pg2", Power::Off);
    let cut = Instant::now();
    let (status, _) = lab.wait_for_status(&inventory, 60, |status| {
        ["pg4", "pg5"].iter().any(|name| status["primary"] == *name)
    });
    println!("two of five lost: {} is primary after {:.1} s", status["primary"], cut.elapsed().as_secs_f64());
    let other = if status["primary"] == "pg4" { "pg5" } else { "pg4" };
    lab.wait_for_status(&inventory, 60, |status| node(status, other)["state"] == "streaming");
    lab.power("pg1", Power::On);
    lab.power("pg2", Power::On);
    assert_eq!(healthy()["primary"], status["primary"]);
    assert_eq!(lab.count(), (5, 1));
    lab.nothing_to_do(&inventory);

    // What was told is not untold by an edit.
    lab.inventory("demo.yaml", PREPARED, THREE);
    let refused = lab.cluster(&["up", "-i", &inventory]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("pg4 is a node of the cluster but is not in the inventory"),
        "{}",
        refused.stderr
    );
    lab.inventory("demo.yaml", PREPARED, &format!("{THREE}{TWO_MORE}"));

    // One that runs leaves, and one that is lost for good; the address and the writer's rows stay where they are.
    let primary = status["primary"].as_str().unwrap();
    let refused = lab.cluster(&["remove", primary, "-i", &inventory, "--yes"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("takes writes"), "{}", refused.stderr);
    let rows = "select count(*) from repmgr.nodes";
    let slots = "select string_agg(slot_name, ' ' order by 1) from pg_replication_slots";
    let writer = Writer::start(&lab);
    println!("{}", lab.cluster(&["remove", other, "-i", &inventory, "--yes"]).ok().stderr);
    lab.power("pg1", Power::Off);
    println!("{}", lab.cluster(&["remove", "pg1", "-i", &inventory, "--yes"]).ok().stderr);
    writer.stop(&lab, "two nodes left", 0);
    assert_eq!(lab.count(), (3, 1));
    assert_eq!(lab.sql(primary, "repmgr", rows), "3");
    assert_eq!(lab.sql(primary, "postgres", slots), "repmgr_slot_2");
    let left = ["pg2", "pg3", primary].map(str::to_owned).to_vec();
    assert_eq!(members(&lab, &["pg2", "pg3", primary]), vec![(4, left); 3]);
    // A run that was killed is finished by the next; and the file follows.
    assert_eq!(lab.cluster(&["remove", "pg1", "-i", &inventory, "--yes"]).code, 0);
    let plan = lab.look(&["plan", "-i", &inventory]).stdout;
    assert!(plan.contains("enable voting, one node at a time, on pg1"), "{plan}");
    let three = format!("{THREE}  - {{name: {primary}, id: {}, role: standby}}\n", &primary[2..])
        .replace("  - {name: pg1, id: 1, role: primary}\n", "")
        .replace("id: 2, role: standby", "id: 2, role: primary");
    lab.inventory("demo.yaml", PREPARED, &three);
    lab.cluster(&["up", "-i", &inventory]).ok();
    assert_eq!(healthy()["primary"], primary);
    lab.nothing_to_do(&inventory);
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    assert_eq!(lab.count(), (0, 0));
    lab.stop();
}
