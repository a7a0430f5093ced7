//! What must hold in every schedule.

use std::fmt;

use cluster_contract::timing::{FENCE_LIMIT, WATCH_GRACE, WATCH_INTERVAL};
use cluster_contract::{Millis, WalPosition};
use cluster_node::core::Core;

use crate::node::{Node, Postgres};
use crate::world::World;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The answer leaves, and the disk follows.
    AnswersBeforeDisk,
    /// The lease is counted from when the answer came.
    CountsFromReply,
    /// A voter that restarted grants at once.
    NoAbstention,
    /// The term is given back while PostgreSQL is being killed.
    ReleasesTooEarly,
    /// The lease runs out, and PostgreSQL goes on.
    NeverFences,
    /// Voters think that the lease is shorter than it is.
    WaitsTooShort,
    /// A guard that restarts holds for a whole lease from then.
    ResumesAfresh,
    /// A standby that hears nothing of a primary promotes.
    PromotesUngranted,
    /// Any standby will do.
    IgnoresLag,
    /// The length of the lease is taken to be the same everywhere.
    KnowsItsOwnLengthOnly,
    /// A voter that restarts takes what it granted for as long as its own configuration says.
    ForgetsTheLength,
    /// A guard that finds no memory takes its cluster for a new one.
    TakesNoMemoryForNew,
    /// A memory that was put back from an older disk is taken for the present.
    TrustsARestoredMemory,
    /// A voter that starts grants a new term before it has heard of a forced holder.
    NoListening,
    /// A node that has led does not remember in which term.
    ForgetsThatItLed,
    /// Nothing watches the lease but the guard itself.
    NoSentinel,
    /// A file beside the server is taken for what the server is.
    BelievesTheFile,
    /// While PostgreSQL shuts down its lease is not renewed.
    AsksNothingInAStop,
    /// Whoever asks first is granted the lease, however much others have.
    PrefersNobody,
    /// Voters hold out for the one with the most WAL no longer than that one defers to others.
    PrefersBriefly,
    /// A voter grants to those who know older members than it does.
    GrantsToOldMembers,
    /// Two members are exchanged at once.
    ChangesTwoMembers,
    /// The provider's word counts from when it is heard, not from when it was asked for.
    TrustsOldWord,
    /// A provider that does not answer has said that the host is off.
    TakesSilenceForOff,
}

/// A law that was broken, and how it came to that.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) law: String,
    pub(crate) schedule: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.law)?;
        self.schedule.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// The guard's kill, the second watch's grace and its interval: what may pass after the end of a lease.
const FENCED_WITHIN: Millis = 2_600;
const _: () = assert!(FENCE_LIMIT + WATCH_GRACE + WATCH_INTERVAL < FENCED_WITHIN);
/// A question is sent once a second, and answered while it may be lost or late once.
const ASKED_WITHIN: Millis = 3_000;
/// A majority that is healthy and connected has a primary within this: the old lease, a voter's abstention, the
/// start of what was stopped, and two collisions.
pub(crate) const PRIMARY_WITHIN: Millis = 45_000;

/// For how long after a host has thawed nobody on it can know better: until its guard has looked and killed. Where its
/// clock has stood still, until a majority has answered its next question; without one, until its lease has run out.
fn exempt(world: &World, node: &Node) -> Millis {
    if !world.stands_still {
        return FENCED_WITHIN;
    }
    let me = node.id as usize - 1;
    let hears = |other: usize| {
        other != me
            && !world.is_cut(me, other)
            && !world.is_cut(other, me)
            && world.nodes[other].guard_runs(world.real)
    };
    let others = (0..world.nodes.len()).filter(|other| hears(*other)).count();
    let told = others > world.nodes.len() / 2
        || (0..world.nodes.len())
            .any(|other| hears(other) && world.nodes[other].postgres == Postgres::Primary);
    // From when it could be told: the links may have been mended since.
    let told_after = world.last_fault.saturating_sub(node.frozen_until) + ASKED_WITHIN;
    let window = node.timing.holder_window();
    let asks = if told && world.is_quick() { told_after.min(window) } else { window };
    FENCED_WITHIN + asks
}

/// Whether a node's clock has stood still, and a majority had no time to tell it what has happened meanwhile. What it was
/// granted before counts until then: it may even be promoted by it.
pub(crate) fn knows_no_better(world: &World, node: &Node) -> bool {
    world.stands_still && node.frozen_until > 0 && world.real < node.frozen_until + exempt(world, node)
}

/// Never two holders, never two that take writes, never one that does without a lease.
pub(crate) fn safety(world: &World) -> Result<(), String> {
    let real = world.real;
    let takes_writes = |node: &&Node| {
        // A whole host that was frozen may write until its guard, or what watches beside it, has looked and killed:
        // the one exception, which no process on that host can close.
        let just_thawed = node.frozen_until > 0 && real < node.frozen_until + exempt(world, node);
        node.runs(real)
            && node.postgres == Postgres::Primary
            && real >= node.postgres_frozen_until
            && !just_thawed
    };
    let writable: Vec<u32> = world.nodes.iter().filter(takes_writes).map(|node| node.id).collect();
    if writable.len() > 1 {
        return Err(format!("nodes {writable:?} take writes at the same time"));
    }
    // What is frozen does nothing; and a clock that stood still says that it holds until a majority has said otherwise.
    let holds = |node: &&Node| {
        !knows_no_better(world, node)
            && node.on
            && node.guard.as_ref().is_some_and(|guard| guard.lease().holds(node.clock(real)))
    };
    let holders: Vec<u32> = world.nodes.iter().filter(holds).map(|node| node.id).collect();
    if holders.len() > 1 {
        return Err(format!("nodes {holders:?} hold the lease at the same time"));
    }
    if let Some(node) = world
        .nodes
        .iter()
        .filter(takes_writes)
        .find(|node| node.clock(real) > node.last_until.saturating_add(FENCED_WITHIN))
    {
        return Err(format!("node {} takes writes without a lease", node.id));
    }
    Ok(())
}

