//! From a request to the part of the API that answers it.

use cluster_cloud::scope;

use super::catalog::Image;
use super::layout::Layout;
use super::settings::Settings;
use super::state::State;
use super::wire::{Millis, Reply, Request};

/// Everything that an answer depends on besides the request.
pub(super) struct World<'a> {
    /// What there is.
    pub(super) state: &'a mut State,
    /// How the lab is set.
    pub(super) settings: &'a Settings,
    /// Images on offer.
    pub(super) images: &'a [Image],
    /// Addresses on offer.
    pub(super) layout: &'a Layout,
    /// The time.
    pub(super) now: Millis,
}

impl World<'_> {
    /// Answers a request to `/v2` that came with a valid token.
    pub(super) fn answer(&mut self, request: &Request) -> Reply {
        if let Some(scope) = scope::needed(&request.method, &request.path)
            && !request.access.has(scope)
        {
            return Reply::error(403, "You do not have permission to perform this action.");
        }
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["account"]) => self.account(),
            (_, ["account", "keys", rest @ ..]) => self.keys(request, rest),
            ("GET", ["actions"]) => self.all_actions(request),
            ("GET", ["actions", id]) => self.any_action(id),
            (_, ["droplets", rest @ ..]) => self.droplets(request, rest),
            (_, ["reserved_ips", rest @ ..]) => self.addresses(request, rest, "reserved_ip"),
            (_, ["floating_ips", rest @ ..]) => self.addresses(request, rest, "floating_ip"),
            (_, ["spaces", "keys", rest @ ..]) => self.spaces_keys(request, rest),
            ("GET", ["images", rest @ ..]) => self.images(request, rest),
            ("GET", ["regions"]) => self.regions(request),
            ("GET", ["sizes"]) => self.sizes(request),
            (_, ["tags", rest @ ..]) => self.tags(request, rest),
            ("GET", ["vpcs", rest @ ..]) => self.vpcs(request, rest),
            (_, ["projects", rest @ ..]) => self.projects(request, rest),
            // Nobody here makes any: clients that list them before they go on find none.
            ("GET", ["firewalls"]) => Reply::page(request, "firewalls", Vec::new()),
            ("GET", ["volumes"]) => Reply::page(request, "volumes", Vec::new()),
            _ => Reply::not_found(),
        }
    }

    /// Answers a request, and lets the droplets that it asks for come to nothing.
    pub(super) fn answer_and_fail(&mut self, request: &Request) -> Reply {
        let last = self.state.last_action;
        let reply = self.answer(request);
        self.state.fail_creates(last);
        reply
    }
}
