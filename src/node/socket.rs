//! How the other commands of this program talk to the guard: one word in, one line of JSON out.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Where the guard listens.
pub const PATH: &str = "/run/cluster/guard.sock";

/// What the guard is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What it sees and does.
    Status,
    /// This node has just become primary: look after the address now.
    Promoted,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Promoted => "promoted",
        }
    }
}

/// Asks the guard.
///
/// # Errors
/// When it does not run, or does not answer within two seconds.
pub async fn ask(request: Request) -> Result<String> {
    let talk = async {
        let mut stream = UnixStream::connect(PATH).await.context("the guard does not run")?;
        stream.write_all(request.word().as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.trim().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), talk).await.context("the guard does not answer")?
}

/// Reads a request; none if it makes no sense.
pub(super) async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut word = String::new();
    let mut reader = BufReader::new(stream).take(64);
    tokio::time::timeout(Duration::from_secs(1), reader.read_line(&mut word)).await.ok()?.ok()?;
    [Request::Status, Request::Promoted].into_iter().find(|request| request.word() == word.trim())
}
