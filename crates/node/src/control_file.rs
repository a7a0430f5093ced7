//! PostgreSQL's control file: what the server itself has written about its state, for when it cannot be asked.
//!
//! The fields that are read here lie at the same place from PostgreSQL 11 on (`src/include/catalog/pg_control.h`). The
//! file is smaller than a disk's sector and written as one, so that it is read whole or not at all.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cluster_contract::WalPosition;

use super::plain;

/// Versions of the file's layout: PostgreSQL 11 to 18.
const VERSIONS: std::ops::RangeInclusive<u32> = 1100..=1899;

/// What the server is doing, or did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DbState {
    /// It starts, for the first time.
    StartingUp,
    /// It was shut down cleanly as a primary.
    ShutDown,
    /// It was shut down as a standby.
    ShutDownInRecovery,
    /// It is shutting down as a primary.
    ShuttingDown,
    /// It replays what a crash has left.
    InCrashRecovery,
    /// It is a standby.
    InArchiveRecovery,
    /// It takes writes, or did when it ended.
    InProduction,
}

/// What is read of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFile {
    pub state: DbState,
    /// Where its last checkpoint lies, and on which timeline.
    pub checkpoint: WalPosition,
}

impl ControlFile {
    /// Reads the control file of a data directory.
    ///
    /// # Errors
    /// When there is none, or none that this knows.
    pub fn read(data_directory: &Path) -> Result<ControlFile> {
        let path = data_directory.join("global/pg_control");
        let file = plain::open(&path)?;
        let mut bytes = Vec::new();
        file.take(64).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
        ControlFile::parse(&bytes)
    }

    /// Reads the first bytes of a control file.
    ///
    /// # Errors
    /// When they are too few, or of a version that this does not know.
    pub fn parse(bytes: &[u8]) -> Result<ControlFile> {
        let four = |at: usize| -> Result<u32> {
            let bytes = bytes.get(at..at + 4).context("the control file is truncated")?;
            Ok(u32::from_ne_bytes(bytes.try_into()?))
        };
        let eight = |at: usize| -> Result<u64> {
            let bytes = bytes.get(at..at + 8).context("the control file is truncated")?;
            Ok(u64::from_ne_bytes(bytes.try_into()?))
        };
        let version = four(8)?;
        if !VERSIONS.contains(&version) {
            bail!("the control file has unknown version {version}");
        }
        let state = match four(16)? {
            0 => DbState::StartingUp,
            1 => DbState::ShutDown,
            2 => DbState::ShutDownInRecovery,
            3 => DbState::ShuttingDown,
            4 => DbState::InCrashRecovery,
            5 => DbState::InArchiveRecovery,
            6 => DbState::InProduction,
            other => bail!("the control file has unknown state {other}"),
        };
        Ok(ControlFile { state, checkpoint: WalPosition { lsn: eight(32)?, timeline: four(48)? } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `initdb` of PostgreSQL 15 writes it; `pg_controldata` says "shut down", 0/14FFB50, timeline 1.
    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(7_712_308_492_641_642_594_u64.to_ne_bytes());
        bytes.extend(1300_u32.to_ne_bytes());
        bytes.extend(202_209_061_u32.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(1_764_000_000_u64.to_ne_bytes());
        bytes.extend(0x14F_FB50_u64.to_ne_bytes());
        bytes.extend(0x14F_FB50_u64.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_state_and_the_last_checkpoint_are_read() {
        let file = ControlFile::parse(&written()).unwrap();
        assert_eq!(file.state, DbState::ShutDown);
        assert_eq!(file.checkpoint, WalPosition { timeline: 1, lsn: 0x14F_FB50 });
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_no_state() {
        for length in 0..52 {
            assert!(ControlFile::parse(&written()[..length]).is_err(), "{length}");
        }
        let mut strange = written();
        strange[8..12].copy_from_slice(&9_000_u32.to_ne_bytes());
        assert!(ControlFile::parse(&strange).is_err());
        let mut strange = written();
        strange[16] = 7;
        assert!(ControlFile::parse(&strange).is_err());
    }
}
