//! Observing PostgreSQL on this node, over a connection made for it each time: an old one would go on answering while a
//! postmaster that hangs lets nobody else in. `session` has the ways in.

mod session;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_contract::config::Config;
use cluster_contract::position::Lsn;
use cluster_contract::status::Server;
use cluster_contract::{Millis, WalPosition, timing};
use tokio_postgres::{Client, SimpleQueryMessage};

use self::session::ConnectError;
pub use self::session::options;
use super::clock;
use super::control_file::{ControlFile, DbState};

/// What PostgreSQL on this node was observed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It has committed a heartbeat.
    Primary,
    /// It is a standby.
    Standby {
        /// The host that it streams from; none while it does not, or while nothing has come from there for
        /// [`STREAM_SILENT_AFTER`].
        upstream: Option<String>,
    },
    /// Its postmaster lives, and lets nobody in for now: it starts, replays or shuts down. In its words.
    Busy(String),
    /// It does not answer: why, for people.
    Silent(String),
}

/// An observation of PostgreSQL on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerObservation {
    /// When it began.
    pub began: Millis,
    /// When it ended.
    pub at: Millis,
    pub state: ServerState,
    /// Its WAL; none where it does not answer.
    pub position: Option<WalPosition>,
}

/// A primary commits a heartbeat more than once a second. What has sent nothing for so long, in milliseconds, is not
/// streamed from any more, though the receiver waits for twice as long before it says so: a standby that is to take
/// over must not be passed over by one that has lost sight of the primary a little earlier, and has less.
pub const STREAM_SILENT_AFTER: Millis = 2_500;

/// A server that has not said what it is by then is taken for down.
const ROLE_LIMIT: Duration = Duration::from_secs(4);

const IS_STANDBY: &str = "select pg_is_in_recovery()";
/// The row that every renewal of the lease stands on. Not replicated synchronously: a lost standby must not cost the
/// lease.
pub const HEARTBEAT: &str = "\
    insert into cluster_guard.heartbeat (node, at) values (current_setting('cluster_name'), clock_timestamp()) \
        on conflict (node) do update set at = excluded.at";
/// Makes the table for it, where it is the first of a cluster.
pub const HEARTBEAT_TABLE: &str = "\
    create schema if not exists cluster_guard; \
    create table if not exists cluster_guard.heartbeat (node text primary key, at timestamptz not null)";
/// A commit that reaches the disk and needs no table: for when somebody has locked, changed or dropped ours.
const PLAIN_COMMIT: &str = "select pg_logical_emit_message(true, 'cluster-node', '')";
/// The WAL of a primary, and its timeline: what is flushed, and what a loss of power leaves.
pub const PRIMARY_POSITION: &str = "\
    select pg_current_wal_flush_lsn(), ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int";
/// The WAL of a standby, its timeline, and its upstream. The control file learns the timeline with the next restart
/// point only, and the receiver knows it while it is connected. What came later than now came before the clock was set
/// back, and a stream that is there brings more within a second.
pub const STANDBY_POSITION: &str = "\
    select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
        greatest((select timeline_id from pg_control_checkpoint()), \
            (select min_recovery_end_timeline from pg_control_recovery()), received_tli), \
        coalesce(received_tli, 0), \
        case when status = 'streaming' \
            and clock_timestamp() - last_msg_receipt_time between interval '0' and 2500 * interval '1 ms' \
            then sender_host end \
    from (select) as it left join pg_stat_wal_receiver on true";

/// Observes PostgreSQL, within [`timing::HEARTBEAT_TIMEOUT`].
pub async fn observe(config: &Config) -> ServerObservation {
    let began = clock::now();
    let limit = Duration::from_millis(timing::HEARTBEAT_TIMEOUT);
    let (state, position) = match tokio::time::timeout(limit, query_state(config)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is::<session::Busy>() => (ServerState::Busy(format!("{error:#}")), None),
        Ok(Err(error)) => (ServerState::Silent(format!("{error:#}")), None),
        Err(_) => (ServerState::Silent(format!("no heartbeat within {} s", limit.as_secs())), None),
    };
    ServerObservation { began, at: clock::now(), state, position }
}

