//! `cluster rejoin`: a node that was primary becomes a standby now. The guard does it; the command asks and watches, so
//! that it may be killed at any point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster_contract::request::Code;
use cluster_contract::status::JobKind;

use super::confirm::confirm;
use super::{declared, in_world, read};
use crate::control;
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::health::{Health, health};
use crate::inventory::{Role, Source};
use crate::poll::poll_until;
use crate::report::Format;
use crate::script;
use crate::world::World;
use crate::{data, screen, tell};

/// How long a rewound or cloned node may take to catch up; longer ones continue without the command.
const CATCH_UP: Duration = Duration::from_secs(300);

/// A standby that has just started, or whose primary is new, streams by then.
const STREAMS_WITHIN: Duration = Duration::from_secs(15);
/// A guard has heard of a primary by then, and has ended what it does.
const HEARS_WITHIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);

/// The options of a rejoin.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Clone instead of rewinding.
    pub(super) clone: bool,
    /// Skip the confirmation.
    pub(super) yes: bool,
}

pub(super) async fn run(source: &Source, node: &str, how: How, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    let node = node.to_owned();
    in_world(inventory, Format::beside_result(json), Some("rejoin"), |world| async move {
        let _lock = world.begin("rejoin")?;
        let begun = Instant::now();
        let to = match prepare(&world, &node, how).await? {
            Prepared::Streams(to) => to,
            Prepared::Ask(to) => {
                ask(&world, &node, how.clone).await?;
                watch(&world, &node, begun).await?;
                to
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        if json {
            screen::json(&serde_json::json!({"node": node, "primary": to, "seconds": seconds}))?;
        } else {
            data!("{node} streams from {to} ({seconds:.1} s)");
        }
        Ok(Exit::Done)
    })
    .await
}

enum Prepared {
    /// The node already streams from this primary.
    Streams(String),
    /// The guard has to be asked to rejoin this primary.
    Ask(String),
}

/// Refuses impossible rejoins.
async fn prepare(world: &Arc<World>, node: &str, how: How) -> Result<Prepared> {
    if declared(&world.inventory, node)?.role == Role::Witness {
        return Err(Advice::refused(format!("{node} is the witness and has no data to rejoin with"))
            .hint("`cluster up` takes care of the witness")
            .into());
    }
    let facts = world.observe_or_wait().await?;
    if let Some(why) = facts.hosts.get(node).and_then(crate::facts::Host::absence) {
        return Err(Advice::refused(format!("{node}: {why}")).hint("bring the node back first").into());
    }
    let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
    let Some(primary) = health.primary.clone() else {
        return Err(Advice::refused("no node takes writes: there is no primary to rejoin")
            .hint("`cluster status` shows why")
            .into());
    };
    if primary == node {
        return Err(Advice::refused(format!("{node} takes writes"))
            .hint("`cluster switchover` turns it into a standby")
            .into());
    }
    if facts.hosts.get(node).and_then(|host| host.up()).is_some_and(|host| host.keeps_data()) {
        tell!(
            "{node} took writes while {primary} was primary, and {primary} does not have them: they will be given up.\n\
             Their WAL is kept on {node} in /var/lib/cluster/kept; /var/lib/cluster/lost.json says how much it is."
        );
        confirm("node", node, how.yes, "its data is unchanged")?;
    }
    if !how.clone && comes_to_stream(world, node).await? {
        return Ok(Prepared::Streams(primary));
    }
    world.lock_cluster(&facts).await?;
    Ok(Prepared::Ask(primary))
}

fn streams(health: &Health, node: &str) -> bool {
    health.nodes.iter().any(|it| it.name == node && it.state == "streaming")
}

/// Whether a node streams, or is a standby that does in a moment: its guard would say that nothing is left but a clone.
async fn comes_to_stream(world: &Arc<World>, node: &str) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let (facts, health) = look(world).await?;
        let guard = facts.hosts.get(node).and_then(|host| host.up()?.guard.as_ref());
        let starts = guard.is_some_and(|guard| guard.job == Some(JobKind::Start));
        let is_standby = health.nodes.iter().any(|it| it.name == node && it.role == "standby");
        if streams(&health, node) || !(starts || is_standby) || begun.elapsed() >= STREAMS_WITHIN {
            return Ok(streams(&health, node));
        }
        world.report.progress(node, "it is a standby, and does not stream yet");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(world: &Arc<World>) -> Result<(Facts, Health)> {
    let facts = world.observe_or_remember().await?;
    let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
    Ok((facts, health))
}

async fn ask(world: &World, node: &str, clone: bool) -> Result<()> {
    let begun = Instant::now();
    let verdict = loop {
        let verdict = control::rejoin(world, node, clone).await?;
        // One that has taken over a moment ago is not believed yet, and a standby starts in a moment.
        if !matches!(verdict.code, Code::NoPrimary | Code::Busy) || begun.elapsed() >= HEARS_WITHIN {
            break verdict;
        }
        world.report.progress(node, &verdict.why);
        tokio::time::sleep(PAUSE).await;
    };
    if verdict.allowed {
        return Ok(());
    }
    let hint = match verdict.code {
        Code::Paused => "`cluster resume` ends the pause",
        Code::Busy | Code::NoPrimary | Code::TakesWrites => "see `cluster status`",
        _ if clone => "see `cluster status`",
        _ => "--clone replaces its data with a fresh clone and keeps the old data beside it",
    };
    Err(Advice::refused(format!("the guard of {node} refuses to rejoin: {}", verdict.why)).hint(hint).into())
}

/// Waits until the node streams, and reports its progress.
async fn watch(world: &Arc<World>, node: &str, begun: Instant) -> Result<()> {
    let mut ended = None;
    // The guard's own time-out ends it.
    let watched = poll_until(Duration::MAX, PAUSE, async || {
        let seconds = begun.elapsed().as_secs();
        // A guard that does not answer for a moment goes on all the same.
        let Ok(says) = control::status(world, node).await else { return Ok(None) };
        if let Some(job) = says.job {
            let copied = copied(world, node).await;
            world.report.progress(node, format!("{job}{copied} ({seconds} s)"));
            return Ok(None);
        }
        if let Some(trouble) = says.trouble {
            return Err(Advice::failed(format!("{node}: {trouble}"))
                .hint("`cluster rejoin --clone` replaces its data with a fresh clone; the old data is kept until the clone works")
                .into());
        }
        world.report.progress(node, format!("catching up ({seconds} s)"));
        if streams(&look(world).await?.1, node) {
            return Ok(Some(true));
        }
        Ok((ended.get_or_insert_with(Instant::now).elapsed() > CATCH_UP).then_some(false))
    });
    match watched.await {
        Ok(Some(true)) => Ok(()),
        Ok(_) => Err(Advice::failed(format!("{node} has rejoined but does not stream yet"))
            .hint("it continues by itself; follow it with `cluster status`")
            .into()),
        Err::<_, anyhow::Error>(error) => Err(error),
    }
}

/// How much data a clone has copied, in words.
async fn copied(world: &World, node: &str) -> String {
    let command = script::of_postgres(&world.inventory, "clone's size", script::CLONE_SIZE).limit(20);
    match world.run(node, &command, &|_| {}).await {
        Ok(output) if !output.stdout.trim().is_empty() => format!(": {} MiB cloned", output.stdout.trim()),
        _ => String::new(),
    }
}
