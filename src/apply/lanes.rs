//! Phases to which each node comes at its own pace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Tally, all_or_nothing, remember, run_lane, sound, title};
use crate::facts::{Facts, Host};
use crate::inventory::Inventory;
use crate::plan::{Batch, Lane, Means, Pace, Phase, Plan, Step};
use crate::remote::hold::BEAT;
use crate::timings::{self, Slowest};
use crate::world::World;

/// From the set-up on, what a node does depends on the others. They are looked at again if that was longer ago.
const FRESH: Duration = Duration::from_secs(10);

/// So often all hosts are asked whether they still hold the lock: not after each batch, which is work for all of them. A
/// host that does not hold it any more says so by itself as often.
const LOCK_FRESH: Duration = BEAT;

/// A lane has done a batch.
struct Ended {
    lane: Lane,
    phase: Phase,
    /// What its host was then; none for the provider, and where a step failed.
    host: Option<(Host, Instant)>,
    result: Result<()>,
}

/// The lanes of a plan, and what was seen of the hosts.
struct Lanes<'a> {
    world: &'a Arc<World>,
    stop: &'a CancellationToken,
    tally: &'a mut Tally,
    facts: Facts,
    /// When each host was looked at.
    seen: BTreeMap<String, Instant>,
    pace: Pace,
    /// When the lock was made sure of, and on which hosts.
    locked: (Instant, BTreeSet<String>),
    working: JoinSet<Ended>,
    /// When each lane began what it does.
    begun: BTreeMap<Lane, Instant>,
    errors: Vec<anyhow::Error>,
    /// Nothing begins any more: everything has to be looked at.
    is_over: bool,
}

/// Does what can be done before all nodes have to be looked at together; each goes on as soon as it has what it needs.
///
/// # Errors
/// When a step fails: nothing begins then, and what has begun is finished.
pub(super) async fn run(
    world: &Arc<World>,
    facts: Facts,
    planner: &impl Fn(&Inventory, &Facts, &Means, usize) -> Plan,
    stop: &CancellationToken,
    tally: &mut Tally,
) -> Result<()> {
    tally.heading = None;
    let seen = facts.hosts.keys().map(|node| (node.clone(), Instant::now())).collect();
    // The run has just asked.
    let locked = (Instant::now(), reached(&facts));
    let mut lanes = Lanes {
        world,
        stop,
        tally,
        facts,
        seen,
        pace: Pace::default(),
        locked,
        working: JoinSet::new(),
        begun: BTreeMap::new(),
        errors: Vec::new(),
        is_over: false,
    };
    loop {
        if !lanes.is_over && !stop.is_cancelled() && lanes.errors.is_empty() {
            let went_on = lanes.go_on(planner).await;
            lanes.errors.extend(went_on.err());
        }
        let since = Instant::now();
        let slowest = lanes.slowest();
        let Some(ended) = lanes.working.join_next().await else { break };
        if let Some((phase, slowest)) = slowest {
            timings::part_of(phase.title(), since, Some(slowest));
        }
        // A lane that panics is a bug, and takes the run with it as everywhere.
        let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let taken_in = lanes.take_in(ended).await;
        lanes.errors.extend(taken_in.err());
    }
    all_or_nothing(lanes.errors, stop)
}

