//! What must hold after every fault. Pure: the writer's memory and the guards' journals in, the first breach out.

use std::collections::{BTreeMap, BTreeSet};

use cluster_contract::journal::{Event, Line};
use cluster_contract::status::JobKind;
use cluster_contract::{Millis, Term};

use crate::writer::{ADDRESS, Attempt};

/// A promotion begins.
const PROMOTES: Event = Event::JobBegun { job: Some(JobKind::Promote) };

/// A line of a guard's journal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whose.
    pub(crate) node: String,
    /// When, on the clock that all hosts of a lab share; what happened; and how it is told.
    pub(crate) line: Line,
}

/// G1: at no instant do two nodes commit. A promotion begins a new timeline; a commit that began after somebody has
/// been told of one on a later timeline was made by a primary of the past. `forgiven` are moments at which a frozen
/// host went on: the design allows it to commit until its guard's first look.
pub(crate) fn one_writer(attempts: &[Attempt], forgiven: &[(String, Millis)]) -> Result<(), String> {
    const LOOK: Millis = 1_000;
    let mut first_end: BTreeMap<u32, &Attempt> = BTreeMap::new();
    let mut writers: BTreeMap<u32, &str> = BTreeMap::new();
    for attempt in attempts {
        let Some((node, timeline)) = attempt.acknowledged() else { continue };
        let first = first_end.entry(timeline).or_insert(attempt);
        if attempt.ended < first.ended {
            *first = attempt;
        }
        let writer = writers.entry(timeline).or_insert(node);
        if *writer != node {
            return Err(format!("{writer} and {node} both acknowledged writes on timeline {timeline}"));
        }
    }
    for attempt in attempts {
        let Some((node, timeline)) = attempt.acknowledged() else { continue };
        let is_forgiven =
            forgiven.iter().any(|(thawed, at)| thawed == node && (*at..at + LOOK).contains(&attempt.ended));
        let later = first_end.range(timeline + 1..).find(|(_, first)| attempt.begun > first.ended);
        if let Some((other, first)) = later.filter(|_| !is_forgiven) {
            let by = first.acknowledged().map_or("?", |it| it.0);
            return Err(format!(
                "{node} acknowledged row {} on timeline {timeline}, {} ms after {by} had acknowledged one on timeline \
                 {other}",
                attempt.sequence,
                attempt.begun - first.ended
            ));
        }
    }
    Ok(())
}

/// G2: every promotion stands on a lease that a majority granted before. Returns how many promotions there were.
pub(crate) fn granted(journals: &[Entry], nodes: usize) -> Result<usize, String> {
    let majority = nodes / 2 + 1;
    let mut winners: BTreeMap<Term, &str> = BTreeMap::new();
    for entry in journals.iter().filter(|entry| matches!(entry.line.event, Event::LeaseWon { .. })) {
        let term = entry.line.event.term().ok_or_else(|| format!("no term in {:?}", entry.line))?;
        let winner = winners.entry(term).or_insert(&entry.node);
        if *winner != entry.node {
            return Err(format!("{winner} and {} both won term {term}", entry.node));
        }
    }
    let mut promotions = 0;
    for promotion in journals.iter().filter(|it| it.line.event == PROMOTES) {
        promotions += 1;
        let node = &promotion.node;
        let lease = journals
            .iter()
            .filter(|it| it.node == *node && it.line.clock <= promotion.line.clock)
            .rfind(|it| {
                matches!(
                    it.line.event,
                    Event::LeaseWon { .. }
                        | Event::TermRaised { .. }
                        | Event::LeaseReleased { .. }
                        | Event::LeaseExpired { .. }
                        | Event::NoMajority { .. }
                )
            });
        let term = lease
            .filter(|it| matches!(it.line.event, Event::LeaseWon { .. } | Event::TermRaised { .. }))
            .and_then(|it| it.line.event.term())
            .ok_or_else(|| format!("{node} promoted without having won the lease"))?;
        let mut voters: BTreeSet<&str> = journals
            .iter()
            .filter(|it| it.line.clock <= promotion.line.clock)
            .filter(|it| it.line.event == Event::Granted { term, to: Some(node.clone()) })
            .map(|it| it.node.as_str())
            .collect();
        // Its own voice is on its disk before it asks anybody.
        voters.insert(node);
        if voters.len() < majority {
            return Err(format!("{node} promoted in term {term} with the grants of {voters:?} alone"));
        }
    }
    Ok(promotions)
}

/// What became of the acknowledged writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// How many were acknowledged.
    pub(crate) acknowledged: usize,
    /// The rows that the surviving timeline lacks.
    pub(crate) lost: Vec<i64>,
}

/// G7: what was acknowledged on the timeline that survives is there; what was acknowledged before and is not, is
/// counted.
pub(crate) fn kept(attempts: &[Attempt], survivors: &BTreeSet<i64>) -> Result<Kept, String> {
    let last = attempts.iter().filter_map(|it| Some(it.acknowledged()?.1)).max();
    let mut kept = Kept::default();
    for attempt in attempts {
        let Some((node, timeline)) = attempt.acknowledged() else { continue };
        kept.acknowledged += 1;
        if survivors.contains(&attempt.sequence) {
            continue;
        }
        if Some(timeline) == last {
            return Err(format!(
                "{node} acknowledged row {} on timeline {timeline}, which survives, and it is gone",
                attempt.sequence
            ));
        }
        kept.lost.push(attempt.sequence);
    }
    Ok(kept)
}

