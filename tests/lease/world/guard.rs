//! What a guard makes of a grain of time: it looks, ticks, sends, promotes and fences.

use cluster::node::lease::{Event, Millis, Output};

use super::World;
use crate::laws::{self, Mistake};
use crate::node::Postgres;

impl World {
    /// One grain of time on one node.
    pub(super) fn live(&mut self, index: usize) -> Result<(), String> {
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
        let output = guard.tick(now, local);
        if local.gone {
            self.nodes[index].stops_for = None;
        }
        self.put(index, output)?;
        let generation = self.nodes[index].generation;
        if let Some(holder) = self.nodes[index].guard.as_ref().and_then(|guard| guard.silent_holder(now)) {
            self.provider.ask(&mut self.random, real, (index, generation), holder, now, mistake);
        }
        self.decide(index, now)
    }

    pub(crate) fn put(&mut self, index: usize, output: Output) -> Result<(), String> {
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
}
