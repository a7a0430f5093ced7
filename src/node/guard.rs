//! The guard: a thin loop around the lease and the decision. It looks, hands what it saw to the two of them, and does
//! what they say: make durable, send, start, promote, fence, rejoin, keep the floating IP.

mod act;
mod jobs;
mod requests;
mod results;
mod see;
mod status;
mod tell;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{UdpSocket, UnixListener};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock;
use super::config::{Config, Member};
use super::decision::Job;
use super::fence;
use super::lease::{ENDLESS, Event, Lease, Local, Message, Millis, NodeId, Output, Refusal, Timing};
use super::memory::{self, Held};
use super::postgres::Look;
use super::socket;
use super::wire::{self, Opened, Wire};
pub use requests::start_check;

/// How often the guard looks at what costs nothing.
const TICK: Duration = Duration::from_millis(200);
/// How often it looks at PostgreSQL itself.
const LOOK: Duration = Duration::from_millis(700);
/// How often the API is asked where the address is, when nothing has changed: 240 requests an hour of 5,000.
const CALM: Duration = Duration::from_secs(15);
/// How soon after a move the address is looked for again, and a move that failed is tried again.
const TROUBLED: Duration = Duration::from_secs(2);
/// How often the API is asked whether a silent primary is off.
const INQUIRY: Duration = Duration::from_secs(1);
/// How often repmgr's records are looked at.
const MEND: Duration = Duration::from_secs(10);
/// For how long a node whose PostgreSQL has just ended lets a standby go first.
const YIELD: Millis = 5_000;
/// For how long a node that could not start or promote lets others try.
const UNFIT: Millis = 60_000;
/// How soon a start or a rejoin that failed is tried again.
const RETRY: Millis = 10_000;
/// A primary that has not been heard of for so long may be none any more.
const HEARD: Millis = 4_000;
/// A primary is believed when it has been heard of for so long.
const BELIEVED: Millis = 1_000;
/// How long a restart on purpose may take before the lease is let go.
const RESTART: Millis = 120_000;
/// How long a standby may stream from nowhere, or from the wrong node, before it is pointed at the primary.
const ASTRAY: Millis = 8_000;

/// What comes back from work beside the loop.
enum Done {
    Look(Look),
    Job(Job, Result<String>),
    Address(Result<bool, String>),
    /// Whether the provider says that this node, asked after at that time, is off.
    Off(NodeId, Millis, Result<bool>),
    Mend(Result<()>),
}

/// Another node that takes writes.
struct Primary {
    node: NodeId,
    since: Millis,
    heard: Millis,
}

struct Guard {
    config: Config,
    lease: Lease,
    wire: Wire,
    udp: UdpSocket,
    addresses: BTreeMap<NodeId, SocketAddr>,
    done: mpsc::Sender<Done>,
    look: Option<Look>,
    stopped: Option<super::lease::Position>,
    had_processes: bool,
    bootstrap: bool,
    job: Option<Job>,
    /// Its task.
    working: Option<tokio::task::AbortHandle>,
    /// Something has changed since: a look that began before this is taken anew.
    stale_before: Millis,
    heir: Option<NodeId>,
    restarting_until: Millis,
    /// Whether PostgreSQL has been seen to end since a restart was announced.
    restart_ended: bool,
    unfit_until: Millis,
    retry_at: Millis,
    primary: Option<Primary>,
    astray_since: Option<Millis>,
    /// The lease as it is noted in `/run`.
    noted: Option<Held>,
    next_look: Instant,
    looking: bool,
    next_address: Instant,
    moving: Option<tokio::task::AbortHandle>,
    next_inquiry: Instant,
    inquiring: bool,
    has_address: Option<bool>,
    next_mend: Instant,
    mending: bool,
    /// Why the last attempt to mend came to nothing, so that it is told once.
    unmended: Option<String>,
    refusals: BTreeMap<NodeId, Refusal>,
    trouble: Option<String>,
    last: String,
    why: &'static str,
}

