//! The context of a command: the inventory, this machine's state, the provider's API and the connections to
//! the hosts. `keys` is about SSH keys and known hosts, `secrets` about tokens and passwords.

mod backup;
pub mod keys;
mod lock;
pub mod marks;
mod passphrase;
pub mod recover;
pub mod secrets;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;

use crate::error::Advice;
use crate::inventory::{Inventory, Node, Provider};
use crate::provider::{self, Api, Patience};
use crate::remote::kept::Kept;
use crate::remote::ssh::{Ssh, SshHost};
use crate::remote::{Command, Output, Remote as _, RemoteError};
use crate::report::Reporter;
use crate::state::{self, State};

/// How long a host may take to answer before it counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what a killed run began may take to end: a package installation, or a clone.
const BUSY_PATIENCE: Duration = Duration::from_secs(1800);

/// After this long the reason is looked for: a run that was killed a moment ago holds the cluster's lock no more.
const BUSY_FOR: Duration = Duration::from_secs(3);

/// The context of a command.
pub struct World {
    /// The desired state.
    pub inventory: Inventory,
    /// This machine's state.
    pub state: State,
    /// The provider's API, where there is one.
    pub provider: Option<Api>,
    pub report: Reporter,
    /// The node's program, and its SHA-256.
    pub program: Program,
    /// Whether this command works on hosts: it waits then for what an earlier one began there.
    pub purpose: Purpose,
    ssh: Ssh,
    connections: Mutex<BTreeMap<String, Arc<SshHost>>>,
    /// Whether the next run may use the connections of this one.
    keeps_connections: AtomicBool,
    /// Held while `known_hosts` is read and written: hosts are worked on at the same time.
    pins: std::sync::Mutex<()>,
    /// What this run is called where it holds the cluster's lock.
    command: std::sync::OnceLock<String>,
    /// The cluster's lock, as far as this run holds it.
    held: Mutex<lock::Held>,
    /// Another run that was found to hold it.
    other: std::sync::OnceLock<crate::holder::Holder>,
    /// Warnings that were given: every round looks at the same things.
    told: std::sync::Mutex<std::collections::BTreeSet<String>>,
    /// Whether this run puts back data of an earlier moment, with the passwords of then.
    restored: AtomicBool,
    /// Whether it was told that the provider does not answer.
    away: AtomicBool,
}

/// The purpose of a command, which decides how long it waits for the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Changes the cluster, and waits rather than leaving it half done.
    Work,
    /// Only reads, with an operator waiting.
    Look,
}

impl Purpose {
    fn patience(self) -> Patience {
        match self {
            Purpose::Work => Patience::Long,
            Purpose::Look => Patience::Short,
        }
    }
}

/// The node's program, which lies beside this one.
pub struct Program {
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    pub bytes: Vec<u8>,
}

impl World {
    /// Prepares the context without sending anything.
    ///
    /// # Errors
    /// When a token, the node's program or the state directory is missing.
    pub fn new(inventory: Inventory, state: State, report: Reporter, purpose: Purpose) -> Result<World> {
        let provider = match &inventory.provider {
            Provider::DigitalOcean(settings) => {
                let token = secrets::operator_token(settings)?;
                Some(Api::new(&inventory.cluster, settings, token, purpose.patience(), report.clone())?)
            }
            Provider::Existing(_) => None,
        };
        let control = control_directory()?;
        let needs_sudo = |node: &&Node| inventory.ssh_user(node) != "root";
        let sudo = inventory.nodes.iter().filter(needs_sudo).map(|node| node.name.clone()).collect();
        let ssh = Ssh { config: state.path("ssh_config"), kept: Kept::new(control), sudo };
        let program = Program::find()?;
        for warning in secrets::open_to_everybody(&inventory) {
            report.warning(warning);
        }
        Ok(World {
            inventory,
            state,
            provider,
            report,
            program,
            purpose,
            ssh,
            connections: Mutex::default(),
            pins: std::sync::Mutex::default(),
            keeps_connections: AtomicBool::new(true),
            command: std::sync::OnceLock::new(),
            held: Mutex::default(),
            other: std::sync::OnceLock::new(),
            told: std::sync::Mutex::default(),
            restored: AtomicBool::default(),
            away: AtomicBool::default(),
        })
    }

    /// Whether this is the first time that the provider is found not to answer: it is told once.
    pub(crate) fn first_time_away(&self) -> bool {
        !self.away.swap(true, Ordering::Relaxed)
    }

