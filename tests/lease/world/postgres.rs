//! PostgreSQL in a grain of time: it starts, writes, streams, stops, dies and rises; and the jobs that make it do so.

use cluster_contract::request::Request;
use cluster_contract::{Millis, WalPosition};
use cluster_node::control_file::DbState;
use cluster_node::core::Input;
use cluster_node::decision::Job;

use super::World;
use crate::laws::Mistake;
use crate::node::{Letter, Postgres, Work};

/// The bytes that a primary writes in a grain of time.
const WRITES: u64 = 2_000;
/// By how much a standby that keeps up is behind.
const BEHIND: u64 = 8_000;
/// A receiver gives up a host that says nothing after this.
const RECEIVER_TIMEOUT: Millis = 5_000;
/// How far behind a successor may be before its primary is stopped for it.
const SUCCESSOR_LAG: u64 = 1 << 20;
/// How long it is waited for to come so near.
const CATCH_UP: Millis = 10_000;
/// How long a shutdown may take before the job gives it up; and the successor for the last of it.
const STOP: Millis = 60_000;
const SUCCESSOR: Millis = 5_000;
/// How long a rewind takes.
const REWIND: Millis = 3_000;

impl World {
    pub(super) fn is_reached(&self, one: usize, other: usize) -> bool {
        self.nodes[other].runs(self.real) && !self.is_cut(one, other) && !self.is_cut(other, one)
    }

    pub(super) fn postgres(&mut self, index: usize) -> Result<(), String> {
        let real = self.real;
        let node = &mut self.nodes[index];
        if node.dies_at.is_some_and(|at| real >= at) {
            if node.postgres == Postgres::Primary || node.postgres == Postgres::Stopping {
                self.last_end = None;
            }
            self.nodes[index].postgres_ends();
        }
        if self.nodes[index].answers(real) {
            self.change(index)?;
            self.stream(index);
        }
        self.work(index)
    }

