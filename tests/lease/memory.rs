//! A guard whose memory is gone, or was put back from an older disk beneath a host that runs.

use cluster_node::lease::HardState;

use crate::laws::{Broken, Mistake};
use crate::world::World;

/// From the cut to another primary: the old lease, a voter's abstention, a promotion.
const PROMOTED_WITHIN: u64 = 45_000;

/// How long a host is off at least while its disk is put back.
const RESTORED_AFTER: u64 = 15_000;

type Play = fn(&mut World) -> Result<(), String>;

fn scenario(seed: u64, play: Play, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, 2, true, mistake, false).play(|world| {
        world.calm();
        world.settle(15_000)?;
        play(world)
    })
}

/// The primary's memory is deleted, its guard starts anew, and the host is cut off.
fn the_primary_forgets(world: &mut World) -> Result<(), String> {
    let old = world.primary().unwrap_or_default();
    let others: Vec<usize> = (0..world.nodes.len()).filter(|index| *index != old).collect();
    let (real, mistake) = (world.real, world.mistake);
    world.nodes[old].disk = HardState::default();
    others.iter().for_each(|other| world.cut(old, *other));
    world.nodes[old].start_guard(real, mistake);
    world.pass_until(|world| world.primary_among(&others).is_some(), PROMOTED_WITHIN, true)?;
    // It stays cut off for longer than any lease.
    world.pass(20_000, true)
}

/// A voter's disk is put back to how it was before it granted what it has granted, and its guard starts anew; the standby
/// was cut off for so long that it lacks more than is allowed.
fn a_voter_is_put_back(world: &mut World) -> Result<(), String> {
    let old = world.primary().unwrap_or_default();
    let standby = usize::from(old == 0);
    let before = world.nodes[2].disk.clone();
    // Another term, which the older disk knows nothing of.
    world.nodes[old].crash();
    world.nodes[old].back_at = Some(world.real + PROMOTED_WITHIN);
    world.pass_until(|world| world.primary().is_some_and(|it| it != old), PROMOTED_WITHIN, true)?;
    world.pass_until(|world| world.nodes[old].upstream.is_some(), 120_000, true)?;
    let (real, mistake) = (world.real, world.mistake);
    (world.nodes[2].disk, world.nodes[2].restored) = (before, true);
    // The holder of the new term is out of reach when the voter comes back, and the old one asks.
    world.cut(standby, old);
    world.cut(standby, 2);
    world.nodes[2].start_guard(real, mistake);
    world.pass(40_000, true)
}

/// The primary loses its power, and another takes over with the witness's vote. That one is cut off, and the witness boots
/// with a disk from before: nobody is left who knows of the new term but the node that has taken writes in it, and the old
/// primary leads under the same number. What was written meanwhile is nobody's to give up but a person's.
fn a_voter_boots_with_an_older_disk(world: &mut World) -> Result<(), String> {
    let old = world.primary().unwrap_or_default();
    let other = usize::from(old == 0);
    let before = world.nodes[2].disk.clone();
    world.nodes[old].crash();
    world.pass_until(|world| world.primary() == Some(other), PROMOTED_WITHIN, true)?;
    world.pass(5_000, true)?;
    world.cut(other, old);
    world.cut(other, 2);
    world.nodes[2].crash();
    world.nodes[2].disk = before;
    // What a majority has heard is forgotten with it.
    world.reported = None;
    // To put a disk back takes longer than a lease; a boot within it could not be told from any other.
    let back_at = Some(world.real + RESTORED_AFTER);
    (world.nodes[2].back_at, world.nodes[old].back_at) = (back_at, back_at);
    world.pass_until(|world| world.primary() == Some(old), RESTORED_AFTER + PROMOTED_WITHIN, true)?;
    world.heal();
    // Its guard may be replaced meanwhile.
    world.nodes[other].guard = None;
    world.nodes[other].guard_back_at = Some(world.real + 1_000);
    world.pass(60_000, true)?;
    if world.nodes[other].kept {
        Ok(())
    } else {
        Err("what was written in a forgotten term is given up".into())
    }
}

/// No law is broken with any seed, and with the mistake some seed breaks one.
fn holds_but_for(mistake: Mistake, play: Play) {
    for seed in 0..60 {
        if let Err(broken) = scenario(seed, play, None) {
            panic!("seed {seed}: {broken}");
        }
    }
    let caught = (0..60).find_map(|seed| scenario(seed, play, Some(mistake)).err());
    println!("{}", caught.expect("the mistake is caught by some seed").law);
}

#[test]
fn a_primary_whose_memory_is_gone_is_fenced() {
    holds_but_for(Mistake::TakesNoMemoryForNew, the_primary_forgets);
}

#[test]
fn a_voter_that_was_put_back_grants_nothing_twice() {
    holds_but_for(Mistake::TrustsARestoredMemory, a_voter_is_put_back);
}

#[test]
fn what_was_written_in_a_term_that_is_forgotten_is_kept() {
    holds_but_for(Mistake::ForgetsThatItLed, a_voter_boots_with_an_older_disk);
}
