//! `cluster up` during and after a failover: it never makes anything worse.

use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::matrix::Row;
use crate::stage::BOOTED;
use crate::trial::Trial;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "up-during-failover",
        goals: "G2 G4 G8",
        fault: "PostgreSQL on the primary killed while `cluster up` runs",
        expected: "the standby takes over; `up` succeeds or says why not, and the next one has nothing to do",
        play: |trial| {
            let stage = trial.stage;
            std::thread::scope(|scope| {
                let (lab, inventory) = (&stage.lab, &stage.inventory);
                let up = scope.spawn(move || lab.cluster(&["up", "-i", inventory]));
                trial.sleep(0.8);
                let (old, new) = (trial.old.clone(), trial.new.clone());
                trial.kills(&old, &new)?;
                trial.failover()?;
                let run = up.join().map_err(|_| "`up` panicked")?;
                trial.note(format!("`up`: exit {}: {}", run.code, run.last_line()));
                Ok::<(), String>(())
            })?;
            trial.back()?;
            up(trial, 0)
        },
    },
    Row {
        name: "up-with-primary-off",
        goals: "G4 G8",
        fault: "the primary powered off; after the failover, `cluster up`",
        expected: "the roles stay; the host that is off is brought back as a standby, or left alone",
        play: |trial| {
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
            trial.failover()?;
            any_up(trial);
            let new = trial.new.clone();
            trial.nobody_but_since_writable(&new)?;
            trial.mends()?;
            trial.back()?;
            up(trial, 0)
        },
    },
    Row {
        name: "up-with-fenced-node",
        goals: "G1 G4 G8",
        fault: "the primary cut off from the other nodes until it has fenced itself; then `cluster up`, which reaches all",
        expected: "the roles stay; what was fenced is not started as a primary",
        play: |trial| {
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.breaks(&Fault::between(&old, &new))?;
            trial.breaks(&Fault::between(&old, "pg3"))?;
            trial.failover()?;
            any_up(trial);
            trial.nobody_but_since_writable(&new)?;
            trial.mends()?;
            trial.back()?;
            up(trial, 0)
        },
    },
    Row {
        name: "up-with-half-made-clone",
        goals: "G4 G8",
        fault: "the primary powered off, and on again; powered off once more while it rejoins; on again, and `cluster up`",
        expected: "the half-made data is recreated; the node streams",
        play: |trial| {
            let (old, stage) = (trial.old.clone(), trial.stage);
            trial.breaks(&Fault::PowerOff(old.clone()))?;
            trial.failover()?;
            let droplet = stage.node(&old).droplet;
            let mark = stage.lab.file(droplet, "/var/lib/cluster/rewinding");
            trial.powers_on(&old);
            let begun = Instant::now();
            while !mark.exists() && begun.elapsed() < BOOTED {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(150));
            trial.note(if mark.exists() { "cut off while it was rewound" } else { "cut off too late" });
            stage.lab.ask_power(droplet, "power_off");
            trial.sleep(1.0);
            // Mending is powering on.
            trial.mends()?;
            any_up(trial);
            trial.node_is_back_slowly(&old)?;
            up(trial, 0)
        },
    },
    Row {
        name: "up-while-paused",
        goals: "G8",
        fault: "the cluster paused; then `cluster up`, and the pause ends",
        expected: "no failover, and nothing is started or promoted",
        play: |trial| {
            let stage = trial.stage;
            for host in stage.hosts() {
                stage.on(&host.name, "touch /var/lib/cluster/paused")?;
            }
            any_up(trial);
            let seen = trial.stays(5.0);
            for host in stage.hosts() {
                stage.on(&host.name, "rm -f /var/lib/cluster/paused")?;
            }
            seen?;
            up(trial, 0)
        },
    },
];

/// `cluster up`, however it ends.
fn any_up(trial: &mut Trial<'_>) {
    let stage = trial.stage;
    let run = stage.lab.cluster(&["up", "-i", &stage.inventory]);
    trial.note(format!("`up`: exit {}: {}", run.code, run.last_line()));
}

/// `cluster up` that must end with this code.
fn up(trial: &mut Trial<'_>, code: i32) -> Result<(), String> {
    let stage = trial.stage;
    let run = stage.lab.cluster(&["up", "-i", &stage.inventory]);
    trial.note(format!("then `up`: {}", run.last_line()));
    if run.code == code { Ok(()) } else { Err(format!("`up`: exit {}: {}", run.code, run.stderr)) }
}
