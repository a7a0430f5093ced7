//! Whether PostgreSQL may start on this node, as systemd asks before it does.

use std::path::Path;

use cluster_contract::config::Config;
use cluster_contract::request::{Code, Request, Verdict};

use crate::socket;
use crate::store;

/// Made by `cluster up` just before the first start of a new primary; gone after a boot.
const FIRST_START: &str = "/run/cluster/first-start";

pub(super) fn is_first_start() -> bool {
    Path::new(FIRST_START).exists()
}

/// Uses the announcement up. Whether it was there.
pub(super) fn use_first_start() -> bool {
    std::fs::remove_file(FIRST_START).is_ok()
}

/// Whether PostgreSQL may start on this node now: a standby always, anything else with the lease.
pub async fn start_check(config: &Config) -> Verdict {
    if config.is_witness() {
        return Verdict::yes("this is the witness, which needs no lease");
    }
    let standby = Path::new(&config.data_directory()).join("standby.signal").exists();
    if standby && !Path::new(store::REWINDING).exists() {
        return Verdict::yes("this is a standby");
    }
    match socket::verdict(&Request::MayStart).await {
        Ok(verdict) => verdict,
        // No guard yet: `cluster up` starts the first primary before it starts the guards.
        Err(_) if store::hard_state().is_ok_and(|it| it.is_of_a_new_cluster()) && use_first_start() => {
            Verdict::yes("`cluster up` starts it for the first time")
        }
        Err(error) => Verdict::no(
            Code::Unknown,
            format!("{error:#}; only the guard knows whether this node holds the lease"),
        ),
    }
}
