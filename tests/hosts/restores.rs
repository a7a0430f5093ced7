//! A cluster that goes back to an earlier moment, and another one that is made as it was then.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::backups::{backups, inventory, last_timeline};
use super::proofs::{damage, mend, objects, until};
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

/// For how long a cluster and its copy archive and back up beside each other: once, unless more is asked for.
fn fork_seconds() -> u64 {
    std::env::var("CLUSTER_TEST_FORK_SECONDS").map_or(0, |text| text.parse().unwrap())
}

/// A second cluster is made from the first one's repository, and shares nothing with it afterwards.
fn copy(lab: &Lab, inventory: &str, to: &str) {
    let text = std::fs::read_to_string(inventory).unwrap();
    let renamed = text.replace("cluster: demo", "cluster: copy").replace("name: pg", "name: copy");
    // What would do harm to the original is refused.
    for (file, text, says) in [
        ("same.yaml", text.clone(), "both inventories describe"),
        (
            "shared.yaml",
            renamed.replace("backup:\n", "backup:\n  folder: /demo\n"),
            "would archive into the repository of",
        ),
        ("other.yaml", renamed.replace("version: 15", "version: 14"), "the backups are of PostgreSQL 15"),
    ] {
        let other = lab.write(file, &text);
        let refused = lab.cluster(&["restore", "-i", inventory, "--as", &other, "--to", to]);
        assert!(refused.code == 3 && refused.stderr.contains(says), "{file}: {}", refused.stderr);
    }
    let other = lab.write("copy.yaml", &renamed.replace("demo-backups", "copy-backups"));
    let begun = Instant::now();
    let made = lab.cluster(&["restore", "-i", inventory, "--as", &other, "--to", to]).ok();
    println!("a copy after {:.0} s: {}", begun.elapsed().as_secs_f64(), made.last_line());
    let count = |inventory: &str, table: &str| {
        let sql = format!("select count(*) from {table}");
        let run = lab.cluster(&["psql", "-i", inventory, "-d", "app", "--", "-XAtqc", &sql]);
        run.ok().stdout.trim().to_owned()
    };
    assert_eq!(count(&other, "t"), "4000");
    let subscribes = "pg_subscription where subenabled";
    assert_eq!(count(inventory, subscribes), "1");
    assert_eq!(count(&other, subscribes), "0", "it would go on from the original's slot");
    // Both go on, each into its own repository.
    lab.wait_for_status(&other, 180, |status| status["healthy"] == true && !backups(status).is_empty());
    let limit = Duration::from_secs(fork_seconds());
    let begun = Instant::now();
    let mut files = 0;
    loop {
        for inventory in [inventory, &other] {
            let sql = "create table if not exists forked (a int); insert into forked select generate_series(1, 1000)";
            lab.cluster(&["psql", "-i", inventory, "-d", "app", "--", "-Xqc", sql]).ok();
            lab.cluster(&["backup", "-i", inventory]).ok();
        }
        files += 1;
        if begun.elapsed() >= limit {
            break;
        }
    }
    for inventory in [inventory, &other] {
        lab.cluster(&["backup", "check", "-i", inventory]).ok();
        lab.cluster(&["backup", "--full", "-i", inventory]).ok();
        lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
        let proved = lab.cluster(&["drill", "-i", inventory, "--fault", "restore", "--json"]).ok().json();
        println!("{files} times written and backed up on both sides; {}", proved["proof"]);
    }
    let left = lab.cluster(&["ssh", "-i", &other, "copy1", "--", "ls /run/cluster"]).ok();
    assert!(!left.stdout.contains("restore-source"), "{}", left.stdout);
    lab.cluster(&["down", "-i", &other, "--yes"]).ok();
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
}

/// PostgreSQL takes a WAL file that is damaged for the end of the archive: nothing is exchanged, and nothing stays of the
/// copy.
fn ends_early(lab: &Lab, inventory: &str) {
    lab.sql("pg2", "app", "create table bulk (a int, b text)");
    let written = || {
        let file = lab.sql("pg2", "app", "select pg_walfile_name(pg_current_wal_lsn())");
        lab.sql("pg2", "app", "insert into bulk select g, md5(g::text) from generate_series(1, 40000) g");
        lab.sql("pg2", "postgres", "select pg_switch_wal()");
        file
    };
    let (file, last) = (written(), written());
    let sql = format!("select last_archived_wal >= '{last}' from pg_stat_archiver");
    until(60, "WAL is archived", || lab.sql("pg2", "postgres", &sql) == "t");
    let whole = objects(lab, &file);
    damage(&whole, whole[0].1.len() / 2);
    let refused = lab.cluster(&["restore", "-i", inventory, "--to", "latest", "--yes"]);
    println!("a damaged file: {}", refused.stderr);
    assert!(refused.code == 1 && refused.stderr.contains("one of them is damaged"), "{}", refused.stderr);
    lab.ssh("pg2", "! ls -d /var/lib/postgresql/15/main.*");
    assert_eq!(lab.sql("pg2", "app", "select count(*) from bulk"), "80000");
    mend(&whole);
}

