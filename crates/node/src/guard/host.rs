//! What is seen of the host without waiting.

use std::path::Path;

use cluster_contract::config::Config;

use crate::control::Control;
use crate::core::Host;
use crate::{marker, memory, processes};

/// Looks.
pub(super) fn view(config: &Config) -> Host {
    let data = config.data_directory();
    let data = Path::new(&data);
    Host {
        // A kernel that does not tell leaves the worst to be assumed.
        processes: processes::list(config).map_or(true, |list| !list.is_empty()),
        control: Control::read(data).ok(),
        // Whatever it is that lies there: PostgreSQL asks no more than that it is there.
        standby_signal: data.join("standby.signal").symlink_metadata().is_ok(),
        finished: finished(),
        paused: memory::paused().map(|pause| pause.since),
        kept: memory::keeps_data(),
        half_rewound: Path::new(memory::REWINDING).exists(),
    }
}

/// Whether the data directory is one that `cluster up` has finished.
fn finished() -> bool {
    marker::read().is_ok_and(|marker| marker.is_some_and(|marker| marker.stage.is_finished()))
}
