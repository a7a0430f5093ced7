//! The cluster's lock while no node can hold it: a tag on nothing, whose name says who holds it.

use anyhow::{Context as _, Result};
use cluster_cloud::names::{self, LockTag};
use jiff::{SignedDuration, Timestamp};

use super::Api;
use crate::holder::Holder;

/// After this long a run has nodes that hold its lock, or has failed: a droplet that does not answer is waited for for ten
/// minutes.
const STALE: SignedDuration = SignedDuration::from_mins(20);

/// A lock at the provider.
#[derive(Clone, Debug)]
pub struct ProviderLock {
    pub tag: String,
    pub holder: Holder,
}

impl ProviderLock {
    /// Whether it is this one: what a tag says of its holder is less than the holder knows.
    pub fn is(&self, other: &ProviderLock) -> bool {
        self.tag == other.tag
    }

    /// Whether its run has ended, however it ended.
    pub fn is_stale(&self) -> bool {
        Timestamp::now().duration_since(self.holder.since) > STALE
    }

    /// Whether it should be written anew, before it counts as stale.
    pub fn is_aging(&self) -> bool {
        Timestamp::now().duration_since(self.holder.since) > STALE / 2
    }
}

impl Api {
    /// A lock for this run, which is not written yet.
    pub fn new_lock(&self, holder: &Holder) -> ProviderLock {
        let mut nonce = [0u8; 4];
        getrandom::fill(&mut nonce).expect("the operating system has random numbers");
        let (user, host) = holder.by.split_once('@').unwrap_or((&holder.by, ""));
        let lock = LockTag {
            since: holder.since.as_second(),
            nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
            command: holder.command.clone(),
            user: user.to_owned(),
            host: host.to_owned(),
        };
        ProviderLock { tag: lock.tag(&self.cluster), holder: holder.clone() }
    }

    /// Writes down that this run works on the cluster. It holds the lock if no other has written so.
    ///
    /// # Errors
    /// The API's.
    pub async fn write_lock(&self, lock: &ProviderLock) -> Result<()> {
        self.client.create_tag(&lock.tag).await.context("cannot take the cluster's lock at the provider")
    }

    /// The runs that have written down that they work on the cluster, the earliest first.
    ///
    /// # Errors
    /// The API's.
    pub async fn locks(&self) -> Result<Vec<ProviderLock>> {
        let tags = self.client.tags().await.context("cannot read the cluster's lock at the provider")?;
        let lock = |tag: String| {
            let words = LockTag::parse(&self.cluster, &tag)?;
            let holder = Holder {
                command: words.command.replace('-', " "),
                by: format!("{}@{}", words.user, words.host),
                process: None,
                since: Timestamp::from_second(words.since).ok()?,
            };
            Some(ProviderLock { tag, holder })
        };
        let mut locks: Vec<ProviderLock> = tags
            .into_iter()
            .map(|tag| tag.name)
            .filter(|tag| names::is_lock_tag(&self.cluster, tag))
            .filter_map(lock)
            .collect();
        locks.sort_by_key(|lock| lock.holder.since);
        Ok(locks)
    }

    /// Takes a lock away, by its tag: one's own, a stale one, or one that a person has decided about.
    ///
    /// # Errors
    /// The API's.
    pub async fn delete_lock(&self, tag: &str) -> Result<()> {
        anyhow::ensure!(
            names::is_lock_tag(&self.cluster, tag),
            "{tag} is no lock of cluster `{}`",
            self.cluster
        );
        let deleted = self.client.delete_tag(tag).await;
        deleted.with_context(|| format!("cannot delete the tag {tag} at the provider"))
    }
}
