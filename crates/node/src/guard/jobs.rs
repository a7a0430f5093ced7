//! Jobs: work that takes a while, done beside the loop.

mod promote;
mod readers;
mod start;
mod stop;
mod unit;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_contract::WalPosition;
use cluster_contract::config::{Config, Member};
use cluster_contract::journal::{Event, LostTransactions};
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::Instant;

use crate::core::Replication;
use crate::journal;
use crate::{marker, packages, postgres, psql};
pub(super) use promote::promote;
pub(super) use start::start;
pub(super) use stop::hand_over;

/// Rewinding copies what differs; a clone that takes its place copies all.
const REJOIN_LIMIT: Duration = Duration::from_secs(86_400);
/// So long one command of repmgr's may take.
const REPMGR_LIMIT: Duration = Duration::from_secs(60);
/// A repair runs some of them. One that never ended would be the guard's last.
const REPAIR_LIMIT: Duration = Duration::from_secs(300);
/// A rejoin waits for an upgrade of PostgreSQL for so long.
const REJOIN_PACKAGE_WAIT: Duration = Duration::from_secs(300);

/// A server that works answers a small question by then.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How a standby is made of what was primary.
const REJOIN_SH: &str = concat!(include_str!("../../../contract/src/whose.sh"), include_str!("rejoin.sh"));

/// A rejoin has failed that could not rewind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct CloneFailed(String);

