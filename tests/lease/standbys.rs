//! Of several standbys the one with the most WAL takes over, and the others follow it by themselves.

use cluster_contract::Millis;

use crate::laws::{Broken, Mistake};
use crate::world::World;

/// The old lease, a moment for those that have more, a promotion; and a rejoin of what has diverged.
const PROMOTED_WITHIN: Millis = 30_000;
const FOLLOWS_WITHIN: Millis = 60_000;

fn scenario(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).play(play)
}

fn play(world: &mut World) -> Result<(), String> {
    // Who has more must be heard of to be preferred.
    world.quiet();
    let old = world.settle(15_000)?;
    for index in 0..world.nodes.len() {
        world.nodes[index].bandwidth = world.between(1_900, 2_500);
    }
    let time = world.between(500, 8_000);
    world.pass(time, true)?;
    // One of them may have lost sight of the primary a while before the others do: it asks first, and has less.
    let others: Vec<usize> =
        (0..world.nodes.len()).filter(|it| *it != old && world.nodes[*it].data).collect();
    if world.between(0, 1) == 0 {
        let first = others[world.between(0, others.len() as u64 - 1) as usize];
        world.cut(old, first);
        let time = world.between(500, 4_000);
        world.pass(time, true)?;
    }
    // The host, or PostgreSQL alone.
    if world.between(0, 1) == 0 {
        world.nodes[old].crash();
    } else {
        world.nodes[old].postgres_ends();
    }
    let promoted = |world: &World| world.primary().is_some();
    world.pass_until(promoted, PROMOTED_WITHIN, true)?;
    let new = world.primary().unwrap_or_default();
    if new != old {
        // What it had when it was promoted is where its last timeline began.
        let has = world.nodes[new].history.last().copied().unwrap_or(world.nodes[new].position);
        for other in others.iter().filter(|other| **other != new) {
            let theirs = world.nodes[*other].position;
            if theirs.timeline == has.timeline && theirs.lsn > has.lsn {
                return Err(format!(
                    "node {} was promoted with {has}, and node {} has {theirs}",
                    world.nodes[new].id, world.nodes[*other].id
                ));
            }
        }
    }
    world.heal();
    world.pass_until(
        |world| {
            let Some(new) = world.primary() else { return false };
            others
                .iter()
                .filter(|other| **other != new)
                .all(|other| world.nodes[*other].upstream.is_some_and(|(from, _)| from == new))
        },
        FOLLOWS_WITHIN,
        true,
    )
}

#[test]
fn of_several_standbys_the_one_with_the_most_wal_takes_over_and_the_others_follow() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..150 * times {
        for (data, witness) in [(3, false), (3, true), (4, true)] {
            if let Err(broken) = scenario(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}

#[test]
fn a_lease_for_whoever_asks_first_is_caught() {
    for mistake in [Mistake::PrefersNobody, Mistake::PrefersBriefly] {
        let caught = (0..2_000).find_map(|seed| Some((seed, scenario(seed, 4, true, Some(mistake)).err()?)));
        let (seed, broken) = caught.expect("a standby that lacks WAL and is promoted was not caught");
        println!("{mistake:?} caught by seed {seed}: {}", broken.law);
    }
}
