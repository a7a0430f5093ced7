//! The name of a lab, and the names of everything it makes: whatever a killed run left behind can be
//! found by these, and by nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A lab's name: a lower-case letter, then up to 29 lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Six hexadecimal digits of the name's hash: interface names have room for no more (15 characters).
    pub(crate) fn tag(&self) -> String {
        let [a, b, c] = self.tag_bytes();
        format!("{a:02x}{b:02x}{c:02x}")
    }

    fn tag_bytes(&self) -> [u8; 3] {
        let digest = Sha256::digest(self.0.as_bytes());
        [digest[0], digest[1], digest[2]]
    }

    /// What the names of all network interfaces of this lab begin with.
    pub(crate) fn link_prefix(&self) -> String {
        format!("cl{}", self.tag())
    }

    /// The bridge that carries the public network and the anchor addresses.
    pub(crate) fn public_bridge(&self) -> String {
        format!("{}-pub", self.link_prefix())
    }

    /// The bridge that carries the private network (VPC).
    pub(crate) fn private_bridge(&self) -> String {
        format!("{}-vpc", self.link_prefix())
    }

    /// The host's end of a droplet's public link. `index` is the droplet's place in the public subnet.
    pub(crate) fn public_port(&self, index: u16) -> String {
        format!("{}p{index}", self.link_prefix())
    }

    /// The host's end of a droplet's private link.
    pub(crate) fn private_port(&self, index: u16) -> String {
        format!("{}v{index}", self.link_prefix())
    }

    /// The hardware address of a droplet's interface: 0 is the public one, 1 the private one. It stays the
    /// same over a power cycle, so that nobody's neighbour table is wrong afterwards.
    pub(crate) fn hardware_address(&self, index: u16, interface: u8) -> String {
        let [a, b, c] = self.tag_bytes();
        let [high, low] = index.to_be_bytes();
        format!("02:{a:02x}:{b:02x}:{c:02x}:{:02x}:{low:02x}", (interface << 4) | (high & 0x0f))
    }

    /// What the names of nft tables of all labs begin with.
    pub(crate) const TABLES: &str = "cluster_lab_";

    /// The name of the nft tables, one of family `ip` and one of family `bridge`.
    pub(crate) fn table(&self) -> String {
        format!("{}{}", LabName::TABLES, self.0.replace('-', "_"))
    }

    /// The name of a droplet's network namespace, of its machine, and the source of its overlay mount.
    pub(crate) fn machine(&self, id: u64) -> String {
        format!("cluster-lab-{}-{id}", self.0)
    }

    /// The droplet's id, if `machine` is the name of one of this lab's machines.
    pub(crate) fn machine_id(&self, machine: &str) -> Option<u64> {
        machine.strip_prefix("cluster-lab-")?.strip_prefix(&self.0)?.strip_prefix('-')?.parse().ok()
    }
}

impl FromStr for LabName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let fits = (1..=30).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(format!(
                "`{name}` is not a valid lab name: use a lower-case letter, then up to 29 lower-case letters, \
                 digits and hyphens"
            ))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(name: &str) -> LabName {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_checked() {
        for good in ["lab", "t1", "a-b-c", "x"] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for bad in ["", "1lab", "Lab", "lab-", "-lab", "a_b", "a/b", "a.b", &"a".repeat(31)] {
            assert!(bad.parse::<LabName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let lab = lab(&"a".repeat(30));
        for name in [lab.public_bridge(), lab.private_bridge(), lab.public_port(4094), lab.private_port(4094)]
        {
            assert!(name.len() <= 15, "{name}");
            assert!(name.starts_with(&lab.link_prefix()));
        }
        assert!(lab.machine(u64::MAX).len() <= 64);
    }

    #[test]
    fn one_lab_does_not_take_another_ones_machines() {
        assert_eq!(lab("a").machine_id("cluster-lab-a-17"), Some(17));
        assert_eq!(lab("a").machine_id("cluster-lab-a-1-17"), None);
        assert_eq!(lab("a-1").machine_id("cluster-lab-a-1-17"), Some(17));
        assert_eq!(lab("a").machine_id("cluster-lab-ab-17"), None);
    }

    #[test]
    fn hardware_addresses_differ_and_are_local_unicast() {
        let lab = lab("lab");
        let all = [(1, 0), (1, 1), (257, 0), (257, 1)].map(|(index, link)| lab.hardware_address(index, link));
        for (i, address) in all.iter().enumerate() {
            assert!(address.starts_with("02:") && address.len() == 17, "{address}");
            assert!(!all[..i].contains(address));
        }
    }
}
