//! The fault matrix on hosts that boot: `make faults`, `make chaos`, `make faults-times`, `make faults-stock`. All need
//! root and make a lab of their own, so they are ignored unless asked for.

#[path = "../lease/random.rs"]
mod random;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the whole way use more of it")]
mod support;

mod bucket;
mod chaos;
mod crowd;
mod fault;
mod invariants;
mod lab;
mod matrix;
mod pair;
mod rows;
mod stage;
mod stock;
mod times;
mod trial;
mod trio;
mod writer;
mod year;

use std::collections::BTreeSet;
use std::str::FromStr;

use matrix::Row;
use stage::{Stage, Third};

/// The lab of these tests. `FAULTS_LAB` makes it another one, so that two runs can stand side by side.
const LAB: u8 = 64;
/// That of repmgr as it comes.
const STOCK_LAB: u8 = 65;

/// Enough to test every promise that the matrix is about, in five minutes.
const SHORT: &[&str] = &[
    "killed",
    "cut-off-with-clients",
    "powered-off-api-away",
    "witness-off-then-primary",
    "whole-cluster-power-cut",
    "switchover",
];

fn number<T: FromStr>(variable: &str, otherwise: T) -> T {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => otherwise,
    }
}

/// The rows that `FAULTS` names (`killed,frozen`); all if it is not set.
fn chosen() -> Vec<&'static Row> {
    match std::env::var("FAULTS") {
        Ok(names) => names.split(',').map(rows::named).collect(),
        Err(_) => rows::all().collect(),
    }
}

#[test]
fn the_short_part_tests_every_promise() {
    let goals: BTreeSet<&str> = SHORT.iter().flat_map(|name| rows::named(name).goals.split(' ')).collect();
    assert_eq!(goals, ["G1", "G2", "G3", "G4", "G5", "G6", "G7"].into());
}

#[test]
#[ignore = "needs root and a lab"]
fn every_promise_in_five_minutes() {
    let stage = Stage::set(number("FAULTS_LAB", LAB), Third::Witness);
    let rows: Vec<_> = SHORT.iter().map(|name| rows::named(name)).collect();
    matrix::play_all(&stage, &rows);
}

#[test]
#[ignore = "needs root and a lab"]
fn the_matrix() {
    let stage = Stage::set(number("FAULTS_LAB", LAB), Third::Witness);
    matrix::play_all(&stage, &chosen());
}

/// Faults of the backup repository, and of the cluster in the middle of a backup. `FAULTS` names rows here, too.
#[test]
#[ignore = "needs root and a lab"]
fn the_repository() {
    let stage = Stage::with_repository(number("FAULTS_LAB", LAB));
    let chosen = std::env::var("FAULTS").ok();
    let is_chosen =
        |row: &&Row| chosen.as_ref().is_none_or(|names| names.split(',').any(|it| it == row.name));
    let rows: Vec<_> = rows::REPOSITORY.iter().filter(is_chosen).collect();
    matrix::play_all(&stage, &rows);
}

#[test]
#[ignore = "needs root and a lab"]
fn two_data_nodes_alone() {
    pair::play(Stage::set(number("FAULTS_LAB", LAB), Third::None));
}

/// Growth, shrinking, replacement and resizing of one cluster.
#[test]
#[ignore = "needs root and a lab"]
fn a_year_of_one_cluster() {
    year::play(Stage::set(number("FAULTS_LAB", LAB), Third::Witness));
}

/// `RUNS` failovers with three data nodes.
#[test]
#[ignore = "needs root and a lab"]
fn three_data_nodes_under_load() {
    trio::play(&Stage::set(number("FAULTS_LAB", LAB), Third::Standby), number("RUNS", 20));
}

/// Seeds `FROM` to `FROM + SEEDS - 1`, but for those that have passed.
#[test]
#[ignore = "needs root and a lab"]
fn random_schedules() {
    let stage = Stage::set(number("FAULTS_LAB", LAB), Third::Witness);
    chaos::play_all(&stage, number("FROM", 1), number("SEEDS", 30));
}

/// `RUNS` of each series, or of those that `SERIES` names.
#[test]
#[ignore = "needs root and a lab"]
fn time_series() {
    let stage = Stage::set(number("FAULTS_LAB", LAB), Third::Witness);
    times::play(&stage, &times::chosen(), number("RUNS", 10));
}

/// Red on purpose: the same checks on repmgr alone, with `RUNS` of each time.
#[test]
#[ignore = "needs root and a lab"]
fn repmgr_alone_breaks_the_promises() {
    let stage = Stage::set(STOCK_LAB, Third::Witness);
    stock::breaks(&stage, number("RUNS", 3));
}
