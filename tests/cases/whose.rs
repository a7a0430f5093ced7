//! Whose a path is, asked of this machine's own shell. That postgres leads root nowhere is seen on hosts
//! (`tests/hosts/trust.rs`).

use std::os::unix::fs::symlink;
use std::process::Command;

use cluster_contract::WHOSE_SH;

/// What the functions print for these paths.
fn asked(call: &str, paths: &[&str]) -> String {
    let script = format!("{WHOSE_SH}\n{call}");
    let output = Command::new("sh").args(["-c", &script, "sh"]).args(paths).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn many_paths_are_whose_each_of_them_is() {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let name = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for directory in ["a b/c", "d"] {
        std::fs::create_dir_all(name(directory)).unwrap();
    }
    symlink("turn", name("round")).unwrap();
    symlink("round", name("turn")).unwrap();
    symlink("/etc", name("out")).unwrap();
    let names = [name("a b/c"), name("d/../out/x"), name("round/x"), name("not there/x")];
    let mut paths = vec!["/", "/usr/bin", "/tmp/x", "/not there/x", "relative"];
    paths.extend(names.iter().map(String::as_str));
    let together = asked("whose_each \"$@\"", &paths);
    let alone: String = paths.iter().map(|path| asked("whose_each \"$1\"", &[path])).collect();
    assert_eq!(together, alone);
    let lines: Vec<&str> = together.lines().collect();
    assert_eq!(lines.len(), paths.len(), "{together}");
    assert!(lines[0] == "root" && lines[1] == "root" && lines[3] == "root", "{together}");
    let others =
        "nobody not used, because users other than root and postgres can change /tmp (root root drwxrwxrwt)";
    assert!([2, 5, 6, 7, 8].iter().all(|index| lines[*index] == others), "{together}");
    assert_eq!(asked("whose_each \"$@\"", &[]), "");
    assert_eq!(asked("whose /usr/bin", &[]), "root\n");
    assert_eq!(asked("whose /tmp/x 2>&1 || echo fails", &[]), format!("/tmp/x: {}\nfails\n", &others[7..]));
}
