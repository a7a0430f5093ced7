//! YAML as Ansible reads it: version 1.1, in which `yes` is true and `012` ten, with tags for what is encrypted and for
//! text that is no Jinja expression. What is JSON is read as JSON.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::value::{Data, Place, Value};
use super::{json, problem};
use crate::inventory::Problem;

/// Aliases repeat what they name, which may grow without end.
const MOST: usize = 100_000;

/// Nobody nests deeper, and what reads it would run out of room.
pub(super) const DEEPEST: usize = 100;

/// A collection being read.
enum Open {
    Map { entries: Vec<(String, Value)>, merged: Vec<(Value, Place)>, key: Option<Key>, start: Start },
    List { items: Vec<Value>, start: Start },
}

/// Where a collection begins.
struct Start {
    place: Place,
    anchor: usize,
    is_unsafe: bool,
}

enum Key {
    Named(String, Place),
    /// `<<`: the entries of another mapping.
    Merge(Place),
}

/// Keys that two values stand for, with both places.
#[derive(Debug, Default)]
pub(super) struct Twice {
    /// Those that stand twice in one mapping: the last one counts.
    pub(super) keys: Vec<(String, Place, Place)>,
    /// Those of two mappings in one list behind `<<`. YAML says that the first one counts; what Ansible reads YAML with does so
    /// in some versions, and not in others.
    pub(super) merged: Vec<(String, Place, Place)>,
}

impl Twice {
    pub(super) fn append(&mut self, mut more: Twice) {
        self.keys.append(&mut more.keys);
        self.merged.append(&mut more.merged);
    }
}

/// Reads a document; none if there is nothing in it.
///
/// # Errors
/// If it is not YAML, or another document follows.
pub(super) fn read(file: &Arc<Path>, text: &str, twice: &mut Twice) -> Result<Option<Value>, Problem> {
    documents(file, text, twice, true)
}

/// Reads the first document, whatever follows.
///
/// # Errors
/// If it is not YAML.
pub(super) fn first(file: &Arc<Path>, text: &str) -> Result<Option<Value>, Problem> {
    documents(file, text, &mut Twice::default(), false)
}

fn documents(file: &Arc<Path>, text: &str, twice: &mut Twice, alone: bool) -> Result<Option<Value>, Problem> {
    if let Some(value) = json::read(file, text, twice) {
        return Ok(Some(value).filter(|value| value.data != Data::Null));
    }
    // What looks like JSON may be indented with tabs, which YAML forbids.
    let json = text.trim_start().starts_with(['{', '[']);
    let text = if json { text.replace('\t', " ") } else { text.to_owned() };
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Value> = HashMap::new();
    let mut found = None;
    let mut size = 0;
    let mut is_over = false;
    for event in Parser::new_from_str(&text) {
        let (event, span) = event.map_err(|error| {
            let place = Place::Line(file.clone(), error.marker().line() as u64);
            let hint = "indent with spaces, and close every quote, bracket and brace";
            problem(&place, "", format!("this is not YAML: {}", error.info()), hint)
        })?;
        let place = Place::Line(file.clone(), span.start.line() as u64);
        if open.len() > DEEPEST {
            return Err(problem(&place, "", "is nested too deeply", "write it flat"));
        }
        let whole = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if let Some(Open::Map { key: key @ None, .. }) = open.last_mut()
                    && plain
                    && tag.is_none()
                    && text == "<<"
                {
                    *key = Some(Key::Merge(place));
                    continue;
                }
                let value = Value::new(scalar(&text, plain, tag.as_deref()), &place);
                (value, anchor)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(value) => (value.clone(), 0),
                None => return Err(problem(&place, "", "an alias names itself", "write its value instead")),
            },
            Event::MappingStart(anchor, tag) => {
                let start = Start { place, anchor, is_unsafe: is_unsafe(tag.as_deref()) };
                open.push(Open::Map { entries: Vec::new(), merged: Vec::new(), key: None, start });
                continue;
            }
            Event::SequenceStart(anchor, tag) => {
                let start = Start { place, anchor, is_unsafe: is_unsafe(tag.as_deref()) };
                open.push(Open::List { items: Vec::new(), start });
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Map { mut entries, merged, start, .. }) => {
                    // Of several `<<` the last one counts, as with Ansible.
                    for (value, _) in merged.iter().rev() {
                        let known = entries.len();
                        for (name, value) in maps(value).into_iter().flatten() {
                            match entries.iter().position(|(key, _)| key == name) {
                                None => entries.push((name.clone(), value.clone())),
                                Some(index) if index >= known && !entries[index].1.same(value) => {
                                    let first = entries[index].1.place.clone();
                                    twice.merged.push((name.clone(), first, value.place.clone()));
                                }
                                Some(_) => {}
                            }
                        }
                    }
                    start.value(Data::Map(entries))
                }
                Some(Open::List { items, start }) => start.value(Data::List(items)),
                None => break,
            },
            Event::DocumentEnd if !alone => break,
            Event::DocumentStart(_) if is_over => {
                let hint = "write all of it into one document, without the line `---`";
                return Err(problem(&place, "", "begins a second document, which nothing reads", hint));
            }
            Event::DocumentEnd => {
                is_over = true;
                continue;
            }
            _ => continue,
        };
        let (value, anchor) = whole;
        size += count(&value);
        if size > MOST {
            return Err(problem(&value.place, "", "its aliases repeat too much", "write less in one file"));
        }
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        match open.last_mut() {
            None => found = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map { entries, merged, key, .. }) => match key.take() {
                None if value.is_several() => {
                    let hint = "write a name before the colon";
                    return Err(problem(
                        &value.place,
                        "",
                        "a list or a mapping stands where a key must be",
                        hint,
                    ));
                }
                None => *key = Some(Key::Named(name(&value), value.place)),
                Some(Key::Merge(place)) => {
                    if let Some((_, first)) = merged.last() {
                        twice.keys.push(("<<".into(), first.clone(), place.clone()));
                    }
                    merged.push((value, place));
                }
                // Where its key stands is where it is found.
                Some(Key::Named(name, place)) => put(entries, name, Value { place, ..value }, twice),
            },
        }
    }
    Ok(found.filter(|value| value.data != Data::Null))
}

