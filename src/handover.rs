//! A planned hand-over, from the choice of the successor until the old primary is its standby: for the command and for plans.
//!
//! It is started here and watched. The guards do it: the primary's stops PostgreSQL, makes sure that the successor has the
//! last byte, and hands the lease over. So a run that is killed changes nothing about how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster_contract::journal::{Event, Line};
use cluster_contract::status::JobKind;

use crate::control;
use crate::error::Advice;
use crate::facts::Facts;
use crate::health::{Health, Node, health};
use crate::world::World;

/// The successor promotes within seconds of the shutdown; anything longer is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// With the checkpoint before it, for which the guard allows ten minutes, and what the successor still lacks.
const LONGEST: Duration = Duration::from_secs(900);
/// How long a standby that has just connected may need for what it lacks.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for the old primary to rejoin, to report restored redundancy.
const REJOIN_PATIENCE: Duration = Duration::from_secs(120);
/// More than a guard writes down during one.
const JOURNAL_LINES: usize = 500;

/// What became of a hand-over.
#[derive(Debug)]
pub struct HandOver {
    pub from: String,
    pub to: String,
    /// How long after the request the successor took writes.
    pub moved: Duration,
    /// How long after it the old primary streamed; none if it did not within two minutes.
    pub whole: Option<Duration>,
    pub end: End,
}

/// Hands over, to a successor that was chosen.
///
/// # Errors
/// A refusal of the primary's guard; that the old primary is still primary, or that another node took over.
pub async fn hand_over(world: &Arc<World>, (from, to): (String, String)) -> Result<HandOver> {
    world.report.progress(&from, format!("stopping and handing over to {to}"));
    let begun = Instant::now();
    ask(world, &from, &to).await?;
    let moved = wait_for(world, &from, &to, begun).await?;
    let whole = wait_for_redundancy(world, &from, begun).await;
    // The successor leads after a hand-over that failed, too, where it has won the election that followed.
    let end = match control::journal(world, &from, JOURNAL_LINES).await {
        Ok(lines) => end(&lines),
        Err(error) => End { trouble: Some(format!("{from} cannot say so: {error}")), lost: 0 },
    };
    Ok(HandOver { from, to, moved, whole, end })
}

/// How a hand-over ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Why it was none, for people.
    pub trouble: Option<String>,
    /// Transactions that the old primary had to give up.
    pub lost: u64,
}

/// The end of the last hand-over that a journal knows of.
fn end(journal: &[Line]) -> End {
    let job = Some(JobKind::HandOver);
    let began = journal.iter().rposition(|line| line.event == Event::JobBegun { job });
    let since = &journal[began.unwrap_or(journal.len())..];
    let mut end = End { trouble: Some("its guard has recorded no end of it".to_owned()), lost: 0 };
    for line in since {
        match &line.event {
            Event::JobDone { job: done } if *done == job => end.trouble = None,
            Event::JobFailed { job: failed } if *failed == job => end.trouble = Some(line.text.clone()),
            Event::TransactionsLost { lost } => end.lost += lost.transactions,
            _ => {}
        }
    }
    end
}

/// The state of the cluster now, without what needs the provider.
async fn look(world: &Arc<World>) -> Result<Health> {
    let facts = world.observe_or_remember().await?;
    Ok(health(&world.inventory, &facts, &world.addresses(facts.cloud.as_ref())))
}

