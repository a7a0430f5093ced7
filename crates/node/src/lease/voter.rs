//! One vote: whether to grant, and what was granted.

use std::collections::BTreeMap;

use cluster_contract::timing::{DEFAULT_LEASE, ENDLESS, Timing};
use cluster_contract::{HolderReport, Millis, NodeId, Term, WalPosition};

use super::{Bid, FIRST_TERM, HardState, Refusal};

/// What one guard has granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    timing: Timing,
    /// As it is on disk.
    hard_state: HardState,
    /// The report as it was last heard.
    report: Option<HolderReport>,
    /// When the last grant has surely run out, whoever was granted for how long. After a start it is counted from
    /// there, since the grant may have been just before.
    free_at: Millis,
    /// When the last grant was given or renewed. After a start: the start, since it may have been just before.
    granted_at: Millis,
    /// Whether that was in this run of the guard.
    granted_in_this_run: bool,
    /// Another node that holds by force, and when it was last heard of.
    forced_peer: Option<(NodeId, Millis)>,
    /// From when on anybody may have a grant that is known to be released: that moment, or the end of the abstention
    /// of a voter that started after it.
    released_at: Option<Millis>,
    /// Until when the first primary of a new cluster may take writes, as far as a voter can tell that has granted nothing and
    /// has heard that the first term was requested.
    first_term_until: Option<Millis>,
    /// When the last holder itself has stepped down, as far as this run of the guard has heard.
    holder_released_at: Option<Millis>,
    /// The nodes that want the next term, with the WAL that they have, and when that was heard.
    candidates: BTreeMap<NodeId, (WalPosition, Millis)>,
}

impl Voter {
    pub(super) fn new(timing: Timing, hard_state: HardState, now: Millis) -> Voter {
        // After a start the node that let go is waited for as if it had not: when all nodes come back at once it is the
        // one that has everything. A voter that never granted knows so only if `cluster up` has told it.
        let waits = if hard_state.holder.is_some() { timing.voter_wait() } else { 0 };
        let (report, released_at) = (hard_state.report, hard_state.released.then_some(now + waits));
        let lease = hard_state.granted_for.or(hard_state.holder.map(|_| DEFAULT_LEASE)).unwrap_or_default();
        let free_at = now.saturating_add(timing.voter_wait_of(lease));
        Voter {
            timing,
            hard_state,
            report,
            free_at,
            granted_at: now,
            granted_in_this_run: false,
            forced_peer: None,
            released_at,
            first_term_until: None,
            holder_released_at: None,
            candidates: BTreeMap::new(),
        }
    }

    pub(super) fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub(super) fn report(&self) -> Option<HolderReport> {
        self.report
    }

    pub(super) fn fresh_holder(&self, now: Millis) -> Option<NodeId> {
        self.hard_state
            .holder
            .filter(|_| !self.hard_state.released && self.free_since().is_none_or(|free| now < free))
    }

    pub(super) fn note_candidate(&mut self, node: NodeId, position: WalPosition, now: Millis) {
        self.candidates.insert(node, (position, now));
    }

    /// Somebody wants `term`, who has a majority's grant of `confirmed`, or of none: 0. A later term than the first says that
    /// the first was requested. For all that a voter knows that has granted nothing, this was a moment ago, and the first
    /// primary takes writes since, for a while: it waits as if it had granted that. Where a majority has granted any, the wait of one of its voters counts.
    pub(super) fn note_bid(&mut self, now: Millis, term: Term, confirmed: Term) {
        if self.hard_state.has_granted_nothing() && (term > FIRST_TERM || confirmed > 0) {
            let until = if confirmed > 0 { now } else { now.saturating_add(self.timing.voter_wait()) };
            self.first_term_until = Some(self.first_term_until.map_or(until, |before| before.min(until)));
        }
    }

    /// Whether a later term than the first is wanted of this voter, and it waits with that.
    pub(super) fn waits_for_first_term(&self, now: Millis) -> bool {
        self.hard_state.has_granted_nothing() && self.first_term_until.is_some_and(|until| now < until)
    }

    /// What the last holder that took writes reported counts for nothing.
    pub(super) fn forget_report(&mut self) {
        (self.report, self.hard_state.report) = (None, None);
    }

