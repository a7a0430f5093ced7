//! Steps that run on a host or wait for one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::{command, provider};
use crate::control;
use crate::error::{Advice, Exit, hinted};
use crate::facts::Facts;
use crate::handover::{chosen, hand_over};
use crate::plan::restore::{RestorePlace, repository};
use crate::plan::{Action, RestoreSource, RestoreTarget, Step};
use crate::remote::{Command, Output, RemoteError};
use crate::report::Event;
use crate::script;
use crate::world::World;

/// A server answers within a minute; one that has not after ten never will.
const REACH_DEADLINE: Duration = Duration::from_secs(600);
/// How often the provider is asked whether a server that does not answer is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long a reloading sshd may refuse connections.
const RELOAD_PATIENCE: Duration = Duration::from_secs(20);
/// cloud-init of a plain image needs a minute at most; user data of other tools may do more.
const CLOUD_INIT_SECONDS: u64 = 1200;

pub(super) async fn run(world: &Arc<World>, facts: &Facts, node: &str, step: &Step) -> Result<()> {
    match &step.action {
        Action::CreateServer => provider::create_server(world, facts, node).await,
        Action::AwaitServer { server } => provider::await_server(world, facts, *server).await,
        Action::RemakeServer { server } => provider::remake_server(world, facts, node, *server).await,
        Action::PowerOn { server } => {
            provider::power_on(world, facts, *server).await?;
            // Nobody would wait for it later: a host that was logged in to before and is silent counts as lost.
            reach(world, facts, node).await
        }
        Action::Resize { server, size, disk_gib, .. } => {
            provider::resize(world, facts, *server, size, *disk_gib, node).await?;
            reach(world, facts, node).await
        }
        Action::Switchover { to } => switch_over(world, node, to).await,
        Action::Reach => reach(world, facts, node).await,
        Action::ReplaceHostKey => replace_host_key(world, node).await,
        Action::Restore { target, source } => restore(world, node, target, source.as_ref()).await,
        action => {
            let command = command::of(&world.inventory, action, &world.program.bytes).with_context(|| {
                format!("`{}` depends on something that is not known yet", action.summary())
            })?;
            run_command(world, node, &command).await.map(drop)
        }
    }
}

/// Hands over to another node: it is over when the old primary is its standby.
async fn switch_over(world: &Arc<World>, from: &str, to: &str) -> Result<()> {
    let done = hand_over(world, chosen(world, Some(from), Some(to)).await?).await?;
    if let Some(trouble) = done.end.trouble {
        return Err(Advice::failed(format!("{to} took over, but not by an orderly hand-over: {trouble}"))
            .hint("`cluster explain` says whether any transactions were lost; run this again once `cluster status` is well")
            .into());
    }
    world.report.note(format!("{to} took over from {from} after {:.1} s", done.moved.as_secs_f64()));
    Ok(())
}

/// Restores the data of a cluster of which no server is left, or of another cluster.
async fn restore(
    world: &World,
    node: &str,
    target: &RestoreTarget,
    source: Option<&RestoreSource>,
) -> Result<()> {
    let Some(source) = source else { return restore_from(world, node, target, None).await };
    run_command(world, node, &command::open_source(source)).await?;
    let restored = restore_from(world, node, target, Some(source)).await;
    if restored.is_err() {
        // The restore itself does so at its end, and may not have begun.
        let _ = run_command(world, node, &command::close_source()).await;
    }
    restored
}

async fn restore_from(
    world: &World,
    node: &str,
    target: &RestoreTarget,
    source: Option<&RestoreSource>,
) -> Result<()> {
    let (config, stanza) = repository(&world.inventory.cluster, source);
    world.report.progress(node, "reading what can be restored");
    let contents = control::backups_alone(world, node, config, stanza).await?;
    let hint = "nothing was restored; run this again with another --to";
    // Servers have been created by now.
    let end = target.within(&contents).map_err(|out| out.refusal(target, hint).exit(Exit::Failed))?;
    let missing =
        contents.gaps.iter().filter(|gap| !gap.closed_by_backup && *target == RestoreTarget::Latest);
    for gap in missing {
        world.report.warning(format!(
            "{} WAL files from {} on are not in the archive: what was written after {end} is lost",
            gap.files, gap.from
        ));
    }
    let command = command::restore(&world.inventory, target, RestorePlace::New, source, end);
    let output = run_command(world, node, &command).await?;
    // Up to which transaction: who has lost everything wants to know that first.
    let last = output.stdout.lines().last().unwrap_or_default();
    world.report.note(format!("{node}: {last}"));
    Ok(())
}

/// What apt itself prints while another one runs.
const APT_WAITS: &str = "Waiting for cache lock";

