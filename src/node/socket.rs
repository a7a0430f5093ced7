//! How the other commands of this program talk to the guard: a line in, one line of JSON out.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Where the guard listens.
pub const PATH: &str = "/run/cluster/guard.sock";

/// What the guard is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What it sees and does.
    Status,
    /// May PostgreSQL start here as a primary?
    MayStart,
    /// May this standby promote?
    MayPromote,
    /// PostgreSQL is about to be restarted on purpose: the lease is kept meanwhile.
    Restart,
    /// Hold without a majority: a person says that the others are lost.
    Take,
    /// Make a standby of this node now, rather than when it is next tried.
    Rejoin {
        /// By a fresh clone, beside the old data.
        clone: bool,
    },
    /// Stop, and let this node take over.
    HandOver {
        /// Its name.
        to: String,
    },
}

impl Request {
    /// Whether only root may ask for it. The promote hook runs as postgres, and only asks.
    pub(super) fn is_roots(&self) -> bool {
        !matches!(self, Request::Status | Request::MayStart | Request::MayPromote)
    }
}

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Yes?
    pub allowed: bool,
    /// Why.
    pub why: String,
}

/// Asks the guard.
///
/// # Errors
/// When it does not run, or does not answer within two seconds.
pub async fn ask(request: &Request) -> Result<String> {
    let talk = async {
        let mut stream = UnixStream::connect(PATH).await.context("the guard does not run")?;
        stream.write_all(serde_json::to_string(request)?.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.trim().is_empty() {
            bail!("the guard ended before it answered");
        }
        Ok(answer.trim().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), talk).await.context("the guard does not answer")?
}

/// Asks for a yes or a no.
///
/// # Errors
/// Like [`ask`].
pub async fn verdict(request: &Request) -> Result<Verdict> {
    serde_json::from_str(&ask(request).await?).context("the guard's answer makes no sense")
}

/// Reads a request; none if it makes no sense.
pub(super) async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(256);
    tokio::time::timeout(Duration::from_millis(200), reader.read_line(&mut line)).await.ok()?.ok()?;
    serde_json::from_str(line.trim()).ok()
}
