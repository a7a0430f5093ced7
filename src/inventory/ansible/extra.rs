//! Variables of the command line: `-e key=value`, `-e '{"key": "value"}'` and `-e @FILE`.

use std::path::Path;
use std::sync::Arc;

use super::value::{Data, Place, Value, Vars};
use super::{Notes, ini, problem, sources, words, yaml};
use crate::inventory::Problem;

const FORMS: &str =
    "write `-e key=value`, `-e '{\"key\": \"value\"}'`, or `-e @FILE` with a file of variables";

/// Reads every option; the last of two values counts.
pub(super) fn read(options: &[String], notes: &mut Notes, problems: &mut Vec<Problem>) -> Vars {
    let mut vars = Vars::new();
    for option in options {
        let text = option.trim();
        if let Some(file) = text.strip_prefix('@') {
            vars.extend(sources::variables(Path::new(file), notes, problems));
        } else if text.starts_with(['{', '[']) {
            structured(text, &mut vars, notes, problems);
        } else {
            assignments(text, &mut vars, problems);
        }
    }
    vars
}

fn structured(text: &str, vars: &mut Vars, notes: &mut Notes, problems: &mut Vec<Problem>) {
    let file: Arc<Path> = Path::new("-e").into();
    let mut twice = Vec::new();
    let read = yaml::read(&file, text, &mut twice);
    notes.twice.extend(twice.into_iter().map(|(key, ..)| (key, Place::CommandLine, Place::CommandLine)));
    let entries = match read {
        Ok(Some(Value { data: Data::Map(entries), .. })) => entries,
        Ok(_) => return problems.push(problem(&Place::CommandLine, "", "is not a mapping", FORMS)),
        Err(error) => return problems.push(problem(&Place::CommandLine, "", error.message, FORMS)),
    };
    vars.extend(entries.into_iter().map(|(name, value)| (name, from_the_command_line(value))));
}

/// A value in which no line means anything.
fn from_the_command_line(value: Value) -> Value {
    let data = match value.data {
        Data::List(items) => Data::List(items.into_iter().map(from_the_command_line).collect()),
        Data::Map(entries) => {
            Data::Map(entries.into_iter().map(|(name, value)| (name, from_the_command_line(value))).collect())
        }
        data => data,
    };
    Value { data, place: Place::CommandLine }
}

/// Values are text, whatever they look like.
fn assignments(text: &str, vars: &mut Vars, problems: &mut Vec<Problem>) {
    let place = Place::CommandLine;
    let Ok(words) = words::assignments(text) else {
        return problems.push(problem(&place, "", "a quote or an expression is not closed", FORMS));
    };
    if words.is_empty() {
        problems.push(problem(&place, "", "is empty", FORMS));
    }
    for word in words {
        match word.split_once('=') {
            Some((name, text)) if ini::is_variable(name) => {
                vars.insert(name.to_owned(), Value::text(words::unquoted(text), &place));
            }
            _ => problems.push(problem(&place, "", format!("`{word}` is not an assignment"), FORMS)),
        }
    }
}
