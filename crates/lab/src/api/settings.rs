//! What can be changed about a lab while it runs.

use serde::{Deserialize, Serialize};

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// A droplet's way from `new` to `active`.
    pub create: u64,
    /// After a droplet is active: until its addresses show.
    pub network: u64,
    /// After a create: how long the droplet itself is answered with 404.
    pub droplet_readable: u64,
    /// After a create: how long lists lack the droplet.
    pub droplet_listed: u64,
    /// Power on, off, cycle; reboot and shutdown at least this long.
    pub power: u64,
    /// Another size. Whatever is resized, DigitalOcean copies the disk: a minute for every GB that is used on it.
    pub resize: u64,
    /// A deleted droplet stays readable for this long.
    pub delete: u64,
    /// An address's way to a droplet.
    pub assign: u64,
    /// An address's way off a droplet.
    pub unassign: u64,
    /// A released address stays readable for this long.
    pub release: u64,
    /// After a create: how long the address itself is answered with 404.
    pub address_readable: u64,
    /// After a create: how long lists lack the address.
    pub address_listed: u64,
    /// After a create: how long Spaces does not know the key.
    pub spaces_key: u64,
}

impl Default for Times {
    /// A lab's: DigitalOcean's own (45 s to create, 11 s to assign) shortened to what is still worth waiting for.
    fn default() -> Self {
        Self {
            create: 3000,
            network: 0,
            droplet_readable: 300,
            droplet_listed: 300,
            power: 1000,
            resize: 2000,
            delete: 1000,
            assign: 2000,
            unassign: 1000,
            release: 1000,
            address_readable: 500,
            address_listed: 0,
            spaces_key: 300,
        }
    }
}

impl Times {
    /// Everything at once.
    pub fn none() -> Self {
        Self::default().scaled(0.0)
    }

    /// What DigitalOcean's own description and its users report.
    pub fn real() -> Self {
        Self {
            create: 45_000,
            network: 2000,
            droplet_readable: 1000,
            droplet_listed: 2000,
            power: 5000,
            resize: 120_000,
            delete: 10_000,
            assign: 11_000,
            unassign: 5000,
            release: 5000,
            address_readable: 1000,
            address_listed: 1000,
            spaces_key: 3000,
        }
    }

    /// All times multiplied by one factor.
    pub fn scaled(self, factor: f64) -> Self {
        let by = |ms: u64| (ms as f64 * factor).round() as u64;
        Self {
            create: by(self.create),
            network: by(self.network),
            droplet_readable: by(self.droplet_readable),
            droplet_listed: by(self.droplet_listed),
            power: by(self.power),
            resize: by(self.resize),
            delete: by(self.delete),
            assign: by(self.assign),
            unassign: by(self.unassign),
            release: by(self.release),
            address_readable: by(self.address_readable),
            address_listed: by(self.address_listed),
            spaces_key: by(self.spaces_key),
        }
    }
}

/// What the account may have and ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Droplets.
    pub droplets: u64,
    /// Reserved IPs.
    pub reserved_ips: u64,
    /// Requests an hour and token. DigitalOcean's is 5,000.
    pub hourly: usize,
    /// Requests a minute and token; DigitalOcean's is 250. `None` does not count them: a lab is polled faster
    /// than the real thing, since it is faster.
    pub burst: Option<usize>,
    /// `active`, `warning` or `locked`.
    pub account_status: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self { droplets: 25, reserved_ips: 3, hourly: 5000, burst: None, account_status: "active".into() }
    }
}

/// Odd things that DigitalOcean has been seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// `DELETE` of an assigned address unassigns it and no more.
    pub delete_only_unassigns: bool,
    /// Actions on addresses are never found again.
    pub actions_unknown: bool,
    /// Finished actions say `done` instead of `completed`.
    pub done_status: bool,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long things take.
    pub times: Times,
    /// What the account may.
    pub limits: Limits,
    /// What is odd.
    pub quirks: Quirks,
}
