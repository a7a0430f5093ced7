//! What comes back from work beside the core.

use cluster_contract::journal::Event;
use cluster_contract::status::Server;
use cluster_contract::{Millis, NodeId};

use super::{
    ADDRESS_POLL, ADDRESS_RETRY, ALLOWED_START_LIMIT, CRASH_BACKOFF, Core, Effect,
    FAILED_HAND_OVER_SHOWN_FOR, FAILURE_BACKOFF, FailedClones, HAND_OVER_BACKOFF, JOB_RETRY, JobFailure,
    OBSERVE_INTERVAL, PROVIDER_POLL, REPAIR_INTERVAL, REPAIR_RETRY, Replication, STOP_LIMIT,
};
use crate::control_file::DbState;
use crate::decision::Job;
use crate::postgres::{ServerObservation, ServerState};

impl Core {
    pub(super) fn server_observed(&mut self, now: Millis, server: ServerObservation) {
        self.observations.ended(now + OBSERVE_INTERVAL);
        if server.began < self.stale_before {
            self.observations.next = now;
            self.observe_again(now);
            return;
        }
        let before = self.server.as_ref().map(|server| std::mem::discriminant(&server.state));
        if before != Some(std::mem::discriminant(&server.state)) {
            let (role, text) = match &server.state {
                ServerState::Primary => (Server::Primary, "PostgreSQL takes writes".to_owned()),
                ServerState::Standby { .. } => (Server::Standby, "PostgreSQL is a standby".to_owned()),
                ServerState::Busy(why) | ServerState::Silent(why) => {
                    (Server::Down, format!("PostgreSQL does not answer: {why}"))
                }
            };
            self.journal(Event::ServerChanged { server: Some(role) }, text);
        }
        match &server.state {
            ServerState::Primary => {
                // It is through: what ends from here on has failed.
                self.restart = self.restart.filter(|restart| !restart.has_ended());
                self.start_allowed_until = 0;
                (self.shutting_down_since, self.returning_until) = (None, 0);
                if self.job.is_none() {
                    // It was to have the term after a stop that has not ended in a release.
                    self.successor = None;
                }
                self.is_well(now);
            }
            ServerState::Standby { .. } => self.is_well(now),
            // What is replayed after a crash is no orderly shutdown: another has it all and need not wait.
            ServerState::Busy(_)
                if self.server_answered_primary == Some(true)
                    && self.host.has_processes
                    && self.control_state() != Some(DbState::InCrashRecovery) =>
            {
                self.shutting_down_since = self.shutting_down_since.or(Some(now));
            }
            ServerState::Busy(_) if self.host.has_processes && self.starts_on(now) => {
                self.start_allowed_until = now + ALLOWED_START_LIMIT;
            }
            ServerState::Busy(_) | ServerState::Silent(_) => {}
        }
        if self.host.has_processes {
            match &server.state {
                ServerState::Primary => self.server_answered_primary = Some(true),
                ServerState::Standby { .. } => self.server_answered_primary = Some(false),
                ServerState::Busy(_) | ServerState::Silent(_) => {}
            }
            if !matches!(server.state, ServerState::Silent(_)) {
                self.server_answered_at = Some(server.at);
            }
            if self.server_answered_primary.is_some() {
                self.started_as_standby = false;
            }
        }
        self.last_position = server.position.or(self.last_position);
        self.server = Some(server);
        self.tick(now);
    }

    /// Whether a server that says that it starts, or stops, is one that was allowed to start and has time left: what it replays may
    /// take as long as it takes, and nothing else of it more than a shutdown.
    fn starts_on(&self, now: Millis) -> bool {
        let is_allowed = now < self.start_allowed_until.max(self.resumed_until);
        let replays = self.control_state() == Some(DbState::InCrashRecovery);
        is_allowed && (replays || now < self.start_allowed_since + STOP_LIMIT)
    }

    /// PostgreSQL runs: what a start has failed with is over, whoever has started it since.
    fn is_well(&mut self, now: Millis) {
        if self.job.is_none() && now >= self.failed_hand_over_shown_until {
            self.job_trouble = None;
        }
    }

