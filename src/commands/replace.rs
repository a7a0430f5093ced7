//! `cluster replace`: a node that is dead or on the wrong host is made anew on another one, under its name and id.
//!
//! At a provider the new server is there, reached and with its packages before the old one's vote is taken, and the old
//! one is deleted when the new one streams. The servers' names say how far it has come, so that a run that was killed is
//! finished by the next: `pg2.new` beside `pg2` is being made ready, `pg2.old` beside `pg2` waits to be deleted.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use owo_colors::OwoColorize as _;
use tokio_util::sync::CancellationToken;

use super::confirm::confirm;
use super::{declared, in_world, interruptible, read, remove};
use crate::apply::{self, converge, converge_by, unless_interrupted};
use crate::error::{Advice, Exit};
use crate::facts::{Facts, Host};
use crate::inventory::{Inventory, Node, Provider, Role, Source};
use crate::plan::members::Configuration;
use crate::plan::replace::{NEW, OLD, prepare, stand_in, with_stand_in};
use crate::plan::{Means, TroubleKind, removal, unfit};
use crate::report::{Event, Format};
use crate::tell;
use crate::world::World;

pub(super) async fn run(source: &Source, node: &str, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    let node = declared(&inventory, node)?.clone();
    in_world(inventory, Format::choose(json), Some("replace"), |world| async move {
        let _lock = world.begin("replace")?;
        world.end_connections();
        let begun = Instant::now();
        let facts = world.observe().await?;
        let means = world.means(&facts).await?;
        let (inventory, name) = (&world.inventory, &node.name);
        let servers = Servers::of(&facts, &node)?;
        if !servers.is_swapped() {
            apply::refuse(&removal(inventory, &facts, &means, &node))?;
            possible(inventory, &facts, &means, &node)?;
        }
        announce(&world, &facts, &node, &servers);
        confirm("node", name, yes, "nothing was changed")?;
        let stop = interruptible();
        // The question may have been open for long.
        servers.are_still(&world.observe().await?, &node)?;
        let mut steps = 0;
        if !servers.is_swapped() && world.provider.is_some() {
            steps += make_ready(&world, &node, &stop).await?;
        }
        world.lock_cluster(&world.observe().await?).await?;
        // From here on nobody else changes them.
        servers.are_still(&world.observe().await?, &node)?;
        if !servers.is_swapped() {
            steps += take_vote(&world, &node, &stop).await?;
        }
        unless_interrupted(&stop)?;
        if world.provider.is_some() {
            steps += swap(&world, &node).await?;
        }
        let outcome = converge(&world, &stop).await?;
        steps += outcome.steps;
        let old = Servers::of(&outcome.facts, &node)?.old;
        proved(&world, &outcome.facts, &node).map_err(|why| unproved(name, &why, old))?;
        if let Some(id) = old {
            unless_interrupted(&stop)?;
            remove::delete(&world, id, "the node has been replaced; run this again to delete what is left")
                .await?;
            steps += 1;
        }
        for trouble in outcome.troubles.iter().filter(|it| it.kind != TroubleKind::Stray) {
            let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            world.report.warning(format!("{place}{} ({})", trouble.message, trouble.hint));
        }
        let text = format!("{}: {name} has been replaced", inventory.cluster);
        world.report.send(Event::Finished { steps, text, seconds: begun.elapsed().as_secs_f64() });
        Ok(Exit::Done)
    })
    .await
}

/// The servers of one node, by their ids.
struct Servers {
    node: Option<u64>,
    /// The one that will take its place.
    new: Option<u64>,
    /// The one whose place was taken.
    old: Option<u64>,
}

