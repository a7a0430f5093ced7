//! Deleting what the provider has of a cluster: what has its tag, and what is remembered as its own; nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cluster_cloud::destroy::{Belongings, Memory};
use cluster_cloud::model::Droplet;
use cluster_cloud::{Client, key, names};
use owo_colors::OwoColorize as _;
use tokio::task::JoinSet;

use super::hosts::{Half, stop};
use super::{failed, finished};
use crate::commands::confirm::confirm;
use crate::error::Exit;
use crate::report::visible;
use crate::tell;
use crate::world::World;

/// How long the guards may take to end. They are asked for the address's sake; it is released whether they do or not.
const GUARDS_END_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn run(world: &Arc<World>, client: &Client, yes: bool) -> Result<Exit> {
    let cluster = &world.inventory.cluster;
    let begun = Instant::now();
    let known = world.state.memory()?;
    let was_here = !known.droplets.is_empty() || known.floating_ip.is_some();
    let identifier = known.system_identifier.clone();
    let memory = Memory {
        addresses: known.floating_ip.into_iter().collect(),
        droplets: known.droplets.into_iter().map(|(id, droplet)| (id, droplet.node)).collect(),
        fingerprint: key::fingerprint(&world.public_key().await?),
    };
    let belongings = client
        .belongings(cluster, &memory, world.pace)
        .await
        .context("cannot list the cluster's resources")?;
    if belongings.is_empty() {
        // The same name may be another cluster's, on hosts that no provider knows: its passwords are nowhere else.
        match identifier.filter(|_| !was_here) {
            Some(identifier) => world.report.warning(format!(
                "{} is kept: it has the passwords of a cluster of the same name that was never at this provider (system identifier {identifier})",
                world.state.directory().display()
            )),
            None => world.state.forget()?,
        }
        finished(world, "the provider lists nothing that belongs to it", 0, begun);
        return Ok(Exit::Done);
    }
    if belongings.has_deletable() {
        tell!("cluster {} will be deleted, with all its data:", cluster.bold());
        list(cluster, &belongings);
        confirm("cluster", cluster, yes, "nothing was deleted")?;
    }
    let begun = Instant::now();
    if !belongings.addresses.is_empty() {
        stop_guards(world, &belongings.droplets).await;
    }
    let destroyed = client.destroy(&belongings, world.pace).await;
    let mut reasons: Vec<String> = destroyed.err().unwrap_or_default().iter().map(causes).collect();
    let left = client
        .belongings(cluster, &memory, world.pace)
        .await
        .context("cannot list what is left of the cluster")?;
    if left.is_empty() {
        world.state.forget()?;
        let count = belongings.droplets.len() + belongings.addresses.len();
        finished(world, "deleted; the provider lists nothing that belongs to it", count, begun);
        return Ok(Exit::Done);
    }
    let mut hint =
        "run `cluster down` again; keys and passwords are kept until everything is deleted".to_owned();
    if left.has_deletable() {
        tell!("still at the provider:");
        list(cluster, &left);
        if reasons.is_empty() {
            reasons.push("the provider still lists the resources above".into());
        }
    }
    for droplet in &left.doubtful {
        let node = memory.droplets.get(&droplet.id).map_or("a node", String::as_str);
        reasons.push(format!(
            "droplet {} `{}` was created as {node} of this cluster, but has been renamed and lost the tag: it was left \
             alone",
            droplet.id, droplet.name
        ));
        hint = format!(
            "delete it yourself, or give it the tag {} and run `cluster down` again; if it no longer belongs to the \
             cluster, remove its id from {}",
            names::cluster_tag(cluster),
            world.state.path("cluster.json").display()
        );
    }
    Err(failed(&reasons, hint))
}

/// An error and its causes on one line.
fn causes(error: &cluster_cloud::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

fn list(cluster: &str, belongings: &Belongings) {
    let tag = names::cluster_tag(cluster);
    for droplet in &belongings.droplets {
        let address = droplet.public_ipv4().map_or("-".to_owned(), |it| it.to_string());
        let untagged = if droplet.tags.contains(&tag) { "" } else { ", untagged; created from this machine" };
        tell!("  droplet      {} ({}, {address}{untagged})", visible(&droplet.name), droplet.id);
    }
    for address in &belongings.addresses {
        tell!("  floating IP  {}", address.ip);
    }
    for tag in &belongings.tags {
        tell!("  tag          {tag}");
    }
    if let Some(key) = &belongings.ssh_key {
        tell!("  SSH key      {} ({})", visible(&key.name), key.fingerprint);
    }
}

/// Ends the guards: one that sees the address go would take it back. A node that cannot be reached is not waited for.
async fn stop_guards(world: &Arc<World>, droplets: &[Droplet]) {
    let addresses: BTreeMap<String, String> = droplets
        .iter()
        .filter(|droplet| world.inventory.node(&droplet.name).is_some())
        .filter_map(|droplet| Some((droplet.name.clone(), droplet.public_ipv4()?.to_string())))
        .collect();
    if let Err(error) = world.write_ssh_config(&addresses).await {
        world.report.note(format!("the guards were not stopped first: {error:#}"));
        return;
    }
    let mut tasks = JoinSet::new();
    for node in addresses.into_keys() {
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
