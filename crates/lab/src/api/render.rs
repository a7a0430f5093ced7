//! The state as the API's JSON: every key that DigitalOcean's own examples have, with the same types.

use serde_json::{Value, json};

use super::catalog::{Image, Region, Size};
use super::spaces_keys::SpacesKey;
use super::state::{Action, Address, Droplet, Key, Power, Status, Subject};
use super::wire::{Access, Millis, Request, stamp};
use crate::api::route::World;

/// The project that everything is in.
pub(super) const PROJECT: &str = "746c6152-2fa2-41ed-92d3-27aaa54e4988";

/// When the lab's provider opened, for things that were always there.
pub(super) const ALWAYS: &str = "2024-01-01T00:00:00Z";

pub(super) fn region(region: &Region) -> Value {
    json!({
        "name": region.name, "slug": region.slug, "available": region.available, "sizes": region.sizes(),
        "features": ["private_networking", "backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
    })
}

fn region_of(slug: &str) -> Value {
    Region::find(slug).map(region).unwrap_or_default()
}

pub(super) fn size(size: &Size) -> Value {
    json!({
        "slug": size.slug, "memory": size.memory, "vcpus": size.vcpus, "disk": size.disk, "transfer": 1.0,
        "price_monthly": size.monthly, "price_hourly": size.monthly / 672.0, "regions": size.regions(),
        "available": true, "description": size.description, "disk_info": disk_info(size.disk),
    })
}

fn disk_info(gib: u64) -> Value {
    json!([{ "type": "local", "size": { "amount": gib, "unit": "gib" } }])
}

/// The image with this slug or number.
pub(super) fn image(offered: &[Image], slug: &str) -> Value {
    let Some((number, image)) = Image::find(offered, slug) else { return Value::Null };
    let regions: Vec<&str> =
        super::catalog::REGIONS.iter().filter(|region| region.available).map(|region| region.slug).collect();
    json!({
        "id": number, "name": image.name, "distribution": image.distribution, "slug": image.slug,
        "public": true, "regions": regions, "created_at": ALWAYS, "type": "base", "min_disk_size": 10,
        "size_gigabytes": 0.9, "description": format!("{} {}", image.distribution, image.name), "tags": [],
        "status": "available", "error_message": "",
    })
}

pub(super) fn vpc(world: &World<'_>, region: &Region) -> Value {
    let net = world.layout.private;
    let prefix = net.netmask.to_bits().leading_ones();
    let base = std::net::Ipv4Addr::from_bits(net.first.to_bits() & net.netmask.to_bits());
    json!({
        "id": region.vpc(), "urn": format!("do:vpc:{}", region.vpc()), "name": format!("default-{}", region.slug),
        "description": "", "region": region.slug, "ip_range": format!("{base}/{prefix}"),
        "default": true, "created_at": ALWAYS,
    })
}

pub(super) fn key(key: &Key) -> Value {
    json!({ "id": key.id, "fingerprint": key.fingerprint, "public_key": key.public_key, "name": key.name })
}

pub(super) fn spaces_key(key: &SpacesKey) -> Value {
    json!({
        "name": key.name, "grants": key.grants, "access_key": key.access_key, "created_at": stamp(key.created),
    })
}

pub(super) fn droplet(world: &World<'_>, access: Access, droplet: &Droplet) -> Value {
    let spec = &droplet.spec;
    let size_of = Size::find(&droplet.size);
    let number = |of: fn(&Size) -> u64| size_of.map(of).unwrap_or_default();
    let disk = droplet.disk.unwrap_or_else(|| number(|size| size.disk));
    let mut value = json!({
        "id": spec.id, "name": spec.name, "memory": number(|size| size.memory),
        "vcpus": number(|size| size.vcpus), "disk": disk, "disk_info": disk_info(disk),
        "locked": world.state.pending(Subject::Droplet(spec.id)).is_some(),
        "status": droplet.power, "kernel": null, "created_at": stamp(droplet.created),
        "features": ["monitoring", "private_networking"], "backup_ids": [], "next_backup_window": null,
        "snapshot_ids": [], "image": image(world.images, &spec.image), "volume_ids": [],
        "size": size_of.map(size), "size_slug": droplet.size, "networks": networks(world, droplet),
        "region": region_of(&spec.region),
    });
    if access.has("tag:read") {
        value["tags"] = json!(droplet.tags);
    }
    if access.has("vpc:read") && droplet.power != Power::New {
        value["vpc_uuid"] = json!(droplet.vpc);
    }
    value
}

fn networks(world: &World<'_>, droplet: &Droplet) -> Value {
    if droplet.networks.is_none_or(|at| at > world.now) {
        return json!({ "v4": [], "v6": [] });
    }
    let (public, private) = (world.layout.public, world.layout.private);
    // The private one first, as DigitalOcean does, for clients that take the first for the public one.
    json!({
        "v4": [
            { "ip_address": droplet.spec.private_ip, "netmask": private.netmask, "gateway": "nil", "type": "private" },
            { "ip_address": droplet.spec.public_ip, "netmask": public.netmask, "gateway": public.gateway,
              "type": "public" },
        ],
        "v6": [],
    })
}

pub(super) fn address(world: &World<'_>, access: Access, address: &Address) -> Value {
    let holder = address.holder.and_then(|id| world.state.droplets.get(&id));
    json!({
        "ip": address.ip, "droplet": holder.map(|holder| droplet(world, access, holder)),
        "region": region_of(&address.region),
        "locked": address.gone.is_some() || world.state.pending(Subject::Address(address.ip)).is_some(),
        "project_id": PROJECT,
    })
}

/// An action; `address_type` is the resource type that addresses have under the path that was asked.
pub(super) fn action(world: &World<'_>, address_type: &str, action: &Action) -> Value {
    let (resource_id, resource_type, project) = match action.subject {
        Subject::Droplet(id) => (id, "droplet", None),
        Subject::Address(ip) => (u64::from(ip.to_bits()), address_type, Some(PROJECT)),
    };
    let mut value = json!({
        "id": action.id, "status": action.status, "type": action.kind, "started_at": stamp(action.started),
        "completed_at": action.ended.map(stamp), "resource_id": resource_id, "resource_type": resource_type,
        "region": region_of(&action.region), "region_slug": action.region,
    });
    if action.status == Status::Completed && world.settings.quirks.done_status {
        value["status"] = "done".into();
    }
    if let Some(project) = project {
        value["project_id"] = project.into();
    }
    value
}

pub(super) fn action_link(request: &Request, id: u64, rel: &str) -> Value {
    json!({ "id": id, "rel": rel, "href": request.href(&format!("/v2/actions/{id}")) })
}

pub(super) fn tag(world: &World<'_>, access: Access, name: &str) -> Value {
    let tagged: Vec<&Droplet> = world
        .state
        .droplets
        .values()
        .filter(|droplet| droplet.tags.contains(name) && is_listed(world.now, droplet))
        .collect();
    let none = json!({ "count": 0 });
    let last = tagged.last().map(|last| droplet(world, access, last));
    let droplets = match &last {
        Some(last) => json!({
            "count": tagged.len(), "last_tagged": last,
            "last_tagged_uri": format!("https://api.digitalocean.com/v2/droplets/{}", last["id"]),
        }),
        None => none.clone(),
    };
    let mut resources = json!({
        "count": tagged.len(), "droplets": droplets, "images": none, "volumes": none, "volume_snapshots": none,
        "databases": none,
    });
    if last.is_some() {
        resources["last_tagged_uri"] = droplets["last_tagged_uri"].clone();
    }
    json!({ "name": name, "resources": resources })
}

pub(super) fn is_listed(now: Millis, droplet: &Droplet) -> bool {
    droplet.listed <= now
}
