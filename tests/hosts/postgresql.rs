//! What a guard does with PostgreSQL: it starts it, looks at it, promotes it and stops it, with somebody in the way.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::proofs::until;
use super::support::{Lab, PREPARED};
use super::{demo, killed_until_another_is_primary, moments, node};

fn made(number: u8, image: &str) -> (Lab, String) {
    let lab = Lab::start(number, image);
    let inventory = lab.inventory("demo.yaml", image, &demo(15));
    lab.cluster(&["up", "-i", &inventory]).ok();
    healthy(&lab, &inventory);
    (lab, inventory)
}

#[track_caller]
fn healthy(lab: &Lab, inventory: &str) -> Value {
    lab.wait_for_status(inventory, 90, |status| status["healthy"] == true).0
}

fn primary(status: &Value) -> (&'static str, &'static str) {
    if status["primary"] == "pg1" { ("pg1", "pg2") } else { ("pg2", "pg1") }
}

/// Events of one kind that a node's journal has.
fn told(lab: &Lab, node: &str, what: &str) -> Vec<String> {
    let script = format!("grep '\"what\":\"{what}\"' /var/lib/cluster/journal.jsonl || :");
    let lines = lab.ssh(node, &script);
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Kills the postmaster, and the next one as well, `$1` seconds after it was begun; `$2` is whether its first child is
/// left behind for a second, so that systemd sees processes and no postmaster. Says how long it took to run again.
const KILL_TWICE: &str = r#"
newest() { pgrep -o -f '^/usr/lib/postgresql/15/bin/postgres -D' || :; }
old=$(newest)
kill -9 "$old"
tries=0
until new=$(newest); [ -n "$new" ] && [ "$new" != "$old" ]; do
    tries=$((tries + 1)); [ "$tries" -le 9000 ] || { echo "nobody starts it" >&2; exit 1; }
    sleep 0.01
done
sleep "$1"
child=
if [ "$2" = yes ]; then child=$(pgrep -P "$new" | head -n 1 || :); [ -z "$child" ] || kill -STOP "$child" || :; fi
kill -9 "$new" || :
if [ -n "$child" ]; then sleep 1; kill -9 "$child" || :; fi
begun=$(date +%s%N)
tries=0
until runuser -u postgres -- psql -XAtqw -d postgres -c 'select 1' >/dev/null 2>&1; do
    tries=$((tries + 1)); [ "$tries" -le 1500 ] || { systemctl status 'postgresql@15-main' >&2; exit 1; }
    sleep 0.1
done
echo $((($(date +%s%N) - begun) / 1000000))
"#;

/// A postmaster that dies while it is being started leaves nothing behind that waits for it.
#[test]
#[ignore = "needs root and a lab"]
fn postgresql_that_dies_while_it_starts_is_started_again() {
    let (lab, inventory) = made(26, PREPARED);
    let kill = |name: &str, moment: u32, limit: u64| {
        let after = f64::from(moment) * 0.05;
        let left = if moment.is_multiple_of(2) { "yes" } else { "no" };
        let script =
            format!("cd /; cat >/run/kill <<'END'\n{KILL_TWICE}\nEND\nsh -eu /run/kill {after} {left}");
        let took: u64 = lab.ssh(name, &script).parse().unwrap();
        println!(
            "{name}: killed {after:.2} s after its start, child left: {left}; runs again after {took} ms"
        );
        assert!(took < limit * 1000, "{name}: {took} ms, killed after {after} s");
    };
    for (name, limit) in [("pg2", 30), ("pg3", 30)] {
        for moment in moments(1..=20) {
            kill(name, moment, limit);
            healthy(&lab, &inventory);
        }
    }
    // The primary, where nobody else can take over.
    lab.power("pg2", cluster_cloud::droplet::Power::Off);
    for moment in moments(1..=20) {
        kill("pg1", moment, 90);
        lab.wait_for_status(&inventory, 90, |status| status["primary"] == "pg1");
    }
    lab.power("pg2", cluster_cloud::droplet::Power::On);
    assert_eq!(primary(&healthy(&lab, &inventory)).0, "pg1");
    lab.stop();
}

/// What lets no new session in is no reason to end a server that works.
#[test]
#[ignore = "needs root and a lab"]
fn a_server_that_works_is_not_killed_for_whom_it_turns_away() {
    let (lab, inventory) = made(27, PREPARED);
    let holds = |what: &str| {
        println!("{what}");
        assert_eq!(lab.status(&inventory)["primary"], "pg1", "{what}");
        assert_eq!(told(&lab, "pg1", "fenced"), Vec::<String>::new(), "{what}");
        assert_eq!(told(&lab, "pg2", "holds"), Vec::<String>::new(), "{what}");
    };
    let address = lab.status(&inventory);
    let address = format!("{}:5432", node(&address, "pg1")["address"].as_str().unwrap());

    // Connections that say nothing, from anywhere: more than it will have at once.
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = Vec::new();
    while begun.elapsed() < Duration::from_secs(20) {
        silent.retain_mut(|stream| {
            matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        for _ in silent.len()..320 {
            let opened = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(1));
            let Ok(stream) = opened else { break };
            stream.set_nonblocking(true).unwrap();
            silent.push(stream);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let full = told(&lab, "pg1", "postgresql");
    drop(silent);
    holds(&format!("320 connections that say nothing: {full:?}"));

    // Superusers take every place, the reserved ones, too.
    lab.ssh(
        "pg1",
        "cd /; for n in $(seq 110); do
            runuser -u postgres -- psql -XAtqw -d postgres -c 'select pg_sleep(15)' >/dev/null 2>&1 &
        done; wait",
    );
    holds("110 sessions of a superuser");

    // Defaults that are meant for others, and a password that was changed.
    lab.ssh(
        "pg1",
        r#"cd /; runuser -u postgres -- psql -XAtqw -d postgres <<'SQL'
alter system set default_transaction_read_only = on;
alter system set default_transaction_isolation = 'serializable';
alter system set statement_timeout = 1;
alter system set session_preload_libraries = 'nothing';
alter role repmgr set lock_timeout = 1;
alter database repmgr set search_path = 'nowhere';
set default_transaction_read_only = off;
alter role repmgr password 'another';
select pg_reload_conf();
SQL
"#,
    );
    std::thread::sleep(Duration::from_secs(15));
    let status: Value = serde_json::from_str(&lab.ssh("pg1", "cluster-node status --json")).unwrap();
    assert_eq!(status["holds"], true, "{status:#}");
    assert_eq!(told(&lab, "pg1", "fenced"), Vec::<String>::new(), "settings and a password");
    let mend = r#"cd /; export PGOPTIONS='-c session_preload_libraries= -c statement_timeout=0 -c default_transaction_read_only=off'
runuser -u postgres -- psql -XAtqw -d postgres <<'SQL'
alter system reset all;
alter role repmgr reset all;
alter database repmgr reset all;
select pg_reload_conf();
SQL
"#;
    lab.ssh("pg1", mend);

    // The heartbeat's table is locked, and then gone.
    lab.ssh(
        "pg1",
        "cd /; runuser -u postgres -- psql -XAtqw -d repmgr -c 'begin; lock table cluster_guard.heartbeat; select pg_sleep(12)'",
    );
    holds("a lock on the heartbeat's table");
    lab.sql("pg1", "repmgr", "drop schema cluster_guard cascade");
    let count = "cd /; runuser -u postgres -- psql -XAtqw -d repmgr -c 'select count(*) from cluster_guard.heartbeat'";
    until(60, "the heartbeat's table to be there again", || lab.run_on("pg1", count).stdout.trim() == "1");

    // And one that hangs loses the lease all the same.
    lab.ssh("pg1", "kill -STOP $(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)");
    lab.wait_for_status(&inventory, 40, |status| status["primary"] == "pg2");
    // Once, or again where the machine was slow.
    assert!(!told(&lab, "pg1", "fenced").is_empty());
    lab.cluster(&["up", "-i", &inventory]).ok();
    healthy(&lab, &inventory);
    lab.stop();
}

/// Somebody has paused replay: reads are stale, and `connect` lists the primary before this standby.
fn replay_that_stands_still_is_told(lab: &Lab, inventory: &str) {
    let read_first = || -> Value {
        let args = ["connect", "-i", inventory, "--format", "json"];
        lab.cluster(&args).ok().json()["read"][0]["host"].clone()
    };
    let before = read_first();
    lab.sql("pg2", "postgres", "select pg_wal_replay_pause()");
    let paused = |status: &Value| status["problems"].to_string().contains("pg2: replay is paused");
    lab.wait_for_status(inventory, 15, paused);
    assert_ne!(read_first(), before);
    lab.sql("pg2", "postgres", "select pg_wal_replay_resume()");
    healthy(lab, inventory);
    assert_eq!(read_first(), before);
}

/// What a repmgrd that comes late writes of a node that has rejoined.
fn repmgrs_records_are_put_right(lab: &Lab) {
    lab.sql("pg1", "repmgr", "update repmgr.nodes set upstream_node_id = null where node_name = 'pg2'");
    let sql = "select string_agg(concat_ws(' ', node_name, type, active, upstream_node_id), ', ' order by node_id) \
               from repmgr.nodes";
    let right = "pg1 primary t, pg2 standby t 1, pg3 witness t 1";
    let begun = Instant::now();
    while ["pg1", "pg2", "pg3"].iter().any(|node| lab.sql(node, "repmgr", sql) != right) {
        assert!(begun.elapsed() < Duration::from_secs(90), "{}", lab.sql("pg1", "repmgr", sql));
        std::thread::sleep(Duration::from_millis(500));
    }
    // Once, or again where a repmgrd has written it anew.
    assert!((1..=3).contains(&told(lab, "pg1", "mended").len()));
}

/// A reader would hold it up for as long as it reads, which is a minute here. In seconds.
const HELD_UP: f64 = 30.0;

/// Nobody who reads holds up a promotion, or a primary that is to stop.
#[test]
#[ignore = "needs root and a lab"]
fn readers_hold_up_neither_a_promotion_nor_a_switchover() {
    let (lab, inventory) = made(28, PREPARED);
    replay_that_stands_still_is_told(&lab, &inventory);
    repmgrs_records_are_put_right(&lab);
    let reader = |name: &str, table: &str| {
        lab.ssh(
            name,
            &format!(
                "cd /; systemd-run -q -p User=postgres sh -c \"(echo 'begin isolation level repeatable read; \
                     select count(*) from {table};'; sleep 60) | psql -XAtqw -d app >/tmp/reader.{table} 2>&1\"
                 for n in $(seq 300); do grep -q 0 /tmp/reader.{table} 2>/dev/null && exit; sleep 0.1; done; exit 1"
            ),
        );
    };
    let conflict = |now: &str, other: &str, table: &str| {
        lab.sql(now, "app", &format!("create table {table} (n int)"));
        until(60, "the table to be on the standby", || {
            lab.try_ssh(other, &format!("cd /; runuser -u postgres -- psql -XAtqw -d app -c 'table {table}'"))
                .code
                == 0
        });
        reader(other, table);
        lab.sql(now, "app", &format!("drop table {table}"));
    };
    // It is written down a moment after it took writes.
    let seconds = |name: &str| -> f64 {
        let last = || {
            let all = told(&lab, name, "done");
            all.iter().rev().find_map(|text| text.strip_prefix("promoted in ").map(str::to_owned))
        };
        until(60, "the promotion to be told", || last().is_some());
        last().unwrap().trim_end_matches(" s").parse().unwrap()
    };

    // The primary dies.
    conflict("pg1", "pg2", "killed");
    let begun = Instant::now();
    killed_until_another_is_primary(&lab, &inventory, 15, "pg1", "pg2");
    println!("killed: {:.1} s, promoted in {} s", begun.elapsed().as_secs_f64(), seconds("pg2"));
    assert!(seconds("pg2") < HELD_UP);
    healthy(&lab, &inventory);

    // It is stopped on purpose.
    conflict("pg2", "pg1", "moved");
    let begun = Instant::now();
    lab.cluster(&["switchover", "pg1", "-i", &inventory]).ok();
    println!("switchover: {:.1} s, promoted in {} s", begun.elapsed().as_secs_f64(), seconds("pg1"));
    assert!(seconds("pg1") < HELD_UP);
    healthy(&lab, &inventory);

    // A dump goes to somebody who does not read on.
    lab.sql(
        "pg1",
        "app",
        "create table big as select repeat('x', 1000) as x from generate_series(1, 200000)",
    );
    lab.ssh(
        "pg1",
        "cd /; systemd-run -q -p User=postgres sh -c 'pg_dump -t big app | (head -c 100000; sleep 60)' >/dev/null 2>&1",
    );
    let dumps =
        "select count(*) from pg_stat_activity where application_name = 'pg_dump' and query like 'COPY%'";
    until(60, "the dump to be written", || lab.sql("pg1", "app", dumps) == "1");
    let begun = Instant::now();
    lab.cluster(&["switchover", "pg2", "-i", &inventory]).ok();
    println!("switchover beside a dump: {:.1} s", begun.elapsed().as_secs_f64());
    let stopped = told(&lab, "pg1", "done");
    let took = stopped.iter().rev().find_map(|text| text.strip_prefix("stopped in ")).unwrap();
    // It would have held the stop up for a minute.
    assert!(took.split(' ').next().unwrap().parse::<f64>().unwrap() < 30.0, "{took}");
    healthy(&lab, &inventory);

    // An heir that cannot catch up: nothing is stopped. Its link is slow, and 3 MB are on their way.
    lab.ssh("pg2", "tc qdisc add dev eth1 root tbf rate 480kbit burst 16kb latency 500ms");
    let rows = "create table slow as select (select string_agg(md5((n * m)::text), '') from generate_series(1, 40) m) as x
        from generate_series(1, 2500) n";
    lab.sql("pg2", "app", rows);
    let run = lab.cluster(&["switchover", "pg1", "-i", &inventory]);
    println!("{}", run.stderr);
    assert_ne!(run.code, 0);
    let failed = told(&lab, "pg2", "failed");
    assert!(failed.last().unwrap().ends_with("catches up too slowly; nothing was stopped"), "{failed:?}");
    assert_eq!(lab.sql("pg2", "app", "select pg_is_in_recovery(), count(*) from slow"), "f|2500");
    lab.ssh("pg2", "tc qdisc del dev eth1 root");
    healthy(&lab, &inventory);
    lab.stop();
}

/// A host that is shut down lets go of the lease; a disk without room costs no voice; an upgrade is waited for, and told.
#[test]
#[ignore = "needs root and a lab"]
fn a_reboot_a_full_disk_and_an_upgrade() {
    let (lab, inventory) = made(29, "debian-12-x64");
    // The guard is still there when PostgreSQL has ended.
    // It takes the session with it.
    lab.run_on("pg1", "systemctl reboot");
    lab.wait_for_status(&inventory, 60, |status| status["primary"] == "pg2");
    let status = healthy(&lab, &inventory);
    assert_eq!(primary(&status).0, "pg2");
    assert!(!told(&lab, "pg1", "released").is_empty(), "the guard has not let go");

    // An upgrade: what is started meanwhile would run the old program for good.
    lab.ssh("pg1", "apt-get install -y -q --reinstall postgresql-15 >/dev/null 2>&1");
    healthy(&lab, &inventory);
    assert_eq!(told(&lab, "pg1", "waits").len(), 1);
    let runs = lab.ssh("pg1", "readlink /proc/$(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)/exe");
    assert_eq!(runs, "/usr/lib/postgresql/15/bin/postgres");

    // A full disk under the memory of all that can vote beside the primary.
    for name in ["pg1", "pg3"] {
        lab.ssh(
            name,
            "set -e; cp -a /var/lib/cluster /run/before; mount -t tmpfs -o size=256k none /var/lib/cluster;
             cp -a /run/before/lease.json /run/before/journal.jsonl /var/lib/cluster/; systemctl restart cluster-node; sleep 1
             full=0 tries=0
             # The guard tries for a moment whether there is room, and leaves that much.
             while [ $full -lt 3 ]; do
                 dd if=/dev/zero bs=1k >>/var/lib/cluster/filler 2>/dev/null || :
                 if echo more >/var/lib/cluster/more; then rm /var/lib/cluster/more; full=0; else full=$((full + 1)); fi
                 tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1; sleep 0.5
             done",
        );
    }
    // A full disk is a problem from the guard's next look on, so that it is not healthy any more.
    lab.wait_for_status(&inventory, 90, |status| {
        let state = |name| &node(status, name)["state"];
        status["primary"] == "pg2" && state("pg1") == "streaming" && state("pg3") == "running"
    });
    std::thread::sleep(Duration::from_secs(12));
    let begun = Instant::now();
    killed_until_another_is_primary(&lab, &inventory, 15, "pg2", "pg1");
    println!("failover with full disks: {:.1} s", begun.elapsed().as_secs_f64());
    // What it remembers by now must not be exchanged for what was there before.
    lab.stop();
}
