//! `cluster switchover`: another node takes over, planned, and nothing acknowledged is lost.
//!
//! The command starts it and watches. The guards do it: the primary's stops PostgreSQL, makes sure that the heir has
//! the last byte, and hands the lease over. So a command that is killed changes nothing about how it ends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{declared_with_data, in_world, read};
use crate::control;
use crate::error::{Advice, Exit};
use crate::health::{Health, health};
use crate::poll::poll_until;
use crate::report::Format;
use crate::world::World;
use crate::{data, screen};

/// A shutdown waits for a checkpoint, the heir promotes within seconds; what is not done by then went wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// What was primary rejoins by itself; this long it is waited for, so that the end is told with redundancy back.
const REJOIN_PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn run(path: &Path, to: Option<String>, json: bool) -> Result<Exit> {
    let inventory = read(path)?;
    in_world(inventory, Format::beside_result(json), Some("switchover"), |world| async move {
        if let Some(to) = to.as_deref() {
            declared_with_data(&world.inventory, to)?;
        }
        let _lock = world.state.lock("switchover")?;
        let facts = world.observe_or_remember().await?;
        let before = health(&world.inventory, &facts, &world.public_addresses(&facts));
        // More than this to replay would make the gap in writes long, too.
        let (from, to) = choose(&before, to.as_deref(), world.inventory.failover.lag_limit_bytes)?;
        world.report.progress(&from, format!("stops, and hands over to {to}"));
        let begun = Instant::now();
        hand_over(&world, &from, &to).await?;
        let moved = wait_for(&world, &from, &to, begun).await?;
        let whole = wait_for_redundancy(&world, &from, begun).await;
        if json {
            screen::json(&serde_json::json!({
                "from": from, "to": to, "seconds": moved.as_secs_f64(),
                "redundant_after": whole.map(|it| it.as_secs_f64()),
            }))?;
            return Ok(if whole.is_some() { Exit::Done } else { Exit::Unhealthy });
        }
        data!("{to} takes writes ({:.1} s)", moved.as_secs_f64());
        match whole {
            Some(whole) => {
                data!("{from} streams from it ({:.1} s)", whole.as_secs_f64());
                Ok(Exit::Done)
            }
            None => {
                data!("{from} does not stream from it yet; `cluster status` says more");
                Ok(Exit::Unhealthy)
            }
        }
    })
    .await
}

/// Who hands over, and to whom.
fn choose(health: &Health, to: Option<&str>, most_lag: u64) -> Result<(String, String)> {
    if health.paused {
        return Err(Advice::refused("the cluster is paused: the standby would not promote")
            .hint("`cluster resume` ends the pause")
            .into());
    }
    let Some(from) = &health.primary else {
        return Err(Advice::refused("no node takes writes")
            .hint("`cluster status` says why; a switchover needs a primary that runs")
            .into());
    };
    let standbys: Vec<_> =
        health.nodes.iter().filter(|node| node.role == "standby" && node.state == "streaming").collect();
    let successor = match to {
        Some(name) => standbys.iter().find(|node| node.name == name),
        None => standbys.iter().min_by_key(|node| node.lag_bytes.unwrap_or(u64::MAX)),
    };
    let Some(successor) = successor else {
        let message = match to {
            Some(name) if name == from => format!("{name} takes writes already"),
            Some(name) => format!("{name} is not a standby that streams from {from}"),
            None => format!("no standby streams from {from}"),
        };
        return Err(Advice::refused(message).hint("`cluster status` shows who streams").into());
    };
    if let Some(lag) = successor.lag_bytes.filter(|lag| *lag > most_lag) {
        return Err(Advice::refused(format!("{} is {} MiB behind", successor.name, lag >> 20))
            .hint("wait until it has caught up; writes would stand still meanwhile")
            .into());
    }
    Ok((from.clone(), successor.name.clone()))
}

async fn hand_over(world: &World, from: &str, to: &str) -> Result<()> {
    let verdict = control::hand_over(world, from, to).await?;
    if verdict.allowed {
        return Ok(());
    }
    Err(Advice::refused(format!("the guard of {from} does not hand over: {}", verdict.why))
        .hint("it needs the lease, and so a majority of the nodes; `cluster status` shows who is there")
        .into())
}

/// Waits until `to` takes writes with the lease.
async fn wait_for(world: &World, from: &str, to: &str, begun: Instant) -> Result<Duration> {
    let moved = poll_until(PATIENCE, Duration::from_millis(300), async || {
        if control::status(world, to).await.is_ok_and(|successor| successor.leads()) {
            return Ok(Some(begun.elapsed()));
        }
        let Ok(old) = control::status(world, from).await else { return Ok(None) };
        if old.leads() && old.job.is_none() {
            let why = old.trouble.as_deref().unwrap_or("its guard does not say why");
            return Err(Advice::failed(format!("{from} has gone on as primary: {why}"))
                .hint("nothing is lost; mend that, and run this again"));
        }
        // One voter's grant is not a majority's.
        if let Some(other) = old.holder.filter(|other| other != from && other != to)
            && control::status(world, &other).await.is_ok_and(|it| it.holds)
        {
            return Err(Advice::failed(format!("{other} has taken over instead: {to} did not take up its term"))
                .hint(format!(
                    "nothing is lost; the journal of {to}'s guard says what kept it (`journalctl -u cluster-node`)"
                )));
        }
        Ok(None)
    });
    Ok(moved.await?.ok_or_else(|| {
        Advice::failed(format!("{to} does not take over within {} s", PATIENCE.as_secs()))
            .hint("the guards go on by themselves; `cluster status` says where it stands")
    })?)
}

/// Waits until what was primary streams from the new one; none if it does not in time.
async fn wait_for_redundancy(world: &Arc<World>, from: &str, begun: Instant) -> Option<Duration> {
    let whole = poll_until(REJOIN_PATIENCE, Duration::from_secs(1), async || {
        world.report.progress(from, "becomes a standby");
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let streams = health.nodes.iter().any(|node| node.name == from && node.state == "streaming");
        Ok::<_, anyhow::Error>(streams.then(|| begun.elapsed()))
    });
    whole.await.ok().flatten()
}
