//! The figures of the lease. All follow from its length.

use std::fmt;

/// Milliseconds of `CLOCK_BOOTTIME` on one node, or a span of them. It goes on while a virtual machine is suspended.
pub type Millis = u64;

/// By how much the rate of a node's clock may be wrong, either way: 1 %. Quartz and paravirtual clocks are good to
/// 0.01 %; what is left is for a hypervisor that is slow to tell.
pub const DRIFT_PER_MILLE: u64 = 10;
/// How long before the end of its lease the holder stops taking writes.
pub const FENCE_MARGIN: Millis = 2_000;
/// How long after the end of a lease a voter still gives no term to another.
pub const GRANT_MARGIN: Millis = 1_000;
/// How long killing the processes of PostgreSQL may take. The guard's own limit is within it.
pub const FENCE_LIMIT: Millis = 1_500;
/// How often the watch beside the guard compares the lease with the clock.
pub const WATCH_INTERVAL: Millis = 250;
/// For how long after the end of a lease the watch leaves the fence to the guard, which knows the reason.
pub const WATCH_GRACE: Millis = 400;
// Where the guard does not act, the watch has fenced before a voter is free.
const _: () = assert!(WATCH_GRACE + WATCH_INTERVAL + FENCE_LIMIT < FENCE_MARGIN + GRANT_MARGIN);
/// A heartbeat must be committed within this; then the lease is renewed.
pub const HEARTBEAT_TIMEOUT: Millis = 3_000;
/// How often the holder requests its lease anew.
const RENEW_INTERVAL: Millis = 1_000;
/// A heartbeat that takes as long as it may, and a renewal after it, before the primary stops.
const SHORTEST_LEASE: Millis = FENCE_MARGIN + HEARTBEAT_TIMEOUT + RENEW_INTERVAL;
/// For how long a node whose PostgreSQL has just ended lets a standby go first.
pub const CRASH_BACKOFF: Millis = 5_000;
/// How often a candidate sends its pre-vote.
const PRE_VOTE_INTERVAL: Millis = 500;
/// How long a candidate waits for votes before it gives its grants back.
const REPLY_TIMEOUT: Millis = 1_500;
/// For how long a candidate defers to those that may have more WAL, and for how long voters hold out for such a one.
const DEFERRAL: Millis = 2_000;
const PREFERENCE: Millis = 4_000;
// Whoever has the most begins within two pre-votes of the end of its deferral; by then nobody else may have been
// granted.
const _: () = assert!(DEFERRAL + 2 * PRE_VOTE_INTERVAL < PREFERENCE);
/// For how long a voter that starts listens for a forced holder: three of its requests.
const LISTEN_WINDOW: Millis = 3 * RENEW_INTERVAL;
/// A holder that has not renewed for so long is asked after at the provider: two renewals were lost or late.
const SILENT_AFTER: Millis = 2_500;
const _: () = assert!(2 * RENEW_INTERVAL < SILENT_AFTER);
/// How long before the end of the lease systemd replaces a guard that stands still, at the latest: before its primary
/// is past saving.
const WATCHDOG_MARGIN: Millis = 3_500;
const _: () = assert!(WATCHDOG_MARGIN > FENCE_MARGIN);
/// A guard that stands still for longer is replaced, however long its lease. A stall of 5 s costs nothing else.
const WATCHDOG_LIMIT: Millis = 5_500;
/// The lease if the inventory does not say otherwise.
pub const DEFAULT_LEASE: Millis = 9_000;
/// The most WAL that a new primary may lack, if the inventory does not say otherwise.
pub const DEFAULT_LAG_LIMIT_BYTES: u64 = 16 << 20;
/// The length of a lease that ends by its release alone.
pub const ENDLESS: Millis = Millis::MAX;

/// The length of a lease, where nothing says another one. (For serde, which asks for a function.)
pub fn default_lease() -> Millis {
    DEFAULT_LEASE
}

