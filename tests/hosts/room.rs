//! A full disk is not a failover: writes are refused before PostgreSQL stops, reads go on, and writes come back by
//! themselves when there is room.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::proofs::until;
use super::support::{Lab, PREPARED};
use super::{backups, demo, node};

/// What a disk of 512 MiB has: writes are refused below 64 MiB, and 48 MiB are held in reserve.
const SMALL: &str = "512m";

/// Puts the WAL of a node on a small disk of its own. The lease is kept meanwhile: the cluster is paused.
const SMALL_DISK: &str = "set -e; systemctl stop postgresql@15-main; cd /var/lib/postgresql/15/main; \
    mv pg_wal pg_wal.whole; install -d -m 700 -o postgres -g postgres pg_wal; \
    mount -t tmpfs -o size=SIZE,mode=700 tmpfs pg_wal; chown postgres:postgres pg_wal; \
    cp -a pg_wal.whole/. pg_wal/; rm -rf pg_wal.whole; systemctl start postgresql@15-main";
const FILL: &str = "dd if=/dev/zero of=/var/lib/postgresql/15/main/pg_wal/filler bs=64k 2>/dev/null; :";
const EMPTY: &str = "rm -f /var/lib/postgresql/15/main/pg_wal/filler";

/// A session as an application has it, of the role app.
fn try_write(lab: &Lab, node: &str) -> Result<(), String> {
    let run = lab.run_on(
        node,
        "cd /; runuser -u postgres -- psql -XAtqw -v ON_ERROR_STOP=1 -d app -c 'insert into t select' 2>&1",
    );
    if run.code == 0 { Ok(()) } else { Err(run.stdout + &run.stderr) }
}

fn level(status: &Value, name: &str) -> String {
    node(status, name)["disk"]["level"].as_str().unwrap_or("none").to_owned()
}

