//! The cluster's lock, which lives with the cluster: two operators on two machines do not change it at the same time.
//!
//! A run takes it before its first change, on every node that it reaches. Where those are no majority of the nodes that
//! there are, a tag at the provider takes their place; `docs/decisions/0017-lock.md` has the reasons.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Purpose, World};
use crate::error::{Advice, Exit};
use crate::facts::{Cloud, Facts, Host};
use crate::holder::Holder;
use crate::poll::poll_until;
use crate::provider::{Api, Patience, ProviderLock, why_away};
use crate::remote::hold::{BEAT, Begun, Hold, Kept};
use crate::remote::ssh::SshHost;
use crate::remote::{Command, Remote as _, RemoteError};
use crate::script;
use crate::state;

/// One that has not been heard of for this long is waited for: its machine may have vanished.
const SILENT: Duration = BEAT.saturating_mul(2).saturating_add(Duration::from_secs(2));
/// By then a host has given up on it.
const EXPIRES: Duration = Duration::from_secs(40);
/// How long the provider may take to list a tag.
const LISTED_WITHIN: Duration = Duration::from_secs(5);
/// How often two that began at the same moment try anew.
const ATTEMPTS: usize = 3;

/// What this run holds.
#[derive(Default)]
pub(super) struct Held {
    /// As others read of this run; none before the lock is taken.
    holder: Option<Holder>,
    nodes: BTreeMap<String, Hold>,
    tag: Option<ProviderLock>,
}

impl World {
    /// Takes this machine's lock, and remembers what the cluster's will be taken for.
    ///
    /// # Errors
    /// [`Advice`] that says who holds it.
    pub fn begin(&self, command: &str) -> Result<state::Lock> {
        let lock = self.state.lock(command)?;
        let _ = self.command.set(command.to_owned());
        Ok(lock)
    }

    /// Takes the cluster's lock if this run does not have it, and makes sure of it if it does. Returns whether it was taken
    /// now: what was seen before may have been changed by somebody since.
    ///
    /// # Errors
    /// [`Advice`] that says who holds it; when it was taken away.
    pub async fn lock_cluster(&self, facts: &Facts) -> Result<bool> {
        let reached = |name: &String| facts.hosts.get(name).is_some_and(|host| matches!(host, Host::Up(_)));
        let mut nodes: Vec<_> = self.inventory.nodes.iter().collect();
        nodes.sort_by_key(|node| node.id);
        let nodes = nodes.into_iter().map(|node| node.name.clone()).filter(reached).collect();
        let there = match &facts.cloud {
            Some(cloud) => cloud.servers.len(),
            None => self.inventory.nodes.len(),
        };
        self.lock_nodes(nodes, there).await
    }

    /// The same, for a number of nodes that are `there`, of which some can be reached.
    ///
    /// # Errors
    /// As [`World::lock_cluster`].
    pub async fn lock_nodes(&self, reached: Vec<String>, there: usize) -> Result<bool> {
        let mut held = self.held.lock().await;
        let mut is_new = held.holder.is_none();
        if !is_new {
            // Where it was lost, nobody kept others out for a while.
            is_new = self.still_held(&mut held).await? || (held.nodes.is_empty() && held.tag.is_none());
        }
        let here = || Holder::here(self.command.get().map_or("up", String::as_str));
        // From now on there may be something to let go, whatever comes of it.
        let holder = held.holder.get_or_insert_with(here).clone();
        let mut new =
            reached.into_iter().filter(|name| !held.nodes.contains_key(name)).collect::<Vec<_>>().into_iter();
        // The first decides between two that begin at the same moment; the others are asked together.
        if held.nodes.is_empty()
            && let Some(first) = new.next()
        {
            let taken = self.lock_node(&first, &holder).await?;
            held.nodes.extend(taken.map(|hold| (first, hold)));
        }
        let others = new.map(|name| async {
            let taken = self.lock_node(&name, &holder).await;
            taken.map(|hold| hold.map(|hold| (name, hold)))
        });
        for taken in futures_of(others).await {
            held.nodes.extend(taken?);
        }
        let is_majority = 2 * held.nodes.len() > there;
        match (&self.provider, is_majority) {
            (Some(api), false) if held.tag.is_none() => {
                // What has a node can do without the provider.
                let brief = api.with_patience(Patience::Brief);
                let api = if held.nodes.is_empty() { api } else { &brief };
                match self.lock_at(api, &holder).await {
                    Ok(tag) => held.tag = Some(tag),
                    Err(error) if why_away(&error).is_some() => self.warn_once(format!(
                        "{error:#}; the cluster's lock is held on {} of {there} nodes",
                        held.nodes.len()
                    )),
                    Err(error) => return Err(error),
                }
            }
            (None, false) => self.warn_once(format!(
                "the cluster's lock is held on {} of {there} nodes: a run that reaches only the others would not be noticed",
                held.nodes.len()
            )),
            (Some(api), true) => {
                if held.nodes.len() < there {
                    self.refuse_tags(api).await?;
                }
                self.drop_tag(&mut held).await;
            }
            _ => {}
        }
        Ok(is_new)
    }

