//! Images of droplets: Debian systems as a provider offers them, made once and kept in `/var/cache/cluster-lab`.

mod recipe;
mod sources;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{home, program};
use crate::Wrong;
pub use recipe::IMAGES;
use recipe::{FILES, Recipe, UNIQUE};

/// All images.
const CACHE: &str = "/var/cache/cluster-lab";
/// What the names of images that are being made begin with.
const UNFINISHED: &str = ".making-";

/// Before PostgreSQL's packages come: they make no cluster, which every host would have in common.
const NO_CLUSTER: &str = "--setup-hook=mkdir -p \"$1/etc/postgresql-common/createcluster.d\" && \
    echo 'create_main_cluster = false' >\"$1/etc/postgresql-common/createcluster.d/50-image.conf\"";

/// Whether the image is there and need not be made.
pub(crate) fn is_cached(slug: &str) -> bool {
    Recipe::of(slug).is_some_and(|recipe| Path::new(CACHE).join(recipe.directory()).exists())
}

/// The image's root directory; it is made if it is not there, which takes half a minute and needs a Debian
/// mirror. Another process that wants one at the same time waits, and `say` is told so.
///
/// # Errors
/// There is no such image, the mirror cannot be reached, or the disk is full. Nothing half made is left in the
/// image's place.
pub(crate) async fn ensure(slug: &str, say: impl Fn(&str)) -> Result<PathBuf> {
    let Some(recipe) = Recipe::of(slug) else {
        let known: Vec<_> = IMAGES.iter().map(|(slug, _)| *slug).collect();
        bail!(Wrong::new(
            format!("the lab has no image `{slug}`"),
            format!("choose one of {}", known.join(", "))
        ));
    };
    let image = Path::new(CACHE).join(recipe.directory());
    if image.exists() {
        return Ok(image);
    }
    let waits = || say("waiting for another command that makes images on this machine");
    let _lock = home::lock_directory(CACHE, waits).await?;
    if image.exists() {
        return Ok(image);
    }
    // Under the lock, what is unfinished is a killed run's.
    remove_unfinished()?;
    let unfinished = Path::new(CACHE).join(format!("{UNFINISHED}{slug}"));
    let made = make(recipe, &unfinished).await;
    if made.is_err() {
        remove_unfinished()?;
    }
    made.with_context(|| format!("cannot build the image {slug}"))?;
    fs::rename(&unfinished, &image).with_context(|| format!("cannot create {}", image.display()))?;
    Ok(image)
}

/// Deletes what a killed run has left half made, unless an image is being made now.
///
/// # Errors
/// A file cannot be deleted.
pub(crate) fn sweep() -> Result<()> {
    match File::open(CACHE) {
        Ok(cache) if cache.try_lock().is_ok() => remove_unfinished(),
        _ => Ok(()),
    }
}

/// Deletes all images, once nobody makes one any more; `say` is told if somebody does.
///
/// # Errors
/// A file cannot be deleted.
pub(crate) async fn purge(say: impl Fn(&str)) -> Result<()> {
    let waits = || say("waiting for another command that makes images on this machine");
    let _lock = home::lock_directory(CACHE, waits).await?;
    match fs::remove_dir_all(CACHE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {CACHE}"))
        }
        _ => Ok(()),
    }
}

fn remove_unfinished() -> Result<()> {
    for name in home::list(Path::new(CACHE))?.iter().filter(|name| name.starts_with(UNFINISHED)) {
        fs::remove_dir_all(Path::new(CACHE).join(name))
            .with_context(|| format!("cannot remove {CACHE}/{name}"))?;
    }
    Ok(())
}

async fn make(recipe: Recipe, root: &Path) -> Result<()> {
    let include = format!("--include={}", recipe.packages());
    let directory = root.to_str().context("the cache's path is not UTF-8")?;
    // In namespaces of its own: if this is killed, no process and no mount of it is left.
    let mut arguments = vec!["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    arguments.extend(["mmdebstrap", "--mode=root", "--variant=apt", &include]);
    if recipe.has_postgresql() {
        arguments.push(NO_CLUSTER);
    }
    arguments.extend([recipe.suite, directory]);
    let lines = sources::configured().await.map(|mirrors| mirrors.lines(recipe.suite)).unwrap_or_default();
    if !lines.is_empty() {
        // The sources are on standard input.
        arguments.push("-");
    }
    program::feed("unshare", &arguments, &lines).await?;
    finish(root)
}

/// Makes of a Debian system one that can be many machines.
fn finish(root: &Path) -> Result<()> {
    let attempt = || -> std::io::Result<()> {
        for (path, content) in FILES {
            let file = root.join(path);
            fs::create_dir_all(file.parent().expect("every path has a parent"))?;
            fs::write(&file, content)?;
        }
        for (directory, start) in UNIQUE {
            let Ok(entries) = fs::read_dir(root.join(directory)) else { continue };
            for entry in entries {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(start) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        // Empty, not missing: systemd makes one up at each first boot, without taking it for an installation.
        fs::write(root.join("etc/machine-id"), "")?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))
    };
    attempt().with_context(|| format!("cannot finish {}", root.display()))
}
