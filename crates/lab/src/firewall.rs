//! Whether another firewall on this machine is in the lab's way. It is told, not changed: whoever set it
//! up had a reason.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{LabName, program};

/// A warning, if there is a chain that drops forwarded packets by default (Docker's and ufw's do). Droplets then
/// cannot reach Debian's mirror, and where br_netfilter is loaded not even each other.
///
/// # Errors
/// `nft` fails.
pub(crate) async fn warning(lab: &LabName) -> Result<Option<String>> {
    let listing = program::run("nft", &["-j", "list", "chains"]).await?;
    let chain = dropping(&listing).context("cannot parse the output of `nft -j list chains`")?;
    Ok(chain.map(|chain| {
        let (public, private) = (lab.public_bridge(), lab.private_bridge());
        format!(
            "warning: this machine's firewall drops forwarded packets ({chain}); droplets may not reach the network\n\
             hint: allow packets from and to the interfaces {public} and {private}"
        )
    }))
}

/// The first such chain: `{"nftables": [{"chain": {"family", "table", "name", "hook", "policy", …}}, …]}`
/// (libnftables-json(5)).
fn dropping(listing: &str) -> Result<Option<String>> {
    let listing: Value = serde_json::from_str(listing)?;
    let objects = listing["nftables"].as_array().context("no `nftables`")?;
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let found = chains.into_iter().find(|chain| {
        let forwards = chain["hook"] == "forward" && chain["policy"] == "drop";
        forwards && ["ip", "inet"].iter().any(|family| chain["family"] == *family)
    });
    let word = |chain: &Value, key: &str| chain[key].as_str().unwrap_or("?").to_owned();
    Ok(found.map(|chain| {
        format!("table {} {}, chain {}", word(chain, "family"), word(chain, "table"), word(chain, "name"))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(hook: &str, policy: &str) -> String {
        format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"chain": {{"family": "ip", "table": "filter",
                "name": "FORWARD", "hook": "{hook}", "policy": "{policy}"}}}}]}}"#
        )
    }

    #[test]
    fn only_what_drops_forwarded_packets_is_in_the_way() {
        assert_eq!(dropping(&chain("forward", "drop")).unwrap().unwrap(), "table ip filter, chain FORWARD");
        assert_eq!(dropping(&chain("forward", "accept")).unwrap(), None);
        assert_eq!(dropping(&chain("input", "drop")).unwrap(), None);
        assert_eq!(dropping(r#"{"nftables": []}"#).unwrap(), None);
    }
}
