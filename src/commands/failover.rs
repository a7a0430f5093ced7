//! `cluster failover`: the guards fail over by themselves; by force a person does it where they cannot.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cluster_cloud::droplet::Power;
use cluster_contract::status::Status;
use cluster_contract::timing::Timing;
use owo_colors::OwoColorize as _;

use super::confirm::confirm;
use super::{declared_with_data, in_world, read};
use crate::cli::FailoverArgs;
use crate::control;
use crate::error::{Advice, Exit, hinted};
use crate::facts::{Facts, Host};
use crate::health::{Health, health};
use crate::poll::poll_until;
use crate::remote::RemoteError;
use crate::report::{Format, visible};
use crate::world::World;
use crate::{data, screen, tell};

/// A promotion replays what is there, which is little.
const PROMOTES_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(path: &Path, args: FailoverArgs, json: bool) -> Result<Exit> {
    let inventory = read(path)?;
    in_world(inventory, Format::beside_result(json), Some("failover"), |world| async move {
        let _lock = world.state.lock("failover")?;
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let Some(node) = args.node.as_deref().filter(|_| args.force) else {
            return Err(by_itself(&world, &facts, &health));
        };
        may_be_forced(&world, &facts, &health, node)?;
        let says = control::status(&world, node).await.with_context(|| format!("cannot ask the guard of {node}"))?;
        let off = droplets_to_switch_off(&world, &facts, node, args.no_power_off);
        tell!("{} is made primary by force:", node.bold());
        for consequence in consequences(&world, &facts, node, &says, &off) {
            tell!("  - {}", visible(&consequence));
        }
        confirm("node", node, args.yes, "nothing was changed")?;
        let begun = Instant::now();
        switch_off(&world, &off).await?;
        take(&world, node).await?;
        wait_for(&world, node).await?;
        let seconds = begun.elapsed().as_secs_f64();
        if json {
            screen::json(&serde_json::json!({"to": node, "forced": true, "seconds": seconds}))?;
        } else {
            data!("{node} takes writes by force ({seconds:.1} s)");
            data!("bring the others back where they reach {node}: they rejoin, and a majority then stands behind it");
        }
        Ok(Exit::Done)
    })
    .await
}

/// What a failover without force comes to: an explanation.
fn by_itself(world: &World, facts: &Facts, health: &Health) -> anyhow::Error {
    if let Some(primary) = &health.primary {
        return Advice::refused(format!("{primary} takes writes: there is nothing to fail over from"))
            .hint("`cluster switchover` lets another node take over, and loses nothing")
            .into();
    }
    if health.paused {
        return Advice::refused("no node takes writes, and the cluster is paused")
            .hint("`cluster resume`: the guards go on from there by themselves")
            .into();
    }
    let all = world.inventory.nodes.len();
    let majority = all / 2 + 1;
    let there = health.nodes.iter().filter(|node| node.guard.as_deref() == Some("active")).count();
    if there < majority {
        return Advice::refused(format!(
            "no node takes writes, and {there} of {all} guards can be reached: {majority} must agree on a new primary"
        ))
        .hint(
            "bring the missing nodes back, and the guards go on by themselves; if they are lost for good, \
             `cluster failover NODE --force` names what it may cost",
        )
        .into();
    }
    let mut waits = Vec::new();
    for node in world.inventory.data_nodes() {
        let guard = facts.hosts.get(&node.name).and_then(|host| host.up()?.guard.as_ref());
        if let Some(guard) = guard {
            waits.push(format!("{}: {}", node.name, guard.last_action.as_ref().unwrap_or(&guard.why)));
        }
    }
    Advice::refused(format!(
        "a majority of the guards is there, and does this by itself within seconds{}{}",
        if waits.is_empty() { "" } else { "; " },
        waits.join("; ")
    ))
    .hint(
        "`cluster status` in a few seconds; if every standby lacks more than failover.lag_limit, \
         `cluster failover NODE --force` gives up what it lacks",
    )
    .into()
}

/// Whether anything forbids it, whatever a person says.
fn may_be_forced(world: &World, facts: &Facts, health: &Health, node: &str) -> Result<()> {
    declared_with_data(&world.inventory, node)?;
    let writes: Vec<&str> =
        health.nodes.iter().filter(|it| it.role == "primary").map(|it| it.name.as_str()).collect();
    if !writes.is_empty() {
        return Err(Advice::refused(format!("{} takes writes", writes.join(" and ")))
            .hint("`cluster switchover` moves the primary; if that node must go, switch it off first")
            .into());
    }
    match facts.hosts.get(node).unwrap_or(&Host::Missing) {
        Host::Up(host) if host.paused() == Some(true) => {
            Err(Advice::refused(format!("{node} is paused, and would not promote"))
                .hint("`cluster resume` ends the pause")
                .into())
        }
        Host::Up(host) if host.guard.is_none() => {
            Err(Advice::refused(format!("the guard of {node} does not answer"))
                .hint("`systemctl status cluster-node` on the node says why; nothing is promoted past it")
                .into())
        }
        Host::Up(_) => Ok(()),
        host => {
            let why = host.absence().unwrap_or_default();
            Err(Advice::refused(format!("{node}: {why}")).hint("name a node that can be reached").into())
        }
    }
}

/// A droplet of a data node that cannot be reached and that may still run.
struct Droplet {
    node: String,
    id: u64,
}

