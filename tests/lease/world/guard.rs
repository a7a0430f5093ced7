//! The guard's edges in the simulation: what happens becomes an input of the real core, and what comes out is done.

use cluster_contract::Millis;
use cluster_contract::journal::Event;
use cluster_contract::timing::{HEARTBEAT_TIMEOUT, WATCH_GRACE, WATCH_INTERVAL};
use cluster_node::core::{Effect, Input, Relief, Replication};
use cluster_node::decision::Job;
use cluster_node::lease::{LeaseEvent, Message};
use cluster_node::postgres::{STREAM_SILENT_AFTER, ServerObservation, ServerState};

use super::World;
use crate::laws::{self, Mistake};
use crate::node::{Letter, Mail, Postgres, Work};

impl World {
    /// One grain of time on one node.
    pub(super) fn live(&mut self, index: usize) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        if !self.nodes[index].runs(real) {
            return Ok(());
        }
        self.postgres(index)?;
        if real % WATCH_INTERVAL == 0 && !matches!(mistake, Some(Mistake::NoSentinel | Mistake::NeverFences))
        {
            let node = &self.nodes[index];
            if node.run.is_some_and(|held| node.clock(real) >= held.until.saturating_add(WATCH_GRACE)) {
                self.kill(index);
            }
        }
        if !self.nodes[index].guard_runs(real) {
            return Ok(());
        }
        self.post(index)?;
        if real >= self.nodes[index].next_tick {
            self.nodes[index].next_tick = real + self.random.between(200, 400);
            self.feed(index, Input::Tick)?;
            if mistake == Some(Mistake::PromotesUngranted) {
                self.promote_ungranted(index);
            }
        }
        Ok(())
    }

    /// What has come to the guard.
    fn post(&mut self, index: usize) -> Result<(), String> {
        let real = self.real;
        if self.nodes[index].mail.iter().all(|mail| mail.due > real) {
            return Ok(());
        }
        let (due, rest) = self.nodes[index].mail.drain(..).partition(|mail| mail.due <= real);
        self.nodes[index].mail = rest;
        let due: Vec<Mail> = due;
        for mail in due {
            if mail.run != self.nodes[index].runs {
                continue;
            }
            let input = match mail.what {
                Letter::Is(input) => input,
                Letter::ReplicationRepaired => Input::ReplicationRepaired(Ok(self.check_replication(index))),
                Letter::Observation(began) => {
                    let waited = real.saturating_sub(began);
                    if !self.nodes[index].answers(real)
                        && self.nodes[index].postgres != Postgres::Off
                        && waited < HEARTBEAT_TIMEOUT
                    {
                        let due = real + 10;
                        self.nodes[index].mail.push(Mail {
                            due,
                            run: mail.run,
                            what: Letter::Observation(began),
                        });
                        continue;
                    }
                    Input::ServerObserved(self.observe_server(index, began))
                }
            };
            self.feed(index, input)?;
        }
        Ok(())
    }

    fn observe_server(&self, index: usize, began: Millis) -> ServerObservation {
        let (real, node) = (self.real, &self.nodes[index]);
        let upstream = || {
            let (upstream, heard) = node.upstream?;
            (real <= heard + STREAM_SILENT_AFTER).then(|| format!("10.0.0.{}", self.nodes[upstream].id))
        };
        let state = match node.postgres {
            _ if !node.answers(real) => ServerState::Silent("no heartbeat".into()),
            Postgres::Off => ServerState::Silent("no such file".into()),
            Postgres::Starting(_) => ServerState::Busy("it starts".into()),
            Postgres::Stopping => ServerState::Busy("it shuts down".into()),
            Postgres::Standby => ServerState::Standby { upstream: upstream() },
            Postgres::Rising(_) => ServerState::Standby { upstream: None },
            Postgres::Primary if self.mistake == Some(Mistake::BelievesTheFile) && node.standby_signal => {
                ServerState::Standby { upstream: None }
            }
            Postgres::Primary => ServerState::Primary,
        };
        let answers = matches!(state, ServerState::Primary | ServerState::Standby { .. });
        let position = answers.then_some(node.position);
        ServerObservation { began: node.clock(began), at: node.clock(real), state, position }
    }

    fn check_replication(&self, index: usize) -> Replication {
        let upstream = (0..self.nodes.len()).find(|other| self.nodes[*other].postgres == Postgres::Primary);
        let node = &self.nodes[index];
        match upstream.filter(|other| *other != index && self.is_reached(index, *other)) {
            Some(other) if node.postgres == Postgres::Standby && !node.can_follow(&self.nodes[other]) => {
                Replication::Diverged
            }
            _ => Replication::Sound,
        }
    }

    /// Hands the core an input, and does what it says.
    pub(crate) fn feed(&mut self, index: usize, input: Input) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        let node = &mut self.nodes[index];
        let (now, host) = (node.clock(real), node.host(real, mistake));
        let Some(guard) = node.guard.as_mut() else { return Ok(()) };
        let effects = guard.handle(now, &host, input);
        if !self.carry_out(index, effects)? {
            self.persist_failed(index)?;
        }
        Ok(())
    }

    /// Told at once, as by the guard itself, whose loop hears of nothing in between.
    fn persist_failed(&mut self, index: usize) -> Result<(), String> {
        let (real, mistake) = (self.real, self.mistake);
        let node = &mut self.nodes[index];
        let (now, host) = (node.clock(real), node.host(real, mistake));
        let Some(guard) = node.guard.as_mut() else { return Ok(()) };
        let effects = guard.handle(now, &host, Input::PersistFailed("full".into()));
        self.carry_out(index, effects)?;
        Ok(())
    }

    /// Whether all that had to be made durable was.
    pub(crate) fn carry_out(&mut self, index: usize, effects: Vec<Effect>) -> Result<bool, String> {
        let real = self.real;
        if !effects.is_sorted_by_key(|effect| !matches!(effect, Effect::Fence(_))) {
            return Err(format!("node {}: something comes before the fence", self.nodes[index].id));
        }
        let is_full = real < self.nodes[index].disk_full_until;
        let mut failed = false;
        for effect in effects {
            match effect {
                Effect::GiveUpDivergedData if failed => {}
                Effect::Persist(_) | Effect::KeepDivergedData | Effect::GiveUpDivergedData if is_full => {
                    failed = true
                }
                // What depends on it is not done.
                Effect::Send(_, Some(_)) if failed => {}
                Effect::BeginJob(job) if failed => {
                    self.mail(index, real, Letter::Is(Input::JobEnded(job, Err("full".into()))));
                }
                effect => self.do_one(index, effect)?,
            }
        }
        let node = &self.nodes[index];
        // What a majority has heard, as the holder itself can tell; a first claim that was taken up again says nothing of others.
        let have_granted = self.nodes.iter().filter(|node| node.disk.term > 0).count();
        if !self.changes
            && 2 * have_granted > self.nodes.len()
            && let Some(guard) = &node.guard
            && let Some(until) = guard.lease().until().filter(|it| *it != Millis::MAX)
            && let Some(position) = self.said.get(&(index, until - node.timing.holder_window()))
            && self.reported.is_none_or(|reported| reported < *position)
        {
            self.reported = Some(*position);
        }
        Ok(!failed)
    }

    fn do_one(&mut self, index: usize, effect: Effect) -> Result<(), String> {
        let (real, mistake, id) = (self.real, self.mistake, self.nodes[index].id);
        match effect {
            Effect::Fence(_) if mistake == Some(Mistake::NeverFences) => {}
            Effect::Fence(_) => self.kill(index),
            Effect::KeepDivergedData => self.nodes[index].kept = true,
            Effect::GiveUpDivergedData => self.nodes[index].kept = false,
            Effect::Persist(hard_state) if mistake == Some(Mistake::AnswersBeforeDisk) => {
                self.nodes[index].unsynced = Some((real + 2_000, hard_state));
            }
            Effect::Persist(hard_state) => {
                self.nodes[index].disk = hard_state;
                if mistake == Some(Mistake::ForgetsThatItLed) {
                    self.nodes[index].disk.last_held = None;
                }
            }
            Effect::NoteLease(held) => {
                self.nodes[index].run = held;
                // A first term that is not on the disk was not requested of anybody.
                if let Some(held) = held.filter(|_| !self.nodes[index].disk.is_of_a_new_cluster()) {
                    self.nodes[index].last_until = held.until;
                }
            }
            Effect::Send(to, Some(message)) => {
                let stops = self.nodes[index].postgres == Postgres::Stopping;
                let is_request = matches!(message, Message::RequestLease { .. });
                if !(mistake == Some(Mistake::AsksNothingInAStop) && stops && is_request) {
                    self.send(index, vec![(to, message)]);
                }
            }
            Effect::Send(_, None) => {}
            Effect::Journal(entry) if [Event::Refused, Event::Reserve].contains(&entry.event) => {}
            Effect::Journal(entry) => self.tell(format!("{id}: {}", entry.text)),
            Effect::ObserveServer => {
                let due = real + self.random.between(5, 50);
                self.mail(index, due, Letter::Observation(real));
            }
            Effect::BeginJob(job) => self.begin(index, job)?,
            Effect::AbortJob => self.nodes[index].work = None,
            Effect::MoveAddress { .. } => {
                let moved = if self.provider.away { Err("away".to_owned()) } else { Ok(false) };
                self.mail(index, real + 100, Letter::Is(Input::AddressMoved(moved)));
            }
            Effect::StopMovingAddress => {
                self.nodes[index].mail.retain(|mail| !matches!(mail.what, Letter::Is(Input::AddressMoved(_))))
            }
            Effect::AskProvider(holder) => {
                let (run, now) = (self.nodes[index].runs, self.nodes[index].clock(real));
                self.provider.ask(&mut self.random, real, (index, run), holder, now, mistake);
            }
            Effect::RepairReplication { .. } => self.mail(index, real + 100, Letter::ReplicationRepaired),
            Effect::MakeReserve { .. } | Effect::FreeReserve => {
                self.mail(index, real + 20, Letter::Is(Input::ReserveChanged(Ok(String::new()))));
            }
            Effect::RefuseWrites(refuses) => {
                let result = if self.nodes[index].answers(real) { Ok(0) } else { Err("silent".to_owned()) };
                self.mail(index, real + 100, Letter::Is(Input::RefusalSet { refuses, result }));
            }
            Effect::Relieve { .. } => {
                self.mail(index, real + 100, Letter::Is(Input::Relieved(Ok(Relief::default()))));
            }
            Effect::CheckHost => {
                let full = real < self.nodes[index].disk_full_until;
                let persist = if full { Err("full".to_owned()) } else { Ok(()) };
                let checked = Input::HostChecked { persist, no_room: None, runs_old_program: false };
                self.mail(index, real + 20, Letter::Is(checked));
            }
        }
        Ok(())
    }

    pub(super) fn mail(&mut self, index: usize, due: Millis, what: Letter) {
        let run = self.nodes[index].runs;
        self.nodes[index].mail.push(Mail { due, run, what });
    }

    fn begin(&mut self, index: usize, job: Job) -> Result<(), String> {
        let real = self.real;
        if job == Job::Promote {
            self.may_promote(index)?;
            self.nodes[index].postgres = Postgres::Rising(real + self.random.between(200, 2_500));
        }
        self.nodes[index].work = Some(Work { job, begun: real, acted: false });
        Ok(())
    }

    fn may_promote(&mut self, index: usize) -> Result<(), String> {
        let node = &self.nodes[index];
        let is_forced = node.guard.as_ref().is_some_and(|guard| guard.lease().is_forced());
        if is_forced || laws::knows_no_better(self, node) {
            return Ok(());
        }
        laws::has_room_to_rise(node, self.real)?;
        laws::may_rise(node.position, self.reported, node.timing.lag_limit_bytes)?;
        laws::nothing_planned_is_lost(self, index)
    }

    fn promote_ungranted(&mut self, index: usize) {
        let (real, node) = (self.real, &self.nodes[index]);
        let Some(guard) = &node.guard else { return };
        let hears_of_none = guard.lease().holder(node.clock(real)).is_none();
        if node.data && node.postgres == Postgres::Standby && node.answers(real) && hears_of_none {
            self.nodes[index].postgres = Postgres::Rising(real + 300);
        }
    }

    pub(super) fn kill(&mut self, index: usize) {
        let node = &self.nodes[index];
        if node.data && node.postgres != Postgres::Off && node.dies_at.is_none() {
            self.nodes[index].dies_at = Some(self.real + self.random.between(0, 1_400));
            self.tell(format!("{} fences itself", self.nodes[index].id));
        }
    }

    /// A person's word. Whether the guard took it.
    pub(crate) fn force(&mut self, index: usize) -> Result<bool, String> {
        let taken = self.request(index, &cluster_contract::request::Request::TakeByForce)?;
        let forced = self.nodes[index].guard.as_ref().is_some_and(|guard| guard.lease().is_forced());
        assert!(!taken || forced, "{:?}", LeaseEvent::TakenByForce { term: 0 });
        Ok(taken)
    }

    /// Asks the guard something, and does what follows from its answer. Whether it was a yes.
    pub(crate) fn request(
        &mut self,
        index: usize,
        request: &cluster_contract::request::Request,
    ) -> Result<bool, String> {
        let (real, mistake) = (self.real, self.mistake);
        let node = &mut self.nodes[index];
        let (now, host) = (node.clock(real), node.host(real, mistake));
        let Some(guard) = node.guard.as_mut() else { return Ok(false) };
        let (verdict, effects) = guard.answer_request(now, &host, request, false);
        let stored = self.carry_out(index, effects)?;
        if !stored {
            self.persist_failed(index)?;
        }
        Ok(verdict.allowed && stored)
    }
}
