//! Subcommands of similar tools, and what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that no single command stands for, and what to do instead.
const TIPS: &[(&str, &str)] = &[(
    "restart",
    "`cluster up` restarts PostgreSQL where a changed setting needs it; by hand: `cluster pause`, \
     `cluster ssh NODE -- systemctl restart postgresql`, `cluster resume`",
)];

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
    if let (ErrorKind::InvalidSubcommand, Some(tip)) = (error.kind(), word.and_then(tip)) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// What to do where this word was given for a command.
fn tip(word: &str) -> Option<String> {
    let command = SYNONYMS.iter().find(|(words, _)| words.contains(&word)).map(|(_, command)| command);
    let tip = TIPS.iter().find(|(known, _)| *known == word).map(|(_, tip)| (*tip).to_owned());
    command.map(|command| format!("use `{command}`")).or(tip)
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
        for (word, tip) in TIPS {
            assert!(cli.find_subcommand(word).is_none(), "{word}");
            for command in tip.split("`cluster ").skip(1).filter_map(|rest| rest.split([' ', '`']).next()) {
                assert!(cli.find_subcommand(command).is_some(), "{command}");
            }
        }
    }
}