fn droplets_to_switch_off(world: &World, facts: &Facts, node: &str, leave: bool) -> Vec<Droplet> {
    // Without the API nothing can be switched off; what that may cost is said.
    let Some(cloud) = facts.cloud.as_ref().filter(|cloud| !leave && cloud.remembered.is_none()) else {
        return Vec::new();
    };
    let silent = |name: &str| matches!(facts.hosts.get(name), Some(Host::Unreachable { .. }));
    world
        .inventory
        .data_nodes()
        .filter(|it| it.name != node && silent(&it.name))
        .filter_map(|it| Some(Droplet { node: it.name.clone(), id: cloud.droplets.get(&it.name)?.id }))
        .collect()
}

/// What it may cost, in words.
fn consequences(world: &World, facts: &Facts, node: &str, says: &Status, off: &[Droplet]) -> Vec<String> {
    let mut list = vec![missing_wal(says)];
    for other in world.inventory.data_nodes().filter(|it| it.name != node) {
        let name = &other.name;
        match facts.hosts.get(name).unwrap_or(&Host::Missing) {
            Host::Unreachable { why, .. } => {
                let switched = off.iter().any(|droplet| droplet.node == *name);
                list.push(if switched {
                    format!("{name} cannot be reached ({why}) and its droplet is on: it is switched off first")
                } else {
                    format!(
                        "{name} cannot be reached ({why}). If it still runs it may still take writes: make sure that \
                         it does not, or one side's writes will be given up"
                    )
                });
            }
            Host::Off => list.push(format!(
                "{name} is off. What it had and {node} never got is set aside when it rejoins"
            )),
            Host::Missing => {}
            Host::Up(host) => {
                let theirs = host.guard.as_ref().and_then(|guard| guard.position);
                if theirs.zip(says.position).is_some_and(|(theirs, mine)| theirs > mine) {
                    list.push(format!(
                        "{name} can be reached and has MORE WAL than {node}: it is the better choice"
                    ));
                }
            }
        }
    }
    list.push(format!(
        "until a majority of the nodes is back nothing fails over from {node}, and it does not stop when it is cut off"
    ));
    list.push(format!(
        "nodes that come back and reach {node} become its standbys; if a majority of them comes back and does NOT \
         reach it, it makes a primary of its own, and {node} stops when it hears of that"
    ));
    list
}

/// What the node lacks of what the last primary reported.
fn missing_wal(says: &Status) -> String {
    match (says.position, says.report.map(|report| report.position)) {
        (Some(mine), Some(reported)) if reported > mine => {
            let lacks = if reported.timeline == mine.timeline {
                format!("at least {} bytes", reported.lsn - mine.lsn)
            } else {
                "a promotion and all that followed it".to_owned()
            };
            format!(
                "it has WAL up to {mine}, and the last primary had reported {reported}: {lacks} will be lost, and \
                 whatever was committed after that report"
            )
        }
        (Some(mine), Some(_)) => format!(
            "it has WAL up to {mine}, which is all that the last primary had reported to it; what was committed after \
             that and never reached it will be lost"
        ),
        _ => "how much WAL it lacks cannot be told; what it never got will be lost".to_owned(),
    }
}

async fn switch_off(world: &Arc<World>, off: &[Droplet]) -> Result<()> {
    let Some(client) = world.cloud.as_ref().filter(|_| !off.is_empty()) else { return Ok(()) };
    for droplet in off {
        world.report.progress(&droplet.node, "is switched off");
        client.power(droplet.id, Power::Off, world.pace).await.map_err(|error| {
            let error = anyhow::Error::new(error);
            hinted(
                error.context(format!("cannot switch the droplet of {} off", droplet.node)),
                "nothing was promoted; `--no-power-off` goes on without, if you know that it is lost",
            )
        })?;
    }
    Ok(())
}

/// Tells the guard, again while it refuses for what passes.
async fn take(world: &World, node: &str) -> Result<()> {
    let failover = world.inventory.failover;
    let timing = Timing::new(failover.lease_ms, failover.lag_limit_bytes, world.inventory.nodes.len())?;
    let (patience, pause) = (Duration::from_millis(2 * timing.voter_wait()), Duration::from_secs(1));
    let mut why = String::new();
    let taken = poll_until(patience, pause, async || {
        let verdict = control::take(world, node).await?;
        if !verdict.allowed && verdict.code.is_transient() {
            world.report.progress(node, &verdict.why);
            why = verdict.why;
            return Ok::<_, RemoteError>(None);
        }
        Ok(Some(verdict))
    });
    match taken.await? {
        Some(verdict) if verdict.allowed => return Ok(()),
        Some(verdict) => why = verdict.why,
        None => {}
    }
    Err(Advice::refused(format!("the guard of {node} refuses: {why}"))
        .hint("`cluster status` says who is there")
        .into())
}

async fn wait_for(world: &World, node: &str) -> Result<()> {
    let mut trouble = None;
    let found = poll_until(PROMOTES_WITHIN, Duration::from_millis(300), async || {
        let says = control::status(world, node).await.ok();
        let leads = says.as_ref().is_some_and(Status::leads);
        trouble = says.and_then(|says| says.trouble).or(trouble.take());
        Ok::<_, anyhow::Error>(leads.then_some(()))
    });
    if found.await?.is_some() {
        return Ok(());
    }
    let why = trouble.map_or(String::new(), |why| format!(": {why}"));
    Err(Advice::failed(format!("{node} holds by force and does not take writes yet{why}"))
        .hint("its guard goes on trying; `cluster status` says where it stands")
        .into())
}
