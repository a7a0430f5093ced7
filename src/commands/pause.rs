//! `cluster pause` and `cluster resume`: for maintenance, guards start, promote and rejoin nothing.
//!
//! Every node is paused for itself, so that a guard that sees nobody still knows. A node that cannot be reached stays
//! as it is: it is told, and `cluster status` shows the mixture.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster_contract::status::JobKind;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{in_world, read};
use crate::control;
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::inventory::Source;
use crate::report::{Format, visible};
use crate::world::World;
use crate::{data, screen};

/// A stop for another, and what that one still lacks, take as long at most.
const CHANGES_WITHIN: Duration = Duration::from_secs(75);

/// Whether to pause or to resume.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Pause,
    Resume,
}

impl Wish {
    fn verb(self) -> &'static str {
        if self == Wish::Pause { "pause" } else { "resume" }
    }
}

/// The result on one node.
#[derive(Serialize)]
struct Node {
    /// Whether the node is paused now; `None` if unknown.
    paused: Option<bool>,
    /// Whether this run changed that.
    changed: bool,
    /// Why the node was not reached.
    error: Option<String>,
}

pub(super) async fn run(source: &Source, wish: Wish, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), Some(wish.verb()), |world| async move {
        let _lock = world.begin(wish.verb())?;
        let facts = look(&world, wish).await?;
        if facts.hosts.values().any(|host| host.up().is_some()) {
            world.lock_cluster(&facts).await?;
        }
        let mut tasks = JoinSet::new();
        for node in &world.inventory.nodes {
            let (world, name) = (world.clone(), node.name.clone());
            let there = match facts.hosts.get(&name) {
                // It is asked all the same.
                Some(host) if host.is_late() => None,
                Some(host) => host.absence(),
                None => Some("the host does not exist".into()),
            };
            tasks.spawn(async move {
                let told = match there {
                    Some(why) => Err(why),
                    None => tell(&world, &name, wish).await,
                };
                (name, told)
            });
        }
        let told: BTreeMap<String, Result<bool, String>> = tasks.join_all().await.into_iter().collect();
        if told.values().all(Result::is_err) {
            let why = told.iter().filter_map(|(name, it)| Some(format!("{name}: {}", it.as_ref().err()?)));
            return Err(Advice::failed(format!(
                "no node was reached: {}",
                why.collect::<Vec<_>>().join("; ")
            ))
            .hint("`cluster status` shows which nodes are reachable")
            .into());
        }
        let all = told.values().all(Result::is_ok);
        if json {
            let nodes: BTreeMap<&String, Node> =
                told.iter().map(|(name, it)| (name, node(it, wish))).collect();
            screen::json(
                &serde_json::json!({"paused": wish == Wish::Pause, "complete": all, "nodes": nodes}),
            )?;
        } else {
            for (name, it) in &told {
                data!("{name}: {}", visible(&words(it, wish)));
            }
            if wish == Wish::Pause {
                data!("no failover until `cluster resume`; a primary that loses its lease is still fenced");
            }
        }
        Ok(if all { Exit::Done } else { Exit::Failed })
    })
    .await
}

/// Looks, and for a pause waits until no guard is in the middle of a change of roles: it would end half way, with nobody who
/// takes writes until the pause ends.
async fn look(world: &Arc<World>, wish: Wish) -> Result<Facts> {
    let mut stops = Instant::now();
    loop {
        let facts = world.observe_or_remember().await?;
        let busy = facts.hosts.iter().find_map(|(node, host)| {
            let guard = host.up()?.guard.as_ref()?;
            let job = guard.job.filter(|job| matches!(job, JobKind::HandOver | JobKind::Promote))?;
            Some((node, job, guard.leads()))
        });
        let Some((node, job, leads)) =
            busy.filter(|_| wish == Wish::Pause && stops.elapsed() < CHANGES_WITHIN)
        else {
            return Ok(facts);
        };
        if leads {
            // It writes a checkpoint before, for as long as its guard lets it.
            stops = Instant::now();
        }
        world.report.progress(node, format!("its guard has not ended what it does ({job})"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Pauses or resumes one node; returns whether that changed anything.
async fn tell(world: &Arc<World>, node: &str, wish: Wish) -> Result<bool, String> {
    control::pause(world, node, wish == Wish::Pause).await.map_err(|error| error.to_string())
}

fn node(told: &Result<bool, String>, wish: Wish) -> Node {
    Node {
        paused: told.is_ok().then_some(wish == Wish::Pause),
        changed: *told == Ok(true),
        error: told.as_ref().err().cloned(),
    }
}

fn words(told: &Result<bool, String>, wish: Wish) -> String {
    match (told, wish) {
        (Ok(true), Wish::Pause) => "paused".into(),
        (Ok(false), Wish::Pause) => "already paused".into(),
        (Ok(true), Wish::Resume) => "resumed".into(),
        (Ok(false), Wish::Resume) => "not paused".into(),
        (Err(why), _) => {
            format!(
                "NOT reached: {why}; its state is unchanged, run `cluster {}` again when it is back",
                wish.verb()
            )
        }
    }
}
