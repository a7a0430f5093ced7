//! The ways into PostgreSQL on this node. They are this program's own: who asks is told by the kernel (`pg_ident.conf`
//! maps root and postgres to repmgr), not by a password that somebody may change, and what a session obeys is said with
//! the connection, so that no default of the server, a database or a role changes it.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_postgres::Client;

use crate::plain;

/// What every session of ours obeys, from the version on in which PostgreSQL knows it.
const SETTINGS: [(u32, &str, &str); 20] = [
    // A lost standby must not cost the lease.
    (0, "synchronous_commit", "local"),
    (0, "default_transaction_read_only", "off"),
    (0, "default_transaction_isolation", "read committed"),
    (0, "default_transaction_deferrable", "off"),
    (0, "statement_timeout", "0"),
    // A lock that somebody holds is no server that hangs: the heartbeat has another way then.
    (0, "lock_timeout", "500ms"),
    (0, "idle_in_transaction_session_timeout", "0"),
    (14, "idle_session_timeout", "0"),
    (17, "transaction_timeout", "0"),
    (0, "search_path", "pg_catalog"),
    (0, "role", "none"),
    (0, "default_tablespace", ""),
    (0, "default_table_access_method", "heap"),
    (0, "log_statement", "none"),
    (0, "log_duration", "off"),
    (0, "log_min_duration_statement", "-1"),
    // A library that is not there, or a trigger that raises, would let nobody in.
    (0, "session_preload_libraries", ""),
    (0, "local_preload_libraries", ""),
    (17, "event_triggers", "off"),
    (0, "jit", "off"),
];

/// Why no session was opened.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// No server is there to answer, or it begins or ends just now.
    Unavailable(anyhow::Error),
    /// A running server turned this session away: full, a rule, a default that breaks every new session. The postmaster
    /// has accepted the connection and begun a process for it, or said that it cannot.
    Rejected(anyhow::Error),
}

impl ConnectError {
    pub(super) fn into_error(self) -> anyhow::Error {
        match self {
            ConnectError::Unavailable(error) | ConnectError::Rejected(error) => error,
        }
    }
}

/// A postmaster that lives has answered that it lets nobody in for now: it starts, replays or shuts down.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Busy(String);

/// `cannot_connect_now`.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// The settings of a session of the guard, as libpq's `options` has them.
pub fn options(version: u32) -> String {
    let known = SETTINGS.iter().filter(|(since, ..)| *since <= version);
    known
        .map(|(_, name, value)| format!("-c {name}={}", value.replace(' ', "\\ ")))
        .collect::<Vec<_>>()
        .join(" ")
}

fn socket(config: &Config) -> std::path::PathBuf {
    Path::new("/var/run/postgresql").join(format!(".s.PGSQL.{}", config.port))
}

async fn attempt(config: &Config, password: Option<&str>) -> Result<Client, (ConnectError, bool)> {
    let path = socket(config);
    let stream =
        UnixStream::connect(&path).await.with_context(|| format!("cannot connect to {}", path.display()));
    let stream = stream.map_err(|error| (ConnectError::Unavailable(error), false))?;
    let mut parameters = tokio_postgres::Config::new();
    parameters
        .user("repmgr")
        .dbname("repmgr")
        .application_name("cluster-node")
        .options(options(config.version));
    if let Some(password) = password {
        parameters.password(password);
    }
    match parameters.connect_raw(stream, tokio_postgres::NoTls).await {
        Ok((client, connection)) => {
            // It ends when the client is dropped; what it says the client says too.
            tokio::spawn(connection);
            Ok(client)
        }
        Err(error) => {
            let said = error.as_db_error().map(|said| (said.code().code().to_owned(), said.to_string()));
            let wants_password = said.is_none() && error.to_string().contains("password");
            let refusal = match said {
                Some((code, text)) if code == CANNOT_CONNECT_NOW => {
                    ConnectError::Unavailable(Busy(text).into())
                }
                // It starts, shuts down or recovers: not a server that goes on working.
                Some((code, text)) if code.starts_with("57") => {
                    ConnectError::Unavailable(anyhow::anyhow!("{text}"))
                }
                Some((_, text)) => ConnectError::Rejected(anyhow::anyhow!("{text}")),
                // It was accepted and closed: the postmaster could begin no process for it.
                None => ConnectError::Rejected(error.into()),
            };
            Err((refusal, wants_password))
        }
    }
}

/// Opens a session, or says why there is none.
pub(super) async fn open(config: &Config) -> Result<Client, ConnectError> {
    match attempt(config, None).await {
        Ok(client) => Ok(client),
        // Until `cluster up` has brought the rules that need none.
        Err((refusal, true)) => match password() {
            Ok(password) => attempt(config, Some(&password)).await.map_err(|(refusal, _)| refusal),
            Err(_) => Err(refusal),
        },
        Err((refusal, false)) => Err(refusal),
    }
}

