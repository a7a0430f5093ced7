//! `/v2/account`, `/v2/images`, `/v2/regions`, `/v2/sizes`, `/v2/vpcs`: what there is to have.

use serde_json::json;

use super::catalog::{REGIONS, Region, SIZES};
use super::render;
use super::route::World;
use super::state::Power;
use super::wire::{Reply, Request, stamp};

impl World<'_> {
    pub(super) fn account(&self) -> Reply {
        let limits = &self.settings.limits;
        let message = if limits.account_status == "active" { "" } else { "Please contact support." };
        Reply::ok(
            200,
            json!({ "account": {
                "droplet_limit": limits.droplets, "floating_ip_limit": limits.reserved_ips,
                "email": "operator@example.com", "name": "Lab", "uuid": "b6fr89dbf6d9156cace5f3c78dc9851d957381ef",
                "email_verified": true, "status": limits.account_status, "status_message": message,
                "team": { "uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "Lab" },
            }}),
        )
    }

    pub(super) fn images(&self, request: &Request, rest: &[&str]) -> Reply {
        match rest {
            [] => {
                let distributions = request.query.get("type").is_none_or(|kind| kind == "distribution");
                let own = request.query.get("private").is_some_and(|text| text == "true");
                let offered = self.images.iter().filter(|_| distributions && !own);
                let all = offered.map(|image| render::image(self.images, &image.slug)).collect();
                Reply::page(request, "images", all)
            }
            [which] => match render::image(self.images, which) {
                serde_json::Value::Null => Reply::not_found(),
                image => Reply::ok(200, json!({ "image": image })),
            },
            _ => Reply::not_found(),
        }
    }

    pub(super) fn regions(&self, request: &Request) -> Reply {
        Reply::page(request, "regions", REGIONS.iter().map(render::region).collect())
    }

    pub(super) fn sizes(&self, request: &Request) -> Reply {
        Reply::page(request, "sizes", SIZES.iter().map(render::size).collect())
    }

    pub(super) fn vpcs(&self, request: &Request, rest: &[&str]) -> Reply {
        match rest {
            [] => {
                let open = REGIONS.iter().filter(|region| region.available);
                Reply::page(request, "vpcs", open.map(|region| render::vpc(self, region)).collect())
            }
            [id] => match Region::of_vpc(id) {
                Some(region) => Reply::ok(200, json!({ "vpc": render::vpc(self, region) })),
                None => Reply::not_found(),
            },
            [id, "members"] if Region::of_vpc(id).is_some() => {
                let inside = self.state.droplets.values();
                let inside = inside.filter(|droplet| droplet.vpc == *id && droplet.power != Power::New);
                let member = |id: u64, name: &str, at| json!({ "urn": format!("do:droplet:{id}"), "name": name, "created_at": stamp(at) });
                let members =
                    inside.map(|droplet| member(droplet.spec.id, &droplet.spec.name, droplet.created));
                Reply::page(request, "members", members.collect())
            }
            _ => Reply::not_found(),
        }
    }
}
