//! What other programs on this node ask of the guard.

use cluster_contract::Millis;
use cluster_contract::request::{Code, Request, Verdict};

use super::{ALLOWED_START_LIMIT, Core, Effect, Host, Job, LeaseEvent, Refusal, STOP_LIMIT};
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
    pub fn request(
        &mut self,
        now: Millis,
        host: &Host,
        request: &Request,
        first_start: bool,
    ) -> (Verdict, Vec<Effect>) {
        host.clone_into(&mut self.host);
        self.notice(now);
        let verdict = self.verdict(now, request, first_start);
        (verdict, std::mem::take(&mut self.effects))
    }

    fn verdict(&mut self, now: Millis, request: &Request, first_start: bool) -> Verdict {
        let holds = self.lease.holds(now);
        match request {
            Request::TakeByForce => self.take_by_force(now),
            Request::Rejoin { clone } => self.rejoin(now, *clone),
            Request::HandOver { .. } if self.host.paused.is_some() => {
                no(Code::Paused, "it is paused: the one would stop, and the other would not promote")
            }
            Request::HandOver { .. } if self.lease.is_forced() => no(
                Code::HoldsByForce,
                "it holds by force, and a majority must be back before it can hand over",
            ),
            Request::HandOver { to } if holds => self.hand_over(now, to),
            Request::Restart if holds || self.bootstrap => {
                (self.restarting_until, self.restart_ended) = (now + STOP_LIMIT, false);
                yes("the lease is kept meanwhile")
            }
            // It has ended and is started again, between two observations maybe.
            Request::MayStart if holds && now < self.restarting_until => {
                (self.restart_ended, self.stale_before) = (true, now);
                self.start_allowed_until = now + ALLOWED_START_LIMIT;
                yes("this node holds the lease")
            }
            Request::MayStart if self.host.half_rewound => {
                let why = "a rewind has begun here; it ends before anything is started";
                if matches!(self.job, Some(Job::Rejoin { .. })) {
                    yes(why)
                } else {
                    no(Code::HalfRewound, why)
                }
            }
            Request::MayStart if holds => {
                // Its processes are there in a moment; until then it must not count as gone.
                self.start_allowed_until = now + ALLOWED_START_LIMIT;
                yes("this node holds the lease")
            }
            Request::MayStart if self.bootstrap && first_start => {
                yes("`cluster up` starts it for the first time")
            }
            _ if holds => yes("this node holds the lease"),
            _ => no(Code::NotHolder, format!("this node does not hold the lease; {}", self.why)),
        }
    }

    fn hand_over(&mut self, now: Millis, to: &str) -> Verdict {
        let successor = self.config.peers().find(|peer| peer.name == *to && !peer.witness).cloned();
        match (successor, self.job) {
            (None, _) => no(Code::NoSuccessor, format!("there is no data node `{to}` beside this one")),
            (_, Some(job)) => no(Code::Busy, format!("a {} is under way", job.kind())),
            (Some(successor), None) => {
                self.successor = Some(successor.id);
                // What a person began before is over: the stop that comes now is not to be waited out.
                (self.restarting_until, self.restart_ended) = (0, false);
                let why = format!("hands over to {}", successor.name);
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
            return no(Code::NoData, format!("{} has no data that could be taken over", self.config.node));
        }
        if self.host.paused.is_some() {
            return no(Code::Paused, "it is paused, and would not promote");
        }
        if let Some(primary) = self.other_primary(now) {
            return no(
                Code::PrimaryHeard,
                format!("{} takes writes, as this guard hears", self.name(primary)),
            );
        }
        if let Some(job) = self.job {
            return no(Code::Busy, format!("a {} is under way", job.kind()));
        }
        match self.lease.take_by_force(now) {
            Ok(output) => {
                debug_assert!(
                    output.events.iter().any(|event| matches!(event, LeaseEvent::TakenByForce { .. }))
                );
                self.host.diverged_data_kept = false;
                self.effects.push(Effect::GiveUpDivergedData);
                self.backoff_until = 0;
                self.carry_out(now, output);
                let observed = self.observe(now);
                self.act(&observed);
                yes("this node holds by force")
            }
            Err(CannotForce::NoPosition) => {
                no(Code::NoPosition, "it cannot tell how much WAL it has; PostgreSQL does not answer")
            }
            Err(CannotForce::Refused(refusal @ Refusal::LeaseActive { .. })) => {
                no(Code::LeaseActive, refusal.to_string())
            }
            Err(CannotForce::Refused(refusal)) => no(Code::Refused, refusal.to_string()),
        }
    }

    /// Makes a standby of this node, because a person asks for it.
    fn rejoin(&mut self, now: Millis, clone: bool) -> Verdict {
        let observed = self.observe(now);
        if observed.is_witness {
            return no(Code::NoData, "it is the witness, and has nothing to rejoin with");
        }
        if self.lease.holds(now) || observed.node_state().writable {
            return no(Code::TakesWrites, "it takes writes");
        }
        match self.job {
            Some(Job::Rejoin { .. }) if clone => {
                return no(Code::Busy, "it rejoins already; a clone can be asked for when that has ended");
            }
            Some(Job::Rejoin { .. }) => return yes("it is under way"),
            _ => {}
        }
        if observed.paused {
            return no(Code::Paused, "it is paused");
        }
        if observed.standby_signal && !clone && !observed.diverged {
            return no(
                Code::AlreadyStandby,
                "it is a standby; if it does not stream, a fresh clone mends it",
            );
        }
        // A damaged server may run and answer nobody; its start waits for a quarter of an hour, and a clone ends that.
        let given_up = clone && self.job == Some(Job::Start);
        if self.job.is_some() && !given_up {
            return no(Code::Busy, "something else is under way; `cluster-node status` says what");
        }
        let Some(primary) = observed.other_primary.and_then(|id| self.member(id)).cloned() else {
            return no(Code::NoPrimary, "its guard hears of no node that takes writes");
        };
        if given_up {
            self.effects.push(Effect::AbortJob);
        }
        let why =
            format!("rejoins {}, as a person asks{}", primary.name, if clone { ", by a clone" } else { "" });
        self.begin_job(now, Job::Rejoin { of: primary.id, clone }, &why);
        yes(why)
    }

    /// Whether a yes to this uses up the announcement of a first start.
    pub fn uses_first_start(&self, request: &Request, verdict: &Verdict, now: Millis) -> bool {
        *request == Request::MayStart && verdict.allowed && self.bootstrap && !self.lease.holds(now)
    }
}
