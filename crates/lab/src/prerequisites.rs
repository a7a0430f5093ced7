//! What the lab needs of this machine: root, and a few Debian packages.

use std::path::Path;

use anyhow::{Result, bail};

use crate::Wrong;

/// A program or file, and the Debian package that brings it.
const NEEDED: [(&str, &str); 9] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("mount", "mount"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
];

/// Checks for all of it.
///
/// # Errors
/// Names everything that is missing at once, with the command that brings it.
pub(crate) fn check() -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let packages = missing(|file| Path::new(file).exists(), &path);
    if !packages.is_empty() {
        let names = packages.join(" ");
        bail!(Wrong::new(
            "the lab needs programs that are not installed",
            format!("apt-get install {names}")
        ));
    }
    root()
}

/// Checks for root alone.
///
/// # Errors
/// This is somebody else.
pub(crate) fn root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(Wrong::new("the lab boots machines and needs root", "run it with sudo"));
    }
    Ok(())
}

fn missing(exists: impl Fn(&str) -> bool, path: &str) -> Vec<&'static str> {
    let is_there = |wanted: &str| {
        if wanted.starts_with('/') {
            return exists(wanted);
        }
        // A user's PATH often lacks the directories of the programs for root.
        path.split(':')
            .chain(["/usr/sbin", "/sbin"])
            .any(|directory| exists(&format!("{directory}/{wanted}")))
    };
    let mut packages: Vec<_> =
        NEEDED.iter().filter(|(wanted, _)| !is_there(wanted)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_package_is_named_once() {
        let none = missing(|_| false, "/usr/bin");
        assert_eq!(none.len(), NEEDED.len() - 1);
        assert_eq!(none.iter().filter(|package| **package == "util-linux").count(), 1);
        assert!(missing(|_| true, "/usr/bin").is_empty());
        assert_eq!(
            missing(|file| file != "/usr/bin/nft" && !file.ends_with("sbin/nft"), "/usr/bin"),
            ["nftables"]
        );
    }
}
