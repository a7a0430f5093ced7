//! A cluster that is lost whole, with data and a writer: how long until it takes writes again, and what is gone.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::ledger;
use crate::support::{Lab, Run};

/// 1 GB of pgbench's.
const DATA: &str = "/usr/lib/postgresql/15/bin/pgbench -i -q -s 70 app 2>&1";
/// A transaction a row, each printed once it is acknowledged.
const WRITER: &str = "cd / && runuser -u postgres -- sh -c 'while psql -XAtqw -d app -c \"insert into t select \
                      coalesce(max(id), 0) + 1, clock_timestamp(), pg_current_wal_insert_lsn() from t returning id, \
                      extract(epoch from at)\"; do :; done'";
/// For how long it writes after the backup of all of that: the archive is more than one file behind it.
const WRITES: Duration = Duration::from_secs(150);

/// Loses it and has it again.
pub(crate) fn sweep(number: u8) {
    let (lab, inventory) = ledger::stage(number);
    lab.ssh("pg1", &format!("cd / && runuser -u postgres -- {DATA}"));
    lab.cluster(&["backup", "--full", "-i", &inventory]).ok();
    let passphrase = lab.cluster(&["backup", "passphrase", "-i", &inventory]).ok().stdout.trim().to_owned();
    let written = lab.directory.path().join("written");
    let mut writer = begin(&lab, &written);
    std::thread::sleep(WRITES);

    let lost = Instant::now();
    for node in ["pg1", "pg2", "pg3"] {
        lab.delete_droplet(node);
    }
    while lab.count().0 > 0 {
        assert!(lost.elapsed() < Duration::from_secs(60), "droplets are left");
        std::thread::sleep(Duration::from_millis(300));
    }
    let _ = writer.kill();
    let _ = writer.wait();
    std::fs::rename(lab.directory.path().join("state"), lab.directory.path().join("lost")).unwrap();

    let begun = Instant::now();
    let mut up = lab.command(&["up", "-i", &inventory, "--from-backup"]);
    let up = up.env("CLUSTER_BACKUP_PASSPHRASE", &passphrase).stdout(Stdio::piped()).stderr(Stdio::piped());
    let up = up.spawn().unwrap();
    let writable = loop {
        let run = lab.try_ssh("pg1", "cd / && runuser -u postgres -- psql -XAtqw -d app -c 'insert into t select max(id) + 1, now(), null from t'");
        if run.code == 0 {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(900), "{}", run.stderr);
        std::thread::sleep(Duration::from_millis(500));
    };
    Run::from(up.wait_with_output().unwrap()).ok();
    let whole = begun.elapsed();
    let (_, backed_up) = lab.wait_for_status(&inventory, 300, |status| {
        let last = status["backups"]["contents"]["backups"].as_array().and_then(|all| all.last());
        status["healthy"] == true && last.is_some_and(|last| last["timeline"] == 2)
    });

    let text = std::fs::read_to_string(&written).unwrap();
    let acknowledged: Vec<(u64, f64)> = text
        .lines()
        .filter_map(|line| line.split_once('|'))
        .filter_map(|(id, at)| Some((id.parse().ok()?, at.parse().ok()?)))
        .collect();
    let there = lab.sql("pg1", "app", "select id from t where lsn is not null order by id");
    let there: std::collections::BTreeSet<u64> = there.lines().map(|id| id.parse().unwrap()).collect();
    let gone: Vec<_> = acknowledged.iter().filter(|(id, _)| !there.contains(id)).collect();
    let seconds = gone.first().zip(gone.last()).map_or(0.0, |((_, first), (_, last))| last - first);
    println!(
        "writable {:.0} s after `up` began, done after {:.0} s, healthy with a backup {:.0} s later; {} of {} acknowledged \
         rows are gone, the last {seconds:.0} s of writes",
        writable.as_secs_f64(),
        whole.as_secs_f64(),
        backed_up.as_secs_f64(),
        gone.len(),
        acknowledged.len()
    );
    // Nothing is missing in between.
    let first_gone = gone.first().map_or(u64::MAX, |(id, _)| *id);
    assert!(gone.iter().all(|(id, _)| *id >= first_gone) && there.iter().all(|id| *id < first_gone));
    assert_eq!(lab.sql("pg1", "app", "select count(*) from pgbench_accounts"), "7000000");
    // `archive_within`, a look of the archiver's, and an upload.
    assert!(seconds < 75.0, "{seconds} s of writes are gone");
    lab.stop();
}

fn begin(lab: &Lab, to: &std::path::Path) -> Child {
    let config = lab.directory.path().join("state/demo/ssh_config");
    std::process::Command::new("ssh")
        .args(["-o", "ServerAliveInterval=2", "-F"])
        .arg(config)
        .args(["pg1", WRITER])
        .stdin(Stdio::null())
        .stdout(File::create(to).unwrap())
        .spawn()
        .unwrap()
}
