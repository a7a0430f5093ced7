//! Whether PostgreSQL may start on this node, as systemd asks before it does.

use std::fs::File;
use std::path::Path;

use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::request::{Code, Request, Verdict};

use rustix::fs::{FlockOperation, flock};

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

/// Whether a process holds this lock. It ends with that process, however that ends.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockShared).is_err())
}

/// Whether PostgreSQL may start on this node now: a standby always, anything else with the lease.
pub async fn start_check(config: &Config) -> Verdict {
    if config.is_witness() {
        return Verdict::yes("this is the witness, which needs no lease");
    }
    if is_locked(Path::new(paths::SWAP_LOCK)) {
        return Verdict::no(Code::Busy, "a restore is putting other data in the place of this node's");
    }
    let standby = Path::new(&config.data_directory()).join("standby.signal").exists();
    if standby && !Path::new(paths::REWINDING).exists() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_while_somebody_holds_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        assert!(!is_locked(&path), "there is none");
        let holder = File::create(&path).unwrap();
        assert!(!is_locked(&path), "nobody holds it");
        flock(&holder, FlockOperation::LockExclusive).unwrap();
        assert!(is_locked(&path) && is_locked(&path));
        drop(holder);
        assert!(!is_locked(&path));
    }
}
