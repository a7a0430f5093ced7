//! The right to take writes: a lease that a majority of the guards grants to one of them.
//!
//! The algorithm is `PaxosLease` (Trencséni, Gazsó, Reinhardt, "PaxosLease: Diskless Paxos for Leases", 2012) with its
//! two rounds and with what its authors leave out on purpose put back in: grants are on disk before they are
//! answered. It needs no common time, only clocks whose *rates* differ by no more than [`cluster_contract::timing::DRIFT_PER_MILLE`].
//!
//! - A guard that may become primary first *canvasses*: would a majority grant it the next term? Nothing is written
//!   for that, so a node that has lost sight of a healthy primary disturbs nobody by asking.
//! - If a majority would, it *asks*. A voter gives a term to one node only, and as long as a grant is fresh it gives
//!   no term to anybody else. Once the asker is primary, the same question renews its grant every second.
//! - The holder counts its lease on its own clock from *before* it sent the question that a majority has answered.
//! - A holder whose PostgreSQL is gone *releases* its term, and the next one need not wait.
//!
//! Why two nodes never hold at once: both would have a majority, so some voter granted to both. Between the two grants
//! it let [`Timing::waits`] pass on its clock, or it had the first holder's release. The first holder stops
//! [`Timing::holds`] after it asked, on its clock, and it asked before the voter granted; [`Timing::new`] refuses
//! figures for which drifting clocks could turn the order round. A voter that lost its memory of *when* it granted
//! waits from its start instead; *what* it granted is on its disk.
//!
//! Nodes need not agree on the length of a lease: while `cluster up` changes it, or where a node was not reached, some
//! have the old one. So a question says for how long, a voter waits by the longest that it has granted (or by its own,
//! if that is longer) and keeps that length on its disk, and the holder counts no more than what was granted. Whichever
//! of them learns the new length first, and in whatever order, [`Timing::new`]'s condition holds for each pair.
//!
//! A person may *force*: where no majority is left, a node holds without one until it is there again. The others are
//! told with every question; a voter that starts listens for such questions before it grants a new term, and a forced
//! holder that hears of one with a majority lets go. `docs/decisions/0010-forced-failover.md` has the reasons.
//!
//! Everything here is pure: time comes in as milliseconds of `CLOCK_BOOTTIME`, messages and what is to be made
//! durable go out. `voter` grants, `claim` asks, and [`Lease`] is the two of them on one node.

pub mod claim;
pub mod force;
pub mod message;
pub mod voter;

use cluster_contract::timing::{ENDLESS, Timing};
use cluster_contract::{Generation, Millis, NodeId, Position, Report, Term};
use serde::{Deserialize, Serialize};

use claim::Claim;
pub use message::{Message, Refusal};
use voter::Voter;

/// What a guard must never forget: on its disk, and synced, before anybody hears of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Durable {
    /// The highest term that was granted here.
    pub term: Term,
    /// To whom.
    pub holder: Option<NodeId>,
    /// Whether that node has let go of it. True without a holder is what `cluster up` writes on the hosts of a new
    /// cluster: nothing was ever granted, so there is nothing to wait for.
    #[serde(default)]
    pub released: bool,
    /// Whom it named to have the next term.
    #[serde(default)]
    pub heir: Option<NodeId>,
    /// For how long it was granted. None as older guards wrote it, which knew one length only.
    #[serde(default)]
    pub lease: Option<Millis>,
    /// Whether the holder, which is this node, took the term by force and no majority has granted it since.
    #[serde(default)]
    pub forced: bool,
    /// The last term in which this node itself held and took writes. Kept when others hold after it.
    #[serde(default)]
    pub held: Option<Term>,
    /// What a holder that took writes last reported, and in which term. On disk it may be older by half of the
    /// allowed lag, so that not every renewal costs a sync.
    pub report: Option<Report>,
}

impl Durable {
    /// Whether this is what `cluster up` wrote for a new cluster, and nothing was granted since. An empty memory is not:
    /// it may have been lost.
    pub fn is_of_a_new_cluster(&self) -> bool {
        self.term == 0 && self.released && self.holder.is_none()
    }
}

