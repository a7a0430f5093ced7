//! The state on disk.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::state::State;

/// Reads a state; `None` if there is no such file.
pub(super) fn load(path: &Path) -> Result<Option<State>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read the lab's state, {}", path.display())),
    };
    let state = serde_json::from_slice(&bytes);
    state.map(Some).with_context(|| format!("understand the lab's state, {}", path.display()))
}

/// Writes a state beside its place and moves it there, readable by the owner alone: user data has keys in it.
/// `saved` is what was written last; the same is not written again.
pub(super) fn store(path: &Path, state: &State, saved: &mut Vec<u8>) -> Result<()> {
    let mut write = || -> Result<()> {
        let bytes = serde_json::to_vec_pretty(state)?;
        if bytes == *saved {
            return Ok(());
        }
        let directory = path.parent().context("it has no directory")?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(&bytes)?;
        file.persist(path)?;
        *saved = bytes;
        Ok(())
    };
    write().with_context(|| format!("save the lab's state to {}", path.display()))
}
