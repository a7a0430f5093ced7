//! SSH connections that outlive a run.

use std::time::{Duration, Instant};

use super::proofs::until;
use super::support::{Lab, PREPARED, Run, is_unreachable};
use super::{demo, node};

/// How many logins the SSH server of a node has accepted, and those of this test's own questions with them.
fn logins(lab: &Lab, node: &str) -> usize {
    lab.ssh(node, "journalctl -q --sync; journalctl -q --no-pager -o cat -t sshd | grep -c '^Accepted '")
        .parse()
        .unwrap()
}

/// `cluster status` with another time for which connections are kept.
fn status_kept_for(lab: &Lab, inventory: &str, seconds: &str) -> Run {
    let mut command = lab.command(&["status", "-i", inventory, "--json"]);
    command.env("CLUSTER_SSH_KEEP_SECONDS", seconds).output().unwrap().into()
}

#[test]
#[ignore = "needs root and a lab"]
fn the_next_run_finds_the_connections_unless_something_has_changed() {
    let lab = Lab::start(37, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, &demo(15));
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.wait_for_status(&inventory, 90, |status| status["healthy"] == true);

    // Each question of this test is a login itself.
    let found = || {
        let before = logins(&lab, "pg1");
        for _ in 0..3 {
            lab.cluster(&["status", "-i", &inventory]);
        }
        logins(&lab, "pg1") == before + 1
    };
    // One that does not answer at once is not believed in, as on a machine that does too much.
    assert!((0..3).any(|_| found()), "runs have logged in");
    let before = logins(&lab, "pg1");
    status_kept_for(&lab, &inventory, "0");
    assert_eq!(logins(&lab, "pg1"), before + 2, "a run that is to keep nothing has not logged in");

    a_pin_counts_at_once(&lab, &inventory);
    a_silent_host_is_noticed(&lab, &inventory);

    // Nothing is left of a cluster that is gone, and no run waits for it.
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}

/// A host that is not who it was is not worked on, however good the connection is.
fn a_pin_counts_at_once(lab: &Lab, inventory: &str) {
    let path = lab.directory.path().join("state/demo/known_hosts");
    let pinned = std::fs::read_to_string(&path).unwrap();
    let line = |name: &str| pinned.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let (one, other) = (line("demo-pg2 "), line("demo-pg3 "));
    let other_key = other.replace("demo-pg3 ", "demo-pg2 ");
    std::fs::write(&path, pinned.replace(&one, &other_key)).unwrap();
    let status = lab.status(inventory);
    assert!(status.to_string().contains("another key than the pinned one"), "{status:#}");
    std::fs::write(&path, &pinned).unwrap();
    lab.wait_for_status(inventory, 30, |status| status["healthy"] == true);
}

/// A connection whose host has fallen silent is not waited for.
fn a_silent_host_is_noticed(lab: &Lab, inventory: &str) {
    let address = node(&lab.status(inventory), "pg3")["address"].as_str().unwrap().parse().unwrap();
    // From now on, and until it is well again by itself.
    let cut = "nft add table inet silent; nft add chain inet silent in { type filter hook input priority -200 \\; }; \
               nft add rule inet silent in tcp dport 22 drop; sleep 60; nft delete table inet silent";
    lab.ssh("pg3", &format!("systemd-run -q --collect sh -c \"{cut}\""));
    until(30, "pg3 to be silent", || is_unreachable(address, 22));
    let begun = Instant::now();
    let status = lab.cluster(&["status", "-i", inventory, "--json"]).json();
    assert_eq!(node(&status, "pg3")["role"], "none", "{status:#}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
