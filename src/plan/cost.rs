//! What a cluster's servers cost a month, by the provider's list of sizes.

use std::fmt;

use serde::Serialize;

use crate::facts::Facts;
use crate::inventory::Inventory;

/// The price of a cluster's servers, in US dollars a month. A floating IP costs nothing while it is assigned; traffic,
/// snapshots and object storage are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of the servers that exist.
    pub now: f64,
    /// Once every node has one.
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

/// The cost of the nodes' servers; `size_price` is that of the inventory's size, where it was asked for. `None` for existing
/// hosts, and where a price is not known.
pub fn cost(inventory: &Inventory, facts: &Facts, size_price: Option<f64>) -> Option<Cost> {
    let cloud = facts.cloud.as_ref()?;
    let (mut now, mut then) = (0.0, 0.0);
    for node in &inventory.nodes {
        match cloud.servers.get(&node.name) {
            Some(server) => {
                let price = server.monthly_price?;
                (now, then) = (now + price, then + price);
            }
            None => then += size_price?,
        }
    }
    Some(Cost { now, then })
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
