//! Holding without a majority, on a person's word.
//!
//! What is certain: a forced holder that hears of one with a majority lets go, so that there is one in the end; and
//! nodes that come back and hear of a forced holder as they start never make another. What cannot be: that nodes which
//! come back without a way to the forced holder do not agree on one of their own.

use cluster_contract::timing::ENDLESS;
use cluster_contract::{Millis, NodeId, Term};

use super::claim::Claim;
use super::{Lease, LeaseEvent, Output, Refusal};

/// Why a node does not take the lease by force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CannotForce {
    /// As a voter would refuse it.
    Refused(Refusal),
    /// It cannot tell how much WAL it has.
    NoPosition,
}

impl Lease {
    /// Whether this node holds, or is about to hold again, without a majority.
    pub fn is_forced(&self) -> bool {
        self.voter.hard_state().forced
    }

    /// Takes the next term without a majority.
    ///
    /// # Errors
    /// When this node has granted a lease that may still run, or knows too little of its own WAL.
    pub fn take_by_force(&mut self, now: Millis) -> Result<Output, CannotForce> {
        let mut output = Output::default();
        // One that has run out, too, until what it took writes with is seen to have ended.
        if self.claim.is_open() {
            let millis = self.timing.reply_timeout;
            return Err(CannotForce::Refused(Refusal::LeaseActive { by: Some(self.me), millis }));
        }
        if !self.can_persist {
            return Err(CannotForce::Refused(Refusal::CannotPersist));
        }
        self.voter.note_bid(now, self.highest_term_seen + 1, 0);
        if let Some(refusal) = self.voter.renewed_lately(self.me, now) {
            return Err(CannotForce::Refused(refusal));
        }
        if self.node_state.position.is_none() {
            return Err(CannotForce::NoPosition);
        }
        self.force(now, &mut output);
        Ok(output)
    }

    pub(super) fn force(&mut self, now: Millis, output: &mut Output) {
        let term = self.highest_term_seen.max(self.voter.hard_state().term) + 1;
        self.other_holder = None;
        self.claim = Claim::forced(term, now);
        self.voter.force(Some(self.me));
        self.request(now, output);
        output.persist = Some(self.voter.hard_state().clone());
        output.events.push(LeaseEvent::TakenByForce { term });
    }

    /// Takes up again what was taken by force before this host went down, once nobody has been heard of who holds.
    pub(super) fn resume_by_force(&mut self, now: Millis, output: &mut Output) {
        if self.is_forced()
            && self.node_state.candidate
            && self.node_state.position.is_some()
            && self.can_persist
            && now >= self.started_at + self.timing.listen_window
            && self.other_holder.is_none_or(|(_, since)| now > since + self.timing.listen_window)
        {
            self.force(now, output);
        }
    }

    /// A majority has granted what was taken by force.
    pub(super) fn confirm(&mut self, term: Term, output: &mut Output) {
        self.voter.force(None);
        output.persist = Some(self.voter.hard_state().clone());
        output.events.push(LeaseEvent::Confirmed { term });
    }

    /// Another node's request says that it takes writes.
    pub(super) fn hear_of_writer(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        forced: bool,
        output: &mut Output,
    ) {
        if forced {
            self.voter.note_forced(from, now);
            // What this node granted to itself in an earlier life nobody uses any more.
            if !self.claim.is_open() && !self.is_forced() && self.node_state.cannot_write {
                let own = self.voter.hard_state().term;
                output.persist = self.voter.release(now, self.me, own, None).or(output.persist.take());
            }
        }
        if !self.is_forced() || (forced && (term, from) < (self.voter.hard_state().term, self.me)) {
            return;
        }
        // One request may be an old one on its way; a node that goes on renewing is there.
        match self.other_holder {
            Some((other, since)) if other == from && now <= since + self.timing.listen_window => {
                if now >= since + self.timing.renew_interval / 2 {
                    self.yield_to(now, from, output);
                }
            }
            _ => self.other_holder = Some((from, now)),
        }
    }

    fn yield_to(&mut self, now: Millis, to: NodeId, output: &mut Output) {
        self.voter.force(None);
        // What was written here by force is given up, and bars nobody.
        self.voter.forget_report();
        let term = self.voter.hard_state().term;
        output.events.push(LeaseEvent::Yielded { to });
        match self.claim {
            Claim::Requested { term, .. } => self.claim = Claim::Ending { term },
            Claim::Ending { .. } => {}
            // It was not taken up again yet.
            Claim::Idle { .. } | Claim::PreVote { .. } => {
                drop(self.voter.release(now, self.me, term, None));
                self.claim = Claim::Idle { retry_at: now + self.timing.renew_interval };
            }
        }
        output.persist = Some(self.voter.hard_state().clone());
    }
}

impl Claim {
    fn forced(term: Term, now: Millis) -> Claim {
        Claim::Requested {
            term,
            claim_term: term,
            confirmed_term: 0,
            since: now,
            contradicted_by: [].into(),
            asked_at: now,
            granted_until: [].into(),
            until: Some(ENDLESS),
        }
    }
}
