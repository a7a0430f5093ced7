//! One look at PostgreSQL on this node, over a connection made for it: an old one would go on answering while a
//! postmaster that hangs lets nobody else in.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_postgres::SimpleQueryMessage;

use super::clock;
use super::config::Config;
use super::files;
use super::lease::{Millis, Position, timing};

/// What PostgreSQL on this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has committed a heartbeat.
    Primary,
    /// It is a standby.
    Standby {
        /// The host that it streams from; none while it does not.
        from: Option<String>,
    },
    /// It does not answer: why, in words.
    Silent(String),
}

/// What was seen, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When the look began.
    pub began: Millis,
    /// When it ended.
    pub at: Millis,
    /// What PostgreSQL is.
    pub state: State,
    /// Its WAL.
    pub position: Option<Position>,
}

const ROLE: &str = "select pg_is_in_recovery()";
/// The row that every renewal of the lease stands on. Not replicated synchronously: a lost standby must not cost the
/// lease. What is told is what a loss of power leaves, too.
const HEARTBEAT: &str = "\
    insert into cluster_guard.heartbeat (node, at) values (current_setting('cluster_name'), clock_timestamp()) \
        on conflict (node) do update set at = excluded.at; \
    select pg_current_wal_flush_lsn(), ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int, ''";
const TABLE: &str = "\
    create schema if not exists cluster_guard; \
    create table if not exists cluster_guard.heartbeat (node text primary key, at timestamptz not null)";
/// The timeline is the newest of which it has WAL: the control file learns of a promotion only with the next
/// checkpoint, and the receiver forgets it when its connection ends.
const STANDBY: &str = "\
    select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
        greatest((select timeline_id from pg_control_checkpoint()), (select received_tli from pg_stat_wal_receiver), \
            (select max(('x' || substr(name, 1, 8))::bit(32)::int) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$')), \
        coalesce((select sender_host from pg_stat_wal_receiver where status = 'streaming'), '')";

/// Looks, within [`timing::HEARTBEAT`].
pub async fn look(config: &Config) -> Look {
    let began = clock::now();
    let limit = Duration::from_millis(timing::HEARTBEAT);
    let seen = match tokio::time::timeout(limit, ask(config)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => (State::Silent(format!("{error:#}")), None),
        Err(_) => (State::Silent(format!("no heartbeat within {} s", limit.as_secs())), None),
    };
    Look { began, at: clock::now(), state: seen.0, position: seen.1 }
}

/// A connection as repmgr, who is a superuser and gets in when applications have taken every other one.
///
/// # Errors
/// When PostgreSQL does not let it in.
pub async fn connect(config: &Config) -> Result<tokio_postgres::Client> {
    let passwords =
        files::read(Path::new("/var/lib/postgresql/.pgpass")).context("cannot read repmgr's password")?;
    let password = passwords
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| line.split_once(":repmgr:")?.1.into())
        .context("there is no password of repmgr's in .pgpass")?;
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(Path::new("/var/run/postgresql"))
        .port(config.port)
        .user("repmgr")
        .password(password)
        .dbname("repmgr")
        .application_name("cluster-node")
        .options("-c synchronous_commit=local")
        .connect(tokio_postgres::NoTls)
        .await?;
    // It ends when the client is dropped; what it says the client says too.
    tokio::spawn(connection);
    Ok(client)
}

/// The last row of a query, as text.
///
/// # Errors
/// PostgreSQL's, or that there was no row.
pub async fn row(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await?;
    let row = messages.into_iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.context("no row")?;
    Ok((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
}

async fn ask(config: &Config) -> Result<(State, Option<Position>)> {
    let client = connect(config).await?;
    let standby = row(&client, ROLE).await?[0] == "t";
    let seen = if standby {
        row(&client, STANDBY).await?
    } else {
        match row(&client, HEARTBEAT).await {
            Ok(seen) => seen,
            // The first heartbeat of a cluster.
            Err(_) => {
                client.batch_execute(TABLE).await?;
                row(&client, HEARTBEAT).await?
            }
        }
    };
    let position = Position { lsn: lsn(&seen[0])?, timeline: seen[1].parse().context("not a timeline")? };
    let from = Some(seen[2].clone()).filter(|from| !from.is_empty());
    Ok((if standby { State::Standby { from } } else { State::Primary }, Some(position)))
}

/// `16/B374D848` as a number.
///
/// # Errors
/// When it is none.
pub fn lsn(text: &str) -> Result<u64> {
    let Some((high, low)) = text.split_once('/') else { bail!("`{text}` is not an LSN") };
    Ok(u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?)
}

/// The WAL of a PostgreSQL that does not run: what its control file says. One that was killed has what it wrote after its
/// last checkpoint besides.
///
/// # Errors
/// When the control file cannot be read.
pub fn stopped_position(config: &Config) -> Result<Position> {
    Ok(stopped(config)?.0)
}

/// The same, and whether it was shut down cleanly: then nothing lies behind that position but the shutdown's own record.
///
/// # Errors
/// When the control file cannot be read.
pub fn stopped(config: &Config) -> Result<(Position, bool)> {
    let text = files::said_as_postgres(&config.bin("pg_controldata"), &["-D", &config.data_directory()])?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .with_context(|| format!("pg_controldata does not tell the {name}"))
    };
    let position = Position {
        timeline: field("Latest checkpoint's TimeLineID")?.parse()?,
        lsn: lsn(field("Latest checkpoint location")?)?,
    };
    Ok((position, field("Database cluster state")? == "shut down"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_lsn_is_read_as_postgresql_writes_it() {
        assert_eq!(super::lsn("16/B374D848").unwrap(), 0x16_B374_D848);
        assert!(super::lsn("16").is_err());
    }
}
