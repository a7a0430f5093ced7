//! One voice: whether to grant, and the memory of what was granted.

use std::collections::BTreeMap;

use cluster_contract::timing::DEFAULT_LEASE;
use cluster_contract::timing::{ENDLESS, Timing};
use cluster_contract::{Millis, NodeId, Position, Report, Term};

use super::{Durable, Refusal};

/// What one guard has granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    timing: Timing,
    /// As it is on disk.
    durable: Durable,
    /// The report as it was last heard.
    report: Option<Report>,
    /// When the last grant has surely run out, whoever was granted for how long. After a start it is counted from
    /// there, since the grant may have been just before.
    free_at: Millis,
    /// When the last grant was given or renewed. After a start: the start, since it may have been just before.
    granted_at: Millis,
    /// Whether that was in this run.
    renewed: bool,
    /// A node that holds by force, and when it was last heard of.
    forced: Option<(NodeId, Millis)>,
    /// From when on anybody may have a grant that is known to be released: that moment, or the end of the abstention
    /// of a voter that started after it.
    released_at: Option<Millis>,
    /// When the last holder itself has let go, as far as this run of the voter has heard.
    let_go_at: Option<Millis>,
    /// Who wants the next term, with how much, and when that was heard.
    candidates: BTreeMap<NodeId, (Position, Millis)>,
}

impl Voter {
    pub(super) fn new(timing: Timing, durable: Durable, now: Millis) -> Voter {
        // After a start the node that let go is waited for as if it had not: when all nodes come back at once it is the
        // one that has everything. A voter that never granted knows so only if `cluster up` has told it.
        let waits = if durable.holder.is_some() { timing.waits() } else { 0 };
        let (report, released_at) = (durable.report, durable.released.then_some(now + waits));
        let lease = durable.lease.or(durable.holder.map(|_| DEFAULT_LEASE)).unwrap_or_default();
        let free_at = now.saturating_add(timing.waits_of(lease));
        Voter {
            timing,
            durable,
            report,
            free_at,
            granted_at: now,
            renewed: false,
            forced: None,
            released_at,
            let_go_at: None,
            candidates: BTreeMap::new(),
        }
    }

    pub(super) fn durable(&self) -> &Durable {
        &self.durable
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.report
    }

    pub(super) fn fresh_holder(&self, now: Millis) -> Option<NodeId> {
        self.durable
            .holder
            .filter(|_| !self.durable.released && self.free_since().is_none_or(|free| now < free))
    }

    pub(super) fn heard_candidate(&mut self, node: NodeId, position: Position, now: Millis) {
        self.candidates.insert(node, (position, now));
    }

    #[must_use]
    pub(super) fn give_up_writes(&mut self) -> Option<Durable> {
        self.durable.held.take().map(|_| self.durable.clone())
    }

    /// The node that holds by force, if one does that this voter knows of.
    fn forced_holder(&self, now: Millis) -> Option<NodeId> {
        let heard = self.forced.filter(|(_, at)| now < at + self.timing.waits()).map(|(node, _)| node);
        self.durable.holder.filter(|_| self.durable.forced).or(heard)
    }

    pub(super) fn heard_forced(&mut self, node: NodeId, now: Millis) {
        // A lease that this voter has seen renewed in this run stands: the person was wrong, and the forced one gives way.
        let stands = self.renewed && !self.durable.released && self.durable.holder != Some(node);
        if !stands || now >= self.granted_at + self.timing.waits() {
            self.forced = Some((node, now));
        }
    }

    /// `me`, this voter's own node, holds by force from here on, whoever held before; or, if none, does no more.
    pub(super) fn force(&mut self, me: Option<NodeId>) {
        self.durable.forced = me.is_some();
        self.durable.holder = me.or(self.durable.holder);
    }

    /// Whether `from` could be given a new term behind a forced holder's back: not in a cluster that never had a term,
    /// and not if the last holder has named it.
    pub(super) fn should_listen(&self, from: NodeId) -> bool {
        self.durable.holder.is_some() && !(self.durable.released && self.durable.heir == Some(from))
    }

    /// Why nobody but `but` can say that the last holder is lost: it renewed a moment ago, as this voter knows.
    pub(super) fn renewed_lately(&self, but: NodeId, now: Millis) -> Option<Refusal> {
        let holder = self.durable.holder.filter(|holder| *holder != but && !self.durable.released)?;
        let lease = self.durable.lease.filter(|lease| *lease != ENDLESS).unwrap_or_default();
        let until = self.granted_at + self.timing.waits_of(lease);
        (now < until).then(|| Refusal::Held { by: Some(holder), millis: until - now })
    }

