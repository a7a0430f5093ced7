//! The guard without its sockets, files and clocks: an input and a time in, effects out.
//!
//! [`Core`] is the lease, the decision and everything that a guard remembers between two moments. It waits for nothing
//! and touches nothing: `guard` brings it what happens and does what it says, and the simulation in `tests/lease` plays
//! the same core against a world that it makes up.
//!
//! Effects are to be carried out in their order. A fence comes first, for nothing may hold it up; then what must be on
//! disk, then what depends on it. When something cannot be made durable, nothing is sent or begun any more of that
//! batch, and [`Input::PersistFailed`] says so: the core goes on without a vote.

mod act;
mod failures;
mod journal;
mod observe;
mod requests;
mod restart;
mod results;
mod room;
mod status;

use std::collections::BTreeMap;

use cluster_contract::config::{Config, Member};
use cluster_contract::journal::Event;
use cluster_contract::status::WalKept;
use cluster_contract::timing::{CRASH_BACKOFF, ImpossibleTiming, Timing};
use cluster_contract::{Millis, NodeId, Term, WalPosition};

use super::control_file::ControlFile;
use super::decision::{HEARTBEAT_FRESH_FOR, Job};
use super::lease::{Configuration, HardState, Lease, LeaseEvent, Message, NodeState, Output, Refusal};
use super::postgres::ServerObservation;
use super::room::{Room, Space};
use super::store::{HeldLease, Pause};
use failures::FailedClones;
pub use failures::JobFailure;
pub use journal::JournalEntry;
use restart::Restart;
pub use room::Relief;

/// How often PostgreSQL itself is observed.
const OBSERVE_INTERVAL: Millis = 700;
/// How often it is while somebody waits to know how much WAL it has.
const OBSERVE_INTERVAL_WANTED: Millis = 100;
/// How often the API is asked where the address is, when nothing has changed: 240 requests an hour of 5,000.
const ADDRESS_POLL: Millis = 15_000;
/// How soon after a move the address is looked for again, and a move that failed is tried again.
const ADDRESS_RETRY: Millis = 2_000;
/// How often the API is asked whether a silent primary is off.
const PROVIDER_POLL: Millis = 1_000;
/// How often repmgr's records and this standby's upstream are checked.
const REPAIR_INTERVAL: Millis = 10_000;
/// How soon again while this standby's upstream is wrong.
const REPAIR_RETRY: Millis = 2_000;
/// For how long a node that could not start or promote lets others become primary first: where nobody else has tried
/// to by the time of its own next try, no longer than until then.
const FAILURE_BACKOFF: Millis = 20_000;
/// For how long one does that has handed over: its successor has the time of a lease to take it up.
const HAND_OVER_BACKOFF: Millis = 2 * CRASH_BACKOFF;
/// How soon a start or a rejoin that failed is tried again.
const JOB_RETRY: Millis = 10_000;
/// A primary that has not been heard of for so long may be none any more.
const PRIMARY_SILENT_AFTER: Millis = 4_000;
/// A primary is believed when it has been heard of for so long.
const PRIMARY_BELIEVED_AFTER: Millis = 1_000;
/// How long a restart on purpose, or an orderly shutdown, may take before the lease is let go.
const STOP_LIMIT: Millis = 120_000;
/// For how long the status shows a hand-over that failed, well as everything may be.
const FAILED_HAND_OVER_SHOWN_FOR: Millis = 30_000;
/// How long a standby may stream from nowhere, or from the wrong node, before it is pointed at the primary.
const WRONG_UPSTREAM_LIMIT: Millis = 8_000;
/// How long a server that was allowed to start may show no processes.
const ALLOWED_START_LIMIT: Millis = 3_000;
/// How soon the reserve is looked at again after it was made or given up, or could not be.
const RESERVE_RETRY: Millis = 5_000;
/// How soon PostgreSQL is told again to refuse writes, or to take them, where it could not be told.
const REFUSAL_RETRY: Millis = 2_000;
/// How often a PostgreSQL with little room is asked what takes it, and relieved.
const RELIEF_INTERVAL: Millis = 30_000;
/// How often it is while the disk is full: nothing else is written then.
const RELIEF_INTERVAL_FULL: Millis = 5_000;
/// A slot that nobody has read for so long, while room is scarce, is of a standby that is gone.
const SLOT_IDLE_LIMIT: Millis = 60_000;
/// How often the disk and PostgreSQL's program are checked.
const HOST_CHECK_INTERVAL: Millis = 10_000;
/// How often a peer of which nothing was heard is greeted, so that a broken link is noticed before it matters.
const GREETING_INTERVAL: Millis = 5_000;
/// A peer that has not been heard of for so long is shown in the status.
const PEER_SILENT_AFTER: Millis = 20_000;

