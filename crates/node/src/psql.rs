//! PostgreSQL's and repmgr's own programs, run as postgres: they are on every node and speak its TLS.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::{Config, Member};
use cluster_contract::paths;
use tokio::process::Command;

/// A peer that has not answered by then is taken for silent. Connecting takes two seconds at most.
const QUERY_TIMEOUT: Duration = Duration::from_secs(4);

/// Has a command run as postgres, if this program runs as root.
///
/// # Errors
/// When there is no postgres here.
pub(super) fn become_postgres(command: &mut Command) -> Result<()> {
    if rustix::process::getuid().is_root() {
        let home =
            std::fs::metadata(paths::POSTGRES_HOME).context("cannot find the home directory of postgres")?;
        command.uid(home.uid()).gid(home.gid());
    }
    Ok(())
}

/// Runs one of PostgreSQL's or repmgr's programs as postgres, and returns what it printed.
///
/// # Errors
/// When it fails or does not end within `limit`; the error has the last lines that it wrote.
pub(super) async fn as_postgres(
    config: &Config,
    program: &str,
    args: &[&str],
    limit: Duration,
) -> Result<String> {
    let mut command = Command::new(config.bin(program));
    // The password file belongs to postgres, and libpq wants its reader to be its owner.
    become_postgres(&mut command)?;
    command
        .args(args)
        .current_dir("/")
        .env("HOME", paths::POSTGRES_HOME)
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
pub(super) async fn query(config: &Config, member: &Member, sql: &str) -> Result<String> {
    let conninfo = Config::conninfo(member.host, config.port, config.version);
    as_postgres(
        config,
        "psql",
        &["-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", &conninfo, "-c", sql],
        QUERY_TIMEOUT,
    )
    .await
}
