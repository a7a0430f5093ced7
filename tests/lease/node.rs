//! One node of the simulation: a host, its disk, its guard and its PostgreSQL.

use cluster::node::lease::{Durable, Lease, Local, Millis, NodeId, Output, Position, Timing};

use crate::laws::Mistake;

/// What PostgreSQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Postgres {
    Off,
    Standby,
    /// Becomes primary at this real time, whoever watches.
    Rising(Millis),
    Primary,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) data: bool,
    pub(crate) members: Vec<NodeId>,
    pub(crate) timing: Timing,
    /// By how many thousandths its clock is too fast.
    pub(crate) rate_per_mille: i64,
    pub(crate) booted: Millis,
    /// Up, and not frozen as a whole.
    pub(crate) on: bool,
    pub(crate) frozen_until: Millis,
    pub(crate) back_at: Option<Millis>,
    pub(crate) guard: Option<Lease>,
    /// Counts the runs of the guard.
    pub(crate) generation: u32,
    pub(crate) guard_frozen_since: Option<Millis>,
    pub(crate) guard_back_at: Option<Millis>,
    pub(crate) next_tick: Millis,
    pub(crate) postgres: Postgres,
    pub(crate) postgres_frozen_until: Millis,
    /// Killed, and dead at this time.
    pub(crate) dies_at: Option<Millis>,
    /// Not a candidate before this: its PostgreSQL has just failed, and a standby goes first.
    pub(crate) yields_until: Millis,
    /// It is being stopped, for this node to take over.
    pub(crate) stops_for: Option<NodeId>,
    pub(crate) standby_signal: bool,
    pub(crate) position: Position,
    pub(crate) rejoins_at: Option<Millis>,
    /// It took writes beside another primary, and a person is to look at its data.
    pub(crate) kept: bool,
    // What survives: a crash of the host (synced), one of the guard (in memory).
    pub(crate) disk: Durable,
    /// Written and not synced; only a mistaken guard leaves something here.
    pub(crate) unsynced: Option<(Millis, Durable)>,
    pub(crate) run: Option<(u64, Millis)>,
    /// The end of the last lease that this node had proof of, kept for the laws.
    pub(crate) last_until: Millis,
}

impl Node {
    /// What its clock shows.
    pub(crate) fn clock(&self, real: Millis) -> Millis {
        let since = i64::try_from(real.saturating_sub(self.booted)).unwrap();
        u64::try_from(1_000 + since + since * self.rate_per_mille / 1000).unwrap()
    }

    pub(crate) fn runs(&self, real: Millis) -> bool {
        self.on && real >= self.frozen_until
    }

    pub(crate) fn guard_runs(&self, real: Millis) -> bool {
        self.runs(real) && self.guard.is_some() && self.guard_frozen_since.is_none()
    }

    pub(crate) fn start_guard(&mut self, real: Millis, mistake: Option<Mistake>) {
        let now = self.clock(real);
        let abstains_from = if mistake == Some(Mistake::NoAbstention) {
            now.saturating_sub(self.timing.waits())
        } else {
            now
        };
        let mut timing = self.timing;
        if mistake == Some(Mistake::WaitsTooShort) {
            (timing.lease, timing.fence_before, timing.grant_after) = (timing.holds(), 0, 0);
        }
        if mistake == Some(Mistake::NoListening) {
            timing.listen = 0;
        }
        if mistake == Some(Mistake::IgnoresLag) {
            timing.lag_limit = u64::MAX;
        }
        let mut disk = self.disk.clone();
        if mistake == Some(Mistake::ForgetsTheLength) {
            disk.lease = Some(timing.lease);
        }
        let mut lease = Lease::new(self.id, self.members.clone(), timing, disk, abstains_from);
        if let Some((term, until)) = self.run {
            let afresh = mistake == Some(Mistake::ResumesAfresh);
            lease.resume(term, if afresh { now + self.timing.holds() } else { until }, now);
        }
        self.guard = Some(lease);
        self.generation += 1;
        (self.guard_frozen_since, self.guard_back_at) = (None, None);
        self.next_tick = real;
    }

    /// What its guard sees of it.
    pub(crate) fn look(&self, real: Millis, mistake: Option<Mistake>) -> Local {
        let writable = self.postgres == Postgres::Primary;
        let answers = real >= self.postgres_frozen_until;
        let dying = self.dies_at.is_some();
        let could = match self.postgres {
            Postgres::Off => self.data && !self.standby_signal && real >= self.yields_until,
            Postgres::Standby => answers,
            Postgres::Rising(_) | Postgres::Primary => answers && !dying,
        };
        let gone = matches!(self.postgres, Postgres::Off | Postgres::Standby);
        Local {
            position: Some(self.position),
            candidate: self.data
                && could
                && !self.kept
                && self.rejoins_at.is_none()
                && !(self.postgres == Postgres::Primary),
            renew: (self.stops_for.is_some() && !gone)
                || (matches!(self.postgres, Postgres::Primary | Postgres::Rising(_)) && answers && !dying),
            writable,
            gone: gone || (mistake == Some(Mistake::ReleasesTooEarly) && dying),
            heir: self.stops_for,
        }
    }

    /// Power is cut.
    pub(crate) fn crash(&mut self) {
        (self.on, self.guard, self.run, self.unsynced) = (false, None, None, None);
        (self.postgres, self.dies_at, self.rejoins_at, self.stops_for) = (Postgres::Off, None, None, None);
        (self.guard_frozen_since, self.guard_back_at) = (None, None);
        (self.frozen_until, self.postgres_frozen_until) = (0, 0);
    }

    pub(crate) fn boot(&mut self, real: Millis, mistake: Option<Mistake>) {
        (self.on, self.booted, self.back_at) = (true, real, None);
        self.start_guard(real, mistake);
    }

    /// Puts on disk what must be there first, and says what may be sent.
    pub(crate) fn commit(&mut self, output: Output, real: Millis, mistake: Option<Mistake>) -> Output {
        if let Some(durable) = &output.persist {
            if mistake == Some(Mistake::AnswersBeforeDisk) {
                self.unsynced = Some((real + 2_000, durable.clone()));
            } else {
                self.disk = durable.clone();
            }
        }
        if let Some(guard) = &self.guard
            && let (Some(term), Some(until)) = (guard.term(), guard.until())
        {
            self.run = Some((term, until));
            self.last_until = until;
        } else if self.guard.as_ref().is_some_and(|guard| guard.term().is_none()) {
            self.run = None;
        }
        output
    }
}