    /// Whether a candidate other than `me` was heard of since.
    pub(super) fn has_heard_candidate(&self, since: Millis, me: NodeId) -> bool {
        self.candidates.iter().any(|(node, (_, heard))| *node != me && *heard >= since)
    }

    #[must_use]
    pub(super) fn clear_last_held(&mut self) -> Option<HardState> {
        self.hard_state.last_held.take().map(|_| self.hard_state.clone())
    }

    /// The node that holds by force, if one does that this voter knows of.
    fn forced_holder(&self, now: Millis) -> Option<NodeId> {
        let heard =
            self.forced_peer.filter(|(_, at)| now < at + self.timing.voter_wait()).map(|(node, _)| node);
        self.hard_state.holder.filter(|_| self.hard_state.forced).or(heard)
    }

    pub(super) fn note_forced(&mut self, node: NodeId, now: Millis) {
        // A lease that this voter has seen renewed in this run stands: the person was wrong, and the forced one gives
        // way.
        let stands =
            self.granted_in_this_run && !self.hard_state.released && self.hard_state.holder != Some(node);
        if !stands || now >= self.granted_at + self.timing.voter_wait() {
            self.forced_peer = Some((node, now));
        }
    }

    /// `me`, this voter's own node, holds by force from here on, whoever held before; or, if none, does no more.
    pub(super) fn force(&mut self, me: Option<NodeId>) {
        self.hard_state.forced = me.is_some();
        self.hard_state.holder = me.or(self.hard_state.holder);
    }

    /// Whether `from` could be given a new term behind a forced holder's back: not in a cluster that never had a term,
    /// and not if the last holder has named it.
    pub(super) fn should_listen(&self, from: NodeId) -> bool {
        self.hard_state.holder.is_some()
            && !(self.hard_state.released && self.hard_state.successor == Some(from))
    }

    /// Why nobody but `but` can say that the last holder is lost: it renewed a moment ago, as this voter knows. One that
    /// has granted nothing yet knows nothing of it, and waits for as long as it abstains.
    pub(super) fn renewed_lately(&self, but: NodeId, now: Millis) -> Option<Refusal> {
        let HardState { holder, released, granted_for, .. } = self.hard_state;
        if let Some(until) = self.first_term_until.filter(|_| self.waits_for_first_term(now)) {
            return Some(Refusal::LeaseActive { by: None, millis: until - now });
        }
        if released || holder == Some(but) {
            return None;
        }
        let lease = granted_for.filter(|lease| *lease != ENDLESS).unwrap_or_default();
        let until = self.granted_at + self.timing.voter_wait_of(lease);
        (now < until).then(|| Refusal::LeaseActive { by: holder, millis: until - now })
    }

    /// From when on a new term may be granted to anybody; none for a lease that does not end by itself.
    fn free_since(&self) -> Option<Millis> {
        match self.released_at {
            Some(at) => Some(at),
            // Where leases do not run out, nothing but a release frees them; a voter that never granted is free as
            // soon as it is sure that it has not forgotten.
            None if !self.timing.expires && self.hard_state.holder.is_some() => None,
            None if self.hard_state.granted_for == Some(ENDLESS) => None,
            None => Some(self.free_at),
        }
    }

