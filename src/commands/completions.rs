//! `cluster completions`. The script asks this program for candidates each time, so that it can offer the nodes of the
//! inventory that the command line names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::cli::Cli;
use crate::error::Exit;
use crate::inventory::{Inventory, Node, Role};

/// Set by the script when it asks for candidates, to the shell's name.
const VARIABLE: &str = "CLUSTER_COMPLETE";

pub(super) fn run(shell: Shell) -> Result<Exit> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).context("no script for this shell")?;
    shell.write_registration(VARIABLE, "cluster", "cluster", "cluster", &mut std::io::stdout())?;
    Ok(Exit::Done)
}

/// Answers a script that asks for candidates; returns whether one did.
///
/// # Errors
/// Where the shell is not known, or nobody reads the answer.
pub fn answer() -> Result<bool, clap::Error> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(std::env::args_os(), here.as_deref())
}

/// The nodes of the inventory that the command line names, for an argument that takes any of them.
pub fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(|_| true))
}

/// As [`nodes`], for an argument that takes a data node.
pub fn data_nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(|node| node.role != Role::Witness))
}

fn candidates(fits: fn(&Node) -> bool) -> Vec<CompletionCandidate> {
    let file =
        named(std::env::args_os()).or_else(|| std::env::var_os("CLUSTER_INVENTORY").map(PathBuf::from));
    // An inventory with mistakes is for other commands to report.
    let Some(inventory) = file.and_then(|file| Inventory::read(&file).ok()) else { return Vec::new() };
    inventory
        .nodes
        .iter()
        .filter(|node| fits(node))
        .map(|node| CompletionCandidate::new(&node.name))
        .collect()
}

/// The inventory that a command line names. The shell has not replaced `~` in it.
fn named(words: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let words: Vec<String> = words.filter_map(|word| word.into_string().ok()).collect();
    let file = words.iter().enumerate().find_map(|(index, word)| match word.as_str() {
        "-i" | "--inventory" => words.get(index + 1).map(String::as_str),
        word => word.strip_prefix("--inventory=").or_else(|| word.strip_prefix("-i")),
    })?;
    match file.strip_prefix("~/").zip(std::env::var_os("HOME")) {
        Some((rest, home)) => Some(Path::new(&home).join(rest)),
        None => Some(PathBuf::from(file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let last = words.len() - 1;
        let found = clap_complete::engine::complete(&mut Cli::command(), words, last, None).unwrap();
        found.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn hidden_commands_are_not_offered() {
        let commands = offered(&["cluster", ""]);
        for shown in ["switchover", "completions", "lab"] {
            assert!(commands.iter().any(|it| it == shown), "{commands:?}");
        }
        for hidden in ["render", "play"] {
            assert!(commands.iter().all(|it| it != hidden), "{commands:?}");
        }
        let lab = offered(&["cluster", "lab", ""]);
        assert!(
            lab.iter().any(|it| it == "list") && lab.iter().all(|it| it != "thaw" && it != "serve"),
            "{lab:?}"
        );
    }

    #[test]
    fn an_inventory_is_found_however_it_is_named() {
        let named = |line: &str| named(line.split(' ').map(OsString::from));
        let file = Some(PathBuf::from("a.yaml"));
        assert_eq!(named("cluster switchover -i a.yaml p"), file);
        assert_eq!(named("cluster switchover p --inventory=a.yaml"), file);
        assert_eq!(named("cluster ssh -ia.yaml p"), file);
        assert_eq!(named("cluster switchover p"), None);
        assert_eq!(named("cluster switchover -i"), None);
    }

    #[test]
    fn every_shell_has_a_script() {
        let all = <Shell as clap::ValueEnum>::value_variants();
        for shell in all {
            assert!(Shells::builtins().completer(&shell.to_string()).is_some(), "{shell}");
        }
    }
}
