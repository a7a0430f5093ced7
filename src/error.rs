//! Exit codes, and errors that carry a hint.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

use crate::screen::escaped;
use crate::visible::visible;

/// The exit codes of `cluster`, part of its interface (see `docs/exit-codes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for was done, or there was nothing to do.
    Done = 0,
    /// The run failed: a host, the API or a step returned an error. Running it again is safe.
    Failed = 1,
    /// The command line or the inventory is wrong; nothing was touched.
    Usage = 2,
    /// A precondition is not met: a foreign database, a missing token, a limit. Nothing was changed.
    Refused = 3,
    /// `status` found something wrong, or `plan --check` found something to do.
    Unhealthy = 4,
    /// Another run holds the cluster's lock.
    Locked = 5,
    /// Interrupted by the operator between two steps.
    Interrupted = 130,
}

impl Exit {
    /// `plan --exit-code` found something to do: the number that Terraform's `-detailed-exitcode` has for it.
    pub const CHANGES: Exit = Exit::Usage;

    /// What errors with this code are called in JSON.
    pub fn kind(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Refused => "refused",
            Exit::Unhealthy => "unhealthy",
            Exit::Locked => "locked",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error with a hint and an exit code.
#[derive(Debug)]
pub struct Advice {
    /// What went wrong, as a lowercase fragment.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code.
    pub exit: Exit,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Advice {}

impl Advice {
    /// A failure during a run.
    pub fn failed(message: impl Into<String>) -> Self {
        Advice { message: message.into(), hint: None, exit: Exit::Failed }
    }

    /// A mistake in the command line or the inventory.
    pub fn usage(message: impl Into<String>) -> Self {
        Advice { message: message.into(), hint: None, exit: Exit::Usage }
    }

    /// A precondition that is not met; nothing was changed.
    pub fn refused(message: impl Into<String>) -> Self {
        Advice { message: message.into(), hint: None, exit: Exit::Refused }
    }

    /// Several unmet preconditions, each with its hint.
    pub fn refused_for(reasons: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut reasons: Vec<(String, String)> = reasons.into_iter().collect();
        if reasons.len() == 1 {
            let (message, hint) = reasons.remove(0);
            return Advice::refused(message).hint(hint);
        }
        let mut message = format!("{} problems", reasons.len());
        for (reason, hint) in reasons {
            message.push_str(&format!("\n  {reason}\n    hint: {hint}"));
        }
        Advice::refused(message)
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// The first exit code named in the chain of `error`; `Failed` if there is none.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit).unwrap_or(Exit::Failed)
}

/// An error with another exit code, another hint, or warnings. It prints as the error that it is about: none of them is another
/// cause.
#[derive(Debug)]
struct Amended {
    error: anyhow::Error,
    exit: Option<Exit>,
    hint: Option<String>,
    warnings: Vec<String>,
}

impl Amended {
    fn of(error: anyhow::Error) -> Self {
        Amended { error, exit: None, hint: None, warnings: Vec::new() }
    }
}

impl fmt::Display for Amended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Amended {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error.as_ref())
    }
}

/// The same error, with another exit code.
pub fn with_exit(error: anyhow::Error, exit: Exit) -> anyhow::Error {
    Amended { exit: Some(exit), ..Amended::of(error) }.into()
}

/// The same error, with what was noticed before it and may be the reason.
pub fn with_warnings(error: anyhow::Error, warnings: Vec<String>) -> anyhow::Error {
    Amended { warnings, ..Amended::of(error) }.into()
}

/// The exit code of a cause. A token that the provider rejects changed nothing.
fn exit(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(amended) = cause.downcast_ref::<Amended>() {
        return amended.exit;
    }
    if let Some(advice) = cause.downcast_ref::<Advice>() {
        return Some(advice.exit);
    }
    match cause.downcast_ref::<cluster_cloud::Error>()? {
        cluster_cloud::Error::BaseUrl { .. } | cluster_cloud::Error::Token { .. } => Some(Exit::Refused),
        error if matches!(error.status(), Some(401 | 403)) => Some(Exit::Refused),
        _ => None,
    }
}

/// The hint of a cause.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(amended) = cause.downcast_ref::<Amended>() {
        return amended.hint.clone();
    }
    if let Some(wrong) = cause.downcast_ref::<cluster_lab::Wrong>() {
        return Some(wrong.hint.clone());
    }
    match cause.downcast_ref::<Advice>() {
        Some(advice) => advice.hint.clone(),
        None => cause.downcast_ref::<cluster_cloud::Error>()?.hint(),
    }
}

/// The first hint in the chain of `error`.
pub fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(hint)
}

/// Adds a hint to any error.
pub fn hinted(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    Amended { hint: Some(hint.into()), ..Amended::of(error.into()) }.into()
}

/// Adds the path of the log to the error of a failed run.
pub fn with_log(error: anyhow::Error, log: &std::path::Path) -> anyhow::Error {
    if exit_of(&error) != Exit::Failed || !log.exists() {
        return error;
    }
    hinted(error, format!("the full log is {}", log.display()))
}