/// A new session as repmgr, who is a superuser.
///
/// # Errors
/// When PostgreSQL does not let it in.
pub async fn connect(config: &Config) -> Result<Client> {
    session::open(config).await.map_err(ConnectError::into_error)
}

/// A session for a short question: a new one, or, where a running server rejects that, the one in reserve.
///
/// # Errors
/// When there is neither.
pub async fn connect_or_reuse(config: &Config) -> Result<Arc<Client>> {
    match session::open(config).await {
        Ok(client) => Ok(Arc::new(client)),
        Err(ConnectError::Rejected(error)) => session::reserved().ok_or(error),
        Err(ConnectError::Unavailable(error)) => Err(error),
    }
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

async fn query_state(config: &Config) -> Result<(ServerState, Option<WalPosition>)> {
    match session::open(config).await {
        Ok(client) => examine(config, &session::reserve(client)).await,
        Err(ConnectError::Rejected(error)) => {
            match session::reserved() {
                Some(client) => examine(config, &client).await,
                None => Err(error
                    .context("it rejects new sessions, and the guard has no open session to test it with")),
            }
        }
        Err(ConnectError::Unavailable(error)) => {
            session::drop_reserved();
            Err(error)
        }
    }
}

async fn examine(config: &Config, client: &Client) -> Result<(ServerState, Option<WalPosition>)> {
    if row(client, IS_STANDBY).await?[0] == "t" {
        let seen = row(client, STANDBY_POSITION).await?;
        let mut timeline: u32 = seen[1].parse().context("not a timeline")?;
        if seen[2] == "0" {
            // Where it does not say either, the least that is known counts: a node is not made primary by a guess.
            timeline = timeline.max(session::replayed_timeline(config).await.unwrap_or(0));
        }
        let upstream = Some(seen[3].clone()).filter(|host| !host.is_empty());
        return Ok((
            ServerState::Standby { upstream },
            Some(WalPosition { lsn: seen[0].parse::<Lsn>()?.0, timeline }),
        ));
    }
    commit_heartbeat(client).await?;
    let seen = row(client, PRIMARY_POSITION).await?;
    let timeline = seen[1].parse().context("not a timeline")?;
    Ok((ServerState::Primary, Some(WalPosition { lsn: seen[0].parse::<Lsn>()?.0, timeline })))
}

/// Commits a heartbeat.
async fn commit_heartbeat(client: &Client) -> Result<()> {
    let Err(error) = client.batch_execute(HEARTBEAT).await else { return Ok(()) };
    // The first of a cluster.
    let missing = error.code().is_some_and(|code| ["42P01", "3F000"].contains(&code.code()));
    if missing
        && client.batch_execute(HEARTBEAT_TABLE).await.is_ok()
        && client.batch_execute(HEARTBEAT).await.is_ok()
    {
        return Ok(());
    }
    // What is wrong with the table is none of the server's ability to write.
    client.batch_execute(PLAIN_COMMIT).await.with_context(|| format!("no heartbeat: {error}"))
}

/// Whether PostgreSQL on this node takes writes, for a program that waits for it.
pub async fn role(config: &Config) -> Server {
    let ask = async { row(&*connect_or_reuse(config).await?, IS_STANDBY).await };
    match tokio::time::timeout(ROLE_LIMIT, ask).await {
        Ok(Ok(row)) if row[0] == "f" => Server::Primary,
        Ok(Ok(_)) => Server::Standby,
        _ => Server::Down,
    }
}

/// The last checkpoint of a PostgreSQL that does not run, and whether it was shut down cleanly: then nothing lies
/// behind that position but the shutdown's own record.
///
/// # Errors
/// When its control file cannot be read.
pub fn shutdown_position(config: &Config) -> Result<(WalPosition, bool)> {
    let control = ControlFile::read(Path::new(&config.data_directory()))?;
    Ok((control.checkpoint, control.state == DbState::ShutDown))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_question_to_a_standby_has_the_limit_in_it() {
        assert!(
            super::STANDBY_POSITION.contains(&format!("{} * interval '1 ms'", super::STREAM_SILENT_AFTER))
        );
    }
}
