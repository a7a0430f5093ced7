//! `cluster drill --fault restore`: a standby restores the newest backup beside its data, checks it and throws it away.
//!
//! It harms nothing, so it asks nothing, and an unhealthy cluster is no obstacle. The work is the node's, and goes on
//! when this program ends.

use anyhow::Result;

use crate::control;
use crate::drill::restore::{Restored, text};
use crate::error::{Advice, Exit};
use crate::health::{Health, health};
use crate::inventory::Inventory;
use crate::report::Format;
use crate::{data, screen};

use super::super::in_world;

pub(super) async fn run(inventory: Inventory, draws: bool, json: bool) -> Result<Exit> {
    if draws {
        return Err(Advice::usage("a restore has no writes to draw").hint("leave --svg out").into());
    }
    if inventory.backup.is_none() {
        return Err(Advice::refused("the inventory names no backup repository")
            .hint("add a `backup` key (docs/backups.md) and run `cluster up`")
            .into());
    }
    in_world(inventory, Format::beside_result(json), Some("drill"), |world| async move {
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let node = standby(&health)?;
        world.report.progress(&node, "restoring the newest backup beside its data");
        let proof = control::prove(&world, &node, &|line| world.report.progress(&node, line)).await?;
        let restored = Restored::new(&world.inventory.cluster, &node, proof);
        if json {
            screen::json(&restored)?;
        } else {
            data!("{}", text(&restored));
        }
        Ok(if restored.passed { Exit::Done } else { Exit::Unhealthy })
    })
    .await
}

/// The one that would prove restores by itself: the first by name that streams.
fn standby(health: &Health) -> Result<String, Advice> {
    let streaming = health.nodes.iter().filter(|node| node.role == "standby" && node.state == "streaming");
    streaming.map(|node| node.name.clone()).min().ok_or_else(|| {
        Advice::refused("no standby streams, and a restore is tried beside one")
            .hint("`cluster status` shows which standbys stream, and why others do not")
    })
}
