//! What an image is made of.

use sha2::{Digest, Sha256};

/// The images that droplets can be made from: slug and Debian suite.
pub const IMAGES: [(&str, &str); 5] = [
    ("debian-11-x64", "bullseye"),
    ("debian-12-x64", "bookworm"),
    ("debian-13-x64", "trixie"),
    ("debian-sid-x64", "sid"),
    (WITH_POSTGRESQL, "bookworm"),
];

/// A snapshot of one's own, as it were, in which the packages are there: for whoever makes many clusters and has seen
/// them installed.
const WITH_POSTGRESQL: &str = "debian-12-x64-postgresql-15";

/// The packages of that one.
const POSTGRESQL: [&str; 3] = ["pgbackrest", "postgresql-15", "postgresql-15-repmgr"];

/// What a provider's image holds beyond the essential packages, as far as it matters here. No PostgreSQL:
/// installing it is the work being done.
const PACKAGES: [&str; 22] = [
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "gnupg",
    "iproute2",
    "iputils-ping",
    "less",
    "libpam-systemd",
    "locales",
    "lsb-release",
    "netbase",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "vim-tiny",
    "wget",
];

/// Files of our own, by path below the root.
pub(super) const FILES: [(&str, &str); 3] = [
    ("etc/cloud/cloud.cfg.d/90_provider.cfg", include_str!("../../../../templates/lab/image/cloud.cfg")),
    ("etc/dpkg/dpkg.cfg.d/unsafe-io", include_str!("../../../../templates/lab/image/dpkg.cfg")),
    ("etc/default/locale", "LANG=C.UTF-8\n"),
];

/// What must be another on every machine, by directory below the root and the start of the name: removed.
pub(super) const UNIQUE: [(&str, &str); 4] =
    [("etc/ssh", "ssh_host_"), ("etc", "hostname"), ("etc", "resolv.conf"), ("var/lib/dbus", "machine-id")];

/// To be raised when something else about the making changes.
const REVISION: u32 = 1;

/// One image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) slug: &'static str,
    pub(super) suite: &'static str,
}

impl Recipe {
    /// The recipe for an image, if there is one of this name.
    pub(super) fn of(slug: &str) -> Option<Self> {
        IMAGES.iter().find(|image| image.0 == slug).map(|&(slug, suite)| Self { slug, suite })
    }

    /// All packages, as mmdebstrap takes them.
    pub(super) fn packages(&self) -> String {
        let more: &[&str] = if self.has_postgresql() { &POSTGRESQL } else { &[] };
        [&PACKAGES[..], more].concat().join(",")
    }

    pub(super) fn has_postgresql(&self) -> bool {
        self.slug == WITH_POSTGRESQL
    }

    /// The cached image's directory: it changes with the recipe.
    pub(super) fn directory(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{REVISION}\n{}\n{}\n", self.suite, self.packages()));
        for (path, content) in FILES {
            hash.update(format!("{path}\n{content}\n"));
        }
        let digest: String = hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{digest}", self.slug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_a_directory_of_its_own() {
        let directories: Vec<_> =
            IMAGES.iter().map(|(slug, _)| Recipe::of(slug).unwrap().directory()).collect();
        for (slug, _) in IMAGES {
            assert_eq!(
                directories.iter().filter(|name| name.rsplit_once('-').unwrap().0 == slug).count(),
                1,
                "{directories:?}"
            );
        }
        assert_eq!(Recipe::of("ubuntu-24-04-x64"), None);
    }
}