    /// Whether `from` may have the term that it bids for. `mine` is this node's own candidacy.
    pub(super) fn consider(
        &self,
        now: Millis,
        from: NodeId,
        Bid { term, position, confirmed, .. }: Bid,
        mine: Option<(NodeId, WalPosition)>,
    ) -> Result<(), Refusal> {
        let same = self.hard_state.holder == Some(from);
        let is_forced = self.forced_holder(now) == Some(from);
        if let Some(holder) = self.forced_holder(now).filter(|holder| *holder != from) {
            return Err(Refusal::LeaseActive { by: Some(holder), millis: self.timing.voter_wait() });
        }
        if term < self.hard_state.term || (term == self.hard_state.term && !same) {
            // Whoever requests an old term is told who holds now, if somebody does: its clock may have stood still.
            return Err(match self.fresh_holder(now).filter(|holder| *holder != from) {
                Some(by) => Refusal::LeaseActive { by: Some(by), millis: self.free_at.saturating_sub(now) },
                None => Refusal::StaleTerm,
            });
        }
        if let Some(at) = self.released_at {
            if term == self.hard_state.term {
                // A request from before the release that has arrived after it.
                return Err(Refusal::StaleTerm);
            }
            // The successor has the time of a lease to take it up; then the others are needed again.
            if let Some(successor) = self
                .hard_state
                .successor
                .filter(|successor| *successor != from && now < at + self.timing.voter_wait())
            {
                return Err(Refusal::ReservedForSuccessor { successor });
            }
        }
        if same {
            // Nobody else can have held since, as far as this voter goes, and what was reported it has itself.
            return Ok(());
        }
        let is_successor = self.hard_state.released && self.hard_state.successor == Some(from);
        // The first term is the first primary's whenever it asks.
        let first = self
            .first_term_until
            .filter(|_| term > FIRST_TERM && self.hard_state.has_granted_nothing())
            .unwrap_or_default();
        let free = match self.free_since().map(|free| free.max(first)) {
            // From the release on, and not from now on: what is preferred to it is preferred for a while only.
            Some(free) if is_successor => free.min(now),
            Some(free) if now >= free => free,
            free => {
                let millis = free.map_or(Millis::MAX, |free| free - now);
                return Err(Refusal::LeaseActive { by: self.hard_state.holder, millis });
            }
        };
        // By force means that what is missing is given up.
        if is_forced {
            return Ok(());
        }
        // What this voter alone has heard of is no matter any more once a majority has granted a later term without it: to
        // refuse that one would only take a vote from whoever leads.
        let counts = |report: &HolderReport| confirmed <= report.term;
        if let Some(HolderReport { position: reported, .. }) = self.report.filter(counts) {
            if position.timeline < reported.timeline {
                return Err(Refusal::StaleTimeline { needed: reported.timeline });
            }
            let bytes = reported.lsn.saturating_sub(position.lsn);
            if position.timeline == reported.timeline && bytes > self.timing.lag_limit_bytes {
                return Err(Refusal::BehindLagLimit { bytes, limit_bytes: self.timing.lag_limit_bytes });
            }
            if position.timeline == reported.timeline && bytes > 0 && self.is_holder_waited_for(now) {
                return Err(Refusal::MissingWal { bytes });
            }
        }
        if now < free + self.timing.preference
            && let Some(node) = self.better(now, from, position, mine)
        {
            return Err(Refusal::BetterCandidate { node });
        }
        Ok(())
    }

    /// Whether the last holder has stepped down itself a moment ago: its host is there, and it may take the lease up
    /// again with all that it wrote, once it has let others go first.
    fn is_holder_waited_for(&self, now: Millis) -> bool {
        self.holder_released_at
            .is_some_and(|at| now < at + self.timing.crash_backoff + self.timing.reply_timeout)
    }

    /// A candidate that should have it rather than `from`.
    fn better(
        &self,
        now: Millis,
        from: NodeId,
        position: WalPosition,
        mine: Option<(NodeId, WalPosition)>,
    ) -> Option<NodeId> {
        let fresh = self
            .candidates
            .iter()
            .filter(|(_, (_, heard))| now <= heard + self.timing.reply_timeout)
            .map(|(node, (position, _))| (*node, *position));
        fresh
            .chain(mine)
            .filter(|(node, theirs)| {
                *node != from && (*theirs > position || (*theirs == position && *node < from))
            })
            .max_by_key(|(_, position)| *position)
            .map(|(node, _)| node)
    }

