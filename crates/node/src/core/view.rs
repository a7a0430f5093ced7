//! What a guard makes of its host: what it has noticed of it over time, and what it sees now.

use cluster_contract::journal::Event;
use cluster_contract::{Millis, NodeId, Position};

use super::{Core, LOOK, PRIMARY_BELIEVED_AFTER, PRIMARY_SILENT_AFTER, STANDS_BACK, STOP_LIMIT};
use crate::control::ControlState;
use crate::decision::Seen;

impl Core {
    /// Notices what has begun and what has ended since the last time.
    pub(super) fn notice(&mut self, now: Millis) {
        let (processes, standby_signal) = (self.host.processes, self.host.standby_signal);
        let ended = self.had_processes && !processes;
        let began = processes && !self.had_processes && self.has_seen;
        if began {
            (self.answered_primary, self.answered_at, self.look) = (None, None, None);
            // It reads the file as it begins, and a promotion removes it.
            self.began_as_standby = standby_signal;
        }
        let says_itself =
            self.control() == Some(ControlState::InArchiveRecovery) || self.answered_primary.is_some();
        if says_itself || !processes || !standby_signal {
            self.began_as_standby = false;
        }
        if ended {
            (self.answered_primary, self.answered_at) = (None, None);
            if !self.is_witness() {
                self.note(Event::Ended, "PostgreSQL has stopped");
                let on_purpose = now < self.restarting_until || now < self.returning_until;
                if self.lease.term().is_some() && !on_purpose && self.job.is_none() {
                    self.unfit_until = self.unfit_until.max(now + STANDS_BACK);
                }
            }
        }
        // A crash is no orderly shutdown, however alive the postmaster is that replays after it.
        if !processes || self.control() == Some(ControlState::InCrashRecovery) {
            self.stopping_since = None;
        }
        self.restart_ended |= ended;
        (self.had_processes, self.has_seen) = (processes, true);
    }

    fn control(&self) -> Option<ControlState> {
        self.host.control.map(|control| control.state)
    }

    /// The WAL of a PostgreSQL that does not run.
    fn stopped_position(&self) -> Option<Position> {
        if self.host.processes || self.job.is_some() || self.is_witness() || !self.host.finished {
            return None;
        }
        let at = self.host.control?.checkpoint;
        // A primary that was killed has more than its last checkpoint. What it reported was flushed.
        let reported = self.lease.own_report().filter(|_| !self.host.standby_signal);
        Some(reported.map_or(at, |reported| at.max(reported)))
    }

    /// Everything that is known now.
    pub(super) fn see(&self, now: Millis) -> Seen {
        Seen {
            now,
            witness: self.is_witness(),
            member: self.lease.is_member(),
            finished: self.host.finished,
            standby_signal: self.host.standby_signal,
            processes: self.host.processes,
            control: self.control(),
            look: self.look.clone(),
            answered_primary: self.answered_primary,
            answered_at: self.answered_at,
            began_as_standby: self.began_as_standby,
            stopped: self.stopped_position(),
            last_position: self.last_position,
            holds: self.lease.holds(now),
            term: self.lease.durable().term,
            bootstrap: self.bootstrap,
            job: self.job,
            job_since: self.job_since,
            restarting: now < self.restarting_until,
            stopping: self.stopping_since.is_some_and(|since| now < since + STOP_LIMIT)
                && self.answered_at.is_some_and(|at| now <= at + 3 * LOOK + PRIMARY_BELIEVED_AFTER),
            promised: now < self.promised_until,
            paused: self.host.paused.is_some(),
            kept: self.host.kept,
            half_rewound: self.host.half_rewound,
            primary: self.other_primary(now),
            diverged: self.diverged,
            unfit: now < self.unfit_until,
        }
    }

    pub(super) fn other_primary(&self, now: Millis) -> Option<NodeId> {
        let primary = self.primary.as_ref()?;
        (now <= primary.heard + PRIMARY_SILENT_AFTER
            && primary.heard >= primary.since + PRIMARY_BELIEVED_AFTER)
            .then_some(primary.node)
    }
}
