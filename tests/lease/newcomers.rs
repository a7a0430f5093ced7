//! Nodes whose guards have granted nothing yet: in a cluster that has had a primary they can lead like any other; in a
//! new one the first term is for the primary that was made first.

use cluster_contract::Millis;
use cluster_contract::request::Request;
use cluster_contract::timing::Timing;
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
    // By then the others ask each other, and whoever comes back late finds its standby without a stream.
    for node in 0..3 {
        // Not all have the same leases: the inventory was edited between two runs.
        let lease = [6_000, 9_000, 20_000, 42_000][world.between(0, 3) as usize];
        world.nodes[node].timing = Timing::new(lease, world.nodes[node].timing.lag_limit_bytes, 3).unwrap();
    }
    start_guards(world, &[0, 1, 2]);
    let time = world.between(45_000, 50_000);
    world.pass(time, true)?;
    world.heal();
    world.pass_until(|world| world.nodes[0].disk.term > 0, PROMOTED_WITHIN, true)?;
    for _ in 0..100 {
        world.lose_requests(0, &[1, 2]);
        world.pass(10, true)?;
    }
    if world.between(0, 1) == 0 {
        // Nothing but the watch is left of its guard.
        world.nodes[0].guard = None;
        world.nodes[0].guard_back_at = Some(Millis::MAX);
    }
    world.cut(0, 1);
    world.cut(0, 2);
    // Long enough for the longest of the leases.
    world.pass(2 * PROMOTED_WITHIN, true)?;
    if world.nodes[0].guard.is_none() {
        start_guards(world, &[0]);
    }
    world.heal();
    world.pass(PROMOTED_WITHIN, true)
}

/// The same, and nothing else is ever lost: the others have heard that there is a first term, and grant it.
fn the_first_request_is_heard_late(seed: u64) -> Result<(), Broken> {
    just_made(seed, 3, false).play(|world| {
        world.quiet();
        (1..3).for_each(|other| world.cut(0, other));
        start_guards(world, &[0, 1, 2]);
        let time = world.between(12_000, 18_000);
        world.pass(time, true)?;
        world.heal();
        world.pass_until(|world| world.nodes[0].disk.term > 0, PROMOTED_WITHIN, true)?;
        for _ in 0..200 {
            world.lose_requests(0, &[1, 2]);
            world.pass(10, true)?;
        }
        let until = world.real + PROMOTED_WITHIN;
        while world.real < until {
            world.pass(100, true)?;
            if world.primary() != Some(0) {
                return Err("the first primary is fenced, and all links are well".into());
            }
        }
        Ok(())
    })
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

/// The same, while nobody else is there yet: nothing of it is known anywhere, and it is asked for anew.
fn the_first_primarys_disk_is_full_for_a_while(world: &mut World) -> Result<(), String> {
    world.quiet();
    let (full_for, others_start) = (world.between(1_000, 12_000), world.between(0, 3_000));
    (world.nodes[1].guard, world.nodes[2].guard) = (None, None);
    start_guards(world, &[0]);
    world.pass(300, true)?;
    world.nodes[0].disk_full_until = world.real + full_for;
    world.pass(others_start, true)?;
    start_guards(world, &[1, 2]);
    let until = world.real + PROMOTED_WITHIN;
    while world.real < until {
        world.pass(100, true)?;
        if world.primary() != Some(0) {
            return Err("the first primary is fenced for its disk, and nobody had heard of a request".into());
        }
    }
    if leads(world) { Ok(()) } else { Err("the first primary has no lease".into()) }
}

/// The one that has granted the first term has a full disk since, and the first primary is gone.
fn who_knows_of_the_first_term_has_a_full_disk(seed: u64) -> Result<(), Broken> {
    just_made(seed, 4, true).play(|world| {
        world.quiet();
        start_guards(world, &[0, 1, 2, 3, 4]);
        world.pass_until(|world| world.nodes[0].disk.term > 0, PROMOTED_WITHIN, true)?;
        world.lose_requests(0, &[1, 2, 3]);
        (1..4).for_each(|other| world.cut(0, other));
        world.pass_until(|world| world.nodes[4].disk.term > 0, PROMOTED_WITHIN, true)?;
        world.nodes[4].disk_full_until = Millis::MAX;
        world.nodes[0].crash();
        world.heal();
        world.pass_until(|world| world.primary_among(&[1, 2, 3]).is_some(), PROMOTED_WITHIN, true)
    })
}

/// The third guard starts when the second term is given, and another voter is lost a moment later.
fn a_voter_starts_late(seed: u64) -> Result<(), Broken> {
    just_made(seed, 3, false).play(|world| {
        world.quiet();
        world.nodes[2].guard = None;
        start_guards(world, &[0, 1]);
        world.pass_until(leads, PROMOTED_WITHIN, true)?;
        let to_second = Request::HandOver { to: "n2".into() };
        // Once it streams.
        while world.primary() != Some(1) {
            world.request(0, &to_second)?;
            world.pass(2_000, true)?;
        }
        world.pass_until(|world| world.nodes[0].postgres == Postgres::Standby, PROMOTED_WITHIN, true)?;
        world.pass(3_000, true)?;
        start_guards(world, &[2]);
        let time = world.between(1_500, 8_000);
        world.pass(time, true)?;
        world.nodes[0].crash();
        let until = world.real + PROMOTED_WITHIN;
        while world.real < until {
            world.pass(100, true)?;
            if world.primary() != Some(1) {
                return Err("the primary is fenced, and a majority is there".into());
            }
        }
        Ok(())
    })
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
fn who_has_heard_of_the_first_term_grants_it_all_the_same() {
    all_hold(the_first_request_is_heard_late);
}

#[test]
fn the_first_primary_asks_for_nothing_that_is_not_on_its_disk() {
    all_hold(|seed| scenario(seed, the_first_request_is_not_on_record));
}

#[test]
fn what_never_got_to_the_first_primarys_disk_costs_it_nothing() {
    all_hold(|seed| scenario(seed, the_first_primarys_disk_is_full_for_a_while));
}

#[test]
fn a_voter_whose_disk_is_full_still_tells_of_the_first_term() {
    all_hold(who_knows_of_the_first_term_has_a_full_disk);
}

#[test]
fn a_voter_that_has_granted_nothing_grants_what_a_majority_has() {
    all_hold(a_voter_starts_late);
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
