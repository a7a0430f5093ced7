//! The first connection to hosts of which this machine may know nothing. A host shows its key before anybody logs in;
//! the login that follows signs with the operator's key and sends nothing else, and what is run reads what everybody on
//! the host may read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_contract::config::Config;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::{Contact, Expected, Known, Statement};
use crate::error::Advice;
use crate::inventory::Node;
use crate::plan::files::host_keys;
use crate::script;
use crate::world::World;

/// How long one connection may take, from the first packet to the statement.
const PATIENCE: Duration = Duration::from_secs(20);
/// ssh's own limit for connecting.
const CONNECT: &str = "ConnectTimeout=5";
/// The type of key that is pinned: every supported system makes one.
const TYPE: &str = "HostKeyAlgorithms=ssh-ed25519";

/// Asks all hosts with an address, at the same time. `given` are the keys or fingerprints of the command line.
///
/// # Errors
/// When ssh cannot be run.
pub async fn contacts(
    world: &Arc<World>,
    addresses: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Contact>> {
    let scratch = Arc::new(tempfile::tempdir().context("cannot create a temporary directory")?);
    let mut tasks = JoinSet::new();
    for node in &world.inventory.nodes {
        let (world, node, scratch) = (world.clone(), node.clone(), scratch.clone());
        let (given, has_address) = (given.get(&node.name).cloned(), addresses.contains_key(&node.name));
        tasks.spawn(async move {
            let asked = if has_address {
                contact(&world, &node, given, scratch.path()).await
            } else {
                Ok(Contact::Silent { why: "it has no droplet".into() })
            };
            asked.map(|contact| (node.name, contact))
        });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn contact(world: &World, node: &Node, given: Option<String>, scratch: &Path) -> Result<Contact> {
    let mut expected: Vec<Expected> =
        given.into_iter().map(|key| Expected { known: Known::CommandLine, key }).collect();
    let pinned = world.pinned(node);
    // As every command connects: only a key that is known passes.
    let output = ssh(world, &node.name, &[], script::STATEMENT).await?;
    if let Some(statement) = statement(&world.inventory.cluster, &output) {
        let (known, key) = match (&node.host_key, pinned.as_slice()) {
            (Some(key), _) => (Known::Inventory, Some(crate::world::keys::first_two_words(key))),
            (None, []) => (Known::OwnFiles, statement.own.clone()),
            (None, pinned) => {
                let own = statement.own.as_ref().filter(|own| pinned.contains(own));
                (Known::Pinned, Some(own.unwrap_or(&pinned[0]).clone()))
            }
        };
        let Some(key) = key else {
            return Ok(Contact::Silent {
                why: "it has no ed25519 host key: give the node its `host_key`".into(),
            });
        };
        expected.push(Expected { known, key: key.clone() });
        return Ok(Contact::Reached { key, expected, statement });
    }
    let why = words(&output);
    let is_unknown = why.contains("Host key verification failed") || why.contains("host key is known");
    if !is_unknown || node.reach.jump_in(&why).is_some() {
        return Ok(Contact::Silent { why });
    }
    if let Some(key) = &node.host_key {
        let key = crate::world::keys::first_two_words(key);
        expected.push(Expected { known: Known::Inventory, key });
    }
    expected.extend(pinned.into_iter().map(|key| Expected { known: Known::Pinned, key }));
    // The host shows its key; nobody logs in.
    let file = scratch.join(&node.name);
    let known = format!("UserKnownHostsFile={}", file.display());
    let alias = format!("HostKeyAlias={}", host_keys::alias(&world.inventory.cluster, &node.name));
    let own = [known.as_str(), alias.as_str(), "GlobalKnownHostsFile=/dev/null", "HashKnownHosts=no", TYPE];
    let shown = [&own[..], &["StrictHostKeyChecking=accept-new", "PreferredAuthentications=none"]].concat();
    let output = ssh(world, &node.name, &shown, "").await?;
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let Some(key) = host_keys::stated(&world.inventory.cluster, &text).remove(&node.name) else {
        return Ok(Contact::Silent { why: words(&output) });
    };
    // With that key and no other it is asked what it is.
    let output =
        ssh(world, &node.name, &[&own[..], &["StrictHostKeyChecking=yes"]].concat(), script::STATEMENT)
            .await?;
    Ok(match statement(&world.inventory.cluster, &output) {
        Some(statement) => Contact::Reached { key, expected, statement },
        None => Contact::Silent { why: words(&output) },
    })
}

/// Runs a script as the user who logs in: the host may be anybody's.
async fn ssh(world: &World, node: &str, options: &[&str], script: &str) -> Result<Output> {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(world.state.path("ssh_config"));
    for option in options.iter().chain(&["ControlPath=none", "ControlMaster=no", CONNECT]) {
        command.args(["-o", option]);
    }
    command.args([node, "sh -s"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        Advice::failed(format!("cannot run ssh: {error}")).hint("apt-get install openssh-client")
    })?;
    let mut stdin = child.stdin.take().context("ssh has a standard input")?;
    let answer = async {
        // A connection that is refused reads nothing.
        let _ = stdin.write_all(script.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(output) => Ok(output?),
        Err(_) => {
            let stderr = format!("no answer within {} s", PATIENCE.as_secs()).into_bytes();
            Ok(Output { status: std::process::ExitStatus::default(), stdout: Vec::new(), stderr })
        }
    }
}

/// ssh's reason, without what it puts around it.
fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['@', '|']));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("Warning: Permanently")).collect();
    match lines.as_slice() {
        [] => "its login runs no commands".to_owned(),
        [.., before, last] => format!("{before}; {last}"),
        [only] => (*only).to_owned(),
    }
}

/// What a host printed, if it is whole.
fn statement(cluster: &str, output: &Output) -> Option<Statement> {
    parse(cluster, &String::from_utf8_lossy(&output.stdout))
}

fn parse(cluster: &str, text: &str) -> Option<Statement> {
    let mut statement = Statement::default();
    let mut is_whole = false;
    for line in text.lines() {
        // A login shell may have greeted us first.
        let Some((name, value)) = line.split_once('\t') else { continue };
        match name {
            "own" => statement.own = Some(value.to_owned()).filter(|key| !key.is_empty()),
            "config" => {
                if let Ok(config) = serde_json::from_str::<Config>(value) {
                    (statement.cluster, statement.node) = (Some(config.cluster), Some(config.node));
                }
            }
            "marker" => statement.marker = serde_json::from_str(value).ok(),
            "keys" => {
                let text = STANDARD.decode(value).ok().and_then(|text| String::from_utf8(text).ok());
                statement.keys = host_keys::stated(cluster, &text.unwrap_or_default());
            }
            "end" => is_whole = true,
            _ => {}
        }
    }
    is_whole.then_some(statement)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_statement_counts_only_if_it_is_whole() {
        let keys = "ZGVtby1wZzEgc3NoLWVkMjU1MTkgQQpkZW1vLXBnMiBzc2gtZWQyNTUxOSBCCg==";
        let text = format!("Welcome\nown\tssh-ed25519 A\nconfig\t\nmarker\t\nkeys\t{keys}\n");
        assert_eq!(parse("demo", &text), None);
        let whole = parse("demo", &format!("{text}end\tok\n")).unwrap();
        assert_eq!(whole.own.as_deref(), Some("ssh-ed25519 A"));
        assert_eq!(whole.keys["pg2"], "ssh-ed25519 B");
        assert_eq!(whole.cluster, None);
    }
}
