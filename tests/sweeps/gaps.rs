//! Primaries that are lost with WAL that nobody has archived: the gap is closed from the standby, or told and followed by a
//! backup, and every stretch of time that is promised can be restored.

use std::time::Instant;

use cluster_cloud::droplet::Power;
use cluster_contract::position::Lsn;
use serde_json::Value;

use crate::ledger::{self, Moment, Random, has_backup};
use crate::support::Lab;

/// Files of WAL that the primary writes while the repository is away.
const FILES: usize = 6;

/// Loses `count` primaries, one after the other.
pub(crate) fn sweep(number: u8, count: usize, seed: u64) {
    let (lab, inventory) = ledger::stage(number);
    let mut random = Random(seed);
    let (mut closed, mut told, mut wrong) = (0, 0, Vec::new());
    for run in 0..count {
        let begun = Instant::now();
        // In every second run the standby does not have what is missing either.
        let keeps = run % 2 == 0;
        let (old, new) = if run % 2 == 0 { ("pg1", "pg2") } else { ("pg2", "pg1") };
        lose(&lab, &inventory, old, new, keeps);
        has_backup(&lab, &inventory, run as u64 + 2);
        let contents = lab.cluster(&["backup", "list", "-i", &inventory, "--json"]).ok().json();
        let gaps = contents["gaps"].as_array().unwrap();
        assert!(gaps.iter().all(|gap| gap["closed_by_backup"] == true), "{contents}");
        let intervals = contents["intervals"].as_array().unwrap();
        // One interval more than gaps, and one gap more for every run in which the files were gone for good.
        assert_eq!(intervals.len(), gaps.len() + 1, "{contents}");
        let more = gaps.len() - told;
        assert!(more <= usize::from(!keeps), "run {run}: {contents}");
        (told, closed) = (told + more, closed + 1 - more);
        let checked = check(&lab, new, old, intervals, &mut random);
        println!(
            "{run}: {old} lost, {} gaps, {} intervals; {} ({:.0} s)",
            gaps.len(),
            intervals.len(),
            checked.as_deref().map_or_else(|wrong| wrong.join("; "), |right| right.join("; ")),
            begun.elapsed().as_secs_f64()
        );
        wrong.extend(checked.err().unwrap_or_default());
    }
    println!(
        "{count} primaries lost: {closed} gaps closed from the standby, {told} told and followed by a backup"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    lab.stop();
}

/// WAL piles up on `old`, which is then switched off; `new` takes over, the repository comes back, and `old` as well.
fn lose(lab: &Lab, inventory: &str, old: &str, new: &str, keeps: bool) {
    let keep = if keeps { "256MB" } else { "0" };
    for node in [old, new] {
        lab.sql(node, "postgres", &format!("alter system set wal_keep_size = '{keep}'"));
        lab.sql(node, "postgres", "alter system set min_wal_size = '32MB'");
        lab.sql(node, "postgres", "select pg_reload_conf()");
    }
    lab.sql(old, "app", "call write(4)");
    lab.lab(&["spaces", "away", "--reset"]).ok();
    for _ in 0..FILES {
        lab.sql(old, "app", "call write(1)");
        lab.sql(old, "postgres", "select pg_switch_wal()");
    }
    if !keeps {
        // What a standby has replayed it deletes once a checkpoint of the primary's lies behind it.
        for _ in 0..2 {
            lab.sql(old, "postgres", "checkpoint");
            lab.sql(old, "app", "call write(1)");
            std::thread::sleep(std::time::Duration::from_secs(1));
            lab.sql(new, "postgres", "checkpoint");
        }
    }
    lab.power(old, Power::Off);
    lab.wait_for_status(inventory, 60, |status| status["primary"] == new);
    lab.sql(new, "app", "call write(3)");
    lab.lab(&["spaces", "heal"]).ok();
    lab.power(old, Power::On);
}

/// Restores two moments of each of the last two intervals: what was restored, or what was wrong.
fn check(
    lab: &Lab,
    primary: &str,
    standby: &str,
    intervals: &[Value],
    random: &mut Random,
) -> Result<Vec<String>, Vec<String>> {
    let rows = ledger::rows(lab, primary);
    ledger::prepare(lab, standby);
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for interval in intervals.iter().rev().take(2) {
        let lsn = |name: &str| interval[name].as_str().unwrap().parse::<Lsn>().unwrap().0;
        let (from, until) = (interval["from"].as_f64().unwrap() + 1.0, interval["until"].as_f64().unwrap());
        let end = interval["until_lsn"].as_str().unwrap();
        let last =
            rows.iter().map(|row| row.lsn).filter(|at| *at < lsn("until_lsn")).max().unwrap_or_default();
        let mut moments = vec![Moment::at_time(&rows, random.between(from, until.max(from)))];
        // The last row that is promised.
        if last > lsn("from_lsn") {
            moments.push(Moment::at_position(&rows, last));
        }
        for moment in moments {
            match ledger::restored(lab, standby, &moment, end, &rows) {
                Ok(text) => right.push(text),
                Err(text) => wrong.push(text),
            }
        }
    }
    if wrong.is_empty() { Ok(right) } else { Err(wrong) }
}