/// What a guard sees of its own node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The WAL that is here; none if it cannot be told.
    pub position: Option<Position>,
    /// Whether it would become primary if it had the lease. A holder of which neither this nor `renew` is true, and
    /// whose PostgreSQL is gone, lets go.
    pub candidate: bool,
    /// Whether a lease is worth renewing: PostgreSQL has committed a heartbeat just now, or is on its way there.
    pub renew: bool,
    /// Whether PostgreSQL takes writes.
    pub writable: bool,
    /// Whether no PostgreSQL here takes writes or could begin to without a new term: proved, not assumed.
    pub gone: bool,
    /// Whom a holder that lets go names to have the next term.
    pub heir: Option<NodeId>,
    /// Whether a sound standby is here, which could become primary if it had to: what it has is compared with what a
    /// candidate has, whether this node is a candidate yet or not.
    pub sound: bool,
    /// Whether that standby streams from nobody any more, so that what it has is all that it will have.
    pub settled: bool,
}

impl Local {
    /// A node of which nothing is known.
    pub const UNKNOWN: Local = Local {
        position: None,
        candidate: false,
        renew: false,
        writable: false,
        gone: false,
        heir: None,
        sound: false,
        settled: false,
    };
}

/// The members of a cluster, numbered. Two configurations that are in use at the same time differ by one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Members {
    /// Counts them.
    pub generation: Generation,
    /// All of them. A guard that is none grants and asks nothing.
    pub ids: Vec<NodeId>,
}

impl From<Vec<NodeId>> for Members {
    fn from(ids: Vec<NodeId>) -> Members {
        Members { generation: 0, ids }
    }
}

/// What is to be done, in this order: make durable, then send and tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Must be on disk and synced before anything of the rest happens.
    pub persist: Option<Durable>,
    /// Messages, and to whom. They may be lost.
    pub send: Vec<(NodeId, Message)>,
    /// What happened.
    pub events: Vec<Event>,
}

/// What happened to the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A majority would grant; it is asked to.
    Asked {
        /// The term.
        term: Term,
    },
    /// This node holds the lease.
    Won {
        /// The term.
        term: Term,
    },
    /// The lease goes on under a higher term: a voter had given this one's successor away in vain.
    Raised {
        /// The new term.
        term: Term,
    },
    /// A majority was not there in time, and the grants that were given were given back.
    GaveUp {
        /// The term.
        term: Term,
    },
    /// Nobody has renewed in time: whatever takes writes here must end now.
    Expired {
        /// The term.
        term: Term,
    },
    /// A majority has granted to another meanwhile: this node's clock has stood still. What takes writes here must end.
    Superseded {
        /// The term.
        term: Term,
        /// The other.
        by: NodeId,
    },
    /// This node holds by force, without a majority.
    Forced {
        /// The term.
        term: Term,
    },
    /// What this node took by force a majority has granted since.
    Confirmed {
        /// The term.
        term: Term,
    },
    /// This node held by force, and lets go: another one holds too.
    Yielded {
        /// The other one.
        to: NodeId,
    },
    /// This node has let go.
    Released {
        /// The term.
        term: Term,
    },
    /// A voter says no; told once for every new reason.
    Refused {
        /// The voter.
        by: NodeId,
        /// Why.
        why: Refusal,
    },
}

/// The lease on one node: its voice, and its own claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    me: NodeId,
    members: Members,
    timing: Timing,
    voter: Voter,
    claim: Claim,
    /// The highest term that anybody has named.
    seen: Term,
    /// When this guard started.
    started_at: Millis,
    /// Another node that says it takes writes while this one holds by force, and since when.
    rival: Option<(NodeId, Millis)>,
    /// When the others were last told of a release.
    reminded_at: Millis,
    /// Since when a free lease has been asked for, as this voter has heard.
    canvassed_at: Option<Millis>,
    /// Since when this node's own canvass is held up for a node with more WAL.
    deferred_at: Option<Millis>,
    /// Whether this node's disk takes what is to be remembered. Without that its voice counts for nothing.
    has_memory: bool,
    /// What was last seen of this node.
    local: Local,
}

impl Lease {
    /// A guard that starts at `now` with what its disk has.
    pub fn new(
        me: NodeId,
        members: impl Into<Members>,
        timing: Timing,
        durable: Durable,
        now: Millis,
    ) -> Lease {
        let members = members.into();
        let seen = durable.term;
        let voter = Voter::new(timing, durable, now);
        Lease {
            me,
            members,
            timing,
            voter,
            claim: Claim::None { retry_at: now },
            seen,
            started_at: now,
            rival: None,
            reminded_at: now,
            canvassed_at: None,
            deferred_at: None,
            has_memory: true,
            local: Local::UNKNOWN,
        }
    }

