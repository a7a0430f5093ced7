//! One node's claim to the lease: canvass, ask, hold, let go.

use std::collections::{BTreeMap, BTreeSet};

use cluster_contract::{Millis, NodeId, Position, Term};

use super::{Durable, Event, Lease, Message, Output, Refusal};

/// Where a claim stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// There is none.
    None {
        /// Not before this is it tried again.
        retry_at: Millis,
    },
    /// Would a majority?
    Canvass {
        /// For which term.
        term: Term,
        /// Since when.
        since: Millis,
        /// Who would.
        yes: BTreeSet<NodeId>,
        /// Who has answered, either way.
        answered: BTreeSet<NodeId>,
        /// Whether one that has answered knows of more WAL than this node has, or is looking.
        deferred: bool,
    },
    /// A majority is asked, or has granted.
    Asked {
        /// Which term.
        term: Term,
        /// The term with which it began.
        won: Term,
        /// The highest term that a majority has granted to it, as far as this run of the guard knows; 0 before that.
        confirmed: Term,
        /// Since when.
        since: Millis,
        /// Who says that another holds, in answer to the last question.
        contradicted: BTreeMap<NodeId, NodeId>,
        /// When the last question was sent.
        asked_at: Millis,
        /// For each voter, until when its grants let this node hold.
        granted: BTreeMap<NodeId, Millis>,
        /// Until when this node holds; none before a majority has granted.
        until: Option<Millis>,
    },
    /// The lease has run out, and what took writes here has not been seen to end.
    Ending {
        /// The last term.
        term: Term,
    },
}

impl Claim {
    pub(super) fn resumed(term: Term, until: Millis) -> Claim {
        Claim::Asked {
            term,
            won: term,
            confirmed: 0,
            since: 0,
            contradicted: BTreeMap::new(),
            asked_at: 0,
            granted: BTreeMap::new(),
            until: Some(until),
        }
    }

    pub(super) fn until(&self) -> Option<Millis> {
        match self {
            Claim::Asked { until, .. } => *until,
            _ => None,
        }
    }

    pub(super) fn held_term(&self) -> Option<Term> {
        match self {
            Claim::Asked { term, until: Some(_), .. } | Claim::Ending { term } => Some(*term),
            _ => None,
        }
    }

    /// Whether voters have been asked for a term that has not been given back.
    pub(super) fn is_begun(&self) -> bool {
        matches!(self, Claim::Asked { .. } | Claim::Ending { .. })
    }
}

impl Lease {
    pub(super) fn advance(&mut self, now: Millis, output: &mut Output) {
        match &self.claim {
            Claim::None { retry_at } if now < *retry_at => {}
            Claim::None { .. } => {
                self.remind(now, output);
                if self.is_forced() {
                    self.force_again(now, output);
                } else {
                    self.canvass(now, output);
                }
            }
            Claim::Canvass { since, .. } if now >= since + self.timing.canvass => self.canvass(now, output),
            Claim::Canvass { .. } => {}
            Claim::Asked { term, since, until: None, .. } => {
                if now >= since + self.timing.patience {
                    let term = *term;
                    output.events.push(Event::GaveUp { term });
                    self.let_go(now, term, None, output);
                }
            }
            Claim::Asked { term, until: Some(until), .. } if now >= *until => {
                let term = *term;
                output.events.push(Event::Expired { term });
                self.claim = Claim::Ending { term };
                self.advance(now, output);
            }
            Claim::Asked { term, asked_at, .. } => {
                let (term, asked_at) = (*term, *asked_at);
                if self.local.renew || self.local.candidate {
                    if now >= asked_at + self.timing.renew {
                        self.renew(now, output);
                    }
                } else if self.local.gone && !self.is_forced() {
                    self.let_go(now, term, self.local.heir, output);
                }
            }
            // Where PostgreSQL can simply be started again, the term is asked for anew rather than given away: a node that
            // was off for a while with all others should come back as what it was.
            Claim::Ending { .. } if self.local.gone && self.local.candidate => {
                self.claim = Claim::None { retry_at: now };
            }
            Claim::Ending { term } => {
                if self.local.gone {
                    self.let_go(now, *term, None, output);
                }
            }
        }
    }

    /// A release may have been lost, and a voter that has not heard of it may wait for ever: it is said again.
    fn remind(&mut self, now: Millis, output: &mut Output) {
        let Durable { term, holder, released, heir, report, .. } = *self.voter.durable();
        if holder == Some(self.me) && released && now >= self.reminded_at + self.timing.renew {
            self.reminded_at = now;
            let end = report.filter(|report| report.term == term).map(|report| report.position);
            self.broadcast(&Message::Release { term, heir, end }, output);
        }
    }

