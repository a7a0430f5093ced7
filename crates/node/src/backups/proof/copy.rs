//! The copy: restored, replayed by a server of its own, checked.
//!
//! That server knows nothing of the node's: its configuration is its own, it listens on a socket that postgres alone can
//! reach, it archives nothing, preloads nothing, subscribes to nothing and streams to nobody. Everything runs at the
//! lowest priority.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_contract::backup::{Backup, BackupConfig, Proof};
use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::place::{Place, Room};
use super::{NoBackup, backups, megabytes, note, select};
use crate::backups::{Here, coverage, look};
use crate::postgres::options;
use crate::{pgbackrest, say};

/// How often the copy is asked whether it has replayed, and how far it is.
const POLL: Duration = Duration::from_millis(500);
/// How often it is measured while it grows.
const MEASURE: Duration = Duration::from_secs(15);
/// A clean stop writes what is in memory.
const STOP_LIMIT: Duration = Duration::from_secs(600);
/// What replaying takes besides the data: `max_wal_size` is half of it.
const WAL_ROOM: u64 = 1 << 30;
/// An archive that ends earlier than this, besides `archive_within`, has lost something.
const LATE_S: u64 = 300;
/// A copy ends before the last file of the archive does if a record goes on in the next one: by this much at most.
const LARGE_RECORD: u64 = 1 << 20;
/// The name of the server's socket in its directory.
const PORT: &str = "5432";
/// From here on there is `pg_amcheck`.
const AMCHECK_SINCE: u32 = 14;

/// One proof.
pub(super) struct Run<'a> {
    pub(super) config: &'a Config,
    pub(super) backup: &'a BackupConfig,
    pub(super) place: &'a Place,
    /// When it began.
    pub(super) since: i64,
}

/// What the standby was when the proof began.
#[derive(Clone, Debug, PartialEq)]
struct Standby {
    replayed: Lsn,
    /// The time of the newest transaction; none if it has replayed none since it started.
    newest: Option<i64>,
    /// What its databases take, in bytes.
    size: u64,
    limits: Limits,
    segment_size: u64,
    /// The timelines of what it replays.
    way: Vec<(u32, Lsn)>,
}

/// Settings that a server needs as high as the one that wrote the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    connections: u64,
    prepared: u64,
    locks: u64,
    slots: u64,
}

const STANDBY_SQL: &str = "select pg_last_wal_replay_lsn(), \
     coalesce(floor(extract(epoch from pg_last_xact_replay_timestamp()))::bigint::text, ''), \
     (select sum(pg_database_size(oid))::bigint from pg_database), current_setting('max_connections'), \
     current_setting('max_prepared_transactions'), current_setting('max_locks_per_transaction'), \
     current_setting('max_replication_slots'), \
     (select setting::bigint from pg_settings where name = 'wal_segment_size'), received_tli, \
     replace(coalesce(pg_read_file('pg_wal/' || lpad(upper(to_hex(received_tli)), 8, '0') || '.history', 0, 1000000, true), \
     ''), E'\n', '\\') from pg_stat_wal_receiver where status = 'streaming'";

fn read_standby(row: &str) -> Option<Standby> {
    let [replayed, newest, size, connections, prepared, locks, slots, segment, timeline, history] =
        row.splitn(10, '|').collect::<Vec<_>>().try_into().ok()?;
    Some(Standby {
        replayed: replayed.parse().ok()?,
        newest: newest.parse().ok(),
        size: size.parse().ok()?,
        limits: Limits {
            connections: connections.parse().ok()?,
            prepared: prepared.parse().ok()?,
            locks: locks.parse().ok()?,
            slots: slots.parse().ok()?,
        },
        segment_size: segment.parse().ok()?,
        way: coverage::way(&history.replace('\\', "\n"), timeline.parse().ok()?)?,
    })
}

