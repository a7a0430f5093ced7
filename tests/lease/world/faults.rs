//! Faults: one drawn at random, the end of all of them, and what comes back by itself.

use cluster_contract::request::Request;
use cluster_node::control_file::DbState;

use super::World;
use crate::node::Postgres;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), String> {
        let count = self.nodes.len();
        let index = usize::try_from(self.random.between(0, count as u64 - 1)).unwrap();
        let (id, real) = (self.nodes[index].id, self.real);
        let for_long = self.random.between(200, 25_000);
        let word = match self.random.between(1, 19) {
            1 if self.nodes[index].on => {
                self.nodes[index].crash();
                self.nodes[index].back_at = Some(real + for_long);
                format!("host {id} loses power for {for_long} ms")
            }
            2 if self.nodes[index].runs(real) => {
                self.nodes[index].frozen_until = real + for_long;
                if self.stands_still {
                    self.nodes[index].still.push((real, real + for_long));
                }
                format!("host {id} freezes for {for_long} ms")
            }
            3 | 4 => {
                let node = &mut self.nodes[index];
                if node.guard.take().is_some() && node.on {
                    node.guard_back_at = Some(real + 1_000);
                    // What was not synced survives the guard, not the host.
                    if let Some((_, hard_state)) = node.unsynced.take() {
                        node.disk = hard_state;
                    }
                }
                format!("the guard of {id} is killed")
            }
            5 if self.nodes[index].guard_runs(real) => {
                self.nodes[index].guard_frozen_since = Some(real);
                format!("the guard of {id} freezes")
            }
            6 if self.nodes[index].postgres == Postgres::Primary => {
                self.nodes[index].postgres_ends();
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
            11 if self.nodes[index].postgres == Postgres::Primary => {
                let other = (index + 1) % count;
                let to = Request::HandOver { to: format!("n{}", self.nodes[other].id) };
                let taken = self.request(index, &to)?;
                format!("{id} is to hand over to {}: {taken}", self.nodes[other].id)
            }
            12 => {
                self.provider.away = !self.provider.away;
                format!("the provider's API is {}", if self.provider.away { "away" } else { "back" })
            }
            13 if self.nodes[index].postgres == Postgres::Primary => {
                // By hand, or by an upgrade of its package.
                self.nodes[index].postgres = Postgres::Stopping;
                self.nodes[index].control = DbState::ShuttingDown;
                format!("PostgreSQL on {id} is stopped in order")
            }
            14 if self.nodes[index].postgres == Postgres::Primary => {
                self.nodes[index].standby_signal = true;
                format!("somebody puts a standby.signal beside the primary {id}")
            }
            15 => {
                self.nodes[index].bandwidth = if self.random.chance(50) { 1_500 } else { 200_000 };
                format!("{} bytes reach {id} in a grain of time", self.nodes[index].bandwidth)
            }
            16 if for_long.is_multiple_of(2) => {
                self.nodes[index].no_room = (real, real + 2 * for_long);
                format!("PostgreSQL on {id} has no room for {} ms", 2 * for_long)
            }
            16 => {
                self.nodes[index].disk_full_until = real + for_long;
                format!("the disk of {id} is full for {for_long} ms")
            }
            17 if self.nodes[index].on => {
                self.nodes[index].paused = !self.nodes[index].paused;
                format!("{id} is paused: {}", self.nodes[index].paused)
            }
            _ => {
                self.cuts.clear();
                "all links are mended".to_owned()
            }
        };
        self.last_fault = real;
        self.tell(word);
        Ok(())
    }

    pub(super) fn mend(&mut self) {
        self.last_fault = self.real;
        self.cuts.clear();
        self.provider.away = false;
        self.loss = 0;
        for node in &mut self.nodes {
            node.frozen_until = node.frozen_until.min(self.real);
            let real = self.real;
            node.still.iter_mut().for_each(|(_, until)| *until = (*until).min(real));
            node.postgres_frozen_until = node.postgres_frozen_until.min(self.real);
            node.back_at = node.back_at.map(|at| at.min(self.real));
            (node.paused, node.bandwidth, node.disk_full_until) = (false, 200_000, 0);
            node.no_room.1 = node.no_room.1.min(self.real);
        }
        self.tell("everything is mended".to_owned());
    }

    pub(super) fn come_back(&mut self) {
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
            if let Some((_, hard_state)) = node.unsynced.take_if(|(at, _)| real >= *at) {
                node.disk = hard_state;
            }
        }
    }
}
