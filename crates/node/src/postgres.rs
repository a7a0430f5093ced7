//! One look at PostgreSQL on this node, over a connection made for it: an old one would go on answering while a
//! postmaster that hangs lets nobody else in. `session` has the ways in.

mod session;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_contract::config::Config;
use cluster_contract::position::Lsn;
use cluster_contract::{Millis, Position, timing};
use tokio_postgres::{Client, SimpleQueryMessage};

use self::session::Refusal;
pub use self::session::options;
use super::clock;
use super::control::{Control, ControlState};

/// What PostgreSQL on this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has committed a heartbeat.
    Primary,
    /// It is a standby.
    Standby {
        /// The host that it streams from; none while it does not, or while nothing has come from there for [`QUIET`].
        from: Option<String>,
    },
    /// Its postmaster lives, and lets nobody in for now: it starts, replays or shuts down. In its words.
    Busy(String),
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

/// A primary commits a heartbeat more than once a second. What has sent nothing for so long, in milliseconds, is not
/// streamed from any more, though the receiver waits for twice as long before it says so: a standby that is to take over
/// must not be passed over by one that has lost sight of the primary a little earlier, and has less.
pub const QUIET: Millis = 2_500;

const ROLE: &str = "select pg_is_in_recovery()";
/// The row that every renewal of the lease stands on. Not replicated synchronously: a lost standby must not cost the
/// lease.
pub const HEARTBEAT: &str = "\
    insert into cluster_guard.heartbeat (node, at) values (current_setting('cluster_name'), clock_timestamp()) \
        on conflict (node) do update set at = excluded.at";
/// Where it stands, when it is the first of a cluster.
pub const TABLE: &str = "\
    create schema if not exists cluster_guard; \
    create table if not exists cluster_guard.heartbeat (node text primary key, at timestamptz not null)";
/// A commit that reaches the disk and needs no table: for when somebody has locked, changed or dropped ours.
const COMMIT: &str = "select pg_logical_emit_message(true, 'cluster-node', '')";
/// What a loss of power leaves.
pub const PRIMARY: &str = "\
    select pg_current_wal_flush_lsn(), ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int";
/// What a standby has. Of its timeline the control file learns with the next restart point only, and the receiver knows
/// it while it is connected.
pub const STANDBY: &str = "\
    select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
        greatest((select timeline_id from pg_control_checkpoint()), \
            (select min_recovery_end_timeline from pg_control_recovery()), received_tli), \
        coalesce(received_tli, 0), \
        case when status = 'streaming' \
            and clock_timestamp() - last_msg_receipt_time < 2500 * interval '1 ms' then sender_host end \
    from (select) as it left join pg_stat_wal_receiver on true";

/// Looks, within [`timing::HEARTBEAT`].
pub async fn look(config: &Config) -> Look {
    let began = clock::now();
    let limit = Duration::from_millis(timing::HEARTBEAT);
    let seen = match tokio::time::timeout(limit, ask(config)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) if error.is::<session::Busy>() => (State::Busy(format!("{error:#}")), None),
        Ok(Err(error)) => (State::Silent(format!("{error:#}")), None),
        Err(_) => (State::Silent(format!("no heartbeat within {} s", limit.as_secs())), None),
    };
    Look { began, at: clock::now(), state: seen.0, position: seen.1 }
}

/// A new session as repmgr, who is a superuser.
///
/// # Errors
/// When PostgreSQL does not let it in.
pub async fn connect(config: &Config) -> Result<Client> {
    session::open(config).await.map_err(Refusal::into_error)
}

/// A session for a short question: a new one, or, where a running server turns that away, the one in reserve.
///
/// # Errors
/// When there is neither.
pub async fn reach(config: &Config) -> Result<Arc<Client>> {
    match session::open(config).await {
        Ok(client) => Ok(Arc::new(client)),
        Err(Refusal::TurnedAway(error)) => session::kept().ok_or(error),
        Err(Refusal::Absent(error)) => Err(error),
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

async fn ask(config: &Config) -> Result<(State, Option<Position>)> {
    match session::open(config).await {
        Ok(client) => examine(config, &session::keep(client)).await,
        Err(Refusal::TurnedAway(error)) => {
            match session::kept() {
                Some(client) => examine(config, &client).await,
                None => Err(error
                    .context("it rejects new sessions, and the guard has no open session to test it with")),
            }
        }
        Err(Refusal::Absent(error)) => {
            session::forget();
            Err(error)
        }
    }
}

async fn examine(config: &Config, client: &Client) -> Result<(State, Option<Position>)> {
    if row(client, ROLE).await?[0] == "t" {
        let seen = row(client, STANDBY).await?;
        let mut timeline: u32 = seen[1].parse().context("not a timeline")?;
        if seen[2] == "0" {
            // Where it does not say either, the least that is known counts: a node is not made primary by a guess.
            timeline = timeline.max(session::replayed_timeline(config).await.unwrap_or(0));
        }
        let from = Some(seen[3].clone()).filter(|from| !from.is_empty());
        return Ok((State::Standby { from }, Some(Position { lsn: seen[0].parse::<Lsn>()?.0, timeline })));
    }
    beat(client).await?;
    let seen = row(client, PRIMARY).await?;
    let timeline = seen[1].parse().context("not a timeline")?;
    Ok((State::Primary, Some(Position { lsn: seen[0].parse::<Lsn>()?.0, timeline })))
}

/// Commits a heartbeat.
async fn beat(client: &Client) -> Result<()> {
    let Err(error) = client.batch_execute(HEARTBEAT).await else { return Ok(()) };
    // The first of a cluster.
    let missing = error.code().is_some_and(|code| ["42P01", "3F000"].contains(&code.code()));
    if missing && client.batch_execute(TABLE).await.is_ok() && client.batch_execute(HEARTBEAT).await.is_ok() {
        return Ok(());
    }
    // What is wrong with the table is none of the server's ability to write.
    client.batch_execute(COMMIT).await.with_context(|| format!("no heartbeat: {error}"))
}

/// The WAL of a PostgreSQL that does not run, and whether it was shut down cleanly: then nothing lies behind that position
/// but the shutdown's own record.
///
/// # Errors
/// When its control file cannot be read.
pub fn stopped(config: &Config) -> Result<(Position, bool)> {
    let control = Control::read(Path::new(&config.data_directory()))?;
    Ok((control.checkpoint, control.state == ControlState::ShutDown))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_question_to_a_standby_has_the_limit_in_it() {
        assert!(super::STANDBY.contains(&format!("{} * interval '1 ms'", super::QUIET)));
    }
}
