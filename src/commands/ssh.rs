//! `cluster ssh` and `cluster logs`: to the hosts as this program goes there, with its own keys and known hosts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinSet;

use super::{completions, declared, in_world, read};
use crate::data;
use crate::error::{Advice, Exit};
use crate::inventory::{Inventory, Node, Source};
use crate::report::Format;

/// `cluster ssh`.
#[derive(Debug, Args)]
pub struct SshArgs {
    /// The node
    #[arg(add = completions::nodes())]
    node: String,
    /// A command to run, after `--` [default: a shell]
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// `cluster logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Show only this node's journal
    #[arg(add = completions::nodes())]
    node: Option<String>,
    /// Start time in journalctl's format: `-15min`, `yesterday`, `2026-11-26 07:00`
    #[arg(long, value_name = "WHEN", default_value = "-1h", allow_hyphen_values = true)]
    since: String,
    /// Keep printing new entries
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(source: &Source, args: SshArgs) -> Result<Exit> {
    let inventory = read(source)?;
    declared(&inventory, &args.node)?;
    let config = way(inventory, std::slice::from_ref(&args.node)).await?;
    let error =
        std::process::Command::new("ssh").arg("-F").arg(config).arg(&args.node).args(args.command).exec();
    Err(Advice::failed(format!("cannot run ssh: {error}")).hint("apt-get install openssh-client").into())
}

/// An up-to-date SSH configuration for these nodes.
async fn way(inventory: Inventory, nodes: &[String]) -> Result<PathBuf> {
    let nodes = nodes.to_owned();
    in_world(inventory, Format::beside_result(false), None, |world| async move {
        let addresses = world.write_own_ssh_config().await?;
        match nodes.iter().find(|node| !addresses.contains_key(*node)) {
            None => Ok(std::path::absolute(world.state.path("ssh_config"))?),
            Some(node) => Err(Advice::refused(format!("{node} has no address"))
                .hint("`cluster status` shows the state of each node")
                .into()),
        }
    })
    .await
}

pub(super) async fn logs(source: &Source, args: LogsArgs) -> Result<Exit> {
    let inventory = read(source)?;
    let nodes: Vec<String> = match &args.node {
        Some(node) => vec![declared(&inventory, node)?.name.clone()],
        None => inventory.nodes.iter().map(|node| node.name.clone()).collect(),
    };
    let commands: BTreeMap<String, String> =
        inventory.nodes.iter().map(|node| (node.name.clone(), journalctl(&inventory, node, &args))).collect();
    let width = nodes.iter().map(String::len).max().unwrap_or_default();
    let config = way(inventory, if args.node.is_some() { &nodes } else { &[] }).await?;
    let mut tasks = JoinSet::new();
    for node in nodes {
        let (config, command, follow) = (config.clone(), commands[&node].clone(), args.follow);
        tasks.spawn(async move { (node.clone(), journal(&config, &node, &command, follow, width).await) });
    }
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (node, result) in tasks.join_all().await {
        match result {
            Ok(found) => lines.extend(found),
            Err(error) => failed.push(format!("{node}: {error:#}")),
        }
    }
    // Each begins with its time, and all clocks are read as UTC.
    lines.sort();
    for (time, text) in lines {
        data!("{time} {text}");
    }
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Advice::failed(failed.join("\n  and: "))
        .hint("`cluster status` shows which nodes are reachable")
        .into())
}

/// What runs on a node. The guard's watch is a unit of its own.
fn journalctl(inventory: &Inventory, node: &Node, args: &LogsArgs) -> String {
    let sudo = if inventory.ssh_user(node) == "root" { "" } else { "sudo -n " };
    let follow = if args.follow { " -f" } else { "" };
    format!(
        "{sudo}journalctl -q --no-pager --utc -o short-iso-precise -u cluster-node -u cluster-watch -u cluster-backup -u repmgrd \
         -u postgresql@{}-main --since {}{follow}",
        inventory.postgresql.version,
        quoted(&args.since)
    )
}

/// One word of a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The lines of one node's journal: time, and node and text. With `follow` they are printed as they come.
async fn journal(
    config: &Path,
    node: &str,
    command: &str,
    follow: bool,
    width: usize,
) -> Result<Vec<(String, String)>> {
    let mut child = tokio::process::Command::new("ssh")
        .arg("-F")
        .arg(config)
        .args([node, command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run ssh")?;
    let output = child.stdout.take().context("ssh has no output")?;
    let mut errors = BufReader::new(child.stderr.take().context("ssh has no output")?).lines();
    let said = tokio::spawn(async move {
        let mut last = String::new();
        while let Ok(Some(line)) = errors.next_line().await {
            last = line;
        }
        last
    });
    let mut reader = BufReader::new(output).lines();
    let mut found = Vec::new();
    while let Some(line) = reader.next_line().await? {
        let (time, text) = line.split_once(' ').unwrap_or(("", &line));
        // The host's own name says no more than the node's.
        let text = text.split_once(' ').map_or(text, |(_, rest)| rest);
        let text = format!("{node:<width$} {text}");
        if follow {
            data!("{time} {text}");
        } else {
            found.push((time.to_owned(), text));
        }
    }
    let (status, said) = (child.wait().await?, said.await.unwrap_or_default());
    if status.success() {
        return Ok(found);
    }
    let why = if said.is_empty() { status.to_string() } else { said };
    Err(Advice::failed(why.trim().to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("-15min; reboot"), "'-15min; reboot'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
