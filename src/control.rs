//! Requests to the guards, through `cluster-node` on their nodes.
//!
//! Commands, plans and drills all use this module to talk to a guard, so none of them imports another.

use anyhow::{Context as _, Result};
use cluster_contract::backup::{Contents, Proof};
use cluster_contract::journal::Line;
use cluster_contract::request::{Changed, Code, Verdict};
use cluster_contract::status::Status;

use crate::error::Advice;
use crate::remote::{Command, RemoteError};
use crate::script;
use crate::world::World;

fn ask(label: &'static str, words: &[&str], seconds: u64) -> Command {
    words.iter().fold(Command::new(label, script::ASK), |command, word| command.arg(*word)).limit(seconds)
}

/// The status that a node's guard reports.
///
/// # Errors
/// When the node is not reached, or its guard does not answer.
pub async fn status(world: &World, node: &str) -> Result<Status> {
    // Worded so that a program of every build answers in JSON.
    let output = world.run(node, &ask("guard", &["status", "--json"], 10), &|_| {}).await?;
    serde_json::from_str(&output.stdout).with_context(|| format!("cannot parse the answer of {node}'s guard"))
}

/// The last lines of a node's journal, oldest first; those that make no sense are left out.
///
/// # Errors
/// When the node is not reached.
pub async fn journal(world: &World, node: &str, lines: usize) -> Result<Vec<Line>, RemoteError> {
    let command = Command::new("journal", script::JOURNAL).arg(lines.to_string()).limit(20);
    let output = world.run(node, &command, &|_| {}).await?;
    Ok(output.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Asks the primary's guard to stop and hand over to `to`. The guards finish by themselves.
///
/// # Errors
/// When the node is not reached, or its guard does not answer.
pub async fn hand_over(world: &World, from: &str, to: &str) -> Result<Verdict, RemoteError> {
    verdict(world, from, &ask("hand over", &["hand-over", to], 20)).await
}

/// Asks a guard to take the lease without a majority and to promote.
///
/// # Errors
/// As [`hand_over`].
pub async fn take(world: &World, node: &str) -> Result<Verdict, RemoteError> {
    verdict(world, node, &ask("take", &["take"], 20)).await
}

/// Asks a guard to turn its node into a standby now; `clone` replaces the rewind.
///
/// # Errors
/// As [`hand_over`].
pub async fn rejoin(world: &World, node: &str, clone: bool) -> Result<Verdict, RemoteError> {
    let words: &[&str] = if clone { &["rejoin", "--clone"] } else { &["rejoin"] };
    verdict(world, node, &ask("rejoin", words, 20)).await
}

/// Pauses or resumes a node; returns whether that changed anything.
///
/// # Errors
/// When the node is not reached, or the wish cannot be made to last there.
pub async fn pause(world: &World, node: &str, pause: bool) -> Result<bool, RemoteError> {
    let word = if pause { "pause" } else { "resume" };
    let output = world.run(node, &ask(word, &[word], 20), &|_| {}).await?;
    Ok(changed(&output.stdout))
}

/// A backup may take days, a question of an unreachable repository minutes, and a list of a large archive an hour. A node
/// has limits of its own that are a little shorter.
const BACKUP_LIMIT_S: u64 = 2 * 86_400;
const REPOSITORY_LIMIT_S: u64 = 200;
const LIST_LIMIT_S: u64 = 2 * 3_600;

/// Takes a backup on the primary; returns what is in the repository afterwards.
///
/// # Errors
/// When the node is not reached, or the backup fails.
pub async fn backup(world: &World, node: &str, full: bool) -> Result<Contents> {
    let words: &[&str] = if full { &["backup", "take", "--full"] } else { &["backup", "take"] };
    backups_of(world, node, &ask("backup", words, BACKUP_LIMIT_S)).await
}

/// What is in the repository.
///
/// # Errors
/// When the node is not reached, or the repository cannot be read.
pub async fn backups(world: &World, node: &str) -> Result<Contents> {
    backups_of(world, node, &ask("list backups", &["backup", "list"], LIST_LIMIT_S)).await
}

/// What is in a repository of which no server is left: a node that is about to be restored from it looks.
///
/// # Errors
/// When the node is not reached, or the repository cannot be read.
pub async fn backups_alone(world: &World, node: &str, config: &str, stanza: &str) -> Result<Contents> {
    let words = ["backup", "list-alone", config, stanza];
    backups_of(world, node, &ask("list backups", &words, LIST_LIMIT_S)).await
}

/// Has the primary archive a WAL file and find it in the repository.
///
/// # Errors
/// When the node is not reached, or the repository does not work, in pgBackRest's words.
pub async fn check_repository(world: &World, node: &str) -> Result<()> {
    world.run(node, &ask("check the repository", &["backup", "check"], REPOSITORY_LIMIT_S), &|_| {}).await?;
    Ok(())
}

/// Proves a restore beside a standby; `line` gets what is done. One that has failed has a proof as well, which says why.
///
/// # Errors
/// When the node is not reached, or nothing was tried there.
pub async fn prove(world: &World, node: &str, line: &(dyn Fn(&str) + Send + Sync)) -> Result<Proof> {
    let command = Command::new("prove a restore", script::PROVE).limit(BACKUP_LIMIT_S);
    let is_result = |text: &str| text.starts_with('{');
    let told = |text: &str| {
        if !is_result(text) && !text.trim().is_empty() {
            line(text)
        }
    };
    let output = match world.run(node, &command, &told).await {
        Ok(output) => output.stdout,
        Err(RemoteError::Failed { code: 1, output, .. }) => output,
        Err(RemoteError::Failed { code: 2, .. }) => {
            return Err(Advice::refused(format!("the node program of {node} is of an earlier build"))
                .hint("`cluster up` brings this one")
                .into());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(result) = output.lines().rev().find(|text| is_result(text)) {
        return serde_json::from_str(result).with_context(|| format!("cannot parse the answer of {node}"));
    }
    let why = last(&output);
    let why = why.strip_prefix("cluster-node: ").unwrap_or(why);
    Err(Advice::failed(format!("{node} has proved no restore: {why}"))
        .hint("`cluster status` shows the nodes and the backups")
        .into())
}

async fn backups_of(world: &World, node: &str, command: &Command) -> Result<Contents> {
    let output = world.run(node, command, &|_| {}).await?;
    serde_json::from_str(last(&output.stdout)).with_context(|| format!("cannot parse the answer of {node}"))
}

async fn verdict(world: &World, node: &str, command: &Command) -> Result<Verdict, RemoteError> {
    match world.run(node, command, &|_| {}).await {
        Ok(output) => Ok(read(&output.stdout, true)),
        // 1 is a no. Everything else is no answer.
        Err(RemoteError::Failed { code: 1, output, .. }) => Ok(read(&output, false)),
        Err(error) => Err(error),
    }
}

/// The last line: what the program notes in the system's journal may come before it.
fn last(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

fn read(text: &str, allowed: bool) -> Verdict {
    serde_json::from_str(last(text)).unwrap_or_else(|_| {
        let why = text.trim().trim_start_matches(if allowed { "yes: " } else { "no: " });
        Verdict { allowed, code: Code::Unknown, why: why.to_owned() }
    })
}

fn changed(text: &str) -> bool {
    match serde_json::from_str::<Changed>(last(text)) {
        Ok(answer) => answer.changed,
        Err(_) => matches!(last(text), "paused" | "resumed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_both_builds_are_understood() {
        let json =
            r#"{"allowed":false,"code":"lease-held","why":"node 1 may hold the lease for another 3.0 s"}"#;
        let now = read(&format!("a note\n{json}\n"), false);
        assert!(!now.allowed && now.code.is_transient());
        let before = read("no: pg1 takes writes, as this guard hears\n", false);
        assert_eq!(before, Verdict::no(Code::Unknown, "pg1 takes writes, as this guard hears"));
        assert!(read("yes: hands over to pg2", true).allowed);

        for text in ["{\"changed\":true}", "paused: nothing is started\npaused\n", "resumed"] {
            assert!(changed(text), "{text}");
        }
        for text in ["{\"changed\":false}", "was paused already\n", "was not paused", ""] {
            assert!(!changed(text), "{text}");
        }
    }
}
