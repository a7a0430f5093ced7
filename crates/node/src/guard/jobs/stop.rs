//! The primary stops, for another to take over.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::{Config, Member};
use cluster_contract::journal::Event;
use cluster_contract::position::Lsn;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::{readers, unit};
use crate::journal;
use crate::{postgres, processes, view};

/// A server that works answers a small question by then.
const ANSWER: Duration = Duration::from_secs(5);
/// Of a primary that is to stop. What the shutdown's own checkpoint would take otherwise.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// A fast shutdown waits for a checkpoint and for walsenders.
const STOP: Duration = Duration::from_secs(60);
/// The shutdown itself waits for the heir's walsender; an heir that lacks something after that has vanished, and the
/// primary goes on.
const HEIR: Duration = Duration::from_secs(5);
/// For so long the heir may catch up before anything is stopped.
const CATCH_UP: Duration = Duration::from_secs(10);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// Replay that has something to replay and has not moved for so long waits for a reader.
const BLOCKED: Duration = Duration::from_millis(300);
/// So little is on its way at any moment.
const LITTLE: u64 = 128 << 10;
/// An heir that has received everything replays so much in a moment.
const REPLAYS: u64 = 16 << 20;

/// Stops the primary cleanly and makes sure that `heir` has everything. The lease is handed over after that.
pub(in crate::guard) async fn stop_for(config: Config, heir: Member) -> Result<String> {
    // Nothing else is begun here while this goes on, so nothing of it may hang.
    let client =
        timeout(ANSWER, postgres::connect(&config)).await.context("PostgreSQL does not answer")??;
    catch_up(&config, &client, &heir).await?;
    timeout(CHECKPOINT, client.batch_execute("checkpoint")).await.context("the checkpoint timed out")??;
    // It has written much, and has taken its time.
    catch_up(&config, &client, &heir).await?;
    drop(client);
    let begun = Instant::now();
    if let Err(error) = unit::systemctl(&["stop", &config.unit()], STOP).await {
        // What is half way down serves nobody, and the heir does not have its end. Killed, it can be started again here.
        let killed = processes::kill(&config)?;
        bail!("PostgreSQL did not stop, and {killed} of its processes were killed: {error:#}");
    }
    let (end, clean) = postgres::stopped(&config)?;
    if !clean {
        bail!("PostgreSQL was not shut down cleanly: its last writes may exist only on this node");
    }
    // The shutdown's own record lies behind this; whoever has more than its beginning has all.
    let sql = "select pg_last_wal_receive_lsn()";
    let stopped = Instant::now();
    loop {
        let has = view::query(&config, &heir, sql).await.and_then(|text| Ok(text.parse::<Lsn>()?.0));
        match has {
            Ok(has) if has > end.lsn => break,
            _ if stopped.elapsed() > HEIR => bail!("{} did not receive the end of the WAL, {end}", heir.name),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Ok(format!(
        "stopped in {:.2} s at {end}, and {} has everything",
        begun.elapsed().as_secs_f64(),
        heir.name
    ))
}

/// How far the heir is: what it has on its disk and what it has replayed, and the end of the WAL here.
#[derive(Clone, Copy, Debug)]
struct Progress {
    end: u64,
    flushed: u64,
    replayed: u64,
}

async fn progress(client: &Client, heir: &Member) -> Result<Progress> {
    let sql = format!(
        "select state, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0'), \
             pg_wal_lsn_diff(flush_lsn, '0/0'), pg_wal_lsn_diff(replay_lsn, '0/0') \
         from (select) as it left join pg_stat_replication on application_name = '{}' \
         order by state = 'streaming' desc nulls last limit 1",
        heir.name
    );
    let row = timeout(ANSWER, postgres::row(client, &sql)).await.context("PostgreSQL does not answer")??;
    if row[0] != "streaming" {
        let state = if row[0].is_empty() { "nothing" } else { &row[0] };
        bail!("{} does not stream from here ({state}); nothing was stopped", heir.name);
    }
    // It has not said yet.
    let number = |text: &str| text.parse().unwrap_or(0);
    Ok(Progress { end: number(&row[1]), flushed: number(&row[2]), replayed: number(&row[3]) })
}

/// Waits until the heir would have what is written now within a moment. If it does not come to that, nothing is stopped:
/// the shutdown would wait for it, and everybody for the shutdown.
async fn catch_up(config: &Config, client: &Client, heir: &Member) -> Result<()> {
    let begun = Instant::now();
    let first = progress(client, heir).await?;
    let (mut now, mut moved) = (first, begun);
    loop {
        if is_near(&first, &now, begun.elapsed()) {
            return Ok(());
        }
        if begun.elapsed() > CATCH_UP {
            let what = match now.end.saturating_sub(now.flushed) {
                missing if missing > LITTLE => format!("{} lacks {}", heir.name, size(missing)),
                _ => {
                    format!("{} has yet to replay {}", heir.name, size(now.end.saturating_sub(now.replayed)))
                }
            };
            bail!("{what} and catches up too slowly; nothing was stopped");
        }
        tokio::time::sleep(LOOK).await;
        let next = progress(client, heir).await?;
        if next.replayed != now.replayed || next.replayed == next.flushed {
            moved = Instant::now();
        } else if moved.elapsed() > BLOCKED {
            moved = Instant::now();
            if let Ok(ended) = view::query(config, heir, readers::END).await
                && ended != "0"
            {
                let text =
                    format!("terminated {ended} sessions on {} that may have blocked replay", heir.name);
                journal::note(Event::Readers, &text);
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
    now.end.saturating_sub(now.flushed) <= LITTLE.max(a_second)
        && now.flushed.saturating_sub(now.replayed) <= REPLAYS
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_heir_is_near_when_a_second_is_enough_for_it() {
        let at = |end, flushed, replayed| Progress { end, flushed, replayed };
        let begun = at(20 << 20, 10 << 20, 10 << 20);
        let passed = Duration::from_secs(2);
        assert!(is_near(&begun, &at(10 << 20, 10 << 20, 10 << 20), Duration::ZERO), "it has everything");
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