    /// What PostgreSQL becomes by itself.
    fn change(&mut self, index: usize) -> Result<(), String> {
        let real = self.real;
        match self.nodes[index].postgres {
            Postgres::Starting(at) if real >= at => {
                let node = &mut self.nodes[index];
                if node.standby_signal {
                    (node.postgres, node.control) = (Postgres::Standby, DbState::InArchiveRecovery);
                } else {
                    (node.postgres, node.control) = (Postgres::Primary, DbState::InProduction);
                }
            }
            Postgres::Rising(at) if real >= at => {
                // The last thing before it takes writes: `recovery_end_command` asks the guard.
                let ungranted = self.mistake == Some(Mistake::PromotesUngranted);
                let asked = self.nodes[index].guard_runs(real);
                let granted = ungranted || (asked && self.request(index, &Request::MayPromote)?);
                if !granted {
                    self.nodes[index].postgres_ends();
                    return Ok(());
                }
                let node = &mut self.nodes[index];
                node.standby_signal = false;
                node.history.push(node.position);
                node.position.timeline += 1;
                (node.checkpoint, node.upstream) = (node.position, None);
                (node.postgres, node.control) = (Postgres::Primary, DbState::InProduction);
                self.last_end = None;
            }
            Postgres::Primary => self.nodes[index].position.lsn += WRITES,
            Postgres::Stopping => {
                // It ends when those that stream from it have everything.
                let end = self.nodes[index].position;
                let waits = (0..self.nodes.len()).any(|other| {
                    let node = &self.nodes[other];
                    node.upstream.is_some_and(|(from, _)| from == index) && node.position.lsn < end.lsn
                });
                if !waits {
                    let node = &mut self.nodes[index];
                    node.postgres_ends();
                    (node.control, node.checkpoint) = (DbState::ShutDown, end);
                    self.last_end = Some((index, end, real));
                    let id = self.nodes[index].id;
                    self.tell(format!("PostgreSQL on {id} was shut down at {end}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Streams from a primary that can be reached.
    fn stream(&mut self, index: usize) {
        let real = self.real;
        if self.nodes[index].postgres != Postgres::Standby {
            return;
        }
        let sends = |postgres: Postgres| matches!(postgres, Postgres::Primary | Postgres::Stopping);
        // What it streams from may fall silent for a while before it is given up.
        if let Some((from, heard)) = self.nodes[index].upstream {
            let is_there = self.is_reached(index, from);
            let ended = is_there && !sends(self.nodes[from].postgres);
            if ended || real > heard + RECEIVER_TIMEOUT {
                self.nodes[index].upstream = None;
            } else if is_there && self.nodes[from].answers(real) {
                self.nodes[index].upstream = Some((from, real));
            } else {
                return;
            }
        }
        if self.nodes[index].upstream.is_none() {
            // Not all standbys at the same moment.
            if !(real + 700 * index as Millis).is_multiple_of(self.stream_retry) {
                return;
            }
            let upstream = (0..self.nodes.len()).find(|other| {
                *other != index
                    && self.nodes[*other].postgres == Postgres::Primary
                    && self.nodes[*other].answers(real)
                    && self.is_reached(index, *other)
                    && self.nodes[index].can_follow(&self.nodes[*other])
            });
            let Some(from) = upstream else { return };
            let (timeline, history) = (self.nodes[from].position.timeline, self.nodes[from].history.clone());
            let node = &mut self.nodes[index];
            node.upstream = Some((from, real));
            (node.position.timeline, node.history) = (timeline, history);
        }
        let Some((from, _)) = self.nodes[index].upstream else { return };
        let theirs = &self.nodes[from];
        let (behind, lsn) =
            (if theirs.postgres == Postgres::Stopping { 0 } else { BEHIND }, theirs.position.lsn);
        let node = &mut self.nodes[index];
        let most = node.position.lsn + node.bandwidth;
        node.position.lsn = node.position.lsn.max(lsn.saturating_sub(behind).min(most));
    }

    fn ended(&mut self, index: usize, job: Job, result: Result<&str, &str>) {
        (self.nodes[index].work, self.nodes[index].worked) = (None, Some((job, result.is_ok())));
        let result = result.map(str::to_owned).map_err(Into::into);
        self.mail(index, self.real, Letter::Is(Input::JobEnded(job, result)));
    }

    /// The job that the guard has begun.
    fn work(&mut self, index: usize) -> Result<(), String> {
        let real = self.real;
        // It ends with its guard, and stands still with it.
        if !self.nodes[index].guard_runs(real) {
            return Ok(());
        }
        let Some(Work { job, begun, acted }) = self.nodes[index].work else { return Ok(()) };
        let postgres = self.nodes[index].postgres;
        match job {
            Job::Start if !acted && real >= begun + 50 => {
                let standby = self.nodes[index].standby_signal && !self.nodes[index].half_rewound;
                if !standby && !self.request(index, &Request::MayStart)? {
                    self.ended(index, job, Err("the guard says no"));
                } else if postgres == Postgres::Off {
                    self.nodes[index].postgres = Postgres::Starting(real + self.random.between(200, 2_500));
                }
                if let Some(work) = &mut self.nodes[index].work {
                    work.acted = true;
                }
            }
            Job::Start if acted => match postgres {
                Postgres::Standby | Postgres::Primary => self.ended(index, job, Ok("started")),
                Postgres::Off => self.ended(index, job, Err("it has ended again")),
                _ => {}
            },
            Job::Start => {}
            Job::Promote => match postgres {
                Postgres::Primary => self.ended(index, job, Ok("promoted")),
                Postgres::Rising(_) => {}
                _ => self.ended(index, job, Err("it has ended")),
            },
            Job::Rejoin { of, .. } => self.rejoin(index, of as usize - 1, begun),
            Job::HandOver { to } => self.stop_for(index, to as usize - 1, (begun, acted)),
        }
        Ok(())
    }

    fn rejoin(&mut self, index: usize, of: usize, begun: Millis) {
        let (real, job) = (self.real, self.nodes[index].work.map(|work| work.job));
        let Some(job) = job else { return };
        if self.nodes[index].postgres != Postgres::Off {
            self.nodes[index].postgres_ends();
        }
        let is_primary = self.nodes[of].postgres == Postgres::Primary && self.is_reached(index, of);
        if !is_primary {
            self.ended(index, job, Err("it is not primary"));
        } else if real >= begun + REWIND {
            let (position, history) = (self.nodes[of].position, self.nodes[of].history.clone());
            let behind = WalPosition { lsn: position.lsn.saturating_sub(BEHIND), ..position };
            let node = &mut self.nodes[index];
            (node.position, node.history, node.checkpoint) = (behind, history, behind);
            (node.standby_signal, node.half_rewound) = (true, false);
            (node.postgres, node.control) = (Postgres::Standby, DbState::InArchiveRecovery);
            self.ended(index, job, Ok("rejoined"));
        } else if real >= begun + 500 {
            self.nodes[index].half_rewound = true;
            self.nodes[index].standby_signal = false;
        }
    }

    fn stop_for(&mut self, index: usize, successor: usize, (begun, acted): (Millis, bool)) {
        let (real, postgres) = (self.real, self.nodes[index].postgres);
        let Some(job) = self.nodes[index].work.map(|work| work.job) else { return };
        let lacks = self.nodes[index].position.lsn.saturating_sub(self.nodes[successor].position.lsn);
        let streams = self.nodes[successor].upstream.is_some_and(|(from, _)| from == index);
        match postgres {
            Postgres::Primary
                if !acted && (!streams || (lacks > SUCCESSOR_LAG && real > begun + CATCH_UP)) =>
            {
                self.ended(index, job, Err("the successor lacks too much"));
            }
            Postgres::Primary if !acted && lacks <= SUCCESSOR_LAG => {
                self.nodes[index].postgres = Postgres::Stopping;
                self.nodes[index].control = DbState::ShuttingDown;
                if let Some(work) = &mut self.nodes[index].work {
                    (work.acted, work.begun) = (true, real);
                }
            }
            Postgres::Primary if !acted => {}
            Postgres::Stopping if real > begun + STOP => {
                self.ended(index, job, Err("the shutdown does not end"));
            }
            Postgres::Stopping => {}
            Postgres::Off if acted && lacks == 0 => self.ended(index, job, Ok("stopped")),
            Postgres::Off if acted && real < begun + STOP + SUCCESSOR => {
                // Asked for a while; what it lacks cannot come any more.
                if real > begun + SUCCESSOR {
                    self.ended(index, job, Err("the successor does not get the end"));
                }
            }
            _ => self.ended(index, job, Err("it has ended")),
        }
    }
}
