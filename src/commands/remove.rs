//! `cluster remove`: a node leaves a cluster that lives. Its vote goes first, then what runs on it, then what others
//! remember of it, then its server. Each part looks before it acts, so that a run that was killed is finished by the
//! next.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use owo_colors::OwoColorize as _;
use tokio_util::sync::CancellationToken;

use super::confirm::confirm;
use super::down::{self, ours};
use super::{declared, in_world, interruptible, read};
use crate::apply::{self, converge_by, unless_interrupted};
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::inventory::{Inventory, Node, Role, Source};
use crate::plan::removal;
use crate::plan::roles::{self, Primary};
use crate::remote::Command;
use crate::report::{Event, Format};
use crate::script;
use crate::tell;
use crate::world::World;

pub(super) async fn run(source: &Source, node: &str, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    let (node, file) = (declared(&inventory, node)?.clone(), source.file.display().to_string());
    in_world(inventory, Format::choose(json), Some("remove"), |world| async move {
        let _lock = world.begin("remove")?;
        world.end_connections();
        let facts = world.observe().await?;
        let means = world.means(&facts).await?;
        apply::refuse(&removal(&world.inventory, &facts, &means, &node))?;
        announce(&world.inventory, &facts, &node);
        confirm("node", &node.name, yes, "nothing was changed")?;
        let begun = Instant::now();
        let by = |inventory: &Inventory, facts: &Facts, means: &_, _| removal(inventory, facts, means, &node);
        let stop = interruptible();
        let outcome = converge_by(&world, &stop, by).await?;
        if let Some(trouble) = outcome.troubles.first() {
            let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            return Err(Advice::failed(format!("{place}{}", trouble.message)).hint(&trouble.hint).into());
        }
        world.lock_cluster(&outcome.facts).await?;
        let steps = outcome.steps + leave(&world, &outcome.facts, &node, &stop).await?;
        let text = format!(
            "{}: {} has been removed; delete it from `nodes` in {file}, or the next `up` adds it again",
            world.inventory.cluster, node.name
        );
        world.report.send(Event::Finished { steps, text, seconds: begun.elapsed().as_secs_f64() });
        Ok(Exit::Done)
    })
    .await
}

/// Announces the removal and what remains of the cluster.
fn announce(inventory: &Inventory, facts: &Facts, node: &Node) {
    let what = if node.role == Role::Witness { "the witness" } else { "a node with data" };
    tell!("{}, {what}, will be removed from cluster {}:", node.name.bold(), inventory.cluster.bold());
    match server(facts, node) {
        Some(id) => tell!("  its droplet {id} is deleted with everything on it"),
        None => tell!(
            "  PostgreSQL, repmgrd and cluster-node are stopped and disabled on it; data and packages are kept"
        ),
    }
    if let Some(why) = facts.hosts.get(&node.name).and_then(crate::facts::Host::absence) {
        tell!("  {why}: its services are not stopped, but it no longer has a vote");
    }
    let left = || inventory.nodes.iter().filter(|it| it.name != node.name);
    let names: Vec<&str> = left().map(|it| it.name.as_str()).collect();
    tell!("  remaining: {}", names.join(", "));
    if !left().any(|it| it.role != Role::Witness && Some(&it.name) != primary(inventory, facts).as_ref()) {
        tell!("  {}", "no standby remains: losing the primary means losing the cluster".yellow());
    } else if names.len() < 3 {
        tell!("  {}", "two nodes have no majority when one is lost: there is no automatic failover".yellow());
    }
}

pub(super) fn primary(inventory: &Inventory, facts: &Facts) -> Option<String> {
    match roles::primary(inventory, facts) {
        Primary::One(name) => Some(name),
        _ => None,
    }
}

fn server(facts: &Facts, node: &Node) -> Option<u64> {
    facts.cloud.as_ref()?.servers.get(&node.name).map(|server| server.id)
}

/// Stops, forgets and deletes a node that no longer has a vote; returns the number of steps.
async fn leave(world: &Arc<World>, facts: &Facts, node: &Node, stop: &CancellationToken) -> Result<usize> {
    unless_interrupted(stop)?;
    let mut steps = retire(world, facts, node).await?;
    unless_interrupted(stop)?;
    if let Some(id) = server(facts, node) {
        delete(world, id, "it no longer has a vote; run this again to delete the droplet").await?;
        steps += 1;
    }
    Ok(steps)
}

/// Stops a node that no longer has a vote, and takes what others remember of it; returns the number of steps.
pub(super) async fn retire(world: &Arc<World>, facts: &Facts, node: &Node) -> Result<usize> {
    let mut steps = 0;
    if let Some(host) = facts.hosts.get(&node.name).and_then(crate::facts::Host::up) {
        match ours(&world.inventory, facts, host) {
            Ok(halves) => {
                for half in halves {
                    world.report.progress(&node.name, "stopping its services");
                    world.run(&node.name, &down::stop(world, *half), &|_| {}).await?;
                }
                world.report.note(format!("{}: stopped and disabled", node.name));
                steps += 1;
            }
            Err(why) => world.report.note(format!("{}: {why}; left alone", node.name)),
        }
    }
    let primary = primary(&world.inventory, facts).context("no node takes writes")?;
    world.run(&primary, &forget(&world.inventory, node), &|_| {}).await?;
    world
        .report
        .note(format!("{primary}: repmgr's record and the replication slot of {} are deleted", node.name));
    Ok(steps + 1)
}

/// Deletes a server with everything on it.
pub(super) async fn delete(world: &World, id: u64, hint: &str) -> Result<()> {
    let Some(api) = &world.provider else { return Ok(()) };
    world.report.progress("provider", format!("deleting droplet {id}"));
    if let Err(errors) = api.delete_server(id).await {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Advice::failed(format!("cannot delete droplet {id}: {}", text.join("; ")))
            .hint(hint)
            .into());
    }
    world.state.remember(|memory| drop(memory.servers.remove(&id)))?;
    world.report.note(format!("provider: droplet {id} is deleted"));
    Ok(())
}

/// Takes what the primary remembers of a node: repmgr's record, which standbys and the witness copy, and its slot.
fn forget(inventory: &Inventory, node: &Node) -> Command {
    let sql = include_str!("remove.sql").replace("$id", &node.id.to_string());
    script::psql(inventory, "forget a node", "repmgr", sql).limit(60)
}
