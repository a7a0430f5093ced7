//! Droplets of other sizes, while the cluster is written to.

use std::time::Duration;

use serde_json::Value;

use super::NODES;
use super::support::{Lab, PREPARED, block_on};
use super::writer::Writer;

/// Size and disk of every node's droplet, as the API lists them.
fn sizes(lab: &Lab) -> Vec<(String, String, u64)> {
    let mut droplets = block_on(async { lab.client().droplets("cluster:demo").await.unwrap() });
    droplets.sort_by(|one, other| one.name.cmp(&other.name));
    droplets.into_iter().map(|it| (it.name, it.size_slug, it.disk.unwrap())).collect()
}

/// A cluster whose witness is smaller gets larger data nodes, by a run that is killed while the standby is off, and by the
/// one after it; and then a larger disk for one of them. The application sees two switchovers, one a resize, and nothing else.
#[test]
#[ignore = "needs root and a lab"]
fn every_droplet_is_resized_while_an_application_writes() {
    let lab = Lab::start(34, PREPARED);
    let with = |provider: &str, pg3: &str| {
        let nodes = NODES.replace("role: witness}", &format!("role: witness{pg3}}}"));
        lab.inventory("demo.yaml", PREPARED, &format!("{provider}postgresql:\n  version: 15\n{nodes}"))
    };
    let inventory = with("", ", size: s-1vcpu-512mb-10gb");
    let up = ["up", "-i", &inventory];
    let healthy = || lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true).0;
    let of = |pg1: (&str, u64), pg2: (&str, u64), pg3: (&str, u64)| {
        let row = |(name, (size, disk)): (&str, (&str, u64))| (name.to_owned(), size.to_owned(), disk);
        [("pg1", pg1), ("pg2", pg2), ("pg3", pg3)].map(row).to_vec()
    };
    lab.cluster(&up).ok();
    let (small, tiny) = (("s-1vcpu-1gb", 25), ("s-1vcpu-512mb-10gb", 10));
    assert_eq!(sizes(&lab), of(small, small, tiny));
    assert_eq!(healthy()["monthly_cost"], 16.0);

    // Another size for those that name none: the witness has its own.
    let text = std::fs::read_to_string(&inventory).unwrap().replace("size: s-1vcpu-1gb", "size: s-1vcpu-2gb");
    lab.write("demo.yaml", &text);
    let plan: Value = lab.look(&["plan", "-i", &inventory, "--json"]).ok().json();
    println!("{}", lab.cluster(&["plan", "-i", &inventory]).stdout);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 1, "{plan:#}");
    assert_eq!(plan["monthly_cost"], serde_json::json!({"now": 16.0, "then": 28.0}));
    let writer = Writer::start(&lab);
    let killed =
        lab.cluster_killed_at(&up, "pg2 the provider makes it s-1vcpu-2gb", Duration::from_millis(500));
    assert!(killed, "it was killed");
    let run = lab.cluster(&up).ok();
    println!("{}", run.stderr);
    let status = healthy();
    assert_eq!(status["primary"], "pg2");
    // The disks are as they were.
    let larger = ("s-1vcpu-2gb", 25);
    assert_eq!(sizes(&lab), of(larger, larger, tiny));
    // One switchover.
    writer.stop(&lab, "all data nodes were resized", 1);
    lab.nothing_to_do(&inventory);

    // With its disk, and back again, which a disk does not do.
    let grown = text.replace("    size: ", "    resize_disk: true\n    size: ");
    lab.write("demo.yaml", &grown);
    let writer = Writer::start(&lab);
    // Looked at, and carried out as it was.
    let file = lab.directory.path().join("plan.json");
    let plan = |name: &str| lab.look(&["plan", "-i", &inventory, "--exit-code", "--out", name]).code;
    let saved = ["up", "-i", &inventory, "--plan", file.to_str().unwrap()];
    assert_eq!(plan(file.to_str().unwrap()), 2);
    println!("{}", lab.cluster(&saved).ok().stderr);
    lab.nothing_to_do(&inventory);
    assert_eq!(plan("/dev/null/none"), 1, "what cannot be written is an error");
    assert_eq!(plan(lab.directory.path().join("none.json").to_str().unwrap()), 0);
    let refused = lab.cluster(&saved);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("has changed since the plan was made"), "{}", refused.stderr);
    let whole = ("s-1vcpu-2gb", 50);
    assert_eq!(sizes(&lab), of(whole, whole, tiny));
    assert_eq!(healthy()["primary"], "pg1");
    writer.stop(&lab, "their disks grew", 1);
    lab.write("demo.yaml", &text.replace("size: s-1vcpu-2gb", "size: s-1vcpu-1gb"));
    let run = lab.cluster(&up);
    assert!(run.stderr.contains("a disk cannot shrink"), "{}", run.stderr);
    assert_eq!(sizes(&lab), of(whole, whole, tiny));
    lab.write("demo.yaml", &text);
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    assert_eq!(lab.count(), (0, 0));
    lab.stop();
}
