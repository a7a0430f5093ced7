//! `/v2/droplets`.

use std::collections::BTreeSet;

use cluster_cloud::names::is_tag;
use serde_json::{Value, json};

use super::catalog::{Image, Region, Size};
use super::render;
use super::route::World;
use super::state::{Droplet, Kind, Power, Subject, Wish};
use super::wire::{Reply, Request};
use crate::machine::MachineSpec;

/// Most bytes of user data.
const USER_DATA_LIMIT: usize = 64 * 1024;

/// A droplet that was asked for, checked but for its name.
struct Order {
    region: &'static Region,
    size: &'static Size,
    image: String,
    ssh_keys: Vec<String>,
    user_data: Option<String>,
    vpc: String,
    tags: BTreeSet<String>,
}

impl World<'_> {
    pub(super) fn droplets(&mut self, request: &Request, rest: &[&str]) -> Reply {
        match (request.method.as_str(), rest) {
            ("GET", []) => return self.list_droplets(request),
            ("POST", []) => return self.create_droplets(request).unwrap_or_else(|refused| refused),
            ("DELETE", []) => return self.delete_by_tag(request),
            ("POST", ["actions"]) => return self.act_by_tag(request),
            _ => {}
        }
        let Some((id, rest)) = rest.split_first() else { return Reply::not_found() };
        let Some(droplet) = id.parse().ok().and_then(|id: u64| self.state.droplets.get(&id)) else {
            return Reply::not_found();
        };
        let (id, subject) = (droplet.spec.id, Subject::Droplet(droplet.spec.id));
        match (request.method.as_str(), rest) {
            ("GET", _) if droplet.readable > self.now => Reply::not_found(),
            ("GET", []) => {
                Reply::ok(200, json!({ "droplet": render::droplet(self, request.access, droplet) }))
            }
            ("DELETE", []) => self.delete_droplet(id),
            ("GET", ["actions"]) => self.actions_of(request, subject, "reserved_ip"),
            ("GET", ["actions", action]) => self.action_of(subject, action, "reserved_ip"),
            ("POST", ["actions"]) => self.act_on_droplet(request, id),
            ("GET", ["neighbors"]) => Reply::ok(200, json!({ "droplets": [] })),
            ("GET", ["firewalls"]) => Reply::page(request, "firewalls", Vec::new()),
            _ => Reply::not_found(),
        }
    }

    fn list_droplets(&self, request: &Request) -> Reply {
        let (tag, name) = (request.query.get("tag_name"), request.query.get("name"));
        if tag.is_some() && name.is_some() {
            return Reply::invalid("tag_name cannot be combined with name");
        }
        let wanted = |droplet: &&Droplet| {
            render::is_listed(self.now, droplet)
                && tag.is_none_or(|tag| droplet.tags.contains(tag))
                && name.is_none_or(|name| droplet.spec.name.eq_ignore_ascii_case(name))
        };
        let found = self.state.droplets.values().filter(wanted);
        Reply::page(
            request,
            "droplets",
            found.map(|found| render::droplet(self, request.access, found)).collect(),
        )
    }

    /// The answer to a create; `Err` is the refusal.
    fn create_droplets(&mut self, request: &Request) -> Result<Reply, Reply> {
        let single = request.text("name");
        let names = match (single, request.body.get("names")) {
            (Some(name), None) => vec![name.to_owned()],
            (None, Some(_)) => request.texts("names")?,
            _ => return Err(Reply::invalid("Name can't be blank")),
        };
        if names.is_empty() || names.len() > 10 || !names.iter().all(|name| is_host_name(name)) {
            return Err(Reply::invalid(
                "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
            ));
        }
        let order = self.order(request)?;
        if (self.state.droplets.len() + names.len()) as u64 > self.settings.limits.droplets {
            return Err(Reply::invalid("creating this/these droplet(s) will exceed your droplet limit"));
        }
        let mut made = Vec::new();
        for name in &names {
            made.push(self.make(&order, name)?);
        }
        let show = |(id, _): &(u64, u64)| {
            self.state.droplets.get(id).map(|droplet| render::droplet(self, request.access, droplet))
        };
        let droplets: Vec<_> = made.iter().map(show).collect();
        let links: Vec<Value> =
            made.iter().map(|(_, action)| render::action_link(request, *action, "create")).collect();
        let links = json!({ "actions": links });
        Ok(Reply::ok(
            202,
            match single {
                Some(_) => json!({ "droplet": droplets.first(), "links": links }),
                None => json!({ "droplets": droplets, "links": links }),
            },
        ))
    }

    /// Checks everything about a create but the names.
    fn order(&self, request: &Request) -> Result<Order, Reply> {
        let refused = |message: &str| Reply::invalid(message);
        let size = request.text("size").and_then(Size::find);
        let size = size.ok_or_else(|| refused("You specified an invalid size for Droplet creation."))?;
        let vpc = request.text_or_none("vpc_uuid")?;
        let mut regions = Region::meant(request.text_or_none("region")?);
        if regions.is_empty() {
            return Err(refused("You specified an invalid region for Droplet creation."));
        }
        regions.retain(|region| region.available);
        if regions.is_empty() {
            return Err(refused("Region is not available"));
        }
        regions.retain(|region| size.is_in(region.slug));
        if regions.is_empty() {
            let mut reply = refused("Size is not available in this region.");
            if let Some(body) = &mut reply.body {
                body["error_attributes"] = json!({ "available_regions": size.regions() });
            }
            return Err(reply);
        }
        regions.retain(|region| vpc.is_none_or(|id| id == region.vpc()));
        let Some(&region) = regions.first() else {
            return Err(refused("VPC is not available in this region."));
        };
        let image = match request.body.get("image") {
            Some(Value::String(slug)) => slug.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let image = Image::find(self.images, &image).map(|(_, image)| image.slug.clone());
        let image = image.ok_or_else(|| refused("You specified an invalid image for Droplet creation."))?;
        let mut ssh_keys = Vec::new();
        for key in request.list("ssh_keys", |key| key.is_string() || key.is_u64())? {
            let which = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            let found = self.find_key(&which).map(|key| key.public_key.clone());
            ssh_keys.push(found.ok_or_else(|| {
                refused(&format!("{which} are invalid key identifiers for Droplet creation."))
            })?);
        }
        let tags = request.texts("tags")?;
        if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
            return Err(refused(&format!("tag {tag} is invalid")));
        }
        let tags = tags.iter().map(|tag| self.state.spelled(tag)).collect();
        let user_data = request.text_or_none("user_data")?.map(str::to_owned);
        if user_data.as_ref().is_some_and(|data| data.len() > USER_DATA_LIMIT) {
            return Err(refused("User data is too long (maximum is 64 KiB)"));
        }
        // There are none here.
        if !request.list("volumes", |_| true)?.is_empty() {
            return Err(refused("volumes are invalid"));
        }
        let vpc = region.vpc();
        Ok(Order { region, size, image, ssh_keys, user_data, vpc, tags })
    }

    /// Makes a droplet and returns its id and that of the action that does it.
    fn make(&mut self, order: &Order, name: &str) -> Result<(u64, u64), Reply> {
        let droplets = &self.state.droplets;
        let exhausted = || Reply::invalid("The region has no addresses left.");
        let free = |range: super::layout::Range, of: fn(&MachineSpec) -> std::net::Ipv4Addr| {
            range.free(|ip| droplets.values().any(|droplet| of(&droplet.spec) == ip)).ok_or_else(exhausted)
        };
        let public_ip = free(self.layout.public, |spec| spec.public_ip)?;
        let private_ip = free(self.layout.private, |spec| spec.private_ip)?;
        let anchor_ip = free(self.layout.anchor, |spec| spec.anchor_ip)?;
        self.state.last_droplet += 1;
        let (id, times) = (self.state.last_droplet, &self.settings.times);
        let spec = MachineSpec {
            id,
            name: name.to_owned(),
            image: order.image.clone(),
            memory: order.size.memory,
            region: order.region.slug.to_owned(),
            ssh_keys: order.ssh_keys.clone(),
            user_data: order.user_data.clone(),
            public_ip,
            private_ip,
            anchor_ip,
        };
        let droplet = Droplet {
            spec,
            size: order.size.slug.to_owned(),
            disk: None,
            vpc: order.vpc.clone(),
            tags: order.tags.clone(),
            power: Power::New,
            created: self.now,
            readable: self.now.saturating_add_unsigned(times.droplet_readable),
            listed: self.now.saturating_add_unsigned(times.droplet_listed),
            networks: None,
        };
        self.state.tags.extend(order.tags.iter().cloned());
        self.state.droplets.insert(id, droplet);
        let action = self.state.begin(Kind::Create, Subject::Droplet(id), None, self.now, times.create);
        if let Some(action) = self.state.actions.get_mut(&action) {
            action.network = times.network;
        }
        Ok((id, action))
    }

    fn delete_droplet(&mut self, id: u64) -> Reply {
        if self.state.pending(Subject::Droplet(id)).is_some() {
            return Reply::droplet_busy();
        }
        self.state.begin(Kind::Destroy, Subject::Droplet(id), None, self.now, self.settings.times.delete);
        Reply::empty()
    }

    fn delete_by_tag(&mut self, request: &Request) -> Reply {
        let Some(ids) = self.tagged(request) else { return Reply::invalid("tag_name is required") };
        for id in ids {
            self.delete_droplet(id);
        }
        Reply::empty()
    }

    /// The droplets with the tag that a request names; `None` if it names none.
    fn tagged(&self, request: &Request) -> Option<Vec<u64>> {
        let tag = request.query.get("tag_name").filter(|tag| !tag.is_empty())?;
        let with = self.state.droplets.values().filter(|droplet| droplet.tags.contains(tag));
        Some(with.map(|droplet| droplet.spec.id).collect())
    }

    fn act_on_droplet(&mut self, request: &Request, id: u64) -> Reply {
        let (kind, wish, takes) = match request.text("type") {
            Some("resize") => match self.resize(request, id) {
                Ok(wish) => (Kind::Resize, Some(wish), self.settings.times.resize),
                Err(refused) => return refused,
            },
            Some("rename") => match request.text("name").filter(|name| is_host_name(name)) {
                Some(name) => (Kind::Rename, Some(Wish::Name(name.to_owned())), self.settings.times.power),
                None => {
                    return Reply::invalid(
                        "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
                    );
                }
            },
            _ => match power_action(request) {
                Some(kind) => (kind, None, self.settings.times.power),
                None => return Reply::invalid("type is invalid"),
            },
        };
        if self.state.pending(Subject::Droplet(id)).is_some() {
            return Reply::droplet_busy();
        }
        let action = self.state.begin(kind, Subject::Droplet(id), None, self.now, takes);
        if let Some(action) = self.state.actions.get_mut(&action) {
            action.wish = wish;
        }
        let body = self.state.actions.get(&action).map(|action| render::action(self, "reserved_ip", action));
        Reply::ok(201, json!({ "action": body }))
    }

    /// What a resize would make of a droplet, or why it cannot. That one which runs is refused is in DigitalOcean's
    /// documentation, and so is what happens to disks; the words of the first refusal are not known.
    fn resize(&self, request: &Request, id: u64) -> Result<Wish, Reply> {
        let droplet = self.state.droplets.get(&id).ok_or_else(Reply::not_found)?;
        let size = request.text("size").and_then(Size::find);
        let size = size.ok_or_else(|| Reply::invalid("You specified an invalid size for Droplet resize."))?;
        if !size.is_in(&droplet.spec.region) {
            return Err(Reply::invalid("Size is not available in this region."));
        }
        let disk =
            droplet.disk.or_else(|| Size::find(&droplet.size).map(|size| size.disk)).unwrap_or_default();
        if size.disk < disk {
            return Err(Reply::invalid("Size can not decrease size of Droplet's disk image"));
        }
        let grows = request.body.get("disk").and_then(Value::as_bool) == Some(true) && size.disk > disk;
        if size.slug == droplet.size && !grows {
            return Err(Reply::invalid("Droplet already has this size."));
        }
        if droplet.power != Power::Off {
            return Err(Reply::invalid("Droplet must be powered off to be resized."));
        }
        Ok(Wish::Size(size.slug.to_owned(), if grows { size.disk } else { disk }))
    }

    fn act_by_tag(&mut self, request: &Request) -> Reply {
        // All that can be done to one droplet, but not this.
        let Some(kind) = power_action(request).filter(|kind| *kind != Kind::Reboot) else {
            return Reply::invalid("type is invalid");
        };
        let Some(ids) = self.tagged(request) else { return Reply::invalid("tag_name is required") };
        if ids.iter().any(|id| self.state.pending(Subject::Droplet(*id)).is_some()) {
            return Reply::droplet_busy();
        }
        let takes = self.settings.times.power;
        let begun: Vec<u64> = ids
            .into_iter()
            .map(|id| self.state.begin(kind, Subject::Droplet(id), None, self.now, takes))
            .collect();
        let show =
            |id: &u64| self.state.actions.get(id).map(|action| render::action(self, "reserved_ip", action));
        Reply::ok(201, json!({ "actions": begun.iter().map(show).collect::<Vec<_>>() }))
    }
}

fn power_action(request: &Request) -> Option<Kind> {
    Some(match request.text("type")? {
        "power_on" => Kind::PowerOn,
        "power_off" => Kind::PowerOff,
        "shutdown" => Kind::Shutdown,
        "reboot" => Kind::Reboot,
        "power_cycle" => Kind::PowerCycle,
        _ => return None,
    })
}

/// `^[a-zA-Z0-9]?[a-z0-9A-Z.\-]*[a-z0-9A-Z]$`, at most 255 characters.
fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    name.len() <= 255
        && name.bytes().all(plain)
        && name.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}
