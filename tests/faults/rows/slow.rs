//! Links that are slow or lose packets, and what is planned meanwhile: nothing that was acknowledged may be lost by it.

use cluster_node::clock;
use serde_json::Value;

use crate::fault::Fault;
use crate::matrix::Row;
use crate::trial::{PROMOTED, REDUNDANT, Trial};

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "switchover-slow-link",
        goals: "G2 G7",
        fault: "the primary's link to the others at 480 kbit/s, up to 6 MB of WAL not yet across; then `cluster switchover`",
        expected: "it hands over and loses nothing, or is refused before anything is stopped",
        play: |trial| {
            let stage = trial.stage;
            let behind = falls_behind(trial)?;
            let run = stage.lab.cluster(&["switchover", "-i", &stage.inventory, &trial.new, "--json"]);
            if run.code == 0 {
                trial.note(format!("{behind} kB behind: handed over"));
                trial.promotions(Some(1));
            } else {
                let error: Value =
                    serde_json::from_str(run.stderr.lines().last().unwrap_or_default()).unwrap_or_default();
                let why = error["message"].as_str().unwrap_or(&run.stderr);
                trial.note(format!("{behind} kB behind: exit {}: {why}", run.code));
                // 3 says that nothing was changed: at that moment the standby was not even streaming.
                if run.code != 3 && !why.contains("nothing was stopped") {
                    return Err(format!(
                        "exit {}, which does not say that nothing was stopped: {why}",
                        run.code
                    ));
                }
                trial.still_primary()?;
            }
            ends(trial)
        },
    },
    Row {
        name: "stopped-in-a-pause-slow-link",
        goals: "G1 G7",
        fault: "the same link; `cluster pause`, PostgreSQL stopped and started manually, `cluster resume`",
        expected: "the lease is kept while it shuts down, however long that takes; nothing is lost",
        play: |trial| {
            let (stage, old) = (trial.stage, trial.old.clone());
            let behind = falls_behind(trial)?;
            let does = |words: &[&str]| {
                let run = stage.lab.cluster(words);
                if run.code == 0 {
                    Ok(())
                } else {
                    Err(format!("{words:?}: exit {}: {}", run.code, run.stderr))
                }
            };
            does(&["pause", "-i", &stage.inventory])?;
            let begun = clock::now();
            let stopped = stage.on(&old, &format!("timeout 110 systemctl stop {}", stage.unit()));
            trial.note(format!(
                "{behind} kB behind: stopped in {:.1} s",
                (clock::now() - begun) as f64 / 1000.0
            ));
            let started = stage.on(&old, &format!("systemctl start {}", stage.unit()));
            let resumed = does(&["resume", "-i", &stage.inventory]);
            stopped.and(started).and(resumed.map(|()| String::new()))?;
            trial.still_primary()?;
            ends(trial)
        },
    },
    Row {
        name: "restarted-slow-link",
        goals: "G1 G7",
        fault: "the same link; PostgreSQL on the primary restarted as `cluster up` restarts it",
        expected: "the lease is kept while it restarts; nothing is lost",
        play: |trial| {
            let (stage, old) = (trial.stage, trial.old.clone());
            let behind = falls_behind(trial)?;
            let begun = clock::now();
            stage.on(
                &old,
                &format!("cluster-node restart && timeout 110 systemctl restart {}", stage.unit()),
            )?;
            trial.note(format!(
                "{behind} kB behind: restarted in {:.1} s",
                (clock::now() - begun) as f64 / 1000.0
            ));
            trial.still_primary()?;
            ends(trial)
        },
    },
    Row {
        name: "lossy-link",
        goals: "G1",
        fault: "three of ten packets from and to the primary lost, for 30 s",
        expected: "no failover",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            let rules = "table inet trial { chain input { type filter hook input priority 0; \
                         iifname \"eth1\" numgen random mod 100 < 30 drop; }; \
                         chain output { type filter hook output priority 0; \
                         oifname \"eth1\" numgen random mod 100 < 30 drop; }; }";
            stage.in_network(&old, rules)?;
            let seen = trial.stays(30.0);
            stage.in_network(&old, "delete table inet trial")?;
            seen
        },
    },
];

/// Slows the primary's link down and writes as much WAL as the moment says: nothing, or up to 6 MB. How many kB the
/// standby lacks then.
fn falls_behind(trial: &mut Trial<'_>) -> Result<u64, String> {
    let (stage, old) = (trial.stage, trial.old.clone());
    trial.lossless();
    trial.promotions(Some(0));
    trial.breaks(&Fault::SlowLink(old.clone()))?;
    let rows = (clock::now() / 7 % 4) * 1_000;
    stage.sql(
        &old,
        "postgres",
        &format!("drop table if exists ballast; create table ballast as select repeat(md5(i::text), 44) from generate_series(1, {rows}) i"),
    )?;
    let lacks = "select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn)), 0)::bigint / 1024 \
                 from pg_stat_replication";
    stage.sql(&old, "postgres", lacks)?.trim().parse().map_err(|error| format!("{error}"))
}

fn ends(trial: &mut Trial<'_>) -> Result<(), String> {
    trial.mends()?;
    let (stage, since) = (trial.stage, clock::now());
    stage.wait("any write", since, PROMOTED, |it| it.acknowledged().is_some())?;
    stage.redundant(since, REDUNDANT)?;
    stage.sql(&stage.primary(), "postgres", "drop table ballast").map(drop)
}