/// Makes a standby of what was primary: the recipe is in `rejoin.sh`. With `clone` nothing is rewound.
pub(super) async fn rejoin(config: Config, primary: Member, clone: bool) -> Result<String> {
    packages::wait(&config, REJOIN_PACKAGE_WAIT).await;
    let begun = Instant::now();
    // An earlier rejoin's.
    let _ = std::fs::remove_file(paths::NOT_REWOUND);
    let marked = marker::read().ok().flatten().and_then(|marker| marker.system_identifier);
    let mut command = Command::new("sh");
    command
        .args(["-s", &config.version.to_string(), &config.port.to_string(), &primary.host.to_string()])
        .args([&primary.id.to_string(), &Config::conninfo(primary.host, config.port, config.version)])
        .arg(if clone { "clone" } else { "rewind" })
        .arg(marked.unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run sh")?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(REJOIN_SH.as_bytes()).await?;
    drop(input);
    let Ok(output) = tokio::time::timeout(REJOIN_LIMIT, child.wait_with_output()).await else {
        // With what it has begun, which would go on beside the next one. It may have ended in this moment.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        bail!("the rejoin timed out");
    };
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Ok(lost) = std::fs::read_to_string(paths::LOST)
        && let Ok(lost) = serde_json::from_str::<LostTransactions>(&lost)
        && !journal::tells_of_lost(&lost.wal)
    {
        let text = match lost.transactions {
            0 => format!(
                "no transaction was lost; the WAL from {} to {}, which {} does not have, is kept in {}",
                lost.from, lost.to, primary.name, lost.wal
            ),
            count => format!(
                "lost: {count} transactions ({} to {}), which {} does not have; their WAL is kept in {}",
                lost.from, lost.to, primary.name, lost.wal
            ),
        };
        journal::note(Event::TransactionsLost { lost }, &text);
    }
    if !output.status.success() {
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        let text = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        // It is written when a clone begins.
        if Path::new(paths::NOT_REWOUND).exists() {
            return Err(CloneFailed(text).into());
        }
        bail!("{text}");
    }
    if let Ok(why) = std::fs::read_to_string(paths::NOT_REWOUND) {
        let why = why.trim();
        journal::note(
            Event::Cloned,
            &format!("could not be rewound ({why}) and was cloned; the old data is kept beside it"),
        );
    }
    Ok(format!("rejoined {} as a standby in {:.1} s", primary.name, begun.elapsed().as_secs_f64()))
}

/// The ids of nodes that stream from here and that repmgr's metadata shows as something else. The repmgrd of a node that has
/// rejoined writes that it follows nobody, if it notices only after the node was registered.
const WRONG_STANDBYS: &str = "\
    select coalesce(string_agg(node_id::text, ', ' order by node_id), '') from repmgr.nodes \
    where node_id <> $me and type <> 'witness' \
        and (type, upstream_node_id, active) is distinct from ('standby', $me, true) \
        and node_name in (select application_name from pg_stat_replication where state = 'streaming')";
const RECORD_STANDBYS: &str = "\
    update repmgr.nodes set type = 'standby', upstream_node_id = $me, active = true where node_id in ($wrong)";

/// Puts right what repmgr does not: the witness's record, a standby's upstream, slots that would fill the disk.
pub(super) async fn repair_replication(
    config: Config,
    primary: Member,
    wrong_upstream: bool,
) -> Result<Replication> {
    let repair = repair(config, primary, wrong_upstream);
    tokio::time::timeout(REPAIR_LIMIT, repair).await.context("PostgreSQL did not answer in time")?
}

async fn repair(config: Config, primary: Member, wrong_upstream: bool) -> Result<Replication> {
    let me = config.me();
    if me.witness {
        // A copy that is made anew only when repmgrd here knows whom to follow: two failovers in a row, or a node that
        // returns, can leave it behind. And a copy of a table in which its own row, which it alone sees to, is wrong.
        let sql = format!(
            "select count(*) filter (where node_id = {} and upstream_node_id = {} and active), \
             string_agg(concat_ws(' ', node_id, type, active, upstream_node_id), ',' order by node_id) \
             from repmgr.nodes",
            me.id, primary.id
        );
        let copy = postgres::row(&*postgres::connect_or_reuse(&config).await?, &sql).await?.join("|");
        if !copy.starts_with("1|") || copy != psql::query(&config, &primary, &sql).await? {
            let host = primary.host.to_string();
            let args = ["-f", "/etc/repmgr.conf", "witness", "register", "--force", "-h", &host];
            psql::as_postgres(&config, "repmgr", &args, REPMGR_LIMIT).await?;
            journal::note(
                Event::Repaired,
                &format!("the witness has copied repmgr's metadata from {}", primary.name),
            );
        }
        return Ok(Replication::Sound);
    }
    if primary.id == me.id {
        let client = postgres::connect_or_reuse(&config).await?;
        let sql = format!("select type = 'primary' and active from repmgr.nodes where node_id = {}", me.id);
        if postgres::row(&client, &sql).await? != ["t"] {
            client.batch_execute(&promote::REGISTER.replace("$me", &me.id.to_string())).await?;
            journal::note(Event::Repaired, "repmgr's metadata shows this node as primary now");
        }
        // Looked for first: where writes are refused not even a change of nothing is allowed.
        let wrong =
            postgres::row(&client, &WRONG_STANDBYS.replace("$me", &me.id.to_string())).await?.remove(0);
        if !wrong.is_empty() {
            let sql = RECORD_STANDBYS.replace("$me", &me.id.to_string()).replace("$wrong", &wrong);
            client.batch_execute(&sql).await?;
            journal::note(
                Event::Repaired,
                &format!("repmgr's metadata shows as standbys of this node now: node {wrong}"),
            );
        }
        return Ok(Replication::Sound);
    }
    if wrong_upstream && has_diverged(&config, &primary).await? {
        return Ok(Replication::Diverged);
    }
    if wrong_upstream {
        let id = format!("--upstream-node-id={}", primary.id);
        psql::as_postgres(
            &config,
            "repmgr",
            &["-f", "/etc/repmgr.conf", "standby", "follow", &id],
            REPMGR_LIMIT,
        )
        .await?;
        journal::note(Event::Repaired, &format!("follows {} now", primary.name));
    }
    let client = postgres::connect_or_reuse(&config).await?;
    let sql = "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots \
               where not active and slot_name like 'repmgr_slot_%' and pg_is_in_recovery()";
    let dropped = postgres::row(&client, sql).await?.remove(0);
    if dropped != "0" {
        journal::note(Event::Repaired, &format!("dropped {dropped} unused replication slots"));
    }
    Ok(Replication::Sound)
}

/// Whether this standby has received WAL of its timeline beyond the place where the primary's history left it. It can
/// never follow then.
async fn has_diverged(config: &Config, primary: &Member) -> Result<bool> {
    let Some(here) = postgres::observe(config).await.position else { return Ok(false) };
    let now = psql::query(
        config,
        primary,
        "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int",
    )
    .await?;
    let now: u32 = now.parse().context("not a timeline")?;
    if now <= here.timeline {
        return Ok(false);
    }
    let history =
        psql::query(config, primary, &format!("select pg_read_file('pg_wal/{now:08X}.history')")).await?;
    is_left_behind(&history, here)
}

/// Whether a history has left what is here. A history names all timelines from the first one on, each with its end: one
/// that is not among them was given up, by a restore to a moment before it. What does not begin with the first is no
/// history, and no reason to rewind anything.
fn is_left_behind(history: &str, here: WalPosition) -> Result<bool> {
    let mut is_history = false;
    for line in history.lines() {
        let mut fields = line.split_whitespace();
        let (Some(of), Some(end)) = (fields.next(), fields.next()) else { continue };
        is_history |= of == "1";
        if of.parse() == Ok(here.timeline) {
            return Ok(here.lsn > end.parse::<Lsn>()?.0);
        }
    }
    Ok(is_history)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_history_says_where_it_left_a_timeline() {
        let left = |history: &str, timeline, lsn| {
            super::is_left_behind(history, super::WalPosition { timeline, lsn })
        };
        let history =
            "1\t0/3000148\tno recovery target specified\n\n2\t1/5A0\tbefore 2026-11-27 02:00:00+00\n";
        assert!(!left(history, 1, 0x300_0148).unwrap() && left(history, 1, 0x300_0149).unwrap());
        assert!(!left(history, 2, 0x1_0000_05A0).unwrap() && left(history, 2, 0x1_0000_05A1).unwrap());
        assert!(left(history, 3, 1).unwrap(), "a restore has given timeline 3 up");
        assert!(!left("", 1, 1).unwrap() && !left("2\t0/1\tx\n", 1, 1).unwrap());
        assert!(left("1\tnowhere\n", 1, 1).is_err());
    }
}