// A start that is waited for must not be given up by the observation that finds it.
const _: () =
    assert!(OBSERVE_INTERVAL < PRIMARY_SILENT_AFTER && PRIMARY_BELIEVED_AFTER < PRIMARY_SILENT_AFTER);
const _: () = assert!(GREETING_INTERVAL * 3 < PEER_SILENT_AFTER);
// One observation may be late, and the lease is renewed all the same.
const _: () = assert!(2 * OBSERVE_INTERVAL < HEARTBEAT_FRESH_FOR);

/// What is observed of the host without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostObservation {
    /// Whether the unit of PostgreSQL has processes. A kernel that does not tell leaves the worst to be assumed.
    pub has_processes: bool,
    /// What the server has written in its control file; none if that cannot be read.
    pub control_file: Option<ControlFile>,
    /// Whether the data directory has a `standby.signal`.
    pub standby_signal: bool,
    /// Whether `cluster up` has finished the data directory.
    pub data_ready: bool,
    /// A person's wish that nothing be started, promoted or rejoined here.
    pub paused: Option<Pause>,
    /// Whether what was written here beside another primary is kept until a person gives it up.
    pub diverged_data_kept: bool,
    /// Whether a rewind was begun here and not ended.
    pub half_rewound: bool,
    /// The room that PostgreSQL has; none if that cannot be told.
    pub space: Option<Space>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A message of another guard has come.
    Message(NodeId, Message),
    /// Another guard was met that did not know this one: it has read nothing of what it was sent.
    PeerMet(NodeId),
    /// An observation of PostgreSQL has ended.
    ServerObserved(ServerObservation),
    /// A job has ended: what was done, or why it was not.
    JobEnded(Job, Result<String, JobFailure>),
    /// The address was looked for: whether it was moved here, or why not.
    AddressMoved(Result<bool, String>),
    /// Whether the provider says that this node, asked after at that time, is off.
    ProviderAnswered(NodeId, Millis, Result<bool, String>),
    /// Replication was checked, and repaired where it had to be.
    ReplicationRepaired(Result<Replication, String>),
    /// The reserve was made or given up: what was done, or why it was not.
    ReserveChanged(Result<String, String>),
    /// PostgreSQL was told to refuse writes, or to take them.
    RefusalSet {
        refuses: bool,
        /// How many transactions were ended that had begun to write before; why it could not be told.
        result: Result<u64, String>,
    },
    /// PostgreSQL was relieved, and asked what takes the room.
    Relieved(Result<Relief, String>),
    /// Something was to be made durable and was not: why.
    PersistFailed(String),
    /// The host was checked for what takes a while to find out.
    HostChecked {
        /// Whether the disk takes the hard state; why it does not.
        persist: Result<(), String>,
        /// Why the disk takes nothing else.
        no_room: Option<String>,
        /// Whether PostgreSQL runs programs or libraries that were replaced since.
        runs_old_program: bool,
    },
}

/// What checking replication has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// repmgr's records and this node's upstream are right, or have been put right.
    Sound,
    /// This standby has WAL that the primary's history lacks.
    Diverged,
}

