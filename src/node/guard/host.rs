//! What is seen of the host without waiting.

use std::path::Path;

use crate::node::config::Config;
use crate::node::control::Control;
use crate::node::core::Host;
use crate::node::{memory, processes};

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
    let text = std::fs::read_to_string("/etc/cluster/data.json").unwrap_or_default();
    ["primary", "standby", "witness"].iter().any(|made| text.contains(&format!("\"made\":\"{made}\"")))
}
