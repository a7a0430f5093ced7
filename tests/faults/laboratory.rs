//! What a laboratory can do to its hosts and to its API.

use serde_json::Value;

use crate::harness::{Lab, Run};

impl Lab {
    /// `cluster lab …` on this laboratory.
    pub(crate) fn lab(&self, words: &[&str]) -> Run {
        self.cluster(&[&["lab"], words, &["--name", &self.name]].concat())
    }

    /// The network namespace of a droplet.
    pub(crate) fn namespace(&self, droplet: u64) -> String {
        format!("cluster-lab-{}-{droplet}", self.name)
    }

    /// Changes settings of the laboratory while it runs.
    pub(crate) fn set(&self, settings: &Value) {
        self.control("PATCH", "settings", Some(settings));
    }

    /// Asks for a droplet's action and waits for nothing: the API may have a fault that hides its end.
    pub(crate) fn ask_power(&self, droplet: u64, kind: &str) {
        let action = serde_json::json!({ "type": kind });
        self.request("POST", &format!("/v2/droplets/{droplet}/actions"), Some(&action));
    }
}
