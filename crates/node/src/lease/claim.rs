//! One node's claim to the lease: pre-vote, request, hold, step down.

use std::collections::{BTreeMap, BTreeSet};

use cluster_contract::{Millis, NodeId, Term, WalPosition};

use super::{Bid, FIRST_TERM, HardState, Lease, LeaseEvent, Message, Output, Refusal};

/// How far a node's claim to the lease has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// There is none.
    Idle {
        /// Not before this is it tried again.
        retry_at: Millis,
    },
    /// Voters are asked whether they would grant a term.
    PreVote {
        term: Term,
        /// When the pre-vote was sent.
        since: Millis,
        /// The voters that would.
        votes: BTreeSet<NodeId>,
        /// The voters that have replied, either way.
        answered: BTreeSet<NodeId>,
        /// Whether one that has replied knows of more WAL than this node has, or still finds out.
        deferred: bool,
    },
    /// The lease is requested, or held.
    Requested {
        term: Term,
        /// The term with which this claim began.
        claim_term: Term,
        /// The highest term that a majority has granted to it, as far as this run of the guard knows; 0 before that.
        confirmed_term: Term,
        /// When the first request was sent.
        since: Millis,
        /// The voters that name another holder in reply to the last request, with the holder that they name.
        contradicted_by: BTreeMap<NodeId, NodeId>,
        /// When the last request was sent.
        asked_at: Millis,
        /// For each voter, until when its grants let this node hold.
        granted_until: BTreeMap<NodeId, Millis>,
        /// Until when this node holds; none before a majority has granted.
        until: Option<Millis>,
    },
    /// The lease has run out, and what took writes here has not been seen to end.
    Ending { term: Term },
}

impl Claim {
    pub(super) fn resumed(term: Term, until: Millis) -> Claim {
        Claim::Requested {
            term,
            claim_term: term,
            confirmed_term: 0,
            since: 0,
            contradicted_by: BTreeMap::new(),
            asked_at: 0,
            granted_until: BTreeMap::new(),
            until: Some(until),
        }
    }

    pub(super) fn until(&self) -> Option<Millis> {
        match self {
            Claim::Requested { until, .. } => *until,
            _ => None,
        }
    }

    pub(super) fn held_term(&self) -> Option<Term> {
        match self {
            Claim::Requested { term, until: Some(_), .. } | Claim::Ending { term } => Some(*term),
            _ => None,
        }
    }

    /// Whether voters have been asked for a term that has not been given back.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Claim::Requested { .. } | Claim::Ending { .. })
    }
}

impl Lease {
    pub(super) fn advance(&mut self, now: Millis, output: &mut Output) {
        match &self.claim {
            Claim::Idle { retry_at } if now < *retry_at => {}
            Claim::Idle { .. } => {
                self.repeat_release(now, output);
                if self.is_forced() {
                    self.resume_by_force(now, output);
                } else {
                    self.pre_vote(now, output);
                }
            }
            Claim::PreVote { since, .. } if now >= since + self.timing.pre_vote_interval => {
                self.pre_vote(now, output)
            }
            Claim::PreVote { .. } => {}
            Claim::Requested { term, since, asked_at, until: None, .. } => {
                let patience = self.first_claim().map(|(_, until)| until);
                if now >= patience.unwrap_or(since + self.timing.reply_timeout) {
                    let term = *term;
                    output.events.push(LeaseEvent::NoMajority { term });
                    if self.node_state.cannot_write {
                        self.step_down(now, term, None, output);
                    } else {
                        // The first primary of a new cluster takes writes before it holds. What others may have granted is
                        // given back when that has ended.
                        self.claim = Claim::Ending { term };
                    }
                } else if self.node_state.candidate && now >= asked_at + self.timing.pre_vote_interval {
                    // Where messages are lost a majority may need every one of its members' replies.
                    self.request(now, output);
                }
            }
            Claim::Requested { term, until: Some(until), .. } if now >= *until => {
                let term = *term;
                output.events.push(LeaseEvent::Expired { term });
                self.claim = Claim::Ending { term };
                self.advance(now, output);
            }
            Claim::Requested { term, asked_at, .. } => {
                let (term, asked_at) = (*term, *asked_at);
                if self.node_state.should_renew || self.node_state.candidate {
                    if now >= asked_at + self.timing.renew_interval {
                        self.renew(now, output);
                    }
                } else if self.node_state.cannot_write && !self.is_forced() && self.may_be_taken_up(now) {
                    self.step_down(now, term, self.node_state.successor, output);
                }
            }
            // Where PostgreSQL can simply be started again, the lease is requested again rather than given away: a node
            // that was off for a while with all others should come back as what it was.
            Claim::Ending { .. } if self.node_state.cannot_write && self.node_state.candidate => {
                self.claim = Claim::Idle { retry_at: now };
            }
            Claim::Ending { term } => {
                if self.node_state.cannot_write {
                    self.step_down(now, *term, None, output);
                }
            }
        }
    }

