//! The guard without its sockets, files and clocks: an input and a time in, effects out.
//!
//! [`Core`] is the lease, the decision and everything that a guard remembers between two moments. It waits for nothing
//! and touches nothing: `guard` brings it what happens and does what it says, and the simulation in `tests/lease` plays
//! the same core against a world that it makes up.
//!
//! Effects are to be carried out in their order. A fence comes first, for nothing may hold it up; then what must be on
//! disk, then what depends on it. When something cannot be made durable, nothing is sent or begun any more of that
//! batch, and [`Input::Stored`] says so: the core goes on without a voice.

mod act;
mod journal;
mod requests;
mod results;
mod status;
mod view;

use std::collections::BTreeMap;

use cluster_contract::config::{Config, Member};
use cluster_contract::journal::Event as Happened;
use cluster_contract::timing::{Impossible, STANDS_BACK, Timing};
use cluster_contract::{Millis, NodeId, Position, Term};

use super::control::Control;
use super::decision::Job;
use super::lease::{Durable, Event, Lease, Local, Members, Message, Output, Refusal};
use super::memory::Held;
use super::postgres::Look;
pub use journal::Entry;

/// How often PostgreSQL itself is looked at.
const LOOK: Millis = 700;
/// How often it is while somebody waits for what it has.
const LOOK_CLOSELY: Millis = 100;
/// How often the API is asked where the address is, when nothing has changed: 240 requests an hour of 5,000.
const ADDRESS_POLL: Millis = 15_000;
/// How soon after a move the address is looked for again, and a move that failed is tried again.
const ADDRESS_RETRY: Millis = 2_000;
/// How often the API is asked whether a silent primary is off.
const INQUIRY: Millis = 1_000;
/// How often repmgr's records are looked at.
const MEND: Millis = 10_000;
/// How soon again when something was wrong with them.
const MEND_RETRY: Millis = 2_000;
/// For how long a node that could not start or promote lets others try.
const FAILED_BACKOFF: Millis = 20_000;
/// How soon a start or a rejoin that failed is tried again.
const RETRY: Millis = 10_000;
/// A primary that has not been heard of for so long may be none any more.
const PRIMARY_SILENT_AFTER: Millis = 4_000;
/// A primary is believed when it has been heard of for so long.
const PRIMARY_BELIEVED_AFTER: Millis = 1_000;
/// How long a restart on purpose, or an orderly shutdown, may take before the lease is let go.
const STOP_LIMIT: Millis = 120_000;
/// For how long a hand-over that failed is told.
const TOLD: Millis = 30_000;
/// How long a standby may stream from nowhere, or from the wrong node, before it is pointed at the primary.
const ASTRAY: Millis = 8_000;
/// How long a server that was allowed to start may show no processes.
const PROMISE: Millis = 3_000;
/// How often the disk is tried.
const DISK_CHECK: Millis = 10_000;
/// How often a peer of which nothing was heard is greeted, so that a broken link is noticed before it matters.
const GREETING: Millis = 5_000;
/// A peer that has not been heard of for so long is told of in the status.
const PEER_SILENT_AFTER: Millis = 20_000;

// A start that is waited for must not be given up by the look that finds it.
const _: () = assert!(LOOK < PRIMARY_SILENT_AFTER && PRIMARY_BELIEVED_AFTER < PRIMARY_SILENT_AFTER);
const _: () = assert!(GREETING * 3 < PEER_SILENT_AFTER);

/// What is seen of the host without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whether the unit of PostgreSQL has processes. A kernel that does not tell leaves the worst to be assumed.
    pub processes: bool,
    /// What the server has written in its control file; none if that cannot be read.
    pub control: Option<Control>,
    /// Whether the data directory has a `standby.signal`.
    pub standby_signal: bool,
    /// Whether `cluster up` has finished the data directory.
    pub finished: bool,
    /// Whether a person has paused this node, and since when.
    pub paused: Option<Option<String>>,
    /// Whether what was written here beside another primary is kept for a person to look at.
    pub kept: bool,
    /// Whether a rewind was begun here and not ended.
    pub half_rewound: bool,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Another guard says something.
    Message(NodeId, Message),
    /// Another guard was met that did not know this one: it has not understood what it was asked.
    Met(NodeId),
    /// A look at PostgreSQL has ended.
    Looked(Look),
    /// A job has ended: what was done, or why it was not.
    JobEnded(Job, Result<String, String>),
    /// The address was looked for: whether it was moved here, or why not.
    AddressMoved(Result<bool, String>),
    /// Whether the provider says that this node, asked after at that time, is off.
    ProviderSaid(NodeId, Millis, Result<bool, String>),
    /// repmgr's records were looked at.
    Mended(Result<Mended, String>),
    /// Something was to be made durable and was not; or could be again.
    Stored(Result<(), String>),
    /// What is looked at now and then.
    Checked {
        /// Whether the disk takes what must not be forgotten.
        disk: Result<(), String>,
        /// Why it takes nothing else.
        room: Option<String>,
        /// Whether PostgreSQL runs a program that was replaced since.
        outdated: bool,
    },
}

