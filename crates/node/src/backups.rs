//! Backups: a service beside the guard, which takes them while this node takes writes, and proves them while it does not.
//!
//! It runs as postgres and shares nothing with the guard but its word: whatever goes wrong with a repository goes wrong
//! here. Only the node that takes writes, with the lease, backs up or looks at the repository. Two backups at once
//! cannot be: on one host pgBackRest's lock sees to it, and on another the server that the first one copies from is
//! fenced before there is a second.

mod alone;
pub mod coverage;
pub mod proof;
pub mod schedule;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_contract::backup::{
    Archive, Backup, BackupConfig, BackupKind, BackupStatus, Contents, Refusal, Running,
};
use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use cluster_contract::request::Request;
use cluster_contract::status::Status;
use coverage::{Coverage, Segment};
use proof::Prover;
use schedule::Failures;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::pgbackrest::{self, Failed};
use crate::{archive, config, file, psql, socket};

/// How often this node is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often the repository is: each time all of the archive is listed, a request for each 256 WAL files.
const REPOSITORY_INTERVAL: Duration = Duration::from_secs(300);
/// How often it is while it does not answer.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);
/// A question to the repository: with it away pgBackRest takes some eight times its `io-timeout`.
const QUESTION_LIMIT: Duration = Duration::from_secs(150);
/// A list of the archive: pgBackRest asks for each of its directories by itself, thousands of them in one of terabytes.
const LIST_LIMIT: Duration = Duration::from_secs(3_600);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A backup may take long, and not for ever.
const BACKUP_LIMIT: Duration = Duration::from_secs(2 * 86_400);
/// A guard that is started anew is silent for a moment.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// What waits to be archived. `%.ready` beside a file says so.
const ARCHIVE_SQL: &str = "with waiting as (select modification from pg_ls_archive_statusdir() where name like '%.ready') \
     select (select count(*) from waiting), \
     (select coalesce(greatest(0, extract(epoch from now() - min(modification)))::bigint::text, '') from waiting), \
     coalesce(last_archived_wal, ''), coalesce(extract(epoch from last_archived_time)::bigint::text, ''), \
     (select setting::bigint from pg_settings where name = 'wal_segment_size'), \
     (select coalesce(max(extract(epoch from wal.modification))::bigint::text, '') from pg_ls_waldir() wal \
     join pg_ls_archive_statusdir() status on status.name = wal.name || '.done' where length(wal.name) = 24) \
     from pg_stat_archiver";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The stanza of this node's cluster.
///
/// # Errors
/// When there is no repository.
fn backup_config() -> Result<BackupConfig> {
    file::read(Path::new(paths::BACKUP))?.context("this cluster has no backup repository")
}

async fn guard_status() -> Result<Status> {
    serde_json::from_str(&socket::ask(&Request::Status).await?).context("cannot parse the guard's answer")
}

/// Whether a backup may be taken here; the timeline that it writes.
async fn leads() -> Result<Option<u32>> {
    let status = guard_status().await?;
    Ok(status.position.filter(|_| status.leads()).map(|position| position.timeline))
}

/// What the service waits for: one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// The list of backups.
    Ask,
    /// A backup, and then the list.
    Backup(BackupKind),
}

/// What is in the repository after a piece of work that went well; or why that could not be told.
type Listed = Result<Contents, Failed>;

struct Service {
    config: Config,
    backup: BackupConfig,
    status: BackupStatus,
    /// Whether the repository is known to have this cluster's stanza.
    has_stanza: bool,
    failures: Failures,
    asked: Option<Instant>,
    /// The same on the calendar.
    asked_at: i64,
    heard: Instant,
    work: Option<(Work, JoinHandle<Result<Listed, Failed>>)>,
    prover: Prover,
}