    /// Whether somebody can have the lease once it is released. Where it would have run out in any case, that is no
    /// question. Where it ends by its release alone, nobody could give it back without the others.
    fn may_be_taken_up(&self, now: Millis) -> bool {
        let is_there =
            |peer: &NodeId| self.heard.get(peer).is_some_and(|at| now <= at + self.timing.silent_after);
        self.timing.expires
            || self.node_state.successor.is_some()
            || self.peers().filter(is_there).count() + 1 >= self.majority()
    }

    /// A release may have been lost, and a voter that has not heard of it may wait for ever: it is sent again.
    fn repeat_release(&mut self, now: Millis, output: &mut Output) {
        let HardState { term, holder, released, successor, report, .. } = *self.voter.hard_state();
        if holder == Some(self.me) && released && now >= self.release_sent_at + self.timing.renew_interval {
            self.release_sent_at = now;
            let end = report.filter(|report| report.term == term).map(|report| report.position);
            self.broadcast(&Message::Release { term, successor, end }, output);
        }
    }

    /// Would a majority grant the next term? This node's own vote comes first: without it nobody is disturbed.
    fn pre_vote(&mut self, now: Millis, output: &mut Output) {
        let Some(position) = self.node_state.position.filter(|_| self.node_state.candidate) else { return };
        let (term, generation) =
            (self.highest_term_seen.max(self.voter.hard_state().term) + 1, self.configuration.generation);
        self.voter.note_bid(now, term, 0);
        if let Claim::PreVote { votes, deferred, .. } = &self.claim {
            // The time of a pre-vote was for those that have more: they are preferred for a moment, and no longer.
            let deferred = *deferred;
            if votes.len() >= self.majority()
                && (!deferred
                    || self.deferring_since.is_some_and(|since| now >= since + self.timing.deferral))
            {
                let Claim::PreVote { term, .. } = self.claim else { return };
                return self.request_term(now, term, output);
            }
            self.deferring_since = if deferred { self.deferring_since.or(Some(now)) } else { None };
        }
        let mut votes = BTreeSet::new();
        match self.consider(now, self.me, Bid { term, generation, position, confirmed: 0 }) {
            Ok(()) => drop(votes.insert(self.me)),
            // Sent a moment before it can be granted, so that voters know whom to prefer when it can.
            Err(Refusal::LeaseActive { millis, .. }) if millis <= self.timing.renew_interval => {}
            // The others' waits begin with this one's.
            Err(Refusal::LeaseActive { .. }) if self.voter.waits_for_first_term(now) => {}
            Err(why) => {
                self.claim = Claim::Idle { retry_at: now };
                if !matches!(why, Refusal::LeaseActive { .. }) {
                    output.events.push(LeaseEvent::Refused { by: self.me, why });
                }
                return;
            }
        }
        self.broadcast(&Message::PreVote { term, position, generation }, output);
        let has_majority = votes.len() >= self.majority();
        let answered = [self.me].into();
        self.claim = Claim::PreVote { term, since: now, votes, answered, deferred: false };
        if has_majority {
            self.request_term(now, term, output);
        }
    }

    /// Whether all voters have replied but the last holder, of which nothing is expected.
    fn all_have_answered(&self, answered: &BTreeSet<NodeId>) -> bool {
        let holder = self.voter.hard_state().holder;
        self.configuration.members.iter().all(|member| answered.contains(member) || Some(*member) == holder)
    }

