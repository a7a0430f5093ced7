//! `cluster completions`.

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Exit;

pub(super) fn run(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut visible(&Cli::command()), "cluster", &mut std::io::stdout());
    Exit::Done
}

/// The command without its hidden subcommands, which clap_complete would offer.
fn visible(command: &Command) -> Command {
    let mut shown = Command::new(command.get_name().to_owned())
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_not_completed_and_inventories_are_files() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Fish, &mut visible(&Cli::command()), "cluster", &mut script);
        let script = String::from_utf8(script).unwrap();
        for hidden in ["render", "play", "serve", "thaw"] {
            assert!(!script.contains(&format!("-a \"{hidden}\"")), "{hidden}");
        }
        assert!(script.contains("-a \"switchover\"") && script.contains("-a \"completions\""), "{script}");
        assert!(
            script.lines().any(|line| line.contains("-l inventory") && line.ends_with("-r -F")),
            "{script}"
        );
    }
}
