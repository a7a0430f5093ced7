//! Random moments across two failovers and a rejoined old primary: what was committed before is there, and nothing else.

use std::time::Instant;

use cluster_contract::position::Lsn;

use crate::ledger::{self, Moment, Random, has_backup, seconds_of};

/// Plays `count` moments drawn from `seed`.
pub(crate) fn sweep(number: u8, count: usize, seed: u64) {
    let (lab, inventory) = ledger::stage(number);
    let mut turns = Vec::new();
    lab.sql("pg1", "app", "call write(15)");
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    turns.push(seconds_of(&lab, "pg2"));
    lab.sql("pg2", "app", "call write(15)");
    has_backup(&lab, &inventory, 2);
    lab.sql("pg2", "app", "call write(10)");
    lab.ssh("pg2", "systemctl kill -s KILL postgresql@15-main");
    lab.wait_for_status(&inventory, 60, |status| status["primary"] == "pg1");
    turns.push(seconds_of(&lab, "pg1"));
    lab.sql("pg1", "app", "call write(15)");
    has_backup(&lab, &inventory, 3);
    lab.sql("pg1", "app", "call write(10)");
    lab.cluster(&["backup", "check", "-i", &inventory]).ok();

    let contents = lab.cluster(&["backup", "list", "-i", &inventory, "--json"]).ok().json();
    println!("{contents}");
    let intervals = contents["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 1, "{contents}");
    let end = intervals[0]["until_lsn"].as_str().unwrap();
    let (from, until) =
        (intervals[0]["from"].as_f64().unwrap() + 1.0, intervals[0]["until"].as_f64().unwrap());
    let rows = ledger::rows(&lab, "pg1");
    println!("{} rows, {:.0} s that can be restored", rows.len(), until - from);
    ledger::prepare(&lab, "pg2");
    let mut random = Random(seed);
    let mut wrong = Vec::new();
    let begun = Instant::now();
    for number in 0..count {
        let moment = if random.below(10) < 3 {
            let first: Lsn = intervals[0]["from_lsn"].as_str().unwrap().parse().unwrap();
            Moment::at_position(&rows, first.0 + random.below(rows.last().unwrap().lsn - first.0))
        } else {
            let at = match random.below(10) {
                0..=2 => turns[random.below(2) as usize] + random.between(-3.0, 3.0),
                3 => until - random.between(0.0, 4.0),
                _ => random.between(from, until),
            };
            Moment::at_time(&rows, at.clamp(from, until))
        };
        match ledger::restored(&lab, "pg2", &moment, end, &rows) {
            Ok(text) => println!("{number}: {text}"),
            Err(text) => {
                println!("{number}: {text}");
                wrong.push(text);
            }
        }
    }
    println!("{count} moments in {:.0} s, {} of them wrong", begun.elapsed().as_secs_f64(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    lab.stop();
}
