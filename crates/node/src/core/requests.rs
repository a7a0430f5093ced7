//! What other programs on this node ask of the guard.

use cluster_contract::Millis;
use cluster_contract::request::{Code, Request, Verdict};

use super::{ALLOWED_START_LIMIT, Core, Effect, Forcing, HostObservation, Job, Output, Refusal, Restart};
use crate::lease::force::CannotForce;

fn yes(why: impl Into<String>) -> Verdict {
    Verdict::yes(why)
}

fn no(code: Code, why: impl Into<String>) -> Verdict {
    Verdict::no(code, why)
}

impl Core {
    /// Answers, with the effects of the answer. `first_start` is whether `cluster up` has announced the first start
    /// of a new primary, which is used up by a yes. If the effects cannot be carried out, the answer is no.
    pub fn answer_request(
        &mut self,
        now: Millis,
        host: &HostObservation,
        request: &Request,
        first_start: bool,
    ) -> (Verdict, Vec<Effect>) {
        host.clone_into(&mut self.host);
        self.notice(now);
        self.settle_force(now, true);
        self.settle_first_term(true);
        let verdict = self.verdict(now, request, first_start);
        (verdict, std::mem::take(&mut self.effects))
    }

    fn verdict(&mut self, now: Millis, request: &Request, first_start: bool) -> Verdict {
        let holds = self.lease.holds(now);
        match request {
            Request::TakeByForce => self.take_by_force(now),
            Request::Rejoin { clone } => self.rejoin(now, *clone),
            Request::HandOver { .. } if self.host.paused.is_some() => no(
                Code::Paused,
                "the cluster is paused: the primary would stop, and the standby would not promote",
            ),
            Request::HandOver { .. } if self.lease.is_forced() => no(
                Code::HoldsByForce,
                "this node holds the lease by force; a majority must be back before it can hand over",
            ),
            Request::HandOver { to } if holds => self.hand_over(now, to),
            Request::Restart | Request::MayStart if self.is_handing_over() => {
                no(Code::Busy, "a hand-over is in progress")
            }
            Request::Restart if holds || self.bootstrap => {
                self.restart = Some(Restart::announced(now));
                yes("the lease is kept during the restart")
            }
            // It has ended and is started again, between two observations maybe.
            Request::MayStart if holds && self.is_restarting(now) => {
                self.restart = self.restart.map(|restart| restart.starts(now));
                self.allow_start(now);
                yes("this node holds the lease")
            }
            Request::MayStart if self.host.half_rewound => {
                let why = "a rewind is in progress; PostgreSQL starts once it has finished";
                if matches!(self.job, Some(Job::Rejoin { .. })) {
                    yes(why)
                } else {
                    no(Code::HalfRewound, why)
                }
            }
            Request::MayStart if holds => {
                self.allow_start(now);
                yes("this node holds the lease")
            }
            Request::MayStart if self.bootstrap && first_start => {
                yes("`cluster up` starts it for the first time")
            }
            _ if holds => yes("this node holds the lease"),
            _ => no(Code::NotHolder, format!("this node does not hold the lease; {}", self.why)),
        }
    }

    /// Whether the lease is to go to another in a moment: what would run again here would keep it. Where a pause has begun
    /// meanwhile, nobody gives it away, and a person may start what has stopped.
    fn is_handing_over(&self) -> bool {
        matches!(self.job, Some(Job::HandOver { .. }))
            || (self.successor.is_some() && self.job.is_none() && self.host.paused.is_none())
    }

    /// Its processes are there in a moment; until then it must not count as gone. What was seen before says nothing of it.
    fn allow_start(&mut self, now: Millis) {
        (self.start_allowed_since, self.stale_before) = (now, now);
        self.start_allowed_until = now + ALLOWED_START_LIMIT;
    }

    fn hand_over(&mut self, now: Millis, to: &str) -> Verdict {
        let successor = self.config.peers().find(|peer| peer.name == *to && !peer.witness).cloned();
        match (successor, self.job) {
            (None, _) => no(Code::NoSuccessor, format!("there is no other data node `{to}`")),
            (_, Some(job)) => no(Code::Busy, format!("a {} is in progress", job.kind())),
            (Some(successor), None) => {
                self.successor = Some(successor.id);
                // What a person began before is over: the stop that comes now is not to be waited out.
                self.restart = None;
                let why = format!("to {}", successor.name);
                self.begin_job(now, Job::HandOver { to: successor.id }, &why);
                yes(why)
            }
        }
    }

