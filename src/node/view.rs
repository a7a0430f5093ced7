//! Looking at PostgreSQL, here and on the other nodes, through psql: it is on every node, and speaks its TLS.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::config::{Config, Member};
use super::decision::{Answer, Peer};

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
    let text = std::fs::read_to_string(super::config::PATH)
        .with_context(|| format!("cannot read {}; `cluster up` writes it", super::config::PATH))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as it was written", super::config::PATH))
}

/// Runs one query on a member, as repmgr.
async fn query(config: &Config, member: &Member, sql: &str) -> Result<String> {
    let conninfo = Config::conninfo(member.host, config.port);
    let mut command = Command::new(config.bin("psql"));
    if rustix::process::getuid().is_root() {
        // The password file belongs to postgres, and libpq wants its reader to be its owner.
        let home = std::fs::metadata("/var/lib/postgresql").context("postgres has no home")?;
        command.uid(home.uid()).gid(home.gid());
    }
    command.args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", &conninfo, "-c", sql]);
    command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("no answer in time")??;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the other nodes say, asked all at once.
pub async fn peers(config: &Config) -> Vec<Peer> {
    const SQL: &str = "select pg_is_in_recovery(), \
                       (select node_id from repmgr.nodes where type = 'primary' and active limit 1)";
    let mut tasks = tokio::task::JoinSet::new();
    for member in config.peers() {
        let (config, member) = (config.clone(), member.clone());
        tasks.spawn(async move {
            let answer = query(&config, &member, SQL).await.ok().and_then(|row| {
                let (in_recovery, primary) = row.split_once('|')?;
                Some(Answer { in_recovery: in_recovery == "t", primary: primary.parse().ok() })
            });
            Peer { name: member.name, witness: member.witness, answer }
        });
    }
    tasks.join_all().await
}

/// What PostgreSQL on this node is.
pub async fn local(config: &Config) -> Local {
    match query(config, config.me(), "select pg_is_in_recovery()").await.as_deref() {
        Ok("f") => Local::Primary,
        Ok("t") => Local::Standby,
        _ => Local::Down,
    }
}