    /// Would a majority grant the next term? This node's own voice comes first: without it nobody is disturbed.
    fn canvass(&mut self, now: Millis, output: &mut Output) {
        let Some(position) = self.local.position.filter(|_| self.local.candidate) else { return };
        let (term, generation) = (self.seen.max(self.voter.durable().term) + 1, self.members.generation);
        if let Claim::Canvass { yes, deferred, .. } = &self.claim {
            // The time of a canvass was for those that have more: they are preferred for a moment, and no longer.
            let deferred = *deferred;
            if yes.len() >= self.majority()
                && (!deferred || self.deferred_at.is_some_and(|since| now >= since + self.timing.defers))
            {
                let Claim::Canvass { term, .. } = self.claim else { return };
                return self.begin(now, term, output);
            }
            self.deferred_at = if deferred { self.deferred_at.or(Some(now)) } else { None };
        }
        let mut yes = BTreeSet::new();
        match self.consider(now, self.me, (term, generation), position) {
            Ok(()) => drop(yes.insert(self.me)),
            // Said a moment before it can be granted, so that voters know whom to prefer when it can.
            Err(Refusal::Held { millis, .. }) if millis <= self.timing.renew => {}
            Err(why) => {
                self.claim = Claim::None { retry_at: now };
                if !matches!(why, Refusal::Held { .. }) {
                    output.events.push(Event::Refused { by: self.me, why });
                }
                return;
            }
        }
        self.broadcast(&Message::Canvass { term, position, generation }, output);
        let won = yes.len() >= self.majority();
        let answered = [self.me].into();
        self.claim = Claim::Canvass { term, since: now, yes, answered, deferred: false };
        if won {
            self.begin(now, term, output);
        }
    }

    /// Whether all have answered that may: of the last holder nothing is expected.
    fn all_have_answered(&self, answered: &BTreeSet<NodeId>) -> bool {
        let holder = self.voter.durable().holder;
        self.members.ids.iter().all(|member| answered.contains(member) || Some(*member) == holder)
    }

    pub(super) fn straw(
        &mut self,
        (from, sound): (NodeId, bool),
        of: Term,
        refusal: Option<Refusal>,
        now: Millis,
        output: &mut Output,
    ) {
        let majority = self.majority();
        let Claim::Canvass { term, yes, answered, deferred, .. } = &mut self.claim else { return };
        if *term != of {
            return;
        }
        answered.insert(from);
        match refusal {
            Some(why) => {
                // A standby's voter that has not heard yet that the lease is free has not compared what there is.
                *deferred |= matches!(why, Refusal::Better { .. } | Refusal::Looking)
                    || (sound && matches!(why, Refusal::Held { .. }));
                output.events.push(Event::Refused { by: from, why });
            }
            None => drop(yes.insert(from)),
        }
        // One that has more may be no part of this majority: the others are heard first, for as long as a canvass takes.
        let (ready, answered) = (yes.len() >= majority && !*deferred, answered.clone());
        if ready && self.all_have_answered(&answered) {
            self.begin(now, of, output);
        }
    }

    /// A majority would: it is asked, this node's own voter first.
    fn begin(&mut self, now: Millis, term: Term, output: &mut Output) {
        let retry = Claim::None { retry_at: now + self.timing.renew };
        let Some(position) = self.local.position.filter(|_| self.local.candidate) else {
            self.claim = retry;
            return;
        };
        // It may have granted to another since the canvass began.
        let generation = self.members.generation;
        if self.consider(now, self.me, (term, generation), position).is_err() {
            self.claim = retry;
            return;
        }
        output.events.push(Event::Asked { term });
        self.deferred_at = None;
        self.claim = Claim::Asked {
            term,
            won: term,
            confirmed: 0,
            since: now,
            contradicted: BTreeMap::new(),
            asked_at: now,
            granted: BTreeMap::new(),
            until: None,
        };
        self.ask(now, output);
    }

