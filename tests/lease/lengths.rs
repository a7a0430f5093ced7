//! A shorter lease in the inventory, while the longer one that was granted still runs.

use cluster_contract::Millis;
use cluster_contract::timing::Timing;

use crate::laws::{Broken, Mistake};
use crate::world::World;

const LONG: Millis = 20_000;
const SHORT: Millis = 6_000;

fn scenario(seed: u64, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, 2, true, mistake, false).play(play)
}

fn play(world: &mut World) -> Result<(), String> {
    world.calm();
    for index in 0..world.nodes.len() {
        start_with(world, index, LONG);
    }
    let old = world.settle(45_000)?;
    let others: Vec<usize> = (0..world.nodes.len()).filter(|index| *index != old).collect();
    // `cluster up` restarts the guards one after the other, and the primary's is never reached.
    let time = world.between(0, 2_000);
    world.pass(time, true)?;
    others.iter().for_each(|other| world.cut(old, *other));
    for other in &others {
        let time = world.between(0, 1_500);
        world.pass(time, true)?;
        start_with(world, *other, SHORT);
    }
    world.pass_until(|world| world.primary_among(&others).is_some(), 90_000, true)
}

/// The guard of a node starts with another length of the lease.
fn start_with(world: &mut World, index: usize, lease: Millis) {
    let count = world.nodes.len();
    let (real, mistake) = (world.real, world.mistake);
    let node = &mut world.nodes[index];
    node.timing = Timing::new(lease, node.timing.lag_limit_bytes, count).unwrap();
    node.start_guard(real, mistake);
}

#[test]
fn a_lease_that_was_granted_for_longer_is_waited_for() {
    for seed in 0..60 {
        if let Err(broken) = scenario(seed, None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn a_voter_that_forgets_for_how_long_it_granted_is_caught() {
    let caught = (0..60).find_map(|seed| scenario(seed, Some(Mistake::ForgetsTheLength)).err());
    println!("{}", caught.expect("caught by some seed").law);
}
