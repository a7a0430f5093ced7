//! The address ranges of a lab.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Ranges that a lab never uses, since the machine's own network may: two of the ranges for
/// documentation (RFC 5737), link-local and loopback.
const RESERVED: [&str; 4] = ["192.0.2.0/24", "203.0.113.0/24", "169.254.0.0/16", "127.0.0.0/8"];

/// A private /16, of which the lab uses the first four /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ipv4Net", into = "Ipv4Net")]
pub struct Subnets(Ipv4Net);

impl Subnets {
    /// Droplets' public addresses; the first host address is the gateway, which is this machine.
    pub fn public(&self) -> Ipv4Net {
        self.part(0)
    }

    /// Droplets' private addresses (VPC); this machine has none among them.
    pub fn private(&self) -> Ipv4Net {
        self.part(1)
    }

    /// Droplets' anchor addresses, on the public network.
    pub fn anchor(&self) -> Ipv4Net {
        self.part(2)
    }

    /// Floating addresses: no interface ever has one.
    pub fn floating(&self) -> Ipv4Net {
        self.part(3)
    }

    /// All four.
    pub fn all(&self) -> [Ipv4Net; 4] {
        [self.public(), self.private(), self.anchor(), self.floating()]
    }

    /// This machine's address on the public network.
    pub fn gateway(&self) -> Ipv4Addr {
        first(self.public())
    }

    /// This machine's address on the anchor network.
    pub(crate) fn anchor_gateway(&self) -> Ipv4Addr {
        first(self.anchor())
    }

    /// A droplet's place in the public subnet, counted from its network address.
    pub(crate) fn index(&self, public: Ipv4Addr) -> u16 {
        // A /24: the difference fits.
        (u32::from(public).wrapping_sub(u32::from(self.public().network())) & 0xfff) as u16
    }

    fn part(&self, number: u32) -> Ipv4Net {
        let address = Ipv4Addr::from(u32::from(self.0.network()) + (number << 8));
        Ipv4Net::new(address, 24).expect("24 is a prefix length")
    }
}

fn first(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + 1)
}

/// Whether two ranges have an address in common.
pub(crate) fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

impl TryFrom<Ipv4Net> for Subnets {
    type Error = String;

    fn try_from(net: Ipv4Net) -> Result<Self, String> {
        if net.prefix_len() != 16 || net.addr() != net.network() {
            return Err(format!("`{net}` is not a /16 such as 10.99.0.0/16"));
        }
        let subnets = Self(net);
        let reserved = RESERVED.map(|range| range.parse::<Ipv4Net>().expect("a constant range"));
        if let Some(range) = reserved.iter().find(|range| subnets.all().iter().any(|net| overlap(net, range)))
        {
            return Err(format!("`{net}` overlaps {range}, which a lab never uses"));
        }
        if !net.network().is_private() {
            return Err(format!(
                "`{net}` is not a range for private networks (10.x, 172.16-31.x, 192.168.x)"
            ));
        }
        Ok(subnets)
    }
}

impl FromStr for Subnets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<Ipv4Net>().map_err(|_| format!("`{text}` is not a /16 such as 10.99.0.0/16"))?.try_into()
    }
}

impl From<Subnets> for Ipv4Net {
    fn from(subnets: Subnets) -> Self {
        subnets.0
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_networks_of_a_sixteen() {
        let subnets: Subnets = "10.99.0.0/16".parse().unwrap();
        assert_eq!(
            subnets.all().map(|net| net.to_string()),
            ["10.99.0.0/24", "10.99.1.0/24", "10.99.2.0/24", "10.99.3.0/24"]
        );
        assert_eq!(subnets.gateway().to_string(), "10.99.0.1");
        assert_eq!(subnets.anchor_gateway().to_string(), "10.99.2.1");
        assert_eq!(subnets.index("10.99.0.17".parse().unwrap()), 17);
    }

    #[test]
    fn what_is_not_private_is_refused() {
        for bad in [
            "10.99.0.0/24",
            "10.99.0.1/16",
            "192.0.0.0/16",
            "203.0.0.0/16",
            "169.254.0.0/16",
            "8.8.0.0/16",
            "x",
        ] {
            assert!(bad.parse::<Subnets>().is_err(), "{bad}");
        }
        assert!("172.31.0.0/16".parse::<Subnets>().is_ok());
        assert!("192.168.0.0/16".parse::<Subnets>().is_ok());
    }
}
