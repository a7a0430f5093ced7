//! Faults that a lab can make: cut networks and frozen machines. (Power is the API's: droplet actions.)
//!
//! A cut holds on both networks and lasts until it is healed, over power cycles and restarts of the daemon.
//! Addresses still resolve and packets are lost without a word, as behind a failed switch. Traffic that takes the
//! way by a floating address is not "between" two droplets and passes a cut of the pair.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::MachineSpec;
use super::machine::cgroup::Cgroup;
use super::machine::wire;
use super::{LabName, Subnets, program};

/// The table in a droplet's own namespace by which it refuses, made by [`Manner::Refuse`].
const REFUSALS: &str = "cluster_lab_refusals";

/// What a droplet is cut off from.
#[derive(Clone, Copy, Debug)]
pub enum Off<'a> {
    /// One other droplet.
    Droplet(&'a MachineSpec),
    /// The cloud's API and its metadata service. What dials the API on loopback gets a connection to the relay,
    /// and then no answer.
    Api,
    /// Everything: droplets, API, this machine and all beyond.
    Everything,
}

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the droplet sends and what it is sent.
    Both,
    /// Only what it sends.
    Outgoing,
}

/// How it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Silently.
    Drop,
    /// The sender is told at once, by its own packet filter; ends with the sender's next power cycle. What comes
    /// from this machine is still dropped.
    Refuse,
}

/// Makes and mends faults in one lab, which need not have a running daemon.
pub struct Faults<'a> {
    /// The lab.
    pub lab: &'a LabName,
    /// Its address ranges.
    pub subnets: &'a Subnets,
    /// The port of its API.
    pub port: u16,
}