    pub(super) fn pre_vote_reply(
        &mut self,
        (from, sound_standby): (NodeId, bool),
        of: Term,
        refusal: Option<Refusal>,
        now: Millis,
        output: &mut Output,
    ) {
        let majority = self.majority();
        let Claim::PreVote { term, votes, answered, deferred, .. } = &mut self.claim else { return };
        if *term != of {
            return;
        }
        answered.insert(from);
        match refusal {
            Some(why) => {
                // A standby's voter that has not heard yet that the lease is free has not compared what there is.
                *deferred |= matches!(why, Refusal::BetterCandidate { .. } | Refusal::InspectingOwnWal)
                    || (sound_standby && matches!(why, Refusal::LeaseActive { .. }));
                output.events.push(LeaseEvent::Refused { by: from, why });
            }
            None => drop(votes.insert(from)),
        }
        // One that has more may be no part of this majority: the others are heard first, for as long as a pre-vote
        // takes.
        let (ready, answered) = (votes.len() >= majority && !*deferred, answered.clone());
        if ready && self.all_have_answered(&answered) {
            self.request_term(now, of, output);
        }
    }

    /// A majority would grant the term: it is requested, of this node's own voter first.
    fn request_term(&mut self, now: Millis, term: Term, output: &mut Output) {
        let retry = Claim::Idle { retry_at: now + self.timing.renew_interval };
        let Some(position) = self.node_state.position.filter(|_| self.node_state.candidate) else {
            self.claim = retry;
            return;
        };
        // Where nobody of a majority has granted any, there was none. A node that knows of none itself, since it has
        // granted nothing yet, learns from the replies to its pre-vote.
        if term == FIRST_TERM && !self.node_state.may_lead_first {
            self.claim = retry;
            return;
        }
        // It may have granted to another since the pre-vote was sent.
        let generation = self.configuration.generation;
        if self.consider(now, self.me, Bid { term, generation, position, confirmed: 0 }).is_err() {
            self.claim = retry;
            return;
        }
        output.events.push(LeaseEvent::Requested { term });
        self.deferring_since = None;
        self.claim = Claim::Requested {
            term,
            claim_term: term,
            confirmed_term: 0,
            since: now,
            contradicted_by: BTreeMap::new(),
            asked_at: now,
            granted_until: BTreeMap::new(),
            until: None,
        };
        self.request(now, output);
    }

    /// Requests the lease of every voter, on record here first.
    pub(super) fn request(&mut self, now: Millis, output: &mut Output) {
        let (forced, generation, me, can_persist) =
            (self.is_forced(), self.configuration.generation, self.me, self.can_persist);
        let Claim::Requested {
            term,
            claim_term,
            confirmed_term,
            asked_at,
            granted_until,
            contradicted_by,
            ..
        } = &mut self.claim
        else {
            return;
        };
        // A holder that cannot tell its position is as much the holder: what it reported stands.
        let own = self.node_state.position.or(self.voter.report().map(|report| report.position));
        let position = own.unwrap_or(WalPosition { timeline: 0, lsn: 0 });
        *asked_at = now;
        contradicted_by.clear();
        let (term, claim_term, confirmed_term, lease) =
            (*term, *claim_term, Some(*confirmed_term), self.timing.requested_lease());
        let writable = self.node_state.writable && self.node_state.position.is_some();
        if can_persist {
            granted_until.insert(me, now.saturating_add(self.timing.holder_window_of(lease)));
            let persist = self.voter.grant(now, (me, me), term, writable.then_some(position), lease);
            output.persist = persist.or(output.persist.take());
        }
        let request = Message::RequestLease {
            term,
            asked_at: now,
            position,
            writable,
            lease,
            forced,
            claim_term,
            generation,
            confirmed_term,
        };
        self.broadcast(&request, output);
        self.count_grants(now, output);
    }

