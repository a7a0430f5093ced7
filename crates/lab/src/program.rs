//! Runs the programs that the lab is built from, and says what they said when they fail.

use std::ffi::OsStr;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs a program to its end and returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, or it ends with anything but zero: the error carries its standard error.
pub(crate) async fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    feed(program, arguments, "").await
}

/// Like [`run`], with this text on the program's standard input.
pub(crate) async fn feed<S: AsRef<OsStr>>(program: &str, arguments: &[S], input: &str) -> Result<String> {
    let output = output(program, arguments, input).await?;
    if !output.status.success() {
        bail!("{}", complaint(program, arguments, &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, whatever its exit code.
pub(crate) async fn output<S: AsRef<OsStr>>(program: &str, arguments: &[S], input: &str) -> Result<Output> {
    let mut child = command(program)
        .args(arguments)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run `{program}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input to the end says why on standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await.with_context(|| format!("cannot wait for `{program}`"))
}

/// A program that is looked for where root's are as well: a user's PATH often lacks those.
pub(crate) fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C.UTF-8");
    command
}

/// One line for the command and how it ended, then what it complained of.
pub(crate) fn complaint<S: AsRef<OsStr>>(program: &str, arguments: &[S], output: &Output) -> String {
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    format!("`{program} {}` failed ({}): {}", words.join(" "), output.status, said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_holds_the_command_and_what_it_said() {
        let error = run("sh", &["-c", "echo because >&2; exit 3"]).await.unwrap_err().to_string();
        assert!(error.contains("`sh -c") && error.contains("because") && error.contains('3'), "{error}");
        let error = run::<&str>("no-such-program", &[]).await.unwrap_err().to_string();
        assert_eq!(error, "cannot run `no-such-program`");
    }

    #[tokio::test]
    async fn input_reaches_the_program() {
        assert_eq!(feed("cat", &["-"], "hello").await.unwrap(), "hello");
    }
}