/// Runs until it is stopped.
///
/// # Errors
/// When it cannot listen, or cannot keep what it must not forget.
pub async fn run(config: Config) -> Result<()> {
    std::fs::create_dir_all("/run/cluster")?;
    // A socket that an earlier guard left.
    let _ = std::fs::remove_file(socket::PATH);
    let listener = UnixListener::bind(socket::PATH).context("cannot listen")?;
    // repmgrd's hook runs as postgres; what changes anything is for root alone.
    std::fs::set_permissions(socket::PATH, std::fs::Permissions::from_mode(0o666))?;
    let (done, mut results) = mpsc::channel(16);
    let mut guard = Guard::new(config, done).await?;
    tokio::spawn(fence::keep_watch());
    notify(&[sd_notify::NotifyState::Ready]);
    memory::note("started", &format!("the guard of {} has started", guard.config.node));
    if let Some(term) = guard.lease.term() {
        memory::note("holds", &format!("still holds the lease, term {term}"));
    }

    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => {
                notify(&[sd_notify::NotifyState::Watchdog]);
                guard.tick().await?;
            }
            Some(done) = results.recv() => guard.finished(done).await?,
            received = guard.udp.recv_from(&mut buffer) => {
                // An error here is an old packet's: "port unreachable" of a peer that is down.
                if let Ok((length, from)) = received {
                    guard.received(&buffer[..length], from).await?;
                }
            }
            Ok((stream, _)) = listener.accept() => guard.asked(stream).await,
        }
    }
}

impl Guard {
    async fn new(config: Config, done: mpsc::Sender<Done>) -> Result<Guard> {
        let me = config.me().clone();
        let members: Vec<NodeId> = config.nodes.iter().map(|member| member.id).collect();
        let timing = Timing::new(config.failover.lease_ms, config.failover.lag_limit, members.len())?;
        let durable = memory::durable()?;
        let bootstrap = durable.term == 0;
        let mut lease = Lease::new(me.id, members, timing, durable, clock::now());
        let held = memory::held()?;
        if let Some(held) = held {
            lease.resume(held.term, held.until, clock::now());
        }
        let key = std::fs::read_to_string(wire::KEY_PATH)
            .with_context(|| format!("cannot read {}; `cluster up` writes it", wire::KEY_PATH))?;
        let mut session = [0; 8];
        getrandom::fill(&mut session).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let peers = config.peers().map(|peer| (peer.id, (peer.host, wire::PORT).into()));
        let wire = Wire::new(&key, me.id, u64::from_ne_bytes(session), peers)?;
        let udp =
            UdpSocket::bind((me.host, wire::PORT)).await.context("cannot listen to the other guards")?;
        let addresses = config.peers().map(|peer| (peer.id, (peer.host, wire::PORT).into())).collect();
        let now = Instant::now();
        Ok(Guard {
            config,
            lease,
            wire,
            udp,
            addresses,
            done,
            look: None,
            stopped: None,
            had_processes: false,
            bootstrap,
            job: None,
            working: None,
            stale_before: 0,
            heir: None,
            restarting_until: 0,
            restart_ended: false,
            unfit_until: 0,
            retry_at: 0,
            primary: None,
            astray_since: None,
            noted: held,
            next_look: now,
            looking: false,
            next_address: now,
            moving: None,
            next_inquiry: now,
            inquiring: false,
            has_address: None,
            next_mend: now,
            mending: false,
            unmended: None,
            refusals: BTreeMap::new(),
            trouble: None,
            last: String::new(),
            why: "",
        })
    }

    fn member(&self, id: NodeId) -> Option<&Member> {
        self.config.nodes.iter().find(|member| member.id == id)
    }

    fn name(&self, id: NodeId) -> &str {
        self.member(id).map_or("?", |member| member.name.as_str())
    }

    /// Starts work beside the loop. Its result comes back to [`Guard::finished`].
    fn spawn(&self, work: impl Future<Output = Done> + Send + 'static) -> tokio::task::AbortHandle {
        let done = self.done.clone();
        let task = tokio::spawn(async move {
            // The receiver lives as long as the loop.
            let _ = done.send(work.await).await;
        });
        task.abort_handle()
    }

    fn begin(&mut self, job: Job, why: &str, work: impl Future<Output = Result<String>> + Send + 'static) {
        memory::note("begun", &format!("{job:?}: {why}"));
        self.job = Some(job);
        self.working = Some(self.spawn(async move { Done::Job(job, work.await) }));
    }