impl Servers {
    fn of(facts: &Facts, node: &Node) -> Result<Servers> {
        let Some(cloud) = &facts.cloud else { return Ok(Servers { node: None, new: None, old: None }) };
        let with = |suffix: &str| {
            let name = format!("{}.{suffix}", node.name);
            let found: Vec<u64> =
                cloud.strays.iter().filter(|it| it.name == name && it.tagged).map(|it| it.id).collect();
            match found.as_slice() {
                [] => Ok(None),
                [id] => Ok(Some(*id)),
                several => Err(Advice::refused(format!("several droplets are named {name}: {several:?}"))
                    .hint("delete those that are not in use")),
            }
        };
        let servers =
            Servers { node: cloud.servers.get(&node.name).map(|it| it.id), new: with(NEW)?, old: with(OLD)? };
        let (refusal, hint) = match servers {
            Servers { node: Some(id), new: Some(new), old: Some(old) } => (
                format!("droplets {id}, {new} and {old} are {0}, {0}.{NEW} and {0}.{OLD}", node.name),
                format!(
                    "delete {0}.{OLD}, which {0} has taken the place of, or {0}.{NEW}, which is not in use",
                    node.name
                ),
            ),
            Servers { node: None, new: None, old: Some(old) } => (
                format!("droplet {old} is {0}.{OLD}, and there is no {0}", node.name),
                format!("rename it back to {0}, or delete it; `cluster up` then makes {0} anew", node.name),
            ),
            Servers { node: None, new: None, old: None } => (
                format!("{} has no droplet", node.name),
                "there is nothing to replace: `cluster up` creates one".to_owned(),
            ),
            servers => return Ok(servers),
        };
        Err(Advice::refused(refusal).hint(hint).into())
    }

    /// Makes sure that these are the ones that were announced. The new one may have come meanwhile.
    fn are_still(&self, facts: &Facts, node: &Node) -> Result<()> {
        let now = Servers::of(facts, node)?;
        if (now.node, now.old) == (self.node, self.old) {
            return Ok(());
        }
        let message = format!(
            "the droplets of {} are others than was announced: another run replaces it, or has",
            node.name
        );
        Err(Advice::refused(message)
            .hint("`cluster status` shows how it is; then run this again if it is still needed")
            .into())
    }

    /// Whether the new one has the old one's place, or is about to.
    fn is_swapped(&self) -> bool {
        self.old.is_some() || (self.node.is_none() && self.new.is_some())
    }
}

/// What a replacement needs on existing hosts: another host, that answers, is nobody's, and can be a node.
fn possible(inventory: &Inventory, facts: &Facts, means: &Means, node: &Node) -> Result<()> {
    if matches!(inventory.provider, Provider::DigitalOcean(_)) {
        return Ok(());
    }
    let name = &node.name;
    let refused = |message: String, hint: String| Err(Advice::refused(message).hint(hint).into());
    match facts.hosts.get(name) {
        Some(Host::Up(host)) if host.marker.as_ref().is_some_and(|it| it.cluster == inventory.cluster) => {
            refused(
                format!("the host of {name} is a node of this cluster"),
                format!(
                    "set the `address` of {name} in the inventory to that of the host that shall take its place; to make \
                 its data anew where it is, `cluster rejoin {name} --clone`"
                ),
            )
        }
        Some(Host::Up(_)) => {
            let against = unfit(inventory, facts, means, node);
            if against.is_empty() {
                return Ok(());
            }
            let reasons = against.into_iter().map(|it| (format!("{name} {}", it.message), it.hint));
            Err(Advice::refused_for(reasons).into())
        }
        other => {
            let why = other.and_then(Host::absence).unwrap_or_default();
            refused(
                format!("the host that shall take the place of {name} cannot be used: {why}"),
                "nothing was changed; correct its `address`, or bring it up".to_owned(),
            )
        }
    }
}

/// Announces what happens, and what the cluster is without meanwhile.
fn announce(world: &World, facts: &Facts, node: &Node, servers: &Servers) {
    let (name, cluster) = (node.name.bold(), world.inventory.cluster.bold());
    let what = if node.role == Role::Witness { "the witness" } else { "a node with data" };
    if servers.is_swapped() {
        return tell!("The replacement of {name}, {what} of cluster {cluster}, will be finished.");
    }
    tell!("{name}, {what} of cluster {cluster}, will be made anew:");
    match servers.node {
        Some(id) => tell!(
            "  a new droplet is created and made ready, takes its place, and droplet {id} is then deleted with everything on it"
        ),
        None => {
            tell!("  its old host is not touched: switch it off, or stop cluster-node and PostgreSQL there")
        }
    }
    if let Some(why) = facts.hosts.get(&node.name).and_then(Host::absence) {
        tell!("  {why}: its services are not stopped, but it no longer has a vote");
    }
    if world.inventory.nodes.len() == 3 {
        tell!("  {}", "until the new one has its vote, the loss of either other node is an outage".yellow());
    }
}

