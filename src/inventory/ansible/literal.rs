//! Python literals, as which Ansible reads the values of an INI inventory: `12` is a number, `True` a truth value,
//! `[1, 'a']` a list. Whatever is none is text.

use super::value::{Data, Place, Value};

/// The value that `text` is.
pub(super) fn value(text: &str, place: &Place) -> Value {
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']), place, depth: 0 };
    let data = reader.expression().filter(|_| reader.at_end());
    Value::new(data.unwrap_or_else(|| Data::Text(text.to_owned())), place)
}

struct Reader<'a> {
    rest: &'a str,
    place: &'a Place,
    depth: usize,
}

/// Python's parser has a limit of this kind as well.
const DEEPEST: usize = 90;

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
    }

    /// A comment may follow, as everywhere in Python.
    fn at_end(&mut self) -> bool {
        self.skip();
        self.rest.trim().is_empty() || self.rest.starts_with('#')
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

    fn one(&self, data: Data) -> Value {
        Value::new(data, self.place)
    }

    /// A value, or several with commas between them, which need no parentheses.
    fn expression(&mut self) -> Option<Data> {
        let first = self.atom()?;
        if !self.take(',') {
            return Some(first);
        }
        let mut items = vec![self.one(first)];
        while !self.at_end() {
            let item = self.atom()?;
            items.push(self.one(item));
            if !self.take(',') {
                break;
            }
        }
        Some(Data::List(items))
    }

    fn atom(&mut self) -> Option<Data> {
        self.depth += 1;
        let data = if self.depth > DEEPEST { None } else { self.shallow_atom() };
        self.depth -= 1;
        data
    }

    fn shallow_atom(&mut self) -> Option<Data> {
        self.skip();
        match self.rest.chars().next()? {
            '[' => {
                self.take('[');
                self.items(']').map(|(items, _)| Data::List(items))
            }
            '(' => {
                self.take('(');
                let (mut items, comma) = self.items(')')?;
                match (items.len(), comma) {
                    (1, false) => items.pop().map(|item| item.data),
                    _ => Some(Data::List(items)),
                }
            }
            '{' => self.braces(),
            '+' | '-' => {
                let negative = self.rest.starts_with('-');
                self.rest = &self.rest[1..];
                self.skip();
                match self.number()? {
                    Data::Integer(number) if negative => Some(Data::Integer(-number)),
                    Data::Float(number) if negative => Some(Data::Float(-number)),
                    number => Some(number),
                }
            }
            '0'..='9' | '.' => self.number(),
            _ => self.word(),
        }
    }

    /// What stands between brackets, and whether a comma was there.
    fn items(&mut self, end: char) -> Option<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.take(end) {
            if !items.is_empty() && !comma {
                return None;
            }
            let item = self.atom()?;
            items.push(self.one(item));
            if !self.take(',') {
                return self.take(end).then_some((items, comma));
            }
            comma = true;
        }
        Some((items, comma))
    }

    /// A dictionary, or a set, which becomes a list.
    fn braces(&mut self) -> Option<Data> {
        self.take('{');
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut members = Vec::new();
        while !self.take('}') {
            let first = self.atom()?;
            let first = self.one(first);
            if self.take(':') {
                let key = match &first.data {
                    Data::Null => "null".to_owned(),
                    _ => first.scalar()?,
                };
                let value = self.atom()?;
                let value = self.one(value);
                match entries.iter_mut().find(|(name, _)| *name == key) {
                    Some(entry) => entry.1 = value,
                    None => entries.push((key, value)),
                }
            } else {
                members.push(first);
            }
            if !self.take(',') {
                if !self.take('}') {
                    return None;
                }
                break;
            }
        }
        match (entries.is_empty(), members.is_empty()) {
            (_, true) => Some(Data::Map(entries)),
            (true, false) => Some(Data::List(members)),
            (false, false) => None,
        }
    }

    fn number(&mut self) -> Option<Data> {
        let end = self.number_end();
        let (token, rest) = self.rest.split_at(end);
        if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.') {
            return None;
        }
        // Underscores stand between digits, and nowhere else.
        if token.contains("__") || token.ends_with('_') || token.contains("_.") || token.contains("._") {
            return None;
        }
        let digits = token.replace('_', "");
        self.rest = rest;
        let radix = match digits.get(..2).map(str::to_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        if radix != 10 {
            return i64::from_str_radix(&digits[2..], radix).ok().map(Data::Integer);
        }
        if digits.contains(['.', 'e', 'E']) {
            let sound = digits.contains(|c: char| c.is_ascii_digit()) && !digits.starts_with(['e', 'E']);
            return digits.parse().ok().filter(|_| sound).map(Data::Float);
        }
        // `01` is no number in Python; `00` is.
        if digits.len() > 1 && digits.starts_with('0') && digits.contains(|c| c != '0') {
            return None;
        }
        digits.parse().ok().map(Data::Integer)
    }

    /// Where the number that begins here ends.
    fn number_end(&self) -> usize {
        let bytes = self.rest.as_bytes();
        let prefixed = bytes.len() > 1 && bytes[0] == b'0' && b"xXoObB".contains(&bytes[1]);
        let mut end = 0;
        while let Some(byte) = bytes.get(end) {
            let within = match byte {
                b'0'..=b'9' | b'_' => true,
                _ if prefixed => byte.is_ascii_hexdigit() || end == 1,
                b'.' | b'e' | b'E' => true,
                b'+' | b'-' => end > 0 && b"eE".contains(&bytes[end - 1]),
                _ => false,
            };
            if !within {
                break;
            }
            end += 1;
        }
        end
    }

    /// A constant, or one string after the other, which Python joins.
    fn word(&mut self) -> Option<Data> {
        for (name, data) in [("None", Data::Null), ("True", Data::Bool(true)), ("False", Data::Bool(false))] {
            if let Some(rest) = self.rest.strip_prefix(name)
                && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            {
                self.rest = rest;
                return Some(data);
            }
        }
        let mut text = self.string()?;
        loop {
            self.skip();
            match self.string_begins() {
                true => text.push_str(&self.string()?),
                false => return Some(Data::Text(text)),
            }
        }
    }

    fn string_begins(&self) -> bool {
        let rest = self.rest.trim_start_matches(['r', 'R', 'b', 'B', 'u', 'U']);
        self.rest.len() - rest.len() <= 2 && rest.starts_with(['\'', '"'])
    }

    fn string(&mut self) -> Option<String> {
        if !self.string_begins() {
            return None;
        }
        let start = self.rest.find(['\'', '"'])?;
        let raw = self.rest[..start].contains(['r', 'R']);
        let rest = &self.rest[start..];
        let quote = &rest[..1];
        let triple = quote.repeat(3);
        let close = if rest.starts_with(&triple) { triple.as_str() } else { quote };
        let mut rest = &rest[close.len()..];
        let mut text = String::new();
        loop {
            if let Some(after) = rest.strip_prefix(close) {
                self.rest = after;
                return Some(text);
            }
            let character = rest.chars().next()?;
            rest = &rest[character.len_utf8()..];
            if character != '\\' {
                text.push(character);
            } else if raw {
                text.push('\\');
                let next = rest.chars().next()?;
                text.push(next);
                rest = &rest[next.len_utf8()..];
            } else {
                rest = escape(rest, &mut text)?;
            }
        }
    }
}

