//! Deletes what the provider has of a cluster, and proves that nothing is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use owo_colors::OwoColorize as _;
use tokio::task::JoinSet;

use super::hosts::{Half, stop};
use super::{failed, finished};
use crate::commands::confirm::confirm;
use crate::error::Exit;
use crate::provider::{Api, Belongings};
use crate::tell;
use crate::world::World;

/// How long the guards may take to end. They are asked for the address's sake; it is released whether they do or not.
const GUARDS_END_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn run(world: &Arc<World>, api: &Api, yes: bool) -> Result<Exit> {
    let cluster = &world.inventory.cluster;
    let begun = Instant::now();
    let known = world.state.memory()?;
    let was_here = !known.servers.is_empty() || known.floating_ip.is_some();
    let identifier = known.system_identifier.clone();
    let public_key = world.public_key().await?;
    let belongings =
        api.belongings(&known, &public_key).await.context("cannot list the cluster's resources")?;
    if belongings.is_empty() {
        // The same name may be another cluster's, on hosts that no provider knows: its passwords are nowhere else.
        match identifier.filter(|_| !was_here) {
            Some(identifier) => world.report.warning(format!(
                "{} is kept: it has the passwords of a cluster of the same name that was never at this provider (system identifier {identifier})",
                world.state.directory().display()
            )),
            None => world.forget()?,
        }
        finished(world, "the provider lists nothing that belongs to it", 0, begun);
        return Ok(Exit::Done);
    }
    if belongings.has_deletable() {
        tell!("cluster {} will be deleted, with all its data:", cluster.bold());
        list(&belongings);
        confirm("cluster", cluster, yes, "nothing was deleted")?;
    }
    let begun = Instant::now();
    let nodes = reach(world, &belongings).await;
    if belongings.has_deletable() {
        world.lock_nodes(nodes.clone(), belongings.servers().count()).await?;
    }
    if belongings.has_address() {
        stop_guards(world, nodes).await;
    }
    let destroyed = api.destroy(&belongings).await;
    let mut reasons: Vec<String> =
        destroyed.err().unwrap_or_default().iter().map(|error| format!("{error:#}")).collect();
    world.unlock_provider().await;
    let left =
        api.belongings(&known, &public_key).await.context("cannot list what is left of the cluster")?;
    if let Err(error) = world.retire_repository_keys(api, None).await {
        // A key alone opens nothing that is not encrypted with another secret.
        world.report.warning(format!("the key of the backups' bucket was not deleted: {error:#}"));
    }
    if left.is_empty() {
        world.forget()?;
        finished(world, "deleted; the provider lists nothing that belongs to it", belongings.count(), begun);
        return Ok(Exit::Done);
    }
    let mut hint =
        "run `cluster down` again; keys and passwords are kept until everything is deleted".to_owned();
    if left.has_deletable() {
        tell!("still at the provider:");
        list(&left);
        if reasons.is_empty() {
            reasons.push("the provider still lists the resources above".into());
        }
    }
    for server in &left.doubtful {
        let node = server.node.as_deref().unwrap_or("a node");
        reasons.push(format!(
            "droplet {} `{}` was created as {node} of this cluster, but has been renamed and lost the tag: it was left \
             alone",
            server.id, server.name
        ));
        hint = format!(
            "delete it yourself, or give it the tag cluster:{cluster} and run `cluster down` again; if it no longer \
             belongs to the cluster, remove its id from {}",
            world.state.path("cluster.json").display()
        );
    }
    Err(failed(&reasons, hint))
}

fn list(belongings: &Belongings) {
    for line in belongings.lines() {
        tell!("  {line}");
    }
}

/// The nodes that there may be a way to.
async fn reach(world: &Arc<World>, belongings: &Belongings) -> Vec<String> {
    let addresses: BTreeMap<String, String> = belongings
        .servers()
        .filter(|(name, _)| world.inventory.node(name).is_some())
        .filter_map(|(name, public)| Some((name.to_owned(), public?.to_string())))
        .collect();
    if let Err(error) = world.write_ssh_config(&addresses).await {
        world.report.note(format!("the nodes cannot be reached: {error:#}"));
        return Vec::new();
    }
    let id = |name: &String| world.inventory.node(name).map(|node| node.id);
    let mut nodes: Vec<String> = addresses.into_keys().collect();
    nodes.sort_by_key(id);
    nodes
}

/// Ends the guards: one that sees the address go would take it back. A node that cannot be reached is not waited for.
async fn stop_guards(world: &Arc<World>, nodes: Vec<String>) {
    let mut tasks = JoinSet::new();
    for node in nodes {
        let command = stop(world, Half::Services).limit(GUARDS_END_WITHIN.as_secs());
        let world = world.clone();
        tasks.spawn(async move {
            world.report.progress(&node, "guard stopped");
            // What does not answer is about to be deleted.
            let _ = world.run(&node, &command, &|_| {}).await;
        });
    }
    let _ = tokio::time::timeout(GUARDS_END_WITHIN, tasks.join_all()).await;
}
