//! Reports of drills: what clients saw, and what it comes to.
//!
//! A case says what each client met for how long; an attempt every tenth of a second is made of it.

use std::path::Path;

use cluster::drill::sample::{Lane, Millis, Outcome, Sample, spans};
use cluster::drill::{Fault, Report, Run, picture, text};
use proptest::prelude::*;
use serde::Deserialize;

use crate::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    fault: Fault,
    #[serde(default = "address")]
    address: String,
    ordered: Millis,
    moved: Option<Millis>,
    healed: Option<Millis>,
    redundant: Option<Millis>,
    ended: Millis,
    saw: Vec<Stretch>,
    /// Acknowledged writes that are not there at the end, by number.
    #[serde(default)]
    lost: Vec<u64>,
    /// Writes that nobody acknowledged and that are there all the same.
    #[serde(default)]
    kept: Vec<u64>,
    /// The rows could not be read.
    #[serde(default)]
    uncounted: bool,
    #[serde(default)]
    wrong: Vec<String>,
    #[serde(default)]
    json: bool,
}

/// What a client met from one moment to another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stretch {
    lane: Lane,
    from: Millis,
    to: Millis,
    /// The node that answered, and its timeline.
    node: Option<String>,
    timeline: Option<u32>,
    refused: Option<String>,
    #[serde(default)]
    standby: bool,
    #[serde(default)]
    silent: bool,
}

fn address() -> String {
    "203.0.113.9".into()
}

impl Stretch {
    fn outcome(&self) -> (Outcome, Millis) {
        match (&self.node, &self.refused) {
            (Some(node), None) => (Outcome::Done { node: node.clone(), timeline: self.timeline }, 20),
            (None, Some(why)) => (Outcome::Refused(why.clone()), 5),
            _ if self.standby => (Outcome::Standby, 5),
            _ => {
                assert!(self.silent, "a stretch is one of node, refused, standby and silent");
                (Outcome::Silent, 2_000)
            }
        }
    }
}

fn run(case: &Case) -> Run {
    let mut samples = Vec::new();
    for stretch in &case.saw {
        let (outcome, takes) = stretch.outcome();
        for began in (stretch.from..stretch.to).step_by(100) {
            let number = samples.len() as u64 + 1;
            let (lane, outcome) = (stretch.lane.clone(), outcome.clone());
            samples.push(Sample { lane, number, began, ended: began + takes, outcome });
        }
    }
    let acknowledged = samples.iter().filter(|it| it.acknowledged_by().is_some()).map(|it| it.number);
    let rows = acknowledged.filter(|number| !case.lost.contains(number)).chain(case.kept.clone()).collect();
    Run {
        cluster: "demo".into(),
        fault: case.fault,
        began: "2026-11-23 10:00:00Z".into(),
        primary: "pg1".into(),
        address: case.address.clone(),
        samples,
        ordered: case.ordered,
        moved: case.moved,
        healed: case.healed,
        redundant: case.redundant,
        ended: case.ended,
        rows: (!case.uncounted).then_some(rows),
        wrong: case.wrong.clone(),
    }
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap();
    // By way of JSON: YAML would want a tag for a lane with a name.
    let value: serde_json::Value =
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn told(path: &Path) -> String {
    let case = read(path);
    let report = run(&case).report();
    if case.json {
        return serde_json::to_string_pretty(&report).unwrap() + "\n";
    }
    let text = anstream::adapter::strip_str(&text::text(&report)).to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn every_drill_has_the_report_that_is_written_down() {
    golden::each("drill", told);
}

#[test]
fn the_picture_of_a_drill_is_as_written_down() {
    let report = run(&read(Path::new("tests/data/drill/power-off.yaml"))).report();
    golden::check("tests/data/expected/drill.svg", &picture::svg(&report));
}

/// Every key of the report is explained on its page.
#[test]
fn every_key_of_a_report_is_documented() {
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    found.push(key.clone());
                    // Below `direct` the keys are nodes.
                    match (key.as_str(), value.as_object()) {
                        ("direct", Some(nodes)) => nodes.values().for_each(|node| keys(node, found)),
                        _ => keys(value, found),
                    }
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let report = run(&read(Path::new("tests/data/drill/power-off.yaml"))).report();
    let mut found = Vec::new();
    keys(&serde_json::to_value(report).unwrap(), &mut found);
    let page = std::fs::read_to_string("docs/drill.md").unwrap();
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        assert!(page.contains(&format!("`{key}`")), "docs/drill.md does not explain `{key}`");
    }
}

/// A history in which primaries follow one another: each timeline belongs to one node, and ends before the next.
fn one_at_a_time() -> impl Strategy<Value = Vec<Sample>> {
    let epoch = (0..3u8, 1..20usize, 0..5_000u64);
    prop::collection::vec((epoch, prop::collection::vec((0..900u64, 1..900u64), 20)), 1..5).prop_map(
        |epochs| {
            let (mut samples, mut from) = (Vec::new(), 0);
            for (timeline, ((node, count, pause), times)) in epochs.into_iter().enumerate() {
                let mut last = from;
                for (number, (after, takes)) in times.into_iter().take(count).enumerate() {
                    let began = from + after + number as u64 * 50;
                    let lane = if number % 2 == 0 { Lane::Address } else { Lane::Node(format!("pg{node}")) };
                    let outcome =
                        Outcome::Done { node: format!("pg{node}"), timeline: Some(timeline as u32 + 1) };
                    let number = samples.len() as u64;
                    samples.push(Sample { lane, number, began, ended: began + takes, outcome });
                    last = last.max(began + takes);
                }
                from = last + pause;
            }
            samples
        },
    )
}

/// Anything that clients can see.
fn anything() -> impl Strategy<Value = Vec<Sample>> {
    let outcome = prop_oneof![
        (0..2u8, 1..4u32).prop_map(|(node, timeline)| Outcome::Done {
            node: format!("pg{}", node + 1),
            timeline: Some(timeline)
        }),
        Just(Outcome::Standby),
        Just(Outcome::Refused("no".into())),
        Just(Outcome::Silent),
    ];
    let lane = prop_oneof![
        Just(Lane::Address),
        Just(Lane::Node("pg1".into())),
        Just(Lane::Node("pg2".into())),
        Just(Lane::Reader("pg2".into())),
    ];
    prop::collection::vec((lane, 0..30_000u64, 0..2_000u64, outcome), 0..80).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(number, (lane, began, takes, outcome))| Sample {
                lane,
                number: number as u64,
                began,
                ended: began + takes,
                outcome,
            })
            .collect()
    })
}