/// What looking at repmgr's records has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// They are right, or have been put right.
    Right,
    /// This standby has WAL that the primary's history lacks.
    Diverged,
}

/// What is to be done, in the order in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Kill PostgreSQL, and say why.
    Fence(&'static str),
    /// Keep what was written here beside another primary: it must be on disk.
    KeepData,
    /// Give that up.
    GiveUpData,
    /// Must be on disk and synced before anything that follows.
    Persist(Durable),
    /// Note for the watch what this node holds, before anything that follows.
    Hold(Option<Held>),
    /// Send to a peer; without a message, a greeting.
    Send(NodeId, Option<Message>),
    /// Write into the journal.
    Note(Entry),
    /// Look at PostgreSQL.
    Look,
    /// Begin a job.
    Begin(Job),
    /// Give the job that is under way up.
    Abort,
    /// Make the address lead here. Patiently if the API has failed just now.
    MoveAddress {
        /// Whether an answer is waited for longer.
        patient: bool,
    },
    /// The address is another's by now.
    StopMoving,
    /// Ask the provider whether a node is off.
    AskProvider(NodeId),
    /// Put right what repmgr does not, as a standby of this primary or as it.
    Mend {
        /// The primary.
        primary: NodeId,
        /// Whether this standby streams from nowhere, or from the wrong node.
        astray: bool,
    },
    /// Try whether the disk takes what must not be forgotten.
    TryDisk,
}

/// Another node that takes writes.
#[derive(Clone, Debug)]
struct Primary {
    node: NodeId,
    since: Millis,
    heard: Millis,
    /// The term with which its claim began; 0 if it did not say.
    won: Term,
}

/// Something that is done again and again, and not twice at once.
#[derive(Clone, Copy, Debug, Default)]
struct Periodic {
    next: Millis,
    runs: bool,
}

impl Periodic {
    fn is_due(&self, now: Millis) -> bool {
        !self.runs && now >= self.next
    }

    fn begin(&mut self) {
        self.runs = true;
    }

    fn ended(&mut self, next: Millis) {
        (self.runs, self.next) = (false, next);
    }
}

/// A guard that starts: what it knows.
pub struct Start {
    /// Its configuration.
    pub config: Config,
    /// What its disk remembers.
    pub durable: Durable,
    /// What it held when the guard before it ended, within the same boot.
    pub held: Option<Held>,
    /// Whether its disk was restored from an older one beneath it: what it remembers may have been overtaken.
    pub restored: bool,
}

/// The guard.
pub struct Core {
    config: Config,
    lease: Lease,
    look: Option<Look>,
    /// What the server that runs has last answered: whether it is a primary.
    answered_primary: Option<bool>,
    answered_at: Option<Millis>,
    began_as_standby: bool,
    last_position: Option<Position>,
    had_processes: bool,
    /// Whether PostgreSQL was looked for at all: a guard that starts has not seen the beginning of what runs.
    has_seen: bool,
    bootstrap: bool,
    job: Option<Job>,
    job_since: Millis,
    /// Something has changed since: a look that began before this is taken anew.
    stale_before: Millis,
    heir: Option<NodeId>,
    restarting_until: Millis,
    /// Whether PostgreSQL has been seen to end since a restart was announced.
    restart_ended: bool,
    /// Since when a primary shuts down in order.
    stopping_since: Option<Millis>,
    /// A hand-over has failed: what was stopped for it is started again here, with the lease that it has.
    returning_until: Millis,
    /// A hand-over that failed is told until then, well as everything may be.
    told_until: Millis,
    promised_until: Millis,
    unfit_until: Millis,
    retry_at: Millis,
    primary: Option<Primary>,
    diverged: bool,
    astray_since: Option<Millis>,
    /// The lease as it is noted for the watch.
    noted: Option<Held>,
    looks: Periodic,
    address: Periodic,
    inquiry: Periodic,
    mend: Periodic,
    disk: Periodic,
    has_address: Option<bool>,
    /// Why the last attempt to mend came to nothing, so that it is told once.
    unmended: Option<String>,
    /// Why the disk does not take what must not be forgotten.
    disk_trouble: Option<String>,
    /// Why there is no room beside it: no journal, no rejoin.
    room_trouble: Option<String>,
    outdated: bool,
    heard: BTreeMap<NodeId, Millis>,
    greeted_at: Millis,
    refusals: BTreeMap<NodeId, Refusal>,
    job_trouble: Option<String>,
    address_trouble: Option<String>,
    last: String,
    why: &'static str,
    effects: Vec<Effect>,
    host: Host,
    started_at: Millis,
}

