//! Nodes whose guards have granted nothing yet: in a cluster that has had a primary they can lead like any other; in a
//! new one the first term is for the primary that was made first.

use cluster_contract::Millis;
use cluster_node::lease::HardState;

use crate::laws::Broken;
use crate::node::Postgres;
use crate::world::{World, run_in};

/// The abstention of a voter that starts, the old lease, a promotion.
const PROMOTED_WITHIN: Millis = 45_000;

const NEW: HardState = HardState {
    term: 0,
    holder: None,
    released: true,
    successor: None,
    granted_for: None,
    forced: false,
    last_held: None,
    report: None,
};

/// Two data nodes and a witness of a cluster that was just made: nothing was ever granted, and PostgreSQL takes writes on
/// the first.
fn scenario(seed: u64, play: fn(&mut World) -> Result<(), String>) -> Result<(), Broken> {
    let mut world = just_made(seed, 2, true);
    world.calm();
    world.play(play)
}

fn just_made(seed: u64, data: u32, witness: bool) -> World {
    let mut world = World::new(seed, data, witness, None, false);
    for node in &mut world.nodes {
        node.disk = NEW;
    }
    world.nodes[0].postgres = Postgres::Primary;
    // It takes writes before its first lease.
    world.nodes[0].last_until = Millis::MAX / 2;
    // `wal_retrieve_retry_interval` may be up to 5 s.
    world.stream_retry = [10, 1_000, 5_000][seed as usize % 3];
    world
}

/// The same while anything happens, with guards that start one after the other.
fn anything_happens(seed: u64, data: u32, witness: bool) -> Result<(), Broken> {
    let mut world = just_made(seed, data, witness);
    for index in 0..world.nodes.len() {
        let starts = world.between(0, 20_000);
        world.nodes[index].guard = None;
        world.nodes[index].guard_back_at = Some(starts);
    }
    run_in(world)
}

/// Whether the first node holds the lease.
fn leads(world: &World) -> bool {
    world.nodes[0].guard.as_ref().is_some_and(|guard| guard.lease().until().is_some())
}

fn start_guards(world: &mut World, some: &[usize]) {
    let real = world.real;
    some.iter().for_each(|index| world.nodes[*index].start_guard(real, None));
}

/// The first lease was granted by the witness. The standby's guard starts late, and its primary is gone by then.
fn the_first_primary_is_lost_at_once(world: &mut World) -> Result<(), String> {
    world.nodes[1].guard = None;
    start_guards(world, &[0, 2]);
    world.pass_until(leads, PROMOTED_WITHIN, false)?;
    world.nodes[0].crash();
    start_guards(world, &[1]);
    world.pass_until(|world| world.primary() == Some(1), PROMOTED_WITHIN, false)
}

/// The same with a standby that was added a moment ago, or whose disk was lost.
fn the_primary_of_a_newcomer_is_lost_at_once(world: &mut World) -> Result<(), String> {
    world.nodes[1].disk = HardState::default();
    the_first_primary_is_lost_at_once(world)
}

/// The first primary waits for its first lease, and takes writes meanwhile: nothing fences it yet. The others lose sight of
/// it, and of the standby's guard nobody knows whether it has forgotten anything.
fn the_first_primary_is_cut_off(world: &mut World) -> Result<(), String> {
    if world.between(0, 1) == 0 {
        world.nodes[1].disk = HardState::default();
    }
    world.cut(0, 1);
    world.cut(0, 2);
    start_guards(world, &[0, 1, 2]);
    let until = world.real + PROMOTED_WITHIN;
    while world.real < until {
        world.pass(100, false)?;
        if world.primary_among(&[1]).is_some() {
            return Err("two nodes take writes, and no lease was ever granted to the first".into());
        }
    }
    world.heal();
    world.pass_until(leads, PROMOTED_WITHIN, false)
}

/// The witness has granted the first term, and its answer is lost with every link to the first primary. The others go on.
fn the_answer_to_the_first_request_is_lost(world: &mut World) -> Result<(), String> {
    world.quiet();
    if world.between(0, 1) == 0 {
        world.nodes[1].disk = HardState::default();
    }
    start_guards(world, &[0, 1, 2]);
    // Its request is on the way by then.
    world.pass_until(|world| world.nodes[0].disk.term > 0, PROMOTED_WITHIN, false)?;
    world.cut(0, 1);
    world.cut(0, 2);
    let until = world.real + PROMOTED_WITHIN;
    while world.real < until {
        world.pass(100, false)?;
        if world.primary_among(&[0]).is_some() && world.primary_among(&[1]).is_some() {
            return Err("two nodes take writes, since the first primary waits for its first lease".into());
        }
    }
    if world.primary() != Some(1) {
        return Err("a majority knows that there was a term, and nobody leads".into());
    }
    world.heal();
    world.pass_until(|world| world.nodes[0].postgres == Postgres::Standby, PROMOTED_WITHIN, false)
}

