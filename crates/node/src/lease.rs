//! The right to take writes: a lease that a majority of the guards grants to one of them.
//!
//! The algorithm is `PaxosLease` (Trencséni, Gazsó, Reinhardt, "PaxosLease: Diskless Paxos for Leases", 2012) with its
//! two rounds and with what its authors leave out on purpose put back in: grants are on disk before they are answered.
//! It needs no common time, only clocks whose *rates* differ by no more than
//! [`cluster_contract::timing::DRIFT_PER_MILLE`].
//!
//! - A guard that may become primary sends a *pre-vote* first: would a majority grant it the next term? Nothing is
//!   written for that, so a node that has lost sight of a healthy primary disturbs nobody by it.
//! - If a majority would, it *requests* the lease. A voter gives a term to one node only, and as long as a grant is
//!   fresh it gives no term to anybody else. Once the candidate is primary, the same request renews its grant every
//!   second.
//! - The holder counts its lease on its own clock from *before* it sent the request that a majority has granted.
//! - A holder whose PostgreSQL is gone *releases* its term, and the next one need not wait.
//!
//! Why two nodes never hold at once: both would have a majority, so some voter granted to both. Between the two grants
//! it let [`Timing::voter_wait`] pass on its clock, or it had the first holder's release. The first holder stops
//! [`Timing::holder_window`] after its request, on its clock, and it sent that before the voter granted;
//! [`Timing::new`] refuses figures for which drifting clocks could turn the order round. A voter that lost its memory
//! of *when* it granted waits from its start instead; *what* it granted is on its disk.
//!
//! The first primary of a new cluster takes writes before it holds. Nobody else requests the first term; from its request on, with
//! the term on its disk, it may write for [`Timing::first_claim_window`] whoever answers. Every voter of a majority that grants a
//! later one has let its wait pass since: it granted the first term, or had granted nothing, and has waited since it heard
//! that a later one was wanted ([`Voter`]'s `note_bid`), which nobody wants before the first has been requested.
//!
//! Nodes need not agree on the length of a lease: while `cluster up` changes it, or where a node was not reached, some
//! have the old one. So a request says for how long, a voter waits by the longest that it has granted (or by its own,
//! if that is longer) and keeps that length on its disk, and the holder counts no more than what was granted. Whichever
//! of them learns the new length first, and in whatever order, [`Timing::new`]'s condition holds for each pair.
//!
//! A person may *force*: where no majority is left, a node holds without one until it is there again. The others are
//! told with every request; a voter that starts listens for such requests before it grants a new term, and a forced
//! holder that hears of one with a majority lets go. `docs/decisions/0010-forced-failover.md` has the reasons.
//!
//! Everything here is pure: time comes in as milliseconds of `CLOCK_BOOTTIME`, messages and what is to be made
//! durable go out. `voter` grants, `claim` requests, and [`Lease`] is the two of them on one node.

pub mod claim;
pub mod force;
pub mod message;
pub mod voter;

use std::collections::BTreeMap;

use cluster_contract::timing::{ENDLESS, Timing};
use cluster_contract::{Generation, HolderReport, Millis, NodeId, Term, WalPosition};
use serde::{Deserialize, Serialize};

use claim::Claim;
pub use message::{Message, Refusal};
use voter::Voter;

/// The first term of a cluster. Its first primary takes writes before it has it, and nobody else asks for it.
pub(crate) const FIRST_TERM: Term = 1;

