//! A lock on a host that lasts as long as the connection: a process there holds it, says so whenever it is asked, and
//! ends when it hears nothing for half a minute. A run that is killed leaves nothing behind, and one whose machine
//! vanished leaves it for that long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openssh::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, Lines};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::RemoteError;
use super::ssh::SshHost;
use crate::script;

/// How often the process is told that we are there. It waits for six of them.
pub const BEAT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the process may take to end when it is let go.
const END: Duration = Duration::from_secs(3);

/// What became of asking for it.
pub enum Begun {
    Held(Hold),
    /// Another has it.
    Busy {
        /// For how long that one has not been heard of.
        silent: Duration,
        /// What it has written down of itself.
        holder: String,
    },
}

/// Whether it is still held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    Held,
    /// Another took it away: what that one has written down.
    Taken(String),
    /// Nobody answers: why.
    Lost(String),
}

/// A lock that is held.
pub struct Hold {
    asks: mpsc::Sender<oneshot::Sender<Kept>>,
    task: JoinHandle<()>,
    known: Arc<Known>,
}

/// What is known of it without asking.
#[derive(Default)]
struct Known {
    is_lost: AtomicBool,
    /// Somebody else has it: it is lost, too.
    is_taken: AtomicBool,
}

impl Hold {
    /// Takes the lock of a host, with `holder` as what others read of us.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn begin(host: Arc<SshHost>, holder: String) -> Result<Begun, RemoteError> {
        let (begun, first) = oneshot::channel();
        let (asks, asked) = mpsc::channel(1);
        let known = Arc::<Known>::default();
        let lost = |message: &str| RemoteError::Lost {
            host: host.name.clone(),
            command: "lock",
            message: message.to_owned(),
        };
        let task = tokio::spawn(keep(host.clone(), holder, begun, asked, known.clone()));
        match first.await {
            Ok(First::Held) => Ok(Begun::Held(Hold { asks, task, known })),
            Ok(First::Busy { silent, holder }) => Ok(Begun::Busy { silent, holder }),
            Ok(First::Failed(why)) => Err(lost(&why)),
            Err(_) => Err(lost("it ended at once")),
        }
    }

    /// Asks the host whether it is still held.
    pub async fn check(&self) -> Kept {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(answer).await.is_err() {
            return Kept::Lost("its process has ended".into());
        }
        answered.await.unwrap_or_else(|_| Kept::Lost("its process has ended".into()))
    }

    /// Whether it is known to be lost, without asking.
    pub fn is_lost(&self) -> bool {
        self.known.is_lost.load(Ordering::Relaxed)
    }

    /// Whether it is known that somebody took it away, without asking.
    pub fn is_taken(&self) -> bool {
        self.known.is_taken.load(Ordering::Relaxed)
    }

    /// Lets it go, and waits until the host has.
    pub async fn release(self) {
        drop(self.asks);
        // A task that panicked holds nothing.
        let _ = self.task.await;
    }
}

enum First {
    Held,
    Busy { silent: Duration, holder: String },
    Failed(String),
}

async fn keep(
    host: Arc<SshHost>,
    holder: String,
    begun: oneshot::Sender<First>,
    mut asked: mpsc::Receiver<oneshot::Sender<Kept>>,
    known: Arc<Known>,
) {
    let mut words: Vec<&str> = if host.sudo { vec!["sudo", "-n", "--"] } else { Vec::new() };
    words.extend(["sh", "-c", script::HOLD, "sh", &holder]);
    let mut command = host.session.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn().await {
        Ok(child) => child,
        Err(error) => return drop(begun.send(First::Failed(error.to_string()))),
    };
    let (Some(mut stdin), Some(stdout)) = (child.stdin().take(), child.stdout().take()) else { return };
    let mut lines = BufReader::new(stdout).lines();
    let first = match line(&mut lines).await {
        Ok(Line::Held) => First::Held,
        Ok(Line::Busy { silent, holder }) => First::Busy { silent, holder },
        Ok(Line::Taken(_)) => First::Failed("it was taken away at once".into()),
        Err(why) => First::Failed(why),
    };
    let is_held = matches!(first, First::Held);
    if begun.send(first).is_err() || !is_held {
        return;
    }
    let mut kept = Kept::Held;
    loop {
        let answer = tokio::select! {
            asked = asked.recv() => match asked {
                Some(answer) => Some(answer),
                None => break,
            },
            () = tokio::time::sleep(BEAT), if kept == Kept::Held => None,
        };
        if kept == Kept::Held {
            kept = match stdin.write_all(b".").await {
                Err(error) => Kept::Lost(error.to_string()),
                Ok(()) => match line(&mut lines).await {
                    Ok(Line::Held) => Kept::Held,
                    Ok(Line::Taken(by) | Line::Busy { holder: by, .. }) => Kept::Taken(by),
                    Err(why) => Kept::Lost(why),
                },
            };
            known.is_lost.store(kept != Kept::Held, Ordering::Relaxed);
            known.is_taken.store(matches!(kept, Kept::Taken(_)), Ordering::Relaxed);
        }
        if let Some(answer) = answer {
            // Who asked may have stopped waiting.
            let _ = answer.send(kept.clone());
        }
    }
    drop(stdin);
    let _ = tokio::time::timeout(END, child.wait()).await;
}

enum Line {
    Held,
    Busy { silent: Duration, holder: String },
    Taken(String),
}

/// The next line of the script; what a login shell prints is not its.
async fn line(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> Result<Line, String> {
    let next = async {
        loop {
            let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? else {
                return Err("the connection ended".to_owned());
            };
            let mut fields = line.splitn(3, '\t');
            match (fields.next(), fields.next(), fields.next()) {
                (Some("cluster-held"), ..) => return Ok(Line::Held),
                (Some("cluster-busy"), Some(silent), Some(holder)) => {
                    let silent = Duration::from_secs(silent.parse().unwrap_or_default());
                    return Ok(Line::Busy { silent, holder: holder.to_owned() });
                }
                (Some("cluster-taken"), Some(by), _) => return Ok(Line::Taken(by.to_owned())),
                _ => {}
            }
        }
    };
    tokio::time::timeout(ANSWER, next)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER.as_secs())))
}
