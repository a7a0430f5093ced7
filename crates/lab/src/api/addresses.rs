//! `/v2/reserved_ips`, and the same under its old name, `/v2/floating_ips`.

use std::net::Ipv4Addr;

use serde_json::json;

use super::catalog::Region;
use super::render::{self, PROJECT};
use super::route::World;
use super::state::{Address, Kind, Subject};
use super::wire::{Reply, Request};

impl World<'_> {
    /// `noun` is `reserved_ip` or `floating_ip`.
    pub(super) fn addresses(&mut self, request: &Request, rest: &[&str], noun: &str) -> Reply {
        let (method, rest) = (request.method.as_str(), rest);
        match (method, rest) {
            ("GET", []) => {
                let listed = self.state.addresses.values().filter(|address| address.listed <= self.now);
                let all = listed.map(|address| render::address(self, request.access, address)).collect();
                return Reply::page(request, &format!("{noun}s"), all);
            }
            ("POST", []) => return self.create_address(request, noun),
            _ => {}
        }
        let Some((ip, rest)) = rest.split_first() else { return Reply::not_found() };
        let Some(address) = ip.parse().ok().and_then(|ip: Ipv4Addr| self.state.addresses.get(&ip)) else {
            return Reply::not_found();
        };
        let ip = address.ip;
        match (method, rest) {
            ("GET", []) if address.readable > self.now => Reply::not_found(),
            ("GET", []) => Reply::ok(200, json!({ noun: render::address(self, request.access, address) })),
            ("DELETE", []) => self.delete_address(ip),
            ("GET", ["actions"]) => self.actions_of(request, Subject::Address(ip), noun),
            ("POST", ["actions"]) => self.act_on_address(request, ip, noun),
            ("GET", ["actions", _]) if self.settings.quirks.actions_unknown => Reply::not_found(),
            ("GET", ["actions", id]) => self.action_of(Subject::Address(ip), id, noun),
            _ => Reply::not_found(),
        }
    }

    fn create_address(&mut self, request: &Request, noun: &str) -> Reply {
        let (droplet, region) = match (request.body.get("droplet_id"), request.text("region")) {
            (Some(_), Some(_)) => {
                return Reply::invalid("Cannot specify Droplet and region, they are mutually exclusive.");
            }
            (Some(_), None) => {
                let known = request.number("droplet_id").and_then(|id| self.state.droplets.get(&id));
                let Some(droplet) = known else { return Reply::not_found() };
                if let Some(refused) = self.refuse_holder(droplet.spec.id) {
                    return refused;
                }
                (Some(droplet.spec.id), droplet.spec.region.clone())
            }
            (None, Some(slug)) => match Region::find(slug).filter(|region| region.available) {
                Some(region) => (None, region.slug.to_owned()),
                None => return Reply::invalid("Region is not available"),
            },
            (None, None) => return Reply::invalid("Droplet or region must be given."),
        };
        if request.body.get("project_id").is_some_and(|project| project != PROJECT && !project.is_null()) {
            return Reply::not_found();
        }
        if self.state.addresses.len() as u64 >= self.settings.limits.reserved_ips {
            return Reply::invalid("You have reached your account's limit of reserved IPs.");
        }
        let taken = |ip| self.state.addresses.contains_key(&ip);
        let Some(ip) = self.layout.floating.free(taken) else {
            return Reply::invalid("No reserved IPs are available in this region.");
        };
        let times = &self.settings.times;
        let address = Address {
            ip,
            region,
            holder: None,
            readable: self.now.saturating_add_unsigned(times.address_readable),
            listed: self.now.saturating_add_unsigned(times.address_listed),
            release: None,
            gone: None,
        };
        self.state.addresses.insert(ip, address);
        let links = match droplet {
            Some(id) => {
                let action =
                    self.state.begin(Kind::AssignIp, Subject::Address(ip), Some(id), self.now, times.assign);
                json!({
                    "droplets": [{ "id": id, "rel": "droplet", "href": request.href(&format!("/v2/droplets/{id}")) }],
                    "actions": [render::action_link(request, action, "assign_ip")],
                })
            }
            None => json!({}),
        };
        let body =
            self.state.addresses.get(&ip).map(|address| render::address(self, request.access, address));
        Reply::ok(202, json!({ noun: body, "links": links }))
    }

    /// Why a droplet cannot be given an address now.
    fn refuse_holder(&self, droplet: u64) -> Option<Reply> {
        if self.state.pending(Subject::Droplet(droplet)).is_some() {
            return Some(Reply::droplet_busy());
        }
        let on_its_way = |address: &&Address| {
            let pending = self.state.pending(Subject::Address(address.ip));
            address.holder == Some(droplet) || pending.is_some_and(|action| action.target == Some(droplet))
        };
        let other = self.state.addresses.values().find(on_its_way);
        other.map(|_| Reply::invalid("Droplet already has a reserved IP."))
    }

    fn act_on_address(&mut self, request: &Request, ip: Ipv4Addr, noun: &str) -> Reply {
        let Some(address) = self.state.addresses.get(&ip) else { return Reply::not_found() };
        if address.gone.is_some() || self.state.pending(Subject::Address(ip)).is_some() {
            return Reply::address_busy();
        }
        let times = &self.settings.times;
        let action = match (request.text("type"), request.number("droplet_id")) {
            (Some("assign"), Some(id)) => {
                let Some(droplet) = self.state.droplets.get(&id) else { return Reply::not_found() };
                if droplet.spec.region != address.region {
                    return Reply::invalid("The reserved IP and the Droplet must be in the same region.");
                }
                if address.holder != Some(id)
                    && let Some(refused) = self.refuse_holder(id)
                {
                    return refused;
                }
                self.state.begin(Kind::AssignIp, Subject::Address(ip), Some(id), self.now, times.assign)
            }
            (Some("assign"), None) => return Reply::invalid("droplet_id is required"),
            (Some("unassign"), _) if address.holder.is_none() => {
                return Reply::invalid("The floating IP is not assigned to a Droplet.");
            }
            (Some("unassign"), _) => {
                self.state.begin(Kind::UnassignIp, Subject::Address(ip), None, self.now, times.unassign)
            }
            _ => return Reply::invalid("type is invalid"),
        };
        let body = self.state.actions.get(&action).map(|action| render::action(self, noun, action));
        Reply::ok(201, json!({ "action": body }))
    }

    fn delete_address(&mut self, ip: Ipv4Addr) -> Reply {
        let busy = self.state.pending(Subject::Address(ip)).is_some();
        let times = &self.settings.times;
        let Some(address) = self.state.addresses.get_mut(&ip) else { return Reply::not_found() };
        if address.gone.is_some() {
            return Reply::not_found();
        }
        if busy {
            return Reply::address_busy();
        }
        if address.holder.is_none() {
            address.gone = Some(self.now.saturating_add_unsigned(times.release));
        } else {
            address.release = (!self.settings.quirks.delete_only_unassigns).then_some(times.release);
            self.state.begin(Kind::UnassignIp, Subject::Address(ip), None, self.now, times.unassign);
        }
        Reply::empty()
    }
}
