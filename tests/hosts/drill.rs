//! Drills on hosts: every fault, an operator who stops in the middle, and one who vanishes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::proofs::until;
use super::support::{Lab, PREPARED, Run};
use super::{demo, existing_inventory, node};

/// Which faults are drilled: all, or those that `CLUSTER_TEST_DRILLS` names (`crash,isolate`).
pub(super) fn faults() -> Vec<String> {
    let all = || "crash,switchover,power-off,isolate,freeze,api-outage".to_owned();
    std::env::var("CLUSTER_TEST_DRILLS").unwrap_or_else(|_| all()).split(',').map(str::to_owned).collect()
}

fn healthy(lab: &Lab, inventory: &str) -> Value {
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true).0
}

/// Nothing of a drill is on the data nodes.
fn nothing_is_left(lab: &Lab, primary: &str) {
    for node in ["pg1", "pg2"] {
        let look = "nft list tables | grep cluster_drill; systemctl list-units --all --plain --no-legend 'cluster-drill*'; :";
        assert_eq!(lab.ssh(node, look), "", "{node}");
        assert_eq!(
            lab.ssh(node, "grep -l '^State:.*stopped' /proc/[0-9]*/status 2>/dev/null || :"),
            "",
            "{node}"
        );
    }
    assert_eq!(lab.sql(primary, "cluster", "select to_regclass('cluster_drill') is null"), "t");
}

