//! What breaks inside a host that runs: PostgreSQL, its disk, its clients, repmgr.

use cluster_node::clock;

use crate::crowd::{ALL_WITHIN, Crowd, Pool};
use crate::fault::Fault;
use crate::matrix::Row;
use crate::stage::{BOOTED, Stage};
use crate::trial::{PROMOTED, REDUNDANT, Trial};

/// Applications that reconnect.
const CLIENTS: usize = 500;
/// From a full disk to the last write that is taken: a tick of the guard's, and a reload.
const REFUSED_WITHIN: u64 = 5_000;
/// Room must have lasted for 5 s before writes are taken again.
const TAKEN_AGAIN: std::time::Duration = std::time::Duration::from_secs(20);

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "killed",
        goals: "G2 G4 G7",
        fault: "PostgreSQL on the primary killed (SIGKILL)",
        expected: "the standby takes over; the old primary rejoins by itself",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.kills(&old, &new)?;
            trial.failover()?;
            trial.back()
        },
    },
    Row {
        name: "backend-killed",
        goals: "G1",
        fault: "one backend on the primary killed (SIGKILL)",
        expected: "PostgreSQL recovers by itself; no failover",
        play: |trial| {
            trial.breaks(&Fault::KillBackend(trial.old.clone()))?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "stopped-by-hand",
        goals: "G2 G4 G6",
        fault: "`systemctl stop` of PostgreSQL on the primary",
        expected: "the standby takes over; the stopped node rejoins",
        play: |trial| {
            trial.breaks(&Fault::StopPostgres(trial.old.clone()))?;
            trial.lossless();
            trial.failover()?;
            trial.back()
        },
    },
    Row {
        name: "postmaster-frozen",
        goals: "G1 G2 G4",
        fault: "the postmaster alone frozen (SIGSTOP); sessions continue",
        expected: "no new session, no lease: it is killed, and the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::FreezePostmaster(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "frozen",
        goals: "G1 G2 G4",
        fault: "every PostgreSQL process on the primary frozen (SIGSTOP)",
        expected: "it is killed when its lease expires; the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::FreezePostgres(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "stall-5s",
        goals: "G1",
        fault: "every PostgreSQL process on the primary frozen for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.stalls(&Fault::FreezePostgres(trial.old.clone()), 5.0)?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "frozen-then-powered-off",
        goals: "G2 G4 G6",
        fault: "PostgreSQL on the primary frozen, and a second later the host powered off",
        expected: "the standby takes over (repmgr: hangs on its connection)",
        play: |trial| {
            trial.breaks(&Fault::FreezePostgres(trial.old.clone()))?;
            trial.sleep(1.0);
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "disk-full",
        goals: "G1 G7",
        fault: "the disk of the primary's WAL is full, for 20 s",
        expected: "writes are refused, and there is no failover; once there is space, they are taken again",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            small_disk(stage, &old)?;
            trial.lossless();
            let seen = disk_full(trial);
            let mended = if seen.is_ok() { Ok(()) } else { trial.mends() };
            // Whatever came of it: nobody is left with a small disk.
            whole_disk(stage, &old)?;
            seen.and(mended)
        },
    },
    Row {
        name: "connections-exhausted",
        goals: "G1",
        fault: "applications take every connection that they can get, for 15 s",
        expected: "no failover: the guard's place is reserved",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            let taken = Crowd::take(&stage.node(&old).address.to_string(), &stage.lab.check_password());
            trial.note(format!("{} connections", taken.count()));
            trial.stays(15.0)
        },
    },
    Row {
        name: "killed-with-500-clients",
        goals: "G2 G4 G7",
        fault: "PostgreSQL on the primary killed; 500 clients come back through the floating IP",
        expected: "one failover; the clients' return costs the new primary nothing",
        play: |trial| {
            let stage = trial.stage;
            let password = stage.lab.check_password();
            let pool = Pool::connect(&stage.floating.to_string(), &password, CLIENTS)?;
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.kills(&old, &new)?;
            trial.failover()?;
            let seconds = pool.all_within(CLIENTS, ALL_WITHIN)?;
            trial.note(format!("all {CLIENTS} clients connected {seconds:.1} s after the failover"));
            trial.back()?;
            // Longer than a lease that the storm could have cost.
            trial.sleep(12.0);
            Ok(())
        },
    },
    Row {
        name: "wrong-password",
        goals: "G1",
        fault: "repmgr's password is wrong on the standby for 15 s",
        expected: "no failover",
        play: |trial| {
            let (new, stage) = (trial.new.clone(), trial.stage);
            let file = "/var/lib/postgresql/.pgpass";
            stage.on(
                &new,
                &format!("cp -p {file} {file}.good && sed -i 's/:repmgr:.*/:repmgr:wrong/' {file}"),
            )?;
            let seen = trial.stays(15.0);
            stage.on(&new, &format!("mv {file}.good {file}"))?;
            seen
        },
    },
    Row {
        name: "repmgrd-dead",
        goals: "G2 G6",
        fault: "repmgrd stopped on the standby and on the witness, then PostgreSQL on the primary killed",
        expected: "the guards need no repmgrd: the standby takes over; repmgr's metadata on the witness is repaired",
        play: |trial| {
            let stage = trial.stage;
            let nodes = [trial.new.clone(), "pg3".to_owned()];
            for node in &nodes {
                stage.on(node, "systemctl stop repmgrd")?;
            }
            let (old, new) = (trial.old.clone(), trial.new.clone());
            let killed = trial.kills(&old, &new).and_then(|_| trial.failover());
            // The witness's copy of the records twice: of the new primary, and of the old one as its standby.
            let seen = killed.and_then(|()| trial.back()).and_then(|()| stage.recorded(REDUNDANT));
            for node in &nodes {
                stage.on(node, "systemctl start repmgrd")?;
            }
            seen
        },
    },
    Row {
        name: "two-failovers",
        goals: "G2 G4 G6",
        fault: "PostgreSQL on the primary killed; on the new one too, as soon as the old one streams",
        expected: "two failovers, and the first primary is primary again",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.kills(&old, &new)?;
            trial.failover()?;
            trial.back()?;
            let again = trial.kills(&new, &old)?;
            let stage = trial.stage;
            let first = stage.wait("the second failover", again, PROMOTED, |it| {
                it.acknowledged().is_some_and(|(node, _)| node == old)
            })?;
            trial.note(format!("the second one took {} ms", first.ended - again));
            trial.promotions(Some(2));
            Ok(())
        },
    },
    Row {
        name: "lagging-standby",
        goals: "G2 G7",
        fault: "the standby cut off from the primary until it is 32 MiB behind; then the primary powered off for 25 s",
        expected: "no promotion: more would be lost than the limit allows; the old primary continues when it is back",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            trial.breaks(&Fault::between(&old, &new))?;
            trial.sleep(1.0);
            stage.sql(
                &old,
                "postgres",
                "create table ballast as select repeat(md5(i::text), 32) from generate_series(1, 40000) i",
            )?;
            trial.sleep(3.0);
            trial.restart_clock();
            trial.breaks(&Fault::PowerOff(old.clone()))?;
            let off = stage.is_off(&old)?;
            trial.nobody(off, 25.0)?;
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            stage.wait("any write", since, BOOTED, |it| it.acknowledged().is_some())?;
            trial.nobody_but(&old)?;
            stage.sql(&old, "postgres", "drop table ballast").map(drop)
        },
    },
];

