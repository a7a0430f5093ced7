//! The one configuration file of `cluster-node`, written by `cluster up` and read on the node.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::paths;
use crate::{Generation, NodeId};

/// What a node knows of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub cluster: String,
    /// This node's name: one of the members', or the observer's.
    pub node: String,
    /// PostgreSQL's major version.
    pub version: u32,
    /// PostgreSQL's port.
    pub port: u16,
    /// The number of this list of members. Two that are in use at the same time differ by one member.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: Generation,
    /// The members: the nodes that have a vote, in the inventory's order.
    #[serde(rename = "nodes")]
    pub members: Vec<Member>,
    /// This node, where it is none of them: not yet, or not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Member>,
    /// The address that follows the primary; none where the cluster has none.
    pub floating_ip: Option<FloatingIp>,
    #[serde(default)]
    pub failover: Failover,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &Generation) -> bool {
    *number == 0
}

/// The figures of a failover that the inventory may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// The length of the lease. [`crate::timing::Timing`] follows from it.
    pub lease_ms: u64,
    /// The most WAL that a new primary may lack of what the old one has reported.
    #[serde(rename = "lag_limit")]
    pub lag_limit_bytes: u64,
}

impl Default for Failover {
    fn default() -> Failover {
        Failover {
            lease_ms: crate::timing::DEFAULT_LEASE,
            lag_limit_bytes: crate::timing::DEFAULT_LAG_LIMIT_BYTES,
        }
    }
}

/// A node, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub id: NodeId,
    /// Whether it is the witness, which has a vote and no data.
    pub witness: bool,
    /// Where the other nodes reach it.
    pub host: IpAddr,
    /// The provider's id of its droplet; none on hosts that the provider does not know.
    pub droplet_id: Option<u64>,
}

/// The address that follows the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    pub address: IpAddr,
    /// Base URL of the API that moves it.
    pub api_url: String,
}

impl Config {
    /// This node among the members.
    ///
    /// # Panics
    /// Never, for a file that `cluster up` wrote: `node` is one of the members, or stands in `observer`.
    pub fn me(&self) -> &Member {
        self.members
            .iter()
            .find(|member| member.name == self.node)
            .or(self.observer.as_ref())
            .expect("a node is a member of its own cluster, or an observer")
    }

    pub fn my_id(&self) -> NodeId {
        self.me().id
    }

    pub fn is_witness(&self) -> bool {
        self.me().witness
    }

    /// The other members.
    pub fn peers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.name != self.node)
    }

    pub fn data_directory(&self) -> String {
        paths::data_directory(self.version)
    }

    /// The path of one of PostgreSQL's own programs, past Debian's wrappers.
    pub fn bin(&self, program: &str) -> String {
        paths::bin(self.version, program)
    }

    /// PostgreSQL's systemd unit.
    pub fn unit(&self) -> String {
        paths::unit(self.version)
    }

    /// How every node reaches `host`'s PostgreSQL as repmgr: what stands in `repmgr.conf` and in `repmgr.nodes`.
    /// The time-outs let a connection to a host that vanished be given up within seconds. Channel binding keeps the
    /// password from whoever is in between: with it, libpq proves that it knows it to nobody but the holder of the
    /// certificate, who must know it, too. The libpq of PostgreSQL 12 does not have that yet.
    pub fn conninfo(host: IpAddr, port: u16, version: u32) -> String {
        let binding = if version >= 13 { " channel_binding=require" } else { "" };
        format!(
            "host={host} port={port} user=repmgr dbname=repmgr connect_timeout=2 keepalives_idle=3 \
             keepalives_interval=2 keepalives_count=3 tcp_user_timeout=6000 \
             passfile={} sslmode=require{binding}",
            paths::PGPASS
        )
    }
}
