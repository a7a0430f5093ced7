//! The lab's networks on this machine: two bridges, routes, packet rules, and the switch that lets this
//! machine forward.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{LabName, Subnets, floating, home, overlap, program};

/// The routing protocol number under which a lab's routes are entered, so that they can be told from
/// everybody else's.
const PROTOCOL: &str = "201";
/// Worse than any other route's: it counts only while the bridge is gone.
const LAST_RESORT: &str = "4294967290";
/// What the chains of others are behind, where it is kept how the machine forwarded.
const KNOWN: &str = "for";
/// Whether this machine forwards IPv4 packets.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The networks of one lab.
pub(crate) struct Network<'a> {
    pub(crate) lab: &'a LabName,
    pub(crate) subnets: &'a Subnets,
    pub(crate) port: u16,
}

impl Network<'_> {
    /// Sets everything up.
    ///
    /// # Errors
    /// An address range is in use, or `ip` or `nft` fails.
    pub(crate) async fn up(&self) -> Result<()> {
        overlap::check(self.subnets).await?;
        program::feed("ip", &["-batch", "-"], &self.commands()).await?;
        program::feed("nft", &["-f", "-"], &self.rules()).await?;
        floating::forget_all(self.subnets.floating()).await?;
        forward().await
    }

    /// Whether all of it has been set up since this machine started.
    ///
    /// # Errors
    /// `nft` fails.
    pub(crate) async fn is_up(&self) -> Result<bool> {
        let bridges = [self.lab.public_bridge(), self.lab.private_bridge()];
        let bridges = bridges.iter().all(|bridge| Path::new("/sys/class/net").join(bridge).exists());
        Ok(bridges
            && has_table("ip", &self.lab.table()).await?
            && has_table("bridge", &self.lab.table()).await?)
    }

    fn commands(&self) -> String {
        let (public, private) = (self.lab.public_bridge(), self.lab.private_bridge());
        let (gateway, anchor) = (self.subnets.gateway(), self.subnets.anchor_gateway());
        let mut batch = String::new();
        // First of all: from now on no packet for these ranges leaves by the default route.
        for net in self.subnets.all() {
            batch += &format!("route add unreachable {net} metric {LAST_RESORT} protocol {PROTOCOL}\n");
        }
        for bridge in [&public, &private] {
            batch += &format!(
                "link add {bridge} type bridge\n\
                 link set {bridge} addrgenmode none alias \"cluster lab {}\"\n\
                 link set {bridge} up\n",
                self.lab
            );
        }
        batch += &format!(
            "address add {gateway}/24 brd + dev {public}\n\
             address add {anchor}/24 brd + dev {public}\n"
        );
        // The rules give every packet for a floating address another destination, or refuse it; but this
        // machine's own need a route, and a source, before the rules see them.
        let floating = self.subnets.floating();
        batch += &format!("route add {floating} dev {public} src {gateway} protocol {PROTOCOL}\n");
        batch
    }

    fn rules(&self) -> String {
        let subnets = self.subnets;
        let values = [
            ("{table}", self.lab.table()),
            ("{name}", self.lab.to_string()),
            ("{public_bridge}", self.lab.public_bridge()),
            ("{gateway}", subnets.gateway().to_string()),
            ("{port}", self.port.to_string()),
            ("{public}", subnets.public().to_string()),
            ("{anchor}", subnets.anchor().to_string()),
            ("{floating}", subnets.floating().to_string()),
        ];
        let template = include_str!("../../../templates/lab/rules.nft").to_owned();
        values.iter().fold(template, |text, (key, value)| text.replace(key, value))
    }
}

/// Takes away what [`Network::up`] made, and what is left of droplets' links, whatever of it is there.
///
/// # Errors
/// `ip` or `nft` fails.
pub(crate) async fn down(lab: &LabName) -> Result<()> {
    for link in home::list(Path::new("/sys/class/net"))? {
        let exists = || Path::new("/sys/class/net").join(&link).exists();
        if link.starts_with(&lab.link_prefix()) && exists() {
            let gone = program::run("ip", &["link", "delete", &link]).await;
            // The kernel may have been faster: links go with their namespace.
            if exists() {
                gone?;
            }
        }
    }
    for family in ["ip", "bridge"] {
        if has_table(family, &lab.table()).await? {
            program::run("nft", &["delete", "table", family, &lab.table()]).await?;
        }
    }
    Ok(())
}

/// Takes away the routes of last resort, save those of the labs that are there (`kept`). By this also
/// goes what is left of one whose files are lost.
///
/// # Errors
/// `ip` fails.
pub(crate) async fn remove_routes(kept: &[Subnets]) -> Result<()> {
    let table = program::run("ip", &["route", "show", "type", "unreachable", "proto", PROTOCOL]).await?;
    for net in table.lines().filter_map(|line| line.split_whitespace().nth(1)) {
        let net = if net.contains('/') { net.to_owned() } else { format!("{net}/32") };
        if !kept.iter().any(|subnets| subnets.all().iter().any(|own| own.to_string() == net)) {
            program::run("ip", &["route", "delete", "unreachable", &net, "metric", LAST_RESORT]).await?;
        }
    }
    Ok(())
}

