//! Restores that are proved: the newest backup is restored beside the data of a standby, replayed, checked and thrown away.
//!
//! What was never restored is no backup. The service has it done once in a while, where it stands beside a standby, and
//! `cluster drill --fault restore` at once; both run this program anew, so that it can be killed alone. It touches
//! nothing outside its [`place`], gives way to everything else on the host, and gives up as soon as the node has other
//! work to do.

mod copy;
mod place;

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_contract::backup::{Backup, BackupConfig, Proof, Proofs, Proving};
use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::status::{JobKind, Server, Status};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::place::{Place, Room};
use super::{QUESTION_LIMIT, backup_config, guard_status, now, select};
use crate::pgbackrest::{self, Failed};
use crate::{config, file, psql, say};

/// All of it.
const LIMIT: Duration = Duration::from_secs(86_400);
/// How often it is asked whether the node has other work to do.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long the server or the guard may be away, as during a restart, before that counts as other work.
const AWAY_LIMIT: Duration = Duration::from_secs(30);
/// How often the repository is asked for a backup to restore, where one is due.
const ASK_INTERVAL: Duration = Duration::from_secs(300);
/// How old a backup is when it is first restored.
const RIPE_S: i64 = 120;
/// One that has failed is tried again after an hour, then two, then four, up to a day.
const RETRY_FIRST_S: u64 = 3_600;
const RETRY_MOST_S: u64 = 86_400;

fn read() -> Result<Proofs> {
    Ok(file::read(Path::new(paths::PROOFS))?.unwrap_or_default())
}

/// Changes what is known of the proofs on this node. Only who has the lock does.
fn note(change: impl FnOnce(&mut Proofs)) -> Result<()> {
    // What cannot be read is as good as nothing.
    let mut proofs = read().unwrap_or_default();
    change(&mut proofs);
    file::write(Path::new(paths::PROOFS), &proofs, true)
}

/// Whether it is time to prove a restore, if there is a backup.
fn due(config: &BackupConfig, proofs: &Proofs, now: i64) -> bool {
    let Some(every) = config.prove_every_s else { return false };
    let age = |then: i64| u64::try_from(now.saturating_sub(then)).unwrap_or(0);
    let doublings = proofs.failures.saturating_sub(1).min(10);
    let pause = (RETRY_FIRST_S << doublings).min(RETRY_MOST_S).min(every);
    let waits = proofs.failures > 0 && proofs.last.as_ref().is_some_and(|last| age(last.at) < pause);
    !waits && proofs.good.as_ref().is_none_or(|good| age(good.at) >= every)
}

/// The part of the service that has restores proved.
#[derive(Default)]
pub(super) struct Prover {
    child: Option<Child>,
    asked: Option<Instant>,
    /// What was wrong at the last look, told once.
    told: Option<String>,
}

impl Prover {
    /// Clears away what a killed run has left; has a restore proved if one is due and this node is `free` for it: it does
    /// not take writes.
    pub(super) async fn look(&mut self, config: &Config, backup: &BackupConfig, free: bool) {
        let wrong = self.try_look(config, backup, free).await.err().map(|error| format!("{error:#}"));
        if wrong.is_some() && wrong != self.told {
            println!("proving a restore: {}", wrong.as_deref().unwrap_or_default());
        }
        self.told = wrong;
    }

