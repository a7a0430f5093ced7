//! People: a switchover, and what somebody does by hand on the wrong node.

use std::time::Duration;

use cluster_contract::journal::Event;
use cluster_contract::status::JobKind;
use cluster_node::clock;
use serde_json::Value;

use crate::fault::Fault;
use crate::matrix::Row;
use crate::trial::{REDUNDANT, Trial};

/// The rows.
pub(crate) const ROWS: &[Row] = &[
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
        fault: "none: `cluster switchover` under load from five more writers",
        expected: "the other node takes over within 3 s, and no acknowledged write is lost",
        play: |trial| {
            trial.load();
            switchover(trial)
        },
    },
    Row {
        name: "switchover-killed",
        goals: "G7 G8",
        fault: "`cluster switchover` killed (SIGKILL) 0, 0.15, 0.4, 0.8 and 1.5 s after it started",
        expected: "one node or the other ends up primary by itself, and nothing is lost",
        play: |trial| {
            let stage = trial.stage;
            trial.lossless();
            trial.promotions(None);
            for millis in [0, 150, 400, 800, 1_500] {
                let (old, new) = (stage.primary(), stage.other(&stage.primary()));
                let begun = clock::now();
                let args = ["switchover", "-i", &stage.inventory, &new];
                let wait = Duration::from_millis(millis);
                let killed = stage.lab.cluster_killed_at(&args, "stopping and handing over", wait);
                if millis == 0 && !killed {
                    return Err("the command was not killed".into());
                }
                trial.sleep(5.0);
                stage.redundant(begun, REDUNDANT)?;
                let side = if stage.primary() == old { "did not happen" } else { "happened" };
                let word = if killed { "killed" } else { "ended before" };
                trial.note(format!("{millis} ms ({word}): {side}"));
            }
            Ok(())
        },
    },
    Row {
        name: "switchover-then-powered-off",
        goals: "G2 G4 G7",
        fault: "`cluster switchover` under load, and the primary's host powered off while it hands over",
        expected: "the standby takes over; the command says that it was no orderly hand-over, unless it was one",
        play: |trial| {
            trial.load();
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            let began = clock::now();
            let run = std::thread::scope(|scope| {
                let (lab, args) = (&stage.lab, ["switchover", "-i", &stage.inventory, &new, "--json"]);
                let command = scope.spawn(move || lab.cluster(&args));
                let hands_over = || stage.guard(&old).is_ok_and(|guard| guard["doing"] == "handover");
                while !hands_over() && clock::now() < began + 20_000 {
                    trial.sleep(0.02);
                }
                trial.breaks(&Fault::PowerOff(old.clone()))?;
                trial.failover()?;
                trial.mends()?;
                trial.back()?;
                command.join().map_err(|_| "`switchover` panicked".to_owned())
            })?;
            let done = Event::JobDone { job: Some(JobKind::HandOver) };
            let in_order = stage.journals(began).iter().any(|it| it.node == old && it.line.event == done);
            let told: Value = serde_json::from_str(&run.stdout)
                .map_err(|_| format!("exit {}: {}", run.code, run.stderr.trim()))?;
            let trouble = &told["trouble"];
            trial.note(format!("exit {}; in order: {in_order}; trouble: {trouble}", run.code));
            if trouble.is_null() != in_order || (run.code == 0) != in_order {
                return Err("the command does not say how it ended".into());
            }
            Ok(())
        },
    },
    Row {
        name: "switchover-from-a-frozen-primary",
        goals: "G1 G2 G6",
        fault: "the primary's postmaster frozen (SIGSTOP), and its guard asked for a switchover immediately",
        expected: "the switchover fails; PostgreSQL is killed, and the standby takes over",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::FreezePostmaster(old.clone()))?;
            // It cannot know yet, and must not renew its lease for ever while it asks a server that does not answer.
            trial.stage.on(&old, &format!("timeout 5 cluster-node hand-over {new}"))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "promoted-by-hand",
        goals: "G1 G2",
        fault: "`repmgr standby promote` run manually on the standby of a healthy primary",
        expected: "refused: the primary continues",
        play: |trial| {
            by_hand(trial, "runuser -u postgres -- repmgr -f /etc/repmgr.conf standby promote --force")
        },
    },
    Row {
        name: "pg-ctl-promote-by-hand",
        goals: "G1 G2",
        fault: "`pg_ctl promote` run manually on the standby of a healthy primary",
        expected: "PostgreSQL asks the guard before it takes a write, and stops; it becomes a standby again",
        play: |trial| {
            by_hand(
                trial,
                "runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_ctl promote -D /var/lib/postgresql/15/main",
            )
        },
    },
    Row {
        name: "standby-signal-then-cut-off",
        goals: "G1 G3 G4",
        fault: "a `standby.signal` put beside the running primary; then it is cut off from the other nodes, not from clients",
        expected: "the file proves nothing: it fences itself, the standby takes over; healed, it rejoins",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            stage.on(&old, "runuser -u postgres -- touch /var/lib/postgresql/15/main/standby.signal")?;
            trial.sleep(2.0);
            trial.restart_clock();
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            trial.sleep(5.0);
            trial.mends()?;
            trial.node_is_back_slowly(&old)
        },
    },
    Row {
        name: "started-by-hand",
        goals: "G1 G3 G4",
        fault: "the primary cut off from the other nodes; once it has fenced itself, a manual `systemctl start`",
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
        fault: "as before, but started as postgres with `pg_ctlcluster`, bypassing systemd",
        expected: "the guard finds it outside its unit and kills it",
        play: |trial| {
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            let before = clock::now();
            let started = stage.on(
                &old,
                "cd / && runuser -u postgres -- pg_ctlcluster --skip-systemctl-redirect 15 main start",
            );
            trial.note(format!("pg_ctlcluster: {}", if started.is_ok() { "started" } else { "refused" }));
            trial.sleep(4.0);
            let journals = stage.journals(before);
            if !journals.iter().any(|it| it.node == old && it.line.event == Event::Fenced) {
                return Err("the guard has killed nothing: it was never there".into());
            }
            trial.mends()?;
            trial.back()
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

/// A person promotes the standby of a healthy primary.
fn by_hand(trial: &mut Trial<'_>, command: &str) -> Result<(), String> {
    let (new, stage) = (trial.new.clone(), trial.stage);
    let said = stage.on(&new, &format!("cd / && {command} 2>&1"));
    trial.note(match said {
        Ok(_) => "the command succeeded".to_owned(),
        Err(_) => "the command was refused".to_owned(),
    });
    trial.stays(10.0)?;
    trial.node_streams_now(&new)
}