impl Core {
    /// A guard that starts at `now` on `host`.
    ///
    /// # Errors
    /// When the lease cannot have the length that the configuration gives it.
    pub fn new(start: Start, host: Host, now: Millis) -> Result<Core, Impossible> {
        let Start { config, durable, held, restored } = start;
        let ids: Vec<NodeId> = config.nodes.iter().map(|member| member.id).collect();
        let timing = Timing::new(config.failover.lease_ms, config.failover.lag_limit, ids.len())?;
        Ok(Core::with_timing(Start { config, durable, held, restored }, host, timing, now))
    }

    /// The same with figures of one's own; a simulation plays with wrong ones.
    pub fn with_timing(start: Start, host: Host, timing: Timing, now: Millis) -> Core {
        let Start { config, mut durable, held, restored } = start;
        if restored {
            // Nobody is known to have been granted anything: it abstains for as long as a new voter would.
            (durable.holder, durable.released, durable.heir) = (None, false, None);
        }
        let members = Members {
            generation: config.generation,
            ids: config.nodes.iter().map(|member| member.id).collect(),
        };
        // A memory that is gone is no new cluster: what runs here without a lease is fenced.
        let bootstrap = durable.is_of_a_new_cluster();
        let mut lease = Lease::new(config.my_id(), members, timing, durable, now);
        if let Some(held) = held {
            lease.resume(held.term, held.until, now);
        }
        let heard = config.peers().map(|peer| (peer.id, now)).collect();
        Core {
            lease,
            look: None,
            answered_primary: None,
            answered_at: None,
            began_as_standby: false,
            last_position: None,
            had_processes: false,
            has_seen: false,
            bootstrap,
            job: None,
            job_since: now,
            stale_before: 0,
            heir: None,
            restarting_until: 0,
            restart_ended: false,
            stopping_since: None,
            returning_until: 0,
            told_until: 0,
            promised_until: 0,
            unfit_until: 0,
            retry_at: 0,
            primary: None,
            diverged: false,
            astray_since: None,
            noted: held,
            looks: Periodic::default(),
            address: Periodic::default(),
            inquiry: Periodic::default(),
            mend: Periodic::default(),
            disk: Periodic::default(),
            has_address: None,
            unmended: None,
            disk_trouble: None,
            room_trouble: None,
            outdated: false,
            heard,
            greeted_at: now,
            refusals: BTreeMap::new(),
            job_trouble: None,
            address_trouble: None,
            last: String::new(),
            why: "",
            effects: Vec::new(),
            host,
            started_at: now,
            config,
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What is being done.
    pub fn job(&self) -> Option<Job> {
        self.job
    }

    /// A peer was heard of at `at`, though it had nothing to say.
    pub fn hear(&mut self, peer: NodeId, at: Millis) {
        let heard = self.heard.entry(peer).or_insert(at);
        *heard = at.max(*heard);
    }

    /// Something has happened at `now`, which is the host's clock read after it; `host` is what was seen then.
    pub fn handle(&mut self, now: Millis, host: &Host, input: Input) -> Vec<Effect> {
        host.clone_into(&mut self.host);
        self.notice(now);
        match input {
            Input::Tick => self.tick(now),
            Input::Message(from, message) => self.receive(now, from, message),
            Input::Met(peer) => {
                self.heard.insert(peer, now);
                self.effects.push(Effect::Send(peer, None));
                let output = self.lease.met(now);
                self.put(now, output);
            }
            Input::Looked(look) => self.looked(now, look),
            Input::JobEnded(job, result) => self.job_ended(now, job, result),
            Input::AddressMoved(result) => self.address_moved(now, result),
            Input::ProviderSaid(node, asked_at, answer) => self.provider_said(now, (node, asked_at), answer),
            Input::Mended(result) => self.mended(now, result),
            Input::Stored(result) => self.stored(now, result),
            Input::Checked { disk, room, outdated } => {
                (self.disk.runs, self.room_trouble, self.outdated) = (false, room, outdated);
                self.stored(now, disk);
            }
        }
        let mut effects = std::mem::take(&mut self.effects);
        // Nothing may hold a fence up, a disk least of all. It comes before what a release says, too, which was decided
        // on what was seen before it.
        effects.sort_by_key(|effect| !matches!(effect, Effect::Fence(_)));
        effects
    }

    fn tick(&mut self, now: Millis) {
        let seen = self.see(now);
        let local = Local { heir: self.heir, ..seen.local() };
        self.miss_primary(now);
        let output = self.lease.tick(now, local);
        if output.events.iter().any(|event| matches!(event, Event::Released { .. })) {
            self.heir = None;
        }
        self.put(now, output);
        let seen = self.see(now);
        self.act(&seen);
        self.look_again(now);
        self.keep_address(now, &seen);
        self.inquire(now);
        self.look_at_records(now, &seen);
        self.try_disk(now);
        self.greet(now);
    }

    fn receive(&mut self, now: Millis, from: NodeId, message: Message) {
        self.heard.insert(from, now);
        // Whoever is refused raises its term, and proves nothing by that: what a majority has granted to it counts.
        if let Message::Ask { writable: true, term, won, confirmed, forced, .. } = &message
            && (confirmed.filter(|_| !forced).unwrap_or(*term) >= self.lease.durable().term
                || self.lease.is_forced())
        {
            self.bootstrap = false;
            let before = self.primary.take();
            let before = before.filter(|it| it.node == from && now <= it.heard + PRIMARY_SILENT_AFTER);
            self.primary =
                Some(Primary { node: from, since: before.map_or(now, |it| it.since), heard: now, won: *won });
        }
        let before = self.lease.durable().term;
        let release = matches!(message, Message::Release { .. });
        let output = self.lease.receive(now, from, message);
        if release && output.persist.is_some() {
            // What streamed from there streams no more, and may be the next.
            self.stale_before = now;
            self.looks.next = now;
        }
        // An answer may have made this node grant to itself, which is told as a question.
        let granted = Some(self.lease.durable())
            .filter(|it| it.term > before && it.holder == Some(from))
            .map(|it| it.term);
        let won =
            output.events.iter().any(|event| matches!(event, Event::Won { .. } | Event::Superseded { .. }));
        // Before the answer leaves, so that no promotion is older than the grants that it stands on.
        if let Some(term) = granted {
            let text = format!("grants term {term} to {}", self.name(from));
            self.note(Happened::Granted { term, to: Some(self.name(from).to_owned()) }, text);
        }
        self.put(now, output);
        if won {
            let seen = self.see(now);
            self.act(&seen);
            self.keep_address(now, &seen);
        }
        self.look_again(now);
    }

    /// Makes durable, notes, sends and tells, in this order.
    fn put(&mut self, now: Millis, output: Output) {
        if output.events.iter().any(|event| matches!(event, Event::Yielded { .. })) {
            // What was written here is nowhere else, and rewinding would lose it. Before the term that says so is gone.
            self.keep_data();
        }
        if let Some(durable) = output.persist {
            self.effects.push(Effect::Persist(durable));
        }
        let held = match (self.lease.term(), self.lease.until()) {
            (Some(term), Some(until)) => Some(Held { term, until }),
            // Run out, and not yet seen to have ended: the old note stands, unless it would run for longer.
            (Some(term), None) if self.noted.is_some_and(|held| held.until > now) => {
                Some(Held { term, until: now })
            }
            (Some(_), None) => self.noted,
            (None, _) => None,
        };
        if held != self.noted {
            self.effects.push(Effect::Hold(held));
            self.noted = held;
        }
        self.effects.extend(output.send.into_iter().map(|(to, message)| Effect::Send(to, Some(message))));
        for event in output.events {
            self.happened(now, event);
        }
    }

    fn keep_data(&mut self) {
        self.host.kept = true;
        self.effects.push(Effect::KeepData);
    }

    fn member(&self, id: NodeId) -> Option<&Member> {
        self.config.nodes.iter().find(|member| member.id == id)
    }

    fn name(&self, id: NodeId) -> &str {
        self.member(id).map_or("?", |member| member.name.as_str())
    }

    fn begin(&mut self, now: Millis, job: Job, why: &str) {
        self.note(Happened::Begun { job: Some(job.kind()) }, format!("starting the {}: {why}", job.kind()));
        (self.job, self.job_since) = (Some(job), now);
        self.effects.push(Effect::Begin(job));
    }

    fn is_witness(&self) -> bool {
        self.config.is_witness()
    }
}