/// Runs a command and reports the host's output.
pub(super) async fn run_command(world: &World, node: &str, command: &Command) -> Result<Output> {
    let tell = |text: &str| {
        if let Some(text) = text.strip_prefix("warning\t") {
            return world.report.warning(format!("{node}: {text}"));
        }
        // A script marks what a person wants to know: what it waits for, how far it has come.
        let news = text.strip_prefix("progress\t");
        let text = news.unwrap_or(text);
        world.report.send(Event::Output { lane: node.to_owned(), text: text.to_owned() });
        if news.is_some() || text.starts_with(APT_WAITS) {
            world.report.progress(node, text);
        }
    };
    world.run(node, &command.clone().alone(), &tell).await.map_err(explain)
}

/// Adds a hint to known errors.
fn explain(error: RemoteError) -> anyhow::Error {
    let RemoteError::Failed { output, code, command, .. } = &error else { return error.into() };
    let hint = if *command == command::TRY && *code == 1 {
        "correct postgresql.settings in the inventory; no node has received them"
    } else if *command == command::EXTEND && *code != 124 && *code != 137 {
        "correct `extensions` in the inventory; everything else of this run is done"
    } else if output.contains("No space left on device") || output.contains("don't have enough free space") {
        "the disk is full: free some space, or choose a larger size"
    } else if output.contains("Could not get lock") {
        "another program holds the apt lock; wait for it to finish, then run this again"
    } else if output.contains("Temporary failure resolving") || output.contains("Could not resolve") {
        "the host cannot resolve names: check its DNS and the firewall's outbound rules"
    } else if output.contains("Failed to fetch") || output.contains("Unable to locate package") {
        "check the host's apt sources and its outbound connectivity"
    } else if *code == 124 || *code == 137 {
        "the step timed out and was stopped; run this again to continue"
    } else {
        "run this again to continue from here; the log of this run has the host's full output"
    };
    hinted(error, hint)
}

/// Waits until SSH accepts a login and cloud-init has finished.
async fn reach(world: &World, facts: &Facts, node: &str) -> Result<()> {
    let begun = Instant::now();
    let mut looked = begun;
    let mut absent = 0;
    loop {
        let command = Command::new("wait for cloud-init", script::REACH).limit(CLOUD_INIT_SECONDS);
        let tell = |text: &str| {
            if !text.starts_with("ready-") {
                world.report.progress(node, text);
            }
            world.report.send(Event::Output { lane: node.to_owned(), text: text.to_owned() });
        };
        let why = match world.run(node, &command, &tell).await {
            Ok(output) if output.stdout.starts_with("ready-42") => return Ok(()),
            Ok(_) => "SSH accepts the login but does not run commands yet".to_owned(),
            Err(RemoteError::Connect { message, .. }) => message,
            // sshd restarts in the middle of many first boots.
            Err(error) => error.to_string(),
        };
        world.disconnect(node).await;
        if looked.elapsed() > LOOK_AGAIN {
            looked = Instant::now();
            absent = if provider::is_gone(world, facts, node).await { absent + 1 } else { 0 };
            // One such answer may be wrong.
            if absent > 1 {
                return Err(Advice::failed(format!(
                    "the droplet of {node} no longer exists at the provider"
                ))
                .hint("run this again to create another")
                .into());
            }
        }
        if begun.elapsed() > REACH_DEADLINE {
            return Err(Advice::failed(format!(
                "not reachable within {} s: {why}",
                REACH_DEADLINE.as_secs()
            ))
            .hint("check the host's console; run this again to keep waiting")
            .into());
        }
        world.report.progress(node, format!("{why} ({} s)", begun.elapsed().as_secs()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Replaces the host key that user data carried. Both keys are pinned while it is done, so that a run that is killed
/// in between still knows the host.
async fn replace_host_key(world: &World, node: &str) -> Result<()> {
    let made = run_command(world, node, &Command::new("make host key", script::HOST_KEY_MAKE)).await?;
    let key = made.stdout.trim().to_owned();
    if key.split(' ').count() != 2 || !key.starts_with("ssh-ed25519 ") {
        bail!("the host generated an invalid key: {key:?}");
    }
    let node = world.inventory.node(node).context("no such node")?;
    let mut both = world.pinned(node);
    if !both.contains(&key) {
        both.push(key.clone());
    }
    world.pin(node, &both)?;
    run_command(world, &node.name, &Command::new("use host key", script::HOST_KEY_USE)).await?;
    // The proof: a new connection, with the new key alone.
    world.pin(node, std::slice::from_ref(&key))?;
    world.disconnect(&node.name).await;
    // sshd starts itself anew when it reloads, and refuses connections for a moment.
    let begun = Instant::now();
    while let Err(error) = world.connect(&node.name).await {
        if begun.elapsed() > RELOAD_PATIENCE {
            world.pin(node, &both)?;
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.replaced(node, &key)
}
