//! Random schedules: a seed draws faults, pauses and mendings; then everything is mended, and the cluster must be whole
//! again with nobody's help. A seed means the same schedule for ever.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster_node::clock;

use crate::fault::{Fault, From};
use crate::random::Random;
use crate::stage::Stage;
use crate::trial::{Seen, Trial};

/// The longest that a seed breaks things.
const TROUBLE: u64 = 25_000;

/// What a schedule does at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something breaks.
    Break(Fault),
    /// Everything is mended.
    Mend,
    /// A switchover to this node begins, and nobody waits for its end.
    Switchover(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Break(fault) => fault.fmt(f),
            Step::Mend => write!(f, "everything is mended"),
            Step::Switchover(node) => write!(f, "a switchover to {node} begins"),
        }
    }
}

/// The schedule of a seed: what happens, and after how many milliseconds from the beginning.
pub(crate) fn schedule(seed: u64) -> Vec<(u64, Step)> {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    let mut at = random.between(0, 2_000);
    let count = random.between(2, 5);
    while steps.len() < count as usize && at < TROUBLE {
        steps.push((at, step(&mut random)));
        at += if random.chance(40) { random.between(0, 1_500) } else { random.between(1_500, 14_000) };
    }
    steps
}

fn step(random: &mut Random) -> Step {
    const NODES: [&str; 3] = ["pg1", "pg2", "pg3"];
    let node = NODES[random.between(0, 2) as usize].to_owned();
    let data = NODES[random.between(0, 1) as usize].to_owned();
    let other = NODES.iter().find(|it| **it != node).unwrap().to_string();
    let last = NODES.iter().rfind(|it| **it != node).unwrap().to_string();
    let other = if random.chance(50) { other } else { last };
    let fault = match random.between(1, 20) {
        1 | 2 => Fault::KillPostgres(node),
        3 => Fault::KillBackend(data),
        4 => Fault::FreezePostmaster(data),
        5 => Fault::FreezePostgres(data),
        6 => Fault::KillGuard(node),
        7 => Fault::FreezeGuard(node),
        8 => Fault::KillRepmgrd(node),
        9..=11 => Fault::PowerOff(node),
        12 => Fault::FreezeHost(node),
        13 | 14 => Fault::isolate(&node),
        15 | 16 => Fault::between(&node, &other),
        17 => {
            let (one_way, refused) = (random.chance(70), random.chance(40));
            Fault::Cut { node, from: From::Everything, one_way, refused }
        }
        18 => Fault::ApiAway,
        19 => return Step::Switchover(data),
        _ => return Step::Mend,
    };
    Step::Break(fault)
}

/// Plays a seed.
pub(crate) fn play(stage: &Stage, seed: u64) -> Result<Seen, String> {
    let mut trial = Trial::begin(stage);
    trial.promotions(None);
    let begun = Instant::now();
    for (at, step) in schedule(seed) {
        std::thread::sleep(Duration::from_millis(at).saturating_sub(begun.elapsed()));
        match step {
            // What is off or cut off cannot be broken any further: that is no failure of the cluster's.
            Step::Break(fault) if stage.broken().contains(&fault) => {}
            Step::Break(fault) => drop(trial.breaks(&fault)),
            Step::Mend => drop(trial.mends()),
            Step::Switchover(node) => {
                for from in ["pg1", "pg2"].into_iter().filter(|from| *from != node) {
                    let _ = stage.on(from, &format!("timeout 5 cluster-node hand-over {node}"));
                }
            }
        }
    }
    // What it left broken stays so for a while: long enough for leases to run out, or not.
    let rest = Random::new(!seed).between(0, 12_000);
    std::thread::sleep(Duration::from_millis(rest));
    // A host that was frozen and cannot be asked is mended all the same; the check of redundancy says if it was not.
    let _ = trial.mends();
    trial.end()
}

/// Where the seeds that have passed are remembered, so that a run can be stopped and taken up.
fn memory() -> PathBuf {
    std::env::var_os("CHAOS_STATE").map_or_else(|| PathBuf::from("target/chaos/passed"), PathBuf::from)
}

/// Plays seeds that have not passed yet, and fails with the first that does not, its schedule, and how it can be
/// played again.
pub(crate) fn play_all(stage: &Stage, from: u64, count: u64) {
    let memory = memory();
    std::fs::create_dir_all(memory.parent().unwrap()).unwrap();
    let passed = std::fs::read_to_string(&memory).unwrap_or_default();
    let passed: Vec<u64> = passed.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    for seed in from..from + count {
        if passed.contains(&seed) {
            println!("seed {seed} has passed before ({})", memory.display());
            continue;
        }
        let began = clock::now();
        let steps: Vec<String> = schedule(seed)
            .iter()
            .map(|(at, step)| format!("  {:>5.1} s  {step}", *at as f64 / 1000.0))
            .collect();
        match play(stage, seed) {
            Ok(seen) => {
                let text = format!(
                    "{seed} passed in {:.0} s: {} steps, {} promotions, {} rows of {} lost, longest gap {:.1} s",
                    (clock::now() - began) as f64 / 1000.0,
                    steps.len(),
                    seen.promotions,
                    seen.lost,
                    seen.acknowledged,
                    seen.gap as f64 / 1000.0
                );
                println!("seed {text}");
                use std::io::Write as _;
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&memory).unwrap();
                writeln!(file, "{text}").unwrap();
            }
            Err(error) => panic!(
                "seed {seed}: {error}\n{}\nthe journals since it began:\n{}\nthe units:\n{}\nplay it again: make chaos FROM={seed} SEEDS=1",
                steps.join("\n"),
                stage
                    .journals(began)
                    .iter()
                    .map(|it| format!(
                        "  {:>6.1} s  {}: {}",
                        (it.line.clock - began) as f64 / 1000.0,
                        it.node,
                        it.line.text
                    ))
                    .collect::<Vec<_>>()
                    .join("\n"),
                stage.units()
            ),
        }
    }
}

#[test]
fn a_seed_means_the_same_schedule_and_all_kinds_of_steps_are_drawn() {
    assert_eq!(schedule(7), schedule(7));
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 1..200 {
        let steps = schedule(seed);
        assert!(!steps.is_empty());
        kinds.extend(
            steps
                .iter()
                .map(|(_, step)| format!("{step:?}").split(['"', ' ', '{']).next().unwrap().to_owned()),
        );
    }
    assert!(kinds.len() >= 13, "{kinds:?}");
}
