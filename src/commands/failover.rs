//! `cluster failover`: the guards fail over by themselves; by force a person does it where they cannot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cluster_contract::request::Code;
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
use crate::inventory::Source;
use crate::poll::poll_until;
use crate::remote::RemoteError;
use crate::report::{Format, visible};
use crate::world::World;
use crate::{data, screen, tell};

/// A promotion replays only the WAL already received, which is little.
const PROMOTES_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn run(source: &Source, args: FailoverArgs, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), Some("failover"), |world| async move {
        let _lock = world.begin("failover")?;
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let Some(node) = args.node.as_deref().filter(|_| args.force) else {
            return Err(why_not_forced(&world, &facts, &health));
        };
        may_be_forced(&world, &facts, &health, node)?;
        let says = control::status(&world, node).await.with_context(|| format!("cannot query the guard of {node}"))?;
        let off = servers_to_switch_off(&world, &facts, node, args.no_power_off);
        tell!("{} will be forced to become primary:", node.bold());
        for consequence in consequences(&world, &facts, node, &says, &off) {
            tell!("  - {}", visible(&consequence));
        }
        confirm("node", node, args.yes, "nothing was changed")?;
        world.lock_cluster(&facts).await?;
        let begun = Instant::now();
        let off = still_silent(&world, off).await?;
        switch_off(&world, &off).await?;
        take(&world, node).await?;
        wait_for(&world, node).await?;
        let seconds = begun.elapsed().as_secs_f64();
        if json {
            screen::json(&serde_json::json!({"to": node, "forced": true, "seconds": seconds}))?;
        } else {
            data!("{node} takes writes, by force ({seconds:.1} s)");
            data!("bring the other nodes back where they can reach {node}: they rejoin, and a majority then grants it the lease");
        }
        Ok(Exit::Done)
    })
    .await
}

/// Explains why a failover does not happen, or will happen by itself.
fn why_not_forced(world: &World, facts: &Facts, health: &Health) -> anyhow::Error {
    if let Some(primary) = &health.primary {
        return Advice::refused(format!("{primary} takes writes: there is nothing to fail over from"))
            .hint("to move the primary without losing a write, use `cluster switchover`")
            .into();
    }
    if health.paused {
        return Advice::refused("no node takes writes, and the cluster is paused")
            .hint("run `cluster resume`; the guards then continue by themselves")
            .into();
    }
    let all = world.inventory.nodes.len();
    let majority = all / 2 + 1;
    let there = health.nodes.iter().filter(|node| node.guard.as_deref() == Some("active")).count();
    if there < majority {
        return Advice::refused(format!(
            "no node takes writes, and {there} of {all} guards are reachable; electing a primary takes {majority}"
        ))
        .hint(
            "bring the missing nodes back and the guards continue by themselves; if they are lost for good, \
             `cluster failover NODE --force` lists what may be lost and asks",
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
        "a majority of the guards is up and fails over by itself within seconds{}{}",
        if waits.is_empty() { "" } else { "; " },
        waits.join("; ")
    ))
    .hint(
        "run `cluster status` in a few seconds; if every standby lags by more than failover.lag_limit, \
         `cluster failover NODE --force` gives up the missing transactions",
    )
    .into()
}

/// Refuses a forced failover that is never allowed.
fn may_be_forced(world: &World, facts: &Facts, health: &Health, node: &str) -> Result<()> {
    declared_with_data(&world.inventory, node)?;
    let writes: Vec<&str> =
        health.nodes.iter().filter(|it| it.role == "primary").map(|it| it.name.as_str()).collect();
    if !writes.is_empty() {
        return Err(Advice::refused(format!("{} takes writes", writes.join(" and ")))
            .hint("use `cluster switchover`; if that node must be replaced, power it off first")
            .into());
    }
    match facts.hosts.get(node).unwrap_or(&Host::Missing) {
        Host::Up(host) if host.paused() == Some(true) => {
            Err(Advice::refused(format!("{node} is paused and would not promote"))
                .hint("`cluster resume` ends the pause")
                .into())
        }
        Host::Up(host) if host.guard.is_none() => {
            Err(Advice::refused(format!("the guard of {node} does not answer"))
                .hint("only the guard can promote; see `cluster logs {node}`")
                .into())
        }
        Host::Up(_) => Ok(()),
        host => {
            let why = host.absence().unwrap_or_default();
            Err(Advice::refused(format!("{node}: {why}")).hint("name a reachable node").into())
        }
    }
}

/// The server of an unreachable data node that may still be running.
struct Server {
    node: String,
    id: u64,
}

fn servers_to_switch_off(world: &World, facts: &Facts, node: &str, leave: bool) -> Vec<Server> {
    // Without the API nothing can be switched off; what that may cost is said.
    let Some(cloud) = facts.cloud.as_ref().filter(|cloud| !leave && cloud.remembered.is_none()) else {
        return Vec::new();
    };
    let silent = |name: &str| matches!(facts.hosts.get(name), Some(Host::Unreachable { .. }));
    world
        .inventory
        .data_nodes()
        .filter(|it| it.name != node && silent(&it.name))
        .filter_map(|it| Some(Server { node: it.name.clone(), id: cloud.servers.get(&it.name)?.id }))
        .collect()
}

