//! The guard's edges: sockets, files, clocks and tasks around the core, which decides.
//!
//! Whatever happens becomes an input of the core, with what is seen of the host at that moment; what comes out is carried
//! out in its order (`effects`). Nothing here decides anything.

mod disk;
mod effects;
mod host;
mod jobs;
mod start_check;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_contract::NodeId;
use cluster_contract::config::Config;
use cluster_contract::journal::Event;
use cluster_contract::paths;
use cluster_contract::request::{Code, Request, Verdict};
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::core::{Core, Input, Startup};
use super::socket;
use super::wire::{Opened, Wire};
use super::{clock, fence, store};
use crate::journal;
pub use start_check::start_check;

/// How often the guard observes what costs nothing to observe.
const TICK: Duration = Duration::from_millis(200);

struct Guard {
    config: Config,
    core: Core,
    wire: Wire,
    udp: UdpSocket,
    addresses: BTreeMap<NodeId, SocketAddr>,
    /// Where tasks beside the loop send what they come to.
    inputs: mpsc::Sender<Input>,
    /// The job that is under way.
    job_task: Option<tokio::task::AbortHandle>,
    /// The move of the address that is under way.
    address_task: Option<tokio::task::AbortHandle>,
}

/// Runs until it is stopped.
///
/// # Errors
/// When it cannot listen, or does not know what it must not forget.
pub async fn run(config: Config) -> Result<()> {
    std::fs::create_dir_all("/run/cluster")?;
    let listener = socket::listen(Path::new(paths::SOCKET))?;
    let (sender, mut requests) = mpsc::channel(16);
    tokio::spawn(socket::serve(listener, sender));
    if let Err(error) = fence::stay_in_memory() {
        journal::warn(&format!("the guard could not be locked into memory: {error}"));
    }
    let (inputs, mut results) = mpsc::channel(16);
    let mut guard = Guard::new(config, inputs).await?;
    tokio::spawn(fence::keep_watch());
    notify(&[sd_notify::NotifyState::Ready]);
    journal::note(Event::Started, &format!("the guard of {} has started", guard.config.node));
    if let Some(term) = guard.core.lease().held_term() {
        journal::note(Event::LeaseResumed { term }, &format!("still holds the lease, term {term}"));
    }

    let mut ends = signal(SignalKind::terminate()).context("cannot wait for the signal to end")?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => {
                notify(&[sd_notify::NotifyState::Watchdog]);
                guard.handle(Input::Tick).await;
            }
            _ = ends.recv() => {
                // Where the host goes down, PostgreSQL has just ended, and nobody else would say so.
                guard.handle(Input::Tick).await;
                return Ok(());
            }
            Some(input) = results.recv() => guard.handle(input).await,
            received = guard.udp.recv_from(&mut buffer) => {
                // An error here is an old packet's: "port unreachable" of a peer that is down.
                if let Ok((length, from)) = received {
                    match guard.wire.open(&buffer[..length], from, clock::now()) {
                        Opened::Nothing => guard.note_heard(),
                        Opened::Greet(peer) => guard.handle(Input::PeerMet(peer)).await,
                        Opened::Message(from, message) => guard.handle(Input::Message(from, message)).await,
                    }
                }
            }
            Some(pending) = requests.recv() => {
                let answer = guard.answer(&pending.request).await;
                // Who asked may have gone.
                let _ = pending.reply.send(answer);
            }
        }
    }
}

impl Guard {
    async fn new(config: Config, inputs: mpsc::Sender<Input>) -> Result<Guard> {
        let me = config.me().clone();
        let key = std::fs::read_to_string(paths::KEY)
            .with_context(|| format!("cannot read {}; `cluster up` writes it", paths::KEY))?;
        let mut session = [0; 8];
        getrandom::fill(&mut session).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let addresses: BTreeMap<NodeId, SocketAddr> =
            config.peers().map(|peer| (peer.id, (peer.host, paths::GUARD_PORT).into())).collect();
        let wire =
            Wire::new(&key, me.id, u64::from_ne_bytes(session), addresses.iter().map(|(id, at)| (*id, *at)))?;
        let udp = UdpSocket::bind((me.host, paths::GUARD_PORT))
            .await
            .context("cannot listen for the other guards")?;
        let disk_restored = store::is_restored()?;
        if let Err(error) = store::prepare() {
            journal::note(Event::Trouble, &error.to_string());
        }
        let (hard_state, held_lease) = (store::hard_state()?, store::held_lease()?);
        let startup = Startup { config: config.clone(), hard_state, held_lease, disk_restored };
        let core = Core::new(startup, host::observe(&config), clock::now())?;
        Ok(Guard { config, core, wire, udp, addresses, inputs, job_task: None, address_task: None })
    }

    /// Hands the core what has happened, and carries out what comes of it.
    async fn handle(&mut self, input: Input) {
        let host = host::observe(&self.config);
        let effects = self.core.handle(clock::now(), &host, input);
        let Err(error) = self.carry_out(effects).await else { return };
        // What depended on it was not done. The core goes on without a vote, until the disk takes something again.
        let host = host::observe(&self.config);
        let effects = self.core.handle(clock::now(), &host, Input::PersistFailed(format!("{error:#}")));
        if let Err(error) = self.carry_out(effects).await {
            journal::warn(&format!("{error:#}"));
        }
    }

    /// Tells the core which peers have been heard of, if by a greeting alone.
    fn note_heard(&mut self) {
        for peer in self.addresses.keys() {
            if let Some(at) = self.wire.heard(*peer) {
                self.core.hear(*peer, at);
            }
        }
    }

    async fn answer(&mut self, request: &Request) -> String {
        match request {
            Request::Status => serde_json::to_string(&self.core.status(clock::now())).unwrap_or_default(),
            _ => serde_json::to_string(&self.verdict(request).await).unwrap_or_default(),
        }
    }

    async fn verdict(&mut self, request: &Request) -> Verdict {
        let (host, now) = (host::observe(&self.config), clock::now());
        let first_start = start_check::is_first_start();
        let (verdict, effects) = self.core.answer_request(now, &host, request, first_start);
        let uses_it = self.core.uses_first_start(request, &verdict, now);
        if let Err(error) = self.carry_out(effects).await {
            // What could not be made durable was not done.
            let why = format!("{error:#}");
            self.handle(Input::PersistFailed(why.clone())).await;
            return Verdict::no(Code::Unknown, why);
        }
        if uses_it && !start_check::use_first_start() {
            return Verdict::no(Code::NotHolder, "its first start has already been used");
        }
        verdict
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(false, states);
}
