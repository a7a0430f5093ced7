//! `cluster unlock`: takes the cluster's lock from a run that hangs.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;

use super::confirm::confirm;
use super::{in_world, read};
use crate::error::Exit;
use crate::holder::Holder;
use crate::inventory::Source;
use crate::provider::{ProviderLock, why_away};
use crate::remote::Command;
use crate::report::{Format, visible};
use crate::script;
use crate::world::World;
use crate::{screen, tell};

pub(super) async fn run(source: &Source, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        let locks = at_provider(&world).await?;
        let at_nodes = at_nodes(&world).await?;
        let all: BTreeSet<String> = at_nodes
            .iter()
            .map(|(_, it)| it.words())
            .chain(locks.iter().map(|it| it.holder.words()))
            .collect();
        let cluster = world.inventory.cluster.clone();
        if all.is_empty() {
            let value = serde_json::json!({"broken": []});
            screen::result(json, &value, &format!("{cluster}: no run holds the lock"))?;
            return Ok(Exit::Done);
        }
        for words in &all {
            tell!("{} holds the lock of cluster {cluster}", visible(words));
        }
        tell!("It stops before its next step. Make sure first that it does not do what you are about to do.");
        confirm("cluster", &cluster, yes, "the lock is where it was")?;
        for (node, _) in &at_nodes {
            let who = serde_json::to_string(&Holder::here("unlock"))?;
            world.run(node, &Command::new("unlock", script::UNLOCK).arg(who), &|_| {}).await?;
        }
        if let Some(api) = &world.provider {
            for lock in &locks {
                api.delete_lock(&lock.tag).await?;
            }
        }
        let words = format!("{cluster}: the lock is free");
        screen::result(json, &serde_json::json!({"broken": all}), &words)?;
        Ok(Exit::Done)
    })
    .await
}

/// Who holds it, by node. Asks no more than that: a host that answers slowly is one that may have to be unlocked.
async fn at_nodes(world: &World) -> Result<Vec<(String, Holder)>> {
    let mut holders = Vec::new();
    for node in world.write_own_ssh_config().await?.into_keys() {
        match world.lock_holder(&node).await {
            Ok(holder) => holders.extend(holder.map(|holder| (node, holder))),
            Err(error) => {
                let why = error.to_string();
                world
                    .report
                    .warning(format!("{node} was not asked: {why}; a lock there stays until its run ends"));
            }
        }
    }
    Ok(holders)
}

/// The locks at the provider; none if it does not answer.
async fn at_provider(world: &Arc<World>) -> Result<Vec<ProviderLock>> {
    let Some(api) = &world.provider else { return Ok(Vec::new()) };
    match api.locks().await {
        Ok(locks) => Ok(locks),
        Err(error) if why_away(&error).is_some() => {
            world.report.warning(format!("{error:#}; a lock there stays where it is"));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
