//! The primary stops, for another to take over.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::{Config, Member};
use cluster_contract::journal::Event;
use cluster_contract::position::Lsn;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::{ANSWER_LIMIT, readers, unit};
use crate::journal;
use crate::postgres::ServerState;
use crate::{postgres, processes, psql, store};

/// For a checkpoint before the stop, which spares the shutdown most of its own. A large server writes for minutes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);
/// The lease is kept for as long as this job lasts, whatever PostgreSQL does. So one that has committed nothing for so
/// long ends it.
const SILENT_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// A fast shutdown waits for a checkpoint and for walsenders.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The shutdown itself waits for the successor's walsender; a successor that lacks something after that has vanished,
/// and the primary goes on.
const END_LIMIT: Duration = Duration::from_secs(5);
/// One that says nothing may only be slow. Nobody takes writes meanwhile.
const SAY_LIMIT: Duration = Duration::from_secs(12);
/// For so long the successor may catch up before anything is stopped.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);
/// How often its progress is polled.
const POLL: Duration = Duration::from_millis(100);
/// Replay that has something to replay and has not moved for so long waits for a reader.
const REPLAY_BLOCKED_AFTER: Duration = Duration::from_millis(300);
/// So little is on its way at any moment.
const IN_FLIGHT_BYTES: u64 = 128 << 10;
/// A successor that has received everything replays so much in a moment.
const REPLAY_BACKLOG_BYTES: u64 = 16 << 20;