fn problems(status: &Value) -> String {
    let lines = status["problems"].as_array().unwrap().iter();
    lines.map(|it| it.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Events of one kind that a node's journal has.
fn told(lab: &Lab, node: &str, what: &str) -> Vec<String> {
    let lines = lab.ssh(node, &format!("grep '\"what\":\"{what}\"' /var/lib/cluster/journal.jsonl || :"));
    let text = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
    lines.lines().map(text).collect()
}

/// Nobody but pg1 has held the lease since, and no server has stopped in panic.
#[track_caller]
fn nothing_broke(lab: &Lab) {
    assert_eq!(told(lab, "pg2", "won"), Vec::<String>::new(), "pg2 has taken over");
    for node in ["pg1", "pg2"] {
        assert_eq!(lab.ssh(node, "cat /var/log/postgresql/*.log | grep PANIC || :"), "", "{node}");
    }
}

/// Settings for a disk of that size: no gigabyte of WAL is kept in advance.
fn settings(inventory: &str) -> String {
    let settings = "  settings:\n    wal_keep_size: 32MB\n    max_wal_size: 128MB\n    min_wal_size: 64MB\n";
    inventory.replace("  version: 15\n", &format!("  version: 15\n{settings}"))
}

fn small_disks(lab: &Lab, inventory: &str, nodes: &[&str]) {
    lab.cluster(&["pause", "-i", inventory]).ok();
    for node in nodes {
        lab.ssh(node, &SMALL_DISK.replace("SIZE", SMALL));
    }
    lab.cluster(&["resume", "-i", inventory]).ok();
}

/// Writes as much as it can on pg1, into a table that does not grow, until it is stopped.
fn write_much(lab: &Lab) {
    lab.ssh(
        "pg1",
        "cat >/run/writer <<'END'
cd /
while :; do
    runuser -u postgres -- psql -XAtqw -d app -c \
        'begin; truncate ballast; insert into ballast select md5(i::text) || md5((i + 1)::text) from generate_series(1, 40000) i; commit' \
        >>/run/writer.log 2>&1 || sleep 0.2
done
END
systemd-run -q --unit writer sh /run/writer",
    );
}

/// Waits until a write is taken again.
fn written_again(lab: &Lab, inventory: &str, limit: Duration) -> f64 {
    let begun = Instant::now();
    while try_write(lab, "pg1").is_err() {
        assert!(begun.elapsed() < limit, "writes do not come back: {:#}", lab.status(inventory));
        std::thread::sleep(Duration::from_millis(200));
    }
    begun.elapsed().as_secs_f64()
}

#[test]
#[ignore = "needs root and a lab"]
fn a_full_disk_is_not_a_failover() {
    let lab = Lab::start(43, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, &settings(&demo(15)));
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.wait_for_status(&inventory, 90, |status| status["healthy"] == true);
    // On the disk of the host there is a reserve of its own.
    let begun = Instant::now();
    while told(&lab, "pg1", "reserve").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no reserve is made");
        std::thread::sleep(Duration::from_millis(500));
    }
    println!(
        "{:?}: {}",
        told(&lab, "pg1", "reserve"),
        lab.ssh("pg1", "ls -ls /var/lib/cluster/cluster-reserve")
    );

    small_disks(&lab, &inventory, &["pg2", "pg1"]);
    // It is there before it has its size.
    let reserve = "file=/var/lib/postgresql/15/main/pg_wal/cluster-reserve; \
        for n in $(seq 120); do [ \"$(stat -c %s $file 2>/dev/null)\" = 50331648 ] && break; sleep 0.5; done; \
        stat -c '%U %s' $file; ls /var/lib/cluster";
    for node in ["pg1", "pg2"] {
        let made = lab.ssh(node, reserve);
        println!("{node}: {made}");
        assert!(made.starts_with("postgres 50331648") && !made.contains("cluster-reserve"), "{made}");
    }
    let (status, _) = lab.wait_for_status(&inventory, 90, |status| status["healthy"] == true);
    assert_eq!((level(&status, "pg1"), &status["primary"]), ("ample".into(), &"pg1".into()));
    lab.nothing_to_do(&inventory);
    lab.sql("pg1", "app", "create table t (); create table ballast (b text)");

    // What has begun to write before: a statement that goes on for long, and a session that waits.
    lab.ssh(
        "pg1",
        "cd /; systemd-run -q --unit long sh -c \"cd /; runuser -u postgres -- psql -XAtq -d app \
             -c 'begin; insert into t select; select pg_sleep(900)' >/run/long.log 2>&1\"; \
         systemd-run -q --unit waits sh -c \"cd /; (echo 'begin; insert into t select;'; sleep 900) | \
             runuser -u postgres -- psql -XAtq -d app >/run/waits.log 2>&1\"",
    );
    let writers = "select count(*) from pg_stat_activity where backend_type = 'client backend' and backend_xid is not null";
    until(60, "both to write", || lab.sql("pg1", "postgres", writers) == "2");

    // The primary's disk is filled by something else.
    let begun = Instant::now();
    lab.ssh("pg1", FILL);
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| {
        level(status, "pg1") == "full" && node(status, "pg1")["disk"]["refuses_writes"] == true
    });
    println!("refused after {:.1} s: {}", begun.elapsed().as_secs_f64(), problems(&status));
    assert_eq!(status["healthy"], false);
    let error = try_write(&lab, "pg1").unwrap_err();
    assert!(error.contains("cannot execute INSERT in a read-only transaction"), "{error}");
    assert_eq!(lab.sql("pg1", "app", "select count(*) from ballast"), "0", "reads go on");
    until(60, "both to be ended", || lab.sql("pg1", "postgres", writers) == "0");
    until(60, "the long one to be told", || {
        lab.ssh("pg1", "cat /run/long.log").contains("canceling statement due to user request")
    });
    println!("{:?}", told(&lab, "pg1", "mended"));
    // For longer than a lease, and what would be archived every minute is not.
    std::thread::sleep(Duration::from_secs(30));
    let status = lab.status(&inventory);
    assert_eq!((&status["primary"], &status["holder"]), (&"pg1".into(), &"pg1".into()));
    assert!(try_write(&lab, "pg1").is_err());
    nothing_broke(&lab);
    lab.ssh("pg1", EMPTY);
    println!("writes are back after {:.1} s", written_again(&lab, &inventory, Duration::from_secs(60)));
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);

    // A writer fills it with WAL that a slot of a standby keeps that is gone. Nobody helps.
    lab.sql("pg1", "postgres", "select pg_create_physical_replication_slot('repmgr_slot_9', true)");
    write_much(&lab);
    let (status, took) = lab.wait_for_status(&inventory, 120, |status| {
        level(status, "pg1") == "full" && node(status, "pg1")["disk"]["refuses_writes"] == true
    });
    println!("full of WAL after {:.0} s: {}", took.as_secs_f64(), problems(&status));
    let begun = Instant::now();
    let mut cause = String::new();
    while lab.sql(
        "pg1",
        "postgres",
        "select count(*) from pg_replication_slots where slot_name = 'repmgr_slot_9'",
    ) != "0"
    {
        assert!(
            begun.elapsed() < Duration::from_secs(180),
            "the slot is not dropped: {}",
            lab.status(&inventory)
        );
        let status = lab.status(&inventory);
        if problems(&status).contains("repmgr_slot_9") {
            cause = problems(&status);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    println!("the slot is dropped after {:.0} s; before: {cause}", begun.elapsed().as_secs_f64());
    assert!(cause.contains("which nobody reads, keeps"), "{cause}");
    lab.ssh("pg1", "grep -c . /run/writer.log; grep -q 'read-only transaction' /run/writer.log");
    println!("writes are back after {:.1} s more", written_again(&lab, &inventory, Duration::from_secs(90)));
    lab.ssh("pg1", "systemctl stop writer");
    nothing_broke(&lab);
    lab.wait_for_status(&inventory, 90, |status| status["healthy"] == true);

    // Both disks are full, and the primary dies of something: nobody takes over, and it comes back.
    for node in ["pg1", "pg2"] {
        lab.ssh(node, FILL);
    }
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| {
        ["pg1", "pg2"].iter().all(|it| level(status, it) == "full")
    });
    println!("both: {}\nfailover: {}", problems(&status), status["failover"]);
    assert_eq!(status["failover"]["automatic"], false);
    assert_eq!(lab.sql("pg2", "app", "select pg_is_in_recovery()"), "t", "the standby serves its readers");
    let refused = lab.cluster(&["switchover", "-i", &inventory]);
    assert!(refused.code == 3 && refused.stderr.contains("full"), "{refused:?}");
    lab.ssh("pg1", "systemctl kill -s KILL postgresql@15-main");
    let (_, took) = lab.wait_for_status(&inventory, 90, |status| status["primary"] == "pg1");
    println!("it is back after {:.1} s", took.as_secs_f64());
    lab.sql("pg1", "app", "select count(*) from t");
    // Its recovery may have given back WAL. As long as it is full it refuses writes, once its guard has told it so again.
    lab.wait_for_status(&inventory, 20, |status| {
        let refused = try_write(&lab, "pg1").is_err_and(|error| error.contains("read-only transaction"));
        refused || level(status, "pg1") != "full"
    });
    std::thread::sleep(Duration::from_secs(20));
    nothing_broke(&lab);
    for node in ["pg1", "pg2"] {
        lab.ssh(node, EMPTY);
    }
    let (status, took) = lab.wait_for_status(&inventory, 90, |status| status["healthy"] == true);
    println!("healthy after {:.1} s", took.as_secs_f64());
    assert_eq!(status["primary"], "pg1");
    try_write(&lab, "pg1").unwrap();
    lab.nothing_to_do(&inventory);
    println!("pg1: {:#?}", told(&lab, "pg1", "room"));
    lab.stop();
}

