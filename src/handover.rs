//! A planned hand-over, from the choice of the successor until the old primary is its standby: for the command and for plans.
//!
//! It is started here and watched. The guards do it: the primary's stops PostgreSQL, makes sure that the successor has the
//! last byte, and hands the lease over. So a run that is killed changes nothing about how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cluster_contract::journal::{Event, Line};
use cluster_contract::status::{JobKind, Status};

use crate::control;
use crate::error::Advice;
use crate::facts::{Facts, Host};
use crate::health::{Health, Node, health};
use crate::inventory::Role;
use crate::world::World;

/// The successor promotes within seconds of the shutdown; anything longer is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// With the checkpoint before it, for which the guard allows ten minutes, and what the successor still lacks.
const LONGEST: Duration = Duration::from_secs(900);
/// How long a standby that has just connected may need for what it lacks, and an old primary to become one.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(60);
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
    let (mut end, mut is_recorded) = (End::default(), false);
    end.trouble = Some("its guard has recorded no end of it".to_owned());
    for line in since {
        match &line.event {
            Event::JobDone { job: done } if *done == job => (end.trouble, is_recorded) = (None, true),
            Event::JobFailed { job: failed } if *failed == job => {
                (end.trouble, is_recorded) = (Some(line.text.clone()), true);
            }
            // The work goes with it; what was not stopped by then goes on.
            Event::Started if !is_recorded => {
                end.trouble = Some("its guard was started anew meanwhile".to_owned());
            }
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

/// Chooses who hands over and to whom: `from`, or whoever takes writes; to `to`, or to the standby that lacks the least. What is soon
/// over is waited for: a standby that has just connected and catches up, an old primary that its guard makes a standby, a host that was
/// slow to answer, a guard that still works on the last change of roles.
///
/// # Errors
/// A refusal; nothing was changed.
pub async fn chosen(world: &Arc<World>, from: Option<&str>, to: Option<&str>) -> Result<(String, String)> {
    let begun = Instant::now();
    let mut primary = from.map(str::to_owned);
    loop {
        let facts = world.observe_or_remember().await?;
        let now = health(&world.inventory, &facts, &world.addresses(facts.cloud.as_ref()));
        // What was to hand over is the node of the first look, and no other that takes writes later.
        if let (Some(first), Some(other)) = (&primary, &now.primary)
            && first != other
        {
            return Err(Advice::refused(format!("{other} takes writes by now, and not {first}"))
                .hint("nothing was changed; `cluster status` shows the cluster")
                .into());
        }
        let was_there = primary.is_some();
        primary = primary.or_else(|| now.primary.clone());
        // More than this to replay would make the gap in writes long, too.
        let error = match choose(&now, to, world.inventory.failover.lag_limit_bytes) {
            Ok(pair) => {
                let Some(busy) = not_yet(&facts, &pair) else { return Ok(pair) };
                if begun.elapsed() >= CATCH_UP_PATIENCE {
                    let hint = "nothing was changed; `cluster status` shows what the guards do and whether they hear of each other";
                    return Err(Advice::refused(busy.message).hint(hint).into());
                }
                world.report.progress(&busy.node, busy.message);
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => error,
        };
        if begun.elapsed() >= CATCH_UP_PATIENCE {
            return Err(error);
        }
        if let Some(standby) = catching_up(&now, to) {
            world.report.progress(standby, "catching up with the primary");
        } else if let Some(node) = late(&facts, &now, to) {
            world.report.progress(node, "took too long to answer, and is asked again");
        } else if let Some(node) = comes_back(&facts, &now, to) {
            world.report.progress(node, "its guard makes it a standby");
        } else if was_there && now.primary.is_none() {
            // In the moment of a change that was under way.
            world.report.progress("cluster", "no node takes writes at the moment");
        } else {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What a hand-over waits for.
struct Busy {
    node: String,
    message: String,
}

/// What keeps one of the two from a hand-over that is soon over.
fn not_yet(facts: &Facts, (from, to): &(String, String)) -> Option<Busy> {
    let guard = |node: &String| facts.hosts.get(node).and_then(|host| host.up()?.guard.as_ref());
    // A successor that is still being made a standby does not request the lease, and nobody takes writes until it is one.
    for node in [from, to] {
        // Another hand-over is for the guard to refuse.
        if let Some(job) = guard(node).and_then(|guard| guard.job).filter(|job| *job != JobKind::HandOver) {
            let message = format!("the guard of {node} has not ended what it does ({job})");
            return Some(Busy { node: node.clone(), message });
        }
    }
    // One that has not granted the lease, since its guard has just started, takes the word that it is released for nothing, and
    // nobody takes writes for some ten seconds.
    if guard(to).is_some_and(|guard| guard.holder.as_ref() == Some(from)) {
        return None;
    }
    let message = format!("the guard of {to} does not know the lease of {from}, and would not take it over");
    Some(Busy { node: to.clone(), message })
}

/// A node of which the last look only knows that it took too long, and that another look may make the one that hands over or takes
/// over.
fn late<'a>(facts: &Facts, now: &'a Health, to: Option<&str>) -> Option<&'a str> {
    let streams = now.nodes.iter().any(|node| node.role == "standby" && node.state == "streaming");
    let matters = |name: &str| {
        now.primary.is_none() || to.map_or(!streams, |to| to == name && now.primary.as_deref() != Some(to))
    };
    let is_late = |name: &&str| facts.hosts.get(*name).is_some_and(Host::is_late) && matters(name);
    now.nodes.iter().map(|node| node.name.as_str()).filter(|_| !now.paused).find(is_late)
}

/// A standby that could be the successor once it has caught up, or has connected again: a stall of a few seconds ends a stream.
fn catching_up<'a>(health: &'a Health, to: Option<&str>) -> Option<&'a str> {
    let standby = |node: &&Node| {
        node.role == "standby" && node.state != "streaming" && to.is_none_or(|to| node.name == to)
    };
    health.nodes.iter().filter(|_| !health.paused).find(standby).map(|node| node.name.as_str())
}

/// A node whose data its guard makes a standby's, or starts: after a failover that takes the old primary some seconds.
fn comes_back<'a>(facts: &Facts, health: &'a Health, to: Option<&str>) -> Option<&'a str> {
    let comes = |node: &&Node| {
        let guard = facts.hosts.get(&node.name).and_then(|host| host.up()?.guard.as_ref());
        let is_wanted = node.inventory_role != Role::Witness && to.is_none_or(|to| node.name == to);
        is_wanted && node.role == "none" && guard.is_some_and(is_unhindered)
    };
    health
        .nodes
        .iter()
        .filter(|_| health.primary.is_some() && !health.paused)
        .find(comes)
        .map(|node| node.name.as_str())
}

