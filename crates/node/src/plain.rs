//! Files that others own, read without trust: what is no plain file, or is a link, is not read. To open a pipe that
//! nobody writes to would stop the guard.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};

/// Opens a plain file.
///
/// # Errors
/// When it is not there, or is none.
pub(super) fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from);
    let file = File::from(file.with_context(|| format!("cannot open {}", path.display()))?);
    if !file.metadata().with_context(|| format!("cannot read the metadata of {}", path.display()))?.is_file()
    {
        bail!("{} is not a regular file", path.display());
    }
    Ok(file)
}

/// The text of a plain file from `offset` on, and no more than `most` bytes of it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn text(path: &Path, offset: u64, most: u64) -> Result<String> {
    let mut file = open(path)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(most).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("plain"), "one\ntwo\n").unwrap();
        assert_eq!(text(&at("plain"), 0, 100).unwrap(), "one\ntwo\n");
        assert_eq!(text(&at("plain"), 4, 2).unwrap(), "tw");
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        assert!(text(&at("link"), 0, 100).is_err());
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        assert!(text(&at("pipe"), 0, 100).unwrap_err().to_string().contains("no plain file"));
    }
}
