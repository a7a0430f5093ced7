//! The API's objects, cut down to what we use.
//!
//! Reading is lenient on purpose: a token with few scopes gets objects with fields left out, some fields are
//! `null` where the description says otherwise, and new values of an enumeration must not break old programs.

use std::net::{IpAddr, Ipv4Addr};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

/// Reads `null` as the default, as if the field were missing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// `GET /v2/account`.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// Most droplets that may exist; absent without the scope `droplet:read`.
    #[serde(default)]
    pub droplet_limit: Option<u64>,
    /// Most reserved IPs that may exist; absent without the scope `reserved_ip:read`.
    #[serde(default)]
    pub floating_ip_limit: Option<u64>,
    /// `active`, `warning` or `locked`.
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    /// Why the account is not simply active.
    #[serde(default, deserialize_with = "nullable")]
    pub status_message: String,
}

/// A public key that droplets can be created with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SshKey {
    /// Number in the account.
    pub id: u64,
    /// MD5 of the key blob, as colon-separated hex.
    pub fingerprint: String,
    /// What the person or program that registered it called it.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// The key, one OpenSSH line.
    #[serde(default, deserialize_with = "nullable")]
    pub public_key: String,
}

/// What a droplet is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropletStatus {
    /// Being created.
    New,
    /// Powered on, which is not yet booted.
    Active,
    /// Powered off.
    Off,
    /// Archived: gone but for its record.
    Archive,
    /// Something that this program does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A virtual machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Droplet {
    /// Number, unique for ever.
    pub id: u64,
    /// Name, which is not unique.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// Power state.
    #[serde(default, deserialize_with = "nullable")]
    pub status: DropletStatus,
    /// Whether an action is under way that keeps others out.
    #[serde(default, deserialize_with = "nullable")]
    pub locked: bool,
    /// Addresses; empty at first.
    #[serde(default, deserialize_with = "nullable")]
    pub networks: Networks,
    /// Tags; absent without the scope `tag:read`.
    #[serde(default, deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Private network; absent at first, and without the scope `vpc:read`.
    #[serde(default)]
    pub vpc_uuid: Option<String>,
    /// Where it runs.
    #[serde(default)]
    pub region: Option<Region>,
    /// Which size it has.
    #[serde(default, deserialize_with = "nullable")]
    pub size_slug: String,
    /// The same, with what it costs.
    #[serde(default)]
    pub size: Option<Price>,
    /// How large its disk is, in GiB: more than its size has after a resize that left the disk alone, never less than it had.
    #[serde(default)]
    pub disk: Option<u64>,
    /// What it was made from; absent without the scope `image:read`.
    #[serde(default)]
    pub image: Option<Image>,
}

/// What something costs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Price {
    /// In US dollars a month.
    #[serde(default)]
    pub price_monthly: Option<f64>,
}

/// A droplet's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Networks {
    /// IPv4, in no particular order.
    #[serde(default, deserialize_with = "nullable")]
    pub v4: Vec<Network>,
}

/// One address. The gateway is left out: for private networks it is the word `nil`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// The address.
    pub ip_address: Ipv4Addr,
    /// `public` or `private`.
    #[serde(rename = "type", default)]
    pub kind: String,
}

impl Droplet {
    /// The address that the internet reaches it at.
    pub fn public_ipv4(&self) -> Option<Ipv4Addr> {
        self.address("public")
    }

    /// The address in its private network.
    pub fn private_ipv4(&self) -> Option<Ipv4Addr> {
        self.address("private")
    }

    /// Whether it has this address, in whatever network.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.networks.v4.iter().any(|network| IpAddr::V4(network.ip_address) == address)
    }

    fn address(&self, kind: &str) -> Option<Ipv4Addr> {
        self.networks.v4.iter().find(|network| network.kind == kind).map(|network| network.ip_address)
    }
}

/// An IPv4 address that can be moved between the droplets of a region: the floating IP.
#[derive(Clone, Debug, Deserialize)]
pub struct ReservedIp {
    /// The address.
    pub ip: Ipv4Addr,
    /// Who has it. Also `None` while it is first assigned; then it is locked.
    #[serde(default)]
    pub droplet: Option<Holder>,
    /// Where it can be used.
    #[serde(default)]
    pub region: Option<Region>,
    /// Whether an action on it is under way.
    #[serde(default, deserialize_with = "nullable")]
    pub locked: bool,
}

/// Who has an address. The API tells the whole droplet; its number is all that is read, so that nothing else in it can
/// keep the address from being found.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Holder {
    /// The droplet's number.
    pub id: u64,
}

impl ReservedIp {
    /// The id of the droplet that has the address.
    pub fn holder(&self) -> Option<u64> {
        self.droplet.as_ref().map(|droplet| droplet.id)
    }
}

/// How far an action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Under way.
    Running,
    /// Ended well.
    Done,
    /// Ended badly. The API gives no reason.
    Failed,
}

/// Something the provider does over a time.
#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    /// Number.
    pub id: u64,
    /// `in-progress`, `completed`, `errored`; `done` has been seen too.
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    /// `create`, `power_off`, `assign_ip`, …
    #[serde(rename = "type", default, deserialize_with = "nullable")]
    pub kind: String,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<String>,
    /// What it is about: a droplet's id, or an address as a number.
    #[serde(default)]
    pub resource_id: Option<u64>,
}

impl Action {
    /// How far it is, by its status or, for statuses we do not know, by whether it has an end.
    pub fn progress(&self) -> Progress {
        match (self.status.as_str(), &self.completed_at) {
            ("errored", _) => Progress::Failed,
            ("completed" | "done", _) | (_, Some(_)) => Progress::Done,
            _ => Progress::Running,
        }
    }
}

