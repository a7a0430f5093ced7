//! What belongs to postgres, touched by root: nothing there may lead this program astray or keep it waiting.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// More than any file has that is read here.
const BYTES: u64 = 1 << 20;
/// A program that reads one small file has ended by then.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where such a program's words go: to a file, since a pipe may be held open.
const SAID: &str = "/run/cluster/said";
/// The home of postgres: it belongs to it, in a directory of root's.
const HOME: &str = "/var/lib/postgresql";

/// Reads a small file in a directory that somebody else owns: a regular file, no link, and never waiting as on a FIFO.
///
/// # Errors
/// When it is none, or cannot be read.
pub(super) fn read(path: &Path) -> Result<String> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if !file.metadata()?.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    let mut text = String::new();
    file.take(BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

/// What a program prints that reads files of postgres, run as postgres; it is killed when it does not end.
///
/// # Errors
/// When it cannot be run, fails or does not end.
pub(super) fn said_as_postgres(program: &str, args: &[&str]) -> Result<String> {
    let said: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(SAID)
        .with_context(|| format!("cannot write {SAID}"))?;
    let home = std::fs::metadata(HOME).context("postgres has no home")?;
    let mut command = Command::new(program);
    if rustix::process::getuid().is_root() {
        command.uid(home.uid()).gid(home.gid());
    }
    let mut child = command
        .args(args)
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            // It may have ended this moment.
            let _ = child.kill();
            child.wait()?;
            bail!("{program} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    let mut said = said;
    said.rewind()?;
    let mut text = Vec::new();
    said.take(BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        assert_eq!(read(&path("file")).unwrap(), "text");
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert!(read(&path("link")).is_err(), "a link may lead anywhere");
        assert!(read(directory.path()).is_err());
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        let error = read(&path("fifo")).unwrap_err().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
        assert!(read(&path("none")).is_err());
    }
}
