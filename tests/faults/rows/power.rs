//! Hosts that lose their power, or stand still.

use cluster_node::clock;

use crate::fault::Fault;
use crate::matrix::Row;
use crate::stage::BOOTED;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "powered-off",
        goals: "G1 G2 G4",
        fault: "the primary's host powered off; the API reports it",
        expected: "the standby takes over; powered on, the old primary is a standby",
        play: |trial| {
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "powered-off-api-away",
        goals: "G2 G4 G5",
        fault: "the API down, then the primary's host powered off",
        expected: "the promotion does not wait for the API; the address follows when it is back",
        play: |trial| {
            trial.breaks(&Fault::ApiAway)?;
            trial.restart_clock();
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.promoted()?;
            let stage = trial.stage;
            stage.lab.clear_faults();
            trial.address_follows()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "host-frozen",
        goals: "G1 G2 G4",
        fault: "the primary's whole host frozen, and thawed after the failover",
        expected: "the standby takes over; thawed, the old primary is fenced at its guard's first check",
        play: |trial| {
            trial.breaks(&Fault::FreezeHost(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "host-stall-5s",
        goals: "G1",
        fault: "the primary's whole host frozen for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.stalls(&Fault::FreezeHost(trial.old.clone()), 5.0)?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "witness-lost",
        goals: "G1 G6",
        fault: "the witness powered off",
        expected: "no effect: the other two are a majority",
        play: |trial| {
            trial.breaks(&Fault::PowerOff("pg3".into()))?;
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "standby-lost",
        goals: "G1 G6",
        fault: "the standby powered off",
        expected: "the primary continues; powered on, the standby streams again",
        play: |trial| {
            let new = trial.new.clone();
            trial.breaks(&Fault::PowerOff(new.clone()))?;
            trial.stays(20.0)?;
            trial.mends()?;
            trial.node_is_back(&new)
        },
    },
    Row {
        name: "witness-off-then-primary",
        goals: "G2 G6",
        fault: "the witness off, then the primary; the witness back after 20 s",
        expected: "no promotion without a majority; one as soon as the witness is back (repmgr: never again)",
        play: |trial| {
            let old = trial.old.clone();
            trial.breaks(&Fault::PowerOff("pg3".into()))?;
            trial.sleep(3.0);
            trial.restart_clock();
            trial.breaks(&Fault::PowerOff(old.clone()))?;
            // Until then it may take writes.
            let off = trial.stage.is_off(&old)?;
            trial.nobody(off, 18.0)?;
            trial.powers_on("pg3");
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "data-nodes-power-cycled",
        goals: "G1 G4 G6",
        fault: "both data nodes powered off at the same time, and on again after 5 s",
        expected: "one primary, with everything that the surviving timeline had acknowledged",
        play: |trial| {
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.breaks(&Fault::PowerOff(trial.new.clone()))?;
            trial.sleep(5.0);
            trial.mends()?;
            trial.promotions(None);
            Ok(())
        },
    },
    Row {
        name: "whole-cluster-power-cut",
        goals: "G1 G4 G6 G7",
        fault: "all three nodes powered off at the same time, and on again after 5 s",
        expected: "the old primary is primary again, and nothing is lost",
        play: |trial| {
            for node in ["pg1", "pg2", "pg3"] {
                trial.breaks(&Fault::PowerOff(node.into()))?;
            }
            let old = trial.old.clone();
            let stage = trial.stage;
            for node in ["pg1", "pg2", "pg3"] {
                stage.is_off(node)?;
            }
            trial.sleep(5.0);
            // The others would rightly elect another if its guard started ten seconds after both of theirs.
            trial.powers_on(&old);
            stage.lets_in(&old)?;
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            stage.wait("any write", since, BOOTED, |it| it.acknowledged().is_some())?;
            trial.nobody_but(&old)
        },
    },
    Row {
        name: "started-alone",
        goals: "G1 G6",
        fault: "all three powered off; the old primary powered on 20 s before the others",
        expected: "alone it takes no writes; with a second node it does, and nothing is lost",
        play: |trial| {
            for node in ["pg1", "pg2", "pg3"] {
                trial.breaks(&Fault::PowerOff(node.into()))?;
            }
            let old = trial.old.clone();
            let stage = trial.stage;
            for node in ["pg1", "pg2", "pg3"] {
                stage.is_off(node)?;
            }
            trial.powers_on(&old);
            trial.nobody(clock::now(), 20.0)?;
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            stage.wait("any write", since, BOOTED, |it| it.acknowledged().is_some())?;
            trial.nobody_but(&old)
        },
    },
    Row {
        name: "old-returns-new-dead",
        goals: "G1 G4 G7",
        fault: "the primary powered off, then the new one; the old one powered on",
        expected: "it does not become primary again: it missed a promotion; the other one returns as primary",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            let stage = trial.stage;
            trial.breaks(&Fault::PowerOff(old.clone()))?;
            trial.failover()?;
            trial.sleep(3.0);
            trial.breaks(&Fault::PowerOff(new.clone()))?;
            let off = stage.is_off(&new)?;
            trial.powers_on(&old);
            trial.nobody(off, 30.0)?;
            trial.mends()?;
            let since = clock::now();
            stage.wait("any write", since, BOOTED, |it| {
                it.acknowledged().is_some_and(|(node, _)| node == new)
            })?;
            trial.back()
        },
    },
];
