//! The rows of the matrix.

use cluster::node::clock;
use serde_json::{Value, json};

use crate::crowd::Crowd;
use crate::fault::{Fault, From};
use crate::matrix::Row;
use crate::trial::{PROMOTED, Trial};

/// PostgreSQL and its guard: what breaks inside a host that runs.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "killed",
        goals: "G2 G4 G7",
        fault: "PostgreSQL on the primary killed (SIGKILL)",
        expected: "the standby takes over; the old primary rejoins by itself",
        play: |trial| {
            trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
            trial.failover()?;
            trial.back()
        },
    },
    Row {
        name: "powered-off",
        goals: "G1 G2 G4",
        fault: "the primary's host powered off; the API knows",
        expected: "the standby takes over; powered on, the old primary is a standby within 30 s",
        play: |trial| {
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "isolated",
        goals: "G1 G2 G3 G4",
        fault: "the primary isolated, packets lost",
        expected: "it fences itself before the standby takes over; healed, it rejoins",
        play: |trial| {
            trial.breaks(&Fault::isolate(&trial.old))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "cut-off-with-clients",
        goals: "G1 G3 G4 G7",
        fault: "the primary cut off from the other nodes and the API; clients still reach it",
        expected: "it stops taking writes before the standby begins; what it alone had is reported",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.breaks(&Fault::cut(&old, From::Api))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "frozen",
        goals: "G1 G2 G4",
        fault: "every process of PostgreSQL on the primary frozen (SIGSTOP)",
        expected: "it is killed when its lease runs out; the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::FreezePostgres(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "switchover",
        goals: "G2 G7",
        fault: "none: `cluster switchover`",
        expected: "the other node takes over, and no acknowledged write is lost",
        play: switchover,
    },
    Row {
        name: "switchover-under-load",
        goals: "G2 G7",
        fault: "none: `cluster switchover` while five more writers do what they can",
        expected: "the other node takes over within 3 s, and no acknowledged write is lost",
        play: |trial| {
            trial.load();
            switchover(trial)
        },
    },
    Row {
        name: "backend-killed",
        goals: "G1",
        fault: "one backend on the primary killed (SIGKILL)",
        expected: "PostgreSQL recovers by itself; no failover",
        play: |trial| {
            trial.breaks(&Fault::KillBackend(trial.old.clone()))?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "stopped-by-hand",
        goals: "G2 G4 G6",
        fault: "`systemctl stop` of PostgreSQL on the primary",
        expected: "the standby takes over; what was stopped rejoins",
        play: |trial| {
            trial.breaks(&Fault::StopPostgres(trial.old.clone()))?;
            trial.lossless();
            trial.failover()?;
            trial.back()
        },
    },
    Row {
        name: "postmaster-frozen",
        goals: "G1 G2 G4",
        fault: "the postmaster alone frozen (SIGSTOP); sessions go on",
        expected: "no new session, no lease: it is killed, and the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::FreezePostmaster(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "stall-5s",
        goals: "G1",
        fault: "every process of PostgreSQL on the primary frozen for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.breaks(&Fault::FreezePostgres(trial.old.clone()))?;
            trial.sleep(4.7);
            trial.mends()?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "host-stall-5s",
        goals: "G1",
        fault: "the primary's whole host frozen for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.breaks(&Fault::FreezeHost(trial.old.clone()))?;
            trial.sleep(4.9);
            trial.mends()?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "link-stall-5s",
        goals: "G1",
        fault: "the primary isolated for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.breaks(&Fault::isolate(&trial.old))?;
            trial.sleep(4.9);
            trial.mends()?;
            trial.stays(12.0)
        },
    },
    Row {
        name: "host-frozen",
        goals: "G1 G2 G4",
        fault: "the primary's whole host frozen, and thawed after the failover",
        expected: "the standby takes over; thawed, the old primary is killed at its guard's first look",
        play: |trial| {
            trial.breaks(&Fault::FreezeHost(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "powered-off-api-away",
        goals: "G2 G4 G5",
        fault: "the API away, then the primary's host powered off",
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
        name: "isolated-refused",
        goals: "G1 G2 G3 G4",
        fault: "the primary isolated, its packets refused at once",
        expected: "as when they are lost: no refusal makes it quicker than the fence",
        play: |trial| {
            let fault =
                Fault::Cut { node: trial.old.clone(), from: From::Everything, one_way: false, refused: true };
            trial.breaks(&fault)?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "mute",
        goals: "G1 G2 G3 G4",
        fault: "nothing that the primary sends arrives",
        expected: "no answer reaches it: it fences itself, the standby takes over",
        play: |trial| {
            let fault =
                Fault::Cut { node: trial.old.clone(), from: From::Everything, one_way: true, refused: false };
            trial.breaks(&fault)?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "deaf",
        goals: "G1 G2 G3 G4",
        fault: "nothing that the other nodes send reaches the primary; clients do",
        expected: "its renewals are heard and their answers are not: it fences itself, the standby takes over",
        play: |trial| {
            for node in [trial.new.clone(), "pg3".to_owned()] {
                let from = From::Node(trial.old.clone());
                trial.breaks(&Fault::Cut { node, from, one_way: true, refused: false })?;
            }
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "link-between-data-nodes",
        goals: "G1 G2",
        fault: "the link between primary and standby cut for 20 s (repmgr: split brain)",
        expected: "no failover, no fence",
        play: |trial| {
            trial.breaks(&Fault::between(&trial.old, &trial.new))?;
            trial.stays(20.0)?;
            trial.mends()?;
            let new = trial.new.clone();
            trial.node_is_back(&new)
        },
    },
    Row {
        name: "link-cut-then-killed",
        goals: "G2 G6",
        fault: "the link between the data nodes cut; then PostgreSQL on the primary killed",
        expected: "the standby takes over with the witness's grant",
        play: |trial| {
            trial.breaks(&Fault::between(&trial.old, &trial.new))?;
            trial.sleep(8.0);
            trial.restart_clock();
            trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "link-to-witness",
        goals: "G1 G2",
        fault: "the link between primary and witness cut for 20 s",
        expected: "no failover, no fence",
        play: |trial| {
            trial.breaks(&Fault::between(&trial.old, "pg3"))?;
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "undecided-then-decided",
        goals: "G2 G6",
        fault: "standby and witness cut off from each other, the primary powered off; the link healed after 20 s",
        expected: "no promotion without a majority; then one (repmgr: never again)",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::between(&new, "pg3"))?;
            trial.restart_clock();
            trial.breaks(&Fault::PowerOff(old))?;
            trial.sleep(2.0);
            trial.nobody(trial.cut() + 2_000, 18.0)?;
            trial.stage.lab_does(&["heal"])?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
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
            trial.breaks(&Fault::PowerOff(old))?;
            trial.sleep(2.0);
            trial.nobody(trial.cut() + 2_000, 18.0)?;
            trial.stage.lab.ask_power(trial.stage.node("pg3").droplet, "power_on");
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "witness-lost",
        goals: "G1 G6",
        fault: "the witness powered off",
        expected: "nothing: the two others are a majority",
        play: |trial| {
            trial.breaks(&Fault::PowerOff("pg3".into()))?;
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "witness-isolated",
        goals: "G1 G6",
        fault: "the witness isolated",
        expected: "nothing",
        play: |trial| {
            trial.breaks(&Fault::isolate("pg3"))?;
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "standby-lost",
        goals: "G1 G6",
        fault: "the standby powered off",
        expected: "the primary goes on; powered on, the standby streams again",
        play: |trial| {
            let new = trial.new.clone();
            trial.breaks(&Fault::PowerOff(new.clone()))?;
            trial.stays(20.0)?;
            trial.mends()?;
            trial.node_is_back(&new)
        },
    },
    Row {
        name: "standby-isolated",
        goals: "G1 G2",
        fault: "the standby isolated, and PostgreSQL on the witness stopped before",
        expected: "no promotion: one node is no majority (repmgr: split brain)",
        play: |trial| {
            let new = trial.new.clone();
            trial.breaks(&Fault::StopPostgres("pg3".into()))?;
            trial.breaks(&Fault::isolate(&new))?;
            trial.stays(25.0)?;
            trial.mends()?;
            trial.node_is_back(&new)
        },
    },
    Row {
        name: "all-apart",
        goals: "G1 G3 G6",
        fault: "all three nodes cut off from each other for 20 s; clients reach all",
        expected: "the primary fences itself, nobody promotes; healed, there is a primary again",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.breaks(&Fault::between(&new, "pg3"))?;
            trial.sleep(9.5);
            trial.nobody(trial.cut() + 9_500, 12.0)?;
            trial.mends()?;
            // Either may have it: the old primary again, or the standby.
            trial.promotions(None);
            Ok(())
        },
    },
    Row {
        name: "guard-killed",
        goals: "G1 G3",
        fault: "the primary's guard killed (SIGKILL)",
        expected: "systemd starts it again, and it takes up its lease: no failover",
        play: |trial| {
            trial.breaks(&Fault::KillGuard(trial.old.clone()))?;
            trial.stays(15.0)
        },
    },
    Row {
        name: "guard-frozen",
        goals: "G1 G3",
        fault: "the primary's guard frozen (SIGSTOP), and the watch beside it",
        expected: "systemd's watchdog kills it and starts it anew; no two primaries",
        play: |trial| {
            trial.breaks(&Fault::FreezeGuard(trial.old.clone()))?;
            trial.stays(15.0)
        },
    },
    Row {
        name: "guard-stopped-by-hand",
        goals: "G1 G3",
        fault: "`systemctl stop` of the primary's guard",
        expected: "PostgreSQL does not go on without a lease; the standby takes over",
        play: |trial| {
            trial.breaks(&Fault::StopGuard(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-frozen-and-cut-off",
        goals: "G1 G3 G4",
        fault: "the primary's guard frozen, and the primary cut off from the other nodes; clients still reach it",
        expected: "it is fenced by the watch or by systemd before the standby begins",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::FreezeGuard(old.clone()))?;
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "guard-killed-and-cut-off",
        goals: "G1 G3 G4",
        fault: "the primary cut off from the other nodes, and its guard killed 3 s later; clients still reach it",
        expected: "the guard that systemd starts takes up the old end of the lease, and fences at it",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.sleep(3.0);
            trial.breaks(&Fault::KillGuard(old))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "api-pending-event",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 422 \"pending event\" for 8 s",
        expected: "promoted at once; the address is moved when the API lets it",
        play: |trial| api(trial, &json!({"fault": "pending_event"}), 8.0),
    },
    Row {
        name: "api-rate-limit",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 429 for 8 s",
        expected: "promoted at once; the address is moved when the API lets it",
        play: |trial| api(trial, &json!({"fault": "rate_limit", "retry_after": 1}), 8.0),
    },
    Row {
        name: "api-500",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 500 for 8 s",
        expected: "promoted at once; the address is moved when the API is well",
        play: |trial| api(trial, &json!({"fault": "status", "code": 500}), 8.0),
    },
    Row {
        name: "api-slow",
        goals: "G5",
        fault: "the primary killed; every answer of the API comes 5 s late",
        expected: "promoted at once; the address is moved all the same",
        play: |trial| {
            trial.breaks(&Fault::Api(json!({"path": "/v2/*", "fault": "delay", "ms": 5000})))?;
            trial.restart_clock();
            trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "api-token-refused",
        goals: "G5",
        fault: "the primary killed; the API refuses the token (401) for 15 s",
        expected: "promoted at once; the address is moved when the token is good again",
        play: |trial| api(trial, &json!({"fault": "status", "code": 401}), 15.0),
    },
    Row {
        name: "api-lost-answers",
        goals: "G5",
        fault: "the primary killed; the API does what it is asked, and its answers are lost, for 8 s",
        expected: "promoted at once; the address is where it should be",
        play: |trial| api(trial, &json!({"fault": "lose_reply"}), 8.0),
    },
    Row {
        name: "data-nodes-power-cycled",
        goals: "G1 G4 G6",
        fault: "both data nodes powered off at once, and on again after 5 s",
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
        fault: "all three nodes powered off at once, and on again after 5 s",
        expected: "the old primary is primary again, and nothing is lost",
        play: |trial| {
            for node in ["pg1", "pg2", "pg3"] {
                trial.breaks(&Fault::PowerOff(node.into()))?;
            }
            trial.sleep(5.0);
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            let old = trial.old.clone();
            let stage = trial.stage;
            stage.wait("any write", since, PROMOTED, |it| it.acknowledged().is_some())?;
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
            trial.sleep(2.0);
            stage.lab.ask_power(stage.node(&old).droplet, "power_on");
            trial.nobody(clock::now(), 20.0)?;
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            stage.wait("any write", since, PROMOTED, |it| it.acknowledged().is_some())?;
            trial.nobody_but(&old)
        },
    },
    Row {
        name: "old-returns-new-dead",
        goals: "G1 G4 G7",
        fault: "the primary powered off, then the new one; the old one powered on",
        expected: "it does not become primary again: it has missed a promotion; the other one returns as primary",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            let stage = trial.stage;
            trial.breaks(&Fault::PowerOff(old.clone()))?;
            trial.failover()?;
            trial.sleep(3.0);
            let off = trial.breaks(&Fault::PowerOff(new.clone()))?;
            stage.lab.ask_power(stage.node(&old).droplet, "power_on");
            trial.nobody(off + 1_500, 30.0)?;
            trial.mends()?;
            let since = clock::now();
            stage.wait("any write", since, PROMOTED, |it| {
                it.acknowledged().is_some_and(|(node, _)| node == new)
            })?;
            trial.back()
        },
    },
    Row {
        name: "two-failovers",
        goals: "G2 G4 G6",
        fault: "PostgreSQL on the primary killed; on the new one too, as soon as the old one streams",
        expected: "two failovers, and the first primary is primary again",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::KillPostgres(old.clone()))?;
            trial.failover()?;
            trial.back()?;
            let again = trial.breaks(&Fault::KillPostgres(new))?;
            let stage = trial.stage;
            let first = stage.wait("the second failover", again, PROMOTED, |it| {
                it.acknowledged().is_some_and(|(node, _)| node == old)
            })?;
            trial.note(format!("the second one took {} ms", first.ended - again));
            trial.promotions(Some(2));
            Ok(())
        },
    },
    Row {
        name: "repmgrd-dead",
        goals: "G2 G6",
        fault: "repmgrd stopped on the standby and on the witness, then PostgreSQL on the primary killed",
        expected: "the guards need no repmgrd: the standby takes over; the witness's record is mended",
        play: |trial| {
            let stage = trial.stage;
            let nodes = [trial.new.clone(), "pg3".to_owned()];
            for node in &nodes {
                stage.on(node, "systemctl stop repmgrd")?;
            }
            trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
            let seen = trial.failover();
            for node in &nodes {
                stage.on(node, "systemctl start repmgrd")?;
            }
            seen?;
            trial.back()
        },
    },
    Row {
        name: "connections-exhausted",
        goals: "G1",
        fault: "applications take every connection that they can get, for 15 s",
        expected: "no failover: the guard's place is reserved",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            let taken = Crowd::take(&stage.node(&old).address.to_string(), &stage.lab.check_password());
            trial.note(format!("{} connections", taken.count()));
            trial.stays(15.0)
        },
    },
    Row {
        name: "lagging-standby",
        goals: "G2 G7",
        fault: "the standby cut off from the primary until it lacks 32 MiB; then the primary powered off for 25 s",
        expected: "no promotion: what would be lost is more than the limit; the old primary goes on when it is back",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            trial.breaks(&Fault::between(&old, &new))?;
            trial.sleep(1.0);
            stage.sql(
                &old,
                "postgres",
                "create table ballast as select repeat(md5(i::text), 32) from generate_series(1, 40000) i",
            )?;
            trial.sleep(3.0);
            trial.restart_clock();
            let off = trial.breaks(&Fault::PowerOff(old.clone()))?;
            trial.nobody(off + 1_500, 25.0)?;
            trial.mends()?;
            trial.lossless();
            let since = clock::now();
            stage.wait("any write", since, PROMOTED, |it| it.acknowledged().is_some())?;
            trial.nobody_but(&old)?;
            stage.sql(&old, "postgres", "drop table ballast").map(drop)
        },
    },
    Row {
        name: "promoted-by-hand",
        goals: "G1 G2",
        fault: "`repmgr standby promote` by hand on the standby, the primary well",
        expected: "refused: the primary goes on",
        play: |trial| {
            by_hand(trial, "runuser -u postgres -- repmgr -f /etc/repmgr.conf standby promote --force")
        },
    },
    Row {
        name: "pg-ctl-promote-by-hand",
        goals: "G1 G2",
        fault: "`pg_ctl promote` by hand on the standby, the primary well",
        expected: "PostgreSQL does it, and the guard kills it at its next look; it is made a standby again",
        play: |trial| {
            by_hand(
                trial,
                "runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl promote -D /var/lib/postgresql/15/main",
            )
        },
    },
    Row {
        name: "started-by-hand",
        goals: "G1 G3 G4",
        fault: "the primary cut off from the other nodes; once it has fenced itself, `systemctl start` by hand",
        expected: "refused: it does not hold the lease",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            let started = stage.on(&old, &format!("systemctl start {}", stage.unit()));
            if started.is_ok() {
                return Err("systemd started PostgreSQL".into());
            }
            trial.sleep(3.0);
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "started-past-systemd",
        goals: "G1 G3 G4",
        fault: "as before, but started as postgres with `pg_ctlcluster`, past systemd",
        expected: "the guard finds it outside its unit and kills it",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            let started = stage.on(
                &old,
                "cd / && runuser -u postgres -- pg_ctlcluster --skip-systemctl-redirect 15 main start",
            );
            trial.note(format!("pg_ctlcluster: {}", if started.is_ok() { "started" } else { "refused" }));
            trial.sleep(4.0);
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "wrong-password",
        goals: "G1",
        fault: "repmgr's password is wrong on the standby for 15 s",
        expected: "no failover",
        play: |trial| {
            let (new, stage) = (trial.new.clone(), trial.stage);
            let file = "/var/lib/postgresql/.pgpass";
            stage.on(
                &new,
                &format!("cp -p {file} {file}.good && sed -i 's/:repmgr:.*/:repmgr:wrong/' {file}"),
            )?;
            let seen = trial.stays(15.0);
            stage.on(&new, &format!("mv {file}.good {file}"))?;
            seen
        },
    },
    Row {
        name: "inbound-5432-lost",
        goals: "G1 G2",
        fault: "nothing reaches PostgreSQL on the primary from the other nodes; the guards still hear each other",
        expected: "no failover: the primary serves its clients",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            let table = "table inet trial { chain input { type filter hook input priority 0; \
                         iifname != \"lo\" ip saddr PEERS tcp dport 5432 drop; }; }";
            let config = stage.on(&old, "cat /etc/cluster/node.json")?;
            let config: serde_json::Value = serde_json::from_str(&config).map_err(|it| it.to_string())?;
            let peers: Vec<&str> = config["nodes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|node| node["name"] != old.as_str())
                .filter_map(|node| node["host"].as_str())
                .collect();
            let rules = table.replace("PEERS", &format!("{{ {} }}", peers.join(", ")));
            stage.in_network(&old, &rules)?;
            let seen = trial.stays(20.0);
            stage.in_network(&old, "delete table inet trial")?;
            seen
        },
    },
];

/// `cluster switchover` to the other node.
fn switchover(trial: &mut Trial<'_>) -> Result<(), String> {
    trial.lossless();
    let stage = trial.stage;
    trial.restart_clock();
    let run = stage.lab.cluster(&["switchover", "-i", &stage.inventory, &trial.new, "--json"]);
    if run.code != 0 {
        return Err(format!("exit {}: {}", run.code, run.stderr));
    }
    trial.failover()?;
    trial.back()
}

/// PostgreSQL on the primary is killed while the API has a fault at moves of the address, for `seconds`.
fn api(trial: &mut Trial<'_>, rule: &Value, seconds: f64) -> Result<(), String> {
    let mut rule = rule.clone();
    rule["method"] = json!("POST");
    rule["path"] = json!("/v2/reserved_ips/*");
    trial.breaks(&Fault::Api(rule))?;
    trial.restart_clock();
    trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
    trial.promoted()?;
    trial.sleep(seconds);
    trial.mends()?;
    trial.address_follows()?;
    trial.back()
}

/// A person promotes the standby of a healthy primary.
fn by_hand(trial: &mut Trial<'_>, command: &str) -> Result<(), String> {
    let (new, stage) = (trial.new.clone(), trial.stage);
    let said = stage.on(&new, &format!("cd / && {command} 2>&1"));
    trial.note(match said {
        Ok(_) => "the command succeeded".to_owned(),
        Err(_) => "the command was refused".to_owned(),
    });
    trial.stays(10.0)?;
    trial.node_is_back(&new)
}
