//! `/v2/projects`: one project, the default one, which has everything.

use serde_json::{Value, json};

use super::render::{ALWAYS, PROJECT};
use super::route::World;
use super::wire::{Reply, Request};

impl World<'_> {
    pub(super) fn projects(&self, request: &Request, rest: &[&str]) -> Reply {
        let project = json!({
            "id": PROJECT, "owner_uuid": "99525febec065ca37b2ffe4f852fd2b2581895e7", "owner_id": 258_992,
            "name": "lab", "description": "", "purpose": "Just trying out DigitalOcean", "environment": "Development",
            "is_default": true, "created_at": ALWAYS, "updated_at": ALWAYS,
        });
        match (request.method.as_str(), rest) {
            ("GET", []) => Reply::page(request, "projects", vec![project]),
            ("GET", ["default" | PROJECT]) => Reply::ok(200, json!({ "project": project })),
            ("GET", ["default" | PROJECT, "resources"]) => {
                let droplets = self.state.droplets.keys().map(|id| format!("do:droplet:{id}"));
                let addresses = self.state.addresses.keys().map(|ip| format!("do:floatingip:{ip}"));
                let all = droplets.chain(addresses).map(|urn| resource(request, &urn, "ok")).collect();
                Reply::page(request, "resources", all)
            }
            ("POST", ["default" | PROJECT, "resources"]) => {
                let urns = match request.texts("resources") {
                    Ok(urns) => urns,
                    Err(refused) => return refused,
                };
                let assigned: Vec<Value> =
                    urns.iter().map(|urn| resource(request, urn, self.standing(urn))).collect();
                Reply::ok(200, json!({ "resources": assigned }))
            }
            _ => Reply::not_found(),
        }
    }

    /// Whether what a resource name names is there, and so in the project already.
    fn standing(&self, urn: &str) -> &'static str {
        let known = match urn.split(':').collect::<Vec<_>>().as_slice() {
            ["do", "droplet", id] => id.parse().is_ok_and(|id: u64| self.state.droplets.contains_key(&id)),
            ["do", "floatingip" | "reservedip", ip] => {
                ip.parse().is_ok_and(|ip| self.state.addresses.contains_key(&ip))
            }
            _ => false,
        };
        if known { "already_assigned" } else { "not_found" }
    }
}

fn resource(request: &Request, urn: &str, status: &str) -> Value {
    let mut parts = urn.split(':').skip(1);
    let kind = if parts.next() == Some("droplet") { "droplets" } else { "floating_ips" };
    let path = format!("/v2/{kind}/{}", parts.next().unwrap_or_default());
    json!({ "urn": urn, "assigned_at": ALWAYS, "links": { "self": request.href(&path) }, "status": status })
}