/// What is to be done, in the order in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Kill PostgreSQL, for this reason.
    Fence(&'static str),
    /// Keep what was written here beside another primary: the note of it must be on disk.
    KeepDivergedData,
    /// Remove that note: the data may be rewound, or lead.
    GiveUpDivergedData,
    /// Must be on disk and synced before anything that follows.
    Persist(HardState),
    /// Note for the watch what this node holds, before anything that follows.
    NoteLease(Option<HeldLease>),
    /// Send to a peer; without a message, a greeting.
    Send(NodeId, Option<Message>),
    /// Write into the journal.
    Journal(JournalEntry),
    /// Observe PostgreSQL.
    ObserveServer,
    BeginJob(Job),
    /// Give up the job that is under way.
    AbortJob,
    /// Make the address lead here.
    MoveAddress {
        /// Whether an answer is waited for longer: the API has failed just now.
        patient: bool,
    },
    /// Give up a move of the address that is under way: it is another node's by now.
    StopMovingAddress,
    /// Ask the provider whether a node is off.
    AskProvider(NodeId),
    /// Put right what repmgr does not: its records, the witness's copy of them, a standby's upstream, unused slots.
    RepairReplication {
        /// The primary, this node or another.
        primary: NodeId,
        /// Whether this standby has streamed from nowhere, or from the wrong node, for too long.
        wrong_upstream: bool,
    },
    /// Check the host for what takes a while to find out.
    CheckHost,
    /// Make the reserve on the disk.
    MakeReserve {
        bytes: u64,
    },
    /// Give it up.
    FreeReserve,
    /// Have PostgreSQL refuse what writes, or take it again.
    RefuseWrites(bool),
    /// Ask PostgreSQL what takes the room on its disk, and make some.
    Relieve {
        /// Slots of standbys that are gone.
        drop_slots: Vec<String>,
        /// Whether to end transactions that have begun to write before writes were refused.
        end_writers: bool,
        /// Whether to have WAL removed that nothing needs any more.
        checkpoint: bool,
    },
}

/// Another node that takes writes.
#[derive(Clone, Debug)]
struct OtherPrimary {
    node: NodeId,
    /// Since when it has been heard of without a longer silence.
    heard_since: Millis,
    last_heard: Millis,
    /// The term with which its claim began; 0 if it did not say.
    claim_term: Term,
}

/// A term that a person's word has just taken, until it is known whether that could be written down.
struct Forcing {
    /// The lease as it was.
    before: Lease,
    events: Vec<LeaseEvent>,
}

/// Something that is done again and again, and not twice at the same time.
#[derive(Clone, Copy, Debug, Default)]
struct Periodic {
    next: Millis,
    running: bool,
}

impl Periodic {
    fn is_due(&self, now: Millis) -> bool {
        !self.running && now >= self.next
    }

    fn begin(&mut self) {
        self.running = true;
    }

    fn ended(&mut self, next: Millis) {
        (self.running, self.next) = (false, next);
    }
}

/// What a guard knows as it starts.
pub struct Startup {
    pub config: Config,
    /// As its disk has it.
    pub hard_state: HardState,
    /// What it held when the guard before it ended, within the same boot.
    pub held_lease: Option<HeldLease>,
    /// Whether its disk was restored from an older one beneath it: the hard state may have been overtaken.
    pub disk_restored: bool,
}

/// The guard: its lease, and everything that it remembers between two moments.
pub struct Core {
    config: Config,
    lease: Lease,
    /// What PostgreSQL was last observed to be; none since something has changed.
    server: Option<ServerObservation>,
    /// What the server that runs has last answered: whether it is a primary.
    server_answered_primary: Option<bool>,
    /// When it last answered anything at all.
    server_answered_at: Option<Millis>,
    /// Whether it was seen to begin beside a `standby.signal`, and has shown nothing else since.
    started_as_standby: bool,
    last_position: Option<WalPosition>,
    had_processes: bool,
    /// Whether the host was observed at all: a guard that starts has not seen the beginning of what runs.
    has_observed_host: bool,
    /// Whether this is a new cluster's primary that waits for the first lease of all.
    bootstrap: bool,
    job: Option<Job>,
    job_since: Millis,
    /// Something has changed since: an observation that began before this is taken anew.
    stale_before: Millis,
    /// The node that is to have the next term, while this one hands over.
    successor: Option<NodeId>,
    /// A restart that was announced, and is not through.
    restart: Option<Restart>,
    /// Since when a primary shuts down in order.
    shutting_down_since: Option<Millis>,
    /// A hand-over has failed: what was stopped for it is started again here, with the lease that it has.
    returning_until: Millis,
    failed_hand_over_shown_until: Millis,
    /// PostgreSQL was allowed to start, then, and counts as there until then: until it takes writes, or for as long as it says
    /// that it starts.
    start_allowed_since: Millis,
    start_allowed_until: Millis,
    /// A guard that takes up another's lease believes a server that says until then that it starts or stops.
    resumed_until: Millis,
    backoff_until: Millis,
    /// When a start or a promotion has failed, if that is why this node lets others go first.
    failed_at: Option<Millis>,
    /// Not before this is a start or a rejoin tried again.
    retry_at: Millis,
    failed_clones: Option<FailedClones>,
    other_primary: Option<OtherPrimary>,
    /// The last primary that fell silent, until it is heard of or another is primary.
    silent_primary: Option<NodeId>,
    diverged: bool,
    wrong_upstream_since: Option<Millis>,
    /// The lease as it is noted for the watch.
    noted_lease: Option<HeldLease>,
    observations: Periodic,
    address: Periodic,
    provider_poll: Periodic,
    repair: Periodic,
    host_check: Periodic,
    room: Room,
    reserve: Periodic,
    refusal: Periodic,
    relief: Periodic,
    /// Whether PostgreSQL was told to refuse writes; none before it was told anything.
    refuses: Option<bool>,
    refusal_trouble: Option<String>,
    reserve_trouble: Option<String>,
    wal_kept: Option<WalKept>,
    /// Slots that nobody reads, and since when that is known.
    idle_slots: BTreeMap<String, Millis>,
    has_address: Option<bool>,
    /// Why the last repair of replication came to nothing, so that it is reported once.
    repair_trouble: Option<String>,
    /// Why the disk does not take the hard state.
    cannot_persist: Option<String>,
    /// Why the disk takes nothing else: no journal, no rejoin.
    no_room: Option<String>,
    runs_old_program: bool,
    last_heard: BTreeMap<NodeId, Millis>,
    greeted_at: Millis,
    /// Each voter's last refusal, so that the journal has a new reason once.
    refusals: BTreeMap<NodeId, Refusal>,
    job_trouble: Option<String>,
    address_trouble: Option<String>,
    /// What was done last, and why nothing else is: for people.
    last_action: String,
    why: &'static str,
    effects: Vec<Effect>,
    forcing: Option<Forcing>,
    /// The lease as it was before the last input, of a node of a new cluster that had granted nothing.
    before_first_term: Option<Lease>,
    host: HostObservation,
    started_at: Millis,
}