    /// Whether the lock is known to be lost, without asking anybody: to somebody who took it on any node, or everywhere.
    pub async fn has_lost_lock(&self) -> bool {
        let held = self.held.lock().await;
        let everywhere =
            || held.tag.is_none() && !held.nodes.is_empty() && held.nodes.values().all(Hold::is_lost);
        held.holder.is_some() && (held.nodes.values().any(Hold::is_taken) || everywhere())
    }

    /// Whether another run holds the lock on a node that is busy: what it does there may take long, and its name is told
    /// at once.
    pub(super) async fn is_busy_for_another(&self, host: &SshHost) -> bool {
        if self.held.lock().await.holder.is_some() {
            return false;
        }
        match ask_holder(host).await {
            // One that has vanished is waited for, as everywhere.
            Ok(Some((silent, holder))) if silent < SILENT => {
                let _ = self.other.set(holder);
                true
            }
            _ => false,
        }
    }

    /// Who holds the cluster's lock on a node.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn lock_holder(&self, node: &str) -> Result<Option<Holder>, RemoteError> {
        let host = self.connect(node).await?;
        Ok(ask_holder(&host).await?.map(|(_, holder)| holder))
    }

    /// Refuses to wait for what another run is doing.
    ///
    /// # Errors
    /// [`Advice`] that says who that is.
    pub(crate) fn refuse_another(&self) -> Result<()> {
        match self.other.get() {
            Some(holder) => Err(locked(&self.inventory.cluster, &holder.words())),
            None => Ok(()),
        }
    }

    /// Refuses to work beside a run that reaches only other nodes than this one, and so has its lock at the provider. An API that
    /// is away holds up nobody who has most of the nodes.
    async fn refuse_tags(&self, api: &Api) -> Result<()> {
        let locks = api.with_patience(Patience::Brief).locks().await.unwrap_or_default();
        let own = self.state.memory()?.lock_tag;
        match locks.iter().find(|lock| !lock.is_stale() && Some(&lock.tag) != own.as_ref()) {
            Some(lock) => Err(locked(&self.inventory.cluster, &lock.holder.words())),
            None => Ok(()),
        }
    }

    /// Tells of another run that works on the cluster, if there is one and this run does not hold the lock.
    ///
    /// # Errors
    /// [`Advice`] that says who that is.
    pub async fn refuse_while_another_works(&self, facts: &Facts) -> Result<()> {
        if self.held.lock().await.holder.is_some() {
            return Ok(());
        }
        let on_nodes = facts.hosts.values().find_map(|host| host.up()?.operator.as_ref());
        if let Some(holder) = on_nodes {
            return Err(locked(&self.inventory.cluster, &holder.words()));
        }
        match &self.provider {
            Some(api) => self.refuse_tags(api).await,
            None => Ok(()),
        }
    }

    /// Refuses to work on servers that another machine is just making: they let nobody else in who could see its lock there,
    /// and by the time that all of them have been tried it is no longer at the provider.
    ///
    /// # Errors
    /// [`Advice`] that says who that is.
    pub(crate) async fn refuse_while_another_makes_it(&self, cloud: &Cloud) -> Result<()> {
        let is_new_here = || -> Result<bool> {
            Ok(self.state.memory()?.system_identifier.is_none() && self.bootstrap_keys()?.is_empty())
        };
        match &self.provider {
            Some(api)
                if self.purpose == Purpose::Work
                    && !cloud.servers.is_empty()
                    && is_new_here()?
                    && self.held.lock().await.holder.is_none() =>
            {
                self.refuse_tags(api).await
            }
            _ => Ok(()),
        }
    }

    /// Lets the cluster's lock go.
    pub(super) async fn unlock_cluster(&self) {
        let mut held = self.held.lock().await;
        // Whoever holds nothing drops nothing: a look runs beside another run of this machine.
        if held.holder.take().is_some() {
            futures_of(std::mem::take(&mut held.nodes).into_values().map(Hold::release)).await;
            self.drop_tag(&mut held).await;
        }
    }

    /// Lets go what the provider holds of it, before it is asked what is left of the cluster.
    pub async fn unlock_provider(&self) {
        let mut held = self.held.lock().await;
        if held.holder.is_some() {
            self.drop_tag(&mut held).await;
        }
    }

    async fn drop_tag(&self, held: &mut Held) {
        let Some(api) = &self.provider else { return };
        // One that a killed run has left goes with it.
        let left = || self.state.memory().ok()?.lock_tag;
        let Some(tag) = held.tag.take().map(|lock| lock.tag).or_else(left) else { return };
        let dropped = match api.with_patience(Patience::Brief).delete_lock(&tag).await {
            Ok(()) => self.state.remember(|memory| memory.lock_tag = None),
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            self.report.warning(format!("{error:#}; it counts for nothing after 20 minutes"));
        }
    }

    /// Writes a lock at the provider. It is remembered first: the next run on this machine deletes what one that is killed
    /// leaves.
    async fn write_tag(&self, api: &Api, holder: &Holder) -> Result<ProviderLock> {
        let lock = api.new_lock(holder);
        self.state.remember(|memory| memory.lock_tag = Some(lock.tag.clone()))?;
        api.write_lock(&lock).await?;
        Ok(lock)
    }

    /// Asks every node, and says whether any was lost; those are taken anew, if they can be.
    async fn still_held(&self, held: &mut Held) -> Result<bool> {
        let before = held.nodes.len();
        let asked = held.nodes.iter().map(|(name, hold)| async move { (name.clone(), hold.check().await) });
        for (name, kept) in futures_of(asked).await {
            match kept {
                Kept::Held => {}
                Kept::Taken(by) => {
                    let by =
                        serde_json::from_str::<Holder>(&by).map_or("another run".into(), |it| it.words());
                    return Err(taken_away(&self.inventory.cluster, &by));
                }
                Kept::Lost(why) => {
                    self.report.note(format!("{name}: the cluster's lock was lost there: {why}"));
                    held.nodes.remove(&name);
                }
            }
        }
        if let (Some(api), Some(tag)) = (&self.provider, &held.tag) {
            // A list may lack what was made a moment ago.
            let listed = poll_until(LISTED_WITHIN, Duration::from_secs(1), async || {
                Ok::<_, anyhow::Error>(api.locks().await?.into_iter().find(|lock| lock.is(tag)))
            });
            if listed.await?.is_none() {
                held.tag = None;
                return Err(taken_away(&self.inventory.cluster, "somebody"));
            }
        }
        if let (Some(api), Some(tag), Some(holder)) = (&self.provider, &held.tag, &held.holder)
            && tag.is_aging()
        {
            let now = Holder { since: jiff::Timestamp::now(), ..holder.clone() };
            let old = tag.tag.clone();
            held.tag = Some(self.write_tag(api, &now).await?);
            api.delete_lock(&old).await?;
        }
        Ok(held.nodes.len() < before)
    }

    /// Takes the lock of a node; none if that breaks off, which the next look at it tells.
    async fn lock_node(&self, node: &str, holder: &Holder) -> Result<Option<Hold>> {
        let text = serde_json::to_string(holder)?;
        let begun = Instant::now();
        loop {
            let Ok(host) = self.connect(node).await else { return Ok(None) };
            match Hold::begin(host, text.clone()).await {
                Ok(Begun::Held(hold)) => return Ok(Some(hold)),
                Ok(Begun::Busy { silent, holder }) => {
                    let by =
                        serde_json::from_str::<Holder>(&holder).map_or("another run".into(), |it| it.words());
                    if silent < SILENT || begun.elapsed() > EXPIRES {
                        return Err(locked(&self.inventory.cluster, &by));
                    }
                    self.report.progress(
                        node,
                        format!("waiting for {by}, which has not been heard of for {} s", silent.as_secs()),
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    self.report.note(format!("{node}: cannot take the cluster's lock: {error}"));
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the lock at the provider. Of two that write at the same moment each sees the other and steps back; they try
    /// anew after times that differ.
    async fn lock_at(&self, api: &Api, holder: &Holder) -> Result<ProviderLock> {
        let mut attempt = 0;
        if let Some(left) = self.state.memory()?.lock_tag {
            api.delete_lock(&left).await?;
        }
        loop {
            attempt += 1;
            let own = self.write_tag(api, holder).await?;
            let mut others = api.locks().await?;
            others.retain(|lock| !lock.is(&own));
            for stale in others.extract_if(.., |lock| lock.is_stale()) {
                self.report.note(format!("the lock of {} has expired", stale.holder.words()));
                api.delete_lock(&stale.tag).await?;
            }
            let Some(other) = others.first() else { return Ok(own) };
            api.delete_lock(&own.tag).await?;
            let age = jiff::Timestamp::now().duration_since(other.holder.since);
            if attempt == ATTEMPTS || age > jiff::SignedDuration::from_secs(10) {
                return Err(locked(&self.inventory.cluster, &other.holder.words()));
            }
            let mut byte = [0u8; 1];
            getrandom::fill(&mut byte).expect("the operating system has random numbers");
            tokio::time::sleep(Duration::from_millis(500 + 8 * u64::from(byte[0]))).await;
        }
    }
}

/// Who holds the lock on a host, and for how long that one has not been heard of.
async fn ask_holder(host: &SshHost) -> Result<Option<(Duration, Holder)>, RemoteError> {
    let command = Command::new("ask who holds the lock", script::LOCK_HOLDER).limit(20);
    let output = host.run(&command, &|_| {}).await?;
    let Some((silent, holder)) = output.stdout.trim().split_once('\t') else { return Ok(None) };
    let silent = Duration::from_secs(silent.parse().unwrap_or_default());
    // What cannot be read holds it all the same.
    let unknown = || Holder {
        command: "…".into(),
        by: "somebody".into(),
        process: None,
        since: jiff::Timestamp::now(),
    };
    Ok(Some((silent, serde_json::from_str(holder).unwrap_or_else(|_| unknown()))))
}

/// All of them at the same time.
async fn futures_of<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::future::join_all(futures).await
}

fn locked(cluster: &str, by: &str) -> anyhow::Error {
    Advice::failed(format!("{by} is working on cluster `{cluster}`"))
        .hint(
            "wait for it to finish; the lock is released when its process ends, and within 30 s if its machine vanishes. \
             `cluster unlock` takes it away from a run that hangs",
        )
        .exit(Exit::Locked)
        .into()
}

fn taken_away(cluster: &str, by: &str) -> anyhow::Error {
    Advice::failed(format!(
        "the lock of cluster `{cluster}` was taken away by {by}: stopped before the next step"
    ))
    .hint("`cluster status` shows how things stand; run this again when the other has finished")
    .exit(Exit::Locked)
    .into()
}