/// Makes the server that will take the node's place, up to its packages.
///
/// # Errors
/// Also when it does not answer in the end: the old one keeps its vote until then.
async fn make_ready(world: &Arc<World>, node: &Node, stop: &CancellationToken) -> Result<usize> {
    let inventory = with_stand_in(&world.inventory, node);
    let name = stand_in(node).name;
    // It has the cluster's lock for as long as it lasts: this run takes it afterwards.
    let beside = Arc::new(world.beside(inventory)?);
    let by = |inventory: &Inventory, facts: &Facts, means: &Means, _| prepare(inventory, facts, means, &name);
    let outcome = converge_by(&beside, stop, by).await;
    beside.close().await;
    let outcome = outcome?;
    let host = outcome.facts.hosts.get(&name);
    if host.and_then(Host::up).is_none() {
        let why = host.and_then(Host::absence).unwrap_or_else(|| "it was not looked at".to_owned());
        return Err(Advice::failed(format!("droplet {name} cannot be used: {why}"))
            .hint(format!(
                "{} is as it was, and has its vote; delete droplet {name} if it does not come up, and run this again",
                node.name
            ))
            .into());
    }
    Ok(outcome.steps)
}

/// Takes the node's vote, stops it and lets the others forget it.
async fn take_vote(world: &Arc<World>, node: &Node, stop: &CancellationToken) -> Result<usize> {
    let by = |inventory: &Inventory, facts: &Facts, means: &Means, _| removal(inventory, facts, means, node);
    let outcome = converge_by(world, stop, by).await?;
    if let Some(trouble) = outcome.troubles.first() {
        let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
        return Err(Advice::failed(format!("{place}{}", trouble.message)).hint(&trouble.hint).into());
    }
    unless_interrupted(stop)?;
    Ok(outcome.steps + remove::retire(world, &outcome.facts, node).await?)
}

/// The new server takes the node's name. The old one is off by then: whatever it thinks that it is, nobody hears of it.
async fn swap(world: &Arc<World>, node: &Node) -> Result<usize> {
    let api = world.provider.as_ref().context("there is no provider")?;
    let servers = Servers::of(&world.observe().await?, node)?;
    let Some(new) = servers.new else { return Ok(0) };
    world.disconnect(&node.name).await;
    if let Some(id) = servers.node {
        let name = format!("{}.{OLD}", node.name);
        world.report.progress("provider", format!("switching off droplet {id}, from now on {name}"));
        api.power_off(id).await?;
        api.rename(id, &name).await?;
        world.state.remember(|memory| memory.servers.entry(id).or_default().node = name)?;
    }
    world.rename_keys(&stand_in(node), node)?;
    api.rename(new, &node.name).await?;
    world.state.remember(|memory| memory.servers.entry(new).or_default().node.clone_from(&node.name))?;
    world.report.note(format!("provider: droplet {new} is {} now", node.name));
    Ok(2)
}

/// Whether the node is what it was: with its vote, and streaming if it has data.
fn proved(world: &World, facts: &Facts, node: &Node) -> Result<(), String> {
    let inventory = &world.inventory;
    let votes = Configuration::newest(inventory, facts).is_some_and(|it| it.names.contains(&node.name));
    if !votes {
        return Err("has no vote".to_owned());
    }
    let Some(primary) = remove::primary(inventory, facts) else {
        return Err("no node takes writes".to_owned());
    };
    if node.role == Role::Witness || primary == node.name {
        return Ok(());
    }
    let replication =
        |host: &crate::facts::HostFacts| host.postgres.as_ref().map(|it| it.replication.clone());
    let streams = facts.hosts.get(&primary).and_then(Host::up).and_then(replication).unwrap_or_default();
    if streams.iter().any(|it| it.name == node.name && it.state == "streaming") {
        return Ok(());
    }
    Err(format!("does not stream from {primary}"))
}

fn unproved(name: &str, why: &str, old: Option<u64>) -> Advice {
    let kept =
        old.map_or(String::new(), |id| format!("; droplet {id}, which it takes the place of, is kept"));
    Advice::failed(format!("{name} {why} yet{kept}"))
        .hint("`cluster status` shows the progress; run this again once it is well")
}