    /// Asks everybody, on record here first.
    pub(super) fn ask(&mut self, now: Millis, output: &mut Output) {
        let (forced, generation, me, has_memory) =
            (self.is_forced(), self.members.generation, self.me, self.has_memory);
        let Claim::Asked { term, won, confirmed, asked_at, granted, contradicted, .. } = &mut self.claim
        else {
            return;
        };
        // A holder that cannot tell its position is as much the holder: what it reported stands.
        let known = self.local.position.or(self.voter.report().map(|report| report.position));
        let position = known.unwrap_or(Position { timeline: 0, lsn: 0 });
        *asked_at = now;
        contradicted.clear();
        let (term, won, confirmed, lease) = (*term, *won, Some(*confirmed), self.timing.asks());
        let writable = self.local.writable && self.local.position.is_some();
        if has_memory {
            granted.insert(me, now.saturating_add(self.timing.holds_of(lease)));
            let persist = self.voter.grant(now, (me, me), term, writable.then_some(position), lease);
            output.persist = persist.or(output.persist.take());
        }
        let ask = Message::Ask {
            term,
            asked_at: now,
            position,
            writable,
            lease,
            forced,
            won,
            generation,
            confirmed,
        };
        self.broadcast(&ask, output);
        self.count(now, output);
    }

    fn renew(&mut self, now: Millis, output: &mut Output) {
        if let Claim::Asked { term, granted, .. } = &mut self.claim
            && self.seen > *term
        {
            // A voter has given a later term away, to somebody who could not use it. What was granted for this term
            // still counts: those voters know this node as the holder, under whatever number.
            *term = self.seen + 1;
            granted.clear();
            output.events.push(Event::Raised { term: *term });
        }
        self.ask(now, output);
    }

    pub(super) fn answer(
        &mut self,
        now: Millis,
        from: NodeId,
        of: Term,
        (asked, lease): (Millis, Millis),
        refusal: Option<Refusal>,
        output: &mut Output,
    ) {
        let end = asked.saturating_add(self.timing.holds_of(lease));
        let (majority, me, forced) = (self.majority(), self.me, self.is_forced());
        let Claim::Asked { term, granted, contradicted, asked_at, until, .. } = &mut self.claim else {
            return;
        };
        if *term != of {
            return;
        }
        if let Some(why) = refusal {
            if let Refusal::Held { by: Some(by), .. } = why
                && by != me
                && asked == *asked_at
            {
                contradicted.insert(from, by);
            }
            let superseded = until.is_some() && !forced && contradicted.len() >= majority;
            let by = contradicted.values().next().copied();
            output.events.push(Event::Refused { by: from, why });
            if let Some(by) = by.filter(|_| superseded) {
                let term = *term;
                output.events.push(Event::Superseded { term, by });
                self.claim = Claim::Ending { term };
            }
            return;
        }
        // The term says that it is an answer to this claim, and no clock that counts for this claim was ever ahead.
        if asked <= now {
            let last = granted.entry(from).or_insert(end);
            *last = end.max(*last);
            self.count(now, output);
        }
    }

    /// Another node takes writes under a claim that a majority has granted after this node's own: this one is over, whatever
    /// its clock says. Terms do not tell, for whoever is refused raises its own.
    pub(super) fn superseded(&mut self, by: NodeId, theirs: Term, output: &mut Output) {
        if let Claim::Asked { term, won, until: Some(_), .. } = self.claim
            && theirs > won
            && !self.is_forced()
        {
            output.events.push(Event::Superseded { term, by });
            self.claim = Claim::Ending { term };
        }
    }

    /// How long the grants last: until the first grant of the best majority ends.
    fn count(&mut self, now: Millis, output: &mut Output) {
        let majority = self.majority();
        let Claim::Asked { term, confirmed, granted, until, .. } = &mut self.claim else { return };
        let mut newest: Vec<Millis> = granted.values().copied().collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let Some(end) = newest.get(majority - 1).copied() else { return };
        *confirmed = *term;
        if self.voter.durable().forced {
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
                output.events.push(Event::Won { term: *term });
            }
            None => {}
        }
    }

    /// Gives the term back. Nothing that was granted for it counts from here on.
    fn let_go(&mut self, now: Millis, term: Term, heir: Option<NodeId>, output: &mut Output) {
        let end = self.local.position;
        output.persist = self.voter.let_go(now, self.me, term, (heir, end)).or(output.persist.take());
        self.broadcast(&Message::Release { term, heir, end }, output);
        output.events.push(Event::Released { term });
        // Candidates that collided come back one after the other.
        let place = self.members.ids.iter().position(|member| *member == self.me).unwrap_or(0) as u64;
        let retry_at = now + self.timing.renew + place * self.timing.renew / 2;
        self.claim = Claim::None { retry_at };
    }
}
