//! One voice: whether to grant, and the memory of what was granted.

use std::collections::BTreeMap;

use super::{Durable, Millis, NodeId, Position, Refusal, Report, Term, Timing};

/// What one guard has granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    timing: Timing,
    /// As it is on disk.
    durable: Durable,
    /// The report as it was last heard.
    report: Option<Report>,
    /// When the last grant was given or renewed. After a start: the start, since it may have been just before.
    granted_at: Millis,
    /// From when on anybody may have a grant that is known to be released: that moment, or the end of the abstention
    /// of a voter that started after it.
    released_at: Option<Millis>,
    /// Who wants the next term, with how much, and when that was heard.
    candidates: BTreeMap<NodeId, (Position, Millis)>,
}

impl Voter {
    pub(super) fn new(timing: Timing, durable: Durable, now: Millis) -> Voter {
        // After a start the node that let go is waited for as if it had not: when all nodes come back at once it is the
        // one that has everything. A voter that never granted knows so only if `cluster up` has told it.
        let waits = if durable.holder.is_some() { timing.waits() } else { 0 };
        let (report, released_at) = (durable.report, durable.released.then_some(now + waits));
        Voter { timing, durable, report, granted_at: now, released_at, candidates: BTreeMap::new() }
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

    /// From when on a new term may be granted to anybody; none for a lease that does not end by itself.
    fn free_since(&self) -> Option<Millis> {
        match self.released_at {
            Some(at) => Some(at),
            // Where leases do not run out, nothing but a release frees them; a voter that never granted is free as
            // soon as it is sure that it has not forgotten.
            None if !self.timing.expires && self.durable.holder.is_some() => None,
            None => Some(self.granted_at + self.timing.waits()),
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
        if term < self.durable.term || (term == self.durable.term && !same) {
            return Err(Refusal::Past);
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
        if let Some(Report { position: reported, .. }) = self.report {
            if position.timeline < reported.timeline {
                return Err(Refusal::OldTimeline { needed: reported.timeline });
            }
            let bytes = reported.lsn.saturating_sub(position.lsn);
            if position.timeline == reported.timeline && bytes > self.timing.lag_limit {
                return Err(Refusal::Lags { bytes, limit: self.timing.lag_limit });
            }
        }
        if now < free + self.timing.preference
            && let Some(node) = self.better(now, from, position, mine)
        {
            return Err(Refusal::Better { node });
        }
        Ok(())
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
        to: NodeId,
        term: Term,
        wrote: Option<Position>,
    ) -> Option<Durable> {
        (self.granted_at, self.released_at) = (now, None);
        self.candidates.clear();
        if let Some(position) = wrote {
            // Questions can overtake each other; within a term the most is the latest.
            let known = self.report.filter(|report| report.term == term).map(|report| report.position);
            let position = known.map_or(position, |known| known.max(position));
            self.report = Some(Report { term, position });
        }
        let before = self.durable.clone();
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

    /// The holder of `term` says that it has let go. What comes back is better on disk: a voter that forgets it waits
    /// for a lease that nobody has, and where leases do not run out it would wait for ever.
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
        Some(self.durable.clone())
    }
}
