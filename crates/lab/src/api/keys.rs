//! `/v2/account/keys`.

use cluster_cloud::key::fingerprint;
use serde_json::json;

use super::render;
use super::route::World;
use super::state::Key;
use super::wire::{Reply, Request};

impl World<'_> {
    pub(super) fn keys(&mut self, request: &Request, rest: &[&str]) -> Reply {
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                Reply::page(request, "ssh_keys", self.state.keys.values().map(render::key).collect())
            }
            ("POST", []) => self.create_key(request),
            (method, [which]) => {
                let Some(id) = self.find_key(which).map(|key| key.id) else { return Reply::not_found() };
                match method {
                    "DELETE" => {
                        self.state.keys.remove(&id);
                        Reply::empty()
                    }
                    "PUT" | "GET" => {
                        if let (Some(key), Some(name)) = (self.state.keys.get_mut(&id), request.text("name"))
                        {
                            key.name = name.to_owned();
                        }
                        Reply::ok(200, json!({ "ssh_key": self.state.keys.get(&id).map(render::key) }))
                    }
                    _ => Reply::not_found(),
                }
            }
            _ => Reply::not_found(),
        }
    }

    /// A key by its number or fingerprint.
    pub(super) fn find_key(&self, which: &str) -> Option<&Key> {
        self.state.keys.values().find(|key| key.fingerprint == which || key.id.to_string() == which)
    }

    fn create_key(&mut self, request: &Request) -> Reply {
        let (Some(name), Some(public_key)) = (request.text("name"), request.text("public_key")) else {
            return Reply::invalid("Name can't be blank");
        };
        if name.trim().is_empty() {
            return Reply::invalid("Name can't be blank");
        }
        let Some(fingerprint) = fingerprint(public_key) else {
            return Reply::invalid("Key invalid, key should be of the format `type key [comment]`");
        };
        if self.find_key(&fingerprint).is_some() {
            return Reply::invalid("SSH Key is already in use on your account");
        }
        self.state.last_key += 1;
        let key = Key {
            id: self.state.last_key,
            name: name.to_owned(),
            public_key: public_key.to_owned(),
            fingerprint,
        };
        let body = json!({ "ssh_key": render::key(&key) });
        self.state.keys.insert(key.id, key);
        Reply::ok(201, body)
    }
}