/// Runs a drill that cuts the primary off and sends it signals, one as soon as it has been heard, when that has happened.
fn stopped(lab: &Lab, inventory: &str, primary: &str, signals: &[Signal]) -> Run {
    let mut child = lab
        .command(&["drill", "-i", inventory, "--fault", "isolate", "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    // Clients first, then the fault.
    let mut told: Vec<String> = lines.by_ref().take_while(|line| !line.contains("clients write")).collect();
    told.extend(lines.next());
    until(60, "the primary to be cut off", || {
        lab.run_on(primary, "nft list tables").stdout.contains("cluster_drill")
    });
    // It has heard so, and waits for what becomes of it.
    std::thread::sleep(Duration::from_secs(2));
    for (after, signal) in signals.iter().enumerate() {
        if after > 0 {
            told.extend(lines.by_ref().take_while(|line| !line.contains("interrupt again")));
        }
        kill_process(Pid::from_child(&child), *signal).unwrap();
    }
    told.extend(lines);
    let mut run = Run::from(child.wait_with_output().unwrap());
    run.stderr = told.join("\n");
    run
}

#[test]
#[ignore = "needs root and a lab"]
fn every_drill_ends_well_and_puts_everything_back() {
    let lab = Lab::start(63, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, &demo(15));
    lab.cluster(&["up", "-i", &inventory]).ok();
    let mut status = healthy(&lab, &inventory);

    // Nobody to ask: nothing is done.
    let refused = lab.cluster(&["drill", "-i", &inventory, "--fault", "crash"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("the postmaster of pg1 is killed"), "{}", refused.stderr);

    for fault in faults() {
        let primary = status["primary"].as_str().unwrap().to_owned();
        let picture = lab.directory.path().join("drill.svg");
        let picture = picture.to_str().unwrap();
        let run =
            lab.cluster(&["drill", "-i", &inventory, "--fault", &fault, "--yes", "--json", "--svg", picture]);
        assert_eq!(run.code, 0, "{fault}: {}\n{}", run.stdout, run.stderr);
        let report = run.json();
        println!("{fault}: {} {}", report["seconds"], report["writes"]);
        assert_eq!(report["passed"], true);
        assert_eq!(report["old_primary"], primary.as_str());
        assert_ne!(report["new_primary"], primary.as_str(), "another node took over");
        let seconds =
            |key: &str| report["seconds"][key].as_f64().unwrap_or_else(|| panic!("{key}: {report:#}"));
        // Every figure was seen, in the order in which things can happen.
        assert!(seconds("cut_to_writable") > 0.0);
        assert!(seconds("cut_to_writable") <= seconds("cut_to_address"));
        assert!(seconds("cut_to_writable") < seconds("cut_to_redundancy"));
        let count = |key: &str| report["writes"][key].as_u64().unwrap();
        assert!(count("acknowledged") > 40, "{report:#}");
        assert!(count("refused") + count("unanswered") > 0 || fault == "switchover", "{report:#}");
        assert!(report["reads"]["answered"].as_u64() > Some(40), "{report:#}");
        match fault.as_str() {
            "switchover" => assert_eq!(report["writes"]["lost"], 0, "{report:#}"),
            // The address stayed where it was for as long as the API was away, and the promotion did not wait.
            "api-outage" => {
                assert!(seconds("cut_to_address") > seconds("cut_to_put_back"), "{report:#}");
                assert!(seconds("cut_to_writable") < seconds("cut_to_put_back"), "{report:#}");
            }
            _ => {}
        }
        let svg = std::fs::read_to_string(picture).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        status = healthy(&lab, &inventory);
        assert_eq!(status["primary"], report["new_primary"]);
        assert_eq!(node(&status, &primary)["state"], "streaming", "{status:#}");
        nothing_is_left(&lab, status["primary"].as_str().unwrap());
    }

    // Ctrl-C in the middle of it: nothing is waited for that is not put back.
    let asked = Instant::now();
    let run = stopped(&lab, &inventory, status["primary"].as_str().unwrap(), &[Signal::INT]);
    assert_eq!(run.code, 130, "{}", run.stderr);
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    let primary = healthy(&lab, &inventory)["primary"].as_str().unwrap().to_owned();
    nothing_is_left(&lab, &primary);

    // Twice: it goes at once, and says what it leaves.
    let run = stopped(&lab, &inventory, &primary, &[Signal::INT, Signal::INT]);
    assert_eq!(run.code, 130, "{}", run.stderr);
    let left =
        format!("stopped at once: {primary} is reachable again within three minutes, by a timer there");
    assert!(run.stderr.contains(&left), "{}", run.stderr);
    // The first one may have undone it in time.
    lab.ssh(
        &primary,
        "systemctl start --wait cluster-drill-mend.service; systemctl stop cluster-drill-mend.timer; :",
    );
    let primary = healthy(&lab, &inventory)["primary"].as_str().unwrap().to_owned();

    // Killed in the middle of it: what the timer on the host will run mends it.
    stopped(&lab, &inventory, &primary, &[Signal::KILL]);
    assert_eq!(lab.ssh(&primary, "nft list tables"), "table inet cluster_drill");
    assert_eq!(lab.ssh(&primary, "systemctl is-active cluster-drill-mend.timer"), "active");
    lab.ssh(
        &primary,
        "systemctl start --wait cluster-drill-mend.service; systemctl stop cluster-drill-mend.timer",
    );
    assert_eq!(lab.ssh(&primary, "nft list tables"), "");
    healthy(&lab, &inventory);

    // Hosts that exist have no power to cut; the rest works there, by way of their own addresses.
    let existing = existing_inventory(&lab, &inventory);
    let refused = lab.cluster(&["drill", "-i", &existing, "--fault", "power-off", "--yes"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    let run = lab.cluster(&["drill", "-i", &existing, "--fault", "switchover", "--yes", "--json"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
    let (report, nodes) = (run.json(), ["pg1", "pg2"]);
    let primary = report["new_primary"].as_str().unwrap();
    nothing_is_left(&lab, primary);

    // A cluster that has lost a node is not drilled.
    let standby = nodes.into_iter().find(|node| *node != primary).unwrap();
    lab.ssh(standby, "systemctl stop cluster-node");
    let refused = lab.cluster(&["drill", "-i", &inventory, "--fault", "crash", "--yes"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("{standby}: cluster-node is")), "{}", refused.stderr);
    lab.stop();
}