/// What a guard must never forget: on its disk, and synced, before anybody hears of it.
///
/// The words in `rename` are older than the names. They are on disks and do not change, and neither does the order of
/// the fields: a checksum beside them is of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The highest term that was granted here.
    pub term: Term,
    /// The node that it was granted to.
    pub holder: Option<NodeId>,
    /// Whether that node has let go of it. True without a holder is what `cluster up` writes on the hosts of a new
    /// cluster: nothing was ever granted, so there is nothing to wait for.
    #[serde(default)]
    pub released: bool,
    /// The one node that may have the next term, where the holder has named one as it let go.
    #[serde(default, rename = "heir")]
    pub successor: Option<NodeId>,
    /// For how long it was granted. None as older guards wrote it, which knew one length only.
    #[serde(default, rename = "lease")]
    pub granted_for: Option<Millis>,
    /// Whether the holder, which is this node, took the term by force and no majority has granted it since.
    #[serde(default)]
    pub forced: bool,
    /// The last term in which this node itself held and took writes. Kept when others hold after it.
    #[serde(default, rename = "held")]
    pub last_held: Option<Term>,
    /// What a holder that took writes last reported, and in which term. On disk it may be older by half of the
    /// allowed lag, so that not every renewal costs a sync.
    pub report: Option<HolderReport>,
}

impl HardState {
    /// Whether this is what `cluster up` wrote for a new cluster, and nothing was granted since. An empty hard state is
    /// not: it may have been lost.
    pub fn is_of_a_new_cluster(&self) -> bool {
        self.has_granted_nothing() && self.released
    }

    /// Whether nothing was granted here, as far as this says: in a new cluster, or by a newcomer, or it was lost.
    pub fn has_granted_nothing(&self) -> bool {
        self.term == 0 && self.holder.is_none()
    }
}

/// What the lease is told about its own node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeState {
    /// The WAL that this node has; none if that cannot be told.
    pub position: Option<WalPosition>,
    /// Whether it would become primary if it had the lease. A holder of which neither this nor `should_renew` is true,
    /// and which cannot write, steps down.
    pub candidate: bool,
    /// Whether a lease is worth renewing: PostgreSQL has committed a heartbeat just now, or is on its way there.
    pub should_renew: bool,
    /// Whether PostgreSQL takes writes.
    pub writable: bool,
    /// Whether no PostgreSQL here takes writes or could begin to without a new term: proved, not assumed.
    pub cannot_write: bool,
    /// The node that a holder which steps down names to have the next term.
    pub successor: Option<NodeId>,
    /// Whether a sound standby is here, which could become primary if it had to: what it has is compared with what a
    /// candidate has, whether this node is a candidate yet or not.
    pub sound_standby: bool,
    /// Whether it may have the first term of all. A standby may not: the primary that it was cloned from waits for that
    /// term, and takes writes before it has it.
    pub may_lead_first: bool,
    /// Whether that standby streams from nobody any more, so that what it has is all that it will have.
    pub stream_ended: bool,
}

impl NodeState {
    /// A node of which nothing is known.
    pub const UNKNOWN: NodeState = NodeState {
        position: None,
        candidate: false,
        should_renew: false,
        writable: false,
        cannot_write: false,
        successor: None,
        sound_standby: false,
        may_lead_first: false,
        stream_ended: false,
    };
}

/// The members of a cluster, numbered. Two configurations that are in use at the same time differ by one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// Its number; higher ones are newer.
    pub generation: Generation,
    /// The nodes that have a vote. A guard of another node grants nothing and requests nothing.
    pub members: Vec<NodeId>,
}

impl From<Vec<NodeId>> for Configuration {
    fn from(members: Vec<NodeId>) -> Configuration {
        Configuration { generation: 0, members }
    }
}

/// What a node asks for a term with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bid {
    term: Term,
    /// Of the configuration that it knows.
    generation: Generation,
    /// The WAL that it has.
    position: WalPosition,
    /// The highest term that a majority has granted to it; 0 before that.
    confirmed: Term,
}

/// What is to be done, in this order: persist, then send and report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Must be on disk and synced before anything of the rest happens.
    pub persist: Option<HardState>,
    /// Messages and their receivers. They may be lost.
    pub send: Vec<(NodeId, Message)>,
    pub events: Vec<LeaseEvent>,
}

