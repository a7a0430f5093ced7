//! Cases that are files: `two-primaries.yaml` is what is given, `two-primaries.txt` what must come out.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use similar::TextDiff;

/// Where all of it lies.
const DATA: &str = "tests/data";

/// Runs `make` on every `.yaml` file of `tests/data/<directory>`, and compares what it says with the `.txt` beside it.
/// All cases run, however many fail. `CASE=two-prim` runs those whose name contains that.
pub(crate) fn each(directory: &str, make: impl Fn(&Path) -> String + Sync) {
    let cases = cases(directory);
    let chosen = std::env::var("CASE").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !case.to_string_lossy().contains(&chosen) {
                        continue;
                    }
                    let made = catch_unwind(AssertUnwindSafe(|| make(case)));
                    let failure = match made {
                        Ok(made) => difference(&case.with_extension("txt"), &made),
                        Err(_) => format!("{}: panicked, see above\n", case.display()),
                    };
                    failures.lock().unwrap().push_str(&failure);
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    for orphan in with_extension(directory, "txt") {
        if !cases.contains(&orphan.with_extension("yaml")) {
            failures += &format!("{} belongs to no case\n", orphan.display());
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// The cases in `tests/data/<directory>`, by name.
pub(crate) fn cases(directory: &str) -> Vec<PathBuf> {
    let cases = with_extension(directory, "yaml");
    assert!(!cases.is_empty(), "{DATA}/{directory} has no case");
    cases
}

fn with_extension(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(DATA).join(directory)).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    paths.sort();
    paths
}

/// Compares a text with the file that holds what it should be.
pub(crate) fn check(expected: &str, found: &str) {
    let failures = difference(Path::new(expected), found);
    assert!(failures.is_empty(), "\n{failures}");
}

fn difference(expected: &Path, found: &str) -> String {
    assert!(!found.is_empty(), "{}: nothing came out", expected.display());
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    if wanted == found {
        return String::new();
    }
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(expected, found).unwrap();
        return String::new();
    }
    let diff = TextDiff::from_lines(&wanted, found);
    let (from, to) = (expected.display().to_string(), "what came out");
    format!("{}\n", diff.unified_diff().context_radius(3).header(&from, to))
}
