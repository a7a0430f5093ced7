//! Taking a cluster's things away, and proving that nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::address::unsettled_address;
use crate::client::Client;
use crate::error::Error;
use crate::model::{Action, Droplet, DropletStatus, Progress, ReservedIp, SshKey};
use crate::pace::{Pace, Watch};
use crate::{key, names};

/// What the provider has of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Belongings {
    /// Droplets with the cluster's tag, and those that were made as its nodes and have lost it.
    pub droplets: Vec<Droplet>,
    /// Droplets that were made as its nodes, and have another name now and not the tag: somebody may have taken them
    /// over. They are never deleted.
    pub doubtful: Vec<Droplet>,
    /// Addresses that those droplets have, that a tag records, or that the caller remembers.
    pub addresses: Vec<ReservedIp>,
    /// The cluster's tags.
    pub tags: Vec<String>,
    /// The SSH keys that were registered for the cluster, from whichever machine.
    pub ssh_keys: Vec<SshKey>,
}

impl Belongings {
    /// Whether nothing is there: what `down` has to prove.
    pub fn is_empty(&self) -> bool {
        self.droplets.is_empty()
            && self.doubtful.is_empty()
            && self.addresses.is_empty()
            && self.tags.is_empty()
            && self.ssh_keys.is_empty()
    }

    /// Whether there is anything that may be deleted.
    pub fn has_deletable(&self) -> bool {
        !Belongings { doubtful: Vec::new(), ..self.clone() }.is_empty()
    }
}

/// What a caller knows of a cluster besides its name: after the tags are gone, nothing else leads to it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Addresses that were the cluster's.
    pub addresses: Vec<Ipv4Addr>,
    /// Droplets that were made for it, by id: node names.
    pub droplets: BTreeMap<u64, String>,
}

impl Client {
    /// What still exists of a cluster. Used before a teardown, to list it, and after, as the proof.
    ///
    /// What an earlier run has asked for and the lists do not tell yet is waited for, for at most `pace.grace`:
    /// droplets that are being created, and addresses on their way to nobody knows which droplet.
    pub async fn belongings(&self, cluster: &str, memory: &Memory, pace: Pace) -> Result<Belongings, Error> {
        let cluster_tag = names::cluster_tag(cluster);
        let mut watch = Watch::new(self, pace, "resources being created in the account");
        loop {
            let open = self.open_actions().await?;
            let mut droplets = self.droplets(&cluster_tag).await?;
            let unlisted = self.unlisted_droplets(&cluster_tag, &open, &droplets).await?;
            droplets.extend(unlisted.ours);
            let mut doubtful = Vec::new();
            for (id, node) in &memory.droplets {
                if droplets.iter().any(|droplet| droplet.id == *id) {
                    continue;
                }
                let Some(droplet) = self.droplet(*id).await? else { continue };
                let tagged = droplet.tags.contains(&cluster_tag);
                if tagged
                    || droplet.name == *node && !droplet.tags.iter().any(|tag| names::is_cluster_tag(tag))
                {
                    droplets.push(droplet);
                } else {
                    doubtful.push(droplet);
                }
            }
            let tags = self.tags().await?.into_iter().map(|tag| tag.name);
            let is_ours = |tag: &String| {
                *tag == cluster_tag
                    || names::recorded_address(cluster, tag).is_some()
                    || names::is_lock_tag(cluster, tag)
            };
            let tags: Vec<String> = tags.filter(is_ours).collect();
            let on_droplets = droplets.iter().flat_map(|droplet| &droplet.tags);
            let recorded =
                tags.iter().chain(on_droplets).filter_map(|tag| names::recorded_address(cluster, tag));
            let known: BTreeSet<Ipv4Addr> = recorded.chain(memory.addresses.iter().copied()).collect();
            let mut addresses = self.reserved_ips().await?;
            let unsettled = unsettled_address(&open, &addresses, &known);
            if watch.in_grace() {
                if let Some(id) = unlisted.unknown {
                    watch.pause(format!("droplet {id} may be ours")).await?;
                    continue;
                }
                if let Some(ip) = unsettled {
                    watch.pause(format!("{ip} may be ours")).await?;
                    continue;
                }
            }
            // A remembered address that a stranger's droplet has was given away since: it is not ours any more.
            addresses.retain(|address| match address.holder() {
                Some(holder) => droplets.iter().any(|droplet| droplet.id == holder),
                None => known.contains(&address.ip),
            });
            let mut ssh_keys = self.ssh_keys().await?;
            ssh_keys.retain(|known| key::is_ours(cluster, known));
            return Ok(Belongings { droplets, doubtful, addresses, tags, ssh_keys });
        }
    }

