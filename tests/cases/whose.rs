//! Whose a path is, asked of this machine's own shells. That postgres leads root nowhere is seen on hosts
//! (`tests/hosts/trust.rs`).

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use cluster_contract::WHOSE_SH;

/// In place of the disk's: what is `pg`, or below it, is postgres', what is `free` is everybody's, and the rest is root's. What is
/// `gone` has just vanished. Whole names, since a temporary directory's own is made up and may have any letters in it.
const STAT: &str = r#"
stat() {
    shift 3
    for path; do
        case $path in
            */gone | */gone/*) ;;
            */free | */free/*) printf 'root root drwxrwxrwt %s\n' "$path" ;;
            */pg | */pg/*) printf 'postgres postgres drwx------ %s\n' "$path" ;;
            *) printf 'root root drwxr-xr-x %s\n' "$path" ;;
        esac
    done
}
"#;

/// What a call prints, in every shell that may be a host's `sh`.
fn asked(call: &str, paths: &[&str]) -> String {
    let script = format!("{WHOSE_SH}{STAT}\n{call}");
    let mut printed =
        ["sh", "bash"].into_iter().filter(|shell| Path::new("/bin").join(shell).exists()).map(|shell| {
            let mut command = Command::new(shell);
            if shell == "bash" {
                command.arg("--posix");
            }
            let output = command.args(["-uc", &script, "sh"]).args(paths).output().unwrap();
            assert!(output.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        });
    let first = printed.next().unwrap();
    assert!(printed.all(|other| other == first), "the shells disagree: {first}");
    first
}

/// Each path with whose it must be; all of them are asked for at once, in turn, and one by one.
fn are(expected: &[(&str, &str)]) {
    let (paths, owners): (Vec<&str>, Vec<&str>) = expected.iter().copied().unzip();
    assert_eq!(asked("whose_each \"$@\"", &paths).lines().collect::<Vec<_>>(), owners, "{paths:?}");
    let (paths, owners): (Vec<&str>, Vec<&str>) = expected.iter().rev().copied().unzip();
    assert_eq!(asked("whose_each \"$@\"", &paths).lines().collect::<Vec<_>>(), owners, "{paths:?}");
    for (path, owner) in expected {
        assert_eq!(asked("whose \"$1\" 2>/dev/null || echo nobody", &[path]).trim_end(), *owner, "{path:?}");
    }
}

#[test]
fn many_paths_are_whose_each_of_them_is() {
    let place = tempfile::tempdir().unwrap();
    let name = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for directory in ["a b/c", "d", "pg/e", "free/f"] {
        std::fs::create_dir_all(name(directory)).unwrap();
    }
    symlink("turn", name("round")).unwrap();
    symlink("round", name("turn")).unwrap();
    symlink(name("pg"), name("out")).unwrap();
    symlink("/usr/bin", name("pg/in")).unwrap();
    are(&[
        ("/", "root"),
        (&name("a b/c"), "root"),
        (&name("d/../pg/e"), "postgres"),
        (&name("not there/x"), "root"),
        (&name("round/x"), "nobody"),
        (&name("out/e"), "postgres"),
        (&name("free/f"), "nobody"),
        (&name("pg/in"), "postgres"),
        ("relative", "root"),
    ]);
    assert_eq!(asked("whose_each \"$@\"", &[]), "");
    let (free, why) = (name("free/f"), "not used, because users other than root and postgres can change");
    let expected = format!("{free}: {why} {} (root root drwxrwxrwt)\nfails\n", name("free"));
    assert_eq!(asked("whose \"$1\" 2>&1 || echo fails", &[&free]), expected);
}

/// postgres may name its directories as it likes, lead links into them, and take them away at any moment.
#[test]
fn what_postgres_makes_up_changes_no_other_answer() {
    let place = tempfile::tempdir().unwrap();
    let name = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let deep = format!("pg/{}", "x/".repeat(300));
    let odd = [
        "x\nroot\nroot\nroot",
        "x\\nroot\\nroot",
        "x ",
        " x",
        "x\troot",
        "root root x",
        "gone",
        "x\n",
        "-n",
        deep.as_str(),
    ];
    for (index, odd) in odd.iter().enumerate() {
        let target = name(&format!("pg/{odd}"));
        std::fs::create_dir_all(&target).unwrap();
        let link = name(&format!("pg/link{index}"));
        symlink(&target, &link).unwrap();
        for asked in [&link, &target] {
            are(&[
                ("/usr/bin", "root"),
                (asked, "postgres"),
                (&name("pg"), "postgres"),
                (&name("d"), "root"),
            ]);
        }
    }
    // What is root's and has just gone is nobody's, and that alone.
    std::fs::create_dir_all(name("gone/x")).unwrap();
    are(&[
        ("/usr/bin", "root"),
        (&name("gone/x"), "nobody"),
        (&name("pg"), "postgres"),
        (&name("d"), "root"),
    ]);
}
