//! The observed state, as plain values that are read once and never changed. `probe` reads a host.

pub mod host;
pub mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

pub use host::HostFacts;
use serde::{Deserialize, Serialize};

/// Everything that a plan is made from, apart from the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// What the provider's API lists; `None` for existing hosts.
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
    /// The nodes' servers, by the node's name: with the cluster's tag and that name, or made as it and remembered.
    #[serde(rename = "droplets")]
    pub servers: BTreeMap<String, Server>,
    /// Servers that belong to the cluster but to no node of the inventory.
    pub strays: Vec<Stray>,
    /// The cluster's floating IP.
    pub floating_ip: Option<FloatingIp>,
    /// The address recorded as the cluster's, if it is assigned to a server outside the cluster.
    pub taken: Option<FloatingIp>,
    /// The provider's sizes, by slug; asked for only where a node's server is missing or has another size than it should.
    pub sizes: BTreeMap<String, Size>,
    /// Why the provider was not asked, if all of this comes from this machine's state.
    pub remembered: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub id: u64,
    pub status: ServerStatus,
    /// Public address, once there is one.
    pub public: Option<Ipv4Addr>,
    /// Private address, once there is one.
    pub private: Option<Ipv4Addr>,
    /// Its region, size and image, by slug; none where the API does not say.
    #[serde(default)]
    pub region: Option<String>,
    #[serde(default)]
    pub size: Option<String>,
    #[serde(default)]
    pub image: Option<String>,
    /// Id of its VPC.
    #[serde(default)]
    pub vpc: Option<String>,
    /// Its disk, in GiB; none where the API does not say.
    #[serde(default)]
    pub disk_gib: Option<u64>,
    /// Its price, in US dollars a month; none where the API does not say.
    #[serde(default)]
    pub monthly_price: Option<f64>,
    /// Whether it carries the tag that names the floating IP.
    #[serde(default)]
    pub records_floating_ip: bool,
    /// The server's name at the provider, if it differs from the node's: it was renamed.
    #[serde(default)]
    pub renamed: Option<String>,
    /// Whether it has lost the cluster's tag.
    #[serde(default)]
    pub untagged: bool,
    /// Whether the provider failed to create it: it never ran, and never will.
    #[serde(default)]
    pub failed: bool,
}

/// A size that servers can have; of what the API does not say, none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    /// Its disk, in GiB.
    pub disk_gib: Option<u64>,
    /// In US dollars a month.
    pub monthly_price: Option<f64>,
}

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerStatus {
    /// Being created.
    New,
    /// Powered on.
    Active,
    /// Powered off.
    Off,
    /// Gone but for its record.
    Archive,
    /// Something that this program does not know.
    Unknown,
}

/// A server that belongs to the cluster but to no node of the inventory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stray {
    pub id: u64,
    /// Its name at the provider.
    pub name: String,
    /// Whether it has the cluster's tag.
    pub tagged: bool,
    /// The node that it was created as, if known.
    #[serde(default)]
    pub node: Option<String>,
    /// Its price, in US dollars a month; none where the API does not say.
    #[serde(default)]
    pub monthly_price: Option<f64>,
}

impl Stray {
    /// Describes the server.
    pub fn describe(&self, cluster: &str) -> String {
        let Stray { id, name, node, .. } = self;
        let made = node.as_ref().map_or(String::new(), |node| format!(", created as {node},"));
        if self.tagged {
            format!("droplet {id} `{name}`{made} has the tag cluster:{cluster} but is not in the inventory")
        } else {
            format!("droplet {id} `{name}`{made} has lost the tag cluster:{cluster}")
        }
    }
}

impl Server {
    /// What is wrong with its name or tag, in words.
    pub fn mislabelled(&self, cluster: &str) -> Option<String> {
        let renamed = self.renamed.as_ref().map(|name| format!("is called `{name}` now"));
        let untagged = self.untagged.then(|| format!("has lost the tag cluster:{cluster}"));
        let wrong = [renamed, untagged].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        (!wrong.is_empty()).then(|| format!("its droplet {} {wrong}", self.id))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatingIp {
    pub address: Ipv4Addr,
    /// The server that it is assigned to.
    #[serde(rename = "droplet")]
    pub server: Option<u64>,
}

impl FloatingIp {
    /// Says that a server outside the cluster has the address.
    pub fn stranger(&self) -> String {
        let holder = self.server.map_or("nobody".into(), |id| format!("droplet {id}"));
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
    /// The server does not exist.
    Missing,
    /// The server is off.
    Off,
    /// SSH cannot log in.
    Unreachable {
        /// ssh's message.
        why: String,
        /// Whether waiting can help: no login has ever succeeded, so the host may still be booting.
        young: bool,
    },
    /// SSH can log in.
    Up(Box<HostFacts>),
}

/// What is said of a host whose answer takes too long.
const LATE: &str = "no answer within";

impl Host {
    /// One that let nobody know what it is within so many seconds.
    pub fn late(seconds: u64, young: bool) -> Self {
        Host::Unreachable { why: format!("{LATE} {seconds} s"), young }
    }

    /// Whether it may only have been slow to answer, which the next look shows.
    pub fn is_late(&self) -> bool {
        matches!(self, Host::Unreachable { why, .. } if why.starts_with(LATE))
    }

    /// The facts of a host that can be reached.
    pub fn up(&self) -> Option<&HostFacts> {
        match self {
            Host::Up(facts) => Some(facts),
            _ => None,
        }
    }

    /// Why the host cannot be used, in words; `None` if it is reachable.
    pub fn absence(&self) -> Option<String> {
        match self {
            Host::Up(_) => None,
            Host::Missing => Some("it has no droplet".into()),
            Host::Off => Some("its droplet is off".into()),
            Host::Unreachable { why, .. } => Some(format!("it is unreachable: {why}")),
        }
    }
}

/// This machine's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// The cluster's system identifier, once a primary was initialized.
    pub system_identifier: Option<String>,
    /// The highest membership generation assigned by this machine.
    pub generation: u64,
    /// Public host keys that user data carried, by node: to be replaced as soon as a host is up.
    pub bootstrap_keys: BTreeMap<String, String>,
    /// Nodes whose servers this machine has powered on a short while ago: they may be booting.
    pub booting: BTreeSet<String>,
    /// Hash of the node's program that belongs to this operator's program.
    pub node_program: String,
}
