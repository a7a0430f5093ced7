//! Confirmation before anything that cannot be undone.

use std::io::IsTerminal as _;

use anyhow::Result;

use crate::error::Advice;
use crate::screen;

/// Asks for the name of the `cluster`, `node` or `database` at stake; `kept` is what to report if the answer is wrong.
pub(super) fn confirm(what: &str, name: &str, yes: bool, kept: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let no = |message: &str| Advice::refused(message).hint("--yes skips this question");
    if !std::io::stdin().is_terminal() {
        return Err(no("cannot ask for confirmation: standard input is not a terminal").into());
    }
    screen::settle();
    let typed: String = dialoguer::Input::new()
        .with_prompt(format!("Type the name of the {what} ({name}) to continue"))
        .allow_empty(true)
        .interact_text()?;
    if typed.trim() == name { Ok(()) } else { Err(no(&format!("the name does not match; {kept}")).into()) }
}
