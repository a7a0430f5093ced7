//! Holding by force, and what happens when the others are back.

use cluster_contract::Millis;

use crate::laws::{self, Broken, Mistake};
use crate::node::Postgres;
use crate::world::World;

/// From the return of the last node to one primary that a majority stands behind: what a voter that starts waits, a
/// rejoin, and a collision.
const SETTLES_WITHIN: Millis = 40_000;

/// What happened to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// They have no power until they are back.
    Lost,
    /// They run, and the node that is forced is cut off from them: the person was wrong.
    OutOfReach,
}

/// A standby is the last one left and is forced; later the others are back.
fn scenario(
    seed: u64,
    data: u32,
    witness: bool,
    others: Others,
    mistake: Option<Mistake>,
) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).play(|world| play(world, others))
}

fn play(world: &mut World, others: Others) -> Result<(), String> {
    world.calm();
    let primary = |world: &World| world.nodes.iter().position(|node| node.postgres == Postgres::Primary);
    world.pass_until(|world| primary(world).is_some() && world.real > 15_000, 60_000, true)?;
    let old = primary(world).unwrap_or_default();
    let forced = usize::from(old == 0);
    let rest: Vec<usize> = (0..world.nodes.len()).filter(|index| *index != forced).collect();
    for index in &rest {
        match others {
            Others::Lost => world.nodes[*index].crash(),
            Others::OutOfReach => world.cut(*index, forced),
        }
    }
    // The person is not there at once, and the guard may have to be asked again.
    let time = world.between(1_000, 30_000);
    world.pass(time, true)?;
    let asked = world.real;
    while !world.force(forced)? {
        world.pass(500, true)?;
        if world.real > asked + 20_000 {
            return Err("the guard refuses for longer than a lease can run".into());
        }
    }
    let strict = others == Others::Lost;
    let time = world.between(4_000, 40_000);
    world.pass(time, strict)?;
    if world.nodes[forced].postgres != Postgres::Primary {
        return Err("the forced node does not take writes".into());
    }
    // The forced host may go down and come back, or its guard alone, while nobody else is there.
    match world.between(0, 3) {
        0 if strict => {
            world.nodes[forced].crash();
            world.nodes[forced].back_at = Some(world.real + 3_000);
            world.pass(20_000, true)?;
        }
        1 => {
            world.nodes[forced].guard = None;
            world.nodes[forced].guard_back_at = Some(world.real + 1_000);
            world.pass(3_000, strict)?;
        }
        _ => {}
    }
    // All at once, when the power of a whole place is back, or one after the other.
    let spread = if world.between(0, 1) == 0 { 100 } else { 6_000 };
    for index in &rest {
        if others == Others::Lost {
            let after = world.between(10, spread);
            world.nodes[*index].back_at = Some(world.real + after);
        }
    }
    world.heal();
    if others == Others::OutOfReach && world.nodes[old].postgres == Postgres::Primary {
        // It has a majority, and must not notice.
        for _ in 0..40 {
            world.pass(500, false)?;
            if world.nodes[old].postgres != Postgres::Primary {
                return Err("a primary with a majority behind it was disturbed by a forced one".into());
            }
        }
    }
    world.pass_until(
        |world| {
            let primaries: Vec<usize> =
                (0..world.nodes.len()).filter(|it| world.nodes[*it].postgres == Postgres::Primary).collect();
            let settled = world.nodes.iter().all(|node| !node.disk.forced);
            // In the one case the forced node stays, and the old primary follows it; in the other it gives way.
            settled
                && primaries.len() == 1
                && match others {
                    Others::Lost => primaries == [forced] && world.nodes[old].postgres == Postgres::Standby,
                    Others::OutOfReach => primaries != [forced] && world.nodes[forced].kept,
                }
        },
        SETTLES_WITHIN,
        strict,
    )?;
    // And it stays so.
    world.pass(20_000, true)?;
    laws::safety(world)
}

fn all_hold(others: Others, seeds: u64) {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..seeds * times {
        for (data, witness) in [(2, true), (3, false), (3, true), (4, true)] {
            if let Err(broken) = scenario(seed, data, witness, others, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}

#[test]
fn when_the_lost_ones_return_the_forced_node_is_the_one_holder_and_the_old_primary_rejoins() {
    all_hold(Others::Lost, 150);
}

#[test]
fn two_data_nodes_alone_can_be_forced_too() {
    for seed in 0..200 {
        if let Err(broken) = scenario(seed, 2, false, Others::Lost, None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn a_forced_node_that_was_merely_cut_off_gives_way() {
    all_hold(Others::OutOfReach, 100);
}

/// The disk is full from just before, so that the guard does not know yet.
fn unwritten(world: &mut World) -> Result<(), String> {
    world.calm();
    let old = world.settle(15_000)?;
    let forced = usize::from(old == 0);
    for index in (0..world.nodes.len()).filter(|index| *index != forced) {
        world.nodes[index].crash();
    }
    let time = world.between(12_000, 30_000);
    world.pass(time, true)?;
    world.nodes[forced].kept = true;
    let full_for = world.between(20, 9_000);
    world.nodes[forced].disk_full_until = world.real + full_for;
    if world.force(forced)? {
        return Err("what could not be written down was answered with a yes".into());
    }
    if !world.nodes[forced].kept {
        return Err("what was kept was given up for it".into());
    }
    world.pass(60_000, true)?;
    if world.primary().is_some() {
        return Err("the answer was no, and the node leads by force all the same".into());
    }
    if !world.force(forced)? {
        return Err("the disk has room again, and the guard refuses".into());
    }
    world.pass_until(|world| world.primary() == Some(forced), SETTLES_WITHIN, true)
}

#[test]
fn a_word_that_could_not_be_written_down_is_not_obeyed_later() {
    for seed in 0..100 {
        for (data, witness) in [(2, true), (3, false), (2, false)] {
            let played = World::new(seed, data, witness, None, false).play(unwritten);
            if let Err(broken) = played {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}

#[test]
fn a_voter_that_starts_and_does_not_listen_is_caught() {
    let caught = (0..2_000).find_map(|seed| {
        Some((seed, scenario(seed, 2, true, Others::Lost, Some(Mistake::NoListening)).err()?))
    });
    let (seed, broken) = caught.expect("a voter that does not listen was not caught");
    println!("caught by seed {seed}: {}", broken.law);
}
