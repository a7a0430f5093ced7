//! Hosts behind SSH: one master connection each, pinned host keys, and nothing of the operator's own ssh files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio as SshStdio};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};

use super::kept::{self, Kept};
use super::{ANOTHER_KEY, Command, Output, Remote, RemoteError};

/// Held on a host while a command runs that must be alone. Who can read a file can lock it, so it is root's alone.
const LOCK: &str = "/run/cluster.lock";
/// Makes the lock's file `$0`, and runs the rest.
const MAKE_LOCK: &str = r#"(umask 077; : >>"$0"); exec "$@""#;
/// What flock ends with when somebody holds the lock.
const BUSY: i32 = 75;
const BUSY_TEXT: &str = "75";

/// How long after a command's own limit its end is waited for: `timeout` kills it 10 s later, and what hangs on a disk
/// cannot be killed at all.
const GRACE: Duration = Duration::from_secs(20);

/// How long a connection that was kept may take to show that its host is still there. Another one takes its place then.
const PROOF_PATIENCE: Duration = Duration::from_secs(2);

/// How long ssh's master serves without being used, at least: between two steps it must not end.
const IDLE_SECONDS: usize = 30;

/// Printed before a script's first line. What comes before it is a login shell's, whose profile greets people.
const BEGIN: &str = "--- cluster begins ---";

/// How to reach the hosts of one cluster.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// The cluster's own `ssh_config`: host names, users, keys and known hosts.
    pub config: PathBuf,
    /// The connections of earlier runs, and where the sockets of this one's are.
    pub kept: Kept,
    /// The nodes on which commands run through `sudo -n`.
    pub sudo: BTreeSet<String>,
}

pub struct SshHost {
    pub(super) name: String,
    pub(super) session: Session,
    pub(super) sudo: bool,
    kept: Kept,
    /// What it is kept under.
    kept_as: String,
    /// Whether an earlier run has opened it; others may use it as well.
    is_found: bool,
    /// Whether the host has answered through it.
    is_proved: AtomicBool,
}

impl Ssh {
    /// A connection to the node `name`, which is a `Host` of the configuration: that of an earlier run, or a new one.
    ///
    /// # Errors
    /// [`RemoteError::Connect`], in ssh's own words.
    pub async fn connect(&self, name: &str, timeout: Duration) -> Result<SshHost, RemoteError> {
        let kept_as = kept::name(&self.config, name);
        let host = |session, is_found| SshHost {
            name: name.to_owned(),
            session,
            sudo: self.sudo.contains(name),
            kept: self.kept.clone(),
            kept_as: kept_as.clone(),
            is_found,
            is_proved: AtomicBool::new(!is_found),
        };
        if let Some(session) = self.kept.find(&kept_as) {
            return Ok(host(session, true));
        }
        let failed = |message: String| RemoteError::Connect { host: name.to_owned(), message };
        let mut builder = SessionBuilder::default();
        builder
            .config_file(&self.config)
            .known_hosts_check(KnownHosts::Strict)
            .connect_timeout(timeout)
            .server_alive_interval(Duration::from_secs(5))
            .control_directory(self.kept.directory());
        if let Ok(seconds) = self.kept.seconds().max(IDLE_SECONDS).try_into() {
            // A run that is killed leaves its master behind: not for long.
            builder.control_persist(ControlPersist::IdleFor(seconds));
        }
        match builder.connect_mux(name).await {
            Ok(session) => Ok(host(session, false)),
            Err(error) => Err(failed(words(&error))),
        }
    }
}

/// The innermost cause, without the noise that ssh puts around it.
fn words(error: &openssh::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| {
            !line.is_empty() && !line.starts_with('@') && !line.starts_with("Warning: Permanently")
        })
        .collect();
    if text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return format!("{ANOTHER_KEY}; it was reinstalled, or the connection is intercepted");
    }
    lines.join("; ")
}