/// What happened to the lease on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// A majority has answered the pre-vote with yes: the lease is requested.
    Requested { term: Term },
    /// This node holds the lease.
    Won { term: Term },
    /// The lease goes on under a higher term: a voter had granted one in between to no effect.
    TermRaised { term: Term },
    /// A majority was not there in time, and the grants that were given were given back.
    NoMajority { term: Term },
    /// No majority has renewed in time: whatever takes writes here must end now.
    Expired { term: Term },
    /// A majority has granted to another meanwhile: this node's clock has stood still. What takes writes here must end.
    Superseded {
        /// The term that this node held.
        term: Term,
        /// The node that holds now.
        by: NodeId,
    },
    /// This node holds by force, without a majority.
    TakenByForce { term: Term },
    /// What this node took by force a majority has granted since.
    Confirmed { term: Term },
    /// This node held by force, and lets go: another node holds too.
    Yielded { to: NodeId },
    /// This node has stepped down.
    Released { term: Term },
    /// A voter says no.
    Refused {
        /// The voter.
        by: NodeId,
        why: Refusal,
    },
}

/// The lease on one node: its vote, and its own claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    me: NodeId,
    configuration: Configuration,
    timing: Timing,
    voter: Voter,
    claim: Claim,
    /// The highest term that anybody has named.
    highest_term_seen: Term,
    /// When this run of the guard began.
    started_at: Millis,
    /// Another node that says it takes writes while this one holds by force, and since when.
    other_holder: Option<(NodeId, Millis)>,
    /// When each of the others was last heard of.
    heard: BTreeMap<NodeId, Millis>,
    /// When the others were last sent this node's release.
    release_sent_at: Millis,
    /// When the first pre-vote for a free lease was heard.
    pre_vote_heard_at: Option<Millis>,
    /// Since when this node's own claim defers to a node with more WAL.
    deferring_since: Option<Millis>,
    /// Whether this node's disk takes the hard state. Without that its own grants count for nothing.
    can_persist: bool,
    /// As of the last tick.
    node_state: NodeState,
}

impl Lease {
    /// A guard that starts at `now` with what its disk has.
    pub fn new(
        me: NodeId,
        configuration: impl Into<Configuration>,
        timing: Timing,
        hard_state: HardState,
        now: Millis,
    ) -> Lease {
        let configuration = configuration.into();
        let highest_term_seen = hard_state.term;
        let voter = Voter::new(timing, hard_state, now);
        Lease {
            me,
            configuration,
            timing,
            voter,
            claim: Claim::Idle { retry_at: now },
            highest_term_seen,
            started_at: now,
            other_holder: None,
            heard: BTreeMap::new(),
            release_sent_at: now,
            pre_vote_heard_at: None,
            deferring_since: None,
            can_persist: true,
            node_state: NodeState::UNKNOWN,
        }
    }

    /// Takes up a term that this node held when its guard ended, within the same boot. `until` is the end that the
    /// old guard had proof of. Nothing happens if the disk does not know of the term.
    pub fn resume(&mut self, term: Term, until: Millis, now: Millis) {
        // Where leases run out now and did not before: a node may always claim less than it was granted.
        let is_endless = until == ENDLESS && !self.voter.hard_state().forced;
        let until = if is_endless && self.timing.expires { now + self.timing.holder_window() } else { until };
        if self.voter.hard_state().term == term && self.voter.hard_state().holder == Some(self.me) {
            self.claim = Claim::resumed(term, until);
        }
    }

    /// Until when this node holds the lease; none if it does not hold it.
    pub fn until(&self) -> Option<Millis> {
        self.claim.until()
    }

    /// Until when the first primary of a new cluster may take writes for which it has requested the first term, before a
    /// majority has granted it: nobody grants a later term before that. None where that is not so.
    pub fn first_claim(&self) -> Option<(Term, Millis)> {
        match self.claim {
            Claim::Requested { term: FIRST_TERM, since, until: None, .. }
                if !self.node_state.cannot_write =>
            {
                Some((FIRST_TERM, since.saturating_add(self.timing.first_claim_window())))
            }
            _ => None,
        }
    }

    /// Whether this node holds the lease at `now`.
    pub fn holds(&self, now: Millis) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// The term that this node holds or is letting go of.
    pub fn held_term(&self) -> Option<Term> {
        self.claim.held_term()
    }

