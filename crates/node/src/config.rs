//! This node's configuration, as `cluster up` has written it.

use anyhow::{Context as _, Result};
use cluster_contract::config::Config;
use cluster_contract::paths;

/// Reads the configuration.
///
/// # Errors
/// When the file is missing or not what `cluster up` writes.
pub fn read() -> Result<Config> {
    let text = std::fs::read_to_string(paths::CONFIG)
        .with_context(|| format!("cannot read {}; `cluster up` writes it", paths::CONFIG))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", paths::CONFIG))
}