/// The first primary's request is lost, and its own voter tells the standby of the term. Then it is cut off.
fn the_first_request_is_lost_and_heard_of(world: &mut World) -> Result<(), String> {
    world.quiet();
    world.cut(0, 1);
    world.cut(0, 2);
    start_guards(world, &[0, 1, 2]);
    // By then the others ask each other, and whoever comes back late finds its standby without a stream.
    let time = world.between(12_000, 18_000);
    world.pass(time, true)?;
    world.heal();
    world.pass_until(|world| world.nodes[0].disk.term > 0, PROMOTED_WITHIN, true)?;
    for _ in 0..100 {
        world.lose_requests_of(0);
        world.pass(10, true)?;
    }
    world.cut(0, 1);
    world.cut(0, 2);
    world.pass(PROMOTED_WITHIN, true)?;
    world.heal();
    world.pass(PROMOTED_WITHIN, true)
}

/// The first primary's disk takes nothing from about the time on at which it asks first, and its guard starts anew.
fn the_first_request_is_not_on_record(world: &mut World) -> Result<(), String> {
    world.nodes[2].guard = None;
    start_guards(world, &[0, 1]);
    let time = world.between(0, 3_000);
    world.pass(time, true)?;
    world.nodes[0].disk_full_until = world.real + 20_000;
    start_guards(world, &[2]);
    let time = world.between(100, 5_000);
    world.pass(time, true)?;
    start_guards(world, &[0]);
    world.pass(500, true)?;
    world.cut(0, 1);
    world.cut(0, 2);
    world.pass(PROMOTED_WITHIN, true)?;
    world.heal();
    world.pass(PROMOTED_WITHIN, true)
}

/// Three become five, and the two that could lead before are lost while the guards of the others have only just been
/// told. A majority is left, and in it nothing but newcomers that could lead.
fn three_become_five_and_two_are_lost(seed: u64) -> Result<(), Broken> {
    World::new(seed, 4, true, None, false).play(|world| {
        world.calm();
        world.set_members(&[1, 2, 5]);
        world.settle(15_000)?;
        for (generation, members) in [(1, vec![1, 2, 5, 3]), (2, vec![1, 2, 5, 3, 4])] {
            world.bring(&members, generation);
            for index in [3, 2, 0, 1, 4] {
                world.start_again(index);
                let time = world.between(100, 1_000);
                world.pass(time, true)?;
            }
        }
        let time = world.between(0, 8_000);
        world.pass(time, true)?;
        world.nodes[0].crash();
        world.nodes[1].crash();
        world.pass_until(|world| world.primary_among(&[2, 3]).is_some(), PROMOTED_WITHIN, true)
    })
}

fn all_hold(play: impl Fn(u64) -> Result<(), Broken>) {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..60 * times {
        if let Err(broken) = play(seed) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn newcomers_alone_can_lead_in_the_first_seconds_of_their_votes() {
    all_hold(three_become_five_and_two_are_lost);
}

#[test]
fn a_standby_leads_whose_guard_starts_when_the_first_primary_is_gone() {
    all_hold(|seed| scenario(seed, the_first_primary_is_lost_at_once));
}

#[test]
fn a_newcomer_leads_that_has_granted_nothing_yet() {
    all_hold(|seed| scenario(seed, the_primary_of_a_newcomer_is_lost_at_once));
}

#[test]
fn the_first_primary_ends_what_others_may_have_granted_it_and_it_never_heard_of() {
    all_hold(|seed| scenario(seed, the_answer_to_the_first_request_is_lost));
}

#[test]
fn the_first_primary_may_write_for_a_while_after_its_request_whoever_has_heard_of_it() {
    all_hold(|seed| scenario(seed, the_first_request_is_lost_and_heard_of));
}

#[test]
fn the_first_primary_asks_for_nothing_that_is_not_on_its_disk() {
    all_hold(|seed| scenario(seed, the_first_request_is_not_on_record));
}

#[test]
fn a_new_cluster_keeps_the_laws() {
    for (data, witness) in [(2, true), (3, false), (4, true)] {
        all_hold(|seed| anything_happens(seed, data, witness));
    }
}

#[test]
fn the_first_term_is_the_first_primarys() {
    all_hold(|seed| scenario(seed, the_first_primary_is_cut_off));
}
