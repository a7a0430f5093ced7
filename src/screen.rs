//! The one place that writes to the terminal, beside the consumers of events: what they move in place is put away first.
//!
//! `data!` is for what a command was asked for, on standard output; `tell!` for what a person should know besides, on
//! standard error. Control characters that are not colours are written out: a host may have said them. A reader that has
//! gone (`cluster status | head -1`) is no reason to fail, or to leave a run half done.

use std::fmt::Arguments;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::report::Reporter;
use crate::visible::visible_but_colours;

/// The reporter whose consumers have the terminal, while a run lasts.
static TAKEN: Mutex<Option<Reporter>> = Mutex::new(None);

/// Says who has the terminal; none when a run has ended.
pub(crate) fn taken_by(reporter: Option<Reporter>) {
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = reporter;
}

/// Waits until nothing on the terminal moves any more: before something is printed, or asked.
pub fn settle() {
    let reporter = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(reporter) = reporter {
        reporter.settle();
    }
}

fn ended(text: &Arguments<'_>) -> String {
    let text = visible_but_colours(&text.to_string());
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

/// Prints what was asked for.
pub fn data(text: &Arguments<'_>) {
    settle();
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(ended(text).as_bytes()).and_then(|()| out.flush());
}

/// The result of a command that changes one thing: in JSON for a program, in words for a person.
///
/// # Errors
/// As [`json`].
pub fn result(as_json: bool, value: &serde_json::Value, words: &str) -> serde_json::Result<()> {
    if as_json {
        return json(value);
    }
    data(&format_args!("{words}"));
    Ok(())
}

/// Prints what was asked for, for programs.
///
/// # Errors
/// When it cannot be written as JSON, which is a mistake of this program.
pub fn json(value: &impl Serialize) -> serde_json::Result<()> {
    // JSON's own escapes leave what a terminal would obey behind U+007F as it is; they mean the same written out.
    data(&format_args!("{}", escaped(&serde_json::to_string_pretty(value)?)));
    Ok(())
}

/// JSON in which DEL and the C1 control characters are escaped, too.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match u32::from(character) {
            code @ 0x7f..=0x9f => text.push_str(&format!("\\u{code:04x}")),
            _ => text.push(character),
        }
    }
    text
}

/// Tells a person something.
pub fn tell(text: &Arguments<'_>) {
    settle();
    let mut err = anstream::stderr().lock();
    let _ = err.write_all(ended(text).as_bytes());
}

/// Prints a line of what was asked for.
#[macro_export]
macro_rules! data {
    ($($text:tt)*) => { $crate::screen::data(&format_args!($($text)*)) };
}

/// Tells a person a line.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::screen::tell(&format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_meaning_and_loses_what_a_terminal_would_obey() {
        let said = "a\u{7f}b\u{9b}31mé\u{1b}\n";
        let text = escaped(&serde_json::to_string(said).unwrap());
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), said);
    }

    #[test]
    fn a_line_ends_once() {
        assert_eq!(ended(&format_args!("a")), "a\n");
        assert_eq!(ended(&format_args!("a\n")), "a\n");
        assert_eq!(ended(&format_args!("")), "");
        assert_eq!(ended(&format_args!("\x1b[1mb\x1b[0m\x1b[2J")), "\x1b[1mb\x1b[0m\\x1b[2J\n");
    }
}
