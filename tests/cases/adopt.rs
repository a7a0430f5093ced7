//! Which host keys `cluster adopt` believes. A case has what came of asking the hosts; the `.txt` beside it what is
//! believed, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cluster::adopt::{Contact, Verdict, fingerprint, judge};
use serde::Deserialize;

use crate::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    hosts: BTreeMap<String, Contact>,
}

#[test]
fn host_keys_are_believed_for_a_reason() {
    golden::each("adopt", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        let case: Case =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let verdict = judge("demo", &case.hosts);
        for (node, contact) in &case.hosts {
            let is_settled = verdict.keys.contains_key(node) || !verdict.refusals.is_empty();
            assert!(
                is_settled || matches!(contact, Contact::Silent { .. }),
                "{node} is neither believed nor refused"
            );
        }
        written(&verdict)
    });
}

fn written(verdict: &Verdict) -> String {
    let mut text = String::new();
    for (node, it) in &verdict.keys {
        let _ = writeln!(text, "{node}: {} ({})", fingerprint(&it.key), it.trust.words());
    }
    for note in &verdict.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for (message, hint) in &verdict.refusals {
        let _ = writeln!(text, "refused: {message}\n  hint: {hint}");
    }
    let _ = writeln!(text, "{}", if verdict.asks() { "a person is asked" } else { "nobody is asked" });
    text
}

/// As `ssh-keygen -lf` prints it.
#[test]
fn a_fingerprint_is_sshs() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    assert_eq!(fingerprint(key), "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU");
}
