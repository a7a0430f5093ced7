//! The world of the simulation: nodes, a network that loses, delays and doubles, and a schedule of faults.

mod faults;
mod guard;
mod members;
mod network;
mod postgres;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster_contract::timing::Timing;
use cluster_contract::{Millis, NodeId, WalPosition};

use crate::laws::{self, Broken, Mistake};
use crate::node::{Node, Postgres};
use crate::provider::Provider;
use crate::random::Random;
use network::Flight;

/// The grain of time.
const STEP: Millis = 10;
/// How long faults happen; then everything is mended, and the cluster has to recover.
const TROUBLE: Millis = 90_000;
const LAG_LIMIT: u64 = 1 << 20;
/// The lengths that an operator changes his mind between, where that is what happens.
const LENGTHS: [Millis; 4] = [6_000, 9_000, 20_000, 42_000];

pub(crate) struct World {
    pub(crate) real: Millis,
    pub(crate) nodes: Vec<Node>,
    pub(crate) provider: Provider,
    random: Random,
    pub(crate) mistake: Option<Mistake>,
    /// Whether guards start with another length of the lease than before.
    changes: bool,
    flights: Vec<Flight>,
    /// Directed pairs whose messages are lost.
    cuts: BTreeSet<(usize, usize)>,
    loss: u64,
    doubling: u64,
    delay: Millis,
    /// Whether some messages arrive many seconds later.
    is_late: bool,
    /// What each question said of the asker's WAL, by asker and its clock: to know what a majority has heard.
    said: BTreeMap<(usize, Millis), WalPosition>,
    /// The most that a majority has heard of.
    pub(crate) reported: Option<WalPosition>,
    /// The last orderly end of a primary: which node's, with what, and when. None once something has gone wrong with it.
    pub(crate) last_end: Option<(usize, WalPosition, Millis)>,
    /// When the last fault fell that a planned stop may not survive.
    pub(crate) last_fault: Millis,
    /// The members that are in force, the number of their configuration, and those that are to come.
    pub(crate) members: Vec<u32>,
    generation: u64,
    steps: VecDeque<Vec<u32>>,
    next_step: Millis,
    /// Whether the clock of a host that is frozen stands still.
    pub(crate) stands_still: bool,
    /// How long a standby without a primary waits before it tries again to stream.
    pub(crate) stream_retry: Millis,
    /// Since when the same majority is healthy, connected, and without a primary.
    leaderless: Option<(u32, Millis)>,
    log: VecDeque<String>,
}

/// There is a primary by then where nothing breaks.
const LEADS_WITHIN: Millis = 50_000;

/// Runs one schedule.
pub(crate) fn run(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).outcome()
}

/// Runs one schedule in which every guard that starts has a length of the lease of its own.
pub(crate) fn run_changing(
    seed: u64,
    data: u32,
    witness: bool,
    mistake: Option<Mistake>,
) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, true).outcome()
}

/// Runs one schedule in a world that has been made.
pub(crate) fn run_in(world: World) -> Result<(), Broken> {
    world.outcome()
}

/// Runs one schedule in which the clock of a host that is frozen stands still.
pub(crate) fn run_standing_still(
    seed: u64,
    data: u32,
    witness: bool,
    mistake: Option<Mistake>,
) -> Result<(), Broken> {
    let mut world = World::new(seed, data, witness, mistake, false);
    world.stands_still = true;
    world.outcome()
}

impl World {
    pub(crate) fn new(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>, changes: bool) -> World {
        let mut random = Random::new(seed);
        let count = data + u32::from(witness);
        let members: Vec<NodeId> = (1..=count).collect();
        let timing = Timing::new(9_000, LAG_LIMIT, count as usize).unwrap();
        let members: Vec<(NodeId, bool)> = members.into_iter().map(|id| (id, id <= data)).collect();
        let nodes = members
            .iter()
            .map(|(id, data)| Node {
                rate_per_mille: i64::try_from(random.between(0, 20)).unwrap() - 10,
                ..Node::new(*id, *data, members.clone(), timing)
            })
            .collect();
        let (loss, doubling, delay) = (random.between(0, 20), random.between(0, 20), random.between(1, 400));
        let mut world = World {
            real: 0,
            nodes,
            random,
            mistake,
            changes,
            provider: Provider::default(),
            flights: Vec::new(),
            cuts: BTreeSet::new(),
            loss,
            doubling,
            delay,
            is_late: true,
            said: BTreeMap::new(),
            reported: None,
            last_end: None,
            last_fault: 0,
            members: (1..=count).collect(),
            generation: 0,
            steps: VecDeque::new(),
            next_step: 10_000,
            stands_still: false,
            stream_retry: STEP,
            leaderless: None,
            log: VecDeque::new(),
        };
        for index in 0..world.nodes.len() {
            world.draw_length(index);
            world.nodes[index].start_guard(0, mistake);
        }
        world
    }

    fn outcome(self) -> Result<(), Broken> {
        self.play(World::run)
    }