    /// What this voter has granted.
    pub fn hard_state(&self) -> &HardState {
        self.voter.hard_state()
    }

    /// What the last holder that took writes reported; never older than what is on disk.
    pub fn report(&self) -> Option<HolderReport> {
        self.voter.report()
    }

    /// What this node has reported as the last holder that took writes, as far as its own voter knows, whoever has asked for
    /// a term in vain since: its WAL reaches at least so far, unless the data is no longer the same.
    pub fn own_report(&self) -> Option<WalPosition> {
        let own = self.report().filter(|report| self.last_held() == Some(report.term));
        own.map(|report| report.position)
    }

    /// The length of the leases that this node requests.
    pub fn lease_length(&self) -> Millis {
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
    pub fn holder_is_off(&mut self, now: Millis, holder: NodeId, asked_at: Millis) -> Output {
        Output { persist: self.voter.holder_is_off(now, holder, asked_at), ..Output::default() }
    }

    /// Whether another node has wanted to lead since.
    pub fn has_heard_another_candidate(&self, since: Millis) -> bool {
        self.voter.has_heard_candidate(since, self.me)
    }

    /// How many voters a majority is.
    pub fn majority(&self) -> usize {
        self.configuration.members.len() / 2 + 1
    }

    /// Whether this node has a vote. One that was taken out requests and grants nothing.
    pub fn is_member(&self) -> bool {
        self.configuration.members.contains(&self.me)
    }

    /// The number of the configuration that this guard knows.
    pub fn generation(&self) -> Generation {
        self.configuration.generation
    }

    /// The last term in which this node took writes, as far as its disk remembers.
    pub fn last_held(&self) -> Option<Term> {
        self.voter.hard_state().last_held
    }

    /// What this node wrote as a primary is another's by now, or was given up.
    pub fn clear_last_held(&mut self) -> Output {
        Output { persist: self.voter.clear_last_held(), ..Output::default() }
    }

    /// Whether the disk takes the hard state. While it does not, this voter grants nothing, and its own node holds on
    /// by the grants of the others alone.
    pub fn set_can_persist(&mut self, can_persist: bool) -> Output {
        let mut output = Output::default();
        if can_persist && !self.can_persist {
            // What was decided while nothing could be written.
            output.persist = Some(self.voter.hard_state().clone());
        }
        self.can_persist = can_persist;
        if !can_persist && let Claim::Requested { granted_until, .. } = &mut self.claim {
            granted_until.remove(&self.me);
        }
        output
    }

    fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.configuration.members.iter().copied().filter(move |member| *member != self.me)
    }

    fn broadcast(&self, message: &Message, output: &mut Output) {
        output.send.extend(self.peers().map(|peer| (peer, message.clone())));
    }

    /// Time has passed; called several times a second with a fresh state of the node.
    pub fn tick(&mut self, now: Millis, node_state: NodeState) -> Output {
        self.node_state = node_state;
        let mut output = Output::default();
        self.advance(now, &mut output);
        output
    }

    /// Another guard has been met that did not know this one: it has read nothing of what it was sent. Soon after a
    /// start that may have been the request that saves the lease, and it is sent again.
    pub fn peer_met(&mut self, now: Millis) -> Output {
        let mut output = Output::default();
        let is_worth_it = self.node_state.should_renew || self.node_state.candidate;
        if now < self.started_at + self.timing.listen_window && self.claim.is_open() && is_worth_it {
            self.request(now, &mut output);
        }
        output
    }

