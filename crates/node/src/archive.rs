//! PostgreSQL's `archive_command` and `restore_command`: hand a finished WAL file to pgBackRest, and fetch one that a
//! standby lacks and its primary has no more.
//!
//! PostgreSQL waits for the first when it stops, for as long as it takes, and pgBackRest waits minutes for a
//! repository that is away. So it runs with a limit, and ends with the server: a repository never holds up a stop, a
//! switchover or a fence. What was not archived is kept by PostgreSQL and tried again.
//!
//! A standby waits for the second before it streams again, and before it is promoted. So it is given up at once when a
//! promotion begins, and not tried at all for a while when the repository has not answered: a standby can do without.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cluster_contract::backup::{BackupConfig, Failing, Refusal};
use cluster_contract::paths;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use tokio::io::AsyncReadExt as _;

use crate::pgbackrest::Failed;
use crate::{file, pgbackrest};

/// How long one file may take: 16 MB at 1 MB/s, and a few questions.
const LIMIT: Duration = Duration::from_secs(30);
/// How long it may take when the server stops: enough for a repository that works.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// How long fetching one file may take: so long until the first of it is there, and so long in all.
const GET_BEGIN_LIMIT: Duration = Duration::from_secs(10);
const GET_LIMIT: Duration = Duration::from_secs(30);
/// For how long a repository that has not answered is not asked again.
const AWAY_FOR: Duration = Duration::from_secs(60);
/// What was left behind by a guard that ended in the middle of a promotion is believed for so long.
const PROMOTING_FOR: Duration = Duration::from_secs(300);
/// PostgreSQL tries again within a minute, and a try has a limit: a failure that is older than this is history.
const FAILS_FOR: Duration = Duration::from_secs(150);
/// The most of pgBackRest's words that is read.
const WORDS: u64 = 64 << 10;
/// How often the server is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// PostgreSQL's archiver tries again after this.
const TRY_AGAIN: u8 = 1;
/// PostgreSQL's archiver takes an exit code above 125 for a signal, and ends without another try: a server that stops
/// does not wait for it then.
const STOP: u8 = 143;

/// PostgreSQL takes this for a file that is not there, and streams. (An exit code above 125 would stop it.)
const NOT_THERE: u8 = 1;

/// What the server in this directory is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Postmaster {
    Runs,
    Stops,
    Gone,
}

/// From `postmaster.pid`: its first line is the process, its eighth what it does.
fn postmaster(lock_file: Option<&str>, is_alive: impl Fn(i32) -> bool) -> Postmaster {
    let Some(text) = lock_file else { return Postmaster::Gone };
    let mut lines = text.lines();
    let alive = lines.next().and_then(|line| line.trim().parse().ok()).is_some_and(is_alive);
    match lines.nth(6).map(str::trim) {
        _ if !alive => Postmaster::Gone,
        Some("stopping") => Postmaster::Stops,
        _ => Postmaster::Runs,
    }
}

fn look() -> Postmaster {
    let text = std::fs::read_to_string("postmaster.pid").ok();
    postmaster(text.as_deref(), |pid| Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()))
}