/// Reads what follows a backslash; returns the rest.
fn escape<'a>(rest: &'a str, text: &mut String) -> Option<&'a str> {
    let kind = rest.chars().next()?;
    let after = &rest[kind.len_utf8()..];
    let simple = match kind {
        '\\' | '\'' | '"' => Some(kind),
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        _ => None,
    };
    if let Some(simple) = simple {
        text.push(simple);
        return Some(after);
    }
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        '0'..='7' => {
            let length = rest.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
            text.push(char::from_u32(u32::from_str_radix(&rest[..length], 8).ok()?)?);
            return Some(&rest[length..]);
        }
        // A name of Unicode's: nobody writes one in an inventory.
        'N' => return None,
        other => {
            text.extend(['\\', other]);
            return Some(after);
        }
    };
    text.push(char::from_u32(u32::from_str_radix(after.get(..digits)?, 16).ok()?)?);
    Some(&after[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> serde_json::Value {
        value(text, &Place::CommandLine).to_json()
    }

    #[test]
    fn what_python_reads_as_a_literal_is_one_and_the_rest_is_text() {
        use serde_json::json as wanted;
        for (text, value) in [
            ("1", wanted!(1)),
            ("01", wanted!("01")),
            ("00", wanted!(0)),
            ("0x10", wanted!(16)),
            ("1_0", wanted!(10)),
            ("1__0", wanted!("1__0")),
            ("-1", wanted!(-1)),
            ("--1", wanted!("--1")),
            ("1.50", wanted!(1.5)),
            ("1e3", wanted!(1000.0)),
            (".5", wanted!(0.5)),
            (".", wanted!(".")),
            ("...", wanted!("...")),
            ("198.51.100.11", wanted!("198.51.100.11")),
            ("1+2", wanted!("1+2")),
            ("True", wanted!(true)),
            ("Truest", wanted!("Truest")),
            ("true", wanted!("true")),
            ("None", wanted!(null)),
            ("'5'", wanted!("5")),
            ("'a' 'b'", wanted!("ab")),
            ("u'x'", wanted!("x")),
            (r"'\x41\n\q'", wanted!("A\n\\q")),
            (r"r'\n'", wanted!("\\n")),
            ("'x' y", wanted!("'x' y")),
            ("[1, 'a', [True]]", wanted!([1, "a", [true]])),
            ("[1,2,", wanted!("[1,2,")),
            ("[1,,2]", wanted!("[1,,2]")),
            ("[a]", wanted!("[a]")),
            ("(1)", wanted!(1)),
            ("(1,)", wanted!([1])),
            ("()", wanted!([])),
            ("1,2", wanted!([1, 2])),
            ("1,", wanted!([1])),
            ("{'a': 1, 2: None}", wanted!({"a": 1, "2": null})),
            ("{}", wanted!({})),
            ("{'a': null}", wanted!("{'a': null}")),
            ("1 # one", wanted!(1)),
            ("foo # bar", wanted!("foo # bar")),
            ("", wanted!("")),
            ("99999999999999999999", wanted!("99999999999999999999")),
        ] {
            assert_eq!(json(text), value, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(json(&deep), wanted!(deep));
    }
}
