//! Variables of the command line: `-e key=value`, `-e '{"key": "value"}'` and `-e @FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::value::{Data, Place, Value, Vars};
use super::{Notes, ini, problem, sources, words, yaml};
use crate::inventory::Problem;

const FORMS: &str =
    "write `-e key=value`, `-e '{\"key\": \"value\"}'`, or `-e @FILE` with a file of variables";

/// Reads every option; the last of two values counts.
pub(super) fn read(options: &[String], notes: &mut Notes, problems: &mut Vec<Problem>) -> Vars {
    let mut vars = Vars::new();
    for (index, option) in options.iter().enumerate() {
        let text = option.trim();
        // What an option says may be a password: it is told by its number.
        let number = if options.len() > 1 { format!("number {}", index + 1) } else { String::new() };
        let mut wrong = |key: &str, message: &str| {
            let key = [number.as_str(), key]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
            problems.push(problem(&Place::CommandLine, key, message, FORMS));
        };
        if let Some(file) = text.strip_prefix('@') {
            vars.extend(sources::variables(&at_home(file), notes, problems));
        } else if text.starts_with(['{', '[']) {
            structured(text, &mut vars, notes, &mut wrong);
        } else {
            assignments(text, &mut vars, &mut wrong);
        }
    }
    vars
}

/// The file, where `~/` is the home directory: a shell leaves it as it is behind an `@`.
fn at_home(file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(file),
    }
}

fn structured(text: &str, vars: &mut Vars, notes: &mut Notes, wrong: &mut impl FnMut(&str, &str)) {
    let file: Arc<Path> = Path::new("-e").into();
    let mut twice = yaml::Twice::default();
    let read = yaml::read(&file, text, &mut twice);
    for keys in [&mut twice.keys, &mut twice.merged] {
        for (_, first, second) in keys {
            (*first, *second) = (Place::CommandLine, Place::CommandLine);
        }
    }
    notes.twice.append(twice);
    let entries = match read {
        Ok(Some(Value { data: Data::Map(entries), .. })) => entries,
        Ok(_) => return wrong("", "is not a mapping"),
        Err(error) => return wrong("", &error.message),
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
fn assignments(text: &str, vars: &mut Vars, wrong: &mut impl FnMut(&str, &str)) {
    let Ok(words) = words::assignments(text) else {
        return wrong("", "a quote or an expression is not closed");
    };
    if words.is_empty() {
        wrong("", "is empty");
    }
    for (index, word) in words.iter().enumerate() {
        let at = format!("word {}", index + 1);
        let Some(word) = words::unescaped(word) else {
            wrong(&at, "has a backslash before something that is no character");
            continue;
        };
        match word.split_once('=').map(|(name, text)| (name.trim(), text.trim())) {
            Some((name, text)) if ini::is_variable(name) => {
                vars.insert(name.to_owned(), Value::text(words::unquoted(text), &Place::CommandLine));
            }
            _ => wrong(&at, "is not an assignment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(option: &str) -> (Vars, Vec<String>) {
        let (mut notes, mut problems) = (Notes::default(), Vec::new());
        let vars = read(&[option.to_owned()], &mut notes, &mut problems);
        (vars, problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect())
    }

    #[test]
    fn a_backslash_means_what_it_means_to_ansible() {
        let (vars, problems) = of(r#"a=pg\x31 b="x\ty" c=a\\b"#);
        let texts: Vec<_> = vars.values().filter_map(Value::scalar).collect();
        assert_eq!((texts, problems), (vec!["pg1".into(), "x\ty".into(), r"a\b".into()], Vec::new()));
        assert_eq!(of(r"a=\N{DASH}").1, ["word 1: has a backslash before something that is no character"]);
    }

    #[test]
    fn a_file_may_be_below_the_home_directory() {
        let home = std::env::var("HOME").unwrap_or_default();
        let (_, problems) = of("@~/no/such/file.yml");
        assert!(problems[0].contains("cannot be read"), "{problems:?}");
        assert_eq!(at_home("~/no/such/file.yml"), Path::new(&home).join("no/such/file.yml"));
        assert_eq!(at_home("~a/b"), Path::new("~a/b"));
    }

    #[test]
    fn an_option_is_refused_without_what_it_says() {
        for option in ["a=1 hunter2", "hunter2", "pass word=1 'hunter2'", "hunter2-x=1", "=hunter2"] {
            let (_, problems) = of(option);
            assert!(
                !problems.is_empty() && !problems.join(" ").contains("hunter2"),
                "{option}: {problems:?}"
            );
        }
    }
}