    /// Takes the lease without a majority, on a person's word.
    fn take_by_force(&mut self, now: Millis) -> Verdict {
        if self.lease.holds(now) {
            return yes("this node holds the lease");
        }
        if self.is_witness() || !self.host.data_ready {
            return no(Code::NoData, format!("{} has no data to promote", self.config.node));
        }
        if self.host.paused.is_some() {
            return no(Code::Paused, "this node is paused and would not promote");
        }
        if let Some(primary) = self.other_primary(now) {
            return no(
                Code::PrimaryHeard,
                format!("{} takes writes, according to this guard", self.name(primary)),
            );
        }
        if let Some(job) = self.job {
            return no(Code::Busy, format!("a {} is in progress", job.kind()));
        }
        let before = self.lease.clone();
        match self.lease.take_by_force(now) {
            Ok(mut output) => {
                // What follows from it, here and in the journal, comes once it is known to be on disk.
                self.forcing = Some(Forcing { before, events: std::mem::take(&mut output.events) });
                self.carry_out(now, output);
                self.host.diverged_data_kept = false;
                self.effects.push(Effect::GiveUpDivergedData);
                yes("this node holds the lease by force")
            }
            Err(CannotForce::NoPosition) => {
                no(Code::NoPosition, "PostgreSQL does not answer, so the node's WAL position is unknown")
            }
            Err(CannotForce::Refused(refusal @ Refusal::LeaseActive { .. })) => {
                no(Code::LeaseActive, refusal.to_string())
            }
            Err(CannotForce::Refused(refusal)) => no(Code::Refused, refusal.to_string()),
        }
    }

    /// Whether what was taken by force a moment ago is on disk is known now.
    pub(super) fn settle_force(&mut self, now: Millis, stored: bool) {
        let Some(Forcing { before, events }) = self.forcing.take() else { return };
        if stored {
            self.backoff_until = 0;
            events.into_iter().for_each(|event| self.lease_event(now, event));
            return;
        }
        // Who asked is told so, and may turn to another node. Part of it may be on disk, and must not be obeyed later.
        self.lease = before;
        self.effects.push(Effect::Persist(self.lease.hard_state().clone()));
        self.carry_out(now, Output::default());
    }

    /// What a node of a new cluster could not write down of its first term has not happened, and nobody was sent it: a guard that
    /// starts here anew would know nothing of it, and the first primary would take writes as if it had requested nothing.
    pub(super) fn settle_first_term(&mut self, stored: bool) {
        match self.before_first_term.take() {
            Some(before) if !stored => self.lease = before,
            _ => {
                let is_new = stored && self.lease.hard_state().is_of_a_new_cluster();
                self.before_first_term = is_new.then(|| self.lease.clone());
            }
        }
    }

    /// Makes a standby of this node, because a person asks for it.
    fn rejoin(&mut self, now: Millis, clone: bool) -> Verdict {
        let observed = self.observe(now);
        if observed.is_witness {
            return no(Code::NoData, "this is the witness; it has no data to rejoin with");
        }
        if self.lease.holds(now) || observed.node_state().writable {
            return no(Code::TakesWrites, "this node takes writes");
        }
        match self.job {
            Some(Job::Rejoin { .. }) if clone => {
                return no(Code::Busy, "a rejoin is in progress; request a clone when it has finished");
            }
            Some(Job::Rejoin { .. }) => return yes("a rejoin is in progress"),
            _ => {}
        }
        if observed.paused {
            return no(Code::Paused, "this node is paused");
        }
        if observed.standby_signal && !clone && !observed.diverged {
            return no(Code::AlreadyStandby, "this node is a standby; if it does not stream, use --clone");
        }
        // A damaged server may run and answer nobody; its start waits for a quarter of an hour, and a clone ends that.
        let given_up = clone && self.job == Some(Job::Start);
        if self.job.is_some() && !given_up {
            return no(Code::Busy, "another job is in progress; see `cluster-node status`");
        }
        let Some(primary) = observed.other_primary.and_then(|id| self.member(id)).cloned() else {
            return no(Code::NoPrimary, "its guard knows of no node that takes writes");
        };
        if given_up {
            self.effects.push(Effect::AbortJob);
        }
        let why = format!(
            "rejoins {}, as requested{}",
            primary.name,
            if clone { ", with a fresh clone" } else { "" }
        );
        self.begin_job(now, Job::Rejoin { of: primary.id, clone }, &why);
        yes(why)
    }

    /// Whether a yes to this uses up the announcement of a first start.
    pub fn uses_first_start(&self, request: &Request, verdict: &Verdict, now: Millis) -> bool {
        *request == Request::MayStart && verdict.allowed && self.bootstrap && !self.lease.holds(now)
    }
}
