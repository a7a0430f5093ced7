//! Two data nodes and nobody else, where a lease ends by its release alone: whatever ends on one of them, and whatever
//! has become of the other, there is a primary.

use cluster_contract::Millis;

use crate::laws::Broken;
use crate::world::World;

/// From the end of PostgreSQL to a primary: what lets others go first, a start or a promotion, and one that failed.
const LEADS_WITHIN: Millis = 40_000;
/// A standby that was lost before that is known to be.
const KNOWN_TO_BE_LOST_AFTER: Millis = 4_000;

fn scenario(seed: u64) -> Result<(), Broken> {
    World::new(seed, 2, false, None, false).play(play)
}

fn play(world: &mut World) -> Result<(), String> {
    world.quiet();
    let mut old = world.settle(15_000)?;
    let mut fate = world.between(0, 2);
    match fate {
        0 => world.nodes[1 - old].crash(),
        1 => world.cut(0, 1),
        _ => {}
    }
    let time = world.between(KNOWN_TO_BE_LOST_AFTER, 20_000);
    world.pass(time, true)?;
    for round in 0..3 {
        if round == 2 && world.between(0, 1) == 0 {
            // The other is back, or about to be: with it, it may be the other's turn.
            fate = 2;
            return_of(world, 1 - old);
            let time = world.between(0, 6_000);
            world.pass(time, true)?;
        }
        world.nodes[old].postgres_ends();
        let ended = world.real;
        world.pass_until(|world| world.primary().is_some(), LEADS_WITHIN, true)?;
        let new = world.primary().unwrap_or_default();
        world.tell(format!("{} leads after {} ms", world.nodes[new].id, world.real - ended));
        if fate < 2 && new != old {
            return Err("the lost node leads".into());
        }
        old = new;
        let time = world.between(0, 15_000);
        world.pass(time, true)?;
        old = world.primary().unwrap_or(old);
    }
    // It goes on to be so when the other is back.
    return_of(world, 1 - old);
    world.pass(LEADS_WITHIN, true)?;
    if world.primary().is_none() {
        return Err("nobody leads when both are there".into());
    }
    Ok(())
}

fn return_of(world: &mut World, index: usize) {
    world.heal();
    if !world.nodes[index].on && world.nodes[index].back_at.is_none() {
        world.nodes[index].back_at = Some(world.real + 1_000);
    }
}

#[test]
fn a_primary_whose_standby_is_lost_starts_postgresql_again_and_goes_on() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..300 * times {
        if let Err(broken) = scenario(seed) {
            panic!("seed {seed}: {broken}");
        }
    }
}
