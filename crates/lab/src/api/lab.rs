//! The state machine at work: time passes, machines are made and moved, and the state is kept on disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::catalog::Image;
use super::fault::Faults;
use super::journal::Journal;
use super::layout::Layout;
use super::rate::Rates;
use super::route::World;
use super::save;
use super::settings::Settings;
use super::spaces_fault::{Away, SpacesFault, SpacesFaults};
use super::spaces_keys::SpacesKey;
use super::state::State;
use super::wire::{Access, Millis};
use super::work::{Job, Task, carry_out};
use crate::machine::Machines;

/// How often the machines are asked whether they still run.
const LOOK: Duration = Duration::from_secs(1);

/// Troubles that are kept for `GET /lab/state`.
const TROUBLES: usize = 100;

/// The tokens that the API accepts.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// May do everything, order faults included.
    pub operator: SecretString,
    /// May move addresses and read what that takes; everything else is 403.
    pub failover: SecretString,
}

impl Tokens {
    /// Whose token this is.
    pub fn access(&self, token: &str) -> Option<Access> {
        match token {
            "" => None,
            token if token == self.operator.expose_secret() => Some(Access::Operator),
            token if token == self.failover.expose_secret() => Some(Access::Failover),
            _ => None,
        }
    }
}

/// Told of what the lab does and what goes wrong, a line each.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// What a lab is made from.
#[derive(Clone)]
pub struct Config {
    /// Addresses to give out.
    pub layout: Layout,
    /// Who may ask.
    pub tokens: Tokens,
    /// How it starts out.
    pub settings: Settings,
    /// Images on offer.
    pub images: Vec<Image>,
    /// Where the state is kept; nowhere if `None`. The directory must exist.
    pub save_to: Option<PathBuf>,
    /// Who is told.
    pub log: Option<Log>,
}

impl Config {
    /// Debian 11, 12 and 13 on the default networks, with nothing kept.
    pub fn new(tokens: Tokens) -> Self {
        Self {
            layout: Layout::default(),
            tokens,
            settings: Settings::default(),
            images: ["11", "12", "13"].map(Image::debian).into(),
            save_to: None,
            log: None,
        }
    }
}

/// Everything that changes.
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) rates: Rates,
    pub(super) troubles: Vec<String>,
    pub(super) requests: u64,
    /// The state as it was last saved.
    saved: Vec<u8>,
}

/// A lab. Clones are the same lab.
pub struct Lab<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for Lab<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<M> {
    config: Config,
    machines: M,
    inner: Mutex<Inner>,
    /// Held while routes are set, so that an older table never overwrites a newer one.
    routing: tokio::sync::Mutex<()>,
    jobs: mpsc::UnboundedSender<Job>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
    wake: Notify,
}

