//! JSON. Ansible reads whatever is JSON as such, before it tries YAML: `1e3` is a number there, and `"\ud83d\ude00"` one
//! character.

use std::path::Path;
use std::sync::Arc;

use super::value::{Data, Place, Value};
use super::yaml::{self, Twice};

/// Reads a text; none if it is not JSON. What is nested too deeply is left to be refused as YAML.
pub(super) fn read(file: &Arc<Path>, text: &str, twice: &mut Twice) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    let mut reader = Reader { file, rest: text, line: 1, depth: 0, twice: Twice::default() };
    let value = reader.value()?;
    twice.append(reader.twice);
    Some(value)
}

/// Reads what is known to be JSON, and keeps the lines.
struct Reader<'a> {
    file: &'a Arc<Path>,
    rest: &'a str,
    line: u64,
    depth: usize,
    twice: Twice,
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

impl Reader<'_> {
    fn skip(&mut self) {
        let rest = self.rest.trim_start_matches(BLANKS);
        let skipped = &self.rest[..self.rest.len() - rest.len()];
        self.line += skipped.matches('\n').count() as u64;
        self.rest = rest;
    }

    fn take(&mut self, token: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn place(&mut self) -> Place {
        self.skip();
        Place::Line(self.file.clone(), self.line)
    }

    fn value(&mut self) -> Option<Value> {
        let place = self.place();
        self.depth += 1;
        let value = match self.rest.chars().next()? {
            _ if self.depth > yaml::DEEPEST => None,
            '{' => self.object(&place),
            '[' => self.list(&place),
            '"' => self.string().map(|text| Value::text(text, &place)),
            _ => Some(Value::new(self.word(), &place)),
        };
        self.depth -= 1;
        value
    }

    fn object(&mut self, place: &Place) -> Option<Value> {
        let mut entries = Vec::new();
        self.take('{');
        while !self.take('}') {
            let place = self.place();
            let name = self.string()?;
            self.take(':');
            // Where its key stands is where it is found.
            let value = Value { place, ..self.value()? };
            yaml::put(&mut entries, name, value, &mut self.twice);
            self.take(',');
        }
        let special =
            |(name, _): &(String, Value)| ["__ansible_vault", "__ansible_unsafe"].contains(&name.as_str());
        let Some(index) = entries.iter().position(special) else {
            return Some(Value::new(Data::Map(entries), place));
        };
        let (name, value) = entries.swap_remove(index);
        Some(if name == "__ansible_vault" { Value::new(Data::Vault, place) } else { value.made_unsafe() })
    }

    fn list(&mut self, place: &Place) -> Option<Value> {
        let mut items = Vec::new();
        self.take('[');
        while !self.take(']') {
            items.push(self.value()?);
            self.take(',');
        }
        Some(Value::new(Data::List(items), place))
    }

    fn string(&mut self) -> Option<String> {
        let mut is_escaped = false;
        let ends = |(_, character): &(usize, char)| {
            let is_end = *character == '"' && !is_escaped;
            is_escaped = *character == '\\' && !is_escaped;
            is_end
        };
        let (end, _) = self.rest.strip_prefix('"')?.char_indices().find(ends)?;
        let (token, rest) = self.rest.split_at(end + 2);
        self.rest = rest;
        serde_json::from_str(token).ok()
    }

    /// A constant or a number. What is too long for a number stays text, as in YAML.
    fn word(&mut self) -> Data {
        let ends = |character: char| BLANKS.contains(&character) || [',', ']', '}'].contains(&character);
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        match word {
            "null" => Data::Null,
            "true" => Data::Bool(true),
            "false" => Data::Bool(false),
            _ if word.contains(['.', 'e', 'E']) => {
                word.parse().map_or_else(|_| Data::Text(word.to_owned()), Data::Float)
            }
            _ => word.parse().map_or_else(|_| Data::Text(word.to_owned()), Data::Integer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Option<Value> {
        read(&Path::new("x.json").into(), text, &mut Twice::default())
    }

    #[test]
    fn values_are_those_of_json_with_their_lines() {
        let text = "{\"a\": [1, -2, 1.5, 1e3, true, null, \"yes\"],\n \"b\": {},\n\n\"c\":\n\"\\ud83d\\ude00 \\\\\\\"}\\n\",\n\"d\": [\n[]]}";
        let found = value(text).unwrap();
        let wanted = json!({"a": [1, -2, 1.5, 1000.0, true, null, "yes"], "b": {}, "c": "\u{1f600} \\\"}\n", "d": [[]]});
        assert_eq!(found.to_json(), wanted);
        let Data::Map(entries) = found.data else { panic!("a mapping") };
        let lines: Vec<_> = entries.iter().map(|(_, value)| value.place.line()).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(4), Some(6)]);
        for text in ["{a: 1}", "[1, 2] 3", "[1,]", "5", "[\"\\ud83d\"]", "{\"a\": 1} # b"] {
            assert!(value(text).is_none(), "{text}");
        }
        assert!(value(&("[".repeat(120) + &"]".repeat(120))).is_none());
    }

    #[test]
    fn the_last_of_two_keys_counts_and_is_noted() {
        let mut twice = Twice::default();
        let text = "{\"a\": 1,\n\"b\": 2,\n\"a\": 3}";
        let found = read(&Path::new("x.json").into(), text, &mut twice).unwrap();
        assert_eq!(found.to_json(), json!({"a": 3, "b": 2}));
        let [(key, first, second)] = &twice.keys[..] else { panic!("{twice:?}") };
        assert_eq!((key.as_str(), first.line(), second.line()), ("a", Some(1), Some(3)));
    }

    #[test]
    fn what_ansible_marks_is_encrypted_or_no_expression() {
        let text = r#"{"a": {"__ansible_vault": "$ANSIBLE_VAULT;1.1"}, "b": {"__ansible_unsafe": "x{{y"}}"#;
        let Data::Map(entries) = value(text).unwrap().data else { panic!("a mapping") };
        assert!(entries[0].1.data == Data::Vault);
        assert!(entries[1].1.data == Data::Unsafe("x{{y".into()));
    }

    proptest! {
        #[test]
        fn any_json_is_read_as_what_it_is(texts in prop::collection::vec(any::<String>(), 0..4), number in any::<i64>()) {
            let wanted = json!({"texts": texts, "number": number, "nested": [{"a": texts}]});
            prop_assert_eq!(value(&wanted.to_string()).unwrap().to_json(), wanted.clone());
            let pretty = serde_json::to_string_pretty(&wanted).unwrap();
            prop_assert_eq!(value(&pretty).unwrap().to_json(), wanted);
        }
    }
}
