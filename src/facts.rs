//! What the world looks like: plain values, read once, changed by nobody. `probe` reads a host.

pub mod host;
pub mod probe;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

pub use host::HostFacts;
use serde::{Deserialize, Serialize};

/// Everything that a plan is made from, apart from the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// What the provider's API lists; none where hosts are named by address.
    pub cloud: Option<Cloud>,
    /// The hosts, by node name. Every node of the inventory has an entry.
    pub hosts: BTreeMap<String, Host>,
    /// What this machine remembers of the cluster.
    pub local: Local,
}

/// The cluster's resources at the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cloud {
    /// Whether the operator's public key is known to the account.
    pub ssh_key: bool,
    /// The nodes' droplets, by the node's name: with the cluster's tag and that name, or made as it and remembered.
    pub droplets: BTreeMap<String, Droplet>,
    /// Droplets that belong to the cluster, and to no node of the inventory.
    pub strays: Vec<Stray>,
    /// The cluster's floating IP.
    pub floating_ip: Option<FloatingIp>,
    /// The address that is recorded as the cluster's, where a droplet that is not the cluster's has it.
    pub taken: Option<FloatingIp>,
    /// Why the provider was not asked, where all of this is what this machine remembers.
    pub remembered: Option<String>,
}

/// A droplet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Droplet {
    /// Its id.
    pub id: u64,
    /// `new`, `active`, `off` or `archive`.
    pub status: String,
    /// Public address, once there is one.
    pub public: Option<Ipv4Addr>,
    /// Private address, once there is one.
    pub private: Option<Ipv4Addr>,
    /// Its region, size and image, by slug; none where the API does not say.
    #[serde(default)]
    pub region: Option<String>,
    /// Its size.
    #[serde(default)]
    pub size: Option<String>,
    /// Its image.
    #[serde(default)]
    pub image: Option<String>,
    /// Id of its VPC.
    #[serde(default)]
    pub vpc: Option<String>,
    /// Whether it carries the tag that names the floating IP.
    #[serde(default)]
    pub records_floating_ip: bool,
    /// Its name at the provider, where that is not the node's: somebody renamed it.
    #[serde(default)]
    pub renamed: Option<String>,
    /// Whether it has lost the cluster's tag.
    #[serde(default)]
    pub untagged: bool,
    /// Whether the provider has failed to make it: it never ran, and never will.
    #[serde(default)]
    pub failed: bool,
}

/// A droplet that belongs to the cluster, and to no node of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stray {
    /// Its id.
    pub id: u64,
    /// Its name at the provider.
    pub name: String,
    /// Whether it has the cluster's tag.
    pub tagged: bool,
    /// The node that it was made as, where that is known.
    #[serde(default)]
    pub node: Option<String>,
}

impl Stray {
    /// What it is, in words.
    pub fn describe(&self, cluster: &str) -> String {
        let Stray { id, name, node, .. } = self;
        let made = node.as_ref().map_or(String::new(), |node| format!(", created as {node},"));
        if self.tagged {
            format!(
                "droplet {id} `{name}`{made} has the tag cluster:{cluster} but is not in the inventory"
            )
        } else {
            format!("droplet {id} `{name}`{made} has lost the tag cluster:{cluster}")
        }
    }
}

impl Droplet {
    /// What is wrong with its name or tag, in words.
    pub fn mislabelled(&self, cluster: &str) -> Option<String> {
        let renamed = self.renamed.as_ref().map(|name| format!("is called `{name}` now"));
        let untagged = self.untagged.then(|| format!("has lost the tag cluster:{cluster}"));
        let wrong = [renamed, untagged].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        (!wrong.is_empty()).then(|| format!("its droplet {} {wrong}", self.id))
    }
}

/// A floating IP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatingIp {
    /// The address.
    pub address: Ipv4Addr,
    /// The droplet that it leads to.
    pub droplet: Option<u64>,
}

impl FloatingIp {
    /// That a stranger has it, in words.
    pub fn stranger(&self) -> String {
        let holder = self.droplet.map_or("nobody".into(), |id| format!("droplet {id}"));
        format!(
            "{} is recorded as the cluster's floating IP but is assigned to {holder}, which is not part of the cluster",
            self.address
        )
    }
}

/// A host, as far as it can be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// There is no droplet for it yet.
    Missing,
    /// Its droplet is switched off.
    Off,
    /// SSH does not get in.
    Unreachable {
        /// What ssh said.
        why: String,
        /// Whether waiting can help: nobody has ever logged in to it, so that it may still be booting.
        young: bool,
    },
    /// SSH gets in.
    Up(Box<HostFacts>),
}

impl Host {
    /// The facts of a host that can be reached.
    pub fn up(&self) -> Option<&HostFacts> {
        match self {
            Host::Up(facts) => Some(facts),
            _ => None,
        }
    }

    /// Why nothing can be done on it, in words; none if it can be reached.
    pub fn absence(&self) -> Option<String> {
        match self {
            Host::Up(_) => None,
            Host::Missing => Some("it has no droplet".into()),
            Host::Off => Some("its droplet is off".into()),
            Host::Unreachable { why, .. } => Some(format!("it is unreachable: {why}")),
        }
    }
}

/// What this machine remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// The cluster's system identifier, once a primary was made.
    pub system_identifier: Option<String>,
    /// The highest configuration of members that was handed out from here.
    pub generation: u64,
    /// Public host keys that user data carried, by node: to be replaced as soon as a host is up.
    pub bootstrap_keys: BTreeMap<String, String>,
    /// Hash of the node's program that belongs to this operator's program.
    pub node_program: String,
    /// Where each node is reached by the others, when the provider knows.
    pub connection_hosts: BTreeMap<String, IpAddr>,
}