#[test]
#[ignore = "needs root and a lab"]
fn a_repository_that_is_away_costs_no_primary() {
    let lab = Lab::start(45, PREPARED);
    let inventory = backups::inventory_with(&lab, settings);
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.wait_for_status(&inventory, 120, |status| !backups::backups(status).is_empty());
    small_disks(&lab, &inventory, &["pg1"]);
    lab.wait_for_status(&inventory, 90, |status| {
        status["healthy"] == true && level(status, "pg1") == "ample"
    });
    lab.sql("pg1", "app", "create table t (); create table ballast (b text)");

    backups::spaces(&lab, "away");
    write_much(&lab);
    let (status, took) = lab.wait_for_status(&inventory, 180, |status| {
        level(status, "pg1") == "full"
            && node(status, "pg1")["disk"]["refuses_writes"] == true
            && problems(status).contains("are not archived yet")
    });
    println!("full of WAL after {:.0} s: {}", took.as_secs_f64(), problems(&status));
    // For longer than WAL files are finished by the clock.
    let free = lab.sql(
        "pg1",
        "postgres",
        "select pg_walfile_name(pg_current_wal_lsn()), current_setting('archive_timeout')",
    );
    std::thread::sleep(Duration::from_secs(75));
    let later = lab.sql(
        "pg1",
        "postgres",
        "select pg_walfile_name(pg_current_wal_lsn()), current_setting('archive_timeout')",
    );
    assert_eq!(free, later);
    assert!(later.ends_with("|0"), "{later}");
    assert_eq!(lab.status(&inventory)["primary"], "pg1");
    assert!(try_write(&lab, "pg1").unwrap_err().contains("read-only transaction"));
    nothing_broke(&lab);

    backups::spaces(&lab, "heal");
    println!("writes are back after {:.1} s", written_again(&lab, &inventory, Duration::from_secs(300)));
    lab.ssh("pg1", "systemctl stop writer");
    assert_ne!(lab.sql("pg1", "postgres", "show archive_timeout"), "0");
    // PostgreSQL keeps some of the WAL's files for what it may write next: the disk of the WAL may stay low.
    let (status, took) = lab.wait_for_status(&inventory, 120, |status| {
        let disk = &node(status, "pg1")["disk"];
        disk["level"] == "ample" || (disk["level"] == "low" && disk["size"].as_u64() < Some(1 << 30))
    });
    println!("room after {:.0} s: {}", took.as_secs_f64(), problems(&status));
    assert_eq!(status["primary"], "pg1");
    nothing_broke(&lab);
    println!("pg1: {:#?}", told(&lab, "pg1", "room"));
    lab.stop();
}