/// Runs until it is stopped.
///
/// # Errors
/// When this node or its cluster's backups are not configured, or its own status cannot be written.
pub async fn serve() -> Result<()> {
    let mut service = Service {
        config: config::read()?,
        backup: backup_config()?,
        status: BackupStatus::default(),
        has_stanza: false,
        failures: Failures::default(),
        asked: None,
        asked_at: 0,
        heard: Instant::now(),
        work: None,
        prover: Prover::default(),
    };
    loop {
        service.look().await;
        service.status.at = now();
        file::write(Path::new(paths::BACKUP_STATUS), &service.status, false)?;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl Service {
    async fn look(&mut self) {
        let timeline = match leads().await {
            Ok(timeline) => {
                self.heard = Instant::now();
                timeline
            }
            // A backup that runs goes on meanwhile: it ends with its server in any case.
            Err(_) if self.status.leads && self.heard.elapsed() < SILENCE_LIMIT => return,
            Err(_) => None,
        };
        self.prover.look(&self.config, &self.backup, timeline.is_none()).await;
        let Some(timeline) = timeline else {
            if let Some((_, task)) = self.work.take() {
                task.abort();
            }
            // What was known of the repository is another's to tell now.
            (self.status, self.has_stanza, self.asked) = (BackupStatus::default(), false, None);
            return;
        };
        self.status.leads = true;
        self.watch_archive().await;
        if let Some((work, task)) = self.work.take_if(|(_, task)| task.is_finished()) {
            let result = task.await.unwrap_or_else(|error| Err(Failed::new(error.to_string())));
            self.ended(work, result);
        }
        if self.work.is_some() {
            return;
        }
        let troubled = self.status.trouble.is_some() || self.status.archive.failing.is_some();
        let interval = if troubled { TROUBLE_INTERVAL } else { REPOSITORY_INTERVAL };
        if self.asked.is_none_or(|asked| asked.elapsed() >= interval) {
            return self.ask();
        }
        let Some(contents) = self.status.contents.as_ref().filter(|_| self.has_stanza) else { return };
        if let Some((kind, why)) = schedule::due(&self.backup, contents, timeline, self.failures, now()) {
            self.begin(kind, why);
        }
    }

    fn ask(&mut self) {
        let (config, stanza, has_stanza) = (self.config.clone(), self.backup.stanza.clone(), self.has_stanza);
        let asking = async move {
            if !has_stanza {
                // Does nothing if it is there.
                pgbackrest::run(&stanza, &["stanza-create"], QUESTION_LIMIT).await.map_err(explain)?;
            }
            Ok(Ok(mended_contents(&config, &stanza).await.map_err(explain)?))
        };
        (self.asked, self.asked_at) = (Some(Instant::now()), now());
        self.work = Some((Work::Ask, tokio::spawn(asking)));
    }

    fn begin(&mut self, kind: BackupKind, why: String) {
        let (config, stanza) = (self.config.clone(), self.backup.stanza.clone());
        println!("begins a {kind} backup: {why}");
        self.status.running = Some(Running { kind, since: now(), why });
        let backing_up = async move {
            take(&stanza, kind).await?;
            Ok(mended_contents(&config, &stanza).await)
        };
        self.work = Some((Work::Backup(kind), tokio::spawn(backing_up)));
    }

    fn ended(&mut self, work: Work, result: Result<Listed, Failed>) {
        self.status.running = None;
        match (work, result) {
            (Work::Ask, Ok(Ok(contents))) => {
                self.status.refusal = None;
                // A list may take minutes, and the next one is not due the moment it ends.
                self.asked = Some(Instant::now());
                (self.status.contents, self.has_stanza) = (Some(contents), true);
                // That it can be read does not mend a backup that failed.
                if self.failures.count == 0 {
                    self.trouble(None);
                }
            }
            (Work::Ask, Err(failed) | Ok(Err(failed))) => {
                // It may be another one when it answers again: a bucket that was deleted is made anew, and empty.
                self.has_stanza = false;
                self.status.refusal = failed.refusal.clone().map(|code| Refusal { at: self.asked_at, code });
                self.trouble(Some(format!("the repository: {failed}")));
            }
            (Work::Backup(kind), Ok(listed)) => {
                println!("the {kind} backup is complete");
                (self.failures, self.asked) = (Failures::default(), Some(Instant::now()));
                match listed {
                    Ok(contents) => {
                        self.status.contents = Some(contents);
                        self.trouble(None);
                    }
                    Err(failed) => {
                        // What was known before stays; without the list nothing more is begun.
                        self.has_stanza = false;
                        self.trouble(Some(format!("the repository: {failed}")));
                    }
                }
            }
            // Somebody has begun one by hand: the list will have it.
            (Work::Backup(_), Err(failed)) if failed.code == Some(pgbackrest::LOCKED) => self.asked = None,
            (Work::Backup(kind), Err(failed)) => {
                self.has_stanza = false;
                self.failures = Failures { count: self.failures.count.saturating_add(1), last: now() };
                let text = format!("the {kind} backup failed: {failed}");
                println!("{text}");
                self.trouble(Some(text));
            }
        }
    }

    fn trouble(&mut self, text: Option<String>) {
        self.status.trouble_since = match &text {
            Some(_) => self.status.trouble_since.or(Some(now())),
            None => None,
        };
        self.status.trouble = text;
    }

    async fn watch_archive(&mut self) {
        match archive(&self.config).await {
            Ok(archive) => self.status.archive = Archive { failing: archive::failing(), ..archive },
            // The guard sees to a server that does not answer.
            Err(error) => println!("cannot see how far WAL is archived: {error:#}"),
        }
    }
}

/// Takes a backup. How long that takes depends on the data.
///
/// # Errors
/// When pgBackRest fails.
pub async fn take(stanza: &str, kind: BackupKind) -> Result<String, Failed> {
    pgbackrest::run(stanza, &["backup", &format!("--type={}", kind.word())], BACKUP_LIMIT).await
}

/// What is in the repository, and what can be restored from it. Changes nothing.
///
/// # Errors
/// When it cannot be read.
async fn contents(config: &Config, stanza: &str) -> Result<Contents, Failed> {
    let (backups, here) = ask(config, stanza).await?;
    let found = look(stanza, &backups, &here).await?;
    Ok(Contents { backups, intervals: found.intervals, gaps: found.gaps })
}

/// The same. WAL that is missing there and lies here, because the primary before this one had no time to archive it, is
/// put there first.
///
/// # Errors
/// As [`contents`].
async fn mended_contents(config: &Config, stanza: &str) -> Result<Contents, Failed> {
    let (backups, here) = ask(config, stanza).await?;
    let mut found = look(stanza, &backups, &here).await?;
    let missing = of_earlier_timelines(&found.missing, &here);
    if close_gaps(config, stanza, &missing, here.segment_size).await {
        found = look(stanza, &backups, &here).await?;
    }
    Ok(Contents { backups, intervals: found.intervals, gaps: found.gaps })
}

async fn ask(config: &Config, stanza: &str) -> Result<(Vec<Backup>, Here), Failed> {
    let json = pgbackrest::run(stanza, &["info", "--output=json"], QUESTION_LIMIT).await?;
    let backups = pgbackrest::backups(stanza, &json)?;
    let here = here(config).await.map_err(|error| Failed::new(format!("{error:#}")))?;
    Ok((backups, here))
}

async fn look(stanza: &str, backups: &[Backup], here: &Here) -> Result<Coverage, Failed> {
    // Its name has the version and a number that grows when the database behind the stanza changes.
    let args = ["repo-ls", "--recurse", "--output=json", &format!("archive/{stanza}")];
    let json = pgbackrest::run(stanza, &args, LIST_LIMIT).await?;
    let archived = coverage::archived(&json, here.version, here.segment_size)
        .map_err(|error| Failed::new(format!("cannot read what `repo-ls` printed: {error}")))?;
    Ok(coverage::coverage(&here.way, &archived, backups, here.finished, here.segment_size))
}

/// The files that nobody else will archive. Those of the present timeline are the archiver's: one that is still written
/// must not get there before it is finished.
fn of_earlier_timelines(missing: &[Segment], here: &Here) -> Vec<Segment> {
    let present = here.way.last().map_or(0, |(timeline, _)| *timeline);
    missing.iter().filter(|segment| segment.timeline < present).copied().collect()
}

/// Archives what is missing and lies in `pg_wal`; returns whether there was any.
async fn close_gaps(config: &Config, stanza: &str, missing: &[Segment], size: u64) -> bool {
    let mut any = false;
    for segment in missing {
        let name = segment.name(size);
        let path = format!("{}/pg_wal/{name}", config.data_directory());
        if !Path::new(&path).is_file() {
            continue;
        }
        match pgbackrest::run(stanza, &["archive-push", &path], QUESTION_LIMIT).await {
            Ok(_) => {
                println!("archived {name}, which the last primary had not archived");
                any = true;
            }
            Err(failed) => {
                println!("cannot archive {name}: {failed}");
                break;
            }
        }
    }
    any
}

/// Where this server's WAL is.
struct Here {
    version: u32,
    segment_size: u64,
    /// Its timelines.
    way: Vec<(u32, Lsn)>,
    /// Where the last file ends that PostgreSQL has handed to the archiver.
    finished: Lsn,
}

/// The history names the timelines before this one; there is no file of the first.
const HERE_SQL: &str = "with now as (select pg_walfile_name(pg_current_wal_lsn()) as file, \
     (select setting::bigint from pg_settings where name = 'wal_segment_size') as size) \
     select size, ('x' || substr(file, 1, 8))::bit(32)::int, last_archived_wal, \
     replace(coalesce(pg_read_file('pg_wal/' || substr(file, 1, 8) || '.history', 0, 1000000, true), ''), E'\n', '\\') \
     from now, pg_stat_archiver";

async fn here(config: &Config) -> Result<Here> {
    let row = select(config, HERE_SQL).await?;
    read_here(&row, config.version).with_context(|| format!("`{row}` is no answer"))
}

fn read_here(row: &str, version: u32) -> Option<Here> {
    let [size, timeline, last, history] = row.splitn(4, '|').collect::<Vec<_>>().try_into().ok()?;
    let segment_size = size.parse().ok()?;
    let way = coverage::way(&history.replace('\\', "\n"), timeline.parse().ok()?)?;
    // The last may also be a history, a backup's label, or what an old timeline has begun of a file: nothing is known of
    // the present timeline's files then, and nothing is called missing.
    let whole = Some(last).filter(|last| last.len() == 24);
    let finished = whole.and_then(|last| Segment::parse(last, segment_size));
    let finished = finished.map_or(0, |last| (last.number + 1) * segment_size);
    Some(Here { version, segment_size, way, finished: Lsn(finished) })
}

/// One row, its columns separated by bars.
async fn select(config: &Config, sql: &str) -> Result<String> {
    let port = config.port.to_string();
    let args = ["-XAtqw", "-F", "|", "-v", "ON_ERROR_STOP=1", "-p", &port, "-d", "postgres", "-c", sql];
    psql::as_postgres(config, "psql", &args, ANSWER_LIMIT).await
}

/// Says what an error means here.
fn explain(failed: Failed) -> Failed {
    match failed.code {
        // What it prints of that is the bytes that it could not read.
        Some(pgbackrest::UNREADABLE) => Failed {
            text: "its contents cannot be decrypted with this cluster's passphrase; nothing in it is touched, and nothing \
                   is backed up: name another `backup.folder` in the inventory, or the passphrase with which it was made"
                .to_owned(),
            ..failed
        },
        Some(pgbackrest::OTHER_DATABASE) => Failed {
            text: format!(
                "it holds the backups of another cluster of this name; nothing of theirs is touched, and nothing is \
                 backed up: name another `backup.folder` in the inventory ({failed})"
            ),
            ..failed
        },
        _ => failed,
    }
}

async fn archive(config: &Config) -> Result<Archive> {
    let row = select(config, ARCHIVE_SQL).await?;
    let wal = Path::new(&config.data_directory()).join("pg_wal");
    let free = rustix::fs::statvfs(&wal).ok().map(|it| it.f_bavail.saturating_mul(it.f_frsize));
    read_archive(&row, free).with_context(|| format!("`{row}` is no answer"))
}

fn read_archive(row: &str, free_bytes: Option<u64>) -> Option<Archive> {
    let [waiting, oldest, last, last_at, segment, reaches] =
        row.split('|').collect::<Vec<_>>().try_into().ok()?;
    let waiting = waiting.parse().ok()?;
    Some(Archive {
        waiting,
        oldest_waits_s: oldest.parse().ok(),
        last: Some(last).filter(|last| !last.is_empty()).map(str::to_owned),
        last_at: last_at.parse().ok(),
        waiting_bytes: segment.parse::<u64>().ok()?.saturating_mul(waiting),
        free_bytes,
        reaches: reaches.parse().ok(),
        failing: None,
    })
}

/// One backup, now, because somebody asks for it.
///
/// # Errors
/// When this node does not take writes, a backup is under way, or it fails.
pub async fn take_now(kind: BackupKind) -> Result<Contents> {
    let config = backup_config()?;
    anyhow::ensure!(
        leads().await?.is_some(),
        "this node does not take writes: only the primary is backed up"
    );
    give_way();
    take(&config.stanza, kind).await.map_err(|failed| match failed.code {
        Some(pgbackrest::LOCKED) => anyhow::anyhow!("a backup is under way already"),
        _ => failed.into(),
    })?;
    // The backup is there, whatever comes of the list.
    match listed().await {
        Ok(contents) => Ok(contents),
        Err(error) => {
            eprintln!("cluster-node: the backup is complete, and the archive cannot be listed: {error:#}");
            let (backups, _) = ask(&config::read()?, &config.stanza)
                .await
                .context("the backup is complete, and the repository cannot be listed")?;
            Ok(Contents { backups, ..Contents::default() })
        }
    }
}

/// A backup that a person asks for gives way to the database, and dies before it, as one of the service does (its unit has
/// the same figures).
fn give_way() {
    // It would be no less a backup.
    let _ = rustix::process::nice(10);
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// What is in the repository.
///
/// # Errors
/// When there is no repository, or it cannot be read.
pub async fn listed() -> Result<Contents> {
    Ok(contents(&config::read()?, &backup_config()?.stanza).await?)
}

/// What is in a repository of which no server is left that could be asked: this node is about to be restored from it.
///
/// # Errors
/// When it cannot be read.
pub async fn listed_alone(pgbackrest_config: &str, stanza: &str) -> Result<Contents> {
    Ok(alone::contents(config::read()?.version, pgbackrest_config, stanza).await.map_err(explain)?)
}

/// Checks the whole way: a WAL file is finished, archived, and found in the repository.
///
/// # Errors
/// When it is not there in time, in pgBackRest's words.
pub async fn check() -> Result<()> {
    pgbackrest::run(&backup_config()?.stanza, &["check"], QUESTION_LIMIT).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_complete_whatever_comes_of_the_list() {
        let config =
            r#"{"cluster":"demo","node":"pg1","version":15,"port":5432,"nodes":[],"floating_ip":null}"#;
        let known = Contents::default();
        let mut service = Service {
            config: serde_json::from_str(config).unwrap(),
            backup: BackupConfig {
                stanza: "demo".into(),
                full_every_s: 7 * 86_400,
                differential_every_s: 86_400,
                archive_within_s: 60,
                prove_every_s: None,
            },
            status: BackupStatus { contents: Some(known.clone()), ..BackupStatus::default() },
            has_stanza: true,
            failures: Failures { count: 2, last: 0 },
            asked: None,
            asked_at: 0,
            heard: Instant::now(),
            work: None,
            prover: Prover::default(),
        };
        service.ended(Work::Backup(BackupKind::Full), Ok(Err(Failed::new("no answer"))));
        assert_eq!((service.status.contents.as_ref(), service.failures.count), (Some(&known), 0));
        assert!(!service.has_stanza, "nothing is begun by a list that lacks this backup");
        assert_eq!(service.status.trouble.as_deref(), Some("the repository: no answer"));
        service.ended(Work::Ask, Ok(Ok(Contents::default())));
        assert!(service.has_stanza && service.status.trouble.is_none());
    }

    #[test]
    fn what_waits_to_be_archived_is_read() {
        let nothing = read_archive("0||||16777216|", Some(5)).unwrap();
        assert_eq!(nothing, Archive { free_bytes: Some(5), ..Archive::default() });
        let late =
            read_archive("3|75|000000010000000000000004|1764190000|16777216|1764189990", None).unwrap();
        assert_eq!((late.waiting, late.oldest_waits_s, late.waiting_bytes), (3, Some(75), 48 << 20));
        assert_eq!((late.last_at, late.reaches), (Some(1_764_190_000), Some(1_764_189_990)));
        assert_eq!(read_archive("psql: error", None), None);
    }

    #[test]
    fn where_this_servers_wal_is_is_read() {
        let first = read_here("16777216|1||", 15).unwrap();
        assert_eq!((first.way, first.finished), (vec![(1, Lsn(0))], Lsn(0)));
        let history = "1\t0/6000100\tno | target\\";
        let second = read_here(&format!("16777216|2|000000020000000000000007|{history}"), 15).unwrap();
        assert_eq!(second.way, [(1, Lsn(0)), (2, Lsn(0x600_0100))]);
        assert_eq!(second.finished, Lsn(0x800_0000));
        // Right after a promotion the present timeline's first file is still written.
        for last in [
            "00000002.history",
            "000000010000000000000006.partial",
            "000000010000000000000005.00000028.backup",
        ] {
            let here = read_here(&format!("16777216|2|{last}|{history}"), 15).unwrap();
            assert_eq!(here.finished, Lsn(0), "{last}");
        }
    }

    #[test]
    fn only_files_of_earlier_timelines_are_archived_in_the_archivers_place() {
        let here = read_here("16777216|2|000000020000000000000007|1\t0/6000100\tx\\", 15).unwrap();
        let [old, new] = [1, 2].map(|timeline| Segment { timeline, number: 5 });
        assert_eq!(of_earlier_timelines(&[old, new], &here), [old]);
    }
}
