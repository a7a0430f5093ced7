//! The inventory as it is written: the shape of the YAML, and nothing about what makes sense.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cluster: String,
    pub(super) provider: Provider,
    pub(super) postgresql: Postgresql,
    #[serde(default)]
    pub(super) databases: Vec<Database>,
    #[serde(default)]
    pub(super) users: Vec<User>,
    #[serde(default)]
    pub(super) clients: Vec<String>,
    #[serde(default = "yes")]
    pub(super) client_tls: bool,
    pub(super) nodes: Vec<Node>,
}

/// Exactly one of these; a map rather than a tag, so that the parser still knows the lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) digitalocean: Option<DigitalOcean>,
    pub(super) existing: Option<Existing>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DigitalOcean {
    pub(super) api_url: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) failover_token_file: Option<PathBuf>,
    pub(super) region: String,
    pub(super) size: String,
    pub(super) image: String,
    pub(super) ssh_key: Option<PathBuf>,
    pub(super) vpc: Option<String>,
    #[serde(default = "yes")]
    pub(super) floating_ip: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Existing {
    pub(super) ssh_user: Option<String>,
    pub(super) ssh_key: Option<PathBuf>,
    pub(super) floating_ip: Option<FloatingIp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FloatingIp {
    pub(super) address: String,
    pub(super) api_url: Option<String>,
    pub(super) failover_token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Postgresql {
    pub(super) version: u32,
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) owner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: Option<Scalar>,
    #[serde(default)]
    pub(super) superuser: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) id: u32,
    pub(super) role: String,
    pub(super) address: Option<String>,
    pub(super) connection_host: Option<String>,
    pub(super) host_key: Option<String>,
    pub(super) droplet_id: Option<u64>,
}

fn yes() -> bool {
    true
}

/// A value that a person may write with or without quotes: `200`, `on`, `16MB`, `0.9`.
#[derive(Clone)]
pub(super) struct Scalar(pub(super) String);

/// A password may stand here.
impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scalar(..)")
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a number, or on/off")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_bool<E>(self, on: bool) -> Result<Scalar, E> {
                Ok(Scalar(if on { "on" } else { "off" }.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads the YAML. What serde says is kept, with the key's path before it and a hint after it.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    let deserializer = serde_yaml::Deserializer::from_str(text);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let line = inner.location().map(|location| location.line() as u64);
        let message = inner.to_string();
        // The location is ours to print; the parser repeats it, and the path, in its text.
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        let key = if path == "." || path == "?" { String::new() } else { path };
        let message = message.strip_prefix(&format!("{key}: ")).unwrap_or(&message).to_owned();
        let hint = hint_for(&message);
        Problem { key, line, message, hint }
    })
}

fn hint_for(message: &str) -> Option<String> {
    if message.starts_with("unknown field") {
        Some("keys are checked so that a typing mistake cannot be taken for a wish".into())
    } else if message.starts_with("missing field") {
        Some("inventories/lab.yaml shows every required key".into())
    } else if message.contains("duplicate entry") || message.contains("duplicate field") {
        Some("keep one of the two".into())
    } else {
        None
    }
}
