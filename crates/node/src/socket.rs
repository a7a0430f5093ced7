//! How the other commands of this program talk to the guard: a line in, one line of JSON out.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::paths;
use cluster_contract::request::{Code, Request, Verdict};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// How long a client may take to send its request, and to read the answer.
const CLIENT_LIMIT: Duration = Duration::from_millis(500);
/// How long the guard's loop may take to answer. No client waits longer: what was granted by then would come too late.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The same for what it only tells. A disk may hold it up for some seconds.
const STATUS_LIMIT: Duration = Duration::from_secs(4);
/// How many may be connected at once, of root's and of all others each.
const CONNECTIONS: usize = 128;
/// How long [`verdict_in_time`] asks again: a guard that is started anew is there by then.
const RETRY_FOR: Duration = Duration::from_secs(5);

/// Asks the guard.
///
/// # Errors
/// When it does not run, or does not answer within two seconds; within four for its status.
pub async fn ask(request: &Request) -> Result<String> {
    let talk = async {
        let mut stream = UnixStream::connect(paths::SOCKET).await.context("the guard is not running")?;
        stream.write_all(serde_json::to_string(request)?.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.trim().is_empty() {
            bail!("the guard stopped before it answered");
        }
        Ok(answer.trim().to_owned())
    };
    tokio::time::timeout(limit(request), talk).await.context("the guard does not answer")?
}

fn limit(request: &Request) -> Duration {
    if *request == Request::Status { STATUS_LIMIT } else { ANSWER_LIMIT }
}

/// Asks for a yes or a no.
///
/// # Errors
/// Like [`ask`].
pub async fn verdict(request: &Request) -> Result<Verdict> {
    serde_json::from_str(&ask(request).await?).context("cannot parse the guard's answer")
}

/// The same, and asks again for a few seconds if there is no answer: a promotion that was granted must not be refused
/// because the guard is started anew at this moment. A no is an answer.
///
/// # Errors
/// Like [`ask`].
pub async fn verdict_in_time(request: &Request) -> Result<Verdict> {
    let begun = Instant::now();
    loop {
        match verdict(request).await {
            Err(_) if begun.elapsed() < RETRY_FOR => tokio::time::sleep(Duration::from_millis(100)).await,
            answer => return answer,
        }
    }
}

/// Reads a request; none if it makes no sense.
pub(super) async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream).take(256);
    tokio::time::timeout(CLIENT_LIMIT, reader.read_line(&mut line)).await.ok()?.ok()?;
    serde_json::from_str(line.trim()).ok()
}

/// A request that the guard's loop is to answer.
#[derive(Debug)]
pub struct PendingRequest {
    pub request: Request,
    /// Whether root asks. What only root may ask has been refused already if it does not.
    pub root: bool,
    /// Where the answer goes, a line of JSON. Who asked may have gone.
    pub reply: oneshot::Sender<String>,
}

/// Listens at a path of root's for root and for members of postgres' group.
///
/// # Errors
/// When it cannot.
pub fn listen(path: &Path) -> Result<UnixListener> {
    // One that an earlier guard left.
    let _ = std::fs::remove_file(path);
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    // Before the mode lets its group in. Where there is no postgres yet, nobody needs to be let in.
    if let Ok(home) = std::fs::metadata(paths::POSTGRES_HOME) {
        std::os::unix::fs::chown(path, None, Some(home.gid()))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves the socket beside the guard's loop, which gets whole questions alone: who connects and says nothing, or does
/// not read, keeps nobody waiting. Does not end.
pub async fn serve(listener: UnixListener, sender: mpsc::Sender<PendingRequest>) {
    let of_root = Arc::new(Semaphore::new(CONNECTIONS));
    let of_others = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There are no more file descriptors, for a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let root = stream.peer_cred().is_ok_and(|who| who.uid() == 0);
        // Where there are too many, the last one is turned away.
        let Ok(permit) = Arc::clone(if root { &of_root } else { &of_others }).try_acquire_owned() else {
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            answer(stream, root, &sender).await;
            drop(permit);
        });
    }
}

/// Reads one question, has it answered, and writes the answer.
async fn answer(mut stream: UnixStream, root: bool, sender: &mpsc::Sender<PendingRequest>) {
    let text = match read(&mut stream).await {
        None => "{\"error\":\"what?\"}".to_owned(),
        Some(request) if request.needs_root() && !root => {
            let verdict = Verdict::no(Code::NotRoot, "only root may ask for that");
            serde_json::to_string(&verdict).unwrap_or_default()
        }
        Some(request) => {
            let (limit, (reply, answer)) = (limit(&request), oneshot::channel());
            let ask = async {
                sender.send(PendingRequest { request, root, reply }).await.ok()?;
                answer.await.ok()
            };
            // Without an answer the connection ends, and who asked knows that there was none.
            let Ok(Some(text)) = tokio::time::timeout(limit, ask).await else { return };
            text
        }
    };
    let _ = tokio::time::timeout(CLIENT_LIMIT, stream.write_all(text.as_bytes())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard's loop that says yes to everything, after a while; where it listens.
    fn guard(pause: Duration) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guard.sock");
        let (sender, mut questions) = mpsc::channel::<PendingRequest>(16);
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), sender));
        tokio::spawn(async move {
            while let Some(asked) = questions.recv().await {
                tokio::time::sleep(pause).await;
                let _ = asked.reply.send(format!("{:?} of root: {}", asked.request, asked.root));
            }
        });
        (directory, path)
    }

    async fn ask_at(path: &Path, line: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn connections_that_say_nothing_keep_nobody_waiting() {
        let (_directory, path) = guard(Duration::ZERO);
        let root = rustix::process::getuid().is_root();
        let mut idle = Vec::new();
        for _ in 0..80 {
            idle.push(UnixStream::connect(&path).await.unwrap());
        }
        let begun = Instant::now();
        let answer = ask_at(&path, "\"may-promote\"\n").await;
        assert_eq!(answer, format!("MayPromote of root: {root}"));
        assert!(begun.elapsed() < CLIENT_LIMIT / 2, "{:?}", begun.elapsed());
        // They are put out, and more than may be there at once are turned away, and then it is as before.
        for _ in 0..2 * CONNECTIONS {
            idle.push(UnixStream::connect(&path).await.unwrap());
        }
        tokio::time::sleep(2 * CLIENT_LIMIT).await;
        assert_eq!(ask_at(&path, "\"status\"\n").await, format!("Status of root: {root}"));
    }

    #[tokio::test]
    async fn what_is_no_question_does_not_reach_the_loop() {
        let (_directory, path) = guard(Duration::ZERO);
        assert_eq!(ask_at(&path, "\"fence\"\n").await, "{\"error\":\"what?\"}");
        assert_eq!(ask_at(&path, &"x".repeat(256)).await, "{\"error\":\"what?\"}");
    }

    #[tokio::test]
    async fn a_loop_that_does_not_answer_ends_the_connection() {
        let (_directory, path) = guard(Duration::from_secs(60));
        assert_eq!(ask_at(&path, "\"status\"\n").await, "");
    }

    #[test]
    fn what_changes_something_is_for_root() {
        for (request, roots) in [
            (Request::Status, false),
            (Request::MayPromote, false),
            (Request::MayStart, true),
            (Request::Restart, true),
            (Request::TakeByForce, true),
            (Request::Rejoin { clone: false }, true),
            (Request::HandOver { to: "pg2".into() }, true),
        ] {
            assert_eq!(request.needs_root(), roots, "{request:?}");
        }
    }
}