/// Whether nothing keeps a guard from making a standby of its node, as far as it says. What went wrong before is shown beside a
/// second attempt.
fn is_unhindered(guard: &Status) -> bool {
    let is_well = guard.trouble.is_none() || guard.job == Some(JobKind::Rejoin);
    is_well && !guard.paused && !guard.diverged_data_kept
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
                let why = match old.trouble {
                    Some(trouble) => trouble,
                    None => why_not(world, from).await,
                };
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

/// Why a node that was to hand over leads, as its journal has it.
async fn why_not(world: &World, from: &str) -> String {
    match control::journal(world, from, JOURNAL_LINES).await {
        Ok(lines) => {
            end(&lines).trouble.unwrap_or_else(|| "it has handed over, and has the lease again".into())
        }
        Err(error) => format!("its guard gives no reason, and its journal cannot be read: {error}"),
    }
}

/// Waits until the old primary streams from the new one; `None` if it does not in time.
async fn wait_for_redundancy(world: &Arc<World>, from: &str, begun: Instant) -> Option<Duration> {
    while begun.elapsed() < REJOIN_PATIENCE {
        world.report.progress(from, "becoming a standby");
        // A look that fails says nothing of it.
        let now = look(world).await.ok();
        if now.is_some_and(|now| now.nodes.iter().any(|node| node.name == from && node.state == "streaming"))
        {
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
    fn a_guard_that_has_granted_nothing_yet_or_is_at_work_hands_over_and_takes_over_later() {
        let pair = ("pg1".to_owned(), "pg2".to_owned());
        let of = |holder: Option<&str>, job| {
            Some(Status { holder: holder.map(str::to_owned), job, ..Status::default() })
        };
        let with = |from: Option<Status>, to: Option<Status>| {
            let hosts = [("pg1", from), ("pg2", to)].map(|(node, guard)| {
                let host = crate::facts::HostFacts { guard, ..Default::default() };
                (node.to_owned(), Host::Up(Box::new(host)))
            });
            not_yet(&Facts { hosts: hosts.into(), ..Facts::default() }, &pair).map(|busy| busy.node)
        };
        let knows = || of(Some("pg1"), None);
        assert_eq!(with(knows(), knows()), None);
        // It has just started; it knows of another; it does not answer; the host was not looked at.
        for to in [of(None, None), of(Some("pg3"), None), None] {
            assert_eq!(with(knows(), to).as_deref(), Some("pg2"));
        }
        assert!(not_yet(&Facts::default(), &pair).is_some());
        // The last change of roles has not ended.
        let rejoins = of(Some("pg1"), Some(JobKind::Rejoin));
        assert_eq!(with(knows(), rejoins).as_deref(), Some("pg2"));
        assert_eq!(with(of(Some("pg1"), Some(JobKind::Promote)), knows()).as_deref(), Some("pg1"));
    }

    #[test]
    fn an_old_primary_is_waited_for_unless_something_keeps_its_guard() {
        let rejoins = Status { job: Some(JobKind::Rejoin), ..Status::default() };
        assert!(is_unhindered(&rejoins) && is_unhindered(&Status::default()));
        let trouble = Some("the rejoin failed: no space left on device".to_owned());
        assert!(is_unhindered(&Status { trouble: trouble.clone(), ..rejoins.clone() }), "it tries again");
        for hindered in [
            Status { trouble, ..Status::default() },
            Status { paused: true, ..Status::default() },
            Status { diverged_data_kept: true, ..Status::default() },
        ] {
            assert!(!is_unhindered(&hindered), "{hindered:?}");
        }
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
        let started = || line(Event::Started, "the guard of pg1 has started");
        let trouble = |lines: &[Line]| end(lines).trouble;
        assert!(trouble(&[begun(), started()]).unwrap().contains("started anew"));
        assert_eq!(trouble(&[begun(), failed(), started()]), Some(failed().text));
        assert_eq!(trouble(&[begun(), done(), started()]), None);
        for silent in [vec![], vec![begun()], vec![done()]] {
            assert!(end(&silent).trouble.is_some(), "{silent:?}");
        }
    }
}