    async fn try_look(&mut self, config: &Config, backup: &BackupConfig, free: bool) -> Result<()> {
        if let Some(child) = &mut self.child {
            let Some(status) = child.try_wait().context("cannot see how it goes")? else { return Ok(()) };
            self.child = None;
            told(status);
        }
        clear_left(config).await?;
        let recently = self.asked.is_some_and(|asked| asked.elapsed() < ASK_INTERVAL);
        if !free || recently || !due(backup, &read().unwrap_or_default(), now()) {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        if !is_chosen(config).await? {
            return Ok(());
        }
        let backups = backups(&backup.stanza).await?;
        if backups.last().is_some_and(|newest| now() - newest.ended >= RIPE_S) {
            let mut command = Command::new(paths::PROGRAM);
            // It has its own ways to end, and to clear up.
            self.child = Some(command.arg("prove").stdin(Stdio::null()).spawn().context("cannot begin")?);
        }
        Ok(())
    }
}

fn told(status: ExitStatus) {
    if !status.success() {
        println!("proving a restore ended with {status}");
    }
}

/// Deletes what a run has left that was killed, or that the node was switched off under.
async fn clear_left(config: &Config) -> Result<()> {
    let place = Place::new(config.version);
    let stale = || read().is_ok_and(|proofs| proofs.running.is_some());
    if !place.exists() && !stale() {
        return Ok(());
    }
    let clear = move || -> Result<()> {
        let Some(_lock) = place::lock()? else { return Ok(()) };
        if place.exists() {
            place.clear()?;
            println!("deleted {}, which a proof that was killed had left", place.root().display());
        }
        if stale() { note(|proofs| proofs.running = None) } else { Ok(()) }
    };
    tokio::task::spawn_blocking(clear).await?
}

/// Whether this node is the one to prove restores: a sound standby, and the first by name of those that stream. One is
/// enough.
async fn is_chosen(config: &Config) -> Result<bool> {
    let status = guard_status().await?;
    let primary = status.holder.as_ref().and_then(|name| config.members.iter().find(|it| it.name == *name));
    let Some(primary) = primary.filter(|_| obstacle(&status).is_none() && !status.paused) else {
        return Ok(false);
    };
    let sql = "select application_name from pg_stat_replication where state = 'streaming'";
    let streaming = psql::query(config, primary, sql).await?;
    let members = config.members.iter().filter(|it| !it.witness).map(|it| it.name.as_str());
    Ok(members.filter(|name| streaming.lines().any(|line| line == *name)).min() == Some(config.node.as_str()))
}

/// What of a guard's status forbids to go on at once, or, where it lasts, in a while.
fn obstacle(status: &Status) -> Option<(bool, String)> {
    match status.job {
        Some(JobKind::Promote) => return Some((true, "this node becomes the primary".into())),
        Some(JobKind::Rejoin) => return Some((true, "this node is made a standby anew".into())),
        _ => {}
    }
    if status.holds {
        return Some((true, "this node takes writes: only a standby proves restores".into()));
    }
    let standby = status.postgresql == Server::Standby;
    (!standby).then(|| (false, "this node is no running standby".into()))
}

/// What is in the repository, the newest last.
async fn backups(stanza: &str) -> Result<Vec<Backup>, Failed> {
    let json = pgbackrest::run(stanza, &["info", "--output=json"], QUESTION_LIMIT).await?;
    pgbackrest::backups(stanza, &json)
}

/// Proves a restore now, or waits for the end of a proof that is under way. Prints what it does. A proof that has failed is
/// no error: the result says why.
///
/// # Errors
/// When this node cannot prove restores, or it was given up.
pub async fn prove() -> Result<Proof> {
    ensure!(
        !rustix::process::getuid().is_root(),
        "a restore is proved as postgres: run `runuser -u postgres -- cluster-node prove`"
    );
    let (config, backup) = (config::read()?, backup_config()?);
    let _lock = loop {
        if let Some(lock) = place::lock()? {
            break lock;
        }
        if let Some(proof) = follow().await? {
            return Ok(proof);
        }
    };
    if let Some((_, why)) = obstacle(&guard_status().await?) {
        bail!("{why}");
    }
    let place = Place::new(config.version);
    place.clear()?;
    let room = place.room()?;
    let (since, begun) = (now(), Instant::now());
    note(|proofs| proofs.running = Some(Proving { since, doing: "looking for a backup".into() }))?;
    let run = copy::Run { config: &config, backup: &backup, place: &place, since };
    let mut proof = Proof::default();
    let ended = tokio::select! {
        result = run.run(&mut proof) => Ended::Result(result),
        result = watch(&place, room) => Ended::Result(result),
        why = other_work() => Ended::GivenUp(why),
        result = stopped() => match result {
            Ok(()) => Ended::GivenUp("it was stopped".into()),
            Err(error) => Ended::Result(Err(error)),
        },
        () = tokio::time::sleep(LIMIT) => {
            Ended::Result(Err(anyhow::anyhow!("it did not end within {} h", LIMIT.as_secs() / 3_600)))
        }
    };
    let cleared = place.clear();
    let result = match ended {
        Ended::Result(result) => result.and(cleared),
        Ended::GivenUp(why) => {
            note(|proofs| proofs.running = None)?;
            cleared?;
            bail!("given up: {why}");
        }
    };
    // Nothing was tried, and nothing has failed.
    if let Err(error) = &result
        && error.is::<NoBackup>()
    {
        note(|proofs| proofs.running = None)?;
        bail!("{NoBackup}");
    }
    (proof.at, proof.seconds) = (now(), begun.elapsed().as_secs());
    proof.error = result.err().map(|error| format!("{error:#}"));
    note(|proofs| ended_with(proofs, &proof, since))?;
    Ok(proof)
}

enum Ended {
    Result(Result<()>),
    GivenUp(String),
}

/// The repository is empty.
#[derive(Debug, thiserror::Error)]
#[error("there is no backup yet")]
struct NoBackup;

fn ended_with(proofs: &mut Proofs, proof: &Proof, since: i64) {
    proofs.running = None;
    proofs.possible_since.get_or_insert(since);
    if proof.error.is_none() {
        (proofs.good, proofs.failures) = (Some(proof.clone()), 0);
    } else {
        proofs.failures = proofs.failures.saturating_add(1);
    }
    proofs.last = Some(proof.clone());
}

/// Ends when the disk has no room any more for both the copy and the standby.
async fn watch(place: &Place, before: Room) -> Result<()> {
    // Where there is less than that from the beginning, the proof does not begin.
    let least = before.kept_free() / 2;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let free = place.room()?.free;
        if free < least && place.exists() {
            bail!("stopped: the disk of {} has {} left", place.root().display(), megabytes(free));
        }
    }
}

