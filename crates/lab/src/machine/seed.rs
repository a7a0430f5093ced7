//! What a droplet's disk holds beyond its image when it boots for the first time: cloud-init's NoCloud seed
//! (instance id, host name, keys, user data), names, and a relay to the cloud's API.
//!
//! The relay lets `http://127.0.0.1:PORT` mean the same on a droplet as on the operator's machine, so plain HTTP
//! goes to loopback only. It and the name of Spaces are all on a droplet that knows of the lab.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::MachineSpec;
use crate::spaces;

/// The systemd units of the relay.
const UNITS: &str = "etc/systemd/system";

/// Where a droplet's names are: cloud-init writes the first anew from the second at every boot.
const HOSTS: [&str; 2] = ["etc/hosts", "etc/cloud/templates/hosts.debian.tmpl"];

/// One file: path below the droplet's root, permissions, content.
type SeedFile = (String, u32, String);

/// Writes the seed below `root`.
///
/// # Errors
/// The disk is full or not mounted, or this machine's resolvers cannot be used from elsewhere.
pub(crate) fn plant(root: &Path, spec: &MachineSpec, gateway: std::net::Ipv4Addr, port: u16) -> Result<()> {
    let mut files = files(spec, gateway, port);
    files.push(("etc/resolv.conf".to_owned(), 0o644, resolvers()?));
    for (path, mode, content) in files {
        let file = root.join(path);
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(file.parent().expect("every path has a parent"))?;
            // In the image the file may be a link to somewhere else.
            let _ = fs::remove_file(&file);
            fs::write(&file, content)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))
        };
        write().with_context(|| format!("cannot write {}", file.display()))?;
    }
    for hosts in HOSTS {
        let file = root.join(hosts);
        let add = || -> std::io::Result<()> {
            let known = fs::read_to_string(&file)?;
            fs::remove_file(&file)?;
            fs::write(&file, with_spaces(&known, gateway))
        };
        add().with_context(|| format!("cannot add a name to {}", file.display()))?;
    }
    enable(root, "sockets.target", "cloud-api.socket")?;
    if spec.memory > 0 { enable(root, "sysinit.target", MEMORY) } else { Ok(()) }
}

/// The unit that shows the memory of the droplet's size.
const MEMORY: &str = "droplet-memory.service";

/// Has systemd start a unit with a target.
fn enable(root: &Path, target: &str, unit: &str) -> Result<()> {
    let wanted = root.join(UNITS).join(format!("{target}.wants"));
    fs::create_dir_all(&wanted).with_context(|| format!("cannot create {}", wanted.display()))?;
    let link = wanted.join(unit);
    let _ = fs::remove_file(&link);
    symlink(format!("../{unit}"), &link).with_context(|| format!("cannot create {}", link.display()))
}

/// What the kernel of a host with this memory says of it: it keeps some for itself. What is free is not counted here.
fn meminfo(mib: u64) -> String {
    let total = (mib * 1024).saturating_sub(36 * 1024 + mib * 1024 / 64);
    let lines = [
        ("MemTotal", total),
        ("MemFree", total / 2),
        ("MemAvailable", total * 3 / 4),
        ("SwapTotal", 0),
        ("SwapFree", 0),
    ];
    lines.map(|(name, kib)| format!("{:<16}{kib:>8} kB\n", format!("{name}:"))).concat()
}

/// Names, with that of Spaces.
fn with_spaces(hosts: &str, gateway: std::net::Ipv4Addr) -> String {
    format!("{}\n{gateway} {}\n", hosts.trim_end(), spaces::HOST)
}

fn files(spec: &MachineSpec, gateway: std::net::Ipv4Addr, port: u16) -> Vec<SeedFile> {
    let fill = |template: &str| {
        template.replace("{port}", &port.to_string()).replace("{gateway}", &gateway.to_string())
    };
    // JSON is YAML.
    let metadata = json!({
        "instance-id": spec.id.to_string(),
        "local-hostname": spec.name,
        "public-keys": spec.ssh_keys,
    });
    let seed = "var/lib/cloud/seed/nocloud";
    vec![
        (format!("{seed}/meta-data"), 0o600, metadata.to_string()),
        (format!("{seed}/user-data"), 0o600, spec.user_data.clone().unwrap_or_default()),
        ("etc/hostname".to_owned(), 0o644, format!("{}\n", spec.name)),
        ("etc/droplet-meminfo".to_owned(), 0o444, meminfo(spec.memory)),
        (
            format!("{UNITS}/{MEMORY}"),
            0o644,
            include_str!("../../../../templates/lab/memory.service").to_owned(),
        ),
        (
            format!("{UNITS}/cloud-api.socket"),
            0o644,
            fill(include_str!("../../../../templates/lab/api.socket")),
        ),
        (
            format!("{UNITS}/cloud-api.service"),
            0o644,
            fill(include_str!("../../../../templates/lab/api.service")),
        ),
    ]
}

/// This machine's resolver configuration, as far as a droplet can use it: a resolver on this machine's loopback
/// (as systemd-resolved's stub is) means another machine there.
fn resolvers() -> Result<String> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let usable = files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| usable(&text));
    match usable {
        Some(text) => Ok(text),
        None => bail!("{} list no resolver that a droplet can reach", files.join(" or ")),
    }
}

fn usable(resolv_conf: &str) -> Option<String> {
    let lines: Vec<_> = resolv_conf
        .lines()
        .filter(|line| match line.trim().strip_prefix("nameserver") {
            Some(address) => !address.trim().starts_with("127.") && address.trim() != "::1",
            None => line.starts_with("search") || line.starts_with("options"),
        })
        .collect();
    lines.iter().any(|line| line.starts_with("nameserver")).then(|| lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_of_no_use_to_a_droplet() {
        assert_eq!(usable("nameserver 127.0.0.53\noptions edns0\n"), None);
        let mixed = "# note\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nsearch example.org\n";
        assert_eq!(usable(mixed).unwrap(), "nameserver 10.0.0.2\nsearch example.org\n");
    }

    #[test]
    fn spaces_has_a_name() {
        let names = with_spaces("127.0.0.1 localhost\n", [10, 99, 0, 1].into());
        assert_eq!(names, "127.0.0.1 localhost\n10.99.0.1 spaces.lab\n");
    }

    #[test]
    fn the_seed_says_what_the_api_was_told() {
        let spec = MachineSpec {
            id: 17,
            name: "pg1".to_owned(),
            image: "debian-12-x64".to_owned(),
            memory: 1024,
            region: "lab1".to_owned(),
            ssh_keys: vec!["ssh-ed25519 AAAA me@\"home\"".to_owned()],
            user_data: Some("#cloud-config\n".to_owned()),
            public_ip: [10, 99, 0, 2].into(),
            private_ip: [10, 99, 1, 2].into(),
            anchor_ip: [10, 99, 2, 2].into(),
        };
        let files = files(&spec, [10, 99, 0, 1].into(), 8480);
        let content = |name: &str| &files.iter().find(|file| file.0.ends_with(name)).unwrap().2;
        let metadata: serde_json::Value = serde_json::from_str(content("meta-data")).unwrap();
        assert_eq!(metadata["public-keys"][0], spec.ssh_keys[0].as_str());
        assert_eq!(metadata["instance-id"], "17");
        assert_eq!(content("user-data"), "#cloud-config\n");
        assert_eq!(content("meminfo").lines().next().unwrap(), "MemTotal:         995328 kB");
        assert!(content("api.socket").contains("ListenStream=127.0.0.1:8480\n"));
        assert!(content("api.service").contains("socket-proxyd 10.99.0.1:8480\n"));
    }
}
