//! What comes back from work beside the core.

use cluster_contract::journal::Event;
use cluster_contract::status::Server;
use cluster_contract::{Millis, NodeId};

use super::{
    ADDRESS_POLL, ADDRESS_RETRY, Core, Effect, FAILED_BACKOFF, INQUIRY, LOOK, MEND, MEND_RETRY, Mended,
    RETRY, STANDS_BACK, STOP_LIMIT, TOLD,
};
use crate::decision::Job;
use crate::postgres::{Look, State};

impl Core {
    pub(super) fn looked(&mut self, now: Millis, look: Look) {
        self.looks.ended(now + LOOK);
        if look.began < self.stale_before {
            self.looks.next = now;
            self.look_again(now);
            return;
        }
        let before = self.look.as_ref().map(|look| std::mem::discriminant(&look.state));
        if before != Some(std::mem::discriminant(&look.state)) {
            let (server, text) = match &look.state {
                State::Primary => (Server::Primary, "PostgreSQL takes writes".to_owned()),
                State::Standby { .. } => (Server::Standby, "PostgreSQL is a standby".to_owned()),
                State::Busy(why) | State::Silent(why) => {
                    (Server::Down, format!("PostgreSQL does not answer: {why}"))
                }
            };
            self.note(Event::Postgresql { server: Some(server) }, text);
        }
        match &look.state {
            State::Primary => {
                if self.restart_ended {
                    // It is through: what ends from here on has failed.
                    self.restarting_until = 0;
                }
                (self.stopping_since, self.returning_until) = (None, 0);
                if self.job.is_none() {
                    // It was to have the term after a stop that has not ended in a release.
                    self.heir = None;
                }
                self.is_well(now);
            }
            State::Standby { .. } => self.is_well(now),
            State::Busy(_) if self.answered_primary == Some(true) && self.host.processes => {
                self.stopping_since = self.stopping_since.or(Some(now));
            }
            State::Busy(_) | State::Silent(_) => {}
        }
        if self.host.processes {
            match &look.state {
                State::Primary => self.answered_primary = Some(true),
                State::Standby { .. } => self.answered_primary = Some(false),
                State::Busy(_) | State::Silent(_) => {}
            }
            if !matches!(look.state, State::Silent(_)) {
                self.answered_at = Some(look.at);
            }
            if self.answered_primary.is_some() {
                self.began_as_standby = false;
            }
        }
        self.last_position = look.position.or(self.last_position);
        self.look = Some(look);
        self.tick(now);
    }

    /// PostgreSQL runs: what a start has failed with is over, whoever has started it since.
    fn is_well(&mut self, now: Millis) {
        if self.job.is_none() && now >= self.told_until {
            self.job_trouble = None;
        }
    }

    pub(super) fn job_ended(&mut self, now: Millis, job: Job, result: Result<String, String>) {
        if self.job != Some(job) {
            // It was given up for another, and had just ended.
            return;
        }
        // What was seen before it ended says nothing about now.
        (self.job, self.look, self.stale_before) = (None, None, now);
        match result {
            Ok(text) => {
                self.note(Event::Done { job: Some(job.kind()) }, text.clone());
                self.last = text;
                self.job_trouble = None;
                match job {
                    Job::Rejoin { .. } => {
                        // Whatever failed here before, this is a sound standby now, and what it had is another's.
                        (self.unfit_until, self.retry_at) = (0, 0);
                        (self.diverged, self.last_position, self.answered_primary) = (false, None, None);
                        // Not before: until then it must not count as data that might lead.
                        self.host.kept = false;
                        self.effects.push(Effect::GiveUpData);
                        let output = self.lease.give_up_writes();
                        self.put(now, output);
                    }
                    // The heir has the time of a lease; this node must not want it back at once.
                    Job::HandOver { .. } => self.unfit_until = now + 2 * STANDS_BACK,
                    Job::Start | Job::Promote => {}
                }
            }
            Err(error) => {
                let text = format!("the {} failed: {error}", job.kind());
                self.note(Event::Failed { job: Some(job.kind()) }, text.clone());
                self.job_trouble = Some(text);
                self.heir = None;
                match job {
                    // It goes on here, or starts again once its shutdown has ended, with the lease that it still has.
                    Job::HandOver { .. } => {
                        (self.returning_until, self.told_until) = (now + STOP_LIMIT, now + TOLD);
                    }
                    Job::Rejoin { .. } => self.retry_at = now + RETRY,
                    Job::Start | Job::Promote => {
                        (self.unfit_until, self.retry_at) = (now + FAILED_BACKOFF, now + RETRY);
                    }
                }
            }
        }
        self.looks.next = now;
        self.tick(now);
    }

    pub(super) fn address_moved(&mut self, now: Millis, result: Result<bool, String>) {
        let pause = if matches!(result, Ok(false)) { ADDRESS_POLL } else { ADDRESS_RETRY };
        self.address.ended(now + pause);
        match result {
            Ok(moved) => {
                if moved {
                    self.note(Event::Address, "the floating IP points here now");
                }
                (self.has_address, self.address_trouble) = (Some(true), None);
            }
            Err(error) => {
                let text = format!("floating IP: {error}");
                if self.address_trouble.as_ref() != Some(&text) {
                    self.note(Event::Trouble, text.clone());
                }
                (self.has_address, self.address_trouble) = (Some(false), Some(text));
            }
        }
    }

    pub(super) fn provider_said(
        &mut self,
        now: Millis,
        (node, asked_at): (NodeId, Millis),
        answer: Result<bool, String>,
    ) {
        let next = self.inquiry.next.max(asked_at + INQUIRY);
        self.inquiry.ended(next);
        // A lease runs out without the provider's word.
        if answer != Ok(true) {
            return;
        }
        let output = self.lease.off(now, node, asked_at);
        if output.persist.is_some() {
            let text = format!("the provider reports that {} is off", self.name(node));
            self.note(Event::Off { about: Some(self.name(node).to_owned()) }, text);
        }
        self.put(now, output);
    }

    pub(super) fn mended(&mut self, now: Millis, result: Result<Mended, String>) {
        self.mend.ended(now + if self.astray_since.is_some() { MEND_RETRY } else { MEND });
        let trouble = match result {
            Ok(mended) => {
                let diverged = mended == Mended::Diverged;
                if diverged && !self.diverged {
                    self.note(Event::Diverged, "this standby has WAL that is not in the primary's history");
                }
                self.diverged = diverged;
                None
            }
            Err(error) => Some(format!("repmgr's records: {error}")),
        };
        if let Some(text) = trouble.clone().filter(|_| trouble != self.unmended) {
            self.note(Event::Trouble, text);
        }
        self.unmended = trouble;
    }

    pub(super) fn stored(&mut self, now: Millis, result: Result<(), String>) {
        let trouble = result.err();
        let is_well = trouble.is_none();
        if self.disk_trouble.is_some() == is_well {
            match &trouble {
                Some(why) => {
                    self.note(Event::Trouble, format!("cannot persist its vote and grants nothing: {why}"))
                }
                None => self.note(Event::Mended, "can persist its vote again"),
            }
        }
        self.disk_trouble = trouble;
        let output = self.lease.remember(is_well);
        self.put(now, output);
    }
}