/// Chooses who hands over and to whom: to `to`, or to the standby that lacks the least. One that has just connected catches up
/// for a moment, and is waited for.
///
/// # Errors
/// A refusal; nothing was changed.
pub async fn chosen(world: &Arc<World>, to: Option<&str>) -> Result<(String, String)> {
    let begun = Instant::now();
    loop {
        let facts = world.observe_or_remember().await?;
        let now = health(&world.inventory, &facts, &world.addresses(facts.cloud.as_ref()));
        // More than this to replay would make the gap in writes long, too.
        let error = match choose(&now, to, world.inventory.failover.lag_limit_bytes) {
            Ok(pair) if knows_of_the_lease(&facts, &pair) => return Ok(pair),
            Ok((from, to)) if begun.elapsed() < CATCH_UP_PATIENCE => {
                let text = format!("its guard has just started, and does not know the lease of {from} yet");
                world.report.progress(&to, text);
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Ok((from, to)) => {
                let message = format!(
                    "the guard of {to} does not know the lease of {from}, and would not take it over"
                );
                let hint = "nothing was changed; `cluster status` shows which guards hear of each other";
                return Err(Advice::refused(message).hint(hint).into());
            }
            Err(error) => error,
        };
        match catching_up(&now, to).filter(|_| begun.elapsed() < CATCH_UP_PATIENCE) {
            Some(standby) => world.report.progress(standby, "catching up with the primary"),
            None => return Err(error),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whether the successor's guard has granted the primary its lease: one that has not, since its guard has just started, takes the
/// word that the lease is released for nothing, and nobody takes writes for some ten seconds.
fn knows_of_the_lease(facts: &Facts, (from, to): &(String, String)) -> bool {
    let guard = facts.hosts.get(to).and_then(|host| host.up()?.guard.as_ref());
    guard.is_some_and(|guard| guard.holder.as_ref() == Some(from))
}

/// A standby that could be the successor once it has caught up.
fn catching_up<'a>(health: &'a Health, to: Option<&str>) -> Option<&'a str> {
    let standby = |node: &&Node| {
        node.role == "standby" && node.state == "catchup" && to.is_none_or(|to| node.name == to)
    };
    health.nodes.iter().find(standby).map(|node| node.name.as_str())
}

/// The primary that hands over, and its successor.
fn choose(health: &Health, to: Option<&str>, most_lag: u64) -> Result<(String, String)> {
    if health.paused {
        return Err(Advice::refused("the cluster is paused: the standby would not promote")
            .hint("`cluster resume` ends the pause")
            .into());
    }
    let Some(from) = &health.primary else {
        return Err(Advice::refused("no node takes writes")
            .hint("a switchover needs a running primary; `cluster status` shows what is wrong")
            .into());
    };
    let standbys: Vec<_> =
        health.nodes.iter().filter(|node| node.role == "standby" && node.state == "streaming").collect();
    let successor = match to {
        Some(name) => standbys.iter().find(|node| node.name == name),
        None => standbys
            .iter()
            .filter(|node| !node.is_full())
            .min_by_key(|node| node.lag_bytes.unwrap_or(u64::MAX)),
    };
    let Some(successor) = successor else {
        let message = match to {
            Some(name) if name == from => format!("{name} is already the primary"),
            Some(name) => format!("{name} is not a streaming standby of {from}"),
            None if !standbys.is_empty() => "the disk of every standby is full".to_owned(),
            None => format!("no standby streams from {from}"),
        };
        return Err(Advice::refused(message).hint("`cluster status` shows which standbys stream").into());
    };
    if successor.is_full() {
        return Err(Advice::refused(format!(
            "the disk of {} is full: it would refuse writes",
            successor.name
        ))
        .hint("free some space there first; `cluster status` shows how much is needed")
        .into());
    }
    if let Some(lag) = successor.lag_bytes.filter(|lag| *lag > most_lag) {
        return Err(Advice::refused(format!("{} is {} MiB behind", successor.name, lag >> 20))
            .hint("wait until it has caught up; writes would be blocked until then")
            .into());
    }
    Ok((from.clone(), successor.name.clone()))
}

async fn ask(world: &World, from: &str, to: &str) -> Result<()> {
    let verdict = control::hand_over(world, from, to).await?;
    if verdict.allowed {
        return Ok(());
    }
    Err(Advice::refused(format!("the guard of {from} refuses to hand over: {}", verdict.why))
        .hint(
            "a handover needs the lease and so a majority of the nodes; `cluster status` shows which are up",
        )
        .into())
}

/// Waits until `to` takes writes with the lease.
async fn wait_for(world: &World, from: &str, to: &str, begun: Instant) -> Result<Duration> {
    let mut stops = begun;
    while stops.elapsed() < PATIENCE && begun.elapsed() < LONGEST {
        if control::status(world, to).await.is_ok_and(|successor| successor.leads()) {
            return Ok(begun.elapsed());
        }
        if let Ok(old) = control::status(world, from).await {
            if old.leads() && old.job.is_none() {
                let why = old.trouble.as_deref().unwrap_or("its guard gives no reason");
                return Err(Advice::failed(format!("{from} is still primary: {why}"))
                    .hint("nothing is lost; fix the cause, then run this again")
                    .into());
            }
            if old.leads() {
                // It writes a checkpoint first, for as long as its guard lets it.
                stops = Instant::now();
                let seconds = begun.elapsed().as_secs();
                world.report.progress(from, format!("stopping and handing over to {to} ({seconds} s)"));
            }
            // One voter's grant is not a majority's.
            if let Some(other) = old.holder.filter(|other| other != from && other != to)
                && control::status(world, &other).await.is_ok_and(|it| it.holds)
            {
                return Err(Advice::failed(format!(
                    "{other} has taken over instead: {to} did not request the lease in time"
                ))
                .hint(format!(
                    "`cluster explain` says whether any transactions were lost; `cluster logs {to}` shows what kept {to}"
                ))
                .into());
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(Advice::failed(format!("{to} has not taken over within {} s", PATIENCE.as_secs()))
        .hint("the guards continue by themselves; follow them with `cluster status`")
        .into())
}

/// Waits until the old primary streams from the new one; `None` if it does not in time.
async fn wait_for_redundancy(world: &Arc<World>, from: &str, begun: Instant) -> Option<Duration> {
    while begun.elapsed() < REJOIN_PATIENCE {
        world.report.progress(from, "becoming a standby");
        let now = look(world).await.ok()?;
        if now.nodes.iter().any(|node| node.name == from && node.state == "streaming") {
            return Some(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use cluster_contract::journal::LostTransactions;

    use super::*;

    #[test]
    fn a_guard_that_has_granted_nothing_yet_is_no_successor_yet() {
        let pair = ("pg1".to_owned(), "pg2".to_owned());
        let with = |guard: Option<cluster_contract::status::Status>| {
            let host = crate::facts::HostFacts { guard, ..Default::default() };
            let hosts = [("pg2".to_owned(), crate::facts::Host::Up(Box::new(host)))].into();
            knows_of_the_lease(&Facts { hosts, ..Facts::default() }, &pair)
        };
        let of = |holder: Option<&str>| {
            Some(cluster_contract::status::Status { holder: holder.map(str::to_owned), ..Default::default() })
        };
        assert!(with(of(Some("pg1"))));
        // It has just started; it knows of another; it does not answer; the host was not looked at.
        assert!(!with(of(None)) && !with(of(Some("pg3"))) && !with(None));
        assert!(!knows_of_the_lease(&Facts::default(), &pair));
    }

    fn line(event: Event, text: &str) -> Line {
        Line { at: String::new(), clock: 0, event, text: text.to_owned(), since: None }
    }

    #[test]
    fn only_a_hand_over_that_ended_well_is_one() {
        let job = Some(JobKind::HandOver);
        let begun = || line(Event::JobBegun { job }, "hand-over: to pg2");
        let done = || line(Event::JobDone { job }, "stopped in 0.20 s");
        let failed = || line(Event::JobFailed { job }, "the hand-over failed: PostgreSQL did not stop");
        let lost = || {
            let lost = LostTransactions {
                timeline: 1,
                from: "0/1".into(),
                to: "0/2".into(),
                transactions: 3,
                wal: "/kept".into(),
                node: String::new(),
            };
            line(Event::TransactionsLost { lost }, "3 transactions")
        };
        assert_eq!(end(&[failed(), begun(), done()]), End::default());
        let failure = end(&[begun(), done(), begun(), failed(), lost()]);
        assert_eq!((failure.trouble, failure.lost), (Some(failed().text), 3));
        assert_eq!(end(&[lost(), begun(), done()]).lost, 0, "that was before");
        for silent in [vec![], vec![begun()], vec![done()]] {
            assert!(end(&silent).trouble.is_some(), "{silent:?}");
        }
    }
}