/// Archives the file at `path`, which is relative to the data directory, where PostgreSQL runs this. Returns the exit
/// code.
///
/// # Errors
/// When it cannot be begun. PostgreSQL tries again.
pub async fn push(path: &str) -> Result<u8> {
    // Without a repository the WAL goes nowhere, and nothing piles up.
    let Some(config) = file::read::<BackupConfig>(Path::new(paths::BACKUP))? else { return Ok(0) };
    let (begun, begun_at) = (Instant::now(), now());
    let mut command = pgbackrest::command(&config.stanza, &["archive-push", path])?;
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run pgbackrest")?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let stderr = child.stderr.take().context("no standard error")?;
    let told = tokio::spawn(async move {
        let mut told = Vec::new();
        let _ = stderr.take(WORDS).read_to_end(&mut told).await;
        told
    });
    let mut stops_since = None;
    loop {
        if let Ok(status) = tokio::time::timeout(LOOK, child.wait()).await {
            let status = status.context("cannot wait for pgbackrest")?;
            // A process that it has left behind may hold it open.
            let told =
                tokio::time::timeout(STOP_GRACE, told).await.ok().and_then(Result::ok).unwrap_or_default();
            // PostgreSQL's log has all of it.
            eprint!("{}", String::from_utf8_lossy(&told));
            note_push((!status.success()).then(|| Failed::of(status.code(), &told)), begun_at);
            // PostgreSQL would take a code above 125 for a signal and start its archiver anew: nothing is lost, but its
            // log says something else than what happened.
            return Ok(match status.code() {
                Some(0) => 0,
                _ if status.signal().is_some() => TRY_AGAIN,
                code => code.and_then(|it| u8::try_from(it).ok()).map_or(TRY_AGAIN, |it| it.min(125)),
            });
        }
        let end = match look() {
            Postmaster::Gone => Some(STOP),
            Postmaster::Stops if stops_since.get_or_insert_with(Instant::now).elapsed() > STOP_GRACE => {
                Some(STOP)
            }
            _ if begun.elapsed() > LIMIT => Some(TRY_AGAIN),
            _ => None,
        };
        if let Some(code) = end {
            if let Some(group) = group {
                // It may have ended in this moment.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
            let why = match code {
                STOP => "the server stops".to_owned(),
                _ => format!("the repository does not answer within {} s", LIMIT.as_secs()),
            };
            eprintln!("cluster-node: {path} is not archived: {why}");
            if code != STOP {
                note_push(Some(Failed::new(why)), begun_at);
            }
            return Ok(code);
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Notes how a try has ended, for the service beside the guard. That it cannot be noted fails nothing.
fn note_push(failure: Option<Failed>, begun_at: i64) {
    let path = Path::new(paths::PUSH_FAILS);
    match failure {
        None => drop(std::fs::remove_file(path)),
        Some(failed) => {
            drop(file::write(path, &next_failure(failing(), (begun_at, now()), failed), false));
        }
    }
}

fn next_failure(before: Option<Failing>, (begun, at): (i64, i64), failed: Failed) -> Failing {
    let refusal = failed.refusal.map(|code| Refusal { at: begun, code });
    Failing { since: before.map_or(at, |before| before.since), at, why: failed.text, refusal }
}

/// Why nothing is archived now; none if it is, or if that was long ago.
pub fn failing() -> Option<Failing> {
    let failing = file::read::<Failing>(Path::new(paths::PUSH_FAILS)).ok().flatten()?;
    lasts(&failing, now()).then_some(failing)
}

fn lasts(failing: &Failing, now: i64) -> bool {
    now.saturating_sub(failing.at).unsigned_abs() < FAILS_FOR.as_secs()
}

/// Fetches the WAL file `name` to `path`, which is relative to the data directory, where PostgreSQL runs this. Returns the
/// exit code.
///
/// # Errors
/// When it cannot be begun. PostgreSQL goes on without it.
pub async fn get(name: &str, path: &str) -> Result<u8> {
    let Some(config) = file::read::<BackupConfig>(Path::new(paths::BACKUP))? else { return Ok(NOT_THERE) };
    let promotes = || is_younger(paths::PROMOTING, PROMOTING_FOR);
    if promotes() || is_younger(paths::REPOSITORY_AWAY, AWAY_FOR) {
        return Ok(NOT_THERE);
    }
    // PostgreSQL has removed what was there.
    let places = [path.to_owned(), format!("{path}.pgbackrest.tmp")];
    let begun = Instant::now();
    let mut command = pgbackrest::command(&config.stanza, &["archive-get", name, path])?;
    let mut child = command.stdout(Stdio::null()).spawn().context("cannot run pgbackrest")?;
    let answered = loop {
        if let Ok(status) = tokio::time::timeout(LOOK, child.wait()).await {
            match status.context("cannot wait for pgbackrest")?.code() {
                Some(0) => return Ok(0),
                code => break code == Some(i32::from(NOT_THERE)),
            }
        }
        let is_over = gets_too_long(begun.elapsed(), places.iter().any(|place| Path::new(place).exists()));
        if is_over || promotes() || look() != Postmaster::Runs {
            let _ = child.kill().await;
            break !is_over;
        }
    };
    if !answered {
        let _ = std::fs::write(paths::REPOSITORY_AWAY, "");
    }
    Ok(NOT_THERE)
}

/// Whether a file has taken too long to fetch. A repository that gives nothing holds up a standby no longer than it
/// must; one that is slow is no reason to do without a file.
fn gets_too_long(elapsed: Duration, arrives: bool) -> bool {
    elapsed > if arrives { GET_LIMIT } else { GET_BEGIN_LIMIT }
}

/// Whether a file is there, and was written so lately.
fn is_younger(path: &str, than: Duration) -> bool {
    let age = std::fs::metadata(path).and_then(|file| file.modified()).map(|at| at.elapsed());
    // A clock that was put back makes it no older.
    matches!(age, Ok(Ok(age)) if age < than) || matches!(age, Ok(Err(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_lately_is_told_from_what_is_old_or_not_there() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        assert!(is_younger(path, Duration::from_secs(60)));
        assert!(!is_younger(path, Duration::ZERO));
        assert!(!is_younger("/nowhere/at/all", Duration::from_secs(60)));
    }

    #[test]
    fn a_file_that_arrives_is_waited_for_longer_than_one_that_does_not() {
        let too_long = |seconds, arrives| gets_too_long(Duration::from_secs(seconds), arrives);
        assert!(!too_long(10, false) && too_long(11, false));
        assert!(!too_long(30, true) && too_long(31, true));
    }

    #[test]
    fn failures_are_one_until_one_try_goes_well_or_long_after() {
        let first = next_failure(None, (90, 100), Failed::new("away"));
        assert_eq!(first, Failing { since: 100, at: 100, why: "away".into(), refusal: None });
        let gone = Failed { refusal: Some("NoSuchBucket".into()), ..Failed::new("gone") };
        let second = next_failure(Some(first), (130, 160), gone);
        let refusal = Some(Refusal { at: 130, code: "NoSuchBucket".into() });
        assert_eq!(second, Failing { since: 100, at: 160, why: "gone".into(), refusal });
        assert!(lasts(&second, 300) && lasts(&second, 150) && !lasts(&second, 310));
    }

    #[test]
    fn the_lock_file_says_what_the_server_does() {
        let text = |state| {
            format!(
                "812\n/var/lib/postgresql/15/main\n1764190000\n5432\n/var/run/postgresql\n*\n  5432001 7\n{state}\n"
            )
        };
        let alive = |pid| pid == 812;
        assert_eq!(postmaster(Some(&text("ready   ")), alive), Postmaster::Runs);
        assert_eq!(postmaster(Some(&text("stopping")), alive), Postmaster::Stops);
        assert_eq!(postmaster(Some(&text("stopping")), |_| false), Postmaster::Gone);
        assert_eq!(postmaster(None, alive), Postmaster::Gone);
        // While it is written it may be short.
        assert_eq!(postmaster(Some("812\n"), alive), Postmaster::Runs);
        assert_eq!(postmaster(Some(""), alive), Postmaster::Gone);
    }
}
