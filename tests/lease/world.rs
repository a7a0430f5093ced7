//! The world of the simulation: nodes, a network that loses, delays and doubles, and a schedule of faults.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster::node::lease::{Durable, Event, Message, Millis, NodeId, Position, Timing};

use crate::laws::{self, Broken, Mistake};
use crate::node::{Node, Postgres};
use crate::provider::Provider;
use crate::random::Random;

/// The grain of time.
const STEP: Millis = 10;
/// How long faults happen; then everything is mended, and the cluster has to recover.
const TROUBLE: Millis = 90_000;
/// The bytes that a primary writes in a grain of time.
const WRITES: u64 = 2_000;
/// How long a guard that starts may take to believe that another node is primary.
const HEARS_AFTER: Millis = 2_500;
const LAG_LIMIT: u64 = 1 << 20;
/// The lengths that an operator changes his mind between, where that is what happens.
const LENGTHS: [Millis; 4] = [6_000, 9_000, 20_000, 60_000];

struct Flight {
    arrives: Millis,
    from: usize,
    to: usize,
    message: Message,
}

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
    /// What each question said of the asker's WAL, by asker and its clock: to know what a majority has heard.
    said: BTreeMap<(usize, Millis), Position>,
    /// The most that a majority has heard of.
    pub(crate) reported: Option<Position>,
    /// Since when the same majority is healthy, connected, and without a primary.
    leaderless: Option<(u32, Millis)>,
    log: VecDeque<String>,
}

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

impl World {
    fn outcome(mut self) -> Result<(), Broken> {
        let world = &mut self;
        world.run().map_err(|law| Broken { law, schedule: std::mem::take(&mut world.log).into() })
    }

