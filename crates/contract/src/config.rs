//! The one configuration file of `cluster-node`, written by `cluster up` and read on the node.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::paths;
use crate::{Generation, NodeId};

/// What a node knows of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// PostgreSQL's major version.
    pub version: u32,
    /// PostgreSQL's port.
    pub port: u16,
    /// Counts the configurations of members that the cluster has had. Two that are in use at the same time differ by one
    /// member.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: Generation,
    /// The members: the nodes that have a vote, in the inventory's order.
    pub nodes: Vec<Member>,
    /// This node, where it is none of them: not yet, or not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Member>,
    /// The address that follows the primary.
    pub floating_ip: Option<FloatingIp>,
    /// How a failover goes.
    #[serde(default)]
    pub failover: Failover,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &Generation) -> bool {
    *number == 0
}

/// How a failover goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Length of the lease, in milliseconds. Everything else follows from it.
    pub lease_ms: u64,
    /// The most WAL, in bytes, that a new primary may lack of what the old one has reported.
    pub lag_limit: u64,
}

impl Default for Failover {
    fn default() -> Failover {
        Failover { lease_ms: crate::timing::DEFAULT_LEASE, lag_limit: 16 << 20 }
    }
}

/// A node, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// repmgr's node id.
    pub id: NodeId,
    /// Whether it is the witness: a voice without data.
    pub witness: bool,
    /// Where the other nodes reach it.
    pub host: IpAddr,
    /// Its droplet, where the provider has one.
    pub droplet_id: Option<u64>,
}

/// The address that follows the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    /// The address.
    pub address: IpAddr,
    /// Base URL of the API that moves it.
    pub api_url: String,
}

impl Config {
    /// This node among the members.
    ///
    /// # Panics
    /// Never, for a file that `cluster up` wrote: `node` is one of `nodes`, or stands in `observer`.
    pub fn me(&self) -> &Member {
        self.nodes
            .iter()
            .find(|member| member.name == self.node)
            .or(self.observer.as_ref())
            .expect("a node is a member of its own cluster, or an observer")
    }

    /// This node's id.
    pub fn my_id(&self) -> NodeId {
        self.me().id
    }

    /// Whether this node is the witness.
    pub fn is_witness(&self) -> bool {
        self.me().witness
    }

    /// The other nodes.
    pub fn peers(&self) -> impl Iterator<Item = &Member> {
        self.nodes.iter().filter(|member| member.name != self.node)
    }

    /// Where the data lies.
    pub fn data_directory(&self) -> String {
        paths::data_directory(self.version)
    }

    /// PostgreSQL's own programs, past Debian's wrappers.
    pub fn bin(&self, program: &str) -> String {
        paths::bin(self.version, program)
    }

    /// PostgreSQL's unit.
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
