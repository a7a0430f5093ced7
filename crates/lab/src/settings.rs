//! What a lab is started with.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::home::{self, Home};
use super::{LabName, Subnets, api, spaces};

/// From the API's port to that of Spaces.
const SPACES: u16 = 1000;

/// Kept in the lab's home for the daemon, and for whatever comes after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSettings {
    /// Its name.
    pub name: LabName,
    /// The port of its API, on loopback and on the public network.
    pub port: u16,
    /// Its address ranges.
    pub subnets: Subnets,
    /// How its API behaves.
    pub api: api::Settings,
}

impl LabSettings {
    /// Where the API is, for the operator and on every droplet.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port of Spaces, on loopback and on the public network: a fixed way from the API's.
    pub fn spaces_port(&self) -> u16 {
        self.port.checked_add(SPACES).unwrap_or(self.port - SPACES)
    }

    /// Where Spaces is: by name on every droplet, and on loopback for the operator.
    pub fn spaces_endpoint(&self) -> String {
        format!("https://{}:{}", spaces::HOST, self.spaces_port())
    }

    /// The settings of the lab of this name; `None` if there is none.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn load(name: &LabName) -> Result<Option<Self>> {
        let file = Home::of(name).settings();
        match fs::read(&file) {
            Ok(json) => serde_json::from_slice(&json)
                .with_context(|| format!("cannot parse {}", file.display()))
                .map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    pub(crate) fn save(&self) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).context("cannot write the lab's settings")?;
        home::write(&Home::of(&self.name).settings(), 0o644, &json)
    }

    /// The settings of all labs on this machine whose settings can be read.
    pub(crate) fn all() -> Result<Vec<Self>> {
        Ok(home::all()?.iter().filter_map(|name| Self::load(name).ok().flatten()).collect())
    }
}
