//! A standby becomes primary.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::Config;
use cluster_contract::journal::Event;
use cluster_contract::paths;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::{ANSWER_LIMIT, readers};
use crate::decision::PROMOTION_LIMIT;
use crate::journal;
use crate::{postgres, processes};

/// How often its progress is polled.
const POLL: Duration = Duration::from_millis(100);
/// Replay that has something to replay and has not moved for so long waits for a reader.
const REPLAY_BLOCKED_AFTER: Duration = Duration::from_millis(250);
/// The request is a signal, and is repeated until it has been heard.
const REPEAT_REQUEST: Duration = Duration::from_secs(5);
/// How often the journal gets a line of progress.
const JOURNAL_PROGRESS: Duration = Duration::from_secs(5);
/// Replay that has not moved for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
// The job ends a promotion that hangs before the lease is let run out.
const _: () = assert!(HANGS_AFTER.as_millis() < PROMOTION_LIMIT as u128);

/// Makes repmgr's table name this node as the primary. The old one is not active any more: it comes back as a standby.
pub(super) const REGISTER: &str = "\
    update repmgr.nodes set active = false where type = 'primary' and node_id <> $me; \
    update repmgr.nodes set type = 'primary', upstream_node_id = null, active = true where node_id = $me; \
    insert into repmgr.events (node_id, event, successful, details) \
        values ($me, 'standby_promote', true, 'promoted by cluster-node')";
/// Made before it takes writes: the others will ask for what comes after what they have, and nothing of it may be gone by
/// then. repmgr takes a slot of this name that is there for its own.
const SLOT: &str = "\
    select pg_create_physical_replication_slot('repmgr_slot_$id', true) \
    where not exists (select from pg_replication_slots where slot_name = 'repmgr_slot_$id')";
/// For how long slots may hold up a promotion, all together.
const SLOTS_LIMIT: Duration = Duration::from_secs(1);
/// Everything that it has received is replayed before it takes writes. After a start it may not know how much that is.
const PROGRESS: &str = "\
    select pg_is_in_recovery(), pg_last_wal_replay_lsn(), \
        coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), true)";

/// A note that lies there while a promotion is under way: nothing is fetched from the archive meanwhile.
struct Promoting;

impl Promoting {
    fn begin() -> Promoting {
        // Without it the promotion may take longer, and is as safe.
        let _ = std::fs::write(paths::PROMOTING, "");
        Promoting
    }
}

impl Drop for Promoting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(paths::PROMOTING);
    }
}