impl Lanes<'_> {
    /// Plans, and begins what can begin.
    async fn go_on(&mut self, planner: &impl Fn(&Inventory, &Facts, &Means, usize) -> Plan) -> Result<()> {
        let mut plan = self.plan(planner).await?;
        if self.pace.ready(&plan).iter().any(|batch| batch.phase >= Phase::Setup) && self.look_again().await?
        {
            plan = self.plan(planner).await?;
        }
        // It is refused once all of them were looked at.
        self.is_over = !plan.refusals.is_empty();
        if self.is_over {
            return Ok(());
        }
        for batch in self.pace.ready(&plan) {
            let planned = self.pace.left(&plan);
            self.tally.begin(self.world, batch.phase, &batch.steps, planned)?;
            self.begin(&batch);
        }
        Ok(())
    }

    async fn plan(&self, planner: &impl Fn(&Inventory, &Facts, &Means, usize) -> Plan) -> Result<Plan> {
        let means = self.world.means(&self.facts).await?;
        let plan = planner(&self.world.inventory, &self.facts, &means, self.tally.handed_out);
        sound(&self.world.inventory, &self.facts, &plan)?;
        Ok(plan)
    }

    fn begin(&mut self, batch: &Batch<'_>) {
        self.pace.begin(batch);
        self.begun.insert(batch.lane.clone(), Instant::now());
        let (lane, phase) = (batch.lane.clone(), batch.phase);
        let steps: Vec<Step> = batch.steps.iter().map(|step| (*step).clone()).collect();
        let (world, stop, count) = (self.world.clone(), self.stop.clone(), self.tally.count.clone());
        let facts = self.facts.clone();
        self.working.spawn(async move {
            let result = run_lane(&world, &facts, steps, &stop, &count).await;
            let host = match &lane {
                Some(node) if result.is_ok() && !stop.is_cancelled() => {
                    Some((world.look_at(node).await, Instant::now()))
                }
                _ => None,
            };
            Ended { lane, phase, host, result }
        });
    }

    /// What a lane has come to.
    async fn take_in(&mut self, ended: Ended) -> Result<()> {
        self.pace.end(&ended.lane);
        self.begun.remove(&ended.lane);
        ended.result?;
        if let (Some(node), Some((host, at))) = (&ended.lane, ended.host) {
            self.seen.insert(node.clone(), at);
            self.facts.hosts.insert(node.clone(), host);
        }
        // That there is a cluster is known from its first moment on, whatever becomes of this run.
        remember(self.world, &self.facts)?;
        if self.stop.is_cancelled() || !self.errors.is_empty() {
            return Ok(());
        }
        if ended.lane.is_none() || ended.phase == Phase::Reach {
            self.world.look_at_provider(&mut self.facts).await?;
        }
        self.world.look_at_memory(&mut self.facts)?;
        // Nodes that were out of reach until now hold it, too. If nobody held it for a while, everything may be different.
        let reached = reached(&self.facts);
        let (at, there) = &self.locked;
        if *there != reached || at.elapsed() >= LOCK_FRESH {
            self.is_over |= self.world.lock_cluster(&self.facts).await?;
            self.locked = (Instant::now(), reached);
        }
        Ok(())
    }

    /// Looks at the nodes that do nothing and were not looked at for a while. Whether there were any. One that was there before
    /// is asked twice: on a busy network a connection may fail once.
    async fn look_again(&mut self) -> Result<bool> {
        let is_old = |node: &&String| {
            matches!(self.facts.hosts.get(*node), Some(Host::Up(_) | Host::Unreachable { .. }))
                && !self.pace.is_busy(node)
                && self.seen.get(*node).is_none_or(|at| at.elapsed() > FRESH)
        };
        let old: Vec<String> = self.facts.hosts.keys().filter(is_old).cloned().collect();
        let mut looks = JoinSet::new();
        for node in &old {
            let (world, node) = (self.world.clone(), node.clone());
            let was_there = matches!(self.facts.hosts.get(&node), Some(Host::Up(_)));
            looks.spawn(async move {
                let host = match world.look_at(&node).await {
                    Host::Unreachable { .. } if was_there => world.look_at(&node).await,
                    host => host,
                };
                (node, host)
            });
        }
        for (node, host) in looks.join_all().await {
            self.seen.insert(node.clone(), Instant::now());
            self.facts.hosts.insert(node, host);
        }
        self.world.refuse_another()?;
        Ok(!old.is_empty())
    }

    /// What the run is waiting for.
    fn slowest(&self) -> Option<(Phase, Slowest)> {
        let (phase, lane) = self.pace.slowest()?;
        let seconds = self.begun.get(lane).map_or(0.0, |at| at.elapsed().as_secs_f64());
        Some((phase, Slowest { node: title(lane), seconds, connect_seconds: None }))
    }
}

/// The hosts that were reached.
fn reached(facts: &Facts) -> BTreeSet<String> {
    facts.hosts.iter().filter(|(_, host)| host.up().is_some()).map(|(node, _)| node.clone()).collect()
}
