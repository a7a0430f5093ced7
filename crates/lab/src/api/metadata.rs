//! What a droplet's metadata service would say about it.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::layout::Range;
use super::route::World;

impl World<'_> {
    /// `/metadata/v1.json` of a droplet, if there is one.
    pub(super) fn metadata(&self, id: u64) -> Option<Value> {
        let droplet = self.state.droplets.get(&id)?;
        let (spec, layout) = (&droplet.spec, self.layout);
        let address = self.state.addresses.values().find(|address| address.holder == Some(id)).map(|a| a.ip);
        let reserved = json!({ "ipv4": { "active": address.is_some(), "ip_address": address } });
        let on = |net: Range, ip: Ipv4Addr| json!({ "ip_address": ip, "netmask": net.netmask, "gateway": net.gateway });
        Some(json!({
            "droplet_id": id, "hostname": spec.name, "region": spec.region, "public_keys": spec.ssh_keys,
            "user_data": spec.user_data, "vendor_data": "", "tags": droplet.tags,
            "interfaces": {
                "public": [{
                    "ipv4": on(layout.public, spec.public_ip), "anchor_ipv4": on(layout.anchor, spec.anchor_ip),
                    "type": "public",
                }],
                "private": [{ "ipv4": on(layout.private, spec.private_ip), "type": "private" }],
            },
            "floating_ip": reserved, "reserved_ip": reserved,
            "dns": { "nameservers": [] }, "features": { "dhcp_enabled": false },
        }))
    }
}
