//! `cluster down`: `provider` deletes resources at the provider, `hosts` stops services on existing hosts.

mod hosts;
mod provider;

use std::time::Instant;

use anyhow::Result;

use super::{in_world, read};
use crate::error::{Advice, Exit};
use crate::inventory::Source;
use crate::report::{Event, Format};
use crate::world::World;
pub(super) use hosts::{ours, stop};

pub(super) async fn run(source: &Source, yes: bool, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::choose(json), Some("down"), |world| async move {
        let _lock = world.begin("down")?;
        world.end_connections();
        match &world.provider {
            Some(api) => provider::run(&world, api, yes).await,
            None => hosts::run(&world, yes).await,
        }
    })
    .await
}

/// Reports the result, with the time since the confirmation.
fn finished(world: &World, text: &str, steps: usize, begun: Instant) {
    let text = format!("{}: {text}", world.inventory.cluster);
    world.report.send(Event::Finished { steps, text, seconds: begun.elapsed().as_secs_f64() });
}

/// All failures as one error.
fn failed(reasons: &[String], hint: String) -> anyhow::Error {
    Advice::failed(reasons.join("\n  and: ")).hint(hint).into()
}
