//! What the guard keeps: over reboots its hard state, within a boot the lease that it holds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use cluster_contract::journal::Event;
use cluster_contract::{Millis, Term, paths};
use serde::{Deserialize, Serialize};

use super::lease::HardState;
use super::slots::{Slots, Version};
use super::{file, journal};

/// Synced before anybody is answered, in space that is there already. `new-cluster` may have written it plain.
const HARD_STATE: &str = paths::HARD_STATE;
/// The lease that this node holds. A boot clears it away, with every process that it was about.
const HELD_LEASE: &str = "/run/cluster/held.json";
/// The same, as earlier versions of this program wrote it.
const HELD_LEASE_BEFORE: &str = "/run/cluster/lease.json";
/// Which version of [`HARD_STATE`] this boot has written or read last.
const SEEN_VERSION: &str = "/run/cluster/memory.json";
/// Made and removed again to find out whether there is room.
const ROOM_CHECK: &str = "/var/lib/cluster/room.new";
/// Its presence is a person's wish that the guard start, promote and rejoin nothing. It outlives a boot: a host that
/// is being repaired may boot several times.
const PAUSED: &str = "/var/lib/cluster/paused";
/// Its presence means that this node took writes beside another primary, and that its data is in nobody's way.
const DIVERGED_DATA_KEPT: &str = "/var/lib/cluster/keep-data";

/// A lease that this node holds, or has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    pub term: Term,
    /// Its end, on this host's clock.
    pub until: Millis,
}

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}")]
pub struct Unwritable {
    path: &'static str,
    source: std::io::Error,
}

/// What is wrong with the disk that the hard state is on.
#[derive(Debug, thiserror::Error)]
pub enum DiskTrouble {
    /// Grants cannot be made durable: this guard must not vote.
    #[error(transparent)]
    CannotPersist(Unwritable),
    /// They can, and nothing else: no journal, no rejoin.
    #[error("no disk space beyond what the guard has reserved: {0}")]
    NoRoom(Unwritable),
}

fn slots() -> Slots {
    Slots::new(HARD_STATE, true)
}

/// Reads the hard state.
///
/// # Errors
/// When the file is there and makes no sense: a guard without its hard state must not vote.
pub fn hard_state() -> Result<HardState> {
    let version = slots().read().with_context(|| format!("{HARD_STATE} is damaged"))?;
    Ok(version.map(|version| version.value).unwrap_or_default())
}

/// Gives the hard state space of its own, if `cluster up` or an earlier version of this program has written it plain.
/// For the guard, before it says anything.
///
/// # Errors
/// When it cannot be written.
pub fn prepare() -> Result<(), Unwritable> {
    slots().prepare::<HardState>().map_err(|source| Unwritable { path: HARD_STATE, source })
}

/// Makes the hard state durable.
///
/// # Errors
/// When it is not on disk: nothing that follows from it may be said. The next attempt may succeed.
pub fn persist(hard_state: &HardState) -> Result<(), Unwritable> {
    slots().write(hard_state).map_err(|source| Unwritable { path: HARD_STATE, source })?;
    if let Ok(Some(now)) = version() {
        // Only what is compared later; a full /run costs no grant.
        let _ = Slots::new(SEEN_VERSION, false).write(&now);
    }
    Ok(())
}

/// Writes the hard state of a node of a new cluster: nothing was ever granted, so that nothing is waited for. A guard
/// that finds none must take it for lost, and grants nothing for the time of a lease. One that is there is left alone.
///
/// # Errors
/// When it cannot be made to last.
pub fn initialize() -> Result<()> {
    if Path::new(HARD_STATE).exists() {
        return Ok(());
    }
    file::write(Path::new(HARD_STATE), &HardState { released: true, ..HardState::default() }, true)
}

/// Whether the hard state could be written now, tried on the disk. It waits for the disk: not for the guard's own
/// thread.
///
/// # Errors
/// When it could not, or when there is no room for anything else.
pub fn check() -> Result<(), DiskTrouble> {
    slots().check().map_err(|source| DiskTrouble::CannotPersist(Unwritable { path: HARD_STATE, source }))?;
    let room = || -> std::io::Result<()> {
        let mut file = File::create(ROOM_CHECK)?;
        file.write_all(&[b' '; 64 << 10])?;
        file.sync_all()
    };
    let tried = room();
    // It may not have been made.
    let _ = fs::remove_file(ROOM_CHECK);
    tried.map_err(|source| DiskTrouble::NoRoom(Unwritable { path: ROOM_CHECK, source }))
}

/// A version of the hard state: of two of the same file, the one with the higher number knows more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardStateVersion {
    /// Drawn when the file was made: a new node, or the first guard that writes it in this way.
    pub file: String,
    /// Counts what was made durable.
    pub sequence: u64,
}

/// The version of the hard state on the disk; none before there is one.
///
/// # Errors
/// As [`hard_state`].
pub fn version() -> Result<Option<HardStateVersion>> {
    let version = slots().read::<HardState>().with_context(|| format!("{HARD_STATE} is damaged"))?;
    Ok(version
        .filter(|version| version.sequence > 0)
        .map(|Version { file, sequence, .. }| HardStateVersion { file, sequence }))
}

