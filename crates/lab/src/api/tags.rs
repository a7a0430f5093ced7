//! `/v2/tags`. What makes a tag decides how it is spelled: another spelling finds the same tag where things are made with
//! it, and nothing as part of a path or query.

use cluster_cloud::names::is_tag;
use serde_json::{Value, json};

use super::render;
use super::route::World;
use super::wire::{Reply, Request};

impl World<'_> {
    pub(super) fn tags(&mut self, request: &Request, rest: &[&str]) -> Reply {
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                let all =
                    self.state.tags.iter().map(|name| render::tag(self, request.access, name)).collect();
                Reply::page(request, "tags", all)
            }
            ("POST", []) => match request.text("name").filter(|name| is_tag(name)) {
                Some(name) => {
                    let name = self.state.spelled(name);
                    self.state.tags.insert(name.clone());
                    Reply::ok(201, json!({ "tag": render::tag(self, request.access, &name) }))
                }
                // The one error of the API that has another shape.
                None => Reply::ok(
                    400,
                    json!({ "error": "tag name is invalid", "messages": null, "root_causes": ["tag name is invalid"] }),
                ),
            },
            (_, [name, ..]) if !self.state.tags.contains(*name) => Reply::not_found(),
            ("GET", [name]) => Reply::ok(200, json!({ "tag": render::tag(self, request.access, name) })),
            ("DELETE", [name]) => {
                self.state.tags.remove(*name);
                for droplet in self.state.droplets.values_mut() {
                    droplet.tags.remove(*name);
                }
                Reply::empty()
            }
            (method @ ("POST" | "DELETE"), [name, "resources"]) => {
                self.tag_resources(request, name, method == "POST")
            }
            _ => Reply::not_found(),
        }
    }

    fn tag_resources(&mut self, request: &Request, tag: &str, add: bool) -> Reply {
        let resources = request.body.get("resources").and_then(Value::as_array);
        let Some(resources) = resources else { return Reply::invalid("resources can't be blank") };
        let mut ids = Vec::new();
        for resource in resources {
            // Ids are strings by the book; numbers are taken too.
            let id = match &resource["resource_id"] {
                Value::String(text) => text.parse().ok(),
                other => other.as_u64(),
            };
            let known = id.filter(|id| self.state.droplets.contains_key(id));
            match known {
                Some(id) if resource["resource_type"] == "droplet" => ids.push(id),
                _ => return Reply::not_found(),
            }
        }
        for id in ids {
            if let Some(droplet) = self.state.droplets.get_mut(&id) {
                if add {
                    droplet.tags.insert(tag.to_owned());
                } else {
                    droplet.tags.remove(tag);
                }
            }
        }
        Reply::empty()
    }
}
