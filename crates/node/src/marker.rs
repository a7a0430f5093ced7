//! What is written down about this node's data directory, and by whom: `cluster up`'s scripts, through this program.

use std::path::Path;

use anyhow::{Context as _, Result};
use cluster_contract::marker::{DataStage, Marker};
use cluster_contract::paths;

use crate::file;

/// Reads it; none if there is none.
///
/// # Errors
/// When it is not as it was written: nothing may be concluded from it then.
pub fn read() -> Result<Option<Marker>> {
    file::read(Path::new(paths::MARKER))
}

/// Writes down what the data directory is, before anything is done that makes it so.
///
/// # Errors
/// When that cannot be made to last.
pub fn write(cluster: &str, stage: DataStage, system_identifier: Option<String>) -> Result<()> {
    let marker = Marker { cluster: cluster.to_owned(), stage, system_identifier };
    file::write(Path::new(paths::MARKER), &marker, true).context("the data directory was left as it is")
}