    /// The same run with another inventory: another look at the same cluster, with connections of its own.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn beside(&self, inventory: Inventory) -> Result<World> {
        let world = World::new(inventory, self.state.clone(), self.report.clone(), self.purpose)?;
        if let Some(command) = self.command.get() {
            let _ = world.command.set(command.clone());
        }
        Ok(world)
    }

    /// This run puts back data of an earlier moment: the roles in it get the passwords of now.
    pub fn restores(&self) {
        self.restored.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed)
    }

    /// Warns, once in a run.
    pub(crate) fn warn_once(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.insert(text.clone()) {
            self.report.warning(text);
        }
    }

    /// The connection to a node, through which it answers; opened if there is none.
    ///
    /// # Errors
    /// [`RemoteError::Connect`].
    pub async fn connect(&self, node: &str) -> Result<Arc<SshHost>, RemoteError> {
        let host = self.connection(node).await?;
        if host.is_alive().await {
            return Ok(host);
        }
        drop(host);
        self.disconnect(node).await;
        self.connection(node).await
    }

    /// The connection to a node, opened if there is none. That of an earlier run may be dead.
    pub(crate) async fn connection(&self, node: &str) -> Result<Arc<SshHost>, RemoteError> {
        if let Some(host) = self.connections.lock().await.get(node) {
            return Ok(host.clone());
        }
        let host = Arc::new(self.ssh.connect(node, CONNECT_TIMEOUT).await?);
        self.connections.lock().await.insert(node.to_owned(), host.clone());
        Ok(host)
    }

    /// Runs a command on a node. While the host is busy with what a killed run began there, it waits.
    ///
    /// # Errors
    /// [`RemoteError`]; a connection that broke is forgotten, so that the next command opens another.
    pub async fn run(
        &self,
        node: &str,
        command: &Command,
        line: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Output, RemoteError> {
        let begun = Instant::now();
        loop {
            // What only looks finds out by itself, and is asked for again.
            let host = if command.looks { self.connection(node).await? } else { self.connect(node).await? };
            match host.run(command, line).await {
                Err(RemoteError::Busy { .. })
                    if begun.elapsed() < BUSY_PATIENCE
                        && (begun.elapsed() < BUSY_FOR || !self.is_busy_for_another(&host).await) =>
                {
                    let waited = begun.elapsed().as_secs();
                    self.report.progress(
                        node,
                        format!("waiting for a command of an earlier run to finish ({waited} s)"),
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error @ RemoteError::Lost { .. }) => {
                    drop(host);
                    self.disconnect(node).await;
                    return Err(error);
                }
                result => return result,
            }
        }
    }

    /// Forgets a connection that broke.
    pub async fn disconnect(&self, node: &str) {
        let host = self.connections.lock().await.remove(node);
        let Some(host) = host else { return };
        // Also where another command still waits for it.
        host.forget();
        if let Some(host) = Arc::into_inner(host) {
            host.close().await;
        }
    }

    /// The connections end with this run: the hosts are given up.
    pub fn end_connections(&self) {
        self.keeps_connections.store(false, Ordering::Relaxed);
    }

    /// Lets the cluster's lock go, and ends all connections, or keeps them for the next run.
    pub async fn close(&self) {
        self.unlock_cluster().await;
        let connections = std::mem::take(&mut *self.connections.lock().await);
        let mut ending = tokio::task::JoinSet::new();
        let mut are_new = false;
        for host in connections.into_values().filter_map(Arc::into_inner) {
            if self.keeps_connections.load(Ordering::Relaxed) && host.is_kept() {
                are_new |= host.keep();
            } else {
                ending.spawn(host.end());
            }
        }
        ending.join_all().await;
        if are_new {
            self.ssh.kept.sweep();
        }
    }

    /// Base URL of the API, as the nodes see it.
    pub fn nodes_api_url(&self) -> Option<String> {
        match &self.inventory.provider {
            Provider::DigitalOcean(it) => Some(provider::api_url(it.api_url.as_deref())),
            Provider::Existing(existing) => {
                existing.floating_ip.as_ref().map(|it| provider::api_url(it.api_url.as_deref()))
            }
        }
    }
}

impl Program {
    /// Reads the node's program.
    fn find() -> Result<Program> {
        let path = match std::env::var_os("CLUSTER_NODE_PROGRAM") {
            Some(path) => PathBuf::from(path),
            None => {
                std::env::current_exe().context("cannot locate this program")?.with_file_name("cluster-node")
            }
        };
        let bytes = std::fs::read(&path).map_err(|error| {
            Advice::refused(format!("cannot read the node's program {}: {error}", path.display())).hint(
                "install `cluster-node` beside `cluster` (`make build` builds both), or set CLUSTER_NODE_PROGRAM to its path",
            )
        })?;
        Ok(Program { sha256: crate::plan::files::sha256(&bytes), bytes })
    }
}

/// A short path for sockets, whose names ssh makes long: 61 bytes are the most.
fn control_directory() -> Result<PathBuf> {
    let directory = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_dir() && runtime.as_os_str().len() <= 48 => runtime.join("cluster"),
        _ => PathBuf::from(format!("/tmp/cluster-{}", rustix::process::getuid().as_raw())),
    };
    state::make_private(&directory)?;
    // Of the directory itself: a link could lead to one of ours.
    let metadata = std::fs::symlink_metadata(&directory)?;
    let (owner, mode) = {
        use std::os::unix::fs::MetadataExt as _;
        (metadata.uid(), metadata.mode() & 0o777)
    };
    if owner != rustix::process::getuid().as_raw() || mode != 0o700 || !metadata.is_dir() {
        return Err(Advice::refused(format!("{} belongs to another user", directory.display()))
            .hint("SSH control sockets must be private: remove the directory, or set XDG_RUNTIME_DIR")
            .into());
    }
    Ok(directory)
}
