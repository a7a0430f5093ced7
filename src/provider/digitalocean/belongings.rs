//! Deleting what the provider has of a cluster: what has its tag, and what is remembered as its own; nothing else.

use std::net::Ipv4Addr;

use anyhow::Result;
use cluster_cloud::{destroy, key};

use super::listing::monthly_price;
use super::{Api, every};
use crate::facts::Stray;
use crate::report::visible;
use crate::state::Memory;

/// What the provider has of a cluster.
pub struct Belongings {
    found: destroy::Belongings,
    /// Servers that were made as nodes of the cluster, and were renamed and untagged since: they are left alone.
    pub doubtful: Vec<Stray>,
    /// The cluster's tag.
    tag: String,
    /// The fingerprint of this machine's key.
    fingerprint: Option<String>,
}

impl Api {
    /// What there is of the cluster. Used before it is deleted, to list it, and after, as the proof.
    ///
    /// # Errors
    /// The API's.
    pub async fn belongings(&self, known: &Memory, public_key: &str) -> Result<Belongings> {
        let memory = destroy::Memory {
            addresses: known.floating_ip.into_iter().collect(),
            droplets: known.servers.iter().map(|(id, server)| (*id, server.node.clone())).collect(),
        };
        let found = self.client.belongings(&self.cluster, &memory, self.pace).await?;
        let doubtful = found.doubtful.iter().map(|droplet| Stray {
            id: droplet.id,
            name: droplet.name.clone(),
            tagged: false,
            node: memory.droplets.get(&droplet.id).cloned(),
            monthly_price: monthly_price(droplet),
        });
        let fingerprint = key::fingerprint(public_key);
        Ok(Belongings { doubtful: doubtful.collect(), found, tag: self.tag(), fingerprint })
    }

    /// Deletes what is listed, except what is doubtful, and returns when it is gone.
    ///
    /// # Errors
    /// Everything that could not be deleted.
    pub async fn destroy(&self, belongings: &Belongings) -> Result<(), Vec<anyhow::Error>> {
        self.client.destroy(&belongings.found, self.pace).await.map_err(every)
    }
}

impl Belongings {
    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether there is anything that may be deleted.
    pub fn has_deletable(&self) -> bool {
        self.found.has_deletable()
    }

    pub fn has_address(&self) -> bool {
        !self.found.addresses.is_empty()
    }

    /// How many servers and addresses may be deleted.
    pub fn count(&self) -> usize {
        self.found.droplets.len() + self.found.addresses.len()
    }

    /// The names of the servers that may be deleted, each with its public address.
    pub fn servers(&self) -> impl Iterator<Item = (&str, Option<Ipv4Addr>)> {
        self.found.droplets.iter().map(|droplet| (droplet.name.as_str(), droplet.public_ipv4()))
    }

    /// What may be deleted, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for droplet in &self.found.droplets {
            let address = droplet.public_ipv4().map_or("-".to_owned(), |it| it.to_string());
            let untagged =
                if droplet.tags.contains(&self.tag) { "" } else { ", untagged; created from this machine" };
            let name = visible(&droplet.name);
            lines.push(format!("droplet      {name} ({}, {address}{untagged})", droplet.id));
        }
        lines.extend(self.found.addresses.iter().map(|address| format!("floating IP  {}", address.ip)));
        lines.extend(self.found.tags.iter().map(|tag| format!("tag          {tag}")));
        for key in &self.found.ssh_keys {
            let other = if self.fingerprint.as_ref() == Some(&key.fingerprint) {
                ""
            } else {
                "; registered from another machine"
            };
            lines.push(format!("SSH key      {} ({}{other})", visible(&key.name), key.fingerprint));
        }
        lines
    }
}
