//! A year of one cluster, with an application that writes all the time: it grows, shrinks, has a node made anew and gets larger
//! droplets. Runs are killed on the way and finished by the next, and twice the primary is lost in the middle.

use std::time::Duration;

use cluster_contract::Millis;
use cluster_node::clock;

use crate::fault::Fault;
use crate::invariants::{self, Entry};
use crate::stage::{Stage, Third, nodes};
use crate::support::PREPARED;
use crate::trial::{PROMOTED, REDUNDANT};

const FOURTH: &str = "  - {name: pg4, id: 4, role: standby}\n";
const FIFTH: &str = "  - {name: pg5, id: 5, role: standby}\n";

/// What a switchover costs, and a failover: a lease that runs out, the promotion, the address, and a client that dials again.
const GAP: Millis = PROMOTED.as_millis() as Millis;
/// Without either. That nothing is restarted and nobody takes over is asked by itself: this is only the load of a machine that
/// is busy with the clones and droplets of the same run.
const NO_GAP: Millis = 15_000;

/// What happens between two looks at everything.
struct Chapter<'a> {
    what: &'a str,
    began: Millis,
    /// The votes there are while somebody may take over.
    votes: usize,
    /// Nodes that take over.
    promotions: usize,
    /// What nodes that went in it had noted before: a vote of theirs counted.
    gone: Vec<Entry>,
}

pub(crate) fn play(mut stage: Stage) {
    let chapter =
        |what, votes, promotions| Chapter { what, began: clock::now(), votes, promotions, gone: Vec::new() };
    let three = nodes(Third::Witness);

    let now = chapter("three became five", 3, 0);
    describe(&stage, &format!("{three}{FOURTH}{FIFTH}"));
    killed(&stage, &["up"], "pg5 create the droplet", 0);
    killed(&stage, &["up"], "pg4 clone pg1", 200);
    killed(&stage, &["up"], "apply membership 1", 0);
    done(&stage, &["up"]);
    ends(&mut stage, &now, 5).unwrap();

    // Its vote is about to go, or has gone.
    let mut now = chapter("five became four, and the primary was lost meanwhile", 4, 1);
    killed(&stage, &["remove", "pg5", "--yes"], "apply membership", 100);
    let second = lose_the_primary(&stage).unwrap();
    power_on(&stage).unwrap();
    now.gone = stage.journals(now.began);
    now.gone.retain(|entry| entry.node == "pg5");
    done(&stage, &["remove", "pg5", "--yes"]);
    describe(&stage, &format!("{three}{FOURTH}"));
    // The addresses that may replicate are in files.
    done(&stage, &["up"]);
    ends(&mut stage, &now, 4).unwrap();

    // Three votes are left while the new droplet has none.
    let other = if second == "pg2" { "pg4" } else { "pg2" };
    let now = chapter("a standby was made anew, and the primary was lost meanwhile", 3, 1);
    let replace = ["replace", other, "--yes"];
    killed(&stage, &replace, &format!("{other}.new wait for SSH"), 0);
    killed(&stage, &replace, &format!("{other} clone {second}"), 100);
    let third = lose_the_primary(&stage).unwrap();
    power_on(&stage).unwrap();
    done(&stage, &replace);
    ends(&mut stage, &now, 4).unwrap();

    let now = chapter("all of them got larger droplets", 4, 1);
    let text = std::fs::read_to_string(&stage.inventory).unwrap();
    stage.lab.write("demo.yaml", &text.replace("size: s-1vcpu-1gb", "size: s-1vcpu-2gb"));
    killed(&stage, &["up"], "pg3 the provider makes it", 300);
    done(&stage, &["up"]);
    ends(&mut stage, &now, 4).unwrap();
    assert_ne!(stage.primary(), third, "its droplet was switched off");

    stage.lab.cluster(&["down", "-i", &stage.inventory, "--yes"]).ok();
    assert_eq!(stage.lab.count(), (0, 0));
}

fn describe(stage: &Stage, text: &str) {
    stage.lab.inventory("demo.yaml", PREPARED, text);
}