/// Whether the hard state is older than what this boot has written, or another: the disk was restored beneath a running
/// host. What happened before this boot only other nodes can tell.
///
/// # Errors
/// As [`hard_state`].
pub fn is_restored() -> Result<bool> {
    let Ok(Some(seen)) = Slots::new(SEEN_VERSION, false).read::<HardStateVersion>() else { return Ok(false) };
    // A plain one is written by `cluster up`, for new data.
    Ok(version()?.is_some_and(|now| is_older(&now, &seen.value)))
}

fn is_older(now: &HardStateVersion, seen: &HardStateVersion) -> bool {
    now.file != seen.file || now.sequence < seen.sequence
}

/// The lease that this node holds.
///
/// # Errors
/// When the file makes no sense.
pub fn held_lease() -> Result<Option<HeldLease>> {
    let version = Slots::new(HELD_LEASE, false).read::<Option<HeldLease>>();
    match version.with_context(|| format!("{HELD_LEASE} is damaged"))? {
        Some(version) => Ok(version.value),
        None => file::read(Path::new(HELD_LEASE_BEFORE)),
    }
}

/// Notes the lease that this node holds, or that it holds none.
///
/// # Errors
/// When it cannot be written.
pub fn note_held_lease(held: Option<HeldLease>) -> Result<()> {
    Slots::new(HELD_LEASE, false).write(&held).with_context(|| format!("cannot write {HELD_LEASE}"))?;
    match fs::remove_file(HELD_LEASE_BEFORE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {HELD_LEASE_BEFORE}"))
        }
        _ => Ok(()),
    }
}

/// A person's wish that the guard start, promote and rejoin nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it began, in RFC 3339; none if somebody made the file by hand.
    #[serde(default)]
    pub since: Option<String>,
}

/// The pause of this node, if a person has paused it. Whatever the file says, it is there for a reason.
pub fn paused() -> Option<Pause> {
    Path::new(PAUSED).exists().then(|| file::read(Path::new(PAUSED)).ok().flatten().unwrap_or_default())
}

/// Pauses this node. Returns whether it was not paused before.
///
/// # Errors
/// When the wish cannot be made to last.
pub fn pause() -> Result<bool> {
    if paused().is_some() {
        return Ok(false);
    }
    file::write(
        Path::new(PAUSED),
        &Pause { since: Some(jiff::Timestamp::now().strftime("%FT%TZ").to_string()) },
        true,
    )?;
    journal::note(Event::Paused, "paused: PostgreSQL is not started, promoted or rejoined");
    Ok(true)
}

/// Ends a pause. Returns whether there was one.
///
/// # Errors
/// When the wish cannot be taken back for good.
pub fn resume() -> Result<bool> {
    match fs::remove_file(PAUSED) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot remove {PAUSED}")),
    }
    File::open(paths::STATE)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", paths::STATE))?;
    journal::note(Event::Resumed, "the pause has ended");
    Ok(true)
}

/// Whether what was written on this node beside another primary is kept until a person gives it up.
pub fn keeps_diverged_data() -> bool {
    Path::new(DIVERGED_DATA_KEPT).exists()
}

/// Keeps what was written on this node beside another primary: nothing is rewound.
///
/// # Errors
/// When the note cannot be made to last.
pub fn keep_diverged_data() -> Result<()> {
    file::write(
        Path::new(DIVERGED_DATA_KEPT),
        &serde_json::json!({ "at": jiff::Timestamp::now().to_string() }),
        true,
    )
}

/// Gives up what was kept: it may be rewound, or lead.
///
/// # Errors
/// When the note cannot be removed.
pub fn give_up_diverged_data() -> Result<()> {
    match fs::remove_file(DIVERGED_DATA_KEPT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| File::open(paths::STATE)?.sync_all()),
    }
    .with_context(|| format!("cannot remove {DIVERGED_DATA_KEPT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot as earlier builds wrote it, byte by byte: its checksum is of the value's text, so that neither the words
    /// nor their order may change.
    #[test]
    fn the_hard_state_of_an_earlier_build_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lease.json");
        let slot = concat!(
            r#"{"file":"0123456789abcdef","sequence":4,"checksum":"2b6e5c42465c81b4","value":{"term":7,"holder":1,"#,
            r#""released":true,"heir":2,"lease":9000,"forced":false,"held":6,"#,
            r#""report":{"term":7,"position":{"timeline":1,"lsn":5000}}}}"#
        );
        let page = format!("{slot:<4095}\n");
        fs::write(&path, format!("{page}{0}{0}", " ".repeat(4096))).unwrap();
        let version = Slots::new(path.to_str().unwrap(), true).read::<HardState>().unwrap().unwrap();
        assert_eq!((version.sequence, version.value.term), (4, 7));
    }

    #[test]
    fn a_hard_state_that_is_older_or_another_was_restored() {
        let of = |file: &str, sequence| HardStateVersion { file: file.into(), sequence };
        let seen = of("a", 7);
        assert!(!is_older(&of("a", 7), &seen));
        assert!(!is_older(&of("a", 8), &seen));
        assert!(is_older(&of("a", 6), &seen));
        assert!(is_older(&of("b", 9), &seen));
    }
}
