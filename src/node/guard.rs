//! The guard: a thin loop around the lease and the decision. It looks, hands what it saw to the two of them, and does
//! what they say: make durable, send, start, promote, fence, rejoin, keep the floating IP.

mod jobs;
mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::address;
use super::clock;
use super::config::{Config, Member};
use super::decision::{Act, Job, Seen};
use super::fence;
use super::lease::{Event, Lease, Message, Millis, NodeId, Output, Refusal, Timing};
use super::memory::{self, Held};
use super::postgres::{self, Look, State};
use super::processes;
use super::provider;
use super::socket::{self, Request, Verdict};
use super::wire::{self, Opened, Wire};

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
    job_ended: Millis,
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
                if let Ok((length, _)) = received {
                    guard.received(&buffer[..length]).await?;
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
        if let Some(held) = memory::held()? {
            lease.resume(held.term, held.until);
        }
        let key = std::fs::read_to_string(wire::KEY_PATH)
            .with_context(|| format!("cannot read {}; `cluster up` writes it", wire::KEY_PATH))?;
        let mut session = [0; 8];
        getrandom::fill(&mut session).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let peers = config.peers().map(|peer| peer.id);
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
            job_ended: 0,
            heir: None,
            restarting_until: 0,
            restart_ended: false,
            unfit_until: 0,
            retry_at: 0,
            primary: None,
            astray_since: None,
            noted: memory::held()?,
            next_look: now,
            looking: false,
            next_address: now,
            moving: None,
            next_inquiry: now,
            inquiring: false,
            has_address: None,
            next_mend: now,
            mending: false,
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
        self.spawn(async move { Done::Job(job, work.await) });
    }

    /// Everything that is seen without waiting.
    fn see(&mut self, now: Millis) -> Seen {
        // A kernel that does not tell leaves the worst to be assumed.
        let processes = processes::list(&self.config).map_or(true, |list| !list.is_empty());
        let data = self.config.data_directory();
        let standby_signal = Path::new(&data).join("standby.signal").exists();
        let restarting = now < self.restarting_until;
        let ended = self.had_processes && !processes;
        let reads = !processes && self.job.is_none() && !self.config.me().witness && finished();
        if reads && (ended || self.stopped.is_none()) {
            self.stopped = postgres::stopped_position(&self.config).ok();
        }
        if ended && !self.config.me().witness {
            memory::note("ended", "PostgreSQL has ended");
            if self.lease.term().is_some() && !restarting && self.job.is_none() {
                self.unfit_until = self.unfit_until.max(now + YIELD);
            }
        }
        self.restart_ended |= ended;
        self.had_processes = processes;
        Seen {
            now,
            witness: self.config.me().witness,
            finished: finished(),
            standby_signal,
            processes,
            look: self.look.clone(),
            stopped: self.stopped,
            holds: self.lease.holds(now),
            term: self.lease.durable().term,
            bootstrap: self.bootstrap,
            job: self.job,
            restarting,
            paused: Path::new(memory::PAUSED).exists(),
            primary: self.other_primary(now),
            unfit: now < self.unfit_until,
        }
    }

    fn other_primary(&self, now: Millis) -> Option<NodeId> {
        let primary = self.primary.as_ref()?;
        (now <= primary.heard + HEARD && primary.heard >= primary.since + BELIEVED).then_some(primary.node)
    }

    async fn tick(&mut self) -> Result<()> {
        let now = clock::now();
        let seen = self.see(now);
        let local = seen.local();
        let mut output = self.lease.tick(now, local);
        if let Some(heir) = self.heir.filter(|_| local.gone) {
            self.heir = None;
            let more = self.lease.hand_over(now, heir);
            output.persist = more.persist.or(output.persist);
            output.send.extend(more.send);
            output.events.extend(more.events);
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
        if let Some(durable) = &output.persist {
            memory::persist(durable)?;
        }
        let held = match (self.lease.term(), self.lease.until()) {
            (Some(term), Some(until)) => Some(Held { term, until }),
            // Run out, and not yet seen to have ended: the old note stands.
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

    fn tell(&mut self, event: Event) {
        let text = match &event {
            Event::Asked { term } => format!("asks for term {term}"),
            Event::Won { term } => {
                (self.bootstrap, self.next_address) = (false, Instant::now());
                format!("holds the lease, term {term}")
            }
            Event::Raised { term } => format!("the lease goes on as term {term}"),
            Event::GaveUp { term } => format!("no majority for term {term}"),
            Event::Expired { term } => {
                format!("the lease of term {term} has run out: no majority has renewed it")
            }
            Event::Released { term } => format!("has let go of term {term}"),
            Event::Refused { by, why } => {
                if let Refusal::Held { by: Some(other), .. } = why
                    && *other != self.config.me().id
                {
                    // The cluster is not new after all.
                    self.bootstrap = false;
                }
                let reason = std::mem::discriminant(why);
                if self.refusals.get(by).is_some_and(|before| std::mem::discriminant(before) == reason) {
                    return;
                }
                self.refusals.insert(*by, why.clone());
                format!("{} does not grant: {why}", self.name(*by))
            }
        };
        if !matches!(event, Event::Refused { .. }) {
            self.refusals.clear();
        }
        let word = serde_json::to_value(&event)
            .ok()
            .and_then(|value| Some(value.as_object()?.keys().next()?.clone()));
        memory::note(word.as_deref().unwrap_or("lease"), &text);
        self.last = text;
    }

    /// Does what the decision says.
    async fn act(&mut self) {
        let seen = self.see(clock::now());
        let (act, why) = seen.decide();
        self.why = why;
        let config = self.config.clone();
        match act {
            Act::Rest => {}
            Act::Fence => {
                let text = match processes::kill(&self.config) {
                    Ok(count) => format!("fenced: killed {count} processes of PostgreSQL; {why}"),
                    Err(error) => format!("fenced, and {error:#}"),
                };
                memory::note("fenced", &text);
                self.last = text;
                // What a job was about is gone; it will say so itself.
                self.unfit_until = clock::now() + YIELD;
            }
            Act::Start | Act::Rejoin(_) if seen.now < self.retry_at => {}
            Act::Start => self.begin(Job::Start, why, jobs::start(config)),
            Act::Promote => self.begin(Job::Promote, why, jobs::promote(config)),
            Act::Rejoin(primary) => {
                if let Some(primary) = self.member(primary).cloned() {
                    self.begin(Job::Rejoin, why, jobs::rejoin(config, primary));
                }
            }
        }
    }

    fn look_again(&mut self) {
        if self.looking || Instant::now() < self.next_look {
            return;
        }
        self.looking = true;
        let config = self.config.clone();
        self.spawn(async move { Done::Look(postgres::look(&config).await) });
    }

    fn keep_address(&mut self, seen: &Seen) {
        let primary = seen.local().writable;
        if !seen.holds || !primary {
            self.has_address = None;
            // A move takes seconds and is tried again for minutes; the address is another's by then.
            if let Some(moving) = self.moving.take() {
                moving.abort();
            }
            return;
        }
        if self.config.floating_ip.is_none() || self.moving.is_some() || Instant::now() < self.next_address {
            return;
        }
        let config = self.config.clone();
        let patient = self.has_address == Some(false);
        let work = async move { address::take(&config, patient).await.map_err(|error| format!("{error:#}")) };
        self.moving = Some(self.spawn(async move { Done::Address(work.await) }));
    }

    /// Asks the provider whether a holder that has fallen silent is off. The lease ends by itself a few seconds later,
    /// so that is asked a few times at most.
    fn inquire(&mut self, now: Millis) {
        let Some(holder) = self.lease.silent_holder(now) else { return };
        if self.inquiring || Instant::now() < self.next_inquiry || self.config.floating_ip.is_none() {
            return;
        }
        let (Some(member), config) = (self.member(holder).cloned(), self.config.clone()) else { return };
        (self.inquiring, self.next_inquiry) = (true, Instant::now() + INQUIRY);
        self.spawn(async move { Done::Off(holder, now, provider::is_off(&config, &member).await) });
    }

    fn mend(&mut self, seen: &Seen) {
        if self.mending || seen.job.is_some() || seen.paused || Instant::now() < self.next_mend {
            return;
        }
        let primary = if seen.holds { Some(self.config.me().id) } else { seen.primary };
        let Some(primary) = primary.and_then(|id| self.member(id)).cloned() else { return };
        let Some(look) = seen.look.as_ref().filter(|_| seen.processes) else { return };
        let astray = match &look.state {
            State::Standby { from } => from.as_deref() != Some(primary.host.to_string().as_str()),
            State::Primary => false,
            State::Silent(_) => return,
        };
        self.astray_since = if astray { self.astray_since.or(Some(seen.now)) } else { None };
        let astray = self.astray_since.is_some_and(|since| seen.now >= since + ASTRAY);
        (self.mending, self.next_mend) =
            (true, Instant::now() + if self.astray_since.is_some() { TROUBLED } else { MEND });
        let config = self.config.clone();
        self.spawn(async move { Done::Mend(jobs::mend(config, primary, astray).await) });
    }

    async fn finished(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Look(look) => {
                self.looking = false;
                if look.began < self.job_ended {
                    // It began before a job ended, and may have seen what was before.
                    return Ok(());
                }
                self.next_look = Instant::now() + LOOK;
                let before = self.look.as_ref().map(|look| std::mem::discriminant(&look.state));
                if before != Some(std::mem::discriminant(&look.state)) {
                    let text = match &look.state {
                        State::Primary => "PostgreSQL takes writes".to_owned(),
                        State::Standby { .. } => "PostgreSQL is a standby".to_owned(),
                        State::Silent(why) => format!("PostgreSQL does not answer: {why}"),
                    };
                    memory::note("postgresql", &text);
                }
                if look.state == State::Primary && self.restart_ended {
                    // It is through: what ends from here on has failed.
                    self.restarting_until = 0;
                }
                self.look = Some(look);
                self.tick().await?;
            }
            Done::Job(job, result) => {
                // What was seen before it ended says nothing about now.
                (self.job, self.look, self.stopped, self.job_ended) = (None, None, None, clock::now());
                let now = clock::now();
                match result {
                    Ok(text) => {
                        memory::note("done", &text);
                        self.last = text;
                        self.trouble = None;
                        if job == Job::Rejoin {
                            // Whatever failed here before, this is a sound standby now.
                            (self.unfit_until, self.retry_at) = (0, 0);
                        }
                        if job == Job::HandOver {
                            // The heir has the time of a lease; this node must not want it back at once.
                            self.unfit_until = now + 2 * YIELD;
                        }
                    }
                    Err(error) => {
                        let text = format!("{job:?} failed: {error:#}");
                        memory::note("failed", &text);
                        self.trouble = Some(text);
                        self.heir = None;
                        match job {
                            // It starts again here, with the lease that it still has.
                            Job::HandOver => {}
                            Job::Rejoin => self.retry_at = now + RETRY,
                            Job::Start | Job::Promote => {
                                (self.unfit_until, self.retry_at) = (now + UNFIT, now + RETRY)
                            }
                        }
                    }
                }
                self.next_look = Instant::now();
                self.tick().await?;
            }
            Done::Address(result) => {
                self.moving = None;
                self.next_address =
                    Instant::now() + if matches!(result, Ok(false)) { CALM } else { TROUBLED };
                match result {
                    Ok(moved) => {
                        if moved {
                            memory::note("address", "the floating IP leads here now");
                        }
                        (self.has_address, self.trouble) = (Some(true), None);
                    }
                    Err(error) => {
                        let text = format!("floating IP: {error}");
                        if self.trouble.as_ref() != Some(&text) {
                            memory::note("trouble", &text);
                        }
                        (self.has_address, self.trouble) = (Some(false), Some(text));
                    }
                }
            }
            Done::Off(node, asked_at, answer) => {
                self.inquiring = false;
                match answer {
                    Ok(true) => {
                        let output = self.lease.off(clock::now(), node, asked_at);
                        if output.persist.is_some() {
                            memory::note(
                                "off",
                                &format!("the provider says that {} is off", self.name(node)),
                            );
                        }
                        self.put(output).await?;
                    }
                    Ok(false) => {}
                    // The lease runs out without it.
                    Err(error) => eprintln!("asking whether {} is off: {error:#}", self.name(node)),
                }
            }
            Done::Mend(result) => {
                self.mending = false;
                if let Err(error) = result {
                    let text = format!("repmgr's records: {error:#}");
                    if self.trouble.as_ref() != Some(&text) {
                        eprintln!("{text}");
                    }
                }
            }
        }
        Ok(())
    }

    async fn received(&mut self, packet: &[u8]) -> Result<()> {
        match self.wire.open(packet) {
            Opened::Nothing => {}
            Opened::Greet(peer) => self.send(peer, None).await,
            Opened::Message(from, message) => {
                let now = clock::now();
                if let Message::Ask { writable: true, term, .. } = &message
                    && *term >= self.lease.durable().term
                {
                    self.bootstrap = false;
                    let since = self.primary.as_ref().filter(|it| it.node == from && now <= it.heard + HEARD);
                    self.primary =
                        Some(Primary { node: from, since: since.map_or(now, |it| it.since), heard: now });
                }
                let before = self.lease.durable().term;
                let output = self.lease.receive(now, from, message);
                let granted = Some(self.lease.durable()).filter(|it| it.term > before).map(|it| it.term);
                let won = output.events.iter().any(|event| matches!(event, Event::Won { .. }));
                // Before the answer leaves, so that no promotion is older than the grants that it stands on.
                if let Some(term) = granted {
                    memory::note("granted", &format!("grants term {term} to {}", self.name(from)));
                }
                self.put(output).await?;
                if won {
                    self.act().await;
                }
            }
        }
        Ok(())
    }

    async fn asked(&mut self, mut stream: UnixStream) {
        let root = stream.peer_cred().is_ok_and(|who| who.uid() == 0);
        let answer = match socket::read(&mut stream).await {
            Some(request) if request.is_roots() && !root => {
                serde_json::to_string(&Verdict { allowed: false, why: "only root may ask for that".into() })
            }
            Some(Request::Status) => serde_json::to_string(&self.status()),
            Some(request) => serde_json::to_string(&self.verdict(&request)),
            None => Ok("{\"error\":\"what?\"}".to_owned()),
        };
        // Who asked may have gone.
        let _ = stream.write_all(answer.unwrap_or_default().as_bytes()).await;
    }

    fn verdict(&mut self, request: &Request) -> Verdict {
        let now = clock::now();
        let holds = self.lease.holds(now);
        match request {
            Request::HandOver { to } if holds => {
                let heir = self.config.peers().find(|peer| peer.name == *to && !peer.witness).cloned();
                match (heir, self.job) {
                    (None, _) => Verdict {
                        allowed: false,
                        why: format!("there is no data node `{to}` beside this one"),
                    },
                    (_, Some(job)) => Verdict { allowed: false, why: format!("{job:?} is under way") },
                    (Some(heir), None) => {
                        self.heir = Some(heir.id);
                        let why = format!("hands over to {}", heir.name);
                        self.begin(Job::HandOver, &why, jobs::stop_for(self.config.clone(), heir));
                        Verdict { allowed: true, why }
                    }
                }
            }
            Request::Restart if holds || self.bootstrap => {
                (self.restarting_until, self.restart_ended) = (now + RESTART, false);
                Verdict { allowed: true, why: "the lease is kept meanwhile".into() }
            }
            _ if holds => Verdict { allowed: true, why: "this node holds the lease".into() },
            Request::MayStart if self.bootstrap && std::fs::remove_file(FIRST_START).is_ok() => {
                Verdict { allowed: true, why: "`cluster up` starts it for the first time".into() }
            }
            _ => Verdict { allowed: false, why: format!("this node does not hold the lease; {}", self.why) },
        }
    }
}

/// Made by `cluster up` just before the first start of a new primary; gone after a boot.
const FIRST_START: &str = "/run/cluster/first-start";

/// Whether PostgreSQL may start on this node now: a standby always, anything else with the lease.
pub async fn start_check(config: &Config) -> Verdict {
    let yes = |why: &str| Verdict { allowed: true, why: why.to_owned() };
    if config.me().witness {
        return yes("this is the witness");
    }
    if Path::new(&config.data_directory()).join("standby.signal").exists() {
        return yes("this is a standby");
    }
    match socket::verdict(&Request::MayStart).await {
        Ok(verdict) => verdict,
        // No guard yet: `cluster up` starts the first primary before it starts the guards.
        Err(_)
            if memory::durable().is_ok_and(|it| it.term == 0)
                && std::fs::remove_file(FIRST_START).is_ok() =>
        {
            yes("`cluster up` starts it for the first time")
        }
        Err(error) => Verdict { allowed: false, why: format!("{error:#}, and only it knows of the lease") },
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