impl Start {
    /// The collection, with its anchor.
    fn value(self, data: Data) -> (Value, usize) {
        let value = Value { data, place: self.place };
        (if self.is_unsafe { value.made_unsafe() } else { value }, self.anchor)
    }
}

/// Adds to a mapping. Of two entries of one name the last one counts, as with Ansible.
pub(super) fn put(entries: &mut Vec<(String, Value)>, name: String, value: Value, twice: &mut Twice) {
    match entries.iter_mut().find(|(existing, _)| *existing == name) {
        Some(entry) => {
            twice.keys.push((name, entry.1.place.clone(), value.place.clone()));
            entry.1 = value;
        }
        None => entries.push((name, value)),
    }
}

/// The mappings that a merge key names, the one that takes precedence first.
fn maps(value: &Value) -> Vec<&[(String, Value)]> {
    match &value.data {
        Data::Map(entries) => vec![entries],
        Data::List(items) => items.iter().flat_map(maps).collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    match &value.data {
        Data::Map(entries) => 1 + entries.iter().map(|(_, value)| count(value)).sum::<usize>(),
        Data::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// A key, which is text whatever it looks like.
fn name(value: &Value) -> String {
    match &value.data {
        Data::Null => "null".into(),
        _ => value.scalar().unwrap_or_default(),
    }
}

fn is_unsafe(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| !tag.is_yaml_core_schema() && tag.suffix == "unsafe")
}

fn scalar(text: &str, plain: bool, tag: Option<&Tag>) -> Data {
    match tag {
        tag if is_unsafe(tag) => Data::Unsafe(text.to_owned()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "str" => resolved(text),
        Some(tag) if ["vault", "vault-encrypted"].contains(&tag.suffix.as_str()) => Data::Vault,
        None if plain => resolved(text),
        _ => Data::Text(text.to_owned()),
    }
}

/// What a plain scalar is in YAML 1.1.
fn resolved(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Data::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Data::Bool(false),
        _ => {}
    }
    integer(text)
        .map(Data::Integer)
        .or_else(|| float(text).map(Data::Float))
        .unwrap_or_else(|| Data::Text(text.to_owned()))
}

fn sign(text: &str) -> (i64, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = sign(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let plain = digits.replace('_', "");
    let (radix, number) = match plain.as_bytes() {
        [b'0', b'b', rest @ ..] if !rest.is_empty() => (2, &plain[2..]),
        [b'0', b'x', rest @ ..] if !rest.is_empty() => (16, &plain[2..]),
        [b'0', _, ..] if !plain.contains(':') => (8, &plain[1..]),
        _ => (10, plain.as_str()),
    };
    if number.starts_with(['+', '-']) {
        return None;
    }
    if !number.contains(':') {
        return i64::from_str_radix(number, radix).ok()?.checked_mul(sign);
    }
    // `1:30` counts in sixties.
    let mut total = 0_i64;
    for (index, part) in number.split(':').enumerate() {
        let part = sixty(part, index, number)?;
        total = total.checked_mul(60)?.checked_add(part)?;
    }
    total.checked_mul(sign)
}

/// A part of a number in sixties: the first is any number that does not begin with a zero, the others are below sixty.
fn sixty(part: &str, index: usize, whole: &str) -> Option<i64> {
    let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = part.parse::<i64>().ok().filter(|_| digits)?;
    let sound = if index == 0 { !whole.starts_with('0') } else { number < 60 && part.len() <= 2 };
    sound.then_some(number)
}

fn float(text: &str) -> Option<f64> {
    let (_, digits) = sign(text);
    // A point is required, and a sign in the exponent.
    if !digits.contains('.') || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = text.replace('_', "");
    if let Some((mantissa, exponent)) = plain.split_once(['e', 'E'])
        && (!exponent.starts_with(['+', '-']) || !mantissa.contains('.'))
    {
        return None;
    }
    let digit = plain.contains(|c: char| c.is_ascii_digit());
    plain.parse().ok().filter(|_| digit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        read(&Path::new("x.yaml").into(), text, &mut Twice::default()).unwrap().unwrap()
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        let text = "[yes, 'yes', Off, ~, 012, 0x1F, 0b11, 1_000, 1:30, 1:75, 1.5, .5, 1e3, 1.0e+3, 0o17, 2001-01-01, -1, +1, 08, \
                    1.2.3.4, a, '', 12:30:45]";
        let wanted = json!([
            true,
            "yes",
            false,
            null,
            10,
            31,
            3,
            1000,
            90,
            "1:75",
            1.5,
            0.5,
            "1e3",
            1000.0,
            "0o17",
            "2001-01-01",
            -1,
            1,
            "08",
            "1.2.3.4",
            "a",
            "",
            45045
        ]);
        assert_eq!(value(text).to_json(), wanted);
    }

    #[test]
    fn keys_merge_and_the_last_of_two_counts() {
        let text = "a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\nc: {<<: [*a, {z: 4, x: 9}], x: 5}\nd: 1\nd: 2\n1: {on: off}\n";
        let wanted = json!({
            "a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 5, "y": 2, "z": 4}, "d": 2, "1": {"true": false}
        });
        assert_eq!(value(text).to_json(), wanted);
    }

    #[test]
    fn of_two_merges_the_last_one_counts_and_is_noted() {
        let mut twice = Twice::default();
        let text = "one: &a {key: 1, only: 1}\ntwo: &b {key: 2}\nboth:\n  <<: *a\n  <<: *b\n";
        let value = read(&Path::new("x.yaml").into(), text, &mut twice).unwrap().unwrap();
        assert_eq!(value.to_json()["both"], json!({"key": 2, "only": 1}));
        let [(key, first, second)] = &twice.keys[..] else { panic!("{twice:?}") };
        assert_eq!((key.as_str(), first.line(), second.line()), ("<<", Some(4), Some(5)));
        assert!(twice.merged.is_empty());

        let mut twice = Twice::default();
        let text = "one: &a {key: 1, own: 1, alike: 1}\ntwo: &b {key: 2, own: 2, alike: 1}\nboth:\n  <<: [*a, *b]\n  own: 3\n";
        let value = read(&Path::new("x.yaml").into(), text, &mut twice).unwrap().unwrap();
        assert_eq!(value.to_json()["both"], json!({"own": 3, "key": 1, "alike": 1}));
        let [(key, first, second)] = &twice.merged[..] else { panic!("{twice:?}") };
        assert_eq!((key.as_str(), first.line(), second.line()), ("key", Some(1), Some(2)));
    }

    #[test]
    fn what_is_unsafe_is_no_expression() {
        let found = value("{a: !unsafe 'x{{y', b: !unsafe ['{{y}}', 1], c: !unsafe {d: '{{y}}'}}");
        assert_eq!(found.to_json(), json!({"a": "x{{y", "b": ["{{y}}", 1], "c": {"d": "{{y}}"}}));
        assert!(found.closed().is_none());
        assert!(value("a: 'x{{y'").closed().is_some());
    }

    #[test]
    fn a_key_is_one_value() {
        for text in ["? [a, b]\n: 1", "{a: 1}: 2"] {
            assert!(read(&Path::new("x.yaml").into(), text, &mut Twice::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn values_know_their_lines_and_what_is_encrypted() {
        let text = "a:\n  - b: 1\n    c: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6162\n";
        let Data::Map(entries) = value(text).data else { panic!("a mapping") };
        let Data::List(items) = &entries[0].1.data else { panic!("a list") };
        let Data::Map(entries) = &items[0].data else { panic!("a mapping") };
        assert_eq!(entries[0].1.place.line(), Some(2));
        assert!(entries[1].1.data == Data::Vault);
        assert!(read(&Path::new("x.yaml").into(), "a: [", &mut Twice::default()).is_err());
        assert!(read(&Path::new("x.yaml").into(), "# nothing\n", &mut Twice::default()).unwrap().is_none());
    }

    #[test]
    fn aliases_do_not_grow_without_end() {
        let mut text = String::from("a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n");
        for level in 1..9 {
            let last = level - 1;
            let items = vec![format!("*a{last}"); 10].join(",");
            text += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(read(&Path::new("x.yaml").into(), &text, &mut Twice::default()).is_err());
        assert!(read(&Path::new("x.yaml").into(), &"[".repeat(100_000), &mut Twice::default()).is_err());
    }
}
