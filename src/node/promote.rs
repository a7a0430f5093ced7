//! The promote hook: what repmgrd calls when this standby is to take over.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::config::Config;
use super::decision;
use super::socket::{self, Request};
use super::view::{self, Local};

/// repmgr waits 30 s for the promotion; a little more for its own checks.
const PATIENCE: Duration = Duration::from_secs(45);
/// Only one promotion at a time. The directory is postgres's own.
const LOCK: &str = "/var/lib/postgresql/.cluster-promote.lock";

/// Promotes this node and asks the guard for the floating IP. Succeeds as soon as PostgreSQL takes writes: a hook that
/// fails after that would make repmgrd doubt a promotion that stands.
///
/// # Errors
/// When the promotion is refused or fails; nothing has changed then.
pub async fn promote(config: &Config) -> Result<()> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(LOCK)
        .context("cannot open the lock")?;
    if lock.try_lock().is_err() {
        bail!("another promotion is under way");
    }
    if view::local(config).await != Local::Primary {
        let verdict = decision::may_promote(&view::peers(config).await);
        if !verdict.allowed {
            bail!("refused: {}", verdict.why);
        }
        println!("promoting: {}", verdict.why);
        let mut command = Command::new(config.bin("repmgr"));
        command.args(["-f", "/etc/repmgr.conf", "standby", "promote"]);
        command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        let status =
            tokio::time::timeout(PATIENCE, command.status()).await.context("repmgr does not end")??;
        if !status.success() && view::local(config).await != Local::Primary {
            bail!("repmgr standby promote ended with {status}");
        }
    }
    if let Err(error) = socket::ask(Request::Promoted).await {
        // The guard looks by itself every few seconds.
        eprintln!("cannot tell the guard: {error:#}");
    }
    Ok(())
}