    /// Takes up a term that this node held when its guard ended, within the same boot. `until` is the end that the
    /// old guard had proof of. Nothing happens if the disk does not know of the term.
    pub fn resume(&mut self, term: Term, until: Millis, now: Millis) {
        // Where leases run out now and did not before: a node may always claim less than it was granted.
        let is_endless = until == ENDLESS && !self.voter.durable().forced;
        let until = if is_endless && self.timing.expires { now + self.timing.holds() } else { until };
        if self.voter.durable().term == term && self.voter.durable().holder == Some(self.me) {
            self.claim = Claim::resumed(term, until);
        }
    }

    /// Until when this node holds the lease; none if it does not hold it.
    pub fn until(&self) -> Option<Millis> {
        self.claim.until()
    }

    /// Whether this node holds the lease at `now`.
    pub fn holds(&self, now: Millis) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// The term that this node holds or is letting go of.
    pub fn term(&self) -> Option<Term> {
        self.claim.held_term()
    }

    /// What this voter has granted.
    pub fn durable(&self) -> &Durable {
        self.voter.durable()
    }

    /// What the last holder that took writes reported; never older than what is on disk.
    pub fn report(&self) -> Option<Report> {
        self.voter.report()
    }

    /// What this node has reported as the last holder, as far as its own voter knows: its WAL reaches at least so far,
    /// unless the data is no longer the same.
    pub fn own_report(&self) -> Option<Position> {
        let Durable { term, holder, .. } = *self.voter.durable();
        self.report()
            .filter(|report| holder == Some(self.me) && report.term == term)
            .map(|report| report.position)
    }

    /// The length of the leases that this node asks for.
    pub fn length(&self) -> Millis {
        self.timing.lease
    }

    /// The node whose lease this voter knows to be fresh, as far as one voter can.
    pub fn holder(&self, now: Millis) -> Option<NodeId> {
        self.voter.fresh_holder(now)
    }

    /// The other node that holds the lease as far as this voter knows, and that has not renewed it for too long: worth
    /// asking its provider whether it is off.
    pub fn silent_holder(&self, now: Millis) -> Option<NodeId> {
        self.voter.silent_holder(now).filter(|holder| *holder != self.me)
    }

    /// The provider says that `holder`'s host is off; it was asked at `asked_at`. That shortens this voter's wait. It
    /// grants nothing: a majority is still needed, and every voter must have the word itself.
    pub fn off(&mut self, now: Millis, holder: NodeId, asked_at: Millis) -> Output {
        Output { persist: self.voter.off(now, holder, asked_at), ..Output::default() }
    }

    /// How many voters a majority is.
    pub fn majority(&self) -> usize {
        self.members.ids.len() / 2 + 1
    }

    /// Whether this node is one of them. One that was taken out asks and grants nothing.
    pub fn is_member(&self) -> bool {
        self.members.ids.contains(&self.me)
    }

    /// The number of the configuration that this guard knows.
    pub fn generation(&self) -> Generation {
        self.members.generation
    }

    /// The last term in which this node took writes, as far as its disk remembers.
    pub fn last_held(&self) -> Option<Term> {
        self.voter.durable().held
    }

    /// What this node wrote as a primary is another's by now, or was given up.
    pub fn give_up_writes(&mut self) -> Output {
        Output { persist: self.voter.give_up_writes(), ..Output::default() }
    }

    /// Whether the disk takes what this guard must not forget. While it does not, this voter grants nothing, and its own
    /// node holds on by the voices of the others alone.
    pub fn remember(&mut self, has_memory: bool) -> Output {
        let mut output = Output::default();
        if has_memory && !self.has_memory {
            // What was decided while nothing could be written.
            output.persist = Some(self.voter.durable().clone());
        }
        self.has_memory = has_memory;
        if !has_memory && let Claim::Asked { granted, .. } = &mut self.claim {
            granted.remove(&self.me);
        }
        output
    }

    fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.members.ids.iter().copied().filter(move |member| *member != self.me)
    }

    fn broadcast(&self, message: &Message, output: &mut Output) {
        output.send.extend(self.peers().map(|peer| (peer, message.clone())));
    }

    /// Time has passed; called several times a second with a fresh look at the node.
    pub fn tick(&mut self, now: Millis, local: Local) -> Output {
        self.local = local;
        let mut output = Output::default();
        self.advance(now, &mut output);
        output
    }

    /// Another guard has been met that did not know this one: it has not understood what it was asked. Soon after a start
    /// that may have been the question that saves the lease, and it is asked again.
    pub fn met(&mut self, now: Millis) -> Output {
        let mut output = Output::default();
        let worth_it = self.local.renew || self.local.candidate;
        if now < self.started_at + self.timing.listen && self.claim.is_begun() && worth_it {
            self.ask(now, &mut output);
        }
        output
    }

    /// A message has come. `now` must be read after it was taken from the socket.
    pub fn receive(&mut self, now: Millis, from: NodeId, message: Message) -> Output {
        let mut output = Output::default();
        match message {
            Message::Canvass { term, position, generation } => {
                self.voter.heard_candidate(from, position, now);
                let mut refusal = self.consider(now, from, (term, generation), position).err();
                if matches!(refusal, None | Some(Refusal::Better { .. })) && self.is_unsettled(now) {
                    refusal = Some(Refusal::Looking);
                }
                let known = self.voter.durable().term;
                let sound = self.local.sound;
                output.send.push((from, Message::Straw { term, refusal, known, sound }));
            }
            Message::Ask { term, asked_at, position, writable, lease, forced, won, generation, .. } => {
                if writable && self.members.ids.contains(&from) {
                    self.hear_of(now, from, term, forced, &mut output);
                    if !forced {
                        self.superseded(from, won, &mut output);
                    }
                }
                let refusal = self.consider(now, from, (term, generation), position).err();
                if refusal.is_none() {
                    (self.canvassed_at, self.deferred_at) = (None, None);
                    let persist =
                        self.voter.grant(now, (self.me, from), term, writable.then_some(position), lease);
                    output.persist = persist.or(output.persist);
                }
                let known = self.voter.durable().term;
                output.send.push((from, Message::Answer { term, asked_at, refusal, known, lease }));
            }
            Message::Release { term, heir, end } => {
                output.persist = self.voter.let_go(now, from, term, (heir, end));
            }
            Message::Straw { term, refusal, known, sound } => {
                self.seen = self.seen.max(known);
                self.straw((from, sound), term, refusal, now, &mut output);
            }
            Message::Answer { term, asked_at, refusal, known, lease } => {
                self.seen = self.seen.max(known);
                self.answer(now, from, term, (asked_at, lease), refusal, &mut output);
            }
        }
        output
    }

    /// Whether this node, a sound standby, still receives WAL while the lease is free and asked for: it may have more than
    /// it has said, and is waited for. Only for a moment: one that has not noticed that its primary is gone holds nobody
    /// up.
    fn is_unsettled(&mut self, now: Millis) -> bool {
        let since = *self.canvassed_at.get_or_insert(now);
        self.local.sound && !self.local.settled && now < since + self.timing.defers
    }

    /// Whether a look is worth taking at once: somebody asks for a free lease, and this node may have more WAL.
    pub fn wants_look(&self, now: Millis) -> bool {
        let asked = self.canvassed_at.is_some_and(|since| now < since + self.timing.defers);
        asked && self.local.sound && !self.local.settled
    }

    /// Whether this voter would grant.
    fn consider(
        &self,
        now: Millis,
        from: NodeId,
        (term, generation): (Term, Generation),
        position: Position,
    ) -> Result<(), Refusal> {
        if !self.members.ids.contains(&from) || !self.is_member() {
            return Err(Refusal::Stranger);
        }
        if generation < self.members.generation {
            return Err(Refusal::OldMembers { known: self.members.generation });
        }
        if !self.has_memory {
            return Err(Refusal::NoMemory);
        }
        // The others may know better, and outvote this; it helps nobody into the place of what may still run here.
        if from != self.me && self.claim.is_begun() {
            return Err(Refusal::Held { by: Some(self.me), millis: self.timing.holds() });
        }
        if term > self.voter.durable().term
            && now < self.started_at + self.timing.listen
            && self.voter.should_listen(from)
        {
            let millis = self.started_at + self.timing.listen - now;
            return Err(Refusal::Held { by: None, millis });
        }
        let compares = self.local.candidate || self.local.sound;
        let mine = self.local.position.filter(|_| compares && from != self.me);
        self.voter.consider(now, from, term, position, mine.map(|position| (self.me, position)))
    }
}