impl Core {
    /// A guard that starts at `now` on `host`.
    ///
    /// # Errors
    /// When the lease cannot have the length that the configuration gives it, nor a shorter one.
    pub fn new(startup: Startup, host: HostObservation, now: Millis) -> Result<Core, ImpossibleTiming> {
        let (failover, voters) = (startup.config.failover, startup.config.members.len());
        let timing = Timing::at_most(failover.lease_ms, failover.lag_limit_bytes, voters)?;
        let mut core = Core::with_timing(startup, host, timing, now);
        if timing.lease != failover.lease_ms {
            // An older build took it. A guard that did not start would cost the primary.
            let (written, used) = (failover.lease_ms, timing.lease);
            core.journal(
                Event::Trouble,
                format!("a lease of {written} ms is too long: this guard requests {used} ms until the inventory says less"),
            );
        }
        Ok(core)
    }

    /// The same with figures of one's own; a simulation plays with wrong ones.
    pub fn with_timing(startup: Startup, host: HostObservation, timing: Timing, now: Millis) -> Core {
        let Startup { config, mut hard_state, held_lease, disk_restored } = startup;
        if disk_restored {
            // Nobody is known to have been granted anything: it abstains for as long as a new voter would.
            (hard_state.holder, hard_state.released, hard_state.successor) = (None, false, None);
        }
        let configuration = Configuration {
            generation: config.generation,
            members: config.members.iter().map(|member| member.id).collect(),
        };
        // A hard state that is gone is no new cluster: what runs here without a lease is fenced.
        let bootstrap = hard_state.is_of_a_new_cluster();
        let mut lease = Lease::new(config.my_id(), configuration, timing, hard_state, now);
        if let Some(held) = held_lease {
            lease.resume(held.term, held.until, now);
        }
        // The guard before may have been starting it, or stopping it for another.
        let resumes = held_lease.is_some() && host.has_processes && !host.standby_signal;
        let last_heard = config.peers().map(|peer| (peer.id, now)).collect();
        Core {
            lease,
            server: None,
            server_answered_primary: None,
            server_answered_at: None,
            started_as_standby: false,
            last_position: None,
            had_processes: false,
            has_observed_host: false,
            bootstrap,
            job: None,
            job_since: now,
            stale_before: 0,
            successor: None,
            restart: None,
            shutting_down_since: None,
            returning_until: 0,
            failed_hand_over_shown_until: 0,
            start_allowed_since: now,
            start_allowed_until: 0,
            resumed_until: if resumes { now + ALLOWED_START_LIMIT } else { 0 },
            backoff_until: 0,
            failed_at: None,
            retry_at: 0,
            failed_clones: None,
            other_primary: None,
            silent_primary: None,
            diverged: false,
            wrong_upstream_since: None,
            noted_lease: held_lease,
            observations: Periodic::default(),
            address: Periodic::default(),
            provider_poll: Periodic::default(),
            repair: Periodic::default(),
            host_check: Periodic::default(),
            room: Room::new(now),
            reserve: Periodic::default(),
            refusal: Periodic::default(),
            relief: Periodic::default(),
            refuses: None,
            refusal_trouble: None,
            reserve_trouble: None,
            wal_kept: None,
            idle_slots: BTreeMap::new(),
            has_address: None,
            repair_trouble: None,
            cannot_persist: None,
            no_room: None,
            runs_old_program: false,
            last_heard,
            greeted_at: now,
            refusals: BTreeMap::new(),
            job_trouble: None,
            address_trouble: None,
            last_action: String::new(),
            why: "",
            effects: Vec::new(),
            forcing: None,
            before_first_term: None,
            host,
            started_at: now,
            config,
        }
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The job that is under way.
    pub fn job(&self) -> Option<Job> {
        self.job
    }

    /// A peer was heard of at `at`, with a greeting alone.
    pub fn hear(&mut self, peer: NodeId, at: Millis) {
        let heard = self.last_heard.entry(peer).or_insert(at);
        *heard = at.max(*heard);
    }

    /// Something has happened at `now`, which is the host's clock read after it; `host` is what was seen then.
    pub fn handle(&mut self, now: Millis, host: &HostObservation, input: Input) -> Vec<Effect> {
        host.clone_into(&mut self.host);
        self.notice(now);
        let stored = !matches!(input, Input::PersistFailed(_));
        self.settle_force(now, stored);
        self.settle_first_term(stored);
        match input {
            Input::Tick => self.tick(now),
            Input::Message(from, message) => self.receive(now, from, message),
            Input::PeerMet(peer) => {
                self.last_heard.insert(peer, now);
                self.effects.push(Effect::Send(peer, None));
                let output = self.lease.peer_met(now);
                self.carry_out(now, output);
            }
            Input::ServerObserved(server) => self.server_observed(now, server),
            Input::JobEnded(job, result) => self.job_ended(now, job, result),
            Input::AddressMoved(result) => self.address_moved(now, result),
            Input::ProviderAnswered(node, asked_at, answer) => {
                self.provider_answered(now, (node, asked_at), answer)
            }
            Input::ReplicationRepaired(result) => self.replication_repaired(now, result),
            Input::ReserveChanged(result) => self.reserve_changed(now, result),
            Input::RefusalSet { refuses, result } => self.refusal_set(now, refuses, result),
            Input::Relieved(result) => self.relieved(now, result),
            Input::PersistFailed(why) => self.persist_checked(now, Err(why)),
            Input::HostChecked { persist, no_room, runs_old_program } => {
                (self.host_check.running, self.no_room, self.runs_old_program) =
                    (false, no_room, runs_old_program);
                self.persist_checked(now, persist);
            }
        }
        let mut effects = std::mem::take(&mut self.effects);
        // Nothing may hold a fence up, a disk least of all. It comes before what a release says, too, which was decided
        // on what was seen before it.
        effects.sort_by_key(|effect| !matches!(effect, Effect::Fence(_)));
        effects
    }

    fn tick(&mut self, now: Millis) {
        let observed = self.observe(now);
        let node_state = NodeState { successor: self.successor, ..observed.node_state() };
        self.notice_silent_primary(now);
        let output = self.lease.tick(now, node_state);
        if output.events.iter().any(|event| matches!(event, LeaseEvent::Released { .. })) {
            self.successor = None;
        }
        self.carry_out(now, output);
        let observed = self.observe(now);
        self.act(&observed);
        self.observe_again(now);
        self.keep_address(now, &observed);
        self.ask_provider(now);
        self.repair_replication(now, &observed);
        self.check_host(now);
        self.keep_room(now, &observed);
        self.greet(now);
    }

    fn receive(&mut self, now: Millis, from: NodeId, message: Message) {
        self.last_heard.insert(from, now);
        // Whoever is refused raises its term, and proves nothing by that: what a majority has granted to it counts.
        if let Message::RequestLease { writable: true, term, claim_term, confirmed_term, forced, .. } =
            &message
            && (confirmed_term.filter(|_| !forced).unwrap_or(*term) >= self.lease.hard_state().term
                || self.lease.is_forced())
        {
            self.bootstrap = false;
            if self.silent_primary.take() == Some(from) {
                let name = self.name(from).to_owned();
                let text = format!("hears of {name} again");
                self.journal(Event::PrimaryHeard { about: Some(name) }, text);
            }
            let before = self.other_primary.take();
            let before = before.filter(|it| it.node == from && now <= it.last_heard + PRIMARY_SILENT_AFTER);
            self.other_primary = Some(OtherPrimary {
                node: from,
                heard_since: before.map_or(now, |it| it.heard_since),
                last_heard: now,
                claim_term: *claim_term,
            });
        }
        let before = self.lease.hard_state().term;
        let is_release = matches!(message, Message::Release { .. });
        let output = self.lease.receive(now, from, message);
        if is_release && output.persist.is_some() {
            // What streamed from there streams no more, and may be the next.
            self.stale_before = now;
            self.observations.next = now;
        }
        // A reply may have made this node grant to itself, which is reported as a request.
        let granted = Some(self.lease.hard_state())
            .filter(|it| it.term > before && it.holder == Some(from))
            .map(|it| it.term);
        let changed_hands = output
            .events
            .iter()
            .any(|event| matches!(event, LeaseEvent::Won { .. } | LeaseEvent::Superseded { .. }));
        // Before the reply leaves, so that no promotion is older than the grants that it stands on.
        if let Some(term) = granted {
            let text = format!("grants term {term} to {}", self.name(from));
            self.journal(Event::Granted { term, to: Some(self.name(from).to_owned()) }, text);
        }
        self.carry_out(now, output);
        if changed_hands {
            let observed = self.observe(now);
            self.act(&observed);
            self.keep_address(now, &observed);
        }
        self.observe_again(now);
    }

    /// Persists, notes, sends and reports, in this order.
    fn carry_out(&mut self, now: Millis, output: Output) {
        if output.events.iter().any(|event| matches!(event, LeaseEvent::Yielded { .. })) {
            // What was written here is nowhere else, and rewinding would lose it. Before the term that says so is gone.
            self.keep_diverged_data();
        }
        let is_lost = |event: &LeaseEvent| {
            use LeaseEvent::{Expired, Released, Superseded};
            matches!(event, Expired { .. } | Released { .. } | Superseded { .. })
        };
        if output.events.iter().any(is_lost) {
            // Whoever restarts PostgreSQL cannot start it without the lease. If it comes back, the guard does.
            (self.restart, self.successor) = (None, None);
        }
        if let Some(hard_state) = output.persist {
            self.effects.push(Effect::Persist(hard_state));
        }
        let held = match (self.lease.held_term(), self.lease.until()) {
            (Some(term), Some(until)) => Some(HeldLease { term, until }),
            // Run out, and not yet seen to have ended: the old note stands, unless it would run for longer.
            (Some(term), None) if self.noted_lease.is_some_and(|held| held.until > now) => {
                Some(HeldLease { term, until: now })
            }
            (Some(_), None) => self.noted_lease,
            (None, _) => self.lease.first_claim().map(|(term, until)| HeldLease { term, until }),
        };
        if held != self.noted_lease {
            self.effects.push(Effect::NoteLease(held));
            self.noted_lease = held;
        }
        self.effects.extend(output.send.into_iter().map(|(to, message)| Effect::Send(to, Some(message))));
        for event in output.events {
            self.lease_event(now, event);
        }
    }

    fn keep_diverged_data(&mut self) {
        self.host.diverged_data_kept = true;
        self.effects.push(Effect::KeepDivergedData);
    }

    fn member(&self, id: NodeId) -> Option<&Member> {
        self.config.members.iter().find(|member| member.id == id)
    }

    fn name(&self, id: NodeId) -> &str {
        self.member(id).map_or("?", |member| member.name.as_str())
    }

    fn begin_job(&mut self, now: Millis, job: Job, why: &str) {
        let text = match job {
            Job::Start => format!("starting PostgreSQL: {why}"),
            _ => format!("starting the {}: {why}", job.kind()),
        };
        self.journal(Event::JobBegun { job: Some(job.kind()) }, text);
        (self.job, self.job_since) = (Some(job), now);
        self.effects.push(Effect::BeginJob(job));
    }

    fn is_witness(&self) -> bool {
        self.config.is_witness()
    }
}
