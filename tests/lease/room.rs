//! A full disk is not a failover: what has no room takes the place of nobody, and the old primary comes back.

use cluster_contract::Millis;

use crate::laws::Broken;
use crate::node::Postgres;
use crate::world::World;

const LONG: Millis = 1 << 40;
/// The old lease, a moment for the others, and a start.
const BACK_WITHIN: Millis = 60_000;

fn scenario(seed: u64) -> Result<(), Broken> {
    World::new(seed, 2, true, None, false).play(|world| play(world, seed % 3))
}

fn play(world: &mut World, which: u64) -> Result<(), String> {
    world.quiet();
    let old = world.settle(15_000)?;
    let standby = 1 - old;
    let real = world.real;
    world.nodes[old].no_room = (real, LONG);
    // Nothing comes of it by itself: the lease is kept.
    let time = world.between(8_000, 30_000);
    world.pass(time, true)?;
    if world.primary() != Some(old) {
        return Err("a full disk has cost the lease".into());
    }
    let is_full = which != 0;
    if is_full {
        let real = world.real;
        world.nodes[standby].no_room = (real, LONG);
        let time = world.between(8_000, 30_000);
        world.pass(time, true)?;
    }
    match which {
        // It ends all the same, and the standby has room: that takes over.
        0 => {
            world.nodes[old].postgres_ends();
            world.pass_until(|world| world.primary() == Some(standby), BACK_WITHIN, true)
        }
        // It ends, and the standby has none: it comes back.
        1 => {
            world.nodes[old].postgres_ends();
            world.pass(500, true)?;
            world.pass_until(|world| world.primary().is_some(), BACK_WITHIN, true)?;
            if world.primary() == Some(standby) {
                return Err("the standby has taken over without room".into());
            }
            Ok(())
        }
        // The host is gone, and the standby has no room: it serves its readers, and takes over when it has.
        _ => {
            world.nodes[old].crash();
            world.pass(BACK_WITHIN, true)?;
            if world.primary().is_some() || world.nodes[standby].postgres != Postgres::Standby {
                return Err("the standby has taken over without room".into());
            }
            world.nodes[standby].no_room.1 = world.real;
            world.pass_until(|world| world.primary() == Some(standby), BACK_WITHIN, true)
        }
    }
}

#[test]
fn a_full_disk_is_not_a_failover() {
    for seed in 0..240 {
        if let Err(broken) = scenario(seed) {
            panic!("seed {seed}: {broken}");
        }
    }
}