#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_goes_back_in_its_place_or_as_another() {
    let lab = Lab::start(44, super::support::PREPARED);
    let inventory = inventory(&lab);
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.sql("pg1", "app", "create table t (a int); grant select on t to app");
    insert(&lab, "pg1", 1, 1000);
    // Of a publisher that does not answer.
    let publisher =
        "connection 'host=127.0.0.1 port=1 dbname=app' publication p with (connect = false, slot_name = s)";
    lab.sql("pg1", "app", &format!("create subscription s {publisher}"));
    lab.sql("pg1", "app", "alter subscription s enable");
    lab.wait_for_status(&inventory, 120, |status| !backups(status).is_empty());
    insert(&lab, "pg1", 1001, 2000);
    let mark = ["backup", "mark", "before-migration", "-i", &inventory];
    println!("{}", lab.cluster(&mark).ok().stdout);
    let refused = lab.cluster(&mark);
    assert!(refused.code == 3 && refused.stderr.contains("already"), "{}", refused.stderr);
    insert(&lab, "pg1", 2001, 3000);
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    insert(&lab, "pg2", 3001, 4000);
    lab.wait_for_status(&inventory, 180, |status| {
        status["healthy"] == true && last_timeline(status) == Some(2)
    });
    let moment = moment(&lab, "pg2");
    lab.sql("pg2", "app", "drop table t");

    // What cannot be had is refused before anything is touched, with what can be.
    for (to, code, says) in [
        ("2020-01-01T00:00:00Z", 3, "the first moment is"),
        ("2099-01-01T00:00:00Z", 3, "is in the future"),
        ("0/100", 3, "the first moment is"),
        ("FF/0", 3, "the last moment is"),
        ("Yesterday", 2, "`latest`"),
        ("yesterday", 3, "its marks are before-migration"),
    ] {
        let refused = lab.cluster(&["restore", "-i", &inventory, "--to", to, "--yes"]);
        assert!(refused.code == code && refused.stderr.contains(says), "{to}: {}", refused.stderr);
    }
    let refused = lab.cluster(&["restore", "-i", &inventory, "--to", &moment]);
    assert!(refused.code == 3 && refused.stderr.contains("is given up"), "{}", refused.stderr);

    copy(&lab, &inventory, &moment);

    // Back to before the mistake, and then to before the switchover.
    let done = restore(&lab, &inventory, &moment, "4000|4000");
    assert_eq!(done["primary"], "pg2");
    let kept = done["kept"].as_str().unwrap();
    lab.ssh("pg2", &format!("test -d {kept}/base"));
    let status = lab.look(&["status", "-i", &inventory]).ok().stdout;
    assert!(status.contains("pg2 keeps the data of before a restore in "), "{status}");
    let refused = lab.cluster(&["restore", "-i", &inventory, "--to", &moment, "--yes"]);
    assert!(refused.code == 1 && refused.stderr.contains("is still there"), "{}", refused.stderr);
    lab.cluster(&["restore", "-i", &inventory, "--discard", "--yes"]).ok();
    lab.ssh("pg2", &format!("test ! -e {kept}"));
    insert(&lab, "pg2", 4001, 5000);
    let done = restore(&lab, &inventory, "before-migration", "2000|2000");
    assert_eq!(done["timeline"], 4, "no number is used twice");
    lab.cluster(&["restore", "-i", &inventory, "--discard", "--yes"]).ok();

    ends_early(&lab, &inventory);

    // Whoever takes over now has what was restored.
    insert(&lab, "pg2", 2001, 2500);
    lab.cluster(&["switchover", "pg1", "-i", &inventory]).ok();
    assert_eq!(rows(&lab, "pg1"), "2500|2500");
    lab.nothing_to_do(&inventory);
    lab.stop();
}
