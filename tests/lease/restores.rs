//! A restore in place: within a restart on purpose the data becomes another, on a later timeline and with less WAL. Once a
//! majority has heard of it nothing of what was given up comes back; until then nothing is lost.

use cluster_contract::Millis;
use cluster_contract::WalPosition;
use cluster_contract::request::Request;
use cluster_node::control_file::DbState;

use crate::laws::{Broken, Mistake};
use crate::node::Postgres;
use crate::world::World;

/// A restart that nobody finishes, a lease, an abstention, two collisions and the rejoin of everybody.
const SETTLES_WITHIN: Millis = 240_000;
const STOPS_WITHIN: Millis = 100_000;

/// When the host that restores is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Never,
    /// While PostgreSQL shuts down.
    InTheStop,
    /// With the restored data in place, and not started.
    AfterTheSwap,
    /// So long after it was started.
    AfterTheStart(Millis),
}

fn scenario(seed: u64, data: u32, witness: bool, mistake: Option<Mistake>) -> Result<(), Broken> {
    World::new(seed, data, witness, mistake, false).play(play)
}

fn play(world: &mut World) -> Result<(), String> {
    world.calm();
    let old = world.settle(40_000)?;
    let (given_up, loss) = (world.between(1, 40) * 100_000, draw(world));
    let power = world.between(0, 1) == 0;
    if !world.request(old, &Request::Restart)? {
        return Err("the guard does not keep the lease for a restart".into());
    }
    (world.nodes[old].postgres, world.nodes[old].control) = (Postgres::Stopping, DbState::ShuttingDown);
    if loss == Loss::InTheStop {
        let time = world.between(0, 3_000);
        world.pass(time, true)?;
        return lose(world, old, power, None);
    }
    world.pass_until(|world| world.nodes[old].postgres == Postgres::Off, STOPS_WITHIN, true)?;
    let restored = swap(world, old, given_up);
    if loss == Loss::AfterTheSwap {
        return lose(world, old, power, Some(restored));
    }
    let time = world.between(0, 3_000);
    world.pass(time, true)?;
    if world.nodes[old].postgres == Postgres::Off && world.request(old, &Request::MayStart)? {
        let takes = world.between(200, 2_500);
        world.nodes[old].postgres = Postgres::Starting(world.real + takes);
    }
    world.pass_until(|world| world.nodes[old].postgres == Postgres::Primary, SETTLES_WITHIN, true)?;
    if let Loss::AfterTheStart(time) = loss {
        world.pass(time, true)?;
        return lose(world, old, power, Some(restored));
    }
    settle(world, Some(restored), true)
}

fn draw(world: &mut World) -> Loss {
    match world.between(0, 4) {
        0 => Loss::Never,
        1 => Loss::InTheStop,
        2 => Loss::AfterTheSwap,
        _ => Loss::AfterTheStart(world.between(0, 8_000)),
    }
}

/// The copy takes the place of the data; returns where its history leaves that of before.
fn swap(world: &mut World, index: usize, given_up: u64) -> WalPosition {
    let node = &mut world.nodes[index];
    let from = WalPosition { lsn: node.position.lsn.saturating_sub(given_up), ..node.position };
    node.history.push(from);
    node.position = WalPosition { timeline: from.timeline + 1, ..from };
    (node.checkpoint, node.control) = (node.position, DbState::ShutDown);
    // What is given up now is given up on purpose.
    world.last_end = None;
    from
}

fn lose(world: &mut World, index: usize, power: bool, restored: Option<WalPosition>) -> Result<(), String> {
    let heard = restored.is_some_and(|from| world.reported.is_some_and(|it| it.timeline > from.timeline));
    if power {
        world.nodes[index].crash();
        let time = world.between(1_000, 60_000);
        world.nodes[index].back_at = Some(world.real + time);
    } else {
        for other in (0..world.nodes.len()).filter(|other| *other != index) {
            world.cut(index, other);
        }
        let time = world.between(1_000, 60_000);
        world.pass(time, true)?;
        world.heal();
    }
    settle(world, restored, heard)
}

/// In the end one history is everybody's: the restored one if a majority had heard of it.
fn settle(world: &mut World, restored: Option<WalPosition>, heard: bool) -> Result<(), String> {
    world.pass_until(
        |world| {
            let Some(primary) = world.primary() else { return false };
            let follows = |index: usize| world.nodes[index].upstream.is_some_and(|(from, _)| from == primary);
            (0..world.nodes.len()).filter(|it| *it != primary && world.nodes[*it].data).all(follows)
        },
        SETTLES_WITHIN,
        true,
    )?;
    let history = world.nodes[world.primary().unwrap_or_default()].history.clone();
    if let Some(restored) = restored.filter(|_| heard)
        && !history.contains(&restored)
    {
        return Err(format!(
            "a majority had heard of the restore to {restored}, and what rules came by {history:?}"
        ));
    }
    Ok(())
}

#[test]
fn a_restore_in_place_is_not_undone_and_makes_no_second_history() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..150 * times {
        for (data, witness) in [(2, true), (3, false), (3, true)] {
            if let Err(broken) = scenario(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}
