//! Validates `nodes`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Checker, is_name, slug};
use crate::inventory::reach::{self, Raw};
use crate::inventory::{Node, Provider, Role, file};

pub(super) fn check(c: &mut Checker, raw: Vec<file::Node>, provider: Option<&Provider>) -> Vec<Node> {
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    let mut connection_hosts = BTreeMap::new();
    let mut droplet_ids = BTreeMap::new();
    // The first node whose address is known, and whether that is IPv4.
    let mut family: Option<(usize, bool)> = None;
    let mut nodes = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let at = |key: &str| format!("nodes[{index}].{key}");
        let (id, droplet_id) = (raw.id.0, raw.droplet_id.map(|id| id.0));
        if !is_name(&raw.name, 40) {
            c.wrong(
                at("name"),
                format!("`{}` is not a valid host name", raw.name),
                "use lower-case letters, digits and dashes, beginning with a letter",
            );
        }
        if let Some(first) = names.insert(raw.name.clone(), index) {
            c.wrong(
                at("name"),
                format!("`{}` is also the name of nodes[{first}]", raw.name),
                "give every node a unique name",
            );
        }
        if id == 0 || i32::try_from(id).is_err() {
            c.wrong(at("id"), format!("{id} is not a valid node id"), "use a number from 1 to 2147483647");
        }
        if let Some(first) = ids.insert(id, index) {
            c.wrong(
                at("id"),
                format!("{id} is also the id of nodes[{first}]"),
                "give every node a unique id; it can never change",
            );
        }
        let role = match raw.role.as_str() {
            "primary" => Role::Primary,
            "standby" => Role::Standby,
            "witness" => Role::Witness,
            other => {
                c.wrong(at("role"), format!("`{other}` is not a role"), "use primary, standby or witness");
                Role::Standby
            }
        };
        if let Some(address) = &raw.address {
            if !is_host(address) {
                c.wrong(
                    at("address"),
                    format!("`{address}` is not a valid address"),
                    "use an IP address or a host name",
                );
            } else if let Some(first) = addresses.insert(address.clone(), index) {
                c.wrong(
                    at("address"),
                    format!("`{address}` is also the address of nodes[{first}]"),
                    "every node needs its own host",
                );
            }
        } else if matches!(provider, Some(Provider::Existing(_))) {
            c.wrong(at("address"), "is missing", "existing hosts need an address");
        }
        if raw.connection_host.is_none()
            && matches!(provider, Some(Provider::Existing(_)))
            && raw.address.as_deref().is_some_and(|it| is_host(it) && it.parse::<IpAddr>().is_err())
        {
            c.wrong(
                at("connection_host"),
                "is missing, and `address` is a name",
                "set it to the IP address that the other nodes use; pg_hba.conf needs an address",
            );
        }
        let connection_host = raw.connection_host.as_deref().and_then(|text| {
            let parsed = text.parse::<IpAddr>().ok();
            if parsed.is_none() {
                c.wrong(
                    at("connection_host"),
                    format!("`{text}` is not an IP address"),
                    "use the private address that the other nodes use; pg_hba.conf needs an address, not a name",
                );
            }
            parsed
        });
        if let Some(host) = connection_host
            && let Some(first) = connection_hosts.insert(host, index)
        {
            c.wrong(
                at("connection_host"),
                format!("`{host}` is also the connection_host of nodes[{first}]"),
                "every node needs its own address",
            );
        }
        if let Some(id) = droplet_id
            && let Some(first) = droplet_ids.insert(id, index)
        {
            c.wrong(
                at("droplet_id"),
                format!("{id} is also the droplet_id of nodes[{first}]"),
                "every node is a droplet of its own: the floating IP would point to the other one",
            );
        }
        let replicated_at = connection_host.or_else(|| raw.address.as_deref()?.parse().ok());
        if let Some(host) = replicated_at {
            let (first, is_v4) = *family.get_or_insert((index, host.is_ipv4()));
            if host.is_ipv4() != is_v4 {
                c.wrong(
                    at("connection_host"),
                    format!("`{host}` is of another family than the address of nodes[{first}]"),
                    "the nodes reach each other by IPv4, or all by IPv6",
                );
            }
        }
        if droplet_id.is_some() && matches!(provider, Some(Provider::DigitalOcean(_))) {
            c.wrong(
                at("droplet_id"),
                "is only for existing hosts",
                "remove it: the API knows each node's droplet, and a wrong id would send the floating IP to another one",
            );
        }
        for (key, value) in [("size", &raw.size), ("image", &raw.image)] {
            let Some(value) = value else { continue };
            if matches!(provider, Some(Provider::Existing(_))) {
                c.wrong(at(key), "is only for droplets", "remove it: an existing host is what it is");
            } else {
                slug(c, at(key), value);
            }
        }
        if let Some(key) = &raw.host_key
            && !(key.split_whitespace().count() >= 2
                && (key.starts_with("ssh-") || key.starts_with("ecdsa-")))
        {
            c.wrong(
                at("host_key"),
                "is not a public host key",
                "use a line such as `ssh-ed25519 AAAA…` from /etc/ssh/ssh_host_ed25519_key.pub on the host",
            );
        }
        let reach = Raw {
            user: raw.ssh_user,
            key: raw.ssh_key,
            port: raw.ssh_port.map(|port| port.0),
            jump: raw.ssh_jump,
            command: raw.ssh_proxy_command,
        };
        nodes.push(Node {
            name: raw.name,
            id,
            role,
            address: raw.address,
            connection_host,
            host_key: raw.host_key,
            droplet_id,
            size: raw.size,
            image: raw.image,
            reach: reach::of_node(c, index, reach, provider),
        });
    }
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| reach::circles(&nodes, node)) {
        c.wrong(
            format!("nodes[{index}].ssh_jump"),
            format!("leads back to {} itself", node.name),
            "reach the jump host itself without one: `ssh_jump: none`, or in an Ansible inventory an empty \
             `ansible_ssh_common_args` for it",
        );
    }
    roles(c, &nodes);
    nodes
}

/// One primary, at most one witness, and enough of the rest.
fn roles(c: &mut Checker, nodes: &[Node]) {
    let with = |role| nodes.iter().filter(|node| node.role == role).count();
    match with(Role::Primary) {
        1 => {}
        0 => c.wrong(
            "nodes",
            "no node is the primary",
            "give one node `role: primary`; the cluster starts with it",
        ),
        count => {
            c.wrong("nodes", format!("{count} nodes are primaries"), "keep one; make the others standbys")
        }
    }
    if with(Role::Witness) > 1 {
        c.wrong(
            "nodes",
            "there are two witnesses",
            "one vote without data is enough; make the other a standby",
        );
    }
    if with(Role::Standby) == 0 {
        c.warnings.push("there is no standby: the cluster cannot survive the loss of its primary".into());
    } else if nodes.len() == 2 {
        c.warnings.push(
            "two nodes have no majority when one is lost: there is no automatic failover until a third node, \
             for instance a witness, is added"
                .into(),
        );
    }
}

/// An IP address or a host name.
pub(in crate::inventory) fn is_host(text: &str) -> bool {
    if text.chars().all(|c| c.is_ascii_digit() || c == '.') || text.contains(':') {
        return text.parse::<IpAddr>().is_ok();
    }
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}
