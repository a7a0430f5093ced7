//! Subcommands of similar tools, and what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

const SYNONYMS: &[(&[&str], &str)] = &[
    (&["init", "create", "apply", "deploy", "start"], "cluster up"),
    (&["validate", "diff", "check"], "cluster plan"),
    (&["list", "show", "health", "doctor"], "cluster status"),
    (&["promote", "takeover"], "cluster switchover"),
    (&["history", "events"], "cluster explain"),
    (&["delete", "destroy", "stop"], "cluster down"),
    (&["log", "journal"], "cluster logs"),
    (&["shell", "exec", "login"], "cluster ssh"),
    (&["convert", "import"], "cluster inventory convert"),
    (&["version"], "cluster --version"),
];

/// Replaces clap's guess, which compares letters, by one that knows what the word means.
pub(super) fn explain(mut error: clap::Error, word: Option<&str>) -> clap::Error {
    let known = SYNONYMS.iter().find(|(words, _)| word.is_some_and(|word| words.contains(&word)));
    if let (ErrorKind::InvalidSubcommand, Some((_, command))) = (error.kind(), known) {
        error.remove(ContextKind::SuggestedSubcommand);
        let tip = format!("use `{command}`").into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn no_synonym_hides_a_command_and_each_leads_to_one() {
        let cli = Cli::command();
        for (words, command) in SYNONYMS {
            assert!(words.iter().all(|word| cli.find_subcommand(word).is_none()), "{words:?}");
            let command = command.split(' ').nth(1).unwrap_or_default();
            assert!(command == "--version" || cli.find_subcommand(command).is_some(), "{command}");
        }
    }
}