    /// Deletes what is listed, and returns when it is gone. Addresses and droplets are asked for at the same time, so
    /// that one that does not go holds up no other; what leads to them, tags and keys, goes only after all of them.
    ///
    /// # Errors
    /// Everything that could not be deleted.
    pub async fn destroy(&self, belongings: &Belongings, pace: Pace) -> Result<(), Vec<Error>> {
        let ids: Vec<u64> = belongings.droplets.iter().map(|droplet| droplet.id).collect();
        let addresses = async {
            let mut errors = Vec::new();
            for address in &belongings.addresses {
                errors.extend(self.release_address(address.ip, pace).await.err());
            }
            errors
        };
        let (mut errors, droplets) = tokio::join!(addresses, self.destroy_droplets(&ids, pace));
        errors.extend(droplets.err().unwrap_or_default());
        if !errors.is_empty() || !belongings.doubtful.is_empty() {
            return if errors.is_empty() { Ok(()) } else { Err(errors) };
        }
        let rest = async {
            for tag in &belongings.tags {
                self.delete_tag(tag).await?;
            }
            for key in &belongings.ssh_keys {
                self.delete_ssh_key(&key.fingerprint).await?;
            }
            Ok(())
        };
        rest.await.map_err(|error| vec![error])
    }

    /// Gives an address back: unassigns it, deletes it, and looks until neither the address nor the list of
    /// them knows it. (The first DELETE of an assigned address has been seen to unassign it and no more.)
    pub async fn release_address(&self, ip: Ipv4Addr, pace: Pace) -> Result<(), Error> {
        let mut watch = Watch::new(self, pace, format!("{ip} to be released"));
        loop {
            let seen = match self.release_step(ip, &mut watch).await {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => seen,
                Err(error) if error.is_pending_event() => "an earlier action on it is in progress",
                Err(error) => return Err(error),
            };
            watch.pause(seen).await?;
        }
    }

    /// One step towards an address that is gone; `None` when it is.
    async fn release_step(&self, ip: Ipv4Addr, watch: &mut Watch<'_>) -> Result<Option<&'static str>, Error> {
        let address = match self.reserved_ip(ip).await? {
            Some(address) => Some(address),
            // Just made, it can be in the list before it can be read.
            None => self.reserved_ips().await?.into_iter().find(|address| address.ip == ip),
        };
        match address {
            None => Ok(None),
            Some(address) if address.locked => Ok(Some("an action on it is in progress")),
            Some(address) if address.holder().is_some() => match self.start_unassign(ip).await {
                Ok(action) => {
                    self.follow_address(ip, action.id, watch).await?;
                    Ok(Some("being unassigned from its droplet"))
                }
                // Its droplet has just gone: 422, or 404.
                Err(error) if !error.is_pending_event() && matches!(error.status(), Some(404 | 422)) => {
                    Ok(Some("no longer assigned"))
                }
                Err(error) => Err(error),
            },
            Some(_) => self.delete_reserved_ip(ip).await.map(|()| Some("being released")),
        }
    }

    /// Deletes droplets by id and waits until the API knows none of them. Ids that are gone are no error, and one that
    /// is refused holds up no other.
    ///
    /// # Errors
    /// What the API said of each that is left.
    pub async fn destroy_droplets(&self, ids: &[u64], pace: Pace) -> Result<(), Vec<Error>> {
        let mut watch = Watch::new(self, pace, format!("{} droplets to be gone", ids.len()));
        let mut asked = BTreeSet::new();
        let mut errors = Vec::new();
        let mut left: BTreeSet<u64> = ids.iter().copied().collect();
        loop {
            for id in left.clone() {
                let step = if asked.contains(&id) {
                    self.droplet(id).await.map(|droplet| droplet.is_none())
                } else {
                    self.delete_droplet(id).await.map(|()| {
                        asked.insert(id);
                        false
                    })
                };
                match step {
                    Ok(false) => {}
                    Ok(true) => drop(left.remove(&id)),
                    Err(error) if error.is_pending_event() => {}
                    Err(error) => {
                        left.remove(&id);
                        errors.push(error);
                    }
                }
            }
            if left.is_empty() {
                return if errors.is_empty() { Ok(()) } else { Err(errors) };
            }
            if let Err(error) = watch.pause(format!("{} left", left.len())).await {
                errors.push(error);
                return Err(errors);
            }
        }
    }

    /// Deletes the droplet of a node that the provider has failed to make. Only one that is surely ours and surely
    /// never ran is touched: its tag, its name, its state, its addresses and its creation all have to say so.
    ///
    /// # Errors
    /// [`Error::NotFailed`] if any of them does not.
    pub async fn destroy_failed_droplet(
        &self,
        cluster: &str,
        name: &str,
        id: u64,
        pace: Pace,
    ) -> Result<(), Error> {
        let Some(droplet) = self.droplet(id).await? else { return Ok(()) };
        let actions = self.droplet_actions(id).await?;
        let create_failed =
            |action: &Action| action.kind == "create" && action.progress() == Progress::Failed;
        let why = if !droplet.tags.contains(&names::cluster_tag(cluster)) {
            "it does not have the cluster's tag"
        } else if droplet.name != name {
            "it has another name"
        } else if droplet.status != DropletStatus::New {
            "it has been powered on"
        } else if !droplet.networks.v4.is_empty() {
            "it has addresses"
        } else if !actions.iter().all(create_failed) || actions.is_empty() {
            "its creation did not fail, or other actions followed"
        } else {
            return match self.destroy_droplets(&[id], pace).await {
                Ok(()) => Ok(()),
                Err(mut errors) => Err(errors.swap_remove(0)),
            };
        };
        Err(Error::NotFailed { id, why: why.to_owned() })
    }
}