/// The disk of the primary's WAL is filled, and it gets room again.
fn disk_full(trial: &mut Trial<'_>) -> Result<(), String> {
    let (old, stage) = (trial.old.clone(), trial.stage);
    trial.breaks(&Fault::FullDisk(old.clone()))?;
    let filled = clock::now();
    // As an application would go on, if it could: what is left of the last segments would be used up.
    let _ = stage.on(
        &old,
        "cd /; runuser -u postgres -- psql -XAtqw -d postgres -c \
         'create table ballast as select repeat(md5(i::text), 32) from generate_series(1, 400000) i' 2>/dev/null || :",
    );
    trial.nobody(filled + REFUSED_WITHIN, 20.0)?;
    trial.nobody_but(&old)?;
    trial.mends()?;
    let mended = clock::now();
    stage
        .wait("writes again", mended, TAKEN_AGAIN, |it| it.acknowledged().is_some_and(|(by, _)| by == old))?;
    trial.still_primary()
}

/// Puts the WAL of a node on a disk of its own, which has little room. PostgreSQL is restarted for it, with the guard's
/// leave.
fn small_disk(stage: &Stage, node: &str) -> Result<(), String> {
    stage
        .on(
            node,
            "set -e; cluster-node restart; systemctl stop postgresql@15-main; cd /var/lib/postgresql/15/main; \
             mv pg_wal pg_wal.whole; install -d -m 700 -o postgres -g postgres pg_wal; \
             mount -t tmpfs -o size=$(($(du -sm pg_wal.whole | cut -f1) + 384))m,mode=700 tmpfs pg_wal; \
             chown postgres:postgres pg_wal; cp -a pg_wal.whole/. pg_wal/; rm -rf pg_wal.whole; \
             systemctl start postgresql@15-main",
        )
        .map(drop)?;
    let now = clock::now();
    stage
        .wait("writes again", now, PROMOTED, |it| it.acknowledged().is_some_and(|(by, _)| by == node))
        .map(drop)
}

/// And back.
fn whole_disk(stage: &Stage, node: &str) -> Result<(), String> {
    stage
        .on(
            node,
            // A clone that took the place of the data has left the small disk with the old one.
            "set -e; data=/var/lib/postgresql/15/main; umount $data.cluster-old/pg_wal 2>/dev/null || :; \
             if mountpoint -q $data/pg_wal; then touch /var/lib/cluster/paused; systemctl stop postgresql@15-main; \
             cp -a $data/pg_wal $data/pg_wal.whole; umount $data/pg_wal; rmdir $data/pg_wal; \
             mv $data/pg_wal.whole $data/pg_wal; rm /var/lib/cluster/paused; \
             systemctl start postgresql@15-main; fi",
        )
        .map(drop)
}