/// A data centre.
#[derive(Clone, Debug, Deserialize)]
pub struct Region {
    /// Short name, for instance `fra1`.
    pub slug: String,
    /// Long name.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// Whether droplets can be created there.
    #[serde(default, deserialize_with = "nullable")]
    pub available: bool,
}

/// A droplet size.
#[derive(Clone, Debug, Deserialize)]
pub struct Size {
    /// Short name, for instance `s-1vcpu-1gb`.
    pub slug: String,
    /// Whether it can be had at all.
    #[serde(default, deserialize_with = "nullable")]
    pub available: bool,
    /// Where it can be had.
    #[serde(default, deserialize_with = "nullable")]
    pub regions: Vec<String>,
    /// Its price in US dollars a month.
    #[serde(default)]
    pub price_monthly: Option<f64>,
    /// Memory in MiB.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Disk in GiB.
    #[serde(default)]
    pub disk: Option<u64>,
}

/// What a droplet is made from.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    /// Number.
    pub id: u64,
    /// Short name; images of one's own have none.
    #[serde(default)]
    pub slug: Option<String>,
    /// `Debian`, `Ubuntu`, …
    #[serde(default, deserialize_with = "nullable")]
    pub distribution: String,
    /// Release, for instance `12 x64`.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// `available`, `retired`, `deleted`, …
    #[serde(default, deserialize_with = "nullable")]
    pub status: String,
    /// Where it can be used.
    #[serde(default, deserialize_with = "nullable")]
    pub regions: Vec<String>,
}

/// A private network.
#[derive(Clone, Debug, Deserialize)]
pub struct Vpc {
    /// UUID.
    pub id: String,
    /// Name, unique in the account.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// Region slug.
    #[serde(default, deserialize_with = "nullable")]
    pub region: String,
    /// Address range in CIDR notation.
    #[serde(default, deserialize_with = "nullable")]
    pub ip_range: String,
    /// Whether it is what droplets of the region get when none is named.
    #[serde(default, deserialize_with = "nullable")]
    pub default: bool,
}

/// A tag of the account.
#[derive(Clone, Debug, Deserialize)]
pub struct Tag {
    /// The tag itself.
    pub name: String,
}

/// A key to Spaces, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SpacesKey {
    /// What whoever made it called it; not unique.
    #[serde(default, deserialize_with = "nullable")]
    pub name: String,
    /// What requests name.
    pub access_key: String,
    /// What it may do.
    #[serde(default, deserialize_with = "nullable")]
    pub grants: Vec<Grant>,
}

/// A key to Spaces, as the answer to its creation has it, and no other.
#[derive(Clone, Debug, Deserialize)]
pub struct NewSpacesKey {
    /// What requests name.
    pub access_key: String,
    /// What signs them.
    #[serde(deserialize_with = "secret")]
    pub secret_key: SecretString,
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<SecretString, D::Error> {
    String::deserialize(input).map(SecretString::from)
}

/// What a key may do to a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The bucket; empty for all.
    #[serde(default, deserialize_with = "nullable")]
    pub bucket: String,
    /// `read`, `readwrite` or `fullaccess`.
    #[serde(default, deserialize_with = "nullable")]
    pub permission: String,
}

impl Grant {
    /// Everything in every bucket, and making buckets.
    pub fn full() -> Self {
        Self { bucket: String::new(), permission: "fullaccess".to_owned() }
    }

    /// Reading, writing and deleting objects of one bucket.
    pub fn read_write(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), permission: "readwrite".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_droplet_seen_with_few_scopes_is_still_a_droplet() {
        let text = r#"{"id":4294967299,"name":"pg1","status":"sleeping","locked":null,"tags":null,
            "networks":{"v4":[{"ip_address":"10.0.0.2","netmask":"255.255.0.0","gateway":"nil","type":"private"},
                              {"ip_address":"10.9.0.2","netmask":"255.255.0.0","gateway":null,"type":"public"}]}}"#;
        let droplet: Droplet = serde_json::from_str(text).unwrap();
        assert_eq!(droplet.status, DropletStatus::Unknown);
        assert_eq!(droplet.private_ipv4(), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(droplet.public_ipv4(), Some(Ipv4Addr::new(10, 9, 0, 2)));
        let bare: Droplet = serde_json::from_str(r#"{"id":1,"networks":{"v4":[],"v6":[]}}"#).unwrap();
        assert_eq!((bare.public_ipv4(), bare.locked), (None, false));
    }

    #[test]
    fn who_has_an_address_is_read_whatever_else_the_droplet_lacks() {
        let text = r#"{"ip":"10.0.0.1","droplet":{"id":7,"image":{},"networks":{"v4":[{"type":null}]}}}"#;
        assert_eq!(serde_json::from_str::<ReservedIp>(text).unwrap().holder(), Some(7));
    }

    #[test]
    fn an_action_ends_by_its_status_or_its_end() {
        for (text, want) in [
            (r#"{"id":1,"status":"in-progress"}"#, Progress::Running),
            (r#"{"id":1,"status":"completed","completed_at":"2026-01-01T00:00:00Z"}"#, Progress::Done),
            (r#"{"id":1,"status":"done"}"#, Progress::Done),
            (r#"{"id":1,"status":"odd","completed_at":"2026-01-01T00:00:00Z"}"#, Progress::Done),
            (r#"{"id":1,"status":"errored","completed_at":"2026-01-01T00:00:00Z"}"#, Progress::Failed),
        ] {
            assert_eq!(serde_json::from_str::<Action>(text).unwrap().progress(), want, "{text}");
        }
    }
}