    /// What happened, for whoever reads about a law that was broken.
    pub(crate) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log).into()
    }

    /// A network that loses little: what is looked at is not whether three messages in a row arrive.
    pub(crate) fn calm(&mut self) {
        (self.loss, self.doubling) = (self.loss / 8, self.doubling / 2);
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.random.between(least, most)
    }

    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cuts.extend([(one, other), (other, one)]);
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.tell("all links are mended".to_owned());
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

    pub(crate) fn new(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>, changes: bool) -> World {
        let mut random = Random::new(seed);
        let count = data + u32::from(witness);
        let members: Vec<NodeId> = (1..=count).collect();
        let timing = Timing::new(9_000, LAG_LIMIT, count as usize).unwrap();
        let nodes = members
            .iter()
            .map(|id| Node {
                id: *id,
                data: *id <= data,
                members: members.clone(),
                timing,
                rate_per_mille: i64::try_from(random.between(0, 20)).unwrap() - 10,
                booted: 0,
                on: true,
                frozen_until: 0,
                back_at: None,
                guard: None,
                generation: 0,
                guard_frozen_since: None,
                guard_back_at: None,
                next_tick: 0,
                postgres: if *id == 1 || *id > data { Postgres::Off } else { Postgres::Standby },
                postgres_frozen_until: 0,
                dies_at: None,
                yields_until: 0,
                stops_for: None,
                standby_signal: *id != 1,
                position: Position { timeline: 1, lsn: 1 << 24 },
                rejoins_at: None,
                kept: false,
                disk: Durable { term: 1, holder: Some(1), ..Durable::default() },
                unsynced: None,
                run: None,
                last_until: 0,
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
            said: BTreeMap::new(),
            reported: None,
            leaderless: None,
            log: VecDeque::new(),
        };
        for index in 0..world.nodes.len() {
            world.draw_length(index);
            world.nodes[index].start_guard(0, mistake);
        }
        world
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

    pub(crate) fn tell(&mut self, what: String) {
        if self.log.len() > 400 {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>7.2} s  {what}", self.real as f64 / 1000.0));
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    fn run(&mut self) -> Result<(), String> {
        let mut next_fault = self.random.between(3_000, 20_000);
        let mut mended = false;
        while self.real < TROUBLE + 60_000 + self.longer() {
            self.real += STEP;
            if self.real < TROUBLE && self.real >= next_fault {
                self.fault();
                next_fault = self.real + self.random.between(50, 12_000);
            } else if self.real >= TROUBLE && !mended {
                mended = true;
                self.mend();
            }
            self.come_back();
            self.deliver()?;
            self.ask_around()?;
            for index in 0..self.nodes.len() {
                self.live(index)?;
            }
            laws::safety(self)?;
            self.liveness()?;
        }
        if !self.nodes.iter().any(|node| node.postgres == Postgres::Primary) {
            return Err("a minute after everything was mended there is no primary".into());
        }
        Ok(())
    }

    fn liveness(&mut self) -> Result<(), String> {
        let primary = self.nodes.iter().any(|node| {
            node.on && node.postgres == Postgres::Primary && self.real >= node.postgres_frozen_until
        });
        // Where a lease ends by its release alone, there is no failover to wait for.
        let majority = laws::healthy_majority(self).filter(|_| !primary && self.nodes.len() > 2);
        self.leaderless = match (majority, self.leaderless) {
            (Some(now), Some((before, since))) if now == before => Some((before, since)),
            (Some(now), _) => Some((now, self.real)),
            (None, _) => None,
        };
        match self.leaderless {
            Some((set, since)) if self.real - since > laws::PRIMARY_WITHIN + self.longer() => Err(format!(
                "the healthy and connected majority {set:#b} has had no primary since {since} ms"
            )),
            _ => Ok(()),
        }
    }

    fn fault(&mut self) {
        let count = self.nodes.len();
        let index = usize::try_from(self.random.between(0, count as u64 - 1)).unwrap();
        let (id, real) = (self.nodes[index].id, self.real);
        let for_long = self.random.between(200, 25_000);
        let word = match self.random.between(1, 13) {
            1 if self.nodes[index].on => {
                self.nodes[index].crash();
                self.nodes[index].back_at = Some(real + for_long);
                format!("host {id} loses power for {for_long} ms")
            }
            2 if self.nodes[index].on => {
                self.nodes[index].frozen_until = real + for_long;
                format!("host {id} freezes for {for_long} ms")
            }
            3 | 4 => {
                let node = &mut self.nodes[index];
                if node.guard.take().is_some() && node.on {
                    node.guard_back_at = Some(real + 1_000);
                    // What was not synced survives the guard, not the host.
                    if let Some((_, durable)) = node.unsynced.take() {
                        node.disk = durable;
                    }
                }
                format!("the guard of {id} is killed")
            }
            5 if self.nodes[index].guard_runs(real) => {
                self.nodes[index].guard_frozen_since = Some(real);
                format!("the guard of {id} freezes")
            }
            6 if self.nodes[index].postgres == Postgres::Primary => {
                self.nodes[index].postgres = Postgres::Off;
                self.nodes[index].dies_at = None;
                self.nodes[index].yields_until = real + 5_000;
                format!("PostgreSQL on {id} crashes")
            }
            7 if self.nodes[index].postgres != Postgres::Off => {
                self.nodes[index].postgres_frozen_until = real + for_long;
                format!("PostgreSQL on {id} freezes for {for_long} ms")
            }
            8 => {
                for other in (0..count).filter(|other| *other != index) {
                    self.cuts.extend([(index, other), (other, index)]);
                }
                format!("{id} is isolated")
            }
            9 => {
                let other = (index + 1) % count;
                self.cuts.extend([(index, other), (other, index)]);
                format!("{id} and {} are cut off from each other", self.nodes[other].id)
            }
            10 => {
                for other in (0..count).filter(|other| *other != index) {
                    self.cuts.insert((index, other));
                }
                format!("nothing that {id} sends arrives")
            }
            11 if self.nodes[index].postgres == Postgres::Primary && self.nodes[index].dies_at.is_none() => {
                let other = (index + 1) % count;
                self.nodes[index].stops_for = Some(self.nodes[other].id);
                self.nodes[index].dies_at = Some(real + self.random.between(100, 2_000));
                format!("{id} is to hand over to {}", self.nodes[other].id)
            }
            12 => {
                self.provider.away = !self.provider.away;
                format!("the provider's API is {}", if self.provider.away { "away" } else { "back" })
            }
            _ => {
                self.cuts.clear();
                "all links are mended".to_owned()
            }
        };
        self.tell(word);
    }

    fn mend(&mut self) {
        self.cuts.clear();
        self.provider.away = false;
        self.loss = 0;
        for node in &mut self.nodes {
            node.frozen_until = node.frozen_until.min(self.real);
            node.postgres_frozen_until = node.postgres_frozen_until.min(self.real);
            node.back_at = node.back_at.map(|at| at.min(self.real));
        }
        self.tell("everything is mended".to_owned());
    }

    fn come_back(&mut self) {
        let (real, mistake) = (self.real, self.mistake);
        for index in 0..self.nodes.len() {
            if self.nodes[index].back_at.is_some_and(|at| real >= at) {
                self.draw_length(index);
            }
            let node = &mut self.nodes[index];
            let id = node.id;
            if node.back_at.is_some_and(|at| real >= at) {
                node.boot(real, mistake);
                self.tell(format!("host {id} boots"));
                continue;
            }
            if !node.runs(real) {
                continue;
            }
            // systemd kills a guard that has not been heard of, and starts it again.
            if node.guard_frozen_since.is_some_and(|since| real >= since + 5_000) {
                (node.guard, node.guard_frozen_since) = (None, None);
                node.guard_back_at = Some(real + 1_000);
            }
            if node.guard_back_at.is_some_and(|at| real >= at) {
                self.draw_length(index);
                self.nodes[index].start_guard(real, mistake);
                self.tell(format!("the guard of {id} starts"));
            }
            let node = &mut self.nodes[index];
            if let Some((_, durable)) = node.unsynced.take_if(|(at, _)| real >= *at) {
                node.disk = durable;
            }
        }
    }

    fn send(&mut self, from: usize, messages: Vec<(NodeId, Message)>) {
        for (to, message) in messages {
            let to = to as usize - 1;
            if let Message::Ask { asked_at, position, writable: true, .. } = &message {
                self.said.insert((from, *asked_at), *position);
            }
            let copies = 1 + u64::from(self.random.chance(self.doubling));
            for _ in 0..copies {
                if self.random.chance(self.loss) || self.is_cut(from, to) {
                    continue;
                }
                let late = if self.random.chance(2) { self.random.between(0, 15_000) } else { 0 };
                let arrives = self.real + self.random.between(1, self.delay) + late;
                self.flights.push(Flight { arrives, from, to, message: message.clone() });
            }
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        let real = self.real;
        let (due, flights) = self.flights.drain(..).partition(|flight| flight.arrives <= real);
        self.flights = flights;
        let due: Vec<Flight> = due;
        for flight in due {
            let node = &mut self.nodes[flight.to];
            if !node.on {
                continue;
            }
            if !node.guard_runs(real) {
                // It waits in the socket of a process that is frozen, and is lost with one that is gone.
                if node.guard.is_some() {
                    self.flights.push(Flight { arrives: real + STEP, ..flight });
                }
                continue;
            }
            let now = node.clock(real);
            let mut message = flight.message;
            if self.mistake == Some(Mistake::CountsFromReply)
                && let Message::Answer { asked_at, .. } = &mut message
            {
                *asked_at = now;
            }
            if self.mistake == Some(Mistake::KnowsItsOwnLengthOnly) {
                match &mut message {
                    Message::Ask { lease, .. } => *lease = self.nodes[flight.to].timing.lease,
                    Message::Answer { lease, .. } => *lease = Millis::MAX,
                    _ => {}
                }
            }
            let from = self.nodes[flight.from].id;
            let Some(guard) = self.nodes[flight.to].guard.as_mut() else { continue };
            let output = guard.receive(now, from, message);
            self.put(flight.to, output)?;
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, index: usize, output: cluster::node::lease::Output) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        let output = self.nodes[index].commit(output, real, mistake);
        // What a majority has heard, as the holder itself can tell.
        let node = &self.nodes[index];
        if !self.changes
            && let Some(until) =
                node.guard.as_ref().and_then(|guard| guard.until()).filter(|it| *it != Millis::MAX)
            && let Some(position) = self.said.get(&(index, until - node.timing.holds()))
            && self.reported.is_none_or(|reported| reported < *position)
        {
            self.reported = Some(*position);
        }
        let id = self.nodes[index].id;
        for event in &output.events {
            self.nodes[index].kept |= matches!(event, Event::Yielded { .. });
            if !matches!(event, Event::Refused { .. }) {
                self.tell(format!("{id}: {event:?}"));
            }
        }
        self.send(index, output.send);
        Ok(())
    }

    /// One grain of time on one node.
    fn live(&mut self, index: usize) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        if !self.nodes[index].runs(real) {
            return Ok(());
        }
        self.postgres(index);
        // The second watch, a process of its own, looks every half second.
        if real % 500 == 0 && !matches!(mistake, Some(Mistake::NoSentinel | Mistake::NeverFences)) {
            let node = &self.nodes[index];
            if node.run.is_some_and(|(_, until)| node.clock(real) >= until.saturating_add(500)) {
                self.kill(index);
            }
        }
        if !self.nodes[index].guard_runs(real) || real < self.nodes[index].next_tick {
            return Ok(());
        }
        self.nodes[index].next_tick = real + self.random.between(200, 400);
        let local = self.nodes[index].look(real, mistake);
        let now = self.nodes[index].clock(real);
        let Some(guard) = self.nodes[index].guard.as_mut() else { return Ok(()) };
        let mut output = guard.tick(now, local);
        if local.gone
            && let Some(heir) = self.nodes[index].stops_for.take()
            && let Some(guard) = self.nodes[index].guard.as_mut()
        {
            let more = guard.hand_over(now, heir);
            output.persist = more.persist.or(output.persist);
            output.send.extend(more.send);
            output.events.extend(more.events);
        }
        self.put(index, output)?;
        let generation = self.nodes[index].generation;
        if let Some(holder) = self.nodes[index].guard.as_ref().and_then(|guard| guard.silent_holder(now)) {
            self.provider.ask(&mut self.random, real, (index, generation), holder, now, mistake);
        }
        self.decide(index, now)
    }

    /// What the guard does with the lease, or without it.
    fn decide(&mut self, index: usize, now: Millis) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        let node = &self.nodes[index];
        let Some(guard) = node.guard.as_ref() else { return Ok(()) };
        let (holds, id) = (guard.holds(now), node.id);
        let ungranted =
            mistake == Some(Mistake::PromotesUngranted) && node.data && guard.holder(now).is_none();
        match node.postgres {
            Postgres::Standby if (holds || ungranted) && real >= node.postgres_frozen_until => {
                if !guard.is_forced() {
                    laws::may_rise(node.position, self.reported, node.timing.lag_limit)?;
                }
                self.nodes[index].postgres = Postgres::Rising(real + self.random.between(200, 2_500));
                self.tell(format!("{id} promotes with {}", self.nodes[index].position));
            }
            Postgres::Off if holds && !node.standby_signal => {
                self.nodes[index].postgres = Postgres::Rising(real + self.random.between(200, 2_500));
                self.tell(format!("{id} starts what was primary"));
            }
            Postgres::Primary | Postgres::Rising(_)
                if !holds && !ungranted && mistake != Some(Mistake::NeverFences) =>
            {
                self.kill(index);
            }
            Postgres::Off if node.standby_signal && node.data && node.rejoins_at.is_none() => {
                self.nodes[index].postgres = Postgres::Standby;
            }
            _ => {}
        }
        Ok(())
    }

    fn kill(&mut self, index: usize) {
        if matches!(self.nodes[index].postgres, Postgres::Primary | Postgres::Rising(_))
            && self.nodes[index].dies_at.is_none()
        {
            self.nodes[index].dies_at = Some(self.real + self.random.between(0, 1_400));
            self.tell(format!("{} fences itself", self.nodes[index].id));
        }
    }

    /// PostgreSQL itself: writes, dies, rises, follows.
    fn postgres(&mut self, index: usize) {
        let real = self.real;
        let node = &mut self.nodes[index];
        if node.dies_at.is_some_and(|at| real >= at) {
            (node.postgres, node.dies_at, node.postgres_frozen_until) = (Postgres::Off, None, 0);
            node.yields_until = real + 5_000;
        }
        if real < node.postgres_frozen_until {
            return;
        }
        match node.postgres {
            Postgres::Rising(at) if real >= at => {
                if node.standby_signal {
                    node.standby_signal = false;
                    node.position.timeline += 1;
                }
                node.postgres = Postgres::Primary;
            }
            Postgres::Primary => node.position.lsn += WRITES,
            _ => {}
        }
        self.follow(index);
    }

    /// Streams from a primary that can be reached, or rejoins it.
    fn follow(&mut self, index: usize) {
        let real = self.real;
        let upstream = (0..self.nodes.len()).find(|other| {
            let node = &self.nodes[*other];
            *other != index
                && node.runs(real)
                && node.postgres == Postgres::Primary
                && !self.is_cut(index, *other)
                && !self.is_cut(*other, index)
        });
        let theirs = upstream.map(|upstream| self.nodes[upstream].position);
        let node = &mut self.nodes[index];
        let (Some(theirs), true, false) = (theirs, node.data, node.kept) else { return };
        match node.postgres {
            // Streaming, a little late.
            Postgres::Standby if node.position.timeline == theirs.timeline => {
                node.position.lsn = node.position.lsn.max(theirs.lsn.saturating_sub(8_000));
            }
            // Another timeline, or what was primary: rewound or cloned in some seconds.
            Postgres::Standby | Postgres::Off
                if theirs.timeline > node.position.timeline && real >= node.booted + HEARS_AFTER =>
            {
                match node.rejoins_at {
                    None => node.rejoins_at = Some(real + 3_000),
                    Some(at) if real >= at => {
                        (node.rejoins_at, node.standby_signal) = (None, true);
                        (node.position, node.postgres) = (theirs, Postgres::Standby);
                    }
                    Some(_) => {}
                }
            }
            // What was primary, and nobody was promoted since.
            _ => {}
        }
    }
}
