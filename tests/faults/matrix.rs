//! The fault matrix: every row breaks something, says what the cluster must do, and checks that it did.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::trial::{Seen, Trial};

/// A row.
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Which of the promises it tests: see `docs/reliability.md`.
    pub(crate) goals: &'static str,
    /// What breaks.
    pub(crate) fault: &'static str,
    /// What the cluster must do.
    pub(crate) expected: &'static str,
    /// Breaks it and watches.
    pub(crate) play: fn(&mut Trial<'_>) -> Result<(), String>,
}

/// Plays one row.
pub(crate) fn play(stage: &Stage, row: &Row) -> Result<Seen, String> {
    let trial = || {
        let mut trial = Trial::begin(stage);
        (row.play)(&mut trial)?;
        trial.end()
    };
    let played = catch_unwind(AssertUnwindSafe(trial)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
    });
    if played.is_err() {
        // What it left broken must not break the next row too.
        let _ = stage.mend();
    }
    played
}

/// Plays all rows on one cluster, and fails with those that failed.
pub(crate) fn play_all(stage: &Stage, rows: &[&Row]) {
    let played = play_and_tell(stage, rows);
    let failed: Vec<_> =
        rows.iter().zip(played).filter(|(_, played)| played.is_err()).map(|it| it.0.name).collect();
    assert!(failed.is_empty(), "{} of {} rows failed: {failed:?}", failed.len(), rows.len());
}

/// Plays rows one after the other on one cluster, and prints a line for each. It is a line of the file that
/// `FAULTS_RESULTS` names, too.
pub(crate) fn play_and_tell(stage: &Stage, rows: &[&Row]) -> Vec<Result<Seen, String>> {
    println!(
        "{:<28} {:<20} {:>9} {:>9} {:>7} {:>6}  lost of",
        "fault", "tests", "writable", "address", "back", "gap"
    );
    let mut all = Vec::new();
    for row in rows {
        let begun = Instant::now();
        let played = play(stage, row);
        let took = begun.elapsed().as_secs_f64();
        write(&json!({
            "row": row.name, "goals": row.goals, "fault": row.fault, "expected": row.expected,
            "passed": played.is_ok(), "seen": played.as_ref().ok(), "error": played.as_ref().err(),
            "seconds": took,
        }));
        match &played {
            Ok(seen) => println!("{}", line(row, seen, took)),
            Err(error) => {
                println!("{:<28} {:<20} FAILED after {took:.0} s: {error}", row.name, row.goals);
                recover(stage);
            }
        }
        all.push(played);
    }
    all
}

/// After a row that failed, the next one needs a cluster that is whole.
fn recover(stage: &Stage) {
    let since = cluster_node::clock::now();
    if stage.redundant(since, crate::trial::REDUNDANT).is_ok() {
        return;
    }
    let run = stage.lab.cluster(&["up", "-i", &stage.inventory]);
    println!("{:<28} `cluster up`: exit {}", "", run.code);
    if let Err(error) = stage.redundant(since, crate::trial::REDUNDANT) {
        panic!("the cluster cannot be mended, and no more rows can be played: {error}");
    }
}

fn seconds(millis: Option<u64>) -> String {
    millis.map_or("-".to_owned(), |it| format!("{:.1} s", it as f64 / 1000.0))
}

fn line(row: &Row, seen: &Seen, took: f64) -> String {
    let phases = seen.phases.map_or(String::new(), |it| {
        let part = |millis| seconds(Some(millis));
        format!(
            "; detect {}, decide {}, promote {}, address {}",
            part(it.detect),
            part(it.decide),
            part(it.promote),
            part(it.address)
        )
    });
    let notes: String = seen.notes.iter().map(|note| format!("; {note}")).collect();
    format!(
        "{:<28} {:<20} {:>9} {:>9} {:>7} {:>6}  {} of {} ({took:.0} s){phases}{notes}",
        row.name,
        row.goals,
        seconds(seen.writable),
        seconds(seen.address),
        seconds(seen.back),
        seconds(Some(seen.gap)),
        seen.lost,
        seen.acknowledged,
    )
}

/// Adds a line to the file that `FAULTS_RESULTS` names.
pub(crate) fn write(value: &Value) {
    let Some(path) = std::env::var_os("FAULTS_RESULTS") else { return };
    if let Some(directory) = std::path::Path::new(&path).parent() {
        std::fs::create_dir_all(directory).unwrap();
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "{value}").unwrap();
}
