//! The backup repository away, wrong or gone, and a cluster that fails over in the middle of a backup: no outage, nothing
//! lost, and what is missing in the archive comes by itself.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault::Fault;
use crate::matrix::Row;
use crate::stage::Stage;
use crate::trial::Trial;

/// `status` has said by then that something is wrong: pgBackRest waits long for a server that does not answer.
const TOLD: Duration = Duration::from_secs(420);
/// From the mending until everything is archived: the archiver waits for a minute between its tries.
const ARCHIVED: Duration = Duration::from_secs(180);
/// A backup of a new timeline is there by then.
const BACKED_UP: Duration = Duration::from_secs(300);
/// How fast objects move while a backup is to take long.
const SLOWLY: &[&str] =
    &["spaces", "--path", "/demo-backups/demo/backup/*", "slow", "--bytes-per-second", "40000"];

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "repository-away",
        goals: "G1 G11",
        fault: "the object storage refuses connections for ten minutes, under load",
        expected: "writes go on, and WAL is kept; it is archived by itself when the storage is back",
        play: |trial| storage(trial, &Fault::Spaces(&["away"]), 600.0),
    },
    Row {
        name: "repository-reset",
        goals: "G1 G11",
        fault: "the object storage resets every connection",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["away", "--reset"]), 60.0),
    },
    Row {
        name: "repository-forbidden",
        goals: "G1 G11",
        fault: "the object storage refuses the key (403)",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["forbidden"]), 60.0),
    },
    Row {
        name: "repository-500",
        goals: "G1 G11",
        fault: "the object storage answers 500",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["error"]), 60.0),
    },
    Row {
        name: "repository-503",
        goals: "G1 G11",
        fault: "the object storage answers 503 SlowDown",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["slow-down"]), 60.0),
    },
    Row {
        name: "uploads-reset",
        goals: "G1 G11",
        fault: "the object storage resets every upload in the middle",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["reset", "--after-bytes", "200"]), 60.0),
    },
    Row {
        name: "repository-full",
        goals: "G1 G11",
        fault: "the object storage takes no more bytes (403 QuotaExceeded)",
        expected: "the same",
        play: |trial| storage(trial, &Fault::Spaces(&["full"]), 60.0),
    },
    Row {
        name: "wrong-ca",
        goals: "G1 G11",
        fault: "the data nodes trust another CA than the object storage's",
        expected: "the same; `cluster up` restores the file",
        play: |trial| {
            let script = "openssl req -x509 -newkey ed25519 -nodes -keyout /dev/null -out $file -days 9 -subj /CN=x 2>/dev/null";
            storage(trial, &Fault::Opener { file: "/etc/cluster/backup-ca.crt", script }, 60.0)
        },
    },
    Row {
        name: "wrong-passphrase",
        goals: "G1 G11",
        fault: "the data nodes have another passphrase than the repository's",
        expected: "the same; `cluster up` restores the file",
        play: |trial| {
            let script = "sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=old/' $file";
            storage(trial, &Fault::Opener { file: "/etc/cluster/pgbackrest.conf", script }, 60.0)
        },
    },
    Row {
        name: "key-deleted",
        goals: "G1 G11",
        fault: "the bucket's key is deleted",
        expected: "the same; `cluster up` creates another",
        play: |trial| storage(trial, &Fault::NoKey, 60.0),
    },
    Row {
        name: "bucket-deleted",
        goals: "G1 G11",
        fault: "the bucket is deleted, with every backup in it",
        expected: "the same; `cluster up` creates it again, and a full backup follows by itself",
        play: |trial| storage(trial, &Fault::NoBucket, 60.0),
    },
    Row {
        name: "killed-during-backup",
        goals: "G2 G4 G11",
        fault: "PostgreSQL on the primary killed during a full backup",
        expected: "the standby takes over; the backup fails, and one of the new timeline follows",
        play: |trial| {
            let mut backup = begins(trial.stage, &["backup", "--full"], &trial.old)?;
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.kills(&old, &new)?;
            trial.failover()?;
            let failed = !backup.wait().map_err(|error| error.to_string())?.success();
            trial.stage.lab_does(&["spaces", "heal"])?;
            if !failed {
                return Err("the backup of a primary that was killed succeeded".into());
            }
            trial.back()?;
            backed_up(trial)
        },
    },
    Row {
        name: "standby-killed-during-drill",
        goals: "G1 G11",
        fault: "PostgreSQL on the standby killed while a restore is tried beside it",
        expected: "no failover; the standby streams again, and the next restore is proved",
        play: |trial| {
            let mut drill = begins(trial.stage, &["drill", "--fault", "restore"], &trial.new)?;
            trial.breaks(&Fault::KillPostgres(trial.new.clone()))?;
            trial.stays(5.0)?;
            trial.stage.lab_does(&["spaces", "heal"])?;
            let ended = drill.wait().map_err(|error| error.to_string())?;
            trial.note(format!("the drill: {ended}"));
            let standby = trial.new.clone();
            trial.node_is_back(&standby)?;
            proved(trial.stage)
        },
    },
    Row {
        name: "switchover-during-both",
        goals: "G2 G7 G11",
        fault: "none: `cluster switchover` during a full backup and a restore drill",
        expected: "handed over, nothing lost; both fail, a backup of the new timeline follows, and a restore is proved",
        play: |trial| {
            let stage = trial.stage;
            let mut backup = begins(stage, &["backup", "--full"], &trial.old)?;
            let mut drill = begins(stage, &["drill", "--fault", "restore"], &trial.new)?;
            trial.lossless();
            trial.promotions(Some(1));
            let run = stage.lab.cluster(&["switchover", "-i", &stage.inventory, "--json"]);
            stage.lab_does(&["spaces", "heal"])?;
            if run.code != 0 {
                return Err(format!("switchover: exit {}: {}", run.code, run.stderr));
            }
            trial.note(format!("switchover after {} s", run.json()["seconds"]));
            for (what, child) in [("the backup", &mut backup), ("the drill", &mut drill)] {
                let ended = child.wait().map_err(|error| error.to_string())?;
                trial.note(format!("{what}: {ended}"));
            }
            backed_up(trial)?;
            proved(stage)
        },
    },
];

