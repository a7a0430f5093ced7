//! Restores that are proved, on hosts: a good one, one that is killed, one that is given up, one without room, and one of
//! a damaged backup.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cluster_cloud::droplet::Power;
use serde_json::Value;

use super::backups::inventory_with;
use super::support::{Lab, PREPARED, Run};

/// Of an object's file, what has its key in it and is not its content.
const KEY_AT_END: usize = 512;
const PLACE: &str = "/var/lib/postgresql/15/cluster-proof";

fn inventory(lab: &Lab) -> String {
    // Nothing by itself: what this test sees is what it has asked for.
    inventory_with(lab, |text| text.replace("postgresql:\n", "  prove_every: never\npostgresql:\n"))
}

fn drill(lab: &Lab, inventory: &str) -> Run {
    lab.cluster(&["drill", "-i", inventory, "--fault", "restore", "--json"])
}

/// Begins a drill whose copy takes long, and returns when it copies.
fn begin_slowly(lab: &Lab, inventory: &str, node: &str) -> std::process::Child {
    let path = "/demo-backups/demo/backup/*";
    let slowly = ["slow", "--bytes-per-second", "20000"];
    lab.cluster(&[&["lab", "spaces", "--name", &lab.name, "--path", path][..], &slowly[..]].concat()).ok();
    let mut drill = lab.command(&["drill", "-i", inventory, "--fault", "restore"]);
    let child = drill.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until(60, "a copy is made", || lab.try_ssh(node, &format!("test -e {PLACE}/data/global")).code == 0);
    child
}

fn heal(lab: &Lab) {
    lab.cluster(&["lab", "spaces", "--name", &lab.name, "heal"]).ok();
}

pub(super) fn until(seconds: u64, what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Nothing of a proof is left on a node: no file, no process.
fn nothing_is_left(lab: &Lab, node: &str) -> bool {
    let look = format!("test ! -e {PLACE} && ! ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -q {PLACE}");
    lab.try_ssh(node, &look).code == 0
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
    problems.filter(|text| text.starts_with("backups")).collect::<Vec<_>>().join("\n")
}

/// The objects with this in their key, as they are. The lab's store ends each with its key.
pub(super) fn objects(lab: &Lab, key: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = format!("/var/lib/cluster-lab/{}/spaces/buckets/demo-backups/objects", lab.name);
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = files.map(|path| (path.clone(), std::fs::read(path).unwrap()));
    let has_key = |content: &[u8]| {
        let end = &content[content.len().saturating_sub(KEY_AT_END)..];
        String::from_utf8_lossy(end).contains(key)
    };
    let found: Vec<_> = all.filter(|(_, content)| has_key(content)).collect();
    assert!(!found.is_empty(), "nothing has {key} in its key");
    found
}

/// Damages all of them but for the first bytes.
pub(super) fn damage(objects: &[(PathBuf, Vec<u8>)], from: usize) {
    for (path, content) in objects {
        let damaged: Vec<u8> = content.iter().map(|byte| !byte).collect();
        let end = damaged.len().saturating_sub(KEY_AT_END);
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&damaged[from..end], from as u64).unwrap();
    }
}

pub(super) fn mend(objects: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in objects {
        File::options().write(true).open(path).unwrap().write_all_at(content, 0).unwrap();
    }
}