fn drill(samples: Vec<Sample>, ordered: Millis, later: Millis, lost: &[u64]) -> Run {
    let moved = |samples: Vec<Sample>| {
        let shift = |mut sample: Sample| {
            (sample.began, sample.ended) = (sample.began + later, sample.ended + later);
            sample
        };
        samples.into_iter().map(shift).collect::<Vec<_>>()
    };
    let rows = samples.iter().map(|it| it.number).filter(|number| !lost.contains(number)).collect();
    Run {
        cluster: "demo".into(),
        fault: Fault::Crash,
        began: String::new(),
        primary: "pg1".into(),
        address: address(),
        samples: moved(samples),
        ordered: ordered + later,
        moved: Some(ordered + 900 + later),
        healed: None,
        redundant: Some(ordered + 5_000 + later),
        ended: 32_000 + later,
        rows: Some(rows),
        wrong: Vec::new(),
    }
}

fn screams(report: &Report) -> bool {
    report.problems.iter().any(|problem| problem.starts_with("SPLIT BRAIN"))
}

proptest! {
    #[test]
    fn every_attempt_is_counted_once_and_only_what_was_acknowledged_is_lost(
        samples in anything(), lost in prop::collection::vec(0..80u64, 0..20)
    ) {
        let report = drill(samples.clone(), 10_000, 0, &lost).report();
        let all = || std::iter::once(&report.writes).chain(report.direct.values());
        for writes in all() {
            let counted = writes.acknowledged + writes.refused + writes.standby + writes.unanswered;
            prop_assert_eq!(counted, writes.attempted);
            prop_assert_eq!(writes.lost, Some(writes.lost_numbers.len()));
        }
        prop_assert_eq!(all().map(|it| it.attempted).sum::<usize>() + report.reads.attempted, samples.len());
        let acknowledged = |number: &u64| samples.iter().any(|it| it.number == *number && it.acknowledged_by().is_some());
        let mut told: Vec<u64> = all().flat_map(|it| it.lost_numbers.clone()).collect();
        let mut wanted: Vec<u64> = lost.into_iter().filter(acknowledged).collect();
        told.sort_unstable();
        wanted.sort_unstable();
        wanted.dedup();
        prop_assert_eq!(told, wanted);
    }

    #[test]
    fn the_figures_do_not_depend_on_when_the_drill_began(samples in anything(), later in 0..100_000u64) {
        let (now, then) = (drill(samples.clone(), 10_000, 0, &[]), drill(samples, 10_000, later, &[]));
        prop_assert_eq!(now.report(), then.report());
    }

    #[test]
    fn what_follows_the_cut_does_not_come_before_it(samples in anything(), ordered in 0..30_000u64) {
        let seconds = drill(samples, ordered, 0, &[]).report().seconds;
        prop_assert!(seconds.order_to_cut >= 0.0);
        if let Some(address) = seconds.cut_to_address {
            let writable = seconds.cut_to_writable;
            prop_assert!(writable.is_some_and(|writable| 0.0 <= writable && writable <= address), "{:?}", seconds);
        }
    }

    #[test]
    fn the_spans_of_a_lane_have_no_gaps(samples in anything()) {
        for lane in [Lane::Address, Lane::Node("pg1".into()), Lane::Reader("pg2".into())] {
            let spans = spans(&samples, &lane, 32_000);
            prop_assert_eq!(spans.is_empty(), samples.iter().all(|sample| sample.lane != lane));
            prop_assert!(spans.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to));
            prop_assert!(spans.last().is_none_or(|last| last.to == 32_000 && last.from < last.to));
        }
    }

    #[test]
    fn primaries_that_follow_one_another_are_no_split_brain(samples in one_at_a_time()) {
        prop_assert!(!screams(&drill(samples, 1_000, 0, &[]).report()));
    }

    /// The old primary acknowledges one more write after the new one has acknowledged its first.
    #[test]
    fn one_late_write_is_a_split_brain(samples in one_at_a_time(), after in 1..5_000u64) {
        let timeline = |sample: &Sample| match sample.outcome {
            Outcome::Done { timeline, .. } => timeline,
            _ => None,
        };
        let newest = samples.iter().filter_map(timeline).max().unwrap();
        prop_assume!(newest > 1);
        let first = samples.iter().filter(|it| timeline(it) == Some(newest)).map(|it| it.ended).min().unwrap();
        let mut late = samples.iter().find(|it| timeline(it) < Some(newest)).unwrap().clone();
        (late.number, late.began, late.ended) = (999, first + after, first + after + 5);
        let with = [samples, vec![late]].concat();
        prop_assert!(screams(&drill(with, 1_000, 0, &[]).report()));
    }
}