fn password() -> Result<String> {
    let passwords = plain::text(Path::new("/var/lib/postgresql/.pgpass"), 0, 64 << 10)?;
    passwords
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| Some(line.split_once(":repmgr:")?.1.to_owned()))
        .context(".pgpass has no password for repmgr")
}

/// The session of the last observation that had a new one. It is no proof by itself: it may outlive a postmaster that
/// hangs, and lets nobody else in. But where a postmaster answers a *new* connection by turning it away, both together
/// say what a new session would: it accepts and forks, and what is written reaches the disk. Without one, a server that
/// turns the guard away has not shown that its disk works, and that renews no lease.
static RESERVED: Mutex<Option<Arc<Client>>> = Mutex::new(None);

/// Keeps a session in reserve, in place of the one before.
pub(super) fn reserve(client: Client) -> Arc<Client> {
    let client = Arc::new(client);
    *RESERVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&client));
    client
}

/// The session in reserve, if it has not ended.
pub(super) fn reserved() -> Option<Arc<Client>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|client| !client.is_closed())
}

/// Ends it: a smart shutdown would wait for it.
pub(super) fn drop_reserved() {
    *RESERVED.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The timeline that a standby replays, in the server's own words (`IDENTIFY_SYSTEM`): no function of SQL tells it in
/// recovery before the next restart point. That is a word of the replication protocol, which needs a connection of its
/// own kind, and no more of the protocol than stands here.
///
/// # Errors
/// When the server does not say.
pub(super) async fn replayed_timeline(config: &Config) -> Result<u32> {
    let mut stream = UnixStream::connect(socket(config)).await?;
    let mut body = 196_608_i32.to_be_bytes().to_vec();
    for word in [
        "user",
        "repmgr",
        "database",
        "repmgr",
        "replication",
        "database",
        "application_name",
        "cluster-node",
    ] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    body.push(0);
    send(&mut stream, None, &body).await?;
    loop {
        match receive(&mut stream).await? {
            (b'R', body) if body.get(..4) != Some(&[0; 4]) => bail!("PostgreSQL asks for a password"),
            (b'E', _) => bail!("PostgreSQL accepts no replication connection"),
            (b'Z', _) => break,
            _ => {}
        }
    }
    send(&mut stream, Some(b'Q'), b"IDENTIFY_SYSTEM\0").await?;
    let mut told = None;
    loop {
        match receive(&mut stream).await? {
            (b'D', body) => told = timeline(&body),
            (b'E', _) => bail!("PostgreSQL does not identify itself"),
            (b'Z', _) => break,
            _ => {}
        }
    }
    // Or its log tells of a client that was lost.
    send(&mut stream, Some(b'X'), &[]).await?;
    told.context("IDENTIFY_SYSTEM returned no timeline")
}

/// The second column of a row.
fn timeline(row: &[u8]) -> Option<u32> {
    let length = |at: usize| usize::try_from(i32::from_be_bytes(row.get(at..at + 4)?.try_into().ok()?)).ok();
    let second = 2 + 4 + length(2)?;
    let text = row.get(second + 4..second + 4 + length(second)?)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

async fn send(stream: &mut UnixStream, tag: Option<u8>, body: &[u8]) -> Result<()> {
    let mut message: Vec<u8> = tag.into_iter().collect();
    message.extend_from_slice(&u32::try_from(body.len() + 4)?.to_be_bytes());
    message.extend_from_slice(body);
    Ok(stream.write_all(&message).await?)
}

async fn receive(stream: &mut UnixStream) -> Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let length = usize::try_from(stream.read_u32().await?)?;
    if !(4..=64 << 10).contains(&length) {
        return Err(Error::from(ErrorKind::InvalidData).into());
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok((tag, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_obeys_what_its_version_knows() {
        let of_12 = options(12);
        assert!(
            of_12.starts_with("-c synchronous_commit=local -c default_transaction_read_only=off "),
            "{of_12}"
        );
        assert!(of_12.contains("-c default_transaction_isolation=read\\ committed "), "{of_12}");
        assert!(!of_12.contains("idle_session_timeout") && !of_12.contains("event_triggers"), "{of_12}");
        assert!(
            options(14).contains("-c idle_session_timeout=0 ")
                && options(17).contains("-c event_triggers=off")
        );
    }

    #[test]
    fn the_timeline_is_the_second_column() {
        let mut row = vec![0, 4];
        for column in ["7361", "12", "0/5000028", "repmgr"] {
            row.extend_from_slice(&u32::try_from(column.len()).unwrap().to_be_bytes());
            row.extend_from_slice(column.as_bytes());
        }
        assert_eq!(timeline(&row), Some(12));
        assert_eq!(timeline(&row[..8]), None);
        assert_eq!(timeline(&[0, 1, 255, 255, 255, 255]), None);
    }
}