    /// From when on a new term may be granted to anybody; none for a lease that does not end by itself.
    fn free_since(&self) -> Option<Millis> {
        match self.released_at {
            Some(at) => Some(at),
            // Where leases do not run out, nothing but a release frees them; a voter that never granted is free as
            // soon as it is sure that it has not forgotten.
            None if !self.timing.expires && self.durable.holder.is_some() => None,
            None if self.durable.lease == Some(ENDLESS) => None,
            None => Some(self.free_at),
        }
    }

    /// Whether `from` may have `term`. `mine` is this node's own candidacy.
    pub(super) fn consider(
        &self,
        now: Millis,
        from: NodeId,
        term: Term,
        position: Position,
        mine: Option<(NodeId, Position)>,
    ) -> Result<(), Refusal> {
        let same = self.durable.holder == Some(from);
        let is_forced = self.forced_holder(now) == Some(from);
        if let Some(holder) = self.forced_holder(now).filter(|holder| *holder != from) {
            return Err(Refusal::Held { by: Some(holder), millis: self.timing.waits() });
        }
        if term < self.durable.term || (term == self.durable.term && !same) {
            // Whoever asks under an old term is told who holds now, if somebody does: its clock may have stood still.
            return Err(match self.fresh_holder(now).filter(|holder| *holder != from) {
                Some(by) => Refusal::Held { by: Some(by), millis: self.free_at.saturating_sub(now) },
                None => Refusal::Past,
            });
        }
        if let Some(at) = self.released_at {
            if term == self.durable.term {
                // A question from before the release that has arrived after it.
                return Err(Refusal::Past);
            }
            // The heir has the time of a lease to take it up; then the others are needed again.
            if let Some(heir) =
                self.durable.heir.filter(|heir| *heir != from && now < at + self.timing.waits())
            {
                return Err(Refusal::Promised { heir });
            }
        }
        if same {
            // Nobody else can have held since, as far as this voter goes, and what was reported it has itself.
            return Ok(());
        }
        let is_heir = self.durable.released && self.durable.heir == Some(from);
        let free = match self.free_since() {
            Some(_) if is_heir => now,
            Some(free) if now >= free => free,
            free => {
                let millis = free.map_or(Millis::MAX, |free| free - now);
                return Err(Refusal::Held { by: self.durable.holder, millis });
            }
        };
        // By force means that what is missing is given up.
        if is_forced {
            return Ok(());
        }
        if let Some(Report { position: reported, .. }) = self.report {
            if position.timeline < reported.timeline {
                return Err(Refusal::OldTimeline { needed: reported.timeline });
            }
            let bytes = reported.lsn.saturating_sub(position.lsn);
            if position.timeline == reported.timeline && bytes > self.timing.lag_limit {
                return Err(Refusal::Lags { bytes, limit: self.timing.lag_limit });
            }
            if position.timeline == reported.timeline && bytes > 0 && self.is_holder_waited_for(now) {
                return Err(Refusal::Lacks { bytes });
            }
        }
        if now < free + self.timing.preference
            && let Some(node) = self.better(now, from, position, mine)
        {
            return Err(Refusal::Better { node });
        }
        Ok(())
    }

    /// Whether the last holder has let go itself a moment ago: its host is there, and it may take the lease up again with
    /// all that it wrote, once it has let others go first.
    fn is_holder_waited_for(&self, now: Millis) -> bool {
        self.let_go_at.is_some_and(|at| now < at + self.timing.stands_back + self.timing.patience)
    }

    /// A candidate that should have it rather than `from`.
    fn better(
        &self,
        now: Millis,
        from: NodeId,
        position: Position,
        mine: Option<(NodeId, Position)>,
    ) -> Option<NodeId> {
        let fresh = self
            .candidates
            .iter()
            .filter(|(_, (_, heard))| now <= heard + self.timing.patience)
            .map(|(node, (position, _))| (*node, *position));
        fresh
            .chain(mine)
            .filter(|(node, theirs)| {
                *node != from && (*theirs > position || (*theirs == position && *node < from))
            })
            .max_by_key(|(_, position)| *position)
            .map(|(node, _)| node)
    }

