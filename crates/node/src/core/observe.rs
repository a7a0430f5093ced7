//! What a guard makes of its host: what it has noticed over time, and what it observes now.

use cluster_contract::journal::Event;
use cluster_contract::status::Level;
use cluster_contract::{Millis, NodeId, WalPosition};

use super::{
    CRASH_BACKOFF, Core, JOB_RETRY, OBSERVE_INTERVAL, PRIMARY_BELIEVED_AFTER, PRIMARY_SILENT_AFTER,
    STOP_LIMIT,
};
use crate::control_file::DbState;
use crate::decision::Observation;

impl Core {
    /// Notices what has begun and what has ended since the last time.
    pub(super) fn notice(&mut self, now: Millis) {
        self.notice_room(now);
        let (has_processes, standby_signal) = (self.host.has_processes, self.host.standby_signal);
        let ended = self.had_processes && !has_processes;
        if ended {
            self.forget_restart_unless_it_goes_on(now);
            // An answer that is on its way is the old server's.
            self.stale_before = now;
        }
        let restarting = self.is_restarting(now);
        let began = has_processes && !self.had_processes && self.has_observed_host;
        if began {
            (self.server_answered_primary, self.server_answered_at, self.server) = (None, None, None);
            // It reads the file as it begins, and a promotion removes it.
            self.started_as_standby = standby_signal;
        }
        let says_itself = self.control_state() == Some(DbState::InArchiveRecovery)
            || self.server_answered_primary.is_some();
        if says_itself || !has_processes || !standby_signal {
            self.started_as_standby = false;
        }
        if ended {
            (self.server_answered_primary, self.server_answered_at) = (None, None);
            if !self.is_witness() {
                self.journal(Event::ServerEnded, "PostgreSQL has stopped");
                let on_purpose = restarting || now < self.returning_until || self.host.paused.is_some();
                if self.lease.held_term().is_some() && !on_purpose && self.job.is_none() {
                    self.backoff_until = self.backoff_until.max(now + CRASH_BACKOFF);
                    self.failed_at = None;
                }
            }
        }
        // A crash is no orderly shutdown, however alive the postmaster is that replays after it.
        if !has_processes || self.control_state() == Some(DbState::InCrashRecovery) {
            self.shutting_down_since = None;
        }
        if ended {
            self.restart_ended(now);
        }
        (self.had_processes, self.has_observed_host) = (has_processes, true);
    }

    pub(super) fn control_state(&self) -> Option<DbState> {
        self.host.control_file.map(|file| file.state)
    }

    /// The end of the WAL of a PostgreSQL that does not run.
    fn stopped_position(&self) -> Option<WalPosition> {
        if self.host.has_processes || self.job.is_some() || self.is_witness() || !self.host.data_ready {
            return None;
        }
        let at = self.host.control_file?.checkpoint;
        // A primary that was killed has more than its last checkpoint. What it reported was flushed.
        let reported = self.lease.own_report().filter(|_| !self.host.standby_signal);
        Some(reported.map_or(at, |reported| at.max(reported)))
    }

    /// Everything that is known now.
    pub(super) fn observe(&self, now: Millis) -> Observation {
        Observation {
            now,
            is_witness: self.is_witness(),
            is_member: self.lease.is_member(),
            data_ready: self.host.data_ready,
            standby_signal: self.host.standby_signal,
            has_processes: self.host.has_processes,
            control_state: self.control_state(),
            server: self.server.clone(),
            server_answered_primary: self.server_answered_primary,
            server_answered_at: self.server_answered_at,
            started_as_standby: self.started_as_standby,
            stopped_at: self.stopped_position(),
            last_position: self.last_position,
            holds_lease: self.lease.holds(now),
            bootstrap: self.bootstrap,
            job: self.job,
            job_since: self.job_since,
            restarting: self.is_restarting(now),
            shutting_down: self.shutting_down_since.is_some_and(|since| now < since + STOP_LIMIT)
                && self.has_answered_lately(now),
            start_allowed: now < self.start_allowed_until,
            paused: self.host.paused.is_some(),
            diverged_data_kept: self.host.diverged_data_kept,
            half_rewound: self.host.half_rewound,
            other_primary: self.other_primary(now),
            diverged: self.diverged,
            backing_off: now < self.backoff_until && !self.nobody_else_wants_to_lead(now),
            disk_full: self.room.level() == Level::Full,
        }
    }

    /// Whether the server has said anything in its last few observations.
    pub(super) fn has_answered_lately(&self, now: Millis) -> bool {
        self.server_answered_at.is_some_and(|at| now <= at + 3 * OBSERVE_INTERVAL + PRIMARY_BELIEVED_AFTER)
    }

    /// Whether nobody has made use of it that this node lets others go first.
    fn nobody_else_wants_to_lead(&self, now: Millis) -> bool {
        self.failed_at.is_some_and(|failed| {
            now >= failed + JOB_RETRY && !self.lease.has_heard_another_candidate(failed)
        })
    }

    /// Another node that takes writes, as far as it is believed.
    pub(super) fn other_primary(&self, now: Millis) -> Option<NodeId> {
        let primary = self.other_primary.as_ref()?;
        (now <= primary.last_heard + PRIMARY_SILENT_AFTER
            && primary.last_heard >= primary.heard_since + PRIMARY_BELIEVED_AFTER)
            .then_some(primary.node)
    }
}
