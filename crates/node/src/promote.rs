//! The promote hook: what repmgrd calls when this standby is to take over. It decides nothing: the guard that holds
//! the lease promotes by itself, and this only waits for it.

use std::time::Duration;

use anyhow::{Result, bail};
use cluster_contract::config::Config;
use cluster_contract::request::Request;
use cluster_contract::status::Server;

use super::{postgres, socket};

/// How long repmgrd may be kept waiting: its own bookkeeping stands still meanwhile.
const LIMIT: Duration = Duration::from_secs(10);

/// Succeeds when PostgreSQL takes writes.
///
/// # Errors
/// When this node has no grant, or the promotion does not end in time; repmgrd asks again.
pub async fn promote(config: &Config) -> Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        if postgres::role(config).await == Server::Primary {
            return Ok(());
        }
        let verdict = socket::verdict(&Request::MayPromote).await?;
        if !verdict.allowed {
            bail!("refused: {}", verdict.why);
        }
        if begun.elapsed() > LIMIT {
            bail!("the guard did not promote within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