/// The figures of a lease of one length, among a number of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The length of the lease.
    pub lease: Millis,
    /// How often the holder requests it anew.
    pub renew_interval: Millis,
    /// How long before its end the holder stops taking writes.
    pub fence_margin: Millis,
    /// How long after its end a voter still gives no term to another.
    pub grant_margin: Millis,
    /// How often a candidate sends its pre-vote.
    pub pre_vote_interval: Millis,
    /// How long a candidate waits for votes before it gives its grants back.
    pub reply_timeout: Millis,
    /// How long a candidate lets those answer first who may have more WAL and do not know yet that the lease is free.
    pub deferral: Millis,
    /// How long a voter holds out for the candidate with the most WAL once it may grant at all: longer than that
    /// candidate may defer.
    pub preference: Millis,
    /// How long a holder whose PostgreSQL has ended lets others go first, before it requests the lease again.
    pub crash_backoff: Millis,
    /// How long a voter that starts listens for a forced holder before it grants a new term.
    pub listen_window: Millis,
    /// A holder that has not renewed for so long is asked after at the provider.
    pub silent_after: Millis,
    /// The most WAL that a new primary may lack of what the old one reported.
    pub lag_limit_bytes: u64,
    /// Whether leases end by themselves. Not so where one lost node leaves no majority: two nodes could only lose
    /// their primary by it, so there a lease ends with its release alone.
    pub expires: bool,
}

/// Figures that cannot work, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImpossibleTiming(String);

impl fmt::Display for ImpossibleTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImpossibleTiming {}

impl Timing {
    /// The figures for a lease of `lease` milliseconds among `voters` nodes.
    ///
    /// # Errors
    /// When a primary could lose its lease by one slow heartbeat, or clocks could drift apart by more than the margin.
    pub fn new(lease: Millis, lag_limit_bytes: u64, voters: usize) -> Result<Timing, ImpossibleTiming> {
        let timing = Timing {
            lease,
            renew_interval: RENEW_INTERVAL,
            fence_margin: FENCE_MARGIN,
            grant_margin: GRANT_MARGIN,
            pre_vote_interval: PRE_VOTE_INTERVAL,
            reply_timeout: REPLY_TIMEOUT,
            deferral: DEFERRAL,
            preference: PREFERENCE,
            crash_backoff: CRASH_BACKOFF,
            listen_window: LISTEN_WINDOW,
            silent_after: SILENT_AFTER,
            lag_limit_bytes,
            expires: voters > 2,
        };
        if timing.lease < SHORTEST_LEASE {
            return Err(ImpossibleTiming(format!(
                "a lease of {lease} ms is too short: a heartbeat may take {HEARTBEAT_TIMEOUT} ms, the next renewal follows {} \
                 ms later, and the primary stops {FENCE_MARGIN} ms before the lease ends",
                timing.renew_interval
            )));
        }
        // The holder's clock may be slow, so that it holds for longer than it thinks; a voter's may be fast. And the guard
        // may stand still at the end, so that the watch must act.
        let fenced_from = timing.holder_window() + WATCH_GRACE + WATCH_INTERVAL;
        let held = fenced_from * 1000 / (1000 - DRIFT_PER_MILLE) + FENCE_LIMIT;
        let waited = timing.voter_wait() * 1000 / (1000 + DRIFT_PER_MILLE);
        if timing.expires && held > waited {
            return Err(ImpossibleTiming(format!(
                "a lease of {lease} ms is too long: with clocks off by {DRIFT_PER_MILLE} in a thousand, \
                 the old primary could still write for {} ms after a new one was promoted",
                held - waited
            )));
        }
        Ok(timing)
    }

    /// The same for the longest lease that works and is not longer than this one: a node may always claim less.
    ///
    /// # Errors
    /// When every one is too short.
    pub fn at_most(lease: Millis, lag_limit_bytes: u64, voters: usize) -> Result<Timing, ImpossibleTiming> {
        let shorter = (0..lease / 1000).rev().map(|seconds| seconds * 1000);
        let fits = |lease| Timing::new(lease, lag_limit_bytes, voters);
        fits(lease).or_else(|error| shorter.into_iter().find_map(|lease| fits(lease).ok()).ok_or(error))
    }

    /// How long after its request the holder may take writes.
    pub fn holder_window(&self) -> Millis {
        self.lease - self.fence_margin
    }

