//! `cluster down`.

use std::path::Path;
use std::sync::Arc;

use anstream::eprintln;
use anyhow::{Context as _, Result};
use owo_colors::OwoColorize as _;

use super::confirm::confirm;
use super::{in_world, read};
use crate::apply::script;
use crate::cloud::destroy::{self, Belongings};
use crate::cloud::{Client, key};
use crate::error::{Advice, Exit};
use crate::remote::{Command, Remote as _};
use crate::report::{Event, Format, visible};
use crate::world::World;

pub(super) async fn run(path: &Path, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(path)?;
    in_world(inventory, Format::choose(json), Some("down"), |world| async move {
        let _lock = world.state.lock("down")?;
        match world.cloud.clone() {
            Some(client) => at_the_provider(&world, &client, yes).await,
            None => on_hosts(&world, yes).await,
        }
    })
    .await
}

/// Deletes what has the cluster's tag, and what is written down as its own; nothing else.
async fn at_the_provider(world: &Arc<World>, client: &Client, yes: bool) -> Result<Exit> {
    let cluster = &world.inventory.cluster;
    let memory = destroy::Memory {
        addresses: world.state.memory()?.floating_ip.into_iter().collect(),
        fingerprint: key::fingerprint(&world.public_key().await?),
    };
    let belongings = client
        .belongings(cluster, &memory, world.pace)
        .await
        .context("cannot list what belongs to the cluster")?;
    if belongings.is_empty() {
        world.state.forget()?;
        finished(world, "nothing of it is at the provider", 0);
        return Ok(Exit::Done);
    }
    eprintln!("cluster {} will be deleted, with all its data:", cluster.bold());
    list(&belongings);
    confirm("cluster", cluster, yes, "nothing was deleted")?;
    client.destroy(&belongings, world.pace).await.context("cannot delete everything")?;
    let left = client.belongings(cluster, &memory, world.pace).await.context("cannot ask what is left")?;
    if !left.is_empty() {
        list(&left);
        return Err(Advice::failed("the provider still lists what is above")
            .hint("run `cluster down` again")
            .into());
    }
    world.state.forget()?;
    let count = belongings.droplets.len() + belongings.addresses.len();
    finished(world, "deleted; the provider lists nothing of it any more", count);
    Ok(Exit::Done)
}

fn list(belongings: &Belongings) {
    for droplet in &belongings.droplets {
        let address = droplet.public_ipv4().map_or("-".to_owned(), |it| it.to_string());
        eprintln!("  droplet      {} ({}, {address})", visible(&droplet.name), droplet.id);
    }
    for address in &belongings.addresses {
        eprintln!("  floating IP  {}", address.ip);
    }
    for tag in &belongings.tags {
        eprintln!("  tag          {tag}");
    }
    if let Some(key) = &belongings.ssh_key {
        eprintln!("  SSH key      {} ({})", visible(&key.name), key.fingerprint);
    }
}

/// Stops and disables what `up` installed on hosts that are not ours to delete.
async fn on_hosts(world: &Arc<World>, yes: bool) -> Result<Exit> {
    let cluster = &world.inventory.cluster;
    eprintln!(
        "PostgreSQL, repmgrd and cluster-node of cluster {} will be stopped and disabled on:",
        cluster.bold()
    );
    for node in &world.inventory.nodes {
        eprintln!("  {} ({})", node.name, node.address.as_deref().unwrap_or("-"));
    }
    eprintln!("Data, packages and configuration stay.");
    confirm("cluster", cluster, yes, "nothing was stopped")?;
    let facts = world.observe().await?;
    let version = world.inventory.postgresql.version.to_string();
    let port = world.inventory.postgresql.port.to_string();
    let mut failed = Vec::new();
    let mut nodes: Vec<_> = world.inventory.nodes.iter().collect();
    nodes.retain(|node| {
        let marker = facts.hosts.get(&node.name).and_then(|host| host.up()?.marker.as_ref());
        let foreign = marker.is_some_and(|marker| marker.cluster != *cluster);
        if foreign {
            failed.push(format!("{} belongs to another cluster and was left alone", node.name));
        }
        !foreign
    });
    // The guards first, so that nobody takes over; then the primary, whose shutdown waits until the standbys have
    // everything; then the others.
    let takes_writes = |name: &str| {
        let host = facts.hosts.get(name).and_then(|host| host.up());
        host.and_then(|host| host.postgres.as_ref()).is_some_and(|postgres| !postgres.in_recovery)
    };
    nodes.sort_by_key(|node| !takes_writes(&node.name));
    for what in ["services", "postgresql"] {
        for node in std::mem::take(&mut nodes) {
            let command = Command::new("stop", script::STOP)
                .args([cluster, &version, &port, &what.to_owned()].map(String::as_str))
                .limit(300);
            let result = async { world.connect(&node.name).await?.run(&command, &|_| {}).await }.await;
            match result {
                Ok(_) => {
                    if what == "postgresql" {
                        world.report.note(format!("{}: stopped and disabled", node.name));
                    }
                    nodes.push(node);
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
    }
    if !failed.is_empty() {
        return Err(Advice::failed(failed.join("\n  and: ")).hint("run `cluster down` again").into());
    }
    finished(world, "stopped and disabled; its data stays where it is", world.inventory.nodes.len());
    Ok(Exit::Done)
}

fn finished(world: &World, text: &str, steps: usize) {
    let text = format!("{}: {text}", world.inventory.cluster);
    world.report.send(Event::Finished { steps, text, seconds: 0.0 });
}