    pub(super) fn job_ended(&mut self, now: Millis, job: Job, result: Result<String, JobFailure>) {
        if self.job != Some(job) {
            // It was given up for another, and had just ended.
            return;
        }
        // What was observed before it ended says nothing about now.
        (self.job, self.server, self.stale_before) = (None, None, now);
        match result {
            Ok(text) => {
                self.journal(Event::JobDone { job: Some(job.kind()) }, text.clone());
                self.last_action = text;
                // Whoever asked for a hand-over looks for what came of it, also where PostgreSQL was started again here since.
                if now >= self.failed_hand_over_shown_until
                    || matches!(job, Job::HandOver { .. } | Job::Rejoin { .. })
                {
                    self.job_trouble = None;
                }
                match job {
                    Job::Rejoin { .. } => {
                        // Whatever failed here before, this is a sound standby now, and what it had is another's.
                        (self.backoff_until, self.retry_at, self.failed_clones) = (0, 0, None);
                        (self.diverged, self.last_position, self.server_answered_primary) =
                            (false, None, None);
                        // Not before: until then it must not count as data that might lead.
                        self.host.diverged_data_kept = false;
                        self.effects.push(Effect::GiveUpDivergedData);
                        let output = self.lease.clear_last_held();
                        self.carry_out(now, output);
                    }
                    Job::HandOver { .. } => {
                        (self.backoff_until, self.failed_at) = (now + HAND_OVER_BACKOFF, None);
                        // Whatever was allowed to start before it has ended with it.
                        self.start_allowed_until = 0;
                    }
                    Job::Start | Job::Promote => {}
                }
            }
            Err(error) => {
                let mut text = format!("the {} failed: {}", job.kind(), error.text);
                if let Job::Rejoin { of, .. } = job
                    && error.cloning
                {
                    let failed = FailedClones::and(self.failed_clones, of, now);
                    self.failed_clones = Some(failed);
                    text.push_str(&format!("; the next clone is tried in {} s", (failed.next - now) / 1_000));
                }
                self.journal(Event::JobFailed { job: Some(job.kind()) }, text.clone());
                self.job_trouble = Some(text);
                self.successor = None;
                let has_crashed =
                    !self.host.has_processes && self.control_state() == Some(DbState::InProduction);
                match job {
                    // Killed before it was stopped: its successor has what there is.
                    Job::HandOver { .. } if has_crashed => {
                        (self.backoff_until, self.failed_at) = (now + CRASH_BACKOFF, None);
                        self.failed_hand_over_shown_until = now + FAILED_HAND_OVER_SHOWN_FOR;
                    }
                    // It goes on here, or starts again once its shutdown has ended, with the lease that it still has.
                    Job::HandOver { .. } => {
                        (self.returning_until, self.failed_hand_over_shown_until) =
                            (now + STOP_LIMIT, now + FAILED_HAND_OVER_SHOWN_FOR);
                    }
                    Job::Rejoin { .. } => self.retry_at = now + JOB_RETRY,
                    Job::Start | Job::Promote => {
                        (self.backoff_until, self.retry_at) = (now + FAILURE_BACKOFF, now + JOB_RETRY);
                        self.failed_at = Some(now);
                        // Whoever has restarted it has not come further.
                        (self.restart, self.start_allowed_until) = (None, 0);
                    }
                }
            }
        }
        self.observations.next = now;
        self.tick(now);
    }

    pub(super) fn address_moved(&mut self, now: Millis, result: Result<bool, String>) {
        let pause = if matches!(result, Ok(false)) { ADDRESS_POLL } else { ADDRESS_RETRY };
        self.address.ended(now + pause);
        match result {
            Ok(moved) => {
                if moved {
                    self.journal(Event::AddressMoved, "the floating IP points here now");
                }
                (self.has_address, self.address_trouble) = (Some(true), None);
            }
            Err(error) => {
                let text = format!("floating IP: {error}");
                if self.address_trouble.as_ref() != Some(&text) {
                    self.journal(Event::Trouble, text.clone());
                }
                // Where it leads is as it was seen last: an API that is away moves nothing.
                self.address_trouble = Some(text);
            }
        }
    }

    pub(super) fn provider_answered(
        &mut self,
        now: Millis,
        (node, asked_at): (NodeId, Millis),
        answer: Result<bool, String>,
    ) {
        let next = self.provider_poll.next.max(asked_at + PROVIDER_POLL);
        self.provider_poll.ended(next);
        // A lease runs out without the provider's word.
        if answer != Ok(true) {
            return;
        }
        let output = self.lease.holder_is_off(now, node, asked_at);
        if output.persist.is_some() {
            let text = format!("the provider reports that {} is off", self.name(node));
            self.journal(Event::HostOff { about: Some(self.name(node).to_owned()) }, text);
        }
        self.carry_out(now, output);
    }

    pub(super) fn replication_repaired(&mut self, now: Millis, result: Result<Replication, String>) {
        self.repair
            .ended(now + if self.wrong_upstream_since.is_some() { REPAIR_RETRY } else { REPAIR_INTERVAL });
        let trouble = match result {
            Ok(replication) => {
                let diverged = replication == Replication::Diverged;
                if diverged && !self.diverged {
                    self.journal(
                        Event::Diverged,
                        "this standby has WAL that is not in the primary's history",
                    );
                }
                self.diverged = diverged;
                None
            }
            Err(error) => Some(format!("repmgr's records: {error}")),
        };
        if let Some(text) = trouble.clone().filter(|_| trouble != self.repair_trouble) {
            self.journal(Event::Trouble, text);
        }
        self.repair_trouble = trouble;
    }

    pub(super) fn persist_checked(&mut self, now: Millis, result: Result<(), String>) {
        let trouble = result.err();
        let is_well = trouble.is_none();
        if self.cannot_persist.is_some() == is_well {
            match &trouble {
                Some(why) => {
                    self.journal(Event::Trouble, format!("cannot persist its vote and grants nothing: {why}"))
                }
                None => self.journal(Event::Repaired, "can persist its vote again"),
            }
        }
        self.cannot_persist = trouble;
        let output = self.lease.set_can_persist(is_well);
        self.carry_out(now, output);
    }
}