    /// Grants or renews, after [`Voter::consider`] has said yes. What comes back must be on disk before the reply
    /// leaves; none if the disk has it already.
    #[must_use]
    pub(super) fn grant(
        &mut self,
        now: Millis,
        (me, to): (NodeId, NodeId),
        term: Term,
        wrote: Option<WalPosition>,
        lease: Millis,
    ) -> Option<HardState> {
        let before = self.hard_state.clone();
        self.note_length(now, lease);
        (self.released_at, self.holder_released_at) = (None, None);
        (self.granted_at, self.granted_in_this_run) = (now, true);
        self.hard_state.forced &= self.hard_state.holder == Some(to);
        self.candidates.clear();
        if let Some(position) = wrote {
            // Requests can overtake each other; within a term the most is the latest.
            let known = self.report.filter(|report| report.term == term).map(|report| report.position);
            let position = known.map_or(position, |known| known.max(position));
            self.report = Some(HolderReport { term, position });
            if me == to {
                self.hard_state.last_held = Some(term);
            }
        }
        (self.hard_state.term, self.hard_state.holder) = (term, Some(to));
        (self.hard_state.released, self.hard_state.successor) = (false, None);
        let on_disk = before.report.map(|report| report.position);
        let heard = self.report.map(|report| report.position);
        let stale = match (on_disk, heard) {
            (Some(on_disk), Some(heard)) => {
                on_disk.timeline != heard.timeline
                    || heard.lsn.saturating_sub(on_disk.lsn) > self.timing.lag_limit_bytes / 2
            }
            (on_disk, heard) => on_disk != heard,
        };
        if stale || self.hard_state != before {
            self.hard_state.report = self.report;
            return Some(self.hard_state.clone());
        }
        None
    }

    /// Waits for the longest lease that may still run. A shorter one takes its place, here and on the disk, only when
    /// it ends later: the holder may have been granted the longer one by others, and a restart counts from the disk.
    fn note_length(&mut self, now: Millis, lease: Millis) {
        let free_at = now.saturating_add(self.timing.voter_wait_of(lease));
        // What did not run out does now: the holder has said so itself.
        let was_endless = self.hard_state.granted_for == Some(ENDLESS) && lease != ENDLESS;
        if was_endless || free_at >= self.free_at {
            (self.free_at, self.hard_state.granted_for) = (free_at, Some(lease));
        }
    }

    /// The holder whose lease is fresh, and which has not renewed it for longer than a healthy one takes.
    pub(super) fn silent_holder(&self, now: Millis) -> Option<NodeId> {
        self.fresh_holder(now).filter(|_| now > self.granted_at + self.timing.silent_after)
    }

    /// The provider says that the holder's host is off, as asked at `asked_at`: what ran there is gone, and the lease
    /// with it. If the holder has been heard of since, it is on again, and the word is about the past.
    #[must_use]
    pub(super) fn holder_is_off(
        &mut self,
        now: Millis,
        holder: NodeId,
        asked_at: Millis,
    ) -> Option<HardState> {
        let term = self.hard_state.term;
        if asked_at <= self.granted_at { None } else { self.release(now, holder, term, None) }
    }

    /// The holder of `term` says that it has stepped down, and what it wrote last. What comes back is better on disk: a
    /// voter that forgets it waits for a lease that nobody has, and where leases do not run out it would wait for ever.
    #[must_use]
    pub(super) fn holder_released(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        (successor, end): (Option<NodeId>, Option<WalPosition>),
    ) -> Option<HardState> {
        if self.hard_state.has_granted_nothing() && term == FIRST_TERM {
            // The first primary: it takes no writes any more.
            self.first_term_until = Some(now);
        }
        let known = self.report.filter(|report| report.term == term);
        let released = self.release(now, from, term, successor)?;
        self.holder_released_at = Some(now);
        // Only what it took writes in says something about its end: a term that was given back in vain does not.
        if let (Some(known), Some(end)) = (known, end)
            && end > known.position
        {
            self.report = Some(HolderReport { term, position: end });
            self.hard_state.report = self.report;
            return Some(self.hard_state.clone());
        }
        Some(released)
    }

    /// The holder of `term` does not hold it any more.
    #[must_use]
    pub(super) fn release(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        successor: Option<NodeId>,
    ) -> Option<HardState> {
        // An old release may come late: the same node has been granted a later term since.
        if self.hard_state.holder != Some(from) || term < self.hard_state.term || self.hard_state.released {
            return None;
        }
        self.released_at = Some(now);
        (self.hard_state.released, self.hard_state.successor, self.hard_state.report) =
            (true, successor, self.report);
        self.hard_state.forced = false;
        Some(self.hard_state.clone())
    }
}
