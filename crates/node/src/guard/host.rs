//! What is observed of the host without waiting.

use std::path::Path;

use cluster_contract::config::Config;
use cluster_contract::paths;

use super::disk;
use crate::control_file::ControlFile;
use crate::core::HostObservation;
use crate::{marker, processes, store};

/// Observes the host as it is at this moment.
pub(super) fn observe(config: &Config) -> HostObservation {
    let data = config.data_directory();
    let data = Path::new(&data);
    HostObservation {
        // A kernel that does not tell leaves the worst to be assumed.
        has_processes: processes::list(config).map_or(true, |list| !list.is_empty()),
        control_file: ControlFile::read(data).ok(),
        // Whatever it is that lies there: PostgreSQL asks no more than that it is there.
        standby_signal: data.join("standby.signal").symlink_metadata().is_ok(),
        data_ready: is_data_ready(),
        paused: store::paused(),
        diverged_data_kept: store::keeps_diverged_data(),
        half_rewound: Path::new(paths::REWINDING).exists(),
        space: disk::observe(config),
    }
}

/// Whether the data directory is one that `cluster up` has finished.
fn is_data_ready() -> bool {
    marker::read().is_ok_and(|marker| marker.is_some_and(|marker| marker.stage.is_finished()))
}
