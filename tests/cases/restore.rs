//! What the scripts of a restore do with a copy and its note, asked of this machine's own shells. The restores themselves
//! are seen on hosts (`tests/hosts/restores.rs`).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const LIB: &str = include_str!("../../src/scripts/lib.sh");

/// In place of what needs a host: `pg_controldata` is a file, and nobody becomes postgres.
const HOST: &str = r#"
data=$PLACE/main copy=$PLACE/main.cluster-restored before=$PLACE/main.before-restore restored_note=$PLACE/note
postgres() { "$@"; }
systemctl() { return 3; }
belongs() { [ ! -e "$PLACE/foreign" ]; }
timeline_of() { cat "$1/timeline" 2>/dev/null; }
"#;

/// A place for the data of one test.
struct Place(tempfile::TempDir);

impl Place {
    /// With directories, each with what `pg_controldata` says of its timeline.
    fn with(directories: &[(&str, &str)]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for (name, timeline) in directories {
            fs::create_dir(place.path(name)).unwrap();
            fs::write(place.path(name).join("timeline"), timeline).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn note(&self, text: &str) {
        fs::write(self.path("note"), text).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn run(&self, shell: &str, script: &str, args: &[&str]) -> Output {
        let script = format!("set -eu\nversion=15 port=5432 cluster=demo\n{LIB}{HOST}{script}");
        let mut command = Command::new(shell);
        if shell == "bash" {
            command.arg("--posix");
        }
        command.args(["-c", &script, "sh"]).args(args).env("PLACE", self.0.path()).output().unwrap()
    }
}

/// Every shell that may be a host's `sh`.
fn shells() -> impl Iterator<Item = &'static str> {
    ["sh", "bash"].into_iter().filter(|shell| Path::new("/bin").join(shell).exists())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn of_a_swap_that_was_cut_off_the_earlier_timeline_is_kept_as_what_was_replaced() {
    for shell in shells() {
        let swapped = Place::with(&[("main", "4"), ("main.cluster-restored", "3")]);
        swapped.note("swapping\n");
        assert!(swapped.run(shell, "settle_swap", &[]).status.success());
        assert!(swapped.has("main.before-restore") && !swapped.has("main.cluster-restored"));
        assert!(!swapped.has("note"));

        let not_yet = Place::with(&[("main", "3"), ("main.cluster-restored", "4")]);
        not_yet.note("swapping\n");
        assert!(not_yet.run(shell, "settle_swap", &[]).status.success());
        assert!(not_yet.has("main.cluster-restored") && !not_yet.has("note"));
    }
}

#[test]
fn where_the_timelines_cannot_be_read_nothing_is_moved_and_the_note_stays() {
    for shell in shells() {
        for (data, copy) in [("", "3"), ("4", ""), ("", ""), ("4", "3\n3"), ("4", "x")] {
            let place = Place::with(&[("main", data), ("main.cluster-restored", copy)]);
            place.note("swapping\n");
            for script in ["settle_swap", include_str!("../../src/scripts/discard.sh")] {
                let output = place.run(shell, script, &[]);
                assert!(!output.status.success(), "{data:?} {copy:?}");
                assert!(said(&output).contains("nothing was moved or deleted"), "{}", said(&output));
                assert!(place.has("note") && place.has("main.cluster-restored/timeline"));
            }
        }
    }
}

#[test]
fn nothing_beside_the_data_of_another_cluster_is_deleted() {
    for shell in shells() {
        let discard = include_str!("../../src/scripts/discard.sh");
        let place = Place::with(&[("main", "4"), ("main.cluster-restored", "3"), ("foreign", "")]);
        let output = place.run(shell, discard, &[]);
        assert!(!output.status.success() && said(&output).contains("is not this cluster's"));
        assert!(place.has("main.cluster-restored"));
        fs::remove_dir_all(place.path("foreign")).unwrap();
        assert!(place.run(shell, discard, &[]).status.success());
        assert!(!place.has("main.cluster-restored"));
    }
}