impl Run<'_> {
    /// All of it, into `proof`. The server may still run if it fails or is dropped.
    ///
    /// # Errors
    /// Why nothing is proved. [`NoBackup`] if there is none.
    pub(super) async fn run(&self, proof: &mut Proof) -> Result<()> {
        let backups = backups(&self.backup.stanza).await.context("the repository")?;
        let backup = backups.last().ok_or(NoBackup)?;
        proof.backup = Some(backup.label.clone());
        let row = select(self.config, STANDBY_SQL).await?;
        ensure!(!row.is_empty(), "this standby does not stream");
        let standby = read_standby(&row).with_context(|| format!("`{row}` is no answer of a standby"))?;
        let promised = self.promised(&backups, &standby).await.context("the archive")?;
        if let Err(lack) = room_for(self.place.room()?, backup.size.max(standby.size)) {
            proof.impossible = true;
            bail!("not possible: {lack} on the disk of {}", self.place.root().display());
        }
        let begun = Instant::now();
        self.place.make()?;
        self.restore(backup).await?;
        proof.copy_seconds = begun.elapsed().as_secs();

        let begun = Instant::now();
        let mut server = self.start(standby.limits).await?;
        let end = self.replay(&mut server).await?;
        proof.replay_seconds = begun.elapsed().as_secs();
        proof.bytes = self.place.size();
        // Without a transaction in the WAL it is as it was when the backup ended.
        proof.restored_to = Some(self.restored_to().unwrap_or(backup.ended));
        proof.end_lsn = Some(end);
        proof.missing_bytes = Some(standby.replayed.0.saturating_sub(end.0));
        proof.missing_seconds = standby
            .newest
            .zip(proof.restored_to)
            .map(|(there, here)| u64::try_from(there.saturating_sub(here)).unwrap_or(0));
        self.archive_is_whole(proof, end, promised)?;

        let begun = Instant::now();
        self.check(proof).await?;
        self.stop(&mut server).await?;
        self.check_pages(proof).await?;
        proof.check_seconds = begun.elapsed().as_secs();
        Ok(())
    }

    /// Up to where the files that are in the archive promise a restore.
    async fn promised(&self, backups: &[Backup], standby: &Standby) -> Result<Option<Lsn>> {
        let here = Here {
            version: self.config.version,
            segment_size: standby.segment_size,
            way: standby.way.clone(),
            // What is missing at the end is the primary's to tell.
            finished: Lsn(0),
        };
        let found = look(&self.backup.stanza, backups, &here).await?;
        Ok(found.intervals.last().map(|interval| interval.until_lsn))
    }

    /// Tells what is done now: to who watches, and to `status`.
    fn doing(&self, text: &str) {
        say(text);
        let told = note(|proofs| {
            proofs.running =
                Some(cluster_contract::backup::Proving { since: self.since, doing: text.to_owned() });
        });
        if let Err(error) = told {
            say(&format!("{error:#}"));
        }
    }

    /// A program at the lowest priority, which stands in the place and has nothing of this one's environment. It is not
    /// killed when it is dropped: [`Place::clear`] ends a server gently.
    fn quiet(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/bin/nice");
        command
            .args(["-n", "19", "/usr/bin/ionice", "-c", "3", "-t", program])
            .current_dir(self.place.root())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", paths::POSTGRES_HOME)
            .env("LC_ALL", "C")
            .env("PGOPTIONS", options(self.config.version))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// One of PostgreSQL's client programs, on the copy.
    fn client(&self, program: &str) -> Command {
        let mut command = self.quiet(&self.config.bin(program));
        command.arg("-h").arg(self.place.root()).args(["-p", PORT, "-U", "postgres"]);
        command
    }

    async fn restore(&self, backup: &Backup) -> Result<()> {
        let total = megabytes(backup.size);
        self.doing(&format!("copying backup {} ({total})", backup.label));
        let mut command = self.quiet(pgbackrest::PROGRAM);
        command
            .args(pgbackrest::options(&self.backup.stanza))
            // Never the configuration's own: that is the standby's data.
            .arg(format!("--pg1-path={}", self.place.data().display()))
            .arg(format!("--tablespace-map-all={}", self.place.tablespaces().display()))
            .arg(format!("--set={}", backup.label))
            .args(["--type=default", "--archive-mode=off", "--process-max=1", "restore"]);
        let ended = command.output();
        tokio::pin!(ended);
        let output = loop {
            tokio::select! {
                output = &mut ended => break output.context("cannot run pgbackrest")?,
                () = tokio::time::sleep(MEASURE) => {
                    self.doing(&format!("copying backup {}: {} of {total}", backup.label, megabytes(self.place.size().min(backup.size))));
                }
            }
        };
        ensure!(
            output.status.success(),
            "cannot restore backup {}: {}",
            backup.label,
            pgbackrest::words(&output.stderr)
        );
        Ok(())
    }

    async fn start(&self, limits: Limits) -> Result<Child> {
        let data = self.place.data();
        let written = self.pg_controldata().await?;
        let limits = limits.at_least(&written);
        let file = |name: &str, text: &str| {
            let path = self.place.root().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        file("pg_hba.conf", "local all all peer\n")?;
        file("pg_ident.conf", "")?;
        let get = restore_command(&self.backup.stanza, &data);
        file("postgresql.conf", &settings(self.place.root(), &get, self.config.version, limits))?;
        // What was set with `alter system`, and what pgBackRest has written there, would win over our file.
        file("data/postgresql.auto.conf", "")?;
        let log = std::fs::File::create(self.place.log()).context("cannot write the server's log")?;
        let mut command = self.quiet(&self.config.bin("postgres"));
        command
            .arg("-c")
            .arg(format!("config_file={}", self.place.root().join("postgresql.conf").display()))
            .env_remove("PGOPTIONS")
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().context("cannot start a server on the copy")
    }

    async fn pg_controldata(&self) -> Result<String> {
        let mut command = self.quiet(&self.config.bin("pg_controldata"));
        let output =
            command.arg("-D").arg(self.place.data()).output().await.context("cannot run pg_controldata")?;
        ensure!(output.status.success(), "pg_controldata: {}", last_lines(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until the copy takes writes; returns where its WAL ended.
    async fn replay(&self, server: &mut Child) -> Result<Lsn> {
        self.doing("replaying WAL");
        let mut told = String::new();
        loop {
            if server.try_wait().context("cannot see whether the server runs")?.is_some() {
                bail!("the copy's server ended while it replayed: {}", complaint(&self.log()));
            }
            // In recovery it lets nobody in.
            if let Ok(history) = self.ask("postgres", HISTORY_SQL).await {
                return forked_at(&history).context("cannot tell where the copy's WAL ends");
            }
            if let Some(file) = last_restored(&self.log())
                && file != told
            {
                // Every file in the journal would be too much.
                if told.is_empty() || file[16..].ends_with('0') {
                    self.doing(&format!("replaying WAL file {file}"));
                }
                told = file;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = self.client("psql");
        command.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let output = command.output().await.context("cannot run psql")?;
        ensure!(output.status.success(), "psql: {}", last_lines(&output));
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.place.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn restored_to(&self) -> Option<i64> {
        last_transaction(&self.log())
    }

    /// PostgreSQL takes whatever goes wrong with a WAL file for the end of the archive, and pgBackRest hands out damaged
    /// ones without a word.
    fn archive_is_whole(&self, proof: &Proof, end: Lsn, promised: Option<Lsn>) -> Result<()> {
        if let Some(error) = archive_error(&self.log()) {
            bail!("the archive cannot be read to its end: {error}");
        }
        if let Some(promised) = promised.filter(|promised| ends_early(end, *promised)) {
            bail!(
                "replaying ended at {end}, and the files in the archive reach {promised}: the one with {end} in it is \
                 damaged; a new backup begins behind it"
            );
        }
        let limit = self.backup.archive_within_s + LATE_S;
        if let Some(missing) = proof.missing_seconds.filter(|missing| *missing > limit) {
            bail!(
                "the archive ends {missing} s before the newest transaction of this standby ({} of WAL are missing)",
                megabytes(proof.missing_bytes.unwrap_or_default())
            );
        }
        Ok(())
    }

    async fn check(&self, proof: &mut Proof) -> Result<()> {
        let databases = self.ask("postgres", DATABASES_SQL).await?;
        let databases: Vec<&str> = databases.lines().collect();
        let (program, checked) = match self.config.version {
            ..AMCHECK_SINCE => ("pg_dump", databases.clone()),
            _ => ("pg_amcheck", vec![]),
        };
        let count = databases.len();
        self.doing(&format!("checking {count} databases with {program}"));
        if program == "pg_amcheck" {
            // All at once; in the copy the extension may be made where it is not.
            let mut command = self.client(program);
            command.args(["--all", "--install-missing", "--heapallindexed"]);
            let output = command.output().await.context("cannot run pg_amcheck")?;
            let whole = output.status.success() && !skipped(&output);
            ensure!(whole, "pg_amcheck: {}", first_lines(&output));
        }
        for database in checked {
            // Reads every row.
            let mut command = self.client(program);
            let output =
                command.args(["-f", "/dev/null", database]).output().await.context("cannot run pg_dump")?;
            ensure!(output.status.success(), "pg_dump of {database}: {}", last_lines(&output));
        }
        proof.databases = count.try_into().unwrap_or(u64::MAX);
        proof.checked.push(program.to_owned());
        Ok(())
    }

    async fn stop(&self, server: &mut Child) -> Result<()> {
        // A fast shutdown, which is a clean one.
        let pid =
            server.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the copy's server ended")?;
        kill_process(pid, Signal::INT).context("cannot stop the copy's server")?;
        let status = tokio::time::timeout(STOP_LIMIT, server.wait())
            .await
            .with_context(|| format!("the copy's server did not stop within {} s", STOP_LIMIT.as_secs()))??;
        ensure!(status.success(), "the copy's server ended with {status}: {}", complaint(&self.log()));
        Ok(())
    }

    async fn check_pages(&self, proof: &mut Proof) -> Result<()> {
        if control_value(&self.pg_controldata().await?, "Data page checksum version") == Some(0) {
            return Ok(());
        }
        self.doing("checking the checksums of all pages");
        let mut command = self.quiet(&self.config.bin("pg_checksums"));
        command.arg("--check").arg("-D").arg(self.place.data());
        let output = command.output().await.context("cannot run pg_checksums")?;
        ensure!(output.status.success(), "pg_checksums: {}", first_lines(&output));
        proof.checked.push("pg_checksums".to_owned());
        Ok(())
    }
}

/// The history of the timeline that the copy has begun: its last line is where the WAL ended.
const HISTORY_SQL: &str = "select pg_read_file('pg_wal/' || \
     substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.history') where not pg_is_in_recovery()";

fn ends_early(end: Lsn, promised: Lsn) -> bool {
    end.0.saturating_add(LARGE_RECORD) < promised.0
}

/// Those that `pg_amcheck --all` takes.
const DATABASES_SQL: &str =
    "select datname from pg_database where datallowconn and datconnlimit <> -2 order by 1";

fn forked_at(history: &str) -> Option<Lsn> {
    let last = history.lines().rev().find(|line| line.starts_with(|c: char| c.is_ascii_digit()))?;
    last.split_whitespace().nth(1)?.parse().ok()
}

/// Whether there is room for so many bytes of data, replaying, and the standby's own needs; in words what is lacking.
fn room_for(room: Room, bytes: u64) -> Result<(), String> {
    let needs = bytes.saturating_add(WAL_ROOM).saturating_add(room.kept_free());
    if room.free >= needs {
        return Ok(());
    }
    Err(format!("needs {}, has {}", megabytes(needs), megabytes(room.free)))
}

impl Limits {
    /// As high as these, and as those with which the WAL was written: the settings may have been lowered since.
    fn at_least(self, controldata: &str) -> Limits {
        let or_more = |ours: u64, name: &str| ours.max(control_value(controldata, name).unwrap_or(0));
        Limits {
            connections: or_more(self.connections, "max_connections setting"),
            prepared: or_more(self.prepared, "max_prepared_xacts setting"),
            locks: or_more(self.locks, "max_locks_per_xact setting"),
            slots: self.slots,
        }
    }
}

/// A number in what `pg_controldata` prints.
fn control_value(controldata: &str, name: &str) -> Option<u64> {
    controldata.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

fn restore_command(stanza: &str, data: &Path) -> String {
    let options = pgbackrest::options(stanza).join(" ");
    format!("{} {options} --pg1-path={} archive-get %f \"%p\"", pgbackrest::PROGRAM, data.display())
}

/// The copy's whole configuration.
fn settings(root: &Path, restore_command: &str, version: u32, limits: Limits) -> String {
    let root = root.display();
    let mut settings = vec![
        ("data_directory", format!("{root}/data")),
        ("hba_file", format!("{root}/pg_hba.conf")),
        ("ident_file", format!("{root}/pg_ident.conf")),
        ("listen_addresses", String::new()),
        ("unix_socket_directories", root.to_string()),
        ("port", PORT.to_owned()),
        ("cluster_name", "cluster-proof".to_owned()),
        ("restore_command", restore_command.to_owned()),
        // A copy with the parent's archive would write into it; one with its subscriptions would take from their sources.
        ("archive_mode", "off".to_owned()),
        ("max_wal_senders", "0".to_owned()),
        ("max_logical_replication_workers", "0".to_owned()),
        ("shared_preload_libraries", String::new()),
        ("autovacuum", "off".to_owned()),
        // Nobody reads before the end, and without readers it needs nothing as high as the primary has it.
        ("hot_standby", "off".to_owned()),
        ("max_connections", limits.connections.to_string()),
        ("max_prepared_transactions", limits.prepared.to_string()),
        ("max_locks_per_transaction", limits.locks.to_string()),
        ("max_replication_slots", limits.slots.to_string()),
        ("max_worker_processes", "4".to_owned()),
        ("shared_buffers", "64MB".to_owned()),
        ("maintenance_work_mem", "64MB".to_owned()),
        ("max_wal_size", "512MB".to_owned()),
        ("huge_pages", "off".to_owned()),
        ("dynamic_shared_memory_type", "mmap".to_owned()),
        // It is thrown away.
        ("fsync", "off".to_owned()),
        ("full_page_writes", "off".to_owned()),
        ("synchronous_commit", "off".to_owned()),
        ("restart_after_crash", "off".to_owned()),
        ("jit", "off".to_owned()),
        ("lc_messages", "C".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
    ];
    if version >= 17 {
        settings.push(("event_triggers", "off".to_owned()));
    }
    settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
}

/// When the last transaction was that was replayed, as the server's log has it.
fn last_transaction(log: &str) -> Option<i64> {
    let (_, time) = log.rsplit_once("last completed transaction was at log time ")?;
    let time: jiff::Timestamp = time.lines().next()?.trim().parse().ok()?;
    Some(time.as_second())
}

/// The WAL file that was fetched last.
fn last_restored(log: &str) -> Option<String> {
    let (_, rest) = log.rsplit_once("restored log file \"")?;
    rest.split_once('"').map(|(name, _)| name.to_owned()).filter(|name| name.len() == 24 && name.is_ascii())
}

/// What pgBackRest said when it could not get a file that is there.
fn archive_error(log: &str) -> Option<String> {
    let mut lines = log.get(log.find("ERROR: [")?..)?.lines();
    // What belongs to it is indented; the server's own lines are not.
    let first = lines.next()?;
    let rest = lines.take_while(|line| line.starts_with(' '));
    let words: Vec<&str> = std::iter::once(first).chain(rest).collect();
    Some(pgbackrest::words(words.join("\n").as_bytes()))
}

/// Why a server ended, in its own words.
fn complaint(log: &str) -> String {
    let mut grave = log.lines().filter(|line| ["FATAL: ", "PANIC: "].iter().any(|word| line.contains(word)));
    // Who was turned away while it started is no reason.
    let grave = grave.rfind(|line| !line.contains("the database system is"));
    let line = grave.or_else(|| log.lines().last()).unwrap_or("it said nothing");
    let (_, words) =
        line.split_once("FATAL:  ").or_else(|| line.split_once("PANIC:  ")).unwrap_or(("", line));
    words.to_owned()
}

/// Whether a database was left out: nothing of it was checked, and that is no error of `pg_amcheck`'s.
fn skipped(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("skipping database")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn first_lines(output: &Output) -> String {
    said(output).lines().take(3).map(str::trim).collect::<Vec<_>>().join("; ")
}

fn last_lines(output: &Output) -> String {
    let said = said(output);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 15 writes it.
    const LOG: &str = "\
2026-11-27 02:27:57.745 UTC [1612] LOG:  starting archive recovery
2026-11-27 02:27:57.847 UTC [1620] FATAL:  the database system is starting up
2026-11-27 02:27:57.912 UTC [1612] LOG:  restored log file \"000000010000000000000002\" from archive
2026-11-27 02:27:57.913 UTC [1612] LOG:  redo starts at 0/2000028
2026-11-27 02:27:57.992 UTC [1612] LOG:  restored log file \"000000010000000000000003\" from archive
2026-11-27 02:27:58.146 UTC [1612] LOG:  last completed transaction was at log time 2026-11-27 02:27:32.882135+00
2026-11-27 02:27:58.324 UTC [1612] LOG:  selected new timeline ID: 2
";

    #[test]
    fn the_servers_log_tells_how_far_it_came() {
        assert_eq!(last_restored(LOG).as_deref(), Some("000000010000000000000003"));
        assert_eq!(last_transaction(LOG), Some(1_795_746_452));
        assert_eq!(last_transaction("LOG:  redo is not required"), None);
        assert_eq!(archive_error(LOG), None);
        let failed = format!(
            "{LOG}P00  ERROR: [042]: unable to get X:\n            repo1: zst error\n2026-11-27 LOG:  x\n"
        );
        assert_eq!(archive_error(&failed).as_deref(), Some("[042]: unable to get X: repo1: zst error"));
    }

    #[test]
    fn what_ended_a_server_is_told_and_not_who_was_turned_away() {
        assert_eq!(complaint("LOG:  a\nFATAL:  the database system is starting up\nLOG:  b"), "LOG:  b");
        let log =
            "x FATAL:  WAL ends before end of online backup\nx FATAL:  the database system is starting up\n";
        assert_eq!(complaint(log), "WAL ends before end of online backup");
        assert_eq!(complaint(""), "it said nothing");
    }

    #[test]
    fn where_the_wal_ended_is_where_the_last_timeline_begins() {
        assert_eq!(forked_at("1\t0/4000000\tno recovery target specified\n"), Some(Lsn(0x400_0000)));
        assert_eq!(forked_at("# x\n1\t0/4000000\tx\n\n2\t1/5\tx\n\n"), Some(Lsn(0x1_0000_0005)));
        assert_eq!(forked_at(""), None);
    }

    #[test]
    fn the_standby_is_read_and_limits_are_the_higher_ones() {
        let standby = read_standby("0/5000000|1795746460|33511581|100|0|64|10|16777216|1|").unwrap();
        assert_eq!((standby.replayed, standby.newest), (Lsn(0x500_0000), Some(1_795_746_460)));
        assert_eq!(read_standby("0/5000000||1|100|0|64|10|16777216|1|").unwrap().newest, None);
        let second = read_standby("0/5000000||1|100|0|64|10|16777216|2|1\t0/4000100\tno | target\\").unwrap();
        assert_eq!(second.way, [(1, Lsn(0)), (2, Lsn(0x400_0100))]);
        // A primary has no such position.
        assert_eq!(read_standby("||1|100|0|64|10|16777216|1|"), None);
        let written = "max_connections setting:              30\nmax_prepared_xacts setting:           5\n\
                       Data page checksum version:           1\n";
        let limits = standby.limits.at_least(written);
        assert_eq!(limits, Limits { connections: 100, prepared: 5, locks: 64, slots: 10 });
        assert_eq!(control_value(written, "Data page checksum version"), Some(1));
    }

    #[test]
    fn a_copy_that_ends_before_the_archive_does_has_met_a_damaged_file() {
        assert!(!ends_early(Lsn(0x400_0000), Lsn(0x400_0000)));
        // A record that begins in the last file and goes on in one that is not archived yet.
        assert!(!ends_early(Lsn(0x3ff_f000), Lsn(0x400_0000)));
        assert!(!ends_early(Lsn(0x500_0000), Lsn(0x400_0000)), "more has come meanwhile");
        assert!(ends_early(Lsn(0x320_0000), Lsn(0x400_0000)));
    }

    #[test]
    fn without_room_for_the_copy_and_the_standby_nothing_is_begun() {
        let room = |free: u64| Room { free: free << 30, total: 100 << 30 };
        assert_eq!(room_for(room(46), 40 << 30), Ok(()));
        assert_eq!(room_for(room(45), 40 << 30), Err("needs 46 GB, has 45 GB".into()));
    }

    #[test]
    fn the_copy_listens_to_nobody_and_archives_nothing() {
        let limits = Limits { connections: 100, prepared: 0, locks: 64, slots: 10 };
        let root = Path::new("/var/lib/postgresql/15/cluster-proof");
        let get = restore_command("demo", &root.join("data"));
        let text = settings(root, &get, 15, limits);
        for line in [
            "listen_addresses = ''",
            "archive_mode = 'off'",
            "shared_preload_libraries = ''",
            "unix_socket_directories = '/var/lib/postgresql/15/cluster-proof'",
            "restore_command = '/usr/bin/pgbackrest --config=/etc/cluster/pgbackrest.conf --stanza=demo \
             --log-level-console=off --log-level-stderr=warn --no-log-timestamp \
             --pg1-path=/var/lib/postgresql/15/cluster-proof/data archive-get %f \"%p\"'",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(
            !text.contains("event_triggers") && settings(root, &get, 17, limits).contains("event_triggers")
        );
    }
}
