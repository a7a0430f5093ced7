//! What a cluster's servers cost a month, by the provider's list of sizes.

use std::fmt;

use serde::Serialize;

use crate::facts::{Cloud, Facts};
use crate::inventory::{Inventory, Provider};

/// The price of a cluster's servers, in US dollars a month: also of those that no node has, such as one that is being replaced.
/// A floating IP costs nothing while it is assigned; traffic, snapshots and object storage are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of the servers that exist.
    pub now: f64,
    /// Once every node has one, of the size that the inventory says.
    pub then: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.2} a month", self.then)?;
        if (self.then - self.now).abs() >= 0.005 {
            write!(f, ", now ${:.2}", self.now)?;
        }
        Ok(())
    }
}

/// The cost of the nodes' servers; `None` for existing hosts, and where a price is not known.
pub fn cost(inventory: &Inventory, facts: &Facts) -> Option<Cost> {
    let Provider::DigitalOcean(settings) = &inventory.provider else { return None };
    let now = cost_now(facts)?;
    let cloud = facts.cloud.as_ref()?;
    // They stay.
    let mut then = cost_of_strays(cloud)?;
    for node in &inventory.nodes {
        let wanted = settings.size_of(node);
        let server =
            cloud.servers.get(&node.name).filter(|it| it.size.as_deref().is_none_or(|it| it == wanted));
        then += match server {
            Some(server) => server.monthly_price?,
            None => cloud.sizes.get(wanted)?.monthly_price?,
        };
    }
    Some(Cost { now, then })
}

/// What the servers that exist cost, in US dollars a month; `None` as for [`cost`].
pub fn cost_now(facts: &Facts) -> Option<f64> {
    let cloud = facts.cloud.as_ref()?;
    let mut prices = cloud.servers.values().map(|server| server.monthly_price);
    prices.try_fold(cost_of_strays(cloud)?, |sum, price| Some(sum + price?))
}

/// What has lost the cluster's tag may be somebody else's.
fn cost_of_strays(cloud: &Cloud) -> Option<f64> {
    let mut prices = cloud.strays.iter().filter(|stray| stray.tagged).map(|stray| stray.monthly_price);
    prices.try_fold(0.0, |sum, price| Some(sum + price?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_change_is_told_once() {
        assert_eq!(Cost { now: 18.0, then: 18.0 }.to_string(), "$18.00 a month");
        assert_eq!(Cost { now: 6.0, then: 18.5 }.to_string(), "$18.50 a month, now $6.00");
    }
}
