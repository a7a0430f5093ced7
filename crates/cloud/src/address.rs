//! The floating IP: found, made, recorded, moved.
//!
//! An address has no name and no tag, so whose it is has to be proven. It is the cluster's if one of the
//! cluster's droplets has it, or if a tag of the cluster records it. Nothing else is ever taken.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::client::Client;
use crate::error::Error;
use crate::model::{Action, Droplet, Progress, ReservedIp};
use crate::pace::{Pace, Watch};
use crate::{Ensured, names};

/// How many times a create is asked for anew after it was found to have made nothing.
const CREATE_ROUNDS: usize = 3;

impl Client {
    /// The cluster's address, made and sent to droplet `preferred` if there is none. It is not moved: that is
    /// [`Client::assign`]. `droplets` are the cluster's as far as the caller knows them; those with the
    /// cluster's tag are added. In the end the address is recorded as a tag on all of them.
    ///
    /// # Errors
    /// [`Error::Ambiguous`] if two addresses could be the cluster's, [`Error::Taken`] if the recorded one is
    /// somebody else's now.
    pub async fn ensure_reserved_ip(
        &self,
        cluster: &str,
        droplets: &[u64],
        preferred: u64,
        pace: Pace,
    ) -> Result<Ensured<ReservedIp>, Error> {
        let mut watch = Watch::new(self, pace, "the floating IP");
        let mut rounds = 0;
        loop {
            if let Some(value) = self.find_reserved_ip(cluster, droplets, pace).await? {
                self.record(cluster, droplets, value.ip).await?;
                return Ok(Ensured { value, made: rounds > 0 });
            }
            rounds += 1;
            match self.create_reserved_ip(preferred).await {
                Ok(value) => {
                    self.record(cluster, droplets, value.ip).await?;
                    return Ok(Ensured { value, made: true });
                }
                Err(error) if error.is_pending_event() => {
                    rounds -= 1;
                    watch.pause("another action on the droplet is in progress").await?;
                }
                Err(error @ Error::MaybeHappened { .. }) if rounds == CREATE_ROUNDS => return Err(error),
                Err(Error::MaybeHappened { .. }) => {
                    // It shows as an address of ours once it is assigned; not before `grace` is it given up.
                    let mut look = Watch::new(self, pace, "the floating IP to be listed");
                    while look.in_grace() && self.find_reserved_ip(cluster, droplets, pace).await?.is_none() {
                        look.pause("the answer to its creation was lost").await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The cluster's address, if it has one. While any address of the account is in the middle of its first
    /// assignment, which may be to one of our droplets, this waits, for at most `pace.grace`. A list can lack
    /// such an address, so the assignments that are under way are looked at too.
    ///
    /// # Errors
    /// As [`Client::ensure_reserved_ip`].
    pub async fn find_reserved_ip(
        &self,
        cluster: &str,
        droplets: &[u64],
        pace: Pace,
    ) -> Result<Option<ReservedIp>, Error> {
        let mut watch = Watch::new(self, pace, "addresses being assigned");
        loop {
            let tagged = self.droplets(&names::cluster_tag(cluster)).await?;
            let ours: BTreeSet<u64> =
                tagged.iter().map(|droplet| droplet.id).chain(droplets.iter().copied()).collect();
            let recorded = self.recorded_addresses(cluster, &tagged).await?;
            let open = self.open_actions().await?;
            let all = self.reserved_ips().await?;
            let unsettled = unsettled_address(&open, &all, &recorded);
            let mut candidates = Vec::new();
            for address in all {
                match address.holder() {
                    Some(holder) if ours.contains(&holder) => candidates.push(address),
                    Some(droplet) if recorded.contains(&address.ip) => {
                        return Err(Error::Taken { ip: address.ip, droplet });
                    }
                    None if recorded.contains(&address.ip) => candidates.push(address),
                    _ => {}
                }
            }
            if candidates.len() > 1 {
                return Err(Error::Ambiguous {
                    addresses: candidates.iter().map(|address| address.ip).collect(),
                });
            }
            if let Some(address) = candidates.pop() {
                return Ok(Some(address));
            }
            match unsettled {
                Some(ip) if watch.in_grace() => watch.pause(format!("{ip} may be ours")).await?,
                // The list may be late too: what is recorded is asked for by itself before it is given up.
                _ if recorded.is_empty() => return Ok(None),
                _ => {
                    for ip in recorded {
                        if let Some(address) = self.reserved_ip(ip).await? {
                            return Ok(Some(address));
                        }
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Addresses that tags of the cluster record, be the tags on its droplets or, with those gone, on nothing.
    pub(super) async fn recorded_addresses(
        &self,
        cluster: &str,
        tagged: &[Droplet],
    ) -> Result<BTreeSet<Ipv4Addr>, Error> {
        let on_droplets = tagged.iter().flat_map(|droplet| &droplet.tags).cloned();
        let mut recorded: BTreeSet<Ipv4Addr> =
            on_droplets.filter_map(|tag| names::recorded_address(cluster, &tag)).collect();
        if recorded.is_empty() {
            let tags = self.tags().await?;
            recorded.extend(tags.iter().filter_map(|tag| names::recorded_address(cluster, &tag.name)));
        }
        Ok(recorded)
    }

    /// Records the address on every droplet of the cluster that lacks the tag.
    async fn record(&self, cluster: &str, droplets: &[u64], ip: Ipv4Addr) -> Result<(), Error> {
        let tag = names::address_tag(cluster, ip);
        let tagged = self.droplets(&names::cluster_tag(cluster)).await?;
        let has = |id: &u64| tagged.iter().any(|droplet| droplet.id == *id && droplet.tags.contains(&tag));
        let all: BTreeSet<u64> =
            tagged.iter().map(|droplet| droplet.id).chain(droplets.iter().copied()).collect();
        let lacking: Vec<u64> = all.into_iter().filter(|id| !has(id)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        self.create_tag(&tag).await?;
        self.tag_droplets(&tag, &lacking).await
    }

    /// Moves the address to a droplet, wherever it is now, and returns when the API says that the droplet has
    /// it. Does nothing if it has it already. What the API cannot answer at the moment is asked again until
    /// `pace.deadline`.
    ///
    /// # Errors
    /// [`Error::Gone`] if there is no such address for longer than `pace.grace`; [`Error::Refused`] if the
    /// droplet cannot have it; [`Error::TimedOut`].
    pub async fn assign(&self, ip: Ipv4Addr, droplet: u64, pace: Pace) -> Result<ReservedIp, Error> {
        let mut watch = Watch::new(self, pace, format!("{ip} to point to droplet {droplet}"));
        loop {
            let seen = match self.assign_once(ip, droplet).await {
                Ok(Assign::Has(address)) => return Ok(*address),
                Ok(Assign::Unknown) if watch.in_grace() => "the API does not know it yet".to_owned(),
                Ok(Assign::Unknown) => return Err(Error::Gone { what: format!("address {ip}") }),
                Ok(Assign::Busy) => "an earlier action on it is in progress".to_owned(),
                Ok(Assign::Started(action)) => {
                    self.follow_address(ip, action, &mut watch).await?;
                    // Look at once: what counts is who has it, not what the action says.
                    match self.reserved_ip(ip).await {
                        Ok(Some(address)) if settled_on(&address, droplet) => return Ok(address),
                        Ok(_) => "the action has finished, but the address has not moved".to_owned(),
                        Err(error) if error.is_transient() => error.to_string(),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) if error.is_pending_event() => "an earlier action is in progress".to_owned(),
                Err(error) if error.is_transient() => error.to_string(),
                Err(error) => return Err(error),
            };
            watch.pause(seen).await?;
        }
    }

    async fn assign_once(&self, ip: Ipv4Addr, droplet: u64) -> Result<Assign, Error> {
        match self.reserved_ip(ip).await? {
            None => Ok(Assign::Unknown),
            Some(address) if settled_on(&address, droplet) => Ok(Assign::Has(Box::new(address))),
            Some(address) if address.locked => Ok(Assign::Busy),
            Some(_) => Ok(Assign::Started(self.start_assign(ip, droplet).await?.id)),
        }
    }

    /// Waits until an action on an address has ended, well or badly, or the API does not know it: some actions
    /// it never knows.
    pub(super) async fn follow_address(
        &self,
        ip: Ipv4Addr,
        action: u64,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        loop {
            match self.reserved_ip_action(ip, action).await {
                Ok(Some(action)) if action.progress() == Progress::Running => {
                    watch.pause("in progress").await?
                }
                Ok(_) => return Ok(()),
                Err(error) if error.is_transient() => watch.pause(error.to_string()).await?,
                Err(error) => return Err(error),
            }
        }
    }
}

/// What one attempt to move an address came to.
enum Assign {
    /// The droplet has it.
    Has(Box<ReservedIp>),
    /// The API does not know the address.
    Unknown,
    /// An action is under way.
    Busy,
    /// The move has begun: this action.
    Started(u64),
}

fn settled_on(address: &ReservedIp, droplet: u64) -> bool {
    address.holder() == Some(droplet) && !address.locked
}

/// An address that is being assigned for the first time, to nobody knows whom: in the list without a droplet, or
/// not in it yet, by the actions that were open before the list was asked for.
pub(super) fn unsettled_address(
    open: &[Action],
    listed: &[ReservedIp],
    recorded: &BTreeSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let fresh = |address: &&ReservedIp| {
        address.locked && address.holder().is_none() && !recorded.contains(&address.ip)
    };
    let assigns = open.iter().filter(|action| action.kind == "assign_ip");
    let begun = assigns.filter_map(|action| u32::try_from(action.resource_id?).ok()).map(Ipv4Addr::from_bits);
    let mut unlisted = begun.filter(|ip| listed.iter().all(|address| address.ip != *ip));
    listed.iter().find(fresh).map(|address| address.ip).or_else(|| unlisted.next())
}
