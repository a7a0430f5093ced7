//! PostgreSQL's start: its processes are watched from beside, since systemd may wait for ever for what has died.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::Millis;
use cluster_contract::config::Config;
use tokio::time::Instant;

use super::unit;
use crate::decision::START_GRACE;
use crate::postgres::{self, ServerState};
use crate::{packages, plain, processes};

/// Before its first process is there, systemd reads, and asks the guard.
const FIRST_PROCESS_LIMIT: Duration = Duration::from_secs(5);
/// Without any process after that, it is over.
const NO_PROCESS_LIMIT: Duration = Duration::from_secs(1);
// Until then a start that shows nothing is worth its lease.
const _: () = assert!((FIRST_PROCESS_LIMIT.as_millis() as Millis) < START_GRACE);
/// Crash recovery of a large database may take hours, and is busy all the time. Processes that use neither time nor disk
/// for so long hang.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// A server that says that it is ready answers a question by then.
const READY_LIMIT: Duration = Duration::from_secs(15);
/// Whatever it does, no start takes longer. The unit's own limit is the same.
const START_LIMIT: Duration = Duration::from_secs(86_400);
/// An upgrade of PostgreSQL is waited for so long by a standby, which nobody writes to,
const STANDBY_PACKAGE_WAIT: Duration = Duration::from_secs(300);
/// and by what is to be primary, where every second counts.
const PRIMARY_PACKAGE_WAIT: Duration = Duration::from_secs(30);

/// Starts PostgreSQL and waits until it answers, or until it is certain that this attempt will not.
pub(in crate::guard) async fn start(config: Config) -> Result<String> {
    let standby = Path::new(&config.data_directory()).join("standby.signal").exists();
    packages::wait(&config, if standby { STANDBY_PACKAGE_WAIT } else { PRIMARY_PACKAGE_WAIT }).await;
    let begun = Instant::now();
    let log = Log::new(&config);
    unit::begin(&config).await?;
    let Err(error) = watch(&config, begun).await else {
        return Ok(format!("PostgreSQL was started in {:.1} s", begun.elapsed().as_secs_f64()));
    };
    if processes::list(&config)?.is_empty() {
        // Or the next attempt would only join this one.
        unit::clear(&config).await?;
    }
    match log.last_words() {
        Some(words) => Err(error.context(words)),
        None => Err(error),
    }
}

async fn watch(config: &Config, begun: Instant) -> Result<()> {
    let mut running = false;
    let mut alive = begun;
    let mut used = (0, begun);
    let mut ready = None;
    loop {
        let server = postgres::observe(config).await;
        let (ServerState::Silent(why) | ServerState::Busy(why)) = server.state else { return Ok(()) };
        let now = Instant::now();
        if processes::list(config)?.is_empty() {
            let patience = if running { NO_PROCESS_LIMIT } else { FIRST_PROCESS_LIMIT };
            if now - alive > patience || (running && unit::has_ended(config).await) {
                bail!("PostgreSQL stopped during startup: {why}");
            }
        } else {
            (running, alive) = (true, now);
            let activity = processes::activity(config)?;
            if activity != used.0 {
                used = (activity, now);
            }
            if now - used.1 > HANGS_AFTER {
                bail!("PostgreSQL made no progress for {} s during startup: {why}", HANGS_AFTER.as_secs());
            }
        }
        if is_ready(config) {
            let since = *ready.get_or_insert(now);
            if now - since > READY_LIMIT {
                bail!("PostgreSQL was started but does not answer: {why}");
            }
        }
        if begun.elapsed() > START_LIMIT {
            bail!("PostgreSQL did not start within a day: {why}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the postmaster says in its lock file that it lets clients in: the eighth line, which `pg_ctl` reads, too.
fn is_ready(config: &Config) -> bool {
    let path = Path::new(&config.data_directory()).join("postmaster.pid");
    let text = plain::text(&path, 0, 4096).unwrap_or_default();
    text.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

/// The server's log, from a moment on.
struct Log {
    path: String,
    from: u64,
}

impl Log {
    fn new(config: &Config) -> Log {
        let path = format!("/var/log/postgresql/postgresql-{}-main.log", config.version);
        let from = std::fs::metadata(&path).map_or(0, |it| it.len());
        Log { path, from }
    }

    /// Why it ended, as it says itself.
    fn last_words(&self) -> Option<String> {
        last_words(&plain::text(Path::new(&self.path), self.from, 1 << 20).context("no log").ok()?)
    }
}

/// The last line that tells of an end. Refusals of clients are none, and what a client has sent is not repeated.
fn last_words(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let at = line.find("FATAL:").or_else(|| line.find("PANIC:"))?;
        let text = &line[at..];
        (!text.contains("the database system is") && !text.contains("terminating connection"))
            .then(|| text.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_log_says_why_a_server_ended() {
        let log = "2026-11-26 07:00:01 UTC [1] LOG:  starting PostgreSQL 15\n\
                   2026-11-26 07:00:01 UTC [1] FATAL:  could not map anonymous shared memory: Cannot allocate memory\n\
                   2026-11-26 07:00:01 UTC [1] HINT:  This error usually means…\n\
                   2026-11-26 07:00:02 UTC [9] repmgr@repmgr FATAL:  the database system is starting up\n";
        let words = "FATAL: could not map anonymous shared memory: Cannot allocate memory";
        assert_eq!(last_words(log).as_deref(), Some(words));
        assert_eq!(last_words("LOG:  database system was shut down\n"), None);
    }
}
