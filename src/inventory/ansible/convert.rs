//! An Ansible inventory as YAML of this program, with comments that say where each value comes from.

use std::path::Path;

use serde_yaml::{Mapping, Value as Yaml};

use super::{Reading, Translation};
use crate::inventory::shown::MISSING;
use crate::inventory::{Problems, check};
use crate::visible::visible;

/// The whole file.
pub(super) fn yaml(reading: &Reading, translation: &Translation) -> String {
    let files: Vec<String> = reading.files().iter().map(|path| path.display().to_string()).collect();
    let mut out = format!("# Converted from {}.\n", on_one_line(&files.join(", ")));
    if !translation.missing.is_empty() {
        out += "# What must be completed is marked.\n";
    }
    for problem in &translation.problems {
        // What is wrong may be left out below.
        let problems =
            Problems { file: reading.path.clone(), list: vec![problem.clone()], notes: Vec::new() };
        out += &format!("# Error: {}\n", on_one_line(&problems.to_string().replace("\n  ", "; ")));
    }
    for warning in &translation.warnings {
        out += &format!("# Warning: {}\n", on_one_line(warning));
    }
    let writer = Writer { translation };
    writer.mapping(&document(reading, translation), "", 0, &mut out);
    out
}

/// Keys whose values are paths.
const PATHS: &[&str] = &["ssh_key", "failover_token_file", "passphrase_file", "credentials_file", "ca"];

/// The document as it can stand anywhere: what is relative to the Ansible inventory is told from the root.
pub(super) fn document(reading: &Reading, translation: &Translation) -> Mapping {
    let directory = check::beside(&reading.path);
    let mut document = translation.document.clone();
    for key in ["provider", "nodes", "backup"] {
        if let Some(value) = document.get_mut(key) {
            absolute(value, directory);
        }
    }
    document
}

fn absolute(value: &mut Yaml, directory: &Path) {
    match value {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                match value {
                    Yaml::String(text) if PATHS.iter().any(|path| key == *path) => {
                        let stays = text.starts_with('~') || text == MISSING;
                        if !stays && let Ok(path) = std::path::absolute(directory.join(&*text)) {
                            *text = path.display().to_string();
                        }
                    }
                    value => absolute(value, directory),
                }
            }
        }
        Yaml::Sequence(items) => items.iter_mut().for_each(|item| absolute(item, directory)),
        _ => {}
    }
}

struct Writer<'a> {
    translation: &'a Translation,
}

impl Writer<'_> {
    fn mapping(&self, mapping: &Mapping, path: &str, indent: usize, out: &mut String) {
        for (key, value) in mapping {
            let name = key.as_str().unwrap_or_default();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            out.push_str(&format!("{:indent$}{}:", "", scalar(key)));
            self.value(value, &path, indent, out);
        }
    }

    /// What follows a key and its colon.
    fn value(&self, value: &Yaml, path: &str, indent: usize, out: &mut String) {
        let comment = self.comment(path);
        match value {
            Yaml::Mapping(mapping) if !mapping.is_empty() => {
                out.push_str(&format!("{comment}\n"));
                self.mapping(mapping, path, indent + 2, out);
            }
            Yaml::Sequence(items) if !items.is_empty() => {
                out.push_str(&format!("{comment}\n"));
                for (index, item) in items.iter().enumerate() {
                    self.item(item, &format!("{path}[{index}]"), indent + 2, out);
                }
            }
            _ => out.push_str(&format!(" {}{comment}\n", scalar(value))),
        }
    }

    fn item(&self, item: &Yaml, path: &str, indent: usize, out: &mut String) {
        match item {
            Yaml::Mapping(mapping) if !mapping.is_empty() => {
                let mut text = String::new();
                self.mapping(mapping, path, indent + 2, &mut text);
                // The first key stands behind the dash.
                out.push_str(&format!("{:indent$}- {}", "", &text[indent + 2..]));
            }
            // A list in a list, as JSON, which is YAML as well.
            Yaml::Sequence(_) => {
                out.push_str(&format!("{:indent$}- {}{}\n", "", json(item), self.comment(path)));
            }
            _ => out.push_str(&format!("{:indent$}- {}{}\n", "", scalar(item), self.comment(path))),
        }
    }

    fn comment(&self, path: &str) -> String {
        if let Some(what) = self.translation.missing.get(path) {
            return format!("  # must be completed: {what}");
        }
        let Some(origin) = self.translation.origins.get(path) else { return String::new() };
        let place = origin.place.as_ref().map(ToString::to_string);
        let text = match (&origin.variable, place, &origin.remark) {
            (Some(variable), Some(place), None) => format!("{place} ({variable})"),
            (_, Some(place), Some(remark)) => format!("{place}: {remark}"),
            (_, None, Some(remark)) => remark.clone(),
            // A part of a value that has said where it stands, except for a host.
            (None, Some(place), None) if path.starts_with("nodes[") && path.ends_with(".name") => place,
            _ => return String::new(),
        };
        format!("  # {}", on_one_line(&text))
    }
}

/// Text that does not end a comment.
fn on_one_line(text: &str) -> String {
    escaped(&visible(text).replace('\n', " "))
}

/// A value on one line.
fn scalar(value: &Yaml) -> String {
    match value {
        Yaml::String(text) if text.contains(is_special) => json(value),
        _ => serde_yaml::to_string(value).unwrap_or_default().trim_end_matches('\n').to_owned(),
    }
}

/// A value as JSON, whose quotes and escapes are YAML's.
fn json(value: &Yaml) -> String {
    escaped(&serde_json::to_string(value).unwrap_or_default())
}

/// Whether a character ends a line in YAML, or must not stand in it.
fn is_special(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Text with its special characters as YAML and JSON write them in quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_special(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_but_a_line_break_ends_a_line() {
        for special in ["\u{2028}", "\u{2029}", "\u{85}", "\r", "\u{feff}", "\u{7f}", "\u{9b}", "\u{ffff}"] {
            let text = format!("a{special}cluster: b");
            assert!(!on_one_line(&text).contains(special), "{special:?}");
            let yaml = format!("- {} # {}\n", scalar(&text.as_str().into()), on_one_line(&text));
            assert_eq!(serde_yaml::from_str::<Vec<String>>(&yaml).unwrap(), vec![&*text], "{yaml}");
            let yaml = json(&vec![Yaml::from(text.as_str())].into());
            assert_eq!(serde_yaml::from_str::<Vec<String>>(&yaml).unwrap(), [text], "{yaml}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_one_value_on_one_line(text in any::<String>()) {
            let value = Yaml::from(text.as_str());
            let yaml = format!("- {}\n", scalar(&value));
            prop_assert_eq!(yaml.lines().count(), 1);
            prop_assert_eq!(serde_yaml::from_str::<Vec<String>>(&yaml).unwrap(), vec![&*text]);
            let entry = format!("{}: 1 # {}\n", scalar(&value), on_one_line(&text));
            let read: Mapping = serde_yaml::from_str(&entry).unwrap();
            prop_assert_eq!(read.into_iter().collect::<Vec<_>>(), vec![(value, Yaml::from(1))]);
        }
    }
}