async fn has_table(family: &str, table: &str) -> Result<bool> {
    let tables = program::run("nft", &["list", "tables", family]).await?;
    Ok(tables.lines().any(|line| line.split_whitespace().last() == Some(table)))
}

/// Lets this machine forward, and remembers what it did before, and for whom.
async fn forward() -> Result<()> {
    let before = fs::read_to_string(FORWARDING).with_context(|| format!("cannot read {FORWARDING}"))?;
    if before.trim() == "0" {
        let others = forwarders().await?;
        let known: String = others.iter().map(|chain| format!("{chain}\n")).collect();
        home::write(&home::forwarding_before(), 0o600, format!("0\n{KNOWN}\n{known}").as_bytes())?;
        fs::write(FORWARDING, "1").with_context(|| format!("cannot write {FORWARDING}"))?;
    }
    Ok(())
}

/// Who else has to do with packets that this machine forwards: containers, virtual machines, VPNs.
async fn forwarders() -> Result<BTreeSet<String>> {
    let mut others = forwarding_chains(&program::run("nft", &["-j", "list", "chains"]).await?)?;
    // nft does not see those of the older iptables, whose tables the kernel names where there are any.
    let older = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    others.extend(older.lines().map(|table| format!("iptables {table}")));
    Ok(others)
}

/// The chains, in the words of `nft -j list chains`, that are no laboratory's.
fn forwarding_chains(chains: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        chain: Option<Chain>,
    }
    #[derive(Deserialize)]
    struct Chain {
        family: String,
        table: String,
        name: String,
        hook: Option<String>,
    }
    let listing: Listing = serde_json::from_str(chains).context("cannot read nft's list of chains")?;
    let forwards = |chain: &Chain| {
        matches!(chain.hook.as_deref(), Some("forward" | "postrouting"))
            && matches!(chain.family.as_str(), "ip" | "inet")
            && !chain.table.starts_with(LabName::TABLES)
    };
    let chains = listing.nftables.into_iter().filter_map(|entry| entry.chain).filter(forwards);
    Ok(chains.map(|chain| format!("{} {} {}", chain.family, chain.table, chain.name)).collect())
}

/// Undoes what [`Network::up`] did to this machine's forwarding, when the last lab goes. Not where somebody else has come to need
/// it meanwhile: that is said in the answer.
///
/// # Errors
/// The setting cannot be written, or `nft` fails.
pub(crate) async fn restore_forwarding() -> Result<Option<String>> {
    let file = home::forwarding_before();
    let before = match fs::read_to_string(&file) {
        Ok(before) => before,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("cannot read {}: {error}", file.display()),
    };
    let mut lines = before.lines();
    let value = lines.next().unwrap_or_default();
    // An earlier build did not write them down.
    let knows = lines.next() == Some(KNOWN);
    let known: BTreeSet<&str> = lines.collect();
    let others = forwarders().await?;
    let new: Vec<&str> =
        others.iter().map(String::as_str).filter(|chain| knows && !known.contains(chain)).collect();
    if new.is_empty() {
        fs::write(FORWARDING, value).with_context(|| format!("cannot write {FORWARDING}"))?;
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok((!new.is_empty()).then(|| {
        format!(
            "this machine goes on forwarding packets (net.ipv4.ip_forward), which it did not before the first laboratory: \
             others have come that may need it ({})",
            new.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_else_forwards_is_known_by_chains() {
        let chains = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "cluster_lab_t_1", "name": "forward", "type": "filter", "hook": "forward"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
            {"chain": {"family": "inet", "table": "vpn", "name": "out", "hook": "postrouting"}},
            {"chain": {"family": "ip6", "table": "nat", "name": "POSTROUTING", "hook": "postrouting"}},
            {"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input"}},
            {"chain": {"family": "bridge", "table": "other", "name": "f", "hook": "forward"}}
        ]}"#;
        let others: Vec<String> = forwarding_chains(chains).unwrap().into_iter().collect();
        assert_eq!(others, ["inet vpn out", "ip filter FORWARD"]);
        assert!(forwarding_chains(r#"{"nftables": [{"metainfo": {}}]}"#).unwrap().is_empty());
        assert!(forwarding_chains("").is_err());
    }

    #[test]
    fn no_placeholder_is_left_in_the_rules() {
        let (lab, subnets) = ("t-1".parse().unwrap(), "10.98.0.0/16".parse().unwrap());
        let rules = Network { lab: &lab, subnets: &subnets, port: 8490 }.rules();
        let code: String = rules.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        assert!(
            !code.contains("{table}") && !code.contains("{gateway}") && !code.contains("{anchor}"),
            "{code}"
        );
        assert!(code.contains("table bridge cluster_lab_t_1 {"));
        assert!(code.contains("tcp dport 8490"));
        assert!(code.contains("{ 10.98.0.0/24, 10.98.2.0/24 }"));
    }
}