/// Stops the primary cleanly and makes sure that `successor` has everything. The lease is handed over after that.
pub(in crate::guard) async fn hand_over(config: Config, successor: Member) -> Result<String> {
    // Nothing else is begun here while this goes on, so nothing of it may hang.
    let client =
        timeout(ANSWER_LIMIT, postgres::connect(&config)).await.context("PostgreSQL does not answer")??;
    catch_up(&config, &client, &successor).await?;
    checkpoint(&config, &client).await?;
    // It has written much, and has taken its time.
    catch_up(&config, &client, &successor).await?;
    drop(client);
    // Nobody starts, and nobody hands a lease over, in a pause.
    if store::paused().is_some() {
        bail!("a pause has begun meanwhile; nothing was stopped");
    }
    let begun = Instant::now();
    if let Err(error) = unit::systemctl(&["stop", &config.unit()], STOP_LIMIT).await {
        // What is half way down serves nobody, and the successor does not have its end. Killed, it can be started again
        // here.
        let killed = processes::kill(&config)?;
        bail!("PostgreSQL did not stop, and {killed} of its processes were killed: {error:#}");
    }
    let (end, clean) = postgres::shutdown_position(&config)?;
    if !clean {
        bail!("PostgreSQL was not shut down cleanly: its last writes may exist only on this node");
    }
    // The shutdown's own record lies behind this; whoever has more than its beginning has all.
    let sql = "select pg_last_wal_receive_lsn()";
    let stopped = Instant::now();
    loop {
        let has = psql::query(&config, &successor, sql).await.and_then(|text| Ok(text.parse::<Lsn>()?.0));
        match has {
            Ok(has) if has > end.lsn => break,
            Ok(_) if stopped.elapsed() > END_LIMIT => {
                bail!("{} did not receive the end of the WAL, {end}", successor.name)
            }
            Err(error) if stopped.elapsed() > SAY_LIMIT => {
                bail!("{} does not say whether it has the end of the WAL, {end}: {error:#}", successor.name)
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Ok(format!(
        "stopped in {:.2} s at {end}, and {} has everything",
        begun.elapsed().as_secs_f64(),
        successor.name
    ))
}

/// Writes a checkpoint, as long as the server commits heartbeats beside it.
async fn checkpoint(config: &Config, client: &Client) -> Result<()> {
    let written = timeout(CHECKPOINT_LIMIT, client.batch_execute("checkpoint"));
    let falls_silent = async {
        let mut committed = Instant::now();
        while committed.elapsed() <= SILENT_LIMIT {
            tokio::time::sleep(LOOK).await;
            if postgres::observe(config).await.state == ServerState::Primary {
                committed = Instant::now();
            }
        }
    };
    tokio::select! {
        written = written => Ok(written.context("the checkpoint timed out")??),
        () = falls_silent => bail!(
            "PostgreSQL has committed nothing for {} s during the checkpoint; nothing was stopped",
            SILENT_LIMIT.as_secs()
        ),
    }
}

/// How far the successor is: what it has on its disk and what it has replayed, and the end of the WAL here.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Whether it has been sent everything once. One that has just connected, or has fallen behind, is not there yet.
    streams: bool,
    end: u64,
    flushed: u64,
    replayed: u64,
}

async fn progress(client: &Client, successor: &Member) -> Result<Progress> {
    let sql = format!(
        "select state, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0'), \
             pg_wal_lsn_diff(flush_lsn, '0/0'), pg_wal_lsn_diff(replay_lsn, '0/0') \
         from (select) as it left join pg_stat_replication on application_name = '{}' \
         order by state = 'streaming' desc nulls last limit 1",
        successor.name
    );
    let row =
        timeout(ANSWER_LIMIT, postgres::row(client, &sql)).await.context("PostgreSQL does not answer")??;
    let streams = row[0] == "streaming";
    if !streams && row[0] != "catchup" {
        let state = if row[0].is_empty() { "nothing" } else { &row[0] };
        bail!("{} does not stream from here ({state}); nothing was stopped", successor.name);
    }
    // It has not said yet.
    let number = |text: &str| text.parse().unwrap_or(0);
    Ok(Progress { streams, end: number(&row[1]), flushed: number(&row[2]), replayed: number(&row[3]) })
}

/// Waits until the successor would have what is written now within a moment. If it does not come to that, nothing is
/// stopped: the shutdown would wait for it, and everybody for the shutdown.
async fn catch_up(config: &Config, client: &Client, successor: &Member) -> Result<()> {
    let begun = Instant::now();
    let first = progress(client, successor).await?;
    let (mut now, mut moved) = (first, begun);
    loop {
        if is_near(&first, &now, begun.elapsed()) {
            return Ok(());
        }
        if begun.elapsed() > CATCH_UP_LIMIT {
            let what = match now.end.saturating_sub(now.flushed) {
                _ if now.flushed == 0 => format!("{} has not said what it has", successor.name),
                missing if missing > IN_FLIGHT_BYTES => format!("{} lacks {}", successor.name, size(missing)),
                _ => {
                    format!(
                        "{} has yet to replay {}",
                        successor.name,
                        size(now.end.saturating_sub(now.replayed))
                    )
                }
            };
            bail!("{what} and catches up too slowly; nothing was stopped");
        }
        tokio::time::sleep(POLL).await;
        let next = progress(client, successor).await?;
        if next.replayed != now.replayed || next.replayed == next.flushed {
            moved = Instant::now();
        } else if moved.elapsed() > REPLAY_BLOCKED_AFTER {
            moved = Instant::now();
            if let Ok(ended) = psql::query(config, successor, readers::END).await
                && ended != "0"
            {
                let text =
                    format!("terminated {ended} sessions on {} that may have blocked replay", successor.name);
                journal::note(Event::ReadersEnded, &text);
            }
        }
        now = next;
    }
}

/// Whether it would have everything within a second: what it lacks against how fast it has become more.
fn is_near(first: &Progress, now: &Progress, passed: Duration) -> bool {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let a_second = (now.flushed.saturating_sub(first.flushed)).saturating_mul(1_000) / millis;
    // A rate over less than that is noise.
    let a_second = if millis < 500 { 0 } else { a_second };
    now.streams
        && now.end.saturating_sub(now.flushed) <= IN_FLIGHT_BYTES.max(a_second)
        && now.flushed.saturating_sub(now.replayed) <= REPLAY_BACKLOG_BYTES
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_near_when_a_second_is_enough_for_it() {
        let at = |end, flushed, replayed| Progress { streams: true, end, flushed, replayed };
        let begun = at(20 << 20, 10 << 20, 10 << 20);
        let passed = Duration::from_secs(2);
        assert!(is_near(&begun, &at(10 << 20, 10 << 20, 10 << 20), Duration::ZERO), "it has everything");
        let catching_up = Progress { streams: false, ..at(10 << 20, 10 << 20, 10 << 20) };
        assert!(!is_near(&begun, &catching_up, Duration::ZERO), "it has not been sent everything once");
        assert!(!is_near(&begun, &begun, Duration::ZERO), "it lacks 10 MiB, and nobody knows how fast it is");
        assert!(!is_near(&begun, &at(20 << 20, 11 << 20, 11 << 20), passed), "half a MiB a second for 9 MiB");
        assert!(is_near(&begun, &at(40 << 20, 36 << 20, 36 << 20), passed), "13 MiB a second for 4 MiB");
        assert!(!is_near(&begun, &at(40 << 20, 40 << 20, 10 << 20), passed), "it has yet to replay 30 MiB");
    }

    #[test]
    fn sizes_are_told_in_megabytes() {
        assert_eq!(size(9_700_000), "9.7 MB");
    }
}
