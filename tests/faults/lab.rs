//! What a lab can do to its hosts and to its API.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::Lab;

impl Lab {
    /// A droplet's file, seen from outside: whoever waits for a login comes too late.
    pub(crate) fn file(&self, droplet: u64, path: &str) -> PathBuf {
        PathBuf::from(format!("/var/lib/cluster-lab/{}/droplets/{droplet}/root{path}", self.name))
    }

    /// The network namespace of a droplet.
    pub(crate) fn namespace(&self, droplet: u64) -> String {
        format!("cluster-lab-{}-{droplet}", self.name)
    }

    /// Changes settings of the lab while it runs.
    pub(crate) fn set(&self, settings: &Value) {
        self.control("PATCH", "settings", Some(settings));
    }

    /// Asks for a droplet's action and waits for nothing: the API may have a fault that hides its end.
    pub(crate) fn ask_power(&self, droplet: u64, kind: &str) {
        let action = serde_json::json!({ "type": kind });
        self.request("POST", &format!("/v2/droplets/{droplet}/actions"), Some(&action));
    }
}
