//! Whether an address range is free on this machine.

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::Deserialize;

use super::{Subnets, program, subnets};
use crate::Wrong;

/// A row of `ip -json route`.
#[derive(Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: Option<String>,
}

/// Refuses ranges that this machine has routes, addresses or resolvers in; other labs' are among them.
///
/// # Errors
/// Names the range and what is there.
pub(crate) async fn check(wanted: &Subnets) -> Result<()> {
    let json = program::run("ip", &["-4", "-json", "route", "show", "table", "all"]).await?;
    if let Some(clash) = clash(wanted, &json)? {
        bail!(Wrong::new(clash, "choose another range with --subnet, for instance --subnet 10.97.0.0/16"));
    }
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for line in resolvers.lines() {
        let Some(address) = line.trim().strip_prefix("nameserver") else { continue };
        if let Ok(address) = address.trim().parse()
            && wanted.all().iter().any(|net| net.contains::<&std::net::Ipv4Addr>(&address))
        {
            bail!(Wrong::new(
                format!("this machine's resolver {address} is in {wanted}"),
                "choose another range with --subnet"
            ));
        }
    }
    Ok(())
}

fn clash(wanted: &Subnets, routes: &str) -> Result<Option<String>> {
    let routes: Vec<Route> =
        serde_json::from_str(routes).context("cannot parse the output of `ip -json route`")?;
    for route in routes {
        let Some(net) = range(&route.dst) else { continue };
        if let Some(own) = wanted.all().iter().find(|own| subnets::overlap(own, &net)) {
            let device = route.dev.map(|dev| format!(" on {dev}")).unwrap_or_default();
            return Ok(Some(format!("{own} is in use on this machine: there is a route to {net}{device}")));
        }
    }
    Ok(None)
}

/// `default` and other words are no ranges; an address alone is a range of one. A default route by another name
/// (0.0.0.0/1 and the like) covers everything, and says nothing about what is in use.
fn range(destination: &str) -> Option<Ipv4Net> {
    let net = match destination.parse::<Ipv4Net>() {
        Ok(net) => net,
        Err(_) => Ipv4Net::new(destination.parse().ok()?, 32).ok()?,
    };
    (net.prefix_len() > 1).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(routes: &str) -> Option<String> {
        clash(&"10.99.0.0/16".parse().unwrap(), routes).unwrap()
    }

    #[test]
    fn routes_in_the_range_are_found() {
        let bridge = r#"[{"dst":"default","dev":"eth0"},{"dst":"10.99.2.0/24","dev":"br0"}]"#;
        assert_eq!(
            found(bridge).unwrap(),
            "10.99.2.0/24 is in use on this machine: there is a route to 10.99.2.0/24 on br0"
        );
        assert!(found(r#"[{"type":"local","dst":"10.99.0.7","dev":"eth0"}]"#).is_some());
        assert!(found(r#"[{"dst":"10.0.0.0/8","dev":"tun0"}]"#).is_some());
        assert!(found(r#"[{"type":"unreachable","dst":"10.99.0.0/24"}]"#).is_some());
    }

    #[test]
    fn other_routes_are_not() {
        assert_eq!(
            found(r#"[{"dst":"default"},{"dst":"10.98.0.0/16"},{"dst":"10.99.7.0/24"},{"dst":"0.0.0.0/1"}]"#),
            None
        );
        assert_eq!(found("[]"), None);
    }
}