/// Promotes. Not through `repmgr standby promote`: that first waits for the old primary to not answer, and the lease
/// already says that it does not write.
///
/// A promotion that was asked for cannot be taken back. So once it has been, this ends when the server is primary or
/// when its processes are gone, and with nothing in between: to say that it failed would let the lease go while it may
/// still come true.
pub(in crate::guard) async fn promote(config: Config) -> Result<String> {
    let begun = Instant::now();
    let _promoting = Promoting::begin();
    if let Err(error) = timeout(SLOTS_LIMIT, make_slots(&config)).await.unwrap_or_else(|_| bail!("no answer"))
    {
        journal::note(Event::Trouble, &format!("cannot create slots for the other standbys: {error:#}"));
    }
    request(&config).await?;
    let client = complete(&config, begun).await?;
    let text = format!("promoted in {:.2} s", begun.elapsed().as_secs_f64());
    // It takes writes; whatever is left is mended later.
    let register = REGISTER.replace("$me", &config.me().id.to_string());
    let told = match timeout(ANSWER_LIMIT, client.batch_execute(&register)).await {
        Ok(told) => told.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    if let Err(error) = told {
        journal::note(Event::Trouble, &format!("cannot record the promotion in repmgr's metadata: {error}"));
    }
    drop(client);
    tokio::spawn(async move {
        // pg_rewind reads the new timeline from the control file, which a checkpoint writes. In a session of its own:
        // it takes a while.
        let work = async { anyhow::Ok(postgres::connect(&config).await?.batch_execute("checkpoint").await?) };
        if let Err(error) = work.await {
            journal::warn(&format!("checkpoint after the promotion: {error:#}"));
        }
    });
    Ok(text)
}

/// Slots for the other nodes with data, where slots are used: what those keep cannot be bounded before PostgreSQL 13.
async fn make_slots(config: &Config) -> Result<()> {
    if config.version < 13 {
        return Ok(());
    }
    let client = postgres::connect_or_reuse(config).await?;
    for peer in config.peers().filter(|peer| !peer.witness) {
        client.batch_execute(&SLOT.replace("$id", &peer.id.to_string())).await?;
    }
    Ok(())
}

/// Asks for the promotion, and does not wait for it. An answer that is lost says nothing: it may have been heard.
async fn request(config: &Config) -> Result<()> {
    let client = timeout(ANSWER_LIMIT, postgres::connect_or_reuse(config))
        .await
        .context("PostgreSQL does not answer")??;
    // Where it is primary already it fails, and that is seen by whoever looks next.
    let _ = timeout(ANSWER_LIMIT, client.batch_execute("select pg_promote(false)")).await;
    Ok(())
}

async fn complete(config: &Config, begun: Instant) -> Result<Arc<Client>> {
    let (mut asked, mut told) = (begun, begun);
    let (mut at, mut moved) = (String::new(), begun);
    let mut client = None;
    loop {
        let seen = match progress(config, &mut client).await {
            Ok((Some(client), _)) => return Ok(client),
            Ok((None, seen)) => Some(seen),
            // Where that cannot be told it may still promote: the lease is not let go for a question that failed.
            Err(_) if processes::list(config).is_ok_and(|it| it.is_empty()) => {
                bail!("PostgreSQL stopped during the promotion")
            }
            // A question of ours may be cancelled by what is replayed.
            Err(_) => None,
        };
        let now = Instant::now();
        if let Some((replayed, more)) = seen {
            if replayed != at {
                (at, moved) = (replayed, now);
            } else if more && now - moved > REPLAY_BLOCKED_AFTER {
                end_readers(config).await;
            }
        }
        if now - moved > HANGS_AFTER {
            // So that it cannot come true behind the back of whoever is told that it failed.
            processes::kill(config)?;
            bail!(
                "the promotion made no progress at {at} for {} s: PostgreSQL was killed",
                HANGS_AFTER.as_secs()
            );
        }
        if now - asked > REPEAT_REQUEST {
            asked = now;
            let _ = request(config).await;
        }
        if now - told > JOURNAL_PROGRESS {
            told = now;
            let text =
                format!("promotion running for {:.0} s: replaying {at}", begun.elapsed().as_secs_f64());
            journal::note(Event::PromotionProgress, &text);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The session, if the server takes writes by now; else how far it has replayed, and whether there is more.
async fn progress(
    config: &Config,
    client: &mut Option<Arc<Client>>,
) -> Result<(Option<Arc<Client>>, (String, bool))> {
    let open = match client.take().filter(|client| !client.is_closed()) {
        Some(client) => client,
        None => timeout(ANSWER_LIMIT, postgres::connect_or_reuse(config))
            .await
            .context("PostgreSQL does not answer")??,
    };
    let row = timeout(ANSWER_LIMIT, postgres::row(&open, PROGRESS))
        .await
        .context("PostgreSQL does not answer")??;
    let seen = (row[1].clone(), row[2] == "t");
    if row[0] == "f" {
        return Ok((Some(open), seen));
    }
    *client = Some(open);
    Ok((None, seen))
}

async fn end_readers(config: &Config) {
    let work = async {
        let client = postgres::connect_or_reuse(config).await?;
        postgres::row(&client, readers::END).await
    };
    if let Ok(Ok(ended)) = timeout(ANSWER_LIMIT, work).await
        && ended[0] != "0"
    {
        journal::note(
            Event::ReadersEnded,
            &format!("terminated {} sessions that may have blocked replay", ended[0]),
        );
    }
}
