//! PostgreSQL's unit, through systemctl. Nothing here waits without an end.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::Config;
use tokio::process::Command;

use crate::processes;

/// For what systemd does at once.
const AT_ONCE_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn systemctl(words: &[&str], limit: Duration) -> Result<String> {
    let mut command = Command::new("systemctl");
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let what = words.join(" ");
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("systemctl {what} timed out"))?
        .context("cannot run systemctl")?;
    if !output.status.success() {
        bail!("systemctl {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks systemd to start it, and does not wait for that. A unit that an earlier start has left half way without a
/// process is ended first: systemd would go on waiting for it.
pub(super) async fn begin(config: &Config) -> Result<()> {
    if processes::list(config)?.is_empty() {
        clear(config).await?;
    }
    systemctl(&["--no-block", "start", &config.unit()], AT_ONCE_LIMIT).await?;
    Ok(())
}

/// Ends what is left of a unit that has no processes.
pub(super) async fn clear(config: &Config) -> Result<()> {
    let unit = config.unit();
    let state = systemctl(&["show", "-p", "ActiveState", "--value", &unit], AT_ONCE_LIMIT).await?;
    if !["inactive", "failed"].contains(&state.as_str())
        && systemctl(&["stop", &unit], AT_ONCE_LIMIT).await.is_err()
    {
        // It may have ended in between.
        let _ = systemctl(&["kill", "-s", "KILL", &unit], AT_ONCE_LIMIT).await;
        systemctl(&["stop", &unit], AT_ONCE_LIMIT).await?;
    }
    // It may not have failed.
    let _ = systemctl(&["reset-failed", &unit], AT_ONCE_LIMIT).await;
    Ok(())
}

/// Whether systemd has ended the attempt to start it.
pub(super) async fn has_ended(config: &Config) -> bool {
    let state = systemctl(&["show", "-p", "ActiveState", "--value", &config.unit()], AT_ONCE_LIMIT).await;
    state.is_ok_and(|state| ["inactive", "failed"].contains(&state.as_str()))
}
