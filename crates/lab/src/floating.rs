//! Where floating addresses lead: one map in the packet rules, the kernel's copy of it being the truth.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::{LabName, program};

/// Each floating address and the anchor address that it leads to.
pub(crate) type Table = BTreeMap<Ipv4Addr, Ipv4Addr>;

/// Replaces the whole table at once, then forgets the connections that went by an entry which has changed: their
/// next packet is answered with a reset.
///
/// # Errors
/// The rules are gone, or `nft` or `conntrack` fails.
pub(crate) async fn replace(lab: &LabName, wanted: &Table) -> Result<()> {
    let before = current(lab).await?;
    if before == *wanted {
        return Ok(());
    }
    let table = lab.table();
    let mut commands = format!("flush map ip {table} floating\n");
    if !wanted.is_empty() {
        let entries: Vec<_> =
            wanted.iter().map(|(floating, anchor)| format!("{floating} : {anchor}")).collect();
        commands += &format!("add element ip {table} floating {{ {} }}\n", entries.join(", "));
    }
    program::feed("nft", &["-f", "-"], &commands).await?;
    for address in before.keys().filter(|address| before.get(address) != wanted.get(address)) {
        forget(&address.to_string()).await?;
    }
    Ok(())
}

/// Forgets all connections that went by an address of this range: an earlier lab's, which the kernel may
/// remember for days and would send where that one's droplets were.
///
/// # Errors
/// `conntrack` fails.
pub(crate) async fn forget_all(range: Ipv4Net) -> Result<()> {
    forget(&range.to_string()).await
}

/// The table as the kernel has it.
///
/// # Errors
/// The rules are gone, or `nft` fails.
pub(crate) async fn current(lab: &LabName) -> Result<Table> {
    let json = program::run("nft", &["-j", "list", "map", "ip", &lab.table(), "floating"]).await?;
    parse(&json).context("cannot parse the output of `nft -j list map`")
}

/// The output is `{"nftables": [{"metainfo": …}, {"map": {…, "elem": [["10.0.0.1", "10.0.0.2"], …]}}]}`
/// (libnftables-json(5)); `elem` is left out of an empty map.
fn parse(json: &str) -> Result<Table> {
    let listing: Value = serde_json::from_str(json)?;
    let objects = listing["nftables"].as_array().context("no `nftables`")?;
    let map = objects.iter().find_map(|object| object.get("map")).context("no `map`")?;
    let Some(elements) = map.get("elem").and_then(Value::as_array) else { return Ok(Table::new()) };
    elements
        .iter()
        .map(|pair| {
            let address = |side: usize| pair[side].as_str().context("an entry is not a pair of addresses");
            Ok((address(0)?.parse()?, address(1)?.parse()?))
        })
        .collect()
}

async fn forget(destination: &str) -> Result<()> {
    let arguments = ["-D", "-f", "ipv4", "--orig-dst", destination];
    let output = program::output("conntrack", &arguments, "").await?;
    // It fails too when there was nothing to forget.
    let nothing = String::from_utf8_lossy(&output.stderr).contains(" 0 flow entries");
    if !output.status.success() && !nothing {
        bail!("{}", program::complaint("conntrack", &arguments, &output));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_is_understood() {
        let head = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"map": {"family": "ip", "name": "floating""#;
        assert_eq!(parse(&format!("{head}}}}}]}}")).unwrap(), Table::new());
        let table = parse(&format!(r#"{head}, "elem": [["10.99.3.10", "10.99.2.11"]]}}}}]}}"#)).unwrap();
        assert_eq!(table, Table::from([([10, 99, 3, 10].into(), [10, 99, 2, 11].into())]));
        assert!(parse("{}").is_err());
    }
}
