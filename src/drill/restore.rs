//! The result of a restore that was drilled, for people and programs.

use std::fmt::Write as _;

use cluster_contract::backup::Proof;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::health::backup::size;
use crate::report::visible;

/// The word on the command line.
pub const WORD: &str = "restore";

/// What came of a restore beside a standby. Its JSON is an interface: keys may be added, but do not change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restored {
    pub cluster: String,
    /// Always `restore`.
    pub fault: &'static str,
    /// The standby.
    pub node: String,
    /// Whether it went well.
    pub passed: bool,
    /// Why it did not.
    pub problems: Vec<String>,
    /// What the node says.
    pub proof: Proof,
}

impl Restored {
    pub fn new(cluster: &str, node: &str, proof: Proof) -> Restored {
        Restored {
            cluster: cluster.to_owned(),
            fault: WORD,
            node: node.to_owned(),
            passed: proof.error.is_none(),
            problems: proof.error.iter().cloned().collect(),
            proof,
        }
    }
}

/// The result, coloured.
pub fn text(restored: &Restored) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(restored, &mut text);
    text
}

fn write(restored: &Restored, out: &mut String) -> std::fmt::Result {
    let (node, proof) = (&restored.node, &restored.proof);
    let title = format!("{}: drill {WORD}", restored.cluster);
    writeln!(out, "{}, {} (on {node})", title.bold(), moment(proof.at))?;
    writeln!(out)?;
    if let (Some(backup), Some(to)) = (&proof.backup, proof.restored_to) {
        writeln!(
            out,
            "  restored backup {} to {} in {} s: {}",
            visible(backup),
            moment(to),
            proof.seconds,
            size(proof.bytes)
        )?;
        writeln!(
            out,
            "  copying {} s, replaying {} s, checking {} s",
            proof.copy_seconds, proof.replay_seconds, proof.check_seconds
        )?;
        if let Some(bytes) = proof.missing_bytes {
            let seconds = proof.missing_seconds.map_or(String::new(), |it| format!(" ({it} s)"));
            writeln!(
                out,
                "  {}{seconds} of WAL missing, of what {node} had when the drill began",
                size(bytes)
            )?;
        }
        if !proof.checked.is_empty() {
            let checked = visible(&proof.checked.join(" and "));
            writeln!(out, "  {} databases checked with {checked}", proof.databases)?;
        }
        writeln!(out)?;
    }
    for problem in &restored.problems {
        writeln!(out, "{} {}", "problem:".red().bold(), visible(problem))?;
    }
    if restored.passed {
        writeln!(out, "{}", "passed".green().bold())?;
    }
    Ok(())
}

fn moment(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%F %TZ").to_string(),
        Err(_) => "no time that there is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(proof: Proof) -> String {
        anstream::adapter::strip_str(&text(&Restored::new("demo", "pg2", proof))).to_string()
    }

    fn proof() -> Proof {
        Proof {
            at: 1_795_746_500,
            backup: Some("20261127-022728F".into()),
            seconds: 41,
            copy_seconds: 20,
            replay_seconds: 5,
            check_seconds: 15,
            bytes: 34 << 20,
            restored_to: Some(1_795_746_452),
            missing_bytes: Some(0),
            missing_seconds: Some(0),
            databases: 5,
            checked: vec!["pg_amcheck".into(), "pg_checksums".into()],
            ..Proof::default()
        }
    }

    #[test]
    fn a_restore_is_told_with_its_figures() {
        let expected = "demo: drill restore, 2026-11-27 02:28:20Z (on pg2)\n\n  \
             restored backup 20261127-022728F to 2026-11-27 02:27:32Z in 41 s: 34 MB\n  \
             copying 20 s, replaying 5 s, checking 15 s\n  \
             0 B (0 s) of WAL missing, of what pg2 had when the drill began\n  \
             5 databases checked with pg_amcheck and pg_checksums\n\npassed\n";
        assert_eq!(plain(proof()), expected);
    }

    #[test]
    fn one_that_failed_is_told_with_what_it_came_to() {
        let error = Some("cannot restore backup X: [029]: unable to decrypt".to_owned());
        let text = plain(Proof { restored_to: None, error, ..proof() });
        let expected = "demo: drill restore, 2026-11-27 02:28:20Z (on pg2)\n\n\
             problem: cannot restore backup X: [029]: unable to decrypt\n";
        assert_eq!(text, expected);
    }
}
