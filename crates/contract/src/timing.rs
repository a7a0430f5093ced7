//! The figures of the lease. All follow from its length.

use std::fmt;

/// Milliseconds of `CLOCK_BOOTTIME` on one node, or a span of them. It goes on while a virtual machine is suspended.
pub type Millis = u64;

/// By how much the rate of a node's clock may be wrong, either way: 1 %. Quartz and paravirtual clocks are good to
/// 0.01 %; what is left is for a hypervisor that is slow to tell.
pub const DRIFT_PER_MILLE: u64 = 10;
/// How long before the end of the lease the holder stops writes.
const FENCE_BEFORE: Millis = 2_000;
/// How long after the end of a lease a voter still gives no term to another.
const GRANT_AFTER: Millis = 1_000;
/// How long killing the processes of PostgreSQL may take.
const FENCE_TAKES: Millis = 1_500;
/// A heartbeat must be committed within this; then the lease is renewed.
pub const HEARTBEAT: Millis = 3_000;
/// For how long a node whose PostgreSQL has just ended lets a standby go first.
pub const STANDS_BACK: Millis = 5_000;
/// How often a candidate canvasses, for how long it defers, and for how long voters hold out for it.
const CANVASS: Millis = 500;
const DEFERS: Millis = 2_000;
const PREFERENCE: Millis = 4_000;
// Whoever has the most begins within two canvasses of the end of its deference; by then nobody else may have been granted.
const _: () = assert!(DEFERS + 2 * CANVASS < PREFERENCE);
/// The lease if the inventory does not say otherwise.
pub const DEFAULT_LEASE: Millis = 9_000;
/// A lease that ends by its release alone.
pub const ENDLESS: Millis = Millis::MAX;

/// The length of a lease, where nothing says another one.
pub fn default_lease() -> Millis {
    DEFAULT_LEASE
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The length of the lease.
    pub lease: Millis,
    /// How often the holder asks for it anew.
    pub renew: Millis,
    /// How long before its end the holder stops.
    pub fence_before: Millis,
    /// How long after its end a voter waits.
    pub grant_after: Millis,
    /// How often a candidate canvasses.
    pub canvass: Millis,
    /// How long a candidate waits for answers before it gives its grants back.
    pub patience: Millis,
    /// How long a candidate lets those answer first who may have more WAL and do not know yet that the lease is free.
    pub defers: Millis,
    /// How long a voter holds out for the candidate with the most WAL once it may grant at all: longer than that candidate
    /// may defer.
    pub preference: Millis,
    /// How long a holder whose PostgreSQL has ended lets others go first, before it asks for the lease again.
    pub stands_back: Millis,
    /// How long a voter that starts listens for a forced holder before it grants a new term: three of its questions.
    pub listen: Millis,
    /// A holder that has not renewed for so long is asked after at the provider.
    pub silence: Millis,
    /// The most that a new primary may lack of what the old one reported, in bytes.
    pub lag_limit: u64,
    /// Whether leases end by themselves. Not so where one lost node leaves no majority: two nodes could only lose
    /// their primary by it, so there a lease ends with its release alone.
    pub expires: bool,
}

/// Figures that cannot work, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible(String);

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Impossible {}

impl Timing {
    /// The figures for a lease of `lease` milliseconds among `voters` nodes.
    ///
    /// # Errors
    /// When a primary could lose its lease by one slow heartbeat, or clocks could drift apart by more than the margin.
    pub fn new(lease: Millis, lag_limit: u64, voters: usize) -> Result<Timing, Impossible> {
        let timing = Timing {
            lease,
            renew: 1_000,
            fence_before: FENCE_BEFORE,
            grant_after: GRANT_AFTER,
            canvass: CANVASS,
            patience: 1_500,
            defers: DEFERS,
            preference: PREFERENCE,
            stands_back: STANDS_BACK,
            listen: 3_000,
            silence: 2_500,
            lag_limit,
            expires: voters > 2,
        };
        if timing.lease < FENCE_BEFORE + HEARTBEAT + timing.renew {
            return Err(Impossible(format!(
                "a lease of {lease} ms is too short: a heartbeat may take {HEARTBEAT} ms, the next renewal follows {} \
                 ms later, and the primary stops {FENCE_BEFORE} ms before the lease ends",
                timing.renew
            )));
        }
        // The holder's clock may be slow, so that it holds for longer than it thinks; a voter's may be fast.
        let holds = timing.holds() * 1000 / (1000 - DRIFT_PER_MILLE) + FENCE_TAKES;
        let waits = timing.waits() * 1000 / (1000 + DRIFT_PER_MILLE);
        if holds > waits {
            return Err(Impossible(format!(
                "a lease of {lease} ms is too long: with clocks off by {DRIFT_PER_MILLE} in a thousand, \
                 the old primary could still write for {} ms after a new one was promoted",
                holds - waits
            )));
        }
        Ok(timing)
    }

    /// How long after its question the holder may write.
    pub fn holds(&self) -> Millis {
        self.lease - self.fence_before
    }

    /// How long a guard may stand still before systemd starts a new one, of a lease of `lease` milliseconds: longer than
    /// a stall that costs nothing else, and soon enough for the new guard to take up the lease, or to fence in time.
    pub fn watchdog(lease: Millis) -> Millis {
        lease.saturating_sub(3_500).min(5_500)
    }

    /// How long after its grant a voter gives no term to another.
    pub fn waits(&self) -> Millis {
        self.lease + self.grant_after
    }

    /// The length that the holder asks for.
    pub fn asks(&self) -> Millis {
        if self.expires { self.lease } else { ENDLESS }
    }

    /// How long after its question the holder may write, if a voter has granted `lease`.
    pub fn holds_of(&self, lease: Millis) -> Millis {
        if self.expires { self.lease.min(lease).saturating_sub(self.fence_before) } else { ENDLESS }
    }

    /// How long after a grant of `lease` a voter gives no term to another.
    pub fn waits_of(&self, lease: Millis) -> Millis {
        self.lease.max(lease).saturating_add(self.grant_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_hangs_is_replaced_before_its_primary_is_past_saving() {
        for lease in [6_000, 7_000, 9_000, 60_000] {
            let timing = Timing::new(lease, 1, 3).unwrap();
            // Half a second until systemd starts the new one, and as long to fence, before any voter is free.
            assert!(Timing::watchdog(lease) + 1_000 + FENCE_TAKES < timing.waits(), "{lease}");
            assert!(Timing::watchdog(lease) < timing.holds(), "{lease}");
        }
        assert!(Timing::watchdog(DEFAULT_LEASE) > 5_000 + 200, "a stall of 5 s costs nothing");
    }

    #[test]
    fn only_lengths_that_work_are_accepted() {
        for (lease, works) in
            [(3_000, false), (5_999, false), (6_000, true), (9_000, true), (60_000, true), (120_000, false)]
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