/// Whether a node with `position` may be promoted when a majority has heard that `reported` was written. A voter that
/// restarted may remember a report that is older by half of the limit.
pub(crate) fn may_rise(
    position: WalPosition,
    reported: Option<WalPosition>,
    limit: u64,
) -> Result<(), String> {
    let Some(reported) = reported else { return Ok(()) };
    let lacks = reported.lsn.saturating_sub(position.lsn);
    if position.timeline < reported.timeline {
        return Err(format!("a node with {position} was promoted, {reported} was reported"));
    }
    if position.timeline == reported.timeline && lacks > limit + limit / 2 {
        return Err(format!("a node that lacks {lacks} bytes was promoted, {limit} are allowed"));
    }
    Ok(())
}

/// How long a guard may take until more room counts.
const ROOM_COUNTS_WITHIN: Millis = 8_000;

/// What has no room of its own takes the place of nobody. A lease that was won just before is used all the same, and one
/// in which this node took writes already.
pub(crate) fn has_room_to_rise(node: &Node, real: Millis) -> Result<(), String> {
    let own =
        |guard: &Core| guard.lease().held_term().is_some_and(|term| guard.lease().last_held() == Some(term));
    if node.guard.as_ref().is_some_and(own) {
        return Ok(());
    }
    if !node.has_room(real) && real > node.no_room.0 + ROOM_COUNTS_WITHIN {
        return Err(format!(
            "node {} was promoted, and has had no room since {} ms",
            node.id, node.no_room.0
        ));
    }
    Ok(())
}

/// What a primary had that was shut down in order is what the next one has, unless something else went wrong meanwhile.
pub(crate) fn nothing_planned_is_lost(world: &World, index: usize) -> Result<(), String> {
    let Some((from, end, at)) = world.last_end else { return Ok(()) };
    let position = world.nodes[index].position;
    let old = &world.nodes[from];
    let is_there = old.guard_runs(world.real) && !old.paused && !old.kept && old.postgres == Postgres::Off;
    // A stop that takes longer than it may is somebody's to look at; so is a node that fails to start.
    let undisturbed = world.last_fault + 30_000 < at && world.real < at + 5_000;
    if is_there && undisturbed && from != index && position.timeline == end.timeline && position.lsn < end.lsn
    {
        return Err(format!(
            "node {} was promoted with {position}, and node {} has been shut down in order with {end}",
            world.nodes[index].id, old.id
        ));
    }
    Ok(())
}

/// A voter that starts abstains, and grants the next request.
const GRANTS_WITHIN: Millis = 15_000;

/// Whoever votes has granted the primary its lease, once nothing has broken for a while: one that does not is missing when
/// another is lost.
pub(crate) fn all_stand_behind_the_primary(world: &World) -> Result<(), String> {
    let Some(primary) = world.nodes.iter().find(|node| node.postgres == Postgres::Primary) else {
        return Ok(());
    };
    let votes = |node: &&Node| {
        node.is_member()
            && node.generation == primary.generation
            && world.real > node.guard_began + GRANTS_WITHIN + world.longer()
    };
    for node in world.nodes.iter().filter(votes) {
        let holder = node.guard.as_ref().and_then(|guard| guard.lease().holder(node.clock(world.real)));
        if holder != Some(primary.id) {
            return Err(format!(
                "node {} leads, and the voter of {} has granted to {holder:?}",
                primary.id, node.id
            ));
        }
    }
    Ok(())
}

/// A trouble is gone when its cause is: the floating IP is no matter of a node that does not lead.
pub(crate) fn troubles(world: &World) -> Result<(), String> {
    for node in &world.nodes {
        let Some(guard) = node.guard.as_ref().filter(|_| node.guard_runs(world.real)) else { continue };
        let status = guard.status(node.clock(world.real));
        if !status.holds && status.trouble.as_ref().is_some_and(|it| it.starts_with("floating IP")) {
            return Err(format!("node {} does not lead, and says `{}`", node.id, status.trouble.unwrap()));
        }
    }
    Ok(())
}

/// The nodes of some majority that is healthy and connected both ways and could have a primary; none if there is no
/// such majority.
pub(crate) fn healthy_majority(world: &World) -> Option<u32> {
    let real = world.real;
    let count = world.nodes.len();
    let healthy = |index: usize| {
        let node = &world.nodes[index];
        node.guard_runs(real) && node.answers(real) && !node.paused && real >= node.disk_full_until
    };
    let able = |index: usize| {
        let node = &world.nodes[index];
        node.data
            && !node.kept
            && (real < node.no_room.0 || real >= node.no_room.1 + ROOM_COUNTS_WITHIN)
            && match world.reported {
                Some(reported) => {
                    node.position.timeline >= reported.timeline
                        && node.position.lsn + node.timing.lag_limit_bytes / 2 >= reported.lsn
                }
                None => true,
            }
    };
    let members: u32 = world.members.iter().map(|id| 1 << (id - 1)).sum();
    let among = world.members.len();
    (0u32..1 << count).filter(|set| set & !members == 0 && set.count_ones() as usize > among / 2).find(
        |set| {
            let inside = |index: &usize| set & (1 << index) != 0;
            (0..count).filter(inside).all(healthy)
                && (0..count).filter(inside).any(able)
                && (0..count).filter(inside).all(|one| {
                    (0..count).filter(inside).all(|other| one == other || !world.is_cut(one, other))
                })
        },
    )
}
