//! The fault matrix on hosts that boot: `make faults`, `make chaos`, `make faults-times`. Needs root.

#[path = "../hosts/harness.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the whole way use more of it")]
mod harness;

mod crowd;
mod fault;
mod invariants;
mod laboratory;
mod matrix;
mod rows;
mod stage;
mod trial;
mod writer;

use matrix::Row;
use stage::Stage;

/// The laboratory of these tests.
const LAB: u8 = 64;

/// The rows that `FAULTS` names (`killed,frozen`); all if it is not set.
fn chosen() -> Vec<&'static Row> {
    let Ok(names) = std::env::var("FAULTS") else { return rows::ROWS.iter().collect() };
    names
        .split(',')
        .map(|name| {
            rows::ROWS
                .iter()
                .find(|row| row.name == name)
                .unwrap_or_else(|| panic!("there is no row `{name}`"))
        })
        .collect()
}

#[test]
#[ignore = "needs root and a laboratory"]
fn the_matrix() {
    let stage = Stage::set(LAB, true);
    matrix::play_all(&stage, &chosen());
}
