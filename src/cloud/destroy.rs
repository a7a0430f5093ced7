//! Taking a cluster's things away, and proving that nothing is left.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::cloud::address::unsettled_address;
use crate::cloud::client::Client;
use crate::cloud::error::Error;
use crate::cloud::model::{Droplet, ReservedIp, SshKey};
use crate::cloud::names;
use crate::cloud::pace::{Pace, Watch};

/// What the provider has of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Belongings {
    /// Droplets with the cluster's tag.
    pub droplets: Vec<Droplet>,
    /// Addresses that those droplets have, that a tag records, or that the caller remembers.
    pub addresses: Vec<ReservedIp>,
    /// The cluster's tags.
    pub tags: Vec<String>,
    /// The SSH key, if it was registered by us.
    pub ssh_key: Option<SshKey>,
}

impl Belongings {
    /// Whether nothing is there: what `down` has to prove.
    pub fn is_empty(&self) -> bool {
        self.droplets.is_empty()
            && self.addresses.is_empty()
            && self.tags.is_empty()
            && self.ssh_key.is_none()
    }
}

/// What a caller knows of a cluster besides its name: after the tags are gone, nothing else leads to it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Addresses that were the cluster's.
    pub addresses: Vec<Ipv4Addr>,
    /// MD5 fingerprint of the operator's key.
    pub fingerprint: Option<String>,
}

impl Client {
    /// What still exists of a cluster. Used before a teardown, to list it, and after, as the proof.
    ///
    /// What an earlier run has asked for and the lists do not tell yet is waited for, for at most `pace.grace`:
    /// droplets that are being created, and addresses on their way to nobody knows which droplet.
    pub async fn belongings(&self, cluster: &str, memory: &Memory, pace: Pace) -> Result<Belongings, Error> {
        let cluster_tag = names::cluster_tag(cluster);
        let mut watch = Watch::new(self, pace, "what is being made in the account");
        loop {
            let open = self.open_actions().await?;
            let mut droplets = self.droplets(&cluster_tag).await?;
            let unlisted = self.unlisted_droplets(&cluster_tag, &open, &droplets).await?;
            droplets.extend(unlisted.ours);
            let tags = self.tags().await?.into_iter().map(|tag| tag.name);
            let is_ours =
                |tag: &String| *tag == cluster_tag || names::recorded_address(cluster, tag).is_some();
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
            let ssh_key = match &memory.fingerprint {
                Some(fingerprint) => self.ssh_key(fingerprint).await?,
                None => None,
            };
            let ssh_key = ssh_key.filter(|key| key.name == names::ssh_key(cluster));
            return Ok(Belongings { droplets, addresses, tags, ssh_key });
        }
    }

    /// Deletes what is listed, and returns when it is gone: addresses first, since they outlive their droplets
    /// and are then billed; then droplets, then the tags that lead to the rest, then the key.
    pub async fn destroy(&self, belongings: &Belongings, pace: Pace) -> Result<(), Error> {
        for address in &belongings.addresses {
            self.release_address(address.ip, pace).await?;
        }
        let ids: Vec<u64> = belongings.droplets.iter().map(|droplet| droplet.id).collect();
        self.destroy_droplets(&ids, pace).await?;
        for tag in &belongings.tags {
            self.delete_tag(tag).await?;
        }
        match &belongings.ssh_key {
            Some(key) => self.delete_ssh_key(&key.fingerprint).await,
            None => Ok(()),
        }
    }

    /// Gives an address back: unassigns it, deletes it, and looks until neither the address nor the list of
    /// them knows it. (The first DELETE of an assigned address has been seen to unassign it and no more.)
    pub async fn release_address(&self, ip: Ipv4Addr, pace: Pace) -> Result<(), Error> {
        let mut watch = Watch::new(self, pace, format!("{ip} to be released"));
        loop {
            let seen = match self.release_step(ip, &mut watch).await {
                Ok(None) => return Ok(()),
                Ok(Some(seen)) => seen,
                Err(error) if error.is_pending_event() => "an earlier action on it is under way",
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
            Some(address) if address.locked => Ok(Some("an action on it is under way")),
            Some(address) if address.holder().is_some() => match self.start_unassign(ip).await {
                Ok(action) => {
                    self.follow_address(ip, action.id, watch).await?;
                    Ok(Some("taken away from its droplet"))
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

    /// Deletes droplets by id and waits until the API knows none of them. Ids that are gone are no error.
    pub async fn destroy_droplets(&self, ids: &[u64], pace: Pace) -> Result<(), Error> {
        let mut watch = Watch::new(self, pace, format!("{} droplets to be gone", ids.len()));
        let mut asked = BTreeSet::new();
        let mut left: BTreeSet<u64> = ids.iter().copied().collect();
        loop {
            for id in left.clone() {
                if asked.contains(&id) {
                    if self.droplet(id).await?.is_none() {
                        left.remove(&id);
                    }
                    continue;
                }
                match self.delete_droplet(id).await {
                    Ok(()) => asked.insert(id),
                    Err(error) if error.is_pending_event() => false,
                    Err(error) => return Err(error),
                };
            }
            if left.is_empty() {
                return Ok(());
            }
            watch.pause(format!("{} left", left.len())).await?;
        }
    }
}