/// The chain of `error`, outermost first, and its hints, innermost first.
fn told(error: &anyhow::Error) -> (Vec<String>, Vec<String>) {
    let mut causes: Vec<String> = Vec::new();
    let mut chain = error.chain().filter(|cause| !cause.is::<Amended>());
    while let Some(mut cause) = chain.next() {
        if cause.is::<reqwest::Error>() {
            // Four layers say that a request failed; the last one says why.
            cause = chain.by_ref().last().unwrap_or(cause);
        }
        causes.push(cause.to_string().trim_end().to_owned());
    }
    let mut hints: Vec<String> = error.chain().filter_map(hint).collect();
    hints.reverse();
    hints.dedup();
    (causes, hints)
}

fn warnings(error: &anyhow::Error) -> impl Iterator<Item = &str> {
    let amended = error.chain().filter_map(|cause| cause.downcast_ref::<Amended>());
    amended.flat_map(|amended| &amended.warnings).map(String::as_str)
}

/// The chain of `error` and its hints, as they are shown to a person: warnings, then one cause a line, hints last.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for warning in warnings(error) {
        text.push_str("warning: ");
        text.push_str(&visible(warning));
        text.push('\n');
    }
    let (causes, hints) = told(error);
    for (depth, cause) in causes.iter().enumerate() {
        let lead = if depth == 0 { "error: " } else { "  because: " };
        text.push_str(lead);
        text.push_str(&visible(cause));
        text.push('\n');
    }
    for hint in hints {
        text.push_str("hint: ");
        text.push_str(&visible(&hint));
        text.push('\n');
    }
    text
}

/// The same for a program: one JSON object in one line.
pub fn render_json(error: &anyhow::Error) -> String {
    let (causes, hints) = told(error);
    json_line(exit_of(error), &causes, &hints, warnings(error).collect())
}

/// A mistake in the command line, as clap tells it, for a program.
pub fn usage_json(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let message = paragraph.strip_prefix("error: ").unwrap_or(paragraph);
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).map(str::to_owned);
    json_line(Exit::Usage, &[message], hint.as_slice(), Vec::new())
}

/// An error, as programs read it.
#[derive(Serialize)]
struct ErrorJson<'a> {
    kind: &'static str,
    message: &'a str,
    because: &'a [String],
    hint: Option<String>,
    exit_code: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'a str>,
}

fn json_line(exit: Exit, causes: &[String], hints: &[String], warnings: Vec<&str>) -> String {
    let (message, because) =
        causes.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let hint = Some(hints.join("; ")).filter(|hint| !hint.is_empty());
    let error = ErrorJson { kind: exit.kind(), message, because, hint, exit_code: exit as u8, warnings };
    escaped(&serde_json::to_string(&error).expect("plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_after_the_whole_chain_and_the_inner_exit_code_counts() {
        let inner = Advice::refused("pg1 holds somebody else's database").hint("choose another host");
        let error = anyhow::Error::new(inner).context("cannot plan");
        assert_eq!(exit_of(&error), Exit::Refused);
        assert_eq!(
            render(&error),
            "error: cannot plan\n  because: pg1 holds somebody else's database\nhint: choose another host\n"
        );
        let json: serde_json::Value = serde_json::from_str(&render_json(&error)).unwrap();
        let wanted = serde_json::json!({
            "kind": "refused",
            "message": "cannot plan",
            "because": ["pg1 holds somebody else's database"],
            "hint": "choose another host",
            "exit_code": 3,
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn a_hint_is_no_cause_wherever_it_stands() {
        let inner = hinted(anyhow::anyhow!("the disk is full"), "make room");
        let outer = hinted(inner.context("pg1: cannot install"), "the log has more");
        assert_eq!(outer.to_string(), "pg1: cannot install");
        assert_eq!(
            render(&outer),
            "error: pg1: cannot install\n  because: the disk is full\nhint: make room\nhint: the log has more\n"
        );
        assert_eq!(exit_of(&outer), Exit::Failed);
        let refused = hinted(Advice::refused("no").hint("do"), "or do");
        assert_eq!((exit_of(&refused), hint_of(&refused).as_deref()), (Exit::Refused, Some("or do")));
    }

    #[test]
    fn warnings_come_before_the_error_and_in_its_json() {
        let error = with_warnings(Advice::usage("no").into(), vec!["look\x1b[2J".into()]);
        assert_eq!(render(&error), "warning: look\\x1b[2J\nerror: no\n");
        let json: serde_json::Value = serde_json::from_str(&render_json(&error)).unwrap();
        assert_eq!(
            (&json["warnings"], &json["message"]),
            (&serde_json::json!(["look\x1b[2J"]), &"no".into())
        );
        assert_eq!(exit_of(&error), Exit::Usage);
    }

    /// A failure in the middle of a run names its log; a refusal, which changed nothing, does not.
    #[test]
    fn a_failed_run_says_where_its_log_is() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let failed = render(&with_log(anyhow::anyhow!("pg1: no"), log.path()));
        assert_eq!(failed, format!("error: pg1: no\nhint: the full log is {}\n", log.path().display()));
        let refused = render(&with_log(Advice::refused("no").into(), log.path()));
        assert_eq!(refused, "error: no\n");
    }

    #[test]
    fn what_a_host_says_of_an_error_is_not_obeyed_by_the_terminal() {
        let inner = Advice::failed("pg1: \x1b]52;c;cm0=\x07").hint("\x1b[2J");
        let error = anyhow::Error::new(inner);
        assert_eq!(render(&error), "error: pg1: \\x1b]52;c;cm0=\\x07\nhint: \\x1b[2J\n");
        let json = render_json(&error);
        assert!(!json.chars().any(char::is_control), "{json}");
    }
}
