//! Links that are cut.

use cluster_contract::journal::Event;

use crate::fault::{Fault, From};
use crate::matrix::Row;
use crate::trial::Trial;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
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
        name: "isolated-refused",
        goals: "G1 G2 G3 G4",
        fault: "the primary isolated, its packets rejected instead",
        expected: "same as with lost packets: a rejection does not speed up the failover",
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
        name: "cut-off-with-clients",
        goals: "G1 G3 G4 G7",
        fault: "the primary cut off from the other nodes and the API; clients still reach it",
        expected: "it stops taking writes before the standby takes writes; transactions that only it had are reported",
        play: |trial| {
            cut_off(trial)?;
            trial.breaks(&Fault::cut(&trial.old, From::Api))?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "cut-while-rewinding",
        goals: "G4 G7",
        fault: "cut off and healed; the link between the data nodes cut again for 3 s as the old primary begins to rewind",
        expected: "it is rewound and not cloned, and streams again; transactions that only it had are reported",
        play: |trial| {
            cut_off(trial)?;
            trial.breaks(&Fault::cut(&trial.old, From::Api))?;
            trial.failover()?;
            let (old, new, stage) = (trial.old.clone(), trial.new.clone(), trial.stage);
            let begins = "tries=0; until [ -e /var/lib/cluster/rewinding ]; do tries=$((tries + 1)); \
                          [ $tries -lt 4000 ] || exit 1; sleep 0.005; done";
            let begun = std::thread::scope(|scope| {
                let (lab, old) = (&stage.lab, &old);
                let begun = scope.spawn(move || lab.run_on(old, begins));
                trial.mends()?;
                begun.join().map_err(|_| "the wait panicked".to_owned())
            })?;
            if begun.code != 0 {
                return Err(format!("it does not begin to rewind: {}", begun.stderr));
            }
            stage.inject(&Fault::between(&old, &new))?;
            trial.sleep(3.0);
            trial.mends()?;
            trial.back()?;
            let journals = stage.journals(trial.cut());
            match journals.iter().find(|it| it.node == old && it.line.event == Event::Cloned) {
                Some(it) => Err(format!("G7: {}", it.line.text)),
                None => Ok(()),
            }
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
        expected: "its renewal requests arrive and the answers do not: it fences itself, the standby takes over",
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
        name: "link-stall-5s",
        goals: "G1",
        fault: "the primary isolated for 5 s",
        expected: "no failover",
        play: |trial| {
            trial.stalls(&Fault::isolate(&trial.old), 5.0)?;
            trial.stays(12.0)
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
        expected: "the primary, which has WAL that the standby never received, is started again; nothing lost",
        play: |trial| {
            trial.breaks(&Fault::between(&trial.old, &trial.new))?;
            trial.sleep(8.0);
            trial.restart_clock();
            trial.breaks(&Fault::KillPostgres(trial.old.clone()))?;
            trial.lossless();
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "link-cut-then-powered-off",
        goals: "G2 G6 G7",
        fault: "the link between the data nodes cut; then the primary's host powered off",
        expected: "the standby takes over with the witness's grant; what it never received is reported",
        play: |trial| {
            trial.breaks(&Fault::between(&trial.old, &trial.new))?;
            trial.sleep(8.0);
            trial.restart_clock();
            trial.breaks(&Fault::PowerOff(trial.old.clone()))?;
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
        name: "witness-isolated",
        goals: "G1 G6",
        fault: "the witness isolated",
        expected: "no effect",
        play: |trial| {
            trial.breaks(&Fault::isolate("pg3"))?;
            trial.stays(20.0)?;
            trial.mends()
        },
    },
    Row {
        name: "standby-isolated",
        goals: "G1 G2",
        fault: "the standby isolated, and PostgreSQL on the witness stopped before",
        expected: "no promotion: one node is not a majority (repmgr: split brain)",
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
        expected: "the primary fences itself, no node promotes; healed, there is a primary again",
        play: |trial| {
            cut_off(trial)?;
            trial.breaks(&Fault::between(&trial.new, "pg3"))?;
            trial.sleep(9.5);
            trial.nobody(trial.cut() + 9_500, 12.0)?;
            trial.mends()?;
            // Either may have it: the old primary again, or the standby.
            trial.promotions(None);
            Ok(())
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

/// The primary is cut off from the other nodes, and from nothing else: its clients and the API still reach it.
pub(super) fn cut_off(trial: &mut Trial<'_>) -> Result<(), String> {
    for node in [trial.new.clone(), "pg3".to_owned()] {
        trial.breaks(&Fault::between(&trial.old, &node))?;
    }
    Ok(())
}
