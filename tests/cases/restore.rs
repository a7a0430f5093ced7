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

const RESTORE_UNIT: &str = include_str!("../../src/scripts/restore-unit.sh");

/// In place of the copy's server and of pgBackRest: a server that answers at once, and whose log is `$PLACE/said`.
const SERVER: &str = r#"
await_swap() { :; }
install() { :; }
mountpoint() { return 1; }
du() { printf '1\t%s\n' "$2"; }
df() { case $1 in --output=size) echo 100000M ;; *) echo "${FREE:-50000}M" ;; esac; }
pgbackrest() { echo "pgbackrest $*" >>"$PLACE/done"; }
bin=$PLACE/bin
sql() {
    case $* in
        *to_regclass* | *pg_subscription*) ;;
        *"from pg_database"*) ;;
        *pg_walfile_name*) echo 00000002 ;;
        *pg_wal_lsn_diff*) echo "${WHOLE:-t}" ;;
        *make_interval*) echo "${LATE:-f}" ;;
    esac
}
"#;

/// A place with data and a server that says `said` when the copy has been replayed.
fn with_server(said: &str) -> Place {
    let place = Place::with(&[("main", "1")]);
    fs::create_dir(place.path("bin")).unwrap();
    let pg_ctl = "#!/bin/sh\necho \"pg_ctl $*\" >>\"$PLACE/done\"\n\
        case $* in *start) cat \"$PLACE/said\" >>\"$PLACE/log/cluster-restore.log\";\n\
        mkdir -p \"$2/pg_wal\"; printf '1\\t0/5000000\\tx\\n' >\"$2/pg_wal/00000002.history\" ;; esac\n";
    fs::write(place.path("bin/pg_ctl"), pg_ctl).unwrap();
    Command::new("chmod").arg("755").arg(place.path("bin/pg_ctl")).status().unwrap();
    fs::create_dir(place.path("log")).unwrap();
    fs::write(place.path("said"), said).unwrap();
    place
}

impl Place {
    /// A copy beside the data, of that moment.
    fn restore(&self, shell: &str, before: &str, kind: &str, target: &str, end: &str) -> Output {
        let unit = RESTORE_UNIT.replace("/var/log/postgresql", &self.path("log").display().to_string());
        let script = format!("{SERVER}{before}\n{unit}");
        let conf = "/etc/cluster/pgbackrest.conf";
        self.run(shell, &script, &["demo", "15", "5432", kind, target, "beside", conf, "demo", "1", end])
    }

    fn noted(&self) -> String {
        fs::read_to_string(self.path("note")).unwrap()
    }

    fn times(&self, word: &str) -> usize {
        fs::read_to_string(self.path("done")).unwrap_or_default().matches(word).count()
    }
}

const LAST: &str = "x LOG:  last completed transaction was at log time 2026-11-27 02:27:32.882135+00\n";

#[test]
fn a_copy_of_the_end_of_the_archive_is_made_anew_when_there_is_more_of_it() {
    for shell in shells() {
        let place = with_server(LAST);
        for (end, made) in [("0/5000000", 1), ("0/5000000", 1), ("0/6000000", 2)] {
            let output = place.restore(shell, "", "latest", "", end);
            assert!(output.status.success(), "{shell}: {}", said(&output));
            assert_eq!(place.times(" restore"), made, "{shell}");
            let told = String::from_utf8(output.stdout).unwrap();
            assert_eq!(told.lines().last(), Some("restored up to 2026-11-27 02:27:32.882135+00"));
            assert_eq!(place.noted().lines().next(), Some(format!("latest  {end}").as_str()));
        }
        // A moment that was reached is the same moment whatever was archived since.
        let place = with_server(&format!("x LOG:  recovery stopping before commit of transaction 7\n{LAST}"));
        for end in ["0/5000000", "0/6000000"] {
            let output = place.restore(shell, "", "time", "2026-11-27 02:27:33+00", end);
            assert!(output.status.success(), "{shell}: {}", said(&output));
            assert_eq!(place.times(" restore"), 1, "{shell}");
            assert!(place.noted().starts_with("time 2026-11-27 02:27:33+00\n"), "{}", place.noted());
        }
    }
}

#[test]
fn a_target_behind_the_end_of_the_archive_is_held_to_what_the_files_promise() {
    for shell in shells() {
        for (kind, target) in [("time", "2026-11-27 03:00:00+00"), ("lsn", "0/5FFFFFF")] {
            // As PostgreSQL 12 does: no error, and no word of a stop.
            let place = with_server(LAST);
            let output = place.restore(shell, "LATE=t", kind, target, "0/5000000");
            assert!(output.status.success(), "{shell}: {}", said(&output));
            assert_eq!(place.noted().lines().next(), Some(format!("{kind} {target} 0/5000000").as_str()));
            let warning = "warning\tthe archive has no transaction between 2026-11-27 02:27:32.882135+00 and \
                2026-11-27 03:00:00+00\nrestored up to";
            assert_eq!(place.noted().contains(warning), kind == "time", "{}", place.noted());
            let output = place.restore(shell, "WHOLE=f", kind, target, "0/7000000");
            assert!(!output.status.success());
            assert!(said(&output).contains("one of them is damaged"), "{}", said(&output));
            assert!(!place.has("main.cluster-restored") && !place.has("note"), "nothing stays of it");
        }
    }
}

#[test]
fn a_copy_that_is_complete_stays_whoever_still_listens() {
    for shell in shells() {
        let place = with_server(LAST);
        let unit = "trap '' PIPE\nexec >/dev/full\n";
        let output = place.restore(shell, unit, "latest", "", "0/5000000");
        assert!(output.status.success(), "{shell}: {}", said(&output));
        assert!(place.has("main.cluster-restored") && place.has("note"));
    }
}

#[test]
fn a_copy_for_which_there_is_no_room_is_not_begun_and_one_that_is_ended_leaves_nothing() {
    for shell in shells() {
        // 1 MB of data, 1 GB of WAL, and a twentieth of 100 GB that stays free.
        let place = with_server(LAST);
        let output = place.restore(shell, "FREE=6025", "latest", "", "0/5000000");
        assert!(!output.status.success());
        let says = "needs 6025 MB, 5000 MB of which stay free, and 6025 MB are free";
        assert!(said(&output).contains(says), "{}", said(&output));
        assert_eq!(place.times("restore"), 0);

        // Whether or not the watcher of the disk hears that it is to end.
        let ended = "pgbackrest() { kill -TERM $$; sleep 0.1; }\n";
        let deaf = "kill() { case $1 in -*) command kill \"$@\" ;; esac; }\nsleep() { command sleep 0.2; }\n";
        for deaf in ["", deaf] {
            let output = place.restore(shell, &format!("{ended}{deaf}"), "latest", "", "0/5000000");
            assert_eq!(output.status.code(), Some(143), "{shell}: {}", said(&output));
            assert!(!place.has("main.cluster-restored"));
        }
    }
}
