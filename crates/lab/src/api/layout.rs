//! Which addresses a lab may give out.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A run of addresses on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First address to give out.
    pub first: Ipv4Addr,
    /// Last address to give out.
    pub last: Ipv4Addr,
    /// The network's mask.
    pub netmask: Ipv4Addr,
    /// The network's router.
    pub gateway: Ipv4Addr,
}

impl Range {
    /// Hosts 10 to 250 of the /24 that `base` is in; the router is host 1.
    pub fn slash24(base: Ipv4Addr) -> Self {
        let [a, b, c, _] = base.octets();
        let host = |d| Ipv4Addr::new(a, b, c, d);
        Self { first: host(10), last: host(250), netmask: Ipv4Addr::new(255, 255, 255, 0), gateway: host(1) }
    }

    /// The lowest address that `taken` does not name, if any is left.
    pub fn free(&self, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits).find(|ip| !taken(*ip))
    }
}

/// The networks of a lab. Labs that run at the same time need layouts that do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Public addresses of droplets.
    pub public: Range,
    /// Private addresses of droplets.
    pub private: Range,
    /// Anchor addresses of droplets, where traffic for a floating IP arrives.
    pub anchor: Range,
    /// Floating IPs.
    pub floating: Range,
}

impl Layout {
    /// Four networks of /24 in a row, starting at `10.<second>.<third>.0`: public, private, anchor, floating.
    pub fn new(second: u8, third: u8) -> Self {
        let net = |n| Range::slash24(Ipv4Addr::new(10, second, third.wrapping_add(n), 0));
        Self { public: net(0), private: net(1), anchor: net(2), floating: net(3) }
    }
}

impl Default for Layout {
    /// `10.99.0.0/24` and the three networks after it.
    fn default() -> Self {
        Self::new(99, 0)
    }
}
