//! A cluster that goes back to an earlier moment, and another one that is made as it was then.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::backups::{archive, backups, inventory, last_timeline};
use super::support::Lab;

/// The time now, as the node has it, with the rows before it committed and those after it not.
fn moment(lab: &Lab, node: &str) -> String {
    std::thread::sleep(Duration::from_millis(1_100));
    let sql = "select to_char(now() at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'";
    let moment = lab.sql(node, "app", sql);
    std::thread::sleep(Duration::from_millis(1_100));
    moment
}

fn rows(lab: &Lab, node: &str) -> String {
    lab.sql(node, "app", "select count(*), coalesce(max(a), 0) from t")
}

fn insert(lab: &Lab, node: &str, from: u32, to: u32) {
    lab.sql(node, "app", &format!("insert into t select generate_series({from}, {to})"));
}

/// Restores in place and looks at what came of it, everywhere.
fn restore(lab: &Lab, inventory: &str, to: &str, expected: &str) -> Value {
    let begun = Instant::now();
    let run = lab.cluster(&["restore", "-i", inventory, "--to", to, "--yes", "--json"]).ok();
    let done = run.json();
    println!("restored to {to} in {:.1} s: {done}", begun.elapsed().as_secs_f64());
    let primary = done["primary"].as_str().unwrap().to_owned();
    let standby = if primary == "pg1" { "pg2" } else { "pg1" };
    for node in [primary.as_str(), standby] {
        assert_eq!(rows(lab, node), expected, "{node}\n{}", run.stderr);
    }
    assert!(done["redundant_after"].is_number() && done["backup"].is_string(), "{done}");
    let (status, _) = lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
    assert_eq!(status["primary"], primary);
    assert_eq!(last_timeline(&status), done["timeline"].as_u64());
    done
}

#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_goes_back_in_its_place() {
    let lab = Lab::start(44, super::support::PREPARED);
    let inventory = inventory(&lab);
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.sql("pg1", "app", "create table t (a int)");
    insert(&lab, "pg1", 1, 1000);
    lab.wait_for_status(&inventory, 120, |status| !backups(status).is_empty());
    let early = lab.sql("pg1", "app", "select pg_current_wal_lsn()");
    insert(&lab, "pg1", 1001, 2000);
    let first = moment(&lab, "pg1");
    insert(&lab, "pg1", 2001, 3000);
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    insert(&lab, "pg2", 3001, 4000);
    lab.wait_for_status(&inventory, 180, |status| {
        status["healthy"] == true && last_timeline(status) == Some(2)
    });
    let second = moment(&lab, "pg2");
    lab.sql("pg2", "app", "drop table t");

    // What cannot be had is refused before anything is touched, with what can be.
    for (to, code, says) in [
        ("2020-01-01T00:00:00Z", 3, "the first moment is"),
        ("2099-01-01T00:00:00Z", 3, "is in the future"),
        ("0/100", 3, "the first moment is"),
        ("FF/0", 3, "the last moment is"),
        ("yesterday", 2, "`latest`"),
    ] {
        let refused = lab.cluster(&["restore", "-i", &inventory, "--to", to, "--yes"]);
        assert!(refused.code == code && refused.stderr.contains(says), "{to}: {}", refused.stderr);
    }
    let refused = lab.cluster(&["restore", "-i", &inventory, "--to", &second]);
    assert!(refused.code == 3 && refused.stderr.contains("is given up"), "{}", refused.stderr);

    // Back to before the mistake, and then to before the switchover.
    let done = restore(&lab, &inventory, &second, "4000|4000");
    assert_eq!(done["primary"], "pg2");
    let kept = done["kept"].as_str().unwrap();
    lab.ssh("pg2", &format!("test -d {kept}/base"));
    let refused = lab.cluster(&["restore", "-i", &inventory, "--to", &second, "--yes"]);
    assert!(refused.code == 1 && refused.stderr.contains("is still there"), "{}", refused.stderr);
    lab.cluster(&["restore", "-i", &inventory, "--discard", "--yes"]).ok();
    lab.ssh("pg2", &format!("test ! -e {kept}"));

    insert(&lab, "pg2", 4001, 5000);
    let done = restore(&lab, &inventory, &first, "2000|2000");
    assert_eq!(done["timeline"], 4, "no number is used twice");
    lab.cluster(&["restore", "-i", &inventory, "--discard", "--yes"]).ok();

    // A failover afterwards, and back to a position.
    insert(&lab, "pg2", 2001, 2500);
    lab.cluster(&["switchover", "pg1", "-i", &inventory]).ok();
    lab.wait_for_status(&inventory, 180, |status| {
        status["healthy"] == true && last_timeline(status) == Some(5)
    });
    assert_eq!(rows(&lab, "pg1"), "2500|2500");
    restore(&lab, &inventory, &early, "1000|1000");
    assert!(lab.cluster(&["up", "-i", &inventory]).ok().last_line().contains("nothing to do"));
    lab.stop();
}

#[test]
#[ignore = "needs root and a lab"]
fn another_cluster_is_made_as_this_one_was() {
    let lab = Lab::start(45, super::support::PREPARED);
    let inventory = inventory(&lab);
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.sql("pg1", "app", "create table t (a int)");
    insert(&lab, "pg1", 1, 1000);
    lab.wait_for_status(&inventory, 120, |status| !backups(status).is_empty());
    let then = moment(&lab, "pg1");
    insert(&lab, "pg1", 1001, 2000);
    let text = std::fs::read_to_string(&inventory).unwrap();
    let copy = |file: &str, text: &str| lab.write(file, text);
    let renamed = text.replace("cluster: demo", "cluster: copy").replace("name: pg", "name: copy");
    // What would do harm to the original is refused.
    let shared = renamed.replace("bucket: demo-backups", "bucket: demo-backups\n  folder: /demo");
    for (file, text, says) in [
        ("same.yaml", text.as_str(), "both inventories describe"),
        ("shared.yaml", shared.as_str(), "would archive into the repository of"),
        ("other.yaml", &renamed.replace("version: 15", "version: 14"), "the backups are of PostgreSQL 15"),
    ] {
        let other = copy(file, text);
        let refused = lab.cluster(&["restore", "-i", &inventory, "--as", &other, "--to", &then]);
        assert!(refused.code == 3 && refused.stderr.contains(says), "{file}: {}", refused.stderr);
    }
    let other = copy("copy.yaml", &renamed.replace("demo-backups", "copy-backups"));
    let made = lab.cluster(&["restore", "-i", &inventory, "--as", &other, "--to", &then]).ok();
    println!("{}", made.stderr);
    let count = |inventory: &str| {
        let run =
            lab.cluster(&["psql", "-i", inventory, "-d", "app", "--", "-XAtqc", "select count(*) from t"]);
        run.ok().stdout.trim().to_owned()
    };
    assert_eq!((count(&other), count(&inventory)), ("1000".into(), "2000".into()));
    // Both go on, each into its own repository.
    lab.wait_for_status(&other, 180, |status| status["healthy"] == true && !backups(status).is_empty());
    archive(&lab, "pg1");
    for inventory in [&inventory, &other] {
        lab.cluster(&["backup", "check", "-i", inventory]).ok();
        lab.cluster(&["backup", "--full", "-i", inventory]).ok();
        lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
    }
    let secrets = lab.cluster(&["ssh", "-i", &other, "copy1", "--", "ls /run/cluster"]).ok();
    assert!(!secrets.stdout.contains("restore-source"), "{}", secrets.stdout);
    lab.cluster(&["down", "-i", &other, "--yes"]).ok();
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    assert_eq!(count(&inventory), "2000");
    lab.stop();
}
