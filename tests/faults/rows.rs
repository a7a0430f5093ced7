//! The rows of the matrix.

mod api;
mod guard;
mod hand;
mod network;
mod postgresql;
mod power;
mod repository;
mod slow;
mod up;

use crate::matrix::Row;

/// Those that need a cluster with backups.
pub(crate) use repository::ROWS as REPOSITORY;

/// All of them, in the order in which they are played.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    [postgresql::ROWS, power::ROWS, network::ROWS, slow::ROWS, guard::ROWS, api::ROWS, hand::ROWS, up::ROWS]
        .into_iter()
        .flatten()
}

/// The row of this name.
pub(crate) fn named(name: &str) -> &'static Row {
    all().find(|row| row.name == name).unwrap_or_else(|| panic!("there is no row `{name}`"))
}