/// G4: after another node has acknowledged a write, the old primary acknowledges none.
pub(crate) fn stays_down(attempts: &[Attempt], old: &str, new: &str) -> Result<(), String> {
    let by = |attempt: &Attempt, name: &str| attempt.acknowledged().is_some_and(|(node, _)| node == name);
    let Some(first) = attempts.iter().filter(|it| by(it, new)).map(|it| it.ended).min() else {
        return Ok(());
    };
    match attempts.iter().find(|it| by(it, old) && it.begun > first) {
        Some(again) => Err(format!("{old} acknowledged row {} after {new} had taken over", again.sequence)),
        None => Ok(()),
    }
}

/// The longest time between two acknowledged writes through the address, in milliseconds.
pub(crate) fn gap(attempts: &[Attempt]) -> Millis {
    let mut ends: Vec<Millis> = attempts
        .iter()
        .filter(|it| &*it.target == ADDRESS && it.acknowledged().is_some())
        .map(|it| it.ended)
        .collect();
    ends.sort_unstable();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Outcome;

    fn acknowledged(node: &str, timeline: u32, sequence: i64, begun: Millis, ended: Millis) -> Attempt {
        let outcome = Outcome::Acknowledged { node: node.into(), timeline };
        Attempt { target: node.into(), sequence, begun, ended, outcome }
    }

    fn entry(node: &str, clock: Millis, event: Event) -> Entry {
        let line = Line { at: String::new(), clock, event, text: String::new(), since: None };
        Entry { node: node.into(), line }
    }

    #[test]
    fn a_commit_after_the_next_primarys_first_is_seen() {
        let begun = |begun| {
            let writes = [
                acknowledged("pg1", 1, 1, 0, 10),
                acknowledged("pg2", 2, 2, 100, 110),
                acknowledged("pg1", 1, 3, begun, 130),
            ];
            one_writer(&writes, &[])
        };
        assert!(begun(120).unwrap_err().contains("row 3"));
        assert_eq!(begun(105), Ok(()), "which of the two came first cannot be told");
    }

    #[test]
    fn two_writers_on_one_timeline_are_seen() {
        let writes = [acknowledged("pg1", 2, 1, 0, 10), acknowledged("pg2", 2, 2, 100, 110)];
        assert!(one_writer(&writes, &[]).is_err());
    }

    #[test]
    fn a_thawed_host_has_a_moment_and_no_more() {
        let thawed = |ended| {
            let writes = [acknowledged("pg2", 2, 2, 100, 110), acknowledged("pg1", 1, 3, 5_000, ended)];
            one_writer(&writes, &[("pg1".into(), 5_000)])
        };
        assert_eq!(thawed(5_300), Ok(()));
        assert!(thawed(6_300).is_err());
    }

    #[test]
    fn a_promotion_needs_a_lease_and_a_majority() {
        let won = entry("pg2", 10, Event::LeaseWon { term: 5 });
        let grant = entry("pg3", 9, Event::Granted { term: 5, to: Some("pg2".into()) });
        let promotes = entry("pg2", 11, PROMOTES);
        let all = [grant.clone(), won.clone(), promotes.clone()];
        assert_eq!(granted(&all, 3), Ok(1));
        assert!(granted(&[won.clone(), promotes.clone()], 3).unwrap_err().contains("alone"));
        assert!(granted(&[grant.clone(), promotes.clone()], 3).unwrap_err().contains("without"));
        let late = entry("pg3", 12, grant.line.event);
        assert!(granted(&[won.clone(), promotes.clone(), late], 3).is_err(), "a grant after the promotion");
        let released = entry("pg2", 11, Event::LeaseReleased { term: 5 });
        assert!(granted(&[all[0].clone(), won.clone(), released, promotes], 3).is_err());
        assert!(granted(&[won, entry("pg1", 10, Event::LeaseWon { term: 5 })], 3).is_err());
    }

    #[test]
    fn what_is_gone_is_counted_or_a_breach() {
        let writes = [acknowledged("pg1", 1, 1, 0, 1), acknowledged("pg1", 1, 2, 2, 3)];
        let newer = acknowledged("pg2", 2, 3, 4, 5);
        let all = [writes[0].clone(), writes[1].clone(), newer.clone()];
        assert_eq!(kept(&all, &[1, 2, 3].into()), Ok(Kept { acknowledged: 3, lost: vec![] }));
        assert_eq!(kept(&all, &[1, 3].into()), Ok(Kept { acknowledged: 3, lost: vec![2] }));
        assert!(kept(&all, &[1, 2].into()).is_err(), "the surviving timeline has lost one");
        assert!(kept(&writes, &[1].into()).is_err());
    }

    #[test]
    fn an_old_primary_that_writes_again_is_seen() {
        let writes = [acknowledged("pg2", 2, 2, 100, 110), acknowledged("pg1", 3, 3, 120, 130)];
        assert!(stays_down(&writes, "pg1", "pg2").is_err());
        assert_eq!(stays_down(&writes[..1], "pg1", "pg2"), Ok(()));
    }
}
