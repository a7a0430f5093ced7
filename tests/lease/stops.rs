//! What is planned loses nothing: a hand-over, a stop by hand, in a pause or not, over links of any speed.

use cluster_contract::Millis;
use cluster_contract::request::Request;
use cluster_node::control_file::DbState;

use crate::is_caught_by;
use crate::laws::{Broken, Mistake};
use crate::node::Postgres;
use crate::world::World;

/// From the stop to a primary: a shutdown over a slow link, then whatever follows.
const SETTLES_WITHIN: Millis = 150_000;

fn scenario(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).play(play)
}

/// PostgreSQL is killed, and takes its time to be gone: until then it may write.
fn slow_death(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).play(|world| {
        world.calm();
        let old = world.settle(40_000)?;
        let takes = world.between(500, 6_000);
        world.nodes[old].dies_at = Some(world.real + takes);
        world.pass(takes + 3_000, true)?;
        world.pass_until(|world| world.primary().is_some(), SETTLES_WITHIN, true)
    })
}

#[test]
fn a_server_that_takes_its_time_to_die_is_waited_for() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..100 * times {
        for (data, witness) in [(2, true), (3, false), (3, true)] {
            if let Err(broken) = slow_death(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}

#[test]
fn a_release_before_postgresql_is_gone_is_caught() {
    is_caught_by(slow_death, Mistake::ReleasesTooEarly, 100);
}

/// A hand-over at any moment after a restart: what the successor has all of becomes the successor's.
fn soon_handed_over(seed: u64, data: u32, witness: bool) -> Result<bool, Broken> {
    let mut is_handed_over = false;
    World::new(seed, data, witness, None, false).play(|world| {
        world.calm();
        let old = world.settle(40_000)?;
        if !world.request(old, &Request::Restart)? {
            return Err("the guard does not keep the lease for a restart".into());
        }
        (world.nodes[old].postgres, world.nodes[old].control) = (Postgres::Stopping, DbState::ShuttingDown);
        world.pass_until(|world| world.nodes[old].postgres == Postgres::Off, SETTLES_WITHIN, true)?;
        if !world.request(old, &Request::MayStart)? {
            return Err("it may not start again".into());
        }
        let takes = world.between(200, 2_500);
        world.nodes[old].postgres = Postgres::Starting(world.real + takes);
        let successor = (0..world.nodes.len()).find(|it| *it != old && world.nodes[*it].data);
        let successor = successor.unwrap_or_default();
        let streams = |world: &World| world.nodes[successor].upstream.is_some_and(|(from, _)| from == old);
        world.pass_until(
            |world| world.nodes[old].postgres == Postgres::Primary && streams(world),
            SETTLES_WITHIN,
            true,
        )?;
        let time = world.between(0, 4_000);
        world.pass(time, true)?;
        let to = Request::HandOver { to: format!("n{}", world.nodes[successor].id) };
        if !world.request(old, &to)? {
            return Err("the guard does not hand over".into());
        }
        world.pass(500, true)?;
        world.pass_until(|world| world.nodes[old].work.is_none(), SETTLES_WITHIN, true)?;
        is_handed_over = world.nodes[old].worked.is_some_and(|(_, is_done)| is_done);
        world.pass_until(|world| world.primary().is_some(), SETTLES_WITHIN, true)?;
        let primary = world.primary();
        if is_handed_over && primary != Some(successor) {
            return Err(format!("handed over to {successor}, and {primary:?} takes writes"));
        }
        Ok(())
    })?;
    Ok(is_handed_over)
}

#[test]
fn what_is_handed_over_is_the_successors_however_soon_after_a_restart() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    let mut handed_over = 0;
    for seed in 0..100 * times {
        for (data, witness) in [(2, true), (3, false), (3, true)] {
            match soon_handed_over(seed, data, witness) {
                Ok(is_handed_over) => handed_over += u64::from(is_handed_over),
                Err(broken) => panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}"),
            }
        }
    }
    assert!(handed_over > 250 * times, "{handed_over}");
}

fn play(world: &mut World) -> Result<(), String> {
    world.calm();
    let old = world.settle(40_000)?;
    // A link that carries less than is written, for as long as it takes to lack something.
    for index in 0..world.nodes.len() {
        world.nodes[index].bandwidth = world.between(1_000, 3_000);
    }
    let time = world.between(1_000, 12_000);
    world.pass(time, true)?;
    let successor = (0..world.nodes.len()).find(|it| *it != old && world.nodes[*it].data).unwrap_or_default();
    let paused = world.between(0, 2) == 0;
    let written = world.nodes[old].position;
    if paused {
        world.nodes.iter_mut().for_each(|node| node.paused = true);
        world.pass(1_000, true)?;
    }
    if paused || world.between(0, 1) == 0 {
        (world.nodes[old].postgres, world.nodes[old].control) = (Postgres::Stopping, DbState::ShuttingDown);
        world.pass_until(|world| world.nodes[old].postgres != Postgres::Stopping, SETTLES_WITHIN, true)?;
        let time = world.between(0, 20_000);
        world.pass(time, true)?;
        world.nodes.iter_mut().for_each(|node| node.paused = false);
    } else {
        let to = Request::HandOver { to: format!("n{}", world.nodes[successor].id) };
        if !world.request(old, &to)? {
            return Err("the guard does not hand over".into());
        }
    }
    world.pass(3_000, true)?;
    world.pass_until(
        |world| world.primary().is_some_and(|it| world.nodes[it].work.is_none()),
        SETTLES_WITHIN,
        true,
    )?;
    let now = world.nodes[world.primary().unwrap_or_default()].position;
    if now.lsn < written.lsn {
        return Err(format!("{written} was written before the stop, and the primary has {now}"));
    }
    Ok(())
}

#[test]
fn a_planned_stop_loses_nothing_however_slow_the_links_are() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..150 * times {
        for (data, witness) in [(2, true), (3, false), (3, true)] {
            if let Err(broken) = scenario(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}

#[test]
fn a_guard_that_lets_its_lease_run_out_while_postgresql_shuts_down_is_caught() {
    is_caught_by(scenario, Mistake::AsksNothingInAStop, 1_000);
}