    /// Grants or renews, after [`Voter::consider`] has said yes. What comes back must be on disk before the answer
    /// leaves; none if the disk has it already.
    #[must_use]
    pub(super) fn grant(
        &mut self,
        now: Millis,
        (me, to): (NodeId, NodeId),
        term: Term,
        wrote: Option<Position>,
        lease: Millis,
    ) -> Option<Durable> {
        let before = self.durable.clone();
        self.note_length(now, lease);
        (self.released_at, self.let_go_at) = (None, None);
        (self.granted_at, self.renewed) = (now, true);
        self.durable.forced &= self.durable.holder == Some(to);
        self.candidates.clear();
        if let Some(position) = wrote {
            // Questions can overtake each other; within a term the most is the latest.
            let known = self.report.filter(|report| report.term == term).map(|report| report.position);
            let position = known.map_or(position, |known| known.max(position));
            self.report = Some(Report { term, position });
            if me == to {
                self.durable.held = Some(term);
            }
        }
        (self.durable.term, self.durable.holder) = (term, Some(to));
        (self.durable.released, self.durable.heir) = (false, None);
        let on_disk = before.report.map(|report| report.position);
        let heard = self.report.map(|report| report.position);
        let stale = match (on_disk, heard) {
            (Some(on_disk), Some(heard)) => {
                on_disk.timeline != heard.timeline
                    || heard.lsn.saturating_sub(on_disk.lsn) > self.timing.lag_limit / 2
            }
            (on_disk, heard) => on_disk != heard,
        };
        if stale || self.durable != before {
            self.durable.report = self.report;
            return Some(self.durable.clone());
        }
        None
    }

    /// Waits for the longest lease that may still run. A shorter one takes its place, here and on the disk, only when it
    /// ends later: the holder may have been granted the longer one by others, and a restart counts from the disk.
    fn note_length(&mut self, now: Millis, lease: Millis) {
        let free_at = now.saturating_add(self.timing.waits_of(lease));
        // What did not run out does now: the holder has said so itself.
        let was_endless = self.durable.lease == Some(ENDLESS) && lease != ENDLESS;
        if was_endless || free_at >= self.free_at {
            (self.free_at, self.durable.lease) = (free_at, Some(lease));
        }
    }

    /// The holder whose lease is fresh, and which has not renewed it for longer than a healthy one takes.
    pub(super) fn silent_holder(&self, now: Millis) -> Option<NodeId> {
        self.fresh_holder(now).filter(|_| now > self.granted_at + self.timing.silence)
    }

    /// The provider says that the holder's host is off, as asked at `asked_at`: what ran there is gone, and the lease
    /// with it. If the holder has been heard of since, it is on again, and the word is about the past.
    #[must_use]
    pub(super) fn off(&mut self, now: Millis, holder: NodeId, asked_at: Millis) -> Option<Durable> {
        let term = self.durable.term;
        if asked_at <= self.granted_at { None } else { self.release(now, holder, term, None) }
    }

    /// The holder of `term` says that it has let go, and what it wrote last. What comes back is better on disk: a voter
    /// that forgets it waits for a lease that nobody has, and where leases do not run out it would wait for ever.
    #[must_use]
    pub(super) fn let_go(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        (heir, end): (Option<NodeId>, Option<Position>),
    ) -> Option<Durable> {
        let known = self.report.filter(|report| report.term == term);
        let released = self.release(now, from, term, heir)?;
        self.let_go_at = Some(now);
        // Only what it took writes in says something about its end: a term that was given back in vain does not.
        if let (Some(known), Some(end)) = (known, end)
            && end > known.position
        {
            self.report = Some(Report { term, position: end });
            self.durable.report = self.report;
            return Some(self.durable.clone());
        }
        Some(released)
    }

    /// The holder of `term` has nothing any more.
    #[must_use]
    pub(super) fn release(
        &mut self,
        now: Millis,
        from: NodeId,
        term: Term,
        heir: Option<NodeId>,
    ) -> Option<Durable> {
        // An old release may come late: the same node has been granted a later term since.
        if self.durable.holder != Some(from) || term < self.durable.term || self.durable.released {
            return None;
        }
        self.released_at = Some(now);
        (self.durable.released, self.durable.heir, self.durable.report) = (true, heir, self.report);
        self.durable.forced = false;
        Some(self.durable.clone())
    }
}
