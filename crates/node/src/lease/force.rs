//! Holding without a majority, on a person's word.
//!
//! What is certain: a forced holder that hears of one with a majority lets go, so that there is one in the end; and
//! nodes that come back and hear of a forced holder as they start never make another. What cannot be: that nodes which
//! come back without a way to the forced holder do not agree on one of their own.

use cluster_contract::timing::ENDLESS;
use cluster_contract::{Millis, NodeId, Term};

use super::claim::Claim;
use super::{Event, Lease, Output, Refusal};

impl Lease {
    /// Whether this node holds, or is about to hold again, without a majority.
    pub fn is_forced(&self) -> bool {
        self.voter.durable().forced
    }

    /// Takes the next term without a majority.
    ///
    /// # Errors
    /// When this node has granted a lease that may still run, or knows too little of its own WAL.
    pub fn take(&mut self, now: Millis) -> Result<Output, Refusal> {
        let mut output = Output::default();
        if self.term().is_some() {
            return Ok(output);
        }
        if self.claim.is_begun() {
            return Err(Refusal::Held { by: Some(self.me), millis: self.timing.patience });
        }
        if !self.has_memory {
            return Err(Refusal::NoMemory);
        }
        if let Some(refusal) = self.voter.renewed_lately(self.me, now) {
            return Err(refusal);
        }
        if self.local.position.is_none() {
            return Err(Refusal::Past);
        }
        self.force(now, &mut output);
        Ok(output)
    }

    pub(super) fn force(&mut self, now: Millis, output: &mut Output) {
        let term = self.seen.max(self.voter.durable().term) + 1;
        self.rival = None;
        self.claim = Claim::forced(term, now);
        self.voter.force(Some(self.me));
        self.ask(now, output);
        output.persist = Some(self.voter.durable().clone());
        output.events.push(Event::Forced { term });
    }

    /// Takes up again what was taken by force before this host went down, once nobody has been heard of who holds.
    pub(super) fn force_again(&mut self, now: Millis, output: &mut Output) {
        if self.is_forced()
            && self.local.candidate
            && self.local.position.is_some()
            && self.has_memory
            && now >= self.started_at + self.timing.listen
            && self.rival.is_none_or(|(_, since)| now > since + self.timing.listen)
        {
            self.force(now, output);
        }
    }

    /// A majority has granted until `end` what was taken by force.
    pub(super) fn confirm(&mut self, term: Term, output: &mut Output) {
        self.voter.force(None);
        output.persist = Some(self.voter.durable().clone());
        output.events.push(Event::Confirmed { term });
    }

    /// Another node says that it takes writes.
    pub(super) fn hear_of(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        forced: bool,
        output: &mut Output,
    ) {
        if forced {
            self.voter.heard_forced(from, now);
            // What this node granted to itself in an earlier life nobody uses any more.
            if !self.claim.is_begun() && !self.is_forced() && self.local.gone {
                let own = self.voter.durable().term;
                output.persist = self.voter.release(now, self.me, own, None).or(output.persist.take());
            }
        }
        if !self.is_forced() || (forced && (term, from) < (self.voter.durable().term, self.me)) {
            return;
        }
        // One question may be an old one on its way; a node that goes on asking is there.
        match self.rival {
            Some((rival, since)) if rival == from && now <= since + self.timing.listen => {
                if now >= since + self.timing.renew / 2 {
                    self.give_way(now, from, output);
                }
            }
            _ => self.rival = Some((from, now)),
        }
    }

    fn give_way(&mut self, now: Millis, to: NodeId, output: &mut Output) {
        self.voter.force(None);
        let term = self.voter.durable().term;
        output.events.push(Event::Yielded { to });
        match self.claim {
            Claim::Asked { term, .. } => self.claim = Claim::Ending { term },
            Claim::Ending { .. } => {}
            // It was not taken up again yet.
            Claim::None { .. } | Claim::Canvass { .. } => {
                drop(self.voter.release(now, self.me, term, None));
                self.claim = Claim::None { retry_at: now + self.timing.renew };
            }
        }
        output.persist = Some(self.voter.durable().clone());
    }
}

impl Claim {
    fn forced(term: Term, now: Millis) -> Claim {
        Claim::Asked {
            term,
            won: term,
            confirmed: 0,
            since: now,
            contradicted: [].into(),
            asked_at: now,
            granted: [].into(),
            until: Some(ENDLESS),
        }
    }
}
