//! Looking at PostgreSQL: on the other nodes through psql, which is on every node and speaks its TLS; on this one in a
//! session of our own.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::{Config, Member};
use cluster_contract::paths;
use tokio::process::Command;

use super::postgres;

/// A peer that has not answered by then is taken for silent. Connecting takes two seconds at most.
const PATIENCE: Duration = Duration::from_secs(4);

/// PostgreSQL on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// It does not answer.
    Down,
    /// It takes writes.
    Primary,
    /// It is a standby.
    Standby,
}

/// Reads the configuration.
///
/// # Errors
/// When the file is missing or not what `cluster up` writes.
pub fn config() -> Result<Config> {
    let text = std::fs::read_to_string(paths::CONFIG)
        .with_context(|| format!("cannot read {}; `cluster up` writes it", paths::CONFIG))?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged", paths::CONFIG))
}

/// Runs one of PostgreSQL's or repmgr's programs as postgres, and returns what it printed.
///
/// # Errors
/// When it fails or does not end within `limit`; the error has the last lines that it wrote.
pub async fn as_postgres(config: &Config, program: &str, args: &[&str], limit: Duration) -> Result<String> {
    let mut command = Command::new(config.bin(program));
    if rustix::process::getuid().is_root() {
        // The password file belongs to postgres, and libpq wants its reader to be its owner.
        let home =
            std::fs::metadata("/var/lib/postgresql").context("cannot find the home directory of postgres")?;
        command.uid(home.uid()).gid(home.gid());
    }
    command
        .args(args)
        .current_dir("/")
        .env("HOME", "/var/lib/postgresql")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{program} did not finish within {} s", limit.as_secs()))?
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        bail!("{program}: {}", last.into_iter().rev().collect::<Vec<_>>().join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs one query on a member, as repmgr.
///
/// # Errors
/// When there is no answer in time.
pub async fn query(config: &Config, member: &Member, sql: &str) -> Result<String> {
    let conninfo = Config::conninfo(member.host, config.port, config.version);
    as_postgres(config, "psql", &["-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", &conninfo, "-c", sql], PATIENCE)
        .await
}

/// What PostgreSQL on this node is.
pub async fn local(config: &Config) -> Local {
    let ask = async {
        let client = postgres::reach(config).await?;
        postgres::row(&client, "select pg_is_in_recovery()").await
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(row)) if row[0] == "f" => Local::Primary,
        Ok(Ok(_)) => Local::Standby,
        _ => Local::Down,
    }
}
