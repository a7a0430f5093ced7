//! A command as a value: it can be printed, compared and tested without a host.

use std::fmt;
use std::time::Duration;

/// A script that runs on a host as root. Values reach it as arguments or on standard input, never as text of the
/// script; secrets on standard input alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// What it is called in messages.
    pub label: &'static str,
    /// The script, for `sh`.
    pub script: &'static str,
    /// `$1` and so on.
    pub args: Vec<String>,
    pub stdin: Vec<u8>,
    /// It is killed on the host after this long.
    pub limit: Duration,
    /// It runs only while nothing else of this program runs on the host: what a killed run began goes on there.
    pub alone: bool,
    /// It changes nothing: where its answer stays away, it may be asked for again.
    pub looks: bool,
}

impl Command {
    /// A command with a minute to run.
    pub fn new(label: &'static str, script: &'static str) -> Self {
        Command {
            label,
            script,
            args: Vec::new(),
            stdin: Vec::new(),
            limit: Duration::from_secs(60),
            alone: false,
            looks: false,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Runs only while nothing else of this program runs on the host.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Changes nothing.
    #[must_use]
    pub fn looks(mut self) -> Self {
        self.looks = true;
        self
    }

    /// Sets how long it may run.
    #[must_use]
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }
}

/// Standard input may be a secret.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.label, self.args.join(", "))
    }
}

/// What a command that succeeded printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}