/// The repository has a fault for `seconds` at least, and until `status` says so; a load writes meanwhile.
fn storage(trial: &mut Trial<'_>, fault: &Fault, seconds: f64) -> Result<(), String> {
    let stage = trial.stage;
    trial.lossless();
    trial.load();
    trial.breaks(fault)?;
    let broken = Instant::now();
    let switch = "select pg_switch_wal()";
    stage.sql(&trial.old, "postgres", switch)?;
    let told = until(TOLD, "`status` to say so", || {
        Ok(Some(problems(&stage.lab.status(&stage.inventory))).filter(|it| !it.is_empty()))
    })?;
    trial.note(format!("`status` after {:.0} s: {told}", broken.elapsed().as_secs_f64()));
    trial.stays((seconds - broken.elapsed().as_secs_f64()).max(1.0))?;
    let told = problems(&stage.lab.status(&stage.inventory));
    trial.note(format!("`status` at the end: {told}"));
    stage.sql(&trial.old, "postgres", switch)?;
    trial.mends()?;
    let mended = Instant::now();
    let waiting = "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'";
    until(ARCHIVED, "everything to be archived", || {
        Ok((stage.sql(&trial.old, "postgres", waiting)? == "0").then_some(()))
    })?;
    trial.note(format!("archived {:.0} s after the mending", mended.elapsed().as_secs_f64()));
    whole(trial)
}

/// `cluster backup check` is content, and nothing is missing between the first backup and the last WAL file.
fn whole(trial: &mut Trial<'_>) -> Result<(), String> {
    let stage = trial.stage;
    let begun = Instant::now();
    // The first backup of a new repository is nothing that anybody has to see to while it runs.
    let status = until(BACKED_UP, "a cluster that is healthy and has a backup", || {
        let status = stage.lab.status(&stage.inventory);
        let has_one = status["backups"]["contents"]["backups"].as_array().is_some_and(|it| !it.is_empty());
        Ok((status["healthy"] == true && has_one).then_some(status))
    })?;
    trial.note(format!("healthy {:.0} s later", begun.elapsed().as_secs_f64()));
    let run = stage.lab.cluster(&["backup", "check", "-i", &stage.inventory]);
    if run.code != 0 {
        return Err(format!("backup check: exit {}: {}", run.code, run.stderr));
    }
    let contents = &status["backups"]["contents"];
    let open =
        contents["gaps"].as_array().into_iter().flatten().filter(|gap| gap["closed_by_backup"] != true);
    match (open.count(), contents["intervals"].as_array().map_or(0, Vec::len)) {
        (0, 1) => Ok(()),
        _ => Err(format!("not everything can be restored: {contents}")),
    }
}

/// A backup of the new timeline is there.
fn backed_up(trial: &mut Trial<'_>) -> Result<(), String> {
    let stage = trial.stage;
    let begun = Instant::now();
    let primary = stage.primary();
    until(BACKED_UP, "a backup of the new timeline", || {
        let status = stage.lab.status(&stage.inventory);
        let timeline =
            status["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == primary.as_str());
        let last = status["backups"]["contents"]["backups"].as_array().and_then(|all| all.last());
        let is_new = last.zip(timeline).is_some_and(|(last, node)| last["timeline"] == node["timeline"]);
        Ok(is_new.then_some(()))
    })?;
    trial.note(format!("a backup of the new timeline {:.0} s later", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// A restore is proved now.
fn proved(stage: &Stage) -> Result<(), String> {
    stage.lab.wait_for_status(&stage.inventory, 120, |status| {
        status["healthy"] == true || !problems(status).is_empty()
    });
    let run = stage.lab.cluster(&["drill", "-i", &stage.inventory, "--fault", "restore"]);
    if run.code == 0 {
        Ok(())
    } else {
        Err(format!("drill: exit {}: {}{}", run.code, run.stdout, run.stderr))
    }
}

/// Begins a command on backups that takes long, and returns when it is under way on `node`.
fn begins(stage: &Stage, words: &[&str], node: &str) -> Result<Child, String> {
    stage.lab_does(SLOWLY)?;
    let begun = stage
        .lab
        .command(&[words, &["-i", &stage.inventory]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = begun.map_err(|error| error.to_string())?;
    let process = if words[0] == "backup" { " backup --type" } else { " restore$" };
    until(Duration::from_secs(60), "it to be under way", || {
        let found =
            stage.on(node, &format!("pgrep -u postgres -f '^/usr/bin/pgbackrest .*{process}' || :"))?;
        Ok((!found.is_empty()).then_some(()))
    })?;
    // Into the middle of it.
    std::thread::sleep(Duration::from_secs(2));
    Ok(child)
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    problems.filter(|text| text.starts_with("backups")).collect::<Vec<_>>().join("; ")
}

fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > limit {
            return Err(format!("waited {} s in vain for {what}", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
