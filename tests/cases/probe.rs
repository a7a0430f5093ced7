//! What the probe script prints, as facts. The outputs were recorded on hosts of the lab.

use std::fs;

use cluster::facts::probe::{ProbeError, parse};
use cluster_contract::marker::DataStage;
use proptest::prelude::*;

fn recorded(name: &str) -> String {
    fs::read_to_string(format!("tests/data/probe/{name}.out")).unwrap()
}

#[test]
fn a_bare_host_has_nothing() {
    let facts = parse(&recorded("bare")).unwrap();
    assert!(facts.root && facts.os == "debian" && facts.os_version == "12" && facts.codename == "bookworm");
    assert!(facts.packages.installed.keys().eq(["sudo"]) && facts.data.is_none() && facts.postgres.is_none());
    assert!(facts.marker.is_none() && facts.repmgr.is_none() && facts.pg_clusters.is_empty());
    let machine = facts.machine.unwrap();
    assert_eq!((machine.memory_kib, machine.cores, machine.spinning), (4_091_904, 2, false));
    assert!(facts.disk_free_kib > 0 && facts.host_key.starts_with("ssh-ed25519 "));
}

#[test]
fn a_primary_says_who_streams_from_it() {
    let facts = parse(&recorded("primary")).unwrap();
    let postgres = facts.postgres.unwrap();
    assert!(!postgres.in_recovery && postgres.timeline == 1);
    assert_eq!(postgres.replication.iter().map(|replica| replica.name.as_str()).collect::<Vec<_>>(), ["pg2"]);
    assert_eq!(facts.marker.unwrap().stage, DataStage::Primary);
    let rows = facts.repmgr.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>(),
        ["primary", "standby", "witness"]
    );
    assert_eq!(facts.units["repmgrd"].active, "active");
    assert!(facts.loaded["cluster-node"]);
    assert_eq!(facts.extensions["postgres"]["pg_stat_statements"], "1.10");
    assert!(facts.files["/var/lib/postgresql/.pgpass"].content.is_none(), "a secret's text is told");
    assert!(facts.files["/etc/repmgr.conf"].content.as_deref().unwrap().contains("node_id=1"));
}

#[test]
fn a_standby_says_whom_it_follows() {
    let facts = parse(&recorded("standby")).unwrap();
    let postgres = facts.postgres.unwrap();
    assert!(postgres.in_recovery && postgres.replayed_at.is_some_and(|at| at <= postgres.now));
    assert!(facts.data.unwrap().standby_signal);
    assert_eq!(facts.marker.unwrap().stage, DataStage::Standby);
}

/// The guard writes a word into its note; somebody who makes one by hand may not.
#[test]
fn a_note_of_a_rewind_is_one_whatever_it_says() {
    for (line, word) in [("half_rewound\tplacing", "placing"), ("half_rewound\t", "")] {
        let output = recorded("standby").replacen('\n', &format!("\n{line}\n"), 1);
        assert_eq!(parse(&output).unwrap().half_rewound.as_deref(), Some(word));
    }
}

#[test]
fn whatever_is_cut_off_is_an_error() {
    let whole = recorded("primary");
    for (end, _) in whole.match_indices('\n').filter(|(at, _)| at + 1 < whole.len()) {
        match parse(&whole[..end]) {
            Err(ProbeError::Truncated { .. } | ProbeError::Line(_)) => {}
            Ok(_) => panic!("cut off at byte {end} it passes for a whole host"),
        }
    }
}

proptest! {
    /// A host may print anything at all.
    #[test]
    fn nothing_makes_the_parser_panic(noise in "[ -~\t\n]{0,200}", at in any::<prop::sample::Index>()) {
        let mut output = recorded("bare");
        let lines: Vec<usize> = output.match_indices('\n').map(|(at, _)| at + 1).collect();
        output.insert_str(*at.get(&lines), &noise);
        let _ = parse(&output);
        let _ = parse(&noise);
    }
}
