//! `cluster explain`: the last failover or switchover, told from the journals of all nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{in_world, read};
use crate::error::{Advice, Exit};
use crate::facts::{Facts, Host};
use crate::incident::{self, Action, Incident, Journal, Kind};
use crate::inventory::Source;
use crate::provider::Event;
use crate::remote::{Command, RemoteError};
use crate::report::{Format, visible};
use crate::script;
use crate::world::World;
use crate::{data, screen};

/// How often a clock is read: the fastest answer is the most accurate.
const ASKED: usize = 5;
/// Lines read from a journal: months, unless a node has constant problems.
const LINES: &str = "5000";

/// How far a node's clock is from this machine's.
#[derive(Clone, Copy, Debug, Serialize)]
struct Clock {
    /// Milliseconds that the node's clock is ahead.
    ahead_ms: i64,
    /// Accuracy of that, in milliseconds.
    within_ms: i64,
}

pub(super) async fn run(source: &Source, list: bool, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        let facts = world.observe_or_remember().await?;
        let (journals, clocks, missing) = journals(&world, &facts).await?;
        if journals.is_empty() {
            return Err(Advice::refused("no node is reachable, and the journals are on the nodes")
                .hint("`cluster status` shows why")
                .into());
        }
        let actions = actions(&world, &facts).await;
        let incidents = incident::incidents(&journals, &actions);
        let within = clocks.values().map(|clock| clock.within_ms).max().unwrap_or_default();
        if list {
            if json {
                screen::json(&incidents)?;
            }
            for incident in incidents.iter().filter(|_| !json) {
                data!("{}", visible(&incident::line(incident)));
            }
            return Ok(Exit::Done);
        }
        // A node that took its own lease up again is worth telling only if there is nothing else.
        let changed = |it: &&Incident| !matches!(it.kind, Kind::Beginning | Kind::Return);
        let last = incidents.iter().rev().find(changed).or(incidents.last());
        if json {
            screen::json(&serde_json::json!({
                "incident": last, "clocks": clocks, "missing": missing,
            }))?;
            return Ok(Exit::Done);
        }
        let Some(last) = last else {
            data!("no failover or switchover is recorded");
            return Ok(Exit::Done);
        };
        data!("{}", visible(&incident::text(last)));
        data!("times are accurate to {within} ms (the nodes' clocks were compared with this machine's)");
        for (node, why) in &missing {
            data!("the journal of {node} is missing: {}", visible(why));
        }
        Ok(Exit::Done)
    })
    .await
}

type Read = (Vec<Journal>, BTreeMap<String, Clock>, BTreeMap<String, String>);

/// The journals of all reachable nodes, and their clocks' offsets from this machine's.
async fn journals(world: &Arc<World>, facts: &Facts) -> Result<Read> {
    let mut tasks = JoinSet::new();
    let mut missing = BTreeMap::new();
    for node in &world.inventory.nodes {
        let name = node.name.clone();
        if let Some(why) = facts.hosts.get(&name).unwrap_or(&Host::Missing).absence() {
            missing.insert(name, why);
            continue;
        }
        let world = world.clone();
        tasks.spawn(async move { (name.clone(), one(&world, &name).await) });
    }
    let (mut journals, mut clocks) = (Vec::new(), BTreeMap::new());
    for (name, result) in tasks.join_all().await {
        match result {
            Ok((clock, text)) => {
                journals.push(Journal::parse(&name, clock.ahead_ms, &text));
                clocks.insert(name, clock);
            }
            Err(error) => drop(missing.insert(name, error.to_string())),
        }
    }
    journals.sort_by(|one, other| one.node.cmp(&other.node));
    Ok((journals, clocks, missing))
}

async fn one(world: &World, node: &str) -> Result<(Clock, String), RemoteError> {
    let mut best: Option<Clock> = None;
    for _ in 0..ASKED {
        let command = Command::new("clock", script::CLOCK).limit(10);
        let asked = Timestamp::now();
        let output = world.run(node, &command, &|_| {}).await?;
        let answered = Timestamp::now();
        // The host looked at its clock at some moment between the two.
        let trip = answered.as_millisecond() - asked.as_millisecond();
        let middle = asked.as_millisecond() + trip / 2;
        let Ok(theirs) = output.stdout.trim().parse::<i64>() else { continue };
        let clock = Clock { ahead_ms: theirs - middle, within_ms: trip / 2 + 1 };
        best = best.filter(|best| best.within_ms <= clock.within_ms).or(Some(clock));
    }
    let command = Command::new("journal", script::JOURNAL).arg(LINES);
    let output = world.run(node, &command, &|_| {}).await?;
    Ok((best.unwrap_or(Clock { ahead_ms: 0, within_ms: 1_000 }), output.stdout))
}

/// The provider's actions on the servers' power and the floating IP. The timeline works without them.
async fn actions(world: &World, facts: &Facts) -> Vec<Action> {
    let (Some(api), Some(cloud)) = (&world.provider, &facts.cloud) else { return Vec::new() };
    if cloud.remembered.is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut take = |node: Option<&String>, result: Result<Vec<Event>>| match result {
        Ok(events) => found.extend(events.into_iter().map(|Event { kind, started, completed }| Action {
            node: node.cloned(),
            kind,
            started,
            completed,
        })),
        Err(error) => world.report.warning(format!("the provider's actions are missing: {error}")),
    };
    for (name, server) in &cloud.servers {
        take(Some(name), api.server_events(server.id).await);
    }
    if let Some(address) = &cloud.floating_ip {
        take(None, api.address_events(address.address).await);
    }
    found
}
