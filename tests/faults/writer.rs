//! The writer: an application that never gives up. It writes to every data node directly, several times a second,
//! and through the floating IP, and remembers of every attempt when it began, when it ended and what came of it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_contract::Millis;
use cluster_node::clock;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How often each target is written to.
const EVERY: Duration = Duration::from_millis(120);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_millis(1_000);
/// How long a write may take.
const WRITE: Duration = Duration::from_millis(1_500);
/// What the address is called among the targets.
pub(crate) const ADDRESS: &str = "address";

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Committed, on this node and timeline.
    Acknowledged { node: String, timeline: u32 },
    /// Refused by a standby; the newest row that it has.
    Standby { newest: i64 },
    /// Refused, or there was nobody: nothing was written.
    Refused(String),
    /// No answer. It may have been written.
    Unknown(String),
}

/// One attempt to write one row.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// A node, or [`ADDRESS`].
    pub(crate) target: Arc<str>,
    /// The row.
    pub(crate) sequence: i64,
    /// When it began, on the clock that all hosts of a lab share.
    pub(crate) begun: Millis,
    /// When it ended.
    pub(crate) ended: Millis,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

impl Attempt {
    /// The node that acknowledged it, and the timeline.
    pub(crate) fn acknowledged(&self) -> Option<(&str, u32)> {
        match &self.outcome {
            Outcome::Acknowledged { node, timeline } => Some((node, *timeline)),
            _ => None,
        }
    }
}

/// Where to write.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// A node's name, or [`ADDRESS`].
    pub(crate) name: String,
    pub(crate) host: IpAddr,
}

#[derive(Default)]
struct Shared {
    sequence: AtomicI64,
    stop: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
}

/// The writer; it stops when it is dropped.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// How a writer writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How often.
    pub(crate) every: Duration,
    /// The number before its first row.
    pub(crate) from: i64,
    /// How many writers a target has.
    pub(crate) writers: usize,
}

impl Pace {
    /// The writer that is always there.
    pub(crate) const STEADY: Pace = Pace { every: EVERY, from: 0, writers: 1 };
    /// The load of a busy application.
    pub(crate) const BUSY: Pace = Pace { every: Duration::from_millis(5), from: 1 << 40, writers: 4 };
}

impl Writer {
    /// Begins to write, with the password of the role `cluster`. The table must be there.
    pub(crate) fn start(targets: Vec<Target>, password: &SecretString, pace: Pace) -> Writer {
        let shared = Arc::new(Shared { sequence: AtomicI64::new(pace.from), ..Shared::default() });
        let (inner, password) = (shared.clone(), password.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for target in targets {
                    // Through the address two take turns: when it moves, a connection to where it was says nothing
                    // for a while, and the other one is told sooner.
                    for _ in 0..pace.writers + usize::from(target.name == ADDRESS) {
                        tasks.spawn(write(inner.clone(), target.clone(), password.clone(), pace.every));
                    }
                }
                tasks.join_all().await;
            });
        });
        Writer { shared, thread: Mutex::new(Some(thread)) }
    }

    /// Begins nothing more, and waits for what is under way.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            let _ = thread.join();
        }
    }

    /// A copy of everything that began at `since` or later.
    pub(crate) fn since(&self, since: Millis) -> Vec<Attempt> {
        let attempts = self.shared.attempts.lock().unwrap();
        // They are in the order of their ends.
        let from = attempts.partition_point(|attempt| attempt.ended < since);
        attempts[from..].iter().filter(|attempt| attempt.begun >= since).cloned().collect()
    }

    /// The first attempt that began at `since` or later and is as wanted.
    pub(crate) fn first(&self, since: Millis, wanted: impl Fn(&Attempt) -> bool) -> Option<Attempt> {
        self.since(since).into_iter().find(wanted)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn write(shared: Arc<Shared>, target: Target, password: SecretString, every: Duration) {
    let mut config = tokio_postgres::Config::new();
    config
        .hostaddr(target.host)
        .host(target.host.to_string())
        .user("cluster")
        .dbname("cluster")
        .password(password.expose_secret())
        .application_name("writer")
        .connect_timeout(CONNECT);
    let name: Arc<str> = target.name.as_str().into();
    let mut client = None;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let sequence = shared.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = clock::now();
        let outcome = attempt(&config, &mut client, &name, sequence).await;
        let ended = clock::now();
        let attempt = Attempt { target: name.clone(), sequence, begun, ended, outcome };
        shared.attempts.lock().unwrap().push(attempt);
    }
}

async fn attempt(
    config: &tokio_postgres::Config,
    client: &mut Option<Client>,
    target: &str,
    sequence: i64,
) -> Outcome {
    if client.as_ref().is_none_or(Client::is_closed) {
        match tokio::time::timeout(CONNECT, config.connect(NoTls)).await {
            Ok(Ok((new, connection))) => {
                tokio::spawn(connection);
                *client = Some(new);
            }
            Ok(Err(error)) => return Outcome::Refused(words(&error)),
            Err(_) => return Outcome::Refused("no connection in time".into()),
        }
    }
    let Some(connected) = client.as_ref() else { return Outcome::Refused("no connection".into()) };
    let sql = format!(
        "insert into writes values ({sequence}, '{target}') returning current_setting('cluster_name'), \
         ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
    );
    let outcome = match tokio::time::timeout(WRITE, row(connected, &sql)).await {
        Err(_) => Outcome::Unknown("no answer in time".into()),
        Ok(Ok(row)) => {
            return Outcome::Acknowledged { node: row[0].clone(), timeline: row[1].parse().unwrap() };
        }
        Ok(Err(error)) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
            let newest = "select coalesce(max(sequence), 0) from writes";
            match tokio::time::timeout(WRITE, row(connected, newest)).await {
                Ok(Ok(row)) => return Outcome::Standby { newest: row[0].parse().unwrap() },
                _ => Outcome::Refused("read only, and it does not answer".into()),
            }
        }
        // The server answered: an error of a statement, not of the connection.
        Ok(Err(error)) if error.as_db_error().is_some() => Outcome::Refused(words(&error)),
        Ok(Err(error)) => Outcome::Unknown(words(&error)),
    };
    *client = None;
    outcome
}

async fn row(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        })
        .unwrap_or_default())
}

fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| format!("{error:#}"), |it| it.message().to_owned())
}