    /// A message has come. `now` must be read after it was taken from the socket.
    pub fn receive(&mut self, now: Millis, from: NodeId, message: Message) -> Output {
        let mut output = Output::default();
        self.heard.insert(from, now);
        match message {
            Message::PreVote { term, position, generation } => {
                self.voter.note_candidate(from, position, now);
                self.voter.note_bid(now, term, 0);
                let bid = Bid { term, generation, position, confirmed: 0 };
                let mut refusal = self.consider(now, from, bid).err();
                if matches!(refusal, None | Some(Refusal::BetterCandidate { .. }))
                    && self.may_have_more_wal(now)
                {
                    refusal = Some(Refusal::InspectingOwnWal);
                }
                let highest_term = self.voter.hard_state().term;
                let sound_standby = self.node_state.sound_standby;
                output
                    .send
                    .push((from, Message::PreVoteReply { term, refusal, highest_term, sound_standby }));
            }
            Message::RequestLease {
                term,
                asked_at,
                position,
                writable,
                lease,
                forced,
                claim_term,
                generation,
                confirmed_term,
            } => {
                if writable && self.configuration.members.contains(&from) {
                    self.hear_of_writer(now, from, term, forced, &mut output);
                    if !forced {
                        self.superseded(from, claim_term, &mut output);
                    }
                }
                let confirmed = confirmed_term.filter(|_| !forced).unwrap_or_default();
                self.voter.note_bid(now, term, confirmed);
                let refusal = self.consider(now, from, Bid { term, generation, position, confirmed }).err();
                if refusal.is_none() {
                    (self.pre_vote_heard_at, self.deferring_since) = (None, None);
                    let persist =
                        self.voter.grant(now, (self.me, from), term, writable.then_some(position), lease);
                    output.persist = persist.or(output.persist);
                }
                let highest_term = self.voter.hard_state().term;
                output
                    .send
                    .push((from, Message::LeaseReply { term, asked_at, refusal, highest_term, lease }));
            }
            Message::Release { term, successor, end } => {
                output.persist = self.voter.holder_released(now, from, term, (successor, end));
            }
            Message::PreVoteReply { term, refusal, highest_term, sound_standby } => {
                self.highest_term_seen = self.highest_term_seen.max(highest_term);
                self.pre_vote_reply((from, sound_standby), term, refusal, now, &mut output);
            }
            Message::LeaseReply { term, asked_at, refusal, highest_term, lease } => {
                self.highest_term_seen = self.highest_term_seen.max(highest_term);
                self.lease_reply(now, from, term, (asked_at, lease), refusal, &mut output);
            }
        }
        output
    }

    /// Whether this node, a sound standby, still receives WAL while the lease is free and wanted: it may have more than
    /// it knows, and is waited for. Only for a moment: one that has not noticed that its primary is gone holds nobody
    /// up.
    fn may_have_more_wal(&mut self, now: Millis) -> bool {
        let since = *self.pre_vote_heard_at.get_or_insert(now);
        self.node_state.sound_standby && !self.node_state.stream_ended && now < since + self.timing.deferral
    }

    /// Whether PostgreSQL should be observed at once: somebody wants a free lease, and this node may have more WAL.
    pub fn wants_observation(&self, now: Millis) -> bool {
        let is_wanted = self.pre_vote_heard_at.is_some_and(|since| now < since + self.timing.deferral);
        is_wanted && self.node_state.sound_standby && !self.node_state.stream_ended
    }

    /// Whether this voter would grant.
    fn consider(&self, now: Millis, from: NodeId, bid: Bid) -> Result<(), Refusal> {
        if !self.configuration.members.contains(&from) || !self.is_member() {
            return Err(Refusal::NotMember);
        }
        if bid.generation < self.configuration.generation {
            return Err(Refusal::StaleConfiguration { generation: self.configuration.generation });
        }
        if !self.can_persist {
            return Err(Refusal::CannotPersist);
        }
        // The others may know better, and outvote this; it helps nobody into the place of what may still run here.
        if from != self.me && self.claim.is_open() {
            return Err(Refusal::LeaseActive { by: Some(self.me), millis: self.timing.holder_window() });
        }
        if bid.term > self.voter.hard_state().term
            && now < self.started_at + self.timing.listen_window
            && self.voter.should_listen(from)
        {
            let millis = self.started_at + self.timing.listen_window - now;
            return Err(Refusal::LeaseActive { by: None, millis });
        }
        let compares = self.node_state.candidate || self.node_state.sound_standby;
        let mine = self.node_state.position.filter(|_| compares && from != self.me);
        self.voter.consider(now, from, bid, mine.map(|position| (self.me, position)))
    }
}
