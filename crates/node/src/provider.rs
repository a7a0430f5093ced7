//! What a node asks the provider, with the token that may do little.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_cloud::{Client, Policy};
use cluster_contract::config::{Config, FloatingIp, Member};
use cluster_contract::paths;
use secrecy::SecretString;

/// An answer that takes longer is hardly worth having: the lease of a silent node ends by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// A client for the API that moves the address.
///
/// # Errors
/// When there is no token.
pub(super) fn client(floating_ip: &FloatingIp) -> Result<Client> {
    let token = std::fs::read_to_string(Path::new(paths::FAILOVER_TOKEN))
        .with_context(|| format!("cannot read {}", paths::FAILOVER_TOKEN))?;
    Ok(Client::new(&floating_ip.api_url, SecretString::from(token.trim()))?.with_policy(Policy::urgent()))
}

/// Whether `member`'s droplet is off, and nothing is being done to it.
///
/// # Errors
/// In the API's words, or that it does not answer in time.
pub(super) async fn is_off(config: &Config, member: &Member) -> Result<bool> {
    let (Some(floating_ip), Some(droplet)) = (&config.floating_ip, member.droplet_id) else {
        return Ok(false);
    };
    let client = client(floating_ip)?;
    let off = tokio::time::timeout(ANSWER_LIMIT, client.droplet_is_off(droplet, member.host)).await;
    Ok(off.context("the API does not answer in time")??)
}