    async fn tick(&mut self) -> Result<()> {
        let now = clock::now();
        let seen = self.see(now);
        let local = Local { heir: self.heir, ..seen.local() };
        self.miss_primary(now);
        let output = self.lease.tick(now, local);
        if output.events.iter().any(|event| matches!(event, Event::Released { .. })) {
            self.heir = None;
        }
        self.put(output).await?;
        self.act().await;
        self.look_again();
        self.keep_address(&seen);
        self.inquire(now);
        self.mend(&seen);
        Ok(())
    }

    /// Makes durable, notes, sends and tells, in this order.
    async fn put(&mut self, output: Output) -> Result<()> {
        if output.events.iter().any(|event| matches!(event, Event::Yielded { .. })) {
            // What was written here is nowhere else, and rewinding would lose it. Before the term that says so is gone.
            memory::keep_data()?;
        }
        if let Some(durable) = &output.persist {
            memory::persist(durable)?;
        }
        let held = match (self.lease.term(), self.lease.until()) {
            (Some(term), Some(until)) => Some(Held { term, until }),
            // Run out, and not yet seen to have ended: the old note stands, unless it would never run out.
            (Some(term), None) if self.noted.is_some_and(|held| held.until == ENDLESS) => {
                Some(Held { term, until: clock::now() })
            }
            (Some(_), None) => self.noted,
            (None, _) => None,
        };
        if held != self.noted {
            memory::hold(held)?;
            self.noted = held;
        }
        for (to, message) in output.send {
            self.send(to, Some(message)).await;
        }
        for event in output.events {
            self.tell(event);
        }
        Ok(())
    }

    async fn send(&mut self, to: NodeId, message: Option<Message>) {
        let Some(address) = self.addresses.get(&to).copied() else { return };
        match self.wire.pack(to, message) {
            // A message may be lost; a peer that is down makes an error of it.
            Ok(packet) => drop(self.udp.send_to(&packet, address).await),
            Err(error) => eprintln!("to {}: {error:#}", self.name(to)),
        }
    }

    async fn received(&mut self, packet: &[u8], from: SocketAddr) -> Result<()> {
        match self.wire.open(packet, from, clock::now()) {
            Opened::Nothing => {}
            Opened::Greet(peer) => {
                self.send(peer, None).await;
                let output = self.lease.met(clock::now());
                self.put(output).await?;
            }
            Opened::Message(from, message) => {
                let now = clock::now();
                if let Message::Ask { writable: true, term, .. } = &message
                    && (*term >= self.lease.durable().term || self.lease.is_forced())
                {
                    self.bootstrap = false;
                    let since = self.primary.as_ref().filter(|it| it.node == from && now <= it.heard + HEARD);
                    self.primary =
                        Some(Primary { node: from, since: since.map_or(now, |it| it.since), heard: now });
                }
                let before = self.lease.durable().term;
                let release = matches!(message, Message::Release { .. });
                let output = self.lease.receive(now, from, message);
                if release && output.persist.is_some() {
                    // What streamed from there streams no more, and may be the next.
                    (self.stale_before, self.next_look) = (now, Instant::now());
                    self.look_again();
                }
                // An answer may have made this node grant to itself, which is told as a question.
                let granted = Some(self.lease.durable())
                    .filter(|it| it.term > before && it.holder == Some(from))
                    .map(|it| it.term);
                let won = output.events.iter().any(|event| matches!(event, Event::Won { .. }));
                // Before the answer leaves, so that no promotion is older than the grants that it stands on.
                if let Some(term) = granted {
                    memory::note("granted", &format!("grants term {term} to {}", self.name(from)));
                }
                self.put(output).await?;
                if won {
                    self.act().await;
                    let seen = self.see(now);
                    self.keep_address(&seen);
                }
            }
        }
        Ok(())
    }
}

/// Whether the data directory is one that `cluster up` has finished.
fn finished() -> bool {
    let text = std::fs::read_to_string("/etc/cluster/data.json").unwrap_or_default();
    ["primary", "standby", "witness"].iter().any(|made| text.contains(&format!("\"made\":\"{made}\"")))
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(false, states);
}