/// Of the servers that are to be switched off, those that still say nothing. A host that was slow to answer, or has come back, may
/// take writes.
async fn still_silent(world: &World, off: Vec<Server>) -> Result<Vec<Server>> {
    let mut silent = Vec::new();
    for server in off {
        world.report.progress(&server.node, "is asked once more before it is powered off");
        let host = world.ask_again(&server.node).await;
        let Some(up) = host.up() else {
            silent.push(server);
            continue;
        };
        match &up.postgres {
            Some(postgres) if !postgres.in_recovery => {
                let message =
                    format!("{} answers after all, and takes writes; nothing was changed", server.node);
                let hint =
                    "`cluster status` shows the cluster; if the node must be replaced, power it off first";
                return Err(Advice::refused(message).hint(hint).into());
            }
            // It may be a primary that hangs.
            None if up.postgres_error.is_some() => silent.push(server),
            _ => world.report.note(format!(
                "{} answers after all, and takes no writes: it is not powered off",
                server.node
            )),
        }
    }
    Ok(silent)
}

/// What a forced failover may cost, in words.
fn consequences(world: &World, facts: &Facts, node: &str, says: &Status, off: &[Server]) -> Vec<String> {
    let mut list = vec![missing_wal(says)];
    for other in world.inventory.data_nodes().filter(|it| it.name != node) {
        let name = &other.name;
        match facts.hosts.get(name).unwrap_or(&Host::Missing) {
            Host::Unreachable { why, .. } => {
                let switched = off.iter().any(|server| server.node == *name);
                list.push(if switched {
                    format!("{name} is unreachable ({why}) and its droplet is on: the droplet is powered off first")
                } else {
                    format!(
                        "{name} is unreachable ({why}). If it is still running, it may still take writes: make sure that \
                         it does not, or the writes of one side will be given up"
                    )
                });
            }
            Host::Off => list.push(format!(
                "{name} is off. Transactions that {node} never received are set aside when {name} rejoins"
            )),
            Host::Missing => {}
            Host::Up(host) => {
                let theirs = host.guard.as_ref().and_then(|guard| guard.position);
                if theirs.zip(says.position).is_some_and(|(theirs, mine)| theirs > mine) {
                    list.push(format!(
                        "{name} is reachable and has MORE WAL than {node}: it is the better choice"
                    ));
                }
            }
        }
    }
    list.push(format!(
        "until a majority of the nodes is back, there is no failover from {node}, and it is not fenced when it is cut off"
    ));
    list.push(format!(
        "nodes that come back and reach {node} become its standbys; if a majority comes back and does NOT \
         reach it, that majority elects a primary of its own, and {node} stops once it hears of it"
    ));
    list
}

/// The WAL that the node is missing, compared to the last primary's report.
fn missing_wal(says: &Status) -> String {
    match (says.position, says.report.map(|report| report.position)) {
        (Some(mine), Some(reported)) if reported > mine => {
            let lacks = if reported.timeline == mine.timeline {
                format!("at least {} bytes", reported.lsn - mine.lsn)
            } else {
                "a promotion and everything after it".to_owned()
            };
            format!(
                "it has WAL up to {mine}, and the last primary reported {reported}: {lacks} will be lost, plus \
                 anything committed after that report"
            )
        }
        (Some(mine), Some(_)) => format!(
            "it has WAL up to {mine}, everything that the last primary reported to it; anything committed after \
             that report and never received will be lost"
        ),
        _ => "how much WAL it is missing is unknown; whatever it never received will be lost".to_owned(),
    }
}

async fn switch_off(world: &Arc<World>, off: &[Server]) -> Result<()> {
    let Some(api) = world.provider.as_ref().filter(|_| !off.is_empty()) else { return Ok(()) };
    for server in off {
        world.report.progress(&server.node, "powering off");
        api.power_off(server.id).await.map_err(|error| {
            hinted(
                error.context(format!("cannot power off the droplet of {}", server.node)),
                "nothing was promoted; if you know that the node is lost, use --no-power-off",
            )
        })?;
    }
    Ok(())
}

/// Asks the guard to take the lease, again while its refusal is temporary.
async fn take(world: &World, node: &str) -> Result<()> {
    let failover = world.inventory.failover;
    let timing = Timing::new(failover.lease_ms, failover.lag_limit_bytes, world.inventory.nodes.len())?;
    let (patience, pause) = (Duration::from_millis(2 * timing.voter_wait()), Duration::from_secs(1));
    let mut why = String::new();
    let taken = poll_until(patience, pause, async || {
        let verdict = control::take(world, node).await?;
        // Others are switched off by now: what this node is about to end is waited for, too.
        let is_soon_over = matches!(verdict.code, Code::Busy | Code::NoPosition);
        if !verdict.allowed && (verdict.code.is_transient() || is_soon_over) {
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
        .hint("`cluster status` shows which nodes are up")
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
    Err(Advice::failed(format!("{node} holds the lease by force and does not take writes yet{why}"))
        .hint("its guard keeps trying; follow it with `cluster status`")
        .into())
}
