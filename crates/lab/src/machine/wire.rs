//! A droplet's network: a namespace with `eth0` (public and anchor address) and `eth1` (private address), set up
//! from outside before the droplet boots, as a cloud's own agent would.

use std::path::Path;

use anyhow::{Context, Result};

use super::MachineSpec;
use crate::{LabName, Subnets, home, mounts, program};

/// Where `ip netns` keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// The name and the ranges that a droplet's network is made from.
pub(crate) struct Wire<'a> {
    pub(crate) lab: &'a LabName,
    pub(crate) subnets: &'a Subnets,
    pub(crate) spec: &'a MachineSpec,
}

impl Wire<'_> {
    /// Makes the namespace anew and plugs both cables in.
    ///
    /// # Errors
    /// `ip` fails, for instance since a bridge is gone.
    pub(crate) async fn plug(&self) -> Result<()> {
        unplug(self.lab, self.spec.id).await?;
        // The kernel takes its time over a namespace's links; names must be free now.
        let index = self.subnets.index(self.spec.public_ip);
        for port in [self.lab.public_port(index), self.lab.private_port(index)] {
            if exists(&port) {
                let gone = program::run("ip", &["link", "delete", &port]).await;
                if exists(&port) {
                    gone?;
                }
            }
        }
        let namespace = self.lab.machine(self.spec.id);
        program::feed("ip", &["-batch", "-"], &self.outside(&namespace)).await?;
        program::feed("ip", &["-n", &namespace, "-batch", "-"], &self.inside()).await?;
        Ok(())
    }

    /// The commands on this machine. A droplet may dial the floating address that leads back to itself: where
    /// br_netfilter is loaded such a packet is bridged, not routed, and must leave by the port it came from.
    fn outside(&self, namespace: &str) -> String {
        let index = self.subnets.index(self.spec.public_ip);
        let mut batch = format!("netns add {namespace}\n");
        let ports = [
            (self.lab.public_port(index), "eth0", self.lab.public_bridge()),
            (self.lab.private_port(index), "eth1", self.lab.private_bridge()),
        ];
        for (number, (port, inside, bridge)) in (0_u8..).zip(ports) {
            let address = self.lab.hardware_address(index, number);
            batch += &format!(
                "link add {port} type veth peer name {inside} address {address} netns {namespace}\n\
                 link set {port} addrgenmode none master {bridge}\n\
                 link set {port} type bridge_slave hairpin on\n\
                 link set {port} up\n"
            );
        }
        batch
    }

    /// The commands in the namespace. The public address comes first: it is the source of what leaves.
    fn inside(&self) -> String {
        let MachineSpec { public_ip, private_ip, anchor_ip, .. } = self.spec;
        let (public, private, anchor) = (
            self.subnets.public().prefix_len(),
            self.subnets.private().prefix_len(),
            self.subnets.anchor().prefix_len(),
        );
        let gateway = self.subnets.gateway();
        format!(
            "link set lo up\n\
             address add {public_ip}/{public} brd + dev eth0\n\
             address add {anchor_ip}/{anchor} brd + dev eth0\n\
             address add {private_ip}/{private} brd + dev eth1\n\
             link set eth0 up\n\
             link set eth1 up\n\
             route add default via {gateway} dev eth0\n"
        )
    }
}

/// Pulls both cables, so that not even the farewell of a dying process gets out.
pub(crate) async fn cut(lab: &LabName, index: u16) -> Result<()> {
    for port in [lab.public_port(index), lab.private_port(index)] {
        if exists(&port) {
            program::run("ip", &["link", "set", &port, "down"]).await?;
        }
    }
    Ok(())
}

/// Takes a droplet's namespace away, and with it both its links. Nothing happens if it is not there.
///
/// # Errors
/// `ip` fails, although the namespace is there.
pub(crate) async fn unplug(lab: &LabName, id: u64) -> Result<()> {
    let namespace = lab.machine(id);
    if namespaces()?.contains(&namespace) {
        let gone = program::run("ip", &["netns", "delete", &namespace]).await;
        // The droplet's own supervisor may have been faster.
        if namespaces()?.contains(&namespace) {
            gone?;
        }
    }
    Ok(())
}

/// The names of all network namespaces that `ip netns` knows.
pub(crate) fn namespaces() -> Result<Vec<String>> {
    home::list(NAMESPACES.as_ref())
}

/// Takes away the directory that `ip netns` has made for its namespaces, a mount by itself, if none is in it.
///
/// # Errors
/// It is empty and yet in use.
pub(crate) async fn tidy() -> Result<()> {
    let directory = Path::new(NAMESPACES);
    if namespaces()?.is_empty() && mounts::is_mounted(directory)? {
        mounts::unmount_below(directory).await?;
        std::fs::remove_dir(directory).with_context(|| format!("cannot remove {NAMESPACES}"))?;
    }
    Ok(())
}

fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}
