//! `cluster down`: `provider` deletes what was made there, `hosts` stops what runs on hosts that are not ours.

mod hosts;
mod provider;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::{in_world, read};
use crate::error::{Advice, Exit};
use crate::report::{Event, Format};
use crate::world::World;
pub(super) use hosts::{ours, stop};

pub(super) async fn run(path: &Path, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(path)?;
    in_world(inventory, Format::choose(json), Some("down"), |world| async move {
        let _lock = world.state.lock("down")?;
        match world.cloud.clone() {
            Some(client) => provider::run(&world, &client, yes).await,
            None => hosts::run(&world, yes).await,
        }
    })
    .await
}

/// What was done, and how long it took from the moment that it was allowed.
fn finished(world: &World, text: &str, steps: usize, begun: Instant) {
    let text = format!("{}: {text}", world.inventory.cluster);
    world.report.send(Event::Finished { steps, text, seconds: begun.elapsed().as_secs_f64() });
}

/// Everything that went wrong, in one error.
fn failed(reasons: &[String], hint: String) -> anyhow::Error {
    Advice::failed(reasons.join("\n  and: ")).hint(hint).into()
}