fn words<'a>(stage: &'a Stage, words: &[&'a str]) -> Vec<&'a str> {
    words.iter().copied().chain(["-i", &stage.inventory]).collect()
}

/// The command is killed so many milliseconds after it has printed this.
fn killed(stage: &Stage, command: &[&str], mark: &str, after: u64) {
    let is_killed = stage.lab.cluster_killed_at(&words(stage, command), mark, Duration::from_millis(after));
    if !is_killed {
        tell_journals(stage, clock::now().saturating_sub(90_000));
    }
    assert!(is_killed, "`{}` never came to `{mark}`, or had ended {after} ms later", command.join(" "));
    println!("  {:?} killed {after} ms after `{mark}`", command.join(" "));
}

fn done(stage: &Stage, command: &[&str]) {
    let run = stage.lab.cluster(&words(stage, command)).ok();
    println!("  {:?}: {}", command.join(" "), run.last_line());
}

/// Switches the primary's host off. Returns who takes over.
fn lose_the_primary(stage: &Stage) -> Result<String, String> {
    let old = stage.primary();
    let cut = stage.inject(&Fault::PowerOff(old.clone()))?;
    let first = stage.wait("another node to take over", cut, PROMOTED, |it| {
        it.acknowledged().is_some_and(|(node, _)| node != old)
    })?;
    let (new, _) = first.acknowledged().ok_or("nobody")?;
    println!("  {old} lost: {new} takes writes after {:.1} s", (first.ended - cut) as f64 / 1000.0);
    Ok(new.to_owned())
}

/// Switches on again what was lost, and waits until it lets us in: `up` and `remove` do not wait for a host that boots.
fn power_on(stage: &Stage) -> Result<(), String> {
    let lost = stage.broken();
    stage.mend()?;
    for fault in lost {
        if let Fault::PowerOff(node) = fault {
            stage.lets_in(&node)?;
        }
    }
    Ok(())
}

/// The cluster is whole with so many nodes, there is nothing to do, and what must hold in every fault has held.
fn ends(stage: &mut Stage, chapter: &Chapter<'_>, members: usize) -> Result<(), String> {
    ended(stage, chapter, members).inspect_err(|_| tell_journals(stage, chapter.began))
}

/// For whoever wants to know why.
fn tell_journals(stage: &Stage, since: Millis) {
    for entry in stage.journals(since) {
        println!("{:>10} {:4} {}", entry.line.clock, entry.node, entry.line.text);
    }
}

fn ended(stage: &mut Stage, chapter: &Chapter<'_>, members: usize) -> Result<(), String> {
    stage.look();
    stage.redundant(clock::now(), REDUNDANT)?;
    let again = stage.lab.cluster(&["up", "-i", &stage.inventory]).ok();
    if !again.last_line().contains("nothing to do") || stage.hosts().len() != members {
        return Err(format!("{} nodes, and `up` says: {}", stage.hosts().len(), again.stderr));
    }
    let attempts = stage.writer.since(chapter.began);
    invariants::one_writer(&attempts, &[]).map_err(|it| format!("G1: {it}"))?;
    let mut journals = stage.journals(chapter.began);
    journals.extend(chapter.gone.iter().cloned());
    journals.sort_by_key(|entry| entry.line.clock);
    let promotions = invariants::granted(&journals, chapter.votes).map_err(|it| format!("G2: {it}"))?;
    let primary = stage.primary();
    let first = attempts.iter().map(|it| it.sequence).min().unwrap_or_default();
    let kept =
        invariants::kept(&attempts, &stage.rows(&primary, first)?).map_err(|it| format!("G7: {it}"))?;
    let gap = invariants::gap(&attempts);
    println!(
        "{}: {} writes acknowledged, {} lost; the longest gap {:.1} s; promotions {promotions}",
        chapter.what,
        kept.acknowledged,
        kept.lost.len(),
        gap as f64 / 1000.0
    );
    let most = if chapter.promotions == 0 { NO_GAP } else { GAP };
    if promotions != chapter.promotions || gap > most || kept.acknowledged < 100 {
        return Err(format!("{}: {} promotions, {most} ms", chapter.what, chapter.promotions));
    }
    if chapter.promotions == 0 && !kept.lost.is_empty() {
        return Err(format!("acknowledged rows are gone, and nobody was lost: {:?}", kept.lost));
    }
    if chapter.promotions == 0 {
        let seconds = (clock::now() - chapter.began) / 1000;
        let sql = format!("select pg_postmaster_start_time() < now() - interval '{seconds} s'");
        if stage.sql(&primary, "postgres", &sql)? != "t" {
            return Err(format!("{}: PostgreSQL was restarted on {primary}", chapter.what));
        }
    }
    let (holder, guard) = (stage.holder(), stage.guard(&primary)?);
    if holder.as_deref() != Some(&primary) || guard["holds"] != true {
        return Err(format!(
            "the address leads to {holder:?}, {primary} is primary, and its guard says {guard:#}"
        ));
    }
    Ok(())
}
