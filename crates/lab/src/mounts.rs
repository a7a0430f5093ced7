//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::program;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is.
    pub(crate) target: PathBuf,
    /// The kind of file system, for instance `overlay`.
    pub(crate) kind: String,
    /// The file system's own options, separated by commas.
    pub(crate) options: String,
}

/// All mounts that this process sees, oldest first.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn all() -> Result<Vec<Mount>> {
    let table =
        std::fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    Ok(table.lines().filter_map(parse).collect())
}

/// Whether something is mounted at exactly this path.
pub(crate) fn is_mounted(target: &Path) -> Result<bool> {
    Ok(all()?.iter().any(|mount| mount.target == target))
}

/// Unmounts everything at and below a directory, the newest first.
///
/// # Errors
/// Something below it is still in use.
pub(crate) async fn unmount_below(directory: &Path) -> Result<()> {
    for mount in all()?.iter().rev().filter(|mount| mount.target.starts_with(directory)) {
        program::run("umount", &[&mount.target]).await?;
    }
    Ok(())
}

/// A line is `id parent device root TARGET options [optional fields] - KIND source options` (proc(5)).
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let target = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    Some(Mount { target: unescape(target).into(), kind: kind.to_owned(), options: options.to_owned() })
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_do_not_matter() {
        let with = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 master:2 - ext4 /dev/sda rw";
        let without = "36 35 98:0 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let mount = |target: &str, kind: &str| {
            Some(Mount { target: target.into(), kind: kind.into(), options: "rw".into() })
        };
        assert_eq!(parse(with), mount("/mnt/a b", "ext4"));
        assert_eq!(parse(without), mount("/sys/fs/cgroup", "cgroup2"));
        assert_eq!(parse("nonsense"), None);
    }
}