    /// How long after its first request of all the first primary of a new cluster may take writes though no majority has
    /// granted it: as long as a voter with the shortest of leases lets pass, for they need not have its own.
    pub fn first_claim_window(&self) -> Millis {
        if self.expires { SHORTEST_LEASE - self.fence_margin } else { ENDLESS }
    }

    /// How long a guard may stand still before systemd starts a new one, of a lease of `lease` milliseconds: longer
    /// than a stall that costs nothing else, and soon enough for the new guard to take up the lease, or to fence in
    /// time.
    pub fn watchdog(lease: Millis) -> Millis {
        lease.saturating_sub(WATCHDOG_MARGIN).min(WATCHDOG_LIMIT)
    }

    /// How long after its grant a voter gives no term to another.
    pub fn voter_wait(&self) -> Millis {
        self.lease + self.grant_margin
    }

    /// The length of the leases that this node requests.
    pub fn requested_lease(&self) -> Millis {
        if self.expires { self.lease } else { ENDLESS }
    }

    /// How long after its request the holder may take writes, if a voter has granted `lease`.
    pub fn holder_window_of(&self, lease: Millis) -> Millis {
        if self.expires { self.lease.min(lease).saturating_sub(self.fence_margin) } else { ENDLESS }
    }

    /// How long after a grant of `lease` a voter gives no term to another.
    pub fn voter_wait_of(&self, lease: Millis) -> Millis {
        self.lease.max(lease).saturating_add(self.grant_margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page on the inventory has it.
    const LONGEST: Millis = 42_000;

    #[test]
    fn whoever_ends_it_nothing_writes_when_a_voter_is_free_however_long_the_lease() {
        for lease in (6_000..80_000).step_by(100) {
            let Ok(timing) = Timing::new(lease, 0, 3) else {
                assert!(lease > LONGEST, "{lease}");
                continue;
            };
            // By true time: the holder's clock is as slow as may be, and the voter's as fast.
            let slow = |millis: Millis| millis as f64 / (1.0 - DRIFT_PER_MILLE as f64 / 1000.0);
            let fast = |millis: Millis| millis as f64 / (1.0 + DRIFT_PER_MILLE as f64 / 1000.0);
            let writes_until =
                slow(timing.holder_window() + WATCH_GRACE + WATCH_INTERVAL) + FENCE_LIMIT as f64;
            assert!(writes_until <= fast(timing.voter_wait()) + 1.0, "{lease}: {writes_until}");
        }
    }

    #[test]
    fn a_guard_that_hangs_is_replaced_before_its_primary_is_past_saving() {
        for lease in [6_000, 7_000, 9_000, LONGEST] {
            let timing = Timing::new(lease, 1, 3).unwrap();
            // Half a second until systemd starts the new one, and as long to fence, before any voter is free.
            assert!(Timing::watchdog(lease) + 1_000 + FENCE_LIMIT < timing.voter_wait(), "{lease}");
            assert!(Timing::watchdog(lease) < timing.holder_window(), "{lease}");
        }
        assert!(Timing::watchdog(DEFAULT_LEASE) > 5_000 + 200, "a stall of 5 s costs nothing");
    }

    #[test]
    fn only_lengths_that_work_are_accepted() {
        assert_eq!(Timing::at_most(75_000, 0, 3).unwrap(), Timing::new(LONGEST, 0, 3).unwrap());
        assert!(Timing::at_most(5_000, 0, 3).is_err());
        assert!(Timing::new(75_000, 0, 2).is_ok(), "where none runs out");
        for (lease, works) in
            [(3_000, false), (5_999, false), (6_000, true), (9_000, true), (LONGEST, true), (120_000, false)]
        {
            assert_eq!(Timing::new(lease, 0, 3).is_ok(), works, "{lease}");
        }
    }

    #[test]
    fn two_nodes_cannot_let_a_lease_run_out() {
        assert!(!Timing::new(DEFAULT_LEASE, 0, 2).unwrap().expires);
        assert!(Timing::new(DEFAULT_LEASE, 0, 3).unwrap().expires);
    }
}
