//! The clock of the lease.

use cluster_contract::Millis;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the boot, those in which the machine was suspended included.
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is ever negative.
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}
