//! Stories of failovers, told from journals. The journals are real ones, collected in a lab; where a case says
//! so, their clocks were set apart by hand.

use std::collections::BTreeMap;
use std::path::Path;

use cluster::incident::{self, Action, Journal};
use serde::Deserialize;

use crate::golden;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `journal.jsonl` of each node, as it was found there.
    journals: BTreeMap<String, String>,
    /// By how many milliseconds a node's clock is ahead.
    #[serde(default)]
    ahead: BTreeMap<String, i64>,
    /// What the provider's API listed.
    #[serde(default)]
    actions: Vec<Action>,
}

fn told(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case =
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let journals: Vec<Journal> = case
        .journals
        .iter()
        .map(|(node, text)| Journal::parse(node, case.ahead.get(node).copied().unwrap_or_default(), text))
        .collect();
    let incidents = incident::incidents(&journals, &case.actions);
    let mut told = String::new();
    for incident in &incidents {
        told += &format!("{}\n", incident::line(incident));
    }
    for incident in &incidents {
        told += &format!("\n{}", incident::text(incident));
    }
    told
}

#[test]
fn every_story_is_told_as_it_is_written_down() {
    golden::each("incident", told);
}

/// A journal that was torn, or that is not there, takes nothing from the others.
#[test]
fn nothing_makes_the_story_panic() {
    for path in golden::cases("incident") {
        let text = std::fs::read_to_string(path).unwrap();
        let case: Case = serde_yaml::from_str(&text).unwrap();
        for (node, text) in &case.journals {
            for cut in (0..text.len()).step_by(37).filter(|cut| text.is_char_boundary(*cut)) {
                let journal = Journal::parse(node, i64::MAX, &text[..cut]);
                for incident in incident::incidents(&[journal], &case.actions) {
                    assert!(!incident::text(&incident).is_empty());
                }
            }
        }
    }
}
