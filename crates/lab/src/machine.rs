//! What the API needs of the machines behind it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) mod cgroup;
pub mod container;
pub(crate) mod disk;
mod seed;
pub(crate) mod wire;

/// Everything a machine is made from. Kept in the lab's state, so that a machine can be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The droplet's id in the API.
    pub id: u64,
    /// Host name, as in the API; not unique.
    pub name: String,
    /// Image slug, for instance `debian-12-x64`.
    pub image: String,
    /// Memory of its size in MiB, as its kernel would count it before it takes its share; the machine's if 0.
    #[serde(default)]
    pub memory: u64,
    /// Region slug, for the metadata service.
    pub region: String,
    /// Public keys (one line each, OpenSSH format) that root may log in with.
    pub ssh_keys: Vec<String>,
    /// cloud-init's user data, as the client sent it.
    pub user_data: Option<String>,
    /// Address on the public network.
    pub public_ip: Ipv4Addr,
    /// Address on the private network (VPC).
    pub private_ip: Ipv4Addr,
    /// The address that traffic for a floating IP is rewritten to; there from the first boot.
    pub anchor_ip: Ipv4Addr,
}

/// The machines behind the API. Every call returns when the thing is done; each may take seconds.
/// All are safe to repeat: creating what exists, stopping what is off and destroying what is gone succeed.
pub trait Machines: Send + Sync + 'static {
    /// Makes the root file system and boots it. Returns when the machine has been started, not when it is up.
    fn create(&self, spec: &MachineSpec) -> impl Future<Output = Result<()>> + Send;
    /// Boots a machine that exists and is off.
    fn power_on(&self, spec: &MachineSpec) -> impl Future<Output = Result<()>> + Send;
    /// Pulls the plug: no shutdown, no sync.
    fn power_off(&self, id: u64) -> impl Future<Output = Result<()>> + Send;
    /// Asks the machine's init to shut down, and returns at once.
    fn shutdown(&self, id: u64) -> impl Future<Output = Result<()>> + Send;
    /// Whether the machine runs now; the truth after a restart of the lab.
    fn is_running(&self, id: u64) -> impl Future<Output = bool> + Send;
    /// Stops the machine and deletes its disk.
    fn destroy(&self, id: u64) -> impl Future<Output = Result<()>> + Send;
    /// Replaces the whole floating-IP table: each address leads to this anchor address, all others nowhere.
    /// Established connections through a changed entry are dropped.
    fn route(&self, table: &BTreeMap<Ipv4Addr, Ipv4Addr>) -> impl Future<Output = Result<()>> + Send;
}