    fn renew(&mut self, now: Millis, output: &mut Output) {
        if let Claim::Requested { term, granted_until, .. } = &mut self.claim
            && self.highest_term_seen > *term
        {
            // A voter has given a later term away, to somebody who could not use it. What was granted for this term
            // still counts: those voters know this node as the holder, under whatever number.
            *term = self.highest_term_seen + 1;
            granted_until.clear();
            output.events.push(LeaseEvent::TermRaised { term: *term });
        }
        self.request(now, output);
    }

    pub(super) fn lease_reply(
        &mut self,
        now: Millis,
        from: NodeId,
        of: Term,
        (asked_then, lease): (Millis, Millis),
        refusal: Option<Refusal>,
        output: &mut Output,
    ) {
        let end = asked_then.saturating_add(self.timing.holder_window_of(lease));
        let (majority, me, forced) = (self.majority(), self.me, self.is_forced());
        let Claim::Requested { term, granted_until, contradicted_by, asked_at, until, .. } = &mut self.claim
        else {
            return;
        };
        if *term != of {
            return;
        }
        if let Some(why) = refusal {
            if let Refusal::LeaseActive { by: Some(by), .. } = why
                && by != me
                && asked_then == *asked_at
            {
                contradicted_by.insert(from, by);
            }
            // It has given this very term to another, who came to nothing with it. It grants a later one.
            if until.is_some() && matches!(why, Refusal::StaleTerm) {
                self.highest_term_seen = self.highest_term_seen.max(of + 1);
            }
            let superseded = until.is_some() && !forced && contradicted_by.len() >= majority;
            let by = contradicted_by.values().next().copied();
            output.events.push(LeaseEvent::Refused { by: from, why });
            if let Some(by) = by.filter(|_| superseded) {
                let term = *term;
                output.events.push(LeaseEvent::Superseded { term, by });
                self.claim = Claim::Ending { term };
            }
            return;
        }
        // The term says that it is a reply to this claim, and no clock that counts for this claim was ever ahead.
        if asked_then <= now {
            let last = granted_until.entry(from).or_insert(end);
            *last = end.max(*last);
            self.count_grants(now, output);
        }
    }

    /// Another node takes writes under a claim that a majority has granted after this node's own: this one is over,
    /// whatever its clock says. Terms do not tell, for whoever is refused raises its own.
    pub(super) fn superseded(&mut self, by: NodeId, theirs: Term, output: &mut Output) {
        if let Claim::Requested { term, claim_term, until: Some(_), .. } = self.claim
            && theirs > claim_term
            && !self.is_forced()
        {
            output.events.push(LeaseEvent::Superseded { term, by });
            self.claim = Claim::Ending { term };
        }
    }

    /// Holds for as long as the grants last: until the first grant of the best majority ends.
    fn count_grants(&mut self, now: Millis, output: &mut Output) {
        let majority = self.majority();
        let Claim::Requested { term, confirmed_term, granted_until, until, .. } = &mut self.claim else {
            return;
        };
        let mut newest: Vec<Millis> = granted_until.values().copied().collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let Some(end) = newest.get(majority - 1).copied() else { return };
        *confirmed_term = *term;
        if self.voter.hard_state().forced {
            if now < end {
                let term = *term;
                *until = Some(end);
                self.confirm(term, output);
            }
            return;
        }
        match until {
            Some(until) => *until = end.max(*until),
            None if now < end => {
                *until = Some(end);
                output.events.push(LeaseEvent::Won { term: *term });
            }
            None => {}
        }
    }

    /// Gives the term back. Nothing that was granted for it counts from here on.
    fn step_down(&mut self, now: Millis, term: Term, successor: Option<NodeId>, output: &mut Output) {
        let end = self.node_state.position;
        output.persist =
            self.voter.holder_released(now, self.me, term, (successor, end)).or(output.persist.take());
        self.broadcast(&Message::Release { term, successor, end }, output);
        output.events.push(LeaseEvent::Released { term });
        // Candidates that collided come back one after the other.
        let place =
            self.configuration.members.iter().position(|member| *member == self.me).unwrap_or(0) as u64;
        let retry_at = now + self.timing.renew_interval + place * self.timing.renew_interval / 2;
        self.claim = Claim::Idle { retry_at };
    }
}
