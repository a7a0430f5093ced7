//! What is said about a disk that fills up.

use cluster_contract::status::{Level, Space, Status};

use super::backup::span;
use crate::inventory::Role;

/// More files than that wait to be archived only where archiving fails, or is too slow.
const UNARCHIVED_WORTH_TELLING: u64 = 4;
/// What a slot keeps of a disk that fills up, as a part of what makes it full.
const SLOT_WORTH_TELLING: u64 = 8;

/// The problem that a node's disk is. `leads` is whether the node takes writes.
pub(super) fn problem(guard: &Status, role: Role, leads: bool) -> Option<String> {
    let space = guard.space.as_ref()?;
    let free = format!(
        "{} of {} are free on the disk of {} ({})",
        size(space.free + space.reserve),
        size(space.size),
        space.path,
        span(space.level_for / 1000)
    );
    let at = size(space.full_below);
    let what = match space.level {
        Level::Ample | Level::Unknown => return None,
        _ if role == Role::Witness => format!("its disk fills up: {free}"),
        Level::Low => format!("room runs low: {free}; below {at} writes are refused"),
        Level::Scarce => format!("room is scarce: {free}; below {at} writes are refused"),
        Level::Full if !leads => format!("its disk is full: {free}; as a standby it would not take over"),
        Level::Full if space.refuses_writes => format!(
            "its disk is full: {free}; WRITES ARE REFUSED (\"in a read-only transaction\"), reads go on, and there is no \
             failover; writes are taken again by themselves from {} on",
            size(space.writes_again_at)
        ),
        Level::Full => {
            let why = space.trouble.as_ref().map_or(String::new(), |why| format!(": {why}"));
            format!("its disk is full: {free}; writes are not refused yet, and PostgreSQL will stop{why}")
        }
    };
    let mut text = what;
    for cause in causes(space) {
        text += "; ";
        text += &cause;
    }
    Some(text + "; free some space there, or choose a larger size")
}

/// What takes the room, as far as PostgreSQL can tell.
fn causes(space: &Space) -> Vec<String> {
    let Some(wal) = &space.wal else { return Vec::new() };
    let mut causes = Vec::new();
    if wal.unarchived > UNARCHIVED_WORTH_TELLING {
        causes.push(format!(
            "pg_wal has {}, since {} WAL files are not archived yet: `cluster backup check` says why",
            size(wal.bytes),
            wal.unarchived
        ));
    }
    for (slot, bytes) in &wal.idle_slots {
        if *bytes > space.full_below / SLOT_WORTH_TELLING {
            causes.push(format!(
                "the replication slot {slot}, which nobody reads, keeps {} of WAL",
                size(*bytes)
            ));
        }
    }
    causes
}

/// `700 MiB`, `1.5 GiB`, `25 GiB`.
fn size(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    match bytes {
        0..GIB => format!("{} MiB", bytes >> 20),
        GIB..=0x2_7FFF_FFFF => format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB),
        _ => format!("{} GiB", bytes / GIB),
    }
}