#[test]
#[ignore = "needs root and a lab"]
fn a_restore_is_proved_beside_a_standby() {
    let lab = Lab::start(42, PREPARED);
    let inventory = inventory(&lab);
    lab.cluster(&["up", "-i", &inventory]).ok();
    let is_backed_up = |status: &Value| !status["backups"]["contents"]["backups"][0].is_null();
    lab.wait_for_status(&inventory, 120, is_backed_up);
    lab.sql("pg1", "app", "create table t (a int primary key, b text)");
    lab.sql("pg1", "app", "insert into t select g, md5(g::text) from generate_series(1, 20000) g");
    // A tablespace of the standby's must not be written over by a copy's.
    for node in ["pg1", "pg2"] {
        lab.ssh(node, "install -d -o postgres -g postgres /srv/more");
    }
    lab.sql("pg1", "postgres", "create tablespace more location '/srv/more'");
    lab.sql(
        "pg1",
        "app",
        "create table elsewhere tablespace more as select g from generate_series(1, 1000) g",
    );
    lab.cluster(&["backup", "-i", &inventory]).ok();

    let begun = Instant::now();
    let proved = drill(&lab, &inventory).ok();
    println!("{}", proved.stderr);
    let result = proved.json();
    println!("proved after {:.0} s: {result:#}", begun.elapsed().as_secs_f64());
    assert_eq!((result["node"].as_str(), result["passed"].as_bool()), (Some("pg2"), Some(true)));
    let proof = &result["proof"];
    // postgres, repmgr, cluster, app and template1.
    assert!(proof["databases"].as_u64().unwrap() >= 4, "{proof}");
    assert_eq!(proof["checked"][0], "pg_amcheck");
    assert!(proof["missing_seconds"].as_u64().unwrap() < 360, "{proof}");
    assert!(nothing_is_left(&lab, "pg2"));
    assert_eq!(lab.sql("pg2", "app", "select count(*) from elsewhere"), "1000");
    let (status, _) = lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    let shown = lab.look(&["status", "-i", &inventory]);
    println!("{}", shown.stdout);
    assert!(shown.stdout.contains("proved") && shown.stdout.contains("on pg2"), "{}", shown.stdout);
    assert!(status["backups"]["recovery_point_s"].as_u64().unwrap() < 360, "{}", status["backups"]);

    // The standby is switched off in the middle: what is left is gone when it is back, and nothing says that it runs.
    let mut child = begin_slowly(&lab, &inventory, "pg2");
    lab.power("pg2", Power::Off);
    assert!(!child.wait().unwrap().success());
    heal(&lab);
    lab.power("pg2", Power::On);
    until(120, "what a lost host has left is deleted", || nothing_is_left(&lab, "pg2"));
    let status = lab.wait_for_status(&inventory, 120, |status| status["healthy"] == true).0;
    assert!(status["backups"]["restores"]["running"].is_null(), "{}", status["backups"]["restores"]);

    // So is what a killed program leaves, with the connection lost as well.
    let mut child = begin_slowly(&lab, &inventory, "pg2");
    child.kill().unwrap();
    child.wait().unwrap();
    lab.ssh("pg2", "pkill -KILL -u postgres -f '^/usr/local/bin/cluster-node prove'");
    until(30, "what a killed program has left is deleted", || nothing_is_left(&lab, "pg2"));
    heal(&lab);

    // A node that is to take writes has other work to do.
    let child = begin_slowly(&lab, &inventory, "pg2");
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    let given_up = Run::from(child.wait_with_output().unwrap());
    assert_eq!(given_up.code, 1, "{}", given_up.stderr);
    assert!(given_up.stderr.contains("given up: this node"), "{}", given_up.stderr);
    assert!(nothing_is_left(&lab, "pg2"));
    heal(&lab);
    lab.wait_for_status(&inventory, 120, |status| status["healthy"] == true);

    // No room: the standby believes that its data is larger than its disk.
    let sparse = "/var/lib/postgresql/15/main/base/1/sparse";
    lab.ssh("pg1", &format!("runuser -u postgres -- truncate -s 8T {sparse}"));
    let refused = drill(&lab, &inventory);
    println!("without room: {}", refused.stdout);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let result = refused.json();
    let why = result["problems"][0].as_str().unwrap();
    assert!(why.starts_with("not possible: needs ") && why.contains("has "), "{why}");
    assert_eq!(result["proof"]["impossible"], true);
    assert!(nothing_is_left(&lab, "pg1"));
    let shown = lab.look(&["status", "-i", &inventory]).ok();
    assert!(shown.stdout.contains("on pg1 not possible: needs "), "{}", shown.stdout);
    lab.ssh("pg1", &format!("rm {sparse}"));

    // A damaged backup, and one that is whole again.
    let whole = objects(&lab, "/bundle/");
    damage(&whole, 0);
    let failed = drill(&lab, &inventory);
    println!("a damaged backup: {}", failed.stdout);
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    let status = lab.status(&inventory);
    assert_eq!(status["healthy"], false);
    println!("{}", problems(&status));
    assert!(
        problems(&status).contains("the last restore that was tried failed (pg1, "),
        "{}",
        problems(&status)
    );
    assert!(nothing_is_left(&lab, "pg1"));
    mend(&whole);
    drill(&lab, &inventory).ok();
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);

    // A damaged WAL file, which PostgreSQL takes for the end of the archive.
    let more = |from: u32| {
        let file = lab.sql("pg2", "app", "select pg_walfile_name(pg_current_wal_lsn())");
        let rows =
            format!("insert into t select g, md5(g::text) from generate_series({from}, {}) g", from + 39_999);
        lab.sql("pg2", "app", &rows);
        lab.sql("pg2", "postgres", "select pg_switch_wal()");
        file
    };
    let file = more(100_000);
    let last = more(200_000);
    let sql = format!("select last_archived_wal >= '{last}' from pg_stat_archiver");
    until(60, "WAL is archived", || lab.sql("pg2", "postgres", &sql) == "t");
    let whole = objects(&lab, &file);
    let middle = whole[0].1.len() / 2;
    damage(&whole, middle);
    let failed = drill(&lab, &inventory);
    println!("a damaged WAL file: {}", failed.stdout);
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    let why = failed.json()["problems"][0].as_str().unwrap().to_owned();
    assert!(why.contains("is damaged") || why.contains("cannot be read"), "{why}");
    mend(&whole);
    drill(&lab, &inventory).ok();
    lab.stop();
}