impl Remote for SshHost {
    async fn run(
        &self,
        command: &Command,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Output, RemoteError> {
        let lost = |error: &dyn std::fmt::Display| RemoteError::Lost {
            host: self.name.clone(),
            command: command.label,
            message: error.to_string(),
        };
        let limit = command.limit.as_secs().to_string();
        let mut words: Vec<&str> = Vec::new();
        if self.sudo {
            words.extend(["sudo", "-n", "--preserve-env=SSH_CONNECTION", "--"]);
        }
        if command.alone {
            words.extend(["sh", "-c", MAKE_LOCK, LOCK, "flock", "-o", "-n", "-E", BUSY_TEXT, LOCK]);
        }
        // A dropped connection does not end a command: its own time limit does.
        let script = format!("echo '{BEGIN}'\n{}", command.script);
        words.extend(["timeout", "-k", "10", &limit, "sh", "-c", &script, "sh"]);
        words.extend(command.args.iter().map(String::as_str));
        let mut starting = self.session.command(words[0]);
        starting
            .args(&words[1..])
            .stdin(SshStdio::piped())
            .stdout(SshStdio::piped())
            .stderr(SshStdio::piped());
        // The host itself says that it starts.
        let started = if self.is_proved.load(Ordering::Relaxed) {
            starting.spawn().await
        } else {
            tokio::time::timeout(PROOF_PATIENCE, starting.spawn())
                .await
                .map_err(|_| lost(&"the host does not answer through the connection of an earlier run"))?
        };
        let mut child = started.map_err(|error| lost(&error))?;
        self.is_proved.store(true, Ordering::Relaxed);
        let mut stdin = child.stdin().take().expect("piped");
        let (stdout, stderr) = (child.stdout().take().expect("piped"), child.stderr().take().expect("piped"));
        let transcript = Mutex::new(String::new());
        let feed = async {
            // A command that does not read its input is no error here; its exit code says what happened.
            let _ = stdin.write_all(&command.stdin).await;
            let _ = stdin.shutdown().await;
            drop(stdin);
        };
        let ended = async {
            let ((), stdout, stderr) =
                tokio::join!(feed, collect(stdout, &transcript, line), collect(stderr, &transcript, line));
            (stdout, stderr, child.wait().await)
        };
        let patience = command.limit + GRACE;
        let Ok((stdout, stderr, status)) = tokio::time::timeout(patience, ended).await else {
            return Err(lost(&format!("no answer within {} s", patience.as_secs())));
        };
        let status = status.map_err(|error| lost(&error))?;
        match status.code() {
            Some(0) => Ok(Output { stdout: ours(&stdout).to_owned(), stderr }),
            Some(BUSY) if command.alone => Err(RemoteError::Busy { host: self.name.clone() }),
            code => Err(RemoteError::Failed {
                host: self.name.clone(),
                command: command.label,
                code: code.unwrap_or(255),
                output: ours(&transcript.into_inner().unwrap_or_default()).to_owned(),
            }),
        }
    }
}

/// What the script printed, without what the login shell did.
fn ours(printed: &str) -> &str {
    match printed.split_once(&format!("{BEGIN}\n")) {
        Some((_, ours)) => ours,
        None => printed,
    }
}

impl SshHost {
    /// Whether a command that is started now is started on the host: a master that has not been used for a while has
    /// ended, and the host of one that was kept may be gone.
    pub async fn is_alive(&self) -> bool {
        if !kept::is_alive(self.session.control_socket()) {
            return false;
        }
        if self.is_proved.load(Ordering::Relaxed) {
            return true;
        }
        let answer = tokio::time::timeout(PROOF_PATIENCE, self.session.command("true").status()).await;
        let is_proved = matches!(answer, Ok(Ok(_)));
        self.is_proved.store(is_proved, Ordering::Relaxed);
        is_proved
    }

    /// Whether connections are kept for the next run.
    pub fn is_kept(&self) -> bool {
        self.kept.seconds() > 0
    }

    /// Keeps the connection for the next run. Whether it is new.
    pub fn keep(self) -> bool {
        if !self.is_found {
            self.kept.keep(&self.kept_as, self.session);
        }
        !self.is_found
    }

    /// No other run finds the connection any more.
    pub fn forget(&self) {
        self.kept.forget(&self.kept_as);
    }

    /// Ends the connection that broke. One of an earlier run, which others may use at this moment, ends by itself.
    pub async fn close(self) {
        if !self.is_found {
            self.end().await;
        }
    }

    /// Ends the connection, whoever has opened it.
    pub async fn end(self) {
        self.forget();
        // A master that is gone already is as good.
        let _ = self.session.close().await;
    }
}

/// Reads a stream line by line, for the log and for the caller.
async fn collect(
    stream: impl AsyncRead + Unpin,
    transcript: &Mutex<String>,
    line: &(dyn Fn(&str) + Send + Sync),
) -> String {
    let mut lines = BufReader::new(stream);
    let mut text = String::new();
    let mut raw = Vec::new();
    loop {
        raw.clear();
        match lines.read_until(b'\n', &mut raw).await {
            Ok(0) | Err(_) => return text,
            Ok(_) => {
                let one = String::from_utf8_lossy(&raw);
                if one.trim_end() != BEGIN {
                    line(one.trim_end());
                }
                if let Ok(mut transcript) = transcript.lock() {
                    transcript.push_str(&one);
                }
                text.push_str(&one);
            }
        }
    }
}

/// Runs `ssh-keygen`, the one program that writes keys.
///
/// # Errors
/// When it is not installed, or says no.
pub async fn keygen(path: &Path, comment: &str) -> anyhow::Result<()> {
    let output = tokio::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| {
            crate::error::Advice::failed(format!("cannot run ssh-keygen: {error}"))
                .hint("apt-get install openssh-client")
        })?;
    anyhow::ensure!(
        output.status.success(),
        "ssh-keygen: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BEGIN, Kept, Ssh, ours};

    #[tokio::test]
    async fn a_host_whose_sshd_does_not_speak_in_time_is_slow_and_one_that_refuses_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let refuses = port(&std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let config = directory.path().join("ssh_config");
        let hosts = [("silent", port(&silent)), ("refuses", refuses)]
            .map(|(name, port)| format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n"));
        std::fs::write(&config, hosts.concat()).unwrap();
        let kept = Kept::new(directory.path().to_owned());
        let ssh = Ssh { config, kept, sudo: Default::default() };
        let error = |name| ssh.connect(name, Duration::from_secs(1));
        let silent = error("silent").await.err().unwrap();
        assert!(silent.is_slow(), "{silent}");
        let refuses = error("refuses").await.err().unwrap();
        assert!(!refuses.is_slow(), "{refuses}");
    }

    #[test]
    fn what_a_login_shell_prints_is_not_the_scripts() {
        assert_eq!(ours(&format!("Welcome to production\n{BEGIN}\nuid\t0\n")), "uid\t0\n");
        assert_eq!(ours("Please wait until the host is ready"), "Please wait until the host is ready");
    }
}
