//! Small files of JSON, read whole and written whole or not at all.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads one; none if there is none.
///
/// # Errors
/// When it cannot be read, or is not as it was written.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes one; `sync` makes it survive a power cut.
///
/// # Errors
/// When it could not be written: what was there before is there still.
pub fn write<T: Serialize>(path: &Path, value: &T, sync: bool) -> Result<()> {
    let attempt = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&new, path)?;
        if sync {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Lets two directories beside each other exchange their names. At no moment is either of them missing, and it survives a
/// power cut.
///
/// # Errors
/// When the file system cannot: nothing has changed then.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .with_context(|| format!("cannot exchange {} and {}", one.display(), other.display()))?;
    let parent = one.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_exchange_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::write(one.join("file"), "1").unwrap();
        assert!(exchange(&one, &other).is_err() && one.join("file").exists());
        fs::create_dir(&other).unwrap();
        exchange(&one, &other).unwrap();
        assert!(other.join("file").exists() && !one.join("file").exists());
    }

    #[test]
    fn what_is_written_is_read_and_what_is_torn_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/value.json");
        assert_eq!(read::<u32>(&path).unwrap(), None);
        write(&path, &7, true).unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), Some(7));
        fs::write(&path, "{").unwrap();
        assert!(read::<u32>(&path).unwrap_err().to_string().contains("is damaged"));
    }
}
