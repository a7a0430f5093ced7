//! The guard's edges: sockets, files, clocks and tasks around the core, which decides.
//!
//! Whatever happens becomes an input of the core, with what is seen of the host at that moment; what comes out is carried
//! out in its order (`effects`). Nothing here decides anything.

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
use tokio::sync::mpsc;

use super::core::{Core, Input, Start};
use super::socket;
use super::wire::{Opened, Wire};
use super::{clock, fence, memory};
use crate::journal;
pub use start_check::start_check;

/// How often the guard looks at what costs nothing.
const TICK: Duration = Duration::from_millis(200);

struct Guard {
    config: Config,
    core: Core,
    wire: Wire,
    udp: UdpSocket,
    addresses: BTreeMap<NodeId, SocketAddr>,
    /// Where work beside the loop brings what it comes to.
    inputs: mpsc::Sender<Input>,
    /// The job that is under way.
    working: Option<tokio::task::AbortHandle>,
    /// The move of the address that is under way.
    moving: Option<tokio::task::AbortHandle>,
}

/// Runs until it is stopped.
///
/// # Errors
/// When it cannot listen, or does not know what it must not forget.
pub async fn run(config: Config) -> Result<()> {
    std::fs::create_dir_all("/run/cluster")?;
    let listener = socket::listen(Path::new(paths::SOCKET))?;
    let (asked, mut questions) = mpsc::channel(16);
    tokio::spawn(socket::serve(listener, asked));
    if let Err(error) = fence::stay_in_memory() {
        journal::warn(&format!("the guard could not be locked into memory: {error}"));
    }
    let (inputs, mut results) = mpsc::channel(16);
    let mut guard = Guard::new(config, inputs).await?;
    tokio::spawn(fence::keep_watch());
    notify(&[sd_notify::NotifyState::Ready]);
    journal::note(Event::Started, &format!("the guard of {} has started", guard.config.node));
    if let Some(term) = guard.core.lease().term() {
        journal::note(Event::Holds { term }, &format!("still holds the lease, term {term}"));
    }

    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => {
                notify(&[sd_notify::NotifyState::Watchdog]);
                guard.take(Input::Tick).await;
            }
            Some(input) = results.recv() => guard.take(input).await,
            received = guard.udp.recv_from(&mut buffer) => {
                // An error here is an old packet's: "port unreachable" of a peer that is down.
                if let Ok((length, from)) = received {
                    match guard.wire.open(&buffer[..length], from, clock::now()) {
                        Opened::Nothing => guard.hear(),
                        Opened::Greet(peer) => guard.take(Input::Met(peer)).await,
                        Opened::Message(from, message) => guard.take(Input::Message(from, message)).await,
                    }
                }
            }
            Some(asked) = questions.recv() => {
                let answer = guard.answer(&asked.request).await;
                // Who asked may have gone.
                let _ = asked.reply.send(answer);
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
        let restored = memory::is_restored()?;
        if let Err(error) = memory::prepare() {
            journal::note(Event::Trouble, &error.to_string());
        }
        let (durable, held) = (memory::durable()?, memory::held()?);
        let start = Start { config: config.clone(), durable, held, restored };
        let core = Core::new(start, host::view(&config), clock::now())?;
        Ok(Guard { config, core, wire, udp, addresses, inputs, working: None, moving: None })
    }

    /// Hands the core what has happened, and carries out what comes of it.
    async fn take(&mut self, input: Input) {
        let host = host::view(&self.config);
        let effects = self.core.handle(clock::now(), &host, input);
        let Err(error) = self.carry_out(effects).await else { return };
        // What depended on it was not done. The core goes on without a voice, until the disk takes something again.
        let host = host::view(&self.config);
        let effects = self.core.handle(clock::now(), &host, Input::Stored(Err(format!("{error:#}"))));
        if let Err(error) = self.carry_out(effects).await {
            journal::warn(&format!("{error:#}"));
        }
    }

    /// Whom something fresh was heard of, if it was a greeting alone.
    fn hear(&mut self) {
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
        let (host, now) = (host::view(&self.config), clock::now());
        let first_start = start_check::is_first_start();
        let (verdict, effects) = self.core.request(now, &host, request, first_start);
        let uses_it = self.core.uses_first_start(request, &verdict, now);
        if let Err(error) = self.carry_out(effects).await {
            // What could not be made durable was not done.
            let why = format!("{error:#}");
            self.take(Input::Stored(Err(why.clone()))).await;
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
