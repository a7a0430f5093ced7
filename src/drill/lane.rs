//! The clients of a drill: each makes several attempts per second and records the results.
//!
//! Attempts begin on time, whether or not earlier ones have been answered, so that a moment is found to a tenth of a
//! second even behind a host that swallows packets. An attempt uses a connection that stands idle, or opens one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sample::{Lane, Millis, Outcome, Sample};
use crate::check;

/// How often each client begins an attempt.
const PACE: Duration = Duration::from_millis(100);
/// How long an attempt waits for its answer.
const LIMIT: Duration = Duration::from_secs(2);
/// How long it waits for one host of several.
const HOST_LIMIT: Duration = Duration::from_millis(700);
/// How many attempts of a client may be under way: connections that a server must bear.
const AT_ONCE: usize = 20;

/// The table that is written to, in the database `cluster`; dropped at the end.
pub const TABLE: &str = "cluster_drill";

/// The samples so far.
#[derive(Clone)]
pub struct Seen {
    begun: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    numbers: Arc<AtomicU64>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { begun: Instant::now(), samples: Arc::default(), numbers: Arc::default() }
    }
}

impl Seen {
    /// Milliseconds since the drill began.
    pub fn now(&self) -> Millis {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Reads the samples so far.
    pub fn look<T>(&self, look: impl FnOnce(&[Sample]) -> T) -> T {
        look(&self.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, sample: Sample) {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

/// Credentials of the role `cluster`.
#[derive(Clone)]
pub struct Login {
    port: u16,
    password: SecretString,
    tls: MakeRustlsConnect,
}

impl Login {
    /// With the password of the role.
    pub fn new(port: u16, password: SecretString) -> Login {
        Login { port, password, tls: MakeRustlsConnect::new(check::encrypt_only()) }
    }

    /// The way to one host, or to the one of several that takes writes.
    fn config(&self, hosts: &[String]) -> Config {
        let mut config = check::login(hosts, self.port, &self.password);
        config.application_name("cluster drill");
        if hosts.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(HOST_LIMIT);
        }
        config
    }

    async fn connect(&self, config: &Config) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = config.connect(self.tls.clone()).await?;
        let driver = tokio::spawn(async move {
            // What breaks it, the client's next attempt says.
            let _ = connection.await;
        });
        Ok(Session { client, driver: driver.abort_handle(), standby: false })
    }

    /// Runs statements on a host.
    ///
    /// # Errors
    /// PostgreSQL's error.
    pub async fn run(&self, host: &str, sql: &str) -> Result<Vec<String>> {
        let work = async {
            let session = self.connect(&self.config(&[host.to_owned()])).await?;
            session.rows(sql).await
        };
        let rows =
            tokio::time::timeout(Duration::from_secs(5), work).await.context("no answer within 5 s")?;
        let rows = rows.map_err(|error| anyhow::anyhow!("{host}: {}", words(&error)))?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }
}

/// A connection; it ends with the value.
struct Session {
    client: Client,
    driver: tokio::task::AbortHandle,
    /// Whether the node was a standby when last asked: it is asked again before anything is written.
    standby: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    async fn attempt(&mut self, lane: &Lane, number: u64) -> Result<Outcome, tokio_postgres::Error> {
        let name = match lane {
            Lane::Reader(_) => {
                let sql = format!("select current_setting('cluster_name'), coalesce(max(n), 0) from {TABLE}");
                return Ok(done(self.rows(&sql).await?));
            }
            Lane::Address => "address",
            Lane::Node(name) => name,
        };
        // A write that a standby refuses is a line in its log; a question is none.
        if self.standby && self.rows("select pg_is_in_recovery()").await?.concat() == ["t"] {
            return Ok(Outcome::Standby);
        }
        self.standby = false;
        let sql = format!(
            "insert into {TABLE} (n, lane) values ({number}, '{name}') \
             returning current_setting('cluster_name'), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
        );
        match self.rows(&sql).await {
            Ok(rows) => Ok(done(rows)),
            Err(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                self.standby = true;
                Ok(Outcome::Standby)
            }
            Err(error) => Err(error),
        }
    }
}

/// A row of an answer: the node, and the timeline in hexadecimal.
fn done(rows: Vec<Vec<String>>) -> Outcome {
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
    let node = row.next().unwrap_or_default();
    Outcome::Done { node, timeline: row.next().and_then(|text| u32::from_str_radix(&text, 16).ok()) }
}

/// PostgreSQL's message, or the innermost cause.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => innermost(error).to_string(),
    }
}

/// Whether the kernel or the client reports a timeout.
fn timed_out(error: &tokio_postgres::Error) -> bool {
    innermost(error)
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    match error.source() {
        Some(inner) => innermost(inner),
        None => error,
    }
}

/// The running clients.
pub struct Lanes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Lanes {
    /// Starts one client for each lane.
    pub fn start(login: &Login, lanes: &BTreeMap<Lane, Vec<String>>, seen: &Seen) -> Lanes {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for (lane, hosts) in lanes {
            let client = Arc::new(OneLane {
                lane: lane.clone(),
                login: login.clone(),
                config: login.config(hosts),
                seen: seen.clone(),
                idle: Mutex::default(),
            });
            tasks.spawn(client.run(stop.clone(), tasks.clone()));
        }
        Lanes { stop, tasks }
    }

    /// Starts no more attempts, and waits for those in progress.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct OneLane {
    lane: Lane,
    login: Login,
    config: Config,
    seen: Seen,
    idle: Mutex<Vec<Session>>,
}

impl OneLane {
    async fn run(self: Arc<Self>, stop: CancellationToken, tasks: TaskTracker) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = pace.tick() => {}
            }
            let Ok(permit) = room.clone().try_acquire_owned() else { continue };
            let lane = self.clone();
            tasks.spawn(async move {
                lane.attempt().await;
                drop(permit);
            });
        }
    }

    async fn attempt(&self) {
        let number = self.seen.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let began = self.seen.now();
        let outcome = match tokio::time::timeout(LIMIT, self.work(number)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) if timed_out(&error) => Outcome::Silent,
            Ok(Err(error)) => Outcome::Refused(words(&error)),
            Err(_) => Outcome::Silent,
        };
        let ended = self.seen.now();
        self.seen.note(Sample { lane: self.lane.clone(), number, began, ended, outcome });
    }

    async fn work(&self, number: u64) -> Result<Outcome, tokio_postgres::Error> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop().filter(|session| !session.client.is_closed());
        let mut session = match kept {
            Some(session) => session,
            None => {
                let mut session = self.login.connect(&self.config).await?;
                session.standby = matches!(self.lane, Lane::Node(_));
                session
            }
        };
        // One that failed, or is given up, is closed and not used again.
        let outcome = session.attempt(&self.lane, number).await?;
        // The address led to a standby: it may lead elsewhere the next time, and an open connection would not.
        if self.lane != Lane::Address || outcome != Outcome::Standby {
            idle().push(session);
        }
        Ok(outcome)
    }
}
