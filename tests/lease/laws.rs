//! What must hold in every schedule.

use std::fmt;

use cluster::node::lease::{Millis, Position};

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
    /// A voter that starts grants a new term before it has heard of a forced holder.
    NoListening,
    /// Nothing watches the lease but the guard itself.
    NoSentinel,
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

/// The guard's kill, the second watch's patience and its look: what may pass after the end of a lease.
const FENCED_WITHIN: Millis = 2_600;
/// A majority that is healthy and connected has a primary within this: the old lease, a voter's abstention, the
/// start of what was stopped, and two collisions.
pub(crate) const PRIMARY_WITHIN: Millis = 45_000;

/// Never two holders, never two that take writes, never one that does without a lease.
pub(crate) fn safety(world: &World) -> Result<(), String> {
    let real = world.real;
    let takes_writes = |node: &&Node| {
        // A whole host that was frozen may write until its guard, or what watches beside it, has looked and killed:
        // the one exception, which no process on that host can close.
        let just_thawed = node.frozen_until > 0 && real < node.frozen_until + FENCED_WITHIN;
        node.runs(real)
            && node.postgres == Postgres::Primary
            && real >= node.postgres_frozen_until
            && !just_thawed
    };
    let writable: Vec<u32> = world.nodes.iter().filter(takes_writes).map(|node| node.id).collect();
    if writable.len() > 1 {
        return Err(format!("nodes {writable:?} take writes at the same time"));
    }
    let holds =
        |node: &&Node| node.on && node.guard.as_ref().is_some_and(|guard| guard.holds(node.clock(real)));
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
pub(crate) fn may_rise(position: Position, reported: Option<Position>, limit: u64) -> Result<(), String> {
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

/// The nodes of some majority that is healthy and connected both ways and could have a primary; none if there is no
/// such majority.
pub(crate) fn healthy_majority(world: &World) -> Option<u32> {
    let real = world.real;
    let count = world.nodes.len();
    let healthy = |index: usize| {
        let node = &world.nodes[index];
        node.guard_runs(real) && real >= node.postgres_frozen_until
    };
    let able = |index: usize| {
        let node = &world.nodes[index];
        node.data
            && match world.reported {
                Some(reported) => {
                    node.position.timeline >= reported.timeline
                        && node.position.lsn + node.timing.lag_limit / 2 >= reported.lsn
                }
                None => true,
            }
    };
    (0u32..1 << count).filter(|set| set.count_ones() as usize > count / 2).find(|set| {
        let inside = |index: &usize| set & (1 << index) != 0;
        (0..count).filter(inside).all(healthy)
            && (0..count).filter(inside).any(able)
            && (0..count)
                .filter(inside)
                .all(|one| (0..count).filter(inside).all(|other| one == other || !world.is_cut(one, other)))
    })
}