impl Faults<'_> {
    /// Cuts a droplet off.
    ///
    /// # Errors
    /// The lab's rules are gone, or (to refuse) the droplet is off.
    pub async fn cut(
        &self,
        droplet: &MachineSpec,
        from: Off<'_>,
        way: Direction,
        manner: Manner,
    ) -> Result<()> {
        let both = way == Direction::Both;
        match (manner, from) {
            (Manner::Drop, Off::Droplet(other)) => {
                self.lose(droplet, &addresses(other)).await?;
                if both {
                    self.lose(other, &addresses(droplet)).await?;
                }
            }
            (Manner::Drop, Off::Api) => self.ports("no_api", "add", droplet).await?,
            (Manner::Drop, Off::Everything) => {
                self.ports("mute", "add", droplet).await?;
                if both {
                    self.ports("deaf", "add", droplet).await?;
                }
            }
            (Manner::Refuse, Off::Droplet(other)) => {
                self.refuse(droplet, &to(&addresses(other))).await?;
                if both {
                    self.refuse(other, &to(&addresses(droplet))).await?;
                }
            }
            (Manner::Refuse, Off::Api) => {
                let api = format!("ip daddr {} tcp dport {}", self.subnets.gateway(), self.port);
                self.refuse(droplet, &api).await?;
            }
            (Manner::Refuse, Off::Everything) => {
                self.refuse(droplet, "oifname != \"lo\"").await?;
                if both {
                    self.ports("deaf", "add", droplet).await?;
                }
            }
        }
        Ok(())
    }

    /// Mends all cuts.
    ///
    /// # Errors
    /// The lab's rules are gone.
    pub async fn heal(&self, droplets: &[MachineSpec]) -> Result<()> {
        let table = self.lab.table();
        let commands: String = ["pairs", "mute", "deaf", "no_api"]
            .iter()
            .map(|set| format!("flush set bridge {table} {set}\n"))
            .collect();
        program::feed("nft", &["-f", "-"], &commands).await?;
        let running = wire::namespaces()?;
        for namespace in droplets.iter().map(|spec| self.lab.machine(spec.id)) {
            if running.contains(&namespace) {
                // Adding what exists is no mistake; deleting what does not would be.
                let commands = format!("add table ip {REFUSALS}\ndelete table ip {REFUSALS}\n");
                self.inside(&namespace, &commands).await?;
            }
        }
        Ok(())
    }

    /// Stops a whole droplet where it is: no process of it runs, and nothing answers for it, not even its kernel.
    /// Its clocks go on.
    ///
    /// # Errors
    /// It is off.
    pub async fn freeze(&self, droplet: &MachineSpec) -> Result<()> {
        self.ports("frozen", "add", droplet).await?;
        let frozen = Cgroup::of(self.lab, droplet.id)?.freeze(true).await;
        if frozen.is_err() {
            self.ports("frozen", "delete", droplet).await?;
        }
        frozen
    }

    /// Lets a frozen droplet go on. One that is not frozen does not notice.
    ///
    /// # Errors
    /// It is off.
    pub async fn thaw(&self, droplet: &MachineSpec) -> Result<()> {
        self.ports("frozen", "delete", droplet).await?;
        Cgroup::of(self.lab, droplet.id)?.freeze(false).await
    }

    /// Forgets that a droplet was frozen: it boots anew.
    pub(crate) async fn melt(&self, droplet: &MachineSpec) -> Result<()> {
        self.ports("frozen", "delete", droplet).await
    }

    /// Forgets everything about a droplet that is no more: the next one may get its addresses.
    pub(crate) async fn forget(&self, droplet: &MachineSpec) -> Result<()> {
        for set in ["mute", "deaf", "frozen", "no_api"] {
            self.ports(set, "delete", droplet).await?;
        }
        let table = self.lab.table();
        let listing = program::run("nft", &["-j", "list", "set", "bridge", &table, "pairs"]).await?;
        let (ports, addresses) =
            (self.port_names(droplet), addresses(droplet).map(|address| address.to_string()));
        for (port, address) in pairs(&listing).context("cannot parse the output of `nft -j list set`")? {
            if ports.contains(&port) || addresses.contains(&address) {
                let command = format!("delete element bridge {table} pairs {{ \"{port}\" . {address} }}\n");
                program::feed("nft", &["-f", "-"], &command).await?;
            }
        }
        Ok(())
    }

    /// What `droplet` sends to these addresses is lost.
    async fn lose(&self, droplet: &MachineSpec, addresses: &[Ipv4Addr]) -> Result<()> {
        let pairs: Vec<_> = self
            .port_names(droplet)
            .iter()
            .flat_map(|port| addresses.iter().map(move |address| format!("\"{port}\" . {address}")))
            .collect();
        let command = format!("add element bridge {} pairs {{ {} }}\n", self.lab.table(), pairs.join(", "));
        program::feed("nft", &["-f", "-"], &command).await.map(drop)
    }

    /// Adds a droplet's ports to a set or deletes them from it; neither minds how it was before.
    async fn ports(&self, set: &str, verb: &str, droplet: &MachineSpec) -> Result<()> {
        let table = self.lab.table();
        let names = self.port_names(droplet).map(|port| format!("\"{port}\"")).join(", ");
        let mut commands = format!("add element bridge {table} {set} {{ {names} }}\n");
        if verb == "delete" {
            commands += &format!("delete element bridge {table} {set} {{ {names} }}\n");
        }
        program::feed("nft", &["-f", "-"], &commands).await.map(drop)
    }

    /// The droplet's own packet filter refuses what it sends to this match.
    async fn refuse(&self, droplet: &MachineSpec, to: &str) -> Result<()> {
        let commands = format!(
            "table ip {REFUSALS} {{ chain output {{ type filter hook output priority filter; {to} reject; }}; }}\n"
        );
        self.inside(&self.lab.machine(droplet.id), &commands).await
    }

    async fn inside(&self, namespace: &str, commands: &str) -> Result<()> {
        program::feed("ip", &["netns", "exec", namespace, "nft", "-f", "-"], commands).await.map(drop)
    }

    fn port_names(&self, droplet: &MachineSpec) -> [String; 2] {
        let index = self.subnets.index(droplet.public_ip);
        [self.lab.public_port(index), self.lab.private_port(index)]
    }
}

fn addresses(droplet: &MachineSpec) -> [Ipv4Addr; 3] {
    [droplet.public_ip, droplet.private_ip, droplet.anchor_ip]
}

/// The elements of a set of pairs: `{"set": {…, "elem": [{"concat": ["port", "10.0.0.1"]}, …]}}`
/// (libnftables-json(5)); `elem` is left out of an empty set.
fn pairs(listing: &str) -> Result<Vec<(String, String)>> {
    let listing: Value = serde_json::from_str(listing)?;
    let objects = listing["nftables"].as_array().context("no `nftables`")?;
    let set = objects.iter().find_map(|object| object.get("set")).context("no `set`")?;
    let Some(elements) = set.get("elem").and_then(Value::as_array) else { return Ok(Vec::new()) };
    elements
        .iter()
        .map(|element| {
            let part = |side: usize| element["concat"][side].as_str().context("an element is not a pair");
            Ok((part(0)?.to_owned(), part(1)?.to_owned()))
        })
        .collect()
}

fn to(addresses: &[Ipv4Addr]) -> String {
    format!("ip daddr {{ {} }}", addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read() {
        let head = r#"{"nftables": [{"metainfo": {}}, {"set": {"family": "bridge", "name": "pairs""#;
        assert_eq!(pairs(&format!("{head}}}}}]}}")).unwrap(), []);
        let one = format!(r#"{head}, "elem": [{{"concat": ["clabcdefp10", "10.99.0.11"]}}]}}}}]}}"#);
        assert_eq!(pairs(&one).unwrap(), [("clabcdefp10".to_owned(), "10.99.0.11".to_owned())]);
    }
}