impl<M: Machines> Lab<M> {
    /// Opens a lab: with the state that was saved, if one was, or empty.
    ///
    /// # Errors
    /// If a saved state cannot be read.
    pub fn open(config: Config, machines: M) -> Result<Self> {
        let saved = config.save_to.as_deref().map(save::load).transpose()?.flatten();
        let mut state = saved.unwrap_or_default();
        state.resume();
        let (jobs, queue) = mpsc::unbounded_channel();
        let inner = Inner {
            state,
            settings: config.settings.clone(),
            faults: Faults::default(),
            journal: Journal::default(),
            rates: Rates::default(),
            troubles: Vec::new(),
            requests: 0,
            saved: Vec::new(),
        };
        let (inner, queue, routing) =
            (Mutex::new(inner), Mutex::new(Some(queue)), tokio::sync::Mutex::new(()));
        let shared = Shared { config, machines, inner, routing, jobs, queue, wake: Notify::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The tokens it accepts.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.config.tokens
    }

    /// What there is now.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// What the metadata service tells the droplet at this public address.
    pub fn metadata_of(&self, public: std::net::Ipv4Addr) -> Option<serde_json::Value> {
        self.with(|world| {
            let droplets = &world.state.droplets;
            let id = droplets.values().find(|droplet| droplet.spec.public_ip == public)?.spec.id;
            world.metadata(id)
        })
    }

    /// Changes the settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// Changes the faults in force.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// Changes the faults of Spaces in force, and returns them.
    pub fn spaces_faults(&self, change: impl FnOnce(&mut SpacesFaults)) -> serde_json::Value {
        self.with(|world| {
            change(&mut world.state.spaces_faults);
            serde_json::json!(world.state.spaces_faults)
        })
    }

    /// The faults that strike a request to Spaces.
    pub(crate) fn strike_spaces(&self, method: &str, path: &str) -> Vec<SpacesFault> {
        // The state is saved only if there is something to count.
        if self.lock().state.spaces_faults.rules.is_empty() {
            return Vec::new();
        }
        self.with(|world| world.state.spaces_faults.strike(method, path))
    }

    /// Whether, and how, Spaces is away.
    pub(crate) fn spaces_away(&self) -> Option<Away> {
        self.lock().state.spaces_faults.away
    }

    /// A key to Spaces, if it works by now.
    pub(crate) fn spaces_key(&self, access_key: &str) -> Option<SpacesKey> {
        self.lock().state.spaces_keys.get(access_key).filter(|key| key.works <= now()).cloned()
    }

    /// The requests that changed something, or tried to.
    pub fn journal(&self) -> Vec<super::journal::Entry> {
        self.lock().journal.entries().to_vec()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `ask` with the world as it is now, lets time pass, saves, and starts the work that came of it.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut World<'_>) -> T) -> T {
        let now = now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut jobs = inner.state.advance(now);
        let config = &self.shared.config;
        let mut world = World {
            state: &mut inner.state,
            settings: &inner.settings,
            images: &config.images,
            layout: &config.layout,
            now,
        };
        let answer = ask(&mut world);
        jobs.extend(inner.state.advance(now));
        self.keep(inner);
        for job in jobs {
            // The receiver is gone only after the end of the lab; the state remembers what is left to do.
            let _ = self.shared.jobs.send(job);
        }
        self.shared.wake.notify_one();
        answer
    }

    fn keep(&self, inner: &mut Inner) {
        let Some(path) = &self.shared.config.save_to else { return };
        if let Err(error) = save::store(path, &inner.state, &mut inner.saved) {
            self.trouble(inner, format!("{error:#}"));
        }
    }

    fn trouble(&self, inner: &mut Inner, line: String) {
        self.log(&line);
        if inner.troubles.len() >= TROUBLES {
            inner.troubles.remove(0);
        }
        inner.troubles.push(line);
    }

    fn log(&self, line: &str) {
        if let Some(log) = &self.shared.config.log {
            log(line);
        }
    }

    /// Lets time pass and work be done until `stop`. Work that has begun is finished first.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut queue) = queue else { return };
        let mut work = JoinSet::new();
        let (mut look, mut looking) = (tokio::time::interval(LOOK), JoinSet::new());
        // What was routed when the state was saved is to be routed again.
        self.start(&mut work, Job { action: Job::NOBODYS, task: Task::Route });
        self.with(|_| ());
        loop {
            let due = self.lock().state.next_due();
            let left = due.map_or(LOOK, |due| Duration::from_millis(u64::try_from(due - now()).unwrap_or(0)));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(job) = queue.recv() => self.start(&mut work, job),
                Some(ended) = work.join_next() => {
                    if let Err(error) = ended {
                        self.trouble(&mut self.lock(), format!("work on a machine broke off: {error}"));
                    }
                }
                () = tokio::time::sleep(left.max(Duration::from_millis(1))) => self.with(|_| ()),
                () = self.shared.wake.notified() => {}
                _ = look.tick(), if looking.is_empty() => {
                    let lab = self.clone();
                    looking.spawn(async move { lab.look().await });
                }
                Some(_) = looking.join_next() => {}
            }
        }
        while work.join_next().await.is_some() {}
    }

    fn start(&self, work: &mut JoinSet<()>, job: Job) {
        let lab = self.clone();
        work.spawn(async move { lab.carry_out(job).await });
    }

    async fn carry_out(&self, job: Job) {
        let result = match &job.task {
            Task::Route => {
                let _turn = self.shared.routing.lock().await;
                let table = self.lock().state.routes();
                self.shared.machines.route(&table).await
            }
            task => carry_out(&self.shared.machines, task).await,
        };
        let what = describe(&job.task);
        match &result {
            Ok(()) => self.log(&what),
            Err(error) => {
                let line = format!("{what} failed: {error:#}");
                self.trouble(&mut self.lock(), line);
            }
        }
        let action = job.action;
        let result = result.map_err(|error| format!("{error:#}"));
        self.with(|world| world.state.worked(action, result, world.now));
    }

    /// Takes note of machines that have stopped, or started, by themselves.
    async fn look(&self) {
        let (idle, as_of) = {
            let inner = self.lock();
            (inner.state.idle(), inner.state.last_action)
        };
        for id in idle {
            let running = self.shared.machines.is_running(id).await;
            let mut inner = self.lock();
            if inner.state.found(id, running, as_of) {
                self.log(&format!("droplet {id} {}", if running { "runs" } else { "has stopped" }));
                self.keep(&mut inner);
            }
        }
    }
}

fn describe(task: &Task) -> String {
    match task {
        Task::Create(spec) => format!("create droplet {} ({})", spec.id, spec.name),
        Task::PowerOn(spec) => format!("power on droplet {}", spec.id),
        Task::PowerOff(id) => format!("power off droplet {id}"),
        Task::Shutdown(id) => format!("shut down droplet {id}"),
        Task::Reboot(spec) => format!("reboot droplet {}", spec.id),
        Task::PowerCycle(spec) => format!("power-cycle droplet {}", spec.id),
        Task::Destroy(id) => format!("destroy droplet {id}"),
        Task::Nothing => "note a change".to_owned(),
        Task::Route => "route the floating IPs".to_owned(),
    }
}

pub(super) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}