/// Ends when the node has other work to do, with what that is.
async fn other_work() -> String {
    let mut sound = Instant::now();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let found = match guard_status().await {
            Ok(status) => obstacle(&status),
            Err(error) => Some((false, format!("the guard does not answer: {error:#}"))),
        };
        match found {
            Some((at_once, why)) if at_once || sound.elapsed() > AWAY_LIMIT => return why,
            Some(_) => {}
            None => sound = Instant::now(),
        }
    }
}

/// Ends when this program is told to.
async fn stopped() -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {}, _ = hang_up.recv() => {} }
    Ok(())
}

/// Tells how a proof goes that another process makes, and returns its result; none if it was given up.
async fn follow() -> Result<Option<Proof>> {
    let since = now();
    let mut last = String::new();
    while place::lock()?.is_none() {
        if let Some(running) = read().ok().and_then(|proofs| proofs.running)
            && running.doing != last
        {
            say(&running.doing);
            last = running.doing;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(read()?.last.filter(|proof| proof.at >= since))
}

fn megabytes(bytes: u64) -> String {
    if bytes >= 10 << 30 { format!("{} GB", bytes >> 30) } else { format!("{} MB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;
    const DAY: i64 = 86_400;

    fn config(prove_every_s: Option<u64>) -> BackupConfig {
        BackupConfig {
            stanza: "demo".into(),
            full_every_s: 7 * 86_400,
            differential_every_s: 86_400,
            archive_within_s: 60,
            prove_every_s,
        }
    }

    fn ended(at: i64, error: Option<&str>) -> Proof {
        Proof { at, error: error.map(str::to_owned), ..Proof::default() }
    }

    #[test]
    fn one_at_the_beginning_and_then_one_a_week() {
        let week = config(Some(7 * 86_400));
        let mut proofs = Proofs::default();
        assert!(due(&week, &proofs, 0));
        assert!(!due(&config(None), &proofs, 0));
        ended_with(&mut proofs, &ended(0, None), 0);
        assert!(!due(&week, &proofs, 7 * DAY - 1) && due(&week, &proofs, 7 * DAY));
        assert!(!due(&config(None), &proofs, 700 * DAY));
        // A clock that was put back.
        assert!(!due(&week, &proofs, -DAY));
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let week = config(Some(7 * 86_400));
        let mut proofs = Proofs::default();
        ended_with(&mut proofs, &ended(0, None), 0);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            ended_with(&mut proofs, &ended(0, Some("no")), 0);
            // As if the good one had been long ago.
            proofs.good = None;
            pauses.push((0..).step_by(HOUR as usize).find(|now| due(&week, &proofs, *now)).unwrap() / HOUR);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 24, 24]);
        assert!(due(&config(Some(3_600)), &proofs, HOUR), "no longer than between two that go well");
        ended_with(&mut proofs, &ended(9, None), 9);
        assert_eq!((proofs.failures, proofs.possible_since), (0, Some(0)));
    }

    #[test]
    fn a_node_with_other_work_proves_nothing() {
        let standby = Status { postgresql: Server::Standby, ..Status::default() };
        assert_eq!(obstacle(&standby), None);
        let at_once = |status: Status| obstacle(&status).map(|(at_once, _)| at_once);
        assert_eq!(at_once(Status { job: Some(JobKind::Promote), ..standby.clone() }), Some(true));
        assert_eq!(at_once(Status { job: Some(JobKind::Rejoin), ..standby.clone() }), Some(true));
        assert_eq!(at_once(Status { holds: true, ..standby.clone() }), Some(true));
        assert_eq!(at_once(Status { postgresql: Server::Primary, ..standby.clone() }), Some(false));
        assert_eq!(at_once(Status { postgresql: Server::Down, ..standby }), Some(false));
    }
}
