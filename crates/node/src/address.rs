//! The floating IP follows the primary, whatever the API says at the moment.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_cloud::{Pace, Policy};
use cluster_contract::config::Config;

use super::provider;

/// How long an answer is waited for once the API has shown that it takes its time.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes the floating IP lead to this node, if it does not yet. `patient` is for an API that has failed just now: it may
/// be slow rather than away.
///
/// # Errors
/// In the API's words. Trying again is the caller's.
pub async fn take(config: &Config, patient: bool) -> Result<bool> {
    let Some(floating_ip) = &config.floating_ip else { return Ok(false) };
    let IpAddr::V4(address) = floating_ip.address else {
        bail!("{} is not an IPv4 address", floating_ip.address)
    };
    let droplet = config.me().droplet_id.context("this node has no droplet id")?;
    let urgent = Policy::urgent();
    let policy = if patient { Policy { timeout: PATIENT_TIMEOUT, ..urgent } } else { urgent };
    let client = provider::client(floating_ip)?.with_policy(policy);
    let found = client.reserved_ip(address).await?;
    if found.as_ref().and_then(cluster_cloud::model::ReservedIp::holder) == Some(droplet) {
        return Ok(false);
    }
    client.assign(address, droplet, Pace::urgent()).await?;
    Ok(true)
}
