//! How commands reach hosts. Everything (files, systemctl, psql, repmgr) goes through `Remote::run`.

pub mod command;
pub mod hold;
pub mod kept;
pub mod ssh;

pub use command::{Command, Output};

/// How the reason of a refused connection begins where the host's key is another one: a plan hints at what to do.
pub const ANOTHER_KEY: &str = "the host presents another key than the pinned one";

/// How ssh says that a host has taken the connection, and its sshd has not spoken in time: it is there, and slow.
const NO_BANNER: &str = "timed out during banner exchange";

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The host is unreachable, presents another key than the pinned one, or rejects the login.
    #[error("ssh to {host} failed: {message}")]
    Connect {
        host: String,
        /// ssh's message.
        message: String,
    },
    /// The connection broke while the command ran; it may have done its work.
    #[error("the connection to {host} was lost during `{command}`: {message}")]
    Lost {
        host: String,
        /// The command's label.
        command: &'static str,
        /// ssh's message.
        message: String,
    },
    /// Something that this program began is still running on the host; the command was not started.
    #[error("{host} is still running a command of an earlier run")]
    Busy { host: String },
    /// The command failed.
    #[error("`{command}` on {host} ended with exit code {code}{}", tail(.output))]
    Failed {
        host: String,
        /// The command's label.
        command: &'static str,
        /// Its exit code; 124 and 137 when its time was up.
        code: i32,
        /// The last lines that it printed.
        output: String,
    },
}

impl RemoteError {
    /// Whether the host is there and was only slow to answer.
    pub fn is_slow(&self) -> bool {
        matches!(self, RemoteError::Connect { message, .. } if message.contains(NO_BANNER))
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    last.iter().map(|line| format!("\n    | {line}")).collect()
}

/// A host on which commands can be run.
pub trait Remote: Send + Sync {
    /// Runs `command`, hands every line that it prints to `line`, and waits for its end.
    fn run(
        &self,
        command: &Command,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> impl Future<Output = Result<Output, RemoteError>> + Send;
}