    /// Plays a scenario, of which a law that breaks it tells.
    pub(crate) fn play(
        mut self,
        scenario: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Result<(), Broken> {
        scenario(&mut self).map_err(|law| Broken { law, schedule: self.log.into() })
    }

    /// Passes `time`, and more until there is a primary; returns its index.
    pub(crate) fn settle(&mut self, time: Millis) -> Result<usize, String> {
        self.pass_until(|world| world.primary().is_some() && world.real > time, time + LEADS_WITHIN, true)?;
        Ok(self.primary().unwrap_or_default())
    }

    fn run(&mut self) -> Result<(), String> {
        let mut next_fault = self.random.between(3_000, 20_000);
        let mut mended = false;
        while self.real < TROUBLE + 60_000 + self.longer() {
            self.real += STEP;
            if self.real < TROUBLE && self.real >= next_fault {
                self.fault()?;
                next_fault = self.real + self.random.between(50, 12_000);
            } else if self.real >= TROUBLE && !mended {
                mended = true;
                self.mend();
            }
            self.come_back();
            self.operate();
            self.deliver()?;
            self.ask_around()?;
            for index in 0..self.nodes.len() {
                self.live(index)?;
            }
            laws::safety(self)?;
            self.liveness()?;
        }
        // Whoever makes the first primary of all a standby has to force one.
        let is_undone =
            self.nodes.iter().all(|node| node.disk.term == 0 && (node.standby_signal || !node.data));
        if !is_undone && !self.nodes.iter().any(|node| node.postgres == Postgres::Primary) {
            return Err("a minute after everything was mended there is no primary".into());
        }
        laws::all_stand_behind_the_primary(self).inspect_err(|_| self.describe())
    }

    fn liveness(&mut self) -> Result<(), String> {
        if self.real.is_multiple_of(1_000) {
            laws::troubles(self)?;
        }
        let primary = self.nodes.iter().any(|node| {
            node.on && node.postgres == Postgres::Primary && self.real >= node.postgres_frozen_until
        });
        // A person who pauses a primary may stop its PostgreSQL: its guard keeps the lease, and nobody takes over.
        let is_kept = self.nodes.iter().any(|node| {
            node.paused
                && node.guard_runs(self.real)
                && node.guard.as_ref().is_some_and(|guard| guard.lease().holds(node.clock(self.real)))
        });
        // Where a lease ends by its release alone, there is no failover to wait for; nor before the first lease of all.
        let has_led = self.nodes.iter().filter(|node| node.disk.term > 0).count() > self.members.len() / 2;
        let is_awaited = !primary && !is_kept && has_led && self.nodes.len() > 2;
        let majority = is_awaited.then(|| laws::healthy_majority(self)).flatten();
        self.leaderless = match (majority, self.leaderless) {
            (Some(now), Some((before, since))) if now == before => Some((before, since)),
            (Some(now), _) => Some((now, self.real)),
            (None, _) => None,
        };
        match self.leaderless {
            Some((set, since)) if self.real - since > laws::PRIMARY_WITHIN + self.longer() => {
                self.describe();
                Err(format!(
                    "the healthy and connected majority {set:#b} has had no primary since {since} ms"
                ))
            }
            _ => Ok(()),
        }
    }

    /// What every node is and wants, for whoever reads why nothing goes on.
    fn describe(&mut self) {
        let lines: Vec<String> = self
            .nodes
            .iter()
            .map(|node| {
                let guard = node.guard.as_ref().map(|guard| guard.status(node.clock(self.real)));
                format!(
                    "{}: {:?}, {}, half rewound {}, kept {}, paused {}; guard: {guard:?}",
                    node.id, node.postgres, node.position, node.half_rewound, node.kept, node.paused,
                )
            })
            .collect();
        lines.into_iter().for_each(|line| self.tell(line));
    }

    /// The first node that takes writes.
    pub(crate) fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.postgres == Postgres::Primary)
    }

    /// One of these that takes writes.
    pub(crate) fn primary_among(&self, some: &[usize]) -> Option<usize> {
        some.iter().copied().find(|index| self.nodes[*index].postgres == Postgres::Primary)
    }

    /// Lets time pass without faults; `safe` says whether the laws of safety hold meanwhile.
    pub(crate) fn pass(&mut self, time: Millis, safe: bool) -> Result<(), String> {
        let until = self.real + time;
        while self.real < until {
            self.real += STEP;
            self.come_back();
            self.deliver()?;
            for index in 0..self.nodes.len() {
                self.live(index)?;
            }
            if safe {
                laws::safety(self)?;
            }
        }
        Ok(())
    }

    /// The same until something is so, for `limit` at most.
    pub(crate) fn pass_until(
        &mut self,
        so: impl Fn(&World) -> bool,
        limit: Millis,
        safe: bool,
    ) -> Result<(), String> {
        let begun = self.real;
        while !so(self) {
            self.pass(STEP, safe)?;
            if self.real > begun + limit {
                return Err(format!("not settled within {limit} ms"));
            }
        }
        Ok(())
    }

    /// `cluster up` has written another length, here and perhaps nowhere else.
    fn draw_length(&mut self, index: usize) {
        if self.changes {
            let lease = LENGTHS[usize::try_from(self.random.between(0, LENGTHS.len() as u64 - 1)).unwrap()];
            self.nodes[index].timing = Timing::new(lease, LAG_LIMIT, self.nodes.len()).unwrap();
            self.tell(format!("{} has leases of {lease} ms", self.nodes[index].id));
        }
    }

    /// By how much a lease may be longer than what the laws' figures are made for.
    pub(crate) fn longer(&self) -> Millis {
        if self.changes { 2 * (LENGTHS[LENGTHS.len() - 1] - 9_000) } else { 0 }
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.random.between(least, most)
    }

    pub(crate) fn tell(&mut self, what: String) {
        if self.log.len() > 400 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>7.2} s  {what}", self.real as f64 / 1000.0));
    }
}
