//! A guard that fails.

use super::network::cut_off;
use crate::fault::Fault;
use crate::matrix::Row;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "guard-killed",
        goals: "G1 G3",
        fault: "the primary's guard killed (SIGKILL)",
        expected: "systemd restarts it, and it resumes its lease: no failover",
        play: |trial| {
            trial.breaks(&Fault::KillGuard(trial.old.clone()))?;
            trial.stays(15.0)
        },
    },
    Row {
        name: "guard-frozen",
        goals: "G1 G3",
        fault: "the primary's guard frozen (SIGSTOP), and the watch beside it",
        expected: "systemd restarts it after 5.5 s: the new guard renews the lease in time, or the standby takes over; never two",
        play: |trial| {
            let old = trial.old.clone();
            trial.breaks(&Fault::FreezeGuard(old.clone()))?;
            trial.sleep(15.0);
            if trial.nobody_but(&old).is_ok() {
                trial.note("the new guard was in time");
                return trial.still_primary();
            }
            // Half a second is all that it has; a machine that is busy takes longer.
            trial.note("the new guard came too late");
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-stopped-by-hand",
        goals: "G1 G3",
        fault: "`systemctl stop` of the primary's guard",
        expected: "PostgreSQL does not keep running without a lease; the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::StopGuard(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-stopped-and-cut-off",
        goals: "G1 G3 G4",
        fault: "`systemctl stop` of the primary's guard, and the primary cut off from the other nodes; clients reach it",
        expected: "the watch fences it when the lease expires, before the standby takes writes",
        play: |trial| {
            trial.breaks(&Fault::StopGuard(trial.old.clone()))?;
            cut_off(trial)?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-frozen-and-cut-off",
        goals: "G1 G3 G4",
        fault: "the primary's guard frozen, and the primary cut off from the other nodes; clients still reach it",
        expected: "it is fenced by the watch or by systemd before the standby takes writes",
        play: |trial| {
            trial.breaks(&Fault::FreezeGuard(trial.old.clone()))?;
            cut_off(trial)?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-killed-and-cut-off",
        goals: "G1 G3 G4",
        fault: "the primary cut off from the other nodes, and its guard killed 3 s later; clients still reach it",
        expected: "the restarted guard resumes the lease with its old end, and fences when it expires",
        play: |trial| {
            cut_off(trial)?;
            trial.sleep(3.0);
            trial.breaks(&Fault::KillGuard(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
];
