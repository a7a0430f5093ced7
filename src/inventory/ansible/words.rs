//! Words of a line, as a POSIX shell splits it.

/// Why a line cannot be split.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclosed;

/// Splits a line that may end with a comment. As in Ansible, `#` begins one even within a word.
pub(super) fn with_comment(line: &str) -> Result<Vec<String>, Unclosed> {
    split(line, true)
}

/// Splits text in which `#` has no meaning.
pub(super) fn plain(text: &str) -> Result<Vec<String>, Unclosed> {
    split(text, false)
}

fn split(line: &str, comments: bool) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if comments => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(Unclosed)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(Unclosed)? {
                        '"' => break,
                        '\\' => match characters.next().ok_or(Unclosed)? {
                            escaped @ ('"' | '\\') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(characters.next().ok_or(Unclosed)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Splits the value of `-e` where it has blanks outside of quotes and of Jinja expressions. Quotes are kept.
pub(super) fn assignments(text: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut depth = 0_usize;
    let mut escaped = false;
    let mut before = ' ';
    for character in text.chars() {
        let was_escaped = std::mem::take(&mut escaped);
        match (quote, character) {
            _ if was_escaped => {}
            (_, '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '{') if before == '{' => depth += 1,
            (None, '}') if before == '}' => depth = depth.saturating_sub(1),
            (None, ' ' | '\t' | '\n') if depth == 0 => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                before = character;
                continue;
            }
            (None, _) => {}
        }
        word.push(character);
        before = character;
    }
    if quote.is_some() || depth > 0 {
        return Err(Unclosed);
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Decodes what stands behind backslashes, as Ansible does with `key=value` of the command line: `pg\x31` is `pg1`. None if
/// that names no character.
pub(super) fn unescaped(word: &str) -> Option<String> {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let kind = after.chars().next();
        let behind = &after[kind.map_or(0, char::len_utf8)..];
        let digits = match kind {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = behind.get(..digits).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let simple = match kind {
            Some(kind @ ('\\' | '\'' | '"')) => Some(kind),
            Some('a') => Some('\u{7}'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('v') => Some('\u{b}'),
            // A name of Unicode's: nobody writes one here.
            Some('N') if behind.starts_with('{') => return None,
            _ => None,
        };
        rest = match (simple, code) {
            (Some(simple), _) => {
                text.push(simple);
                behind
            }
            (None, Some(code)) if digits > 0 => {
                text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                &behind[digits..]
            }
            // Anything else stays as it is.
            _ => {
                text.push('\\');
                after
            }
        };
    }
    text.push_str(rest);
    Some(text)
}

/// Without the quotes around it.
pub(super) fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| {
            let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
            (!inner.ends_with('\\')).then_some(inner)
        })
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does_it() {
        for (line, words) in [
            ("pg1 a=1  b='x y' c=\"x \\\" y\"", &["pg1", "a=1", "b=x y", "c=x \" y"][..]),
            ("pg1 a=b#c d=1", &["pg1", "a=b"]),
            ("pg1 a='#' # b", &["pg1", "a=#"]),
            (r"a\ b ''", &["a b", ""]),
            (r#"a="\x""#, &["a=\\x"]),
        ] {
            assert_eq!(with_comment(line).unwrap(), words, "{line}");
        }
        for line in ["a='b", "a=\"b", "a\\"] {
            assert_eq!(with_comment(line), Err(Unclosed), "{line}");
        }
    }

    #[test]
    fn an_option_can_have_several_assignments() {
        assert_eq!(assignments("a=1 b='2 3' c={{ d }}").unwrap(), ["a=1", "b='2 3'", "c={{ d }}"]);
        assert_eq!(assignments("a='1"), Err(Unclosed));
        assert_eq!(unquoted("'2 3'"), "2 3");
        assert_eq!(unquoted("'"), "'");
    }

    #[test]
    fn backslashes_are_decoded_as_ansible_does_it() {
        for (word, text) in [
            (r"k=pg\x31", "k=pg1"),
            (r"k=\u00e9\U0001f600", "k=\u{e9}\u{1f600}"),
            (r#"k=a\nb\tc\\d\'\""#, "k=a\nb\tc\\d'\""),
            (r"k=\d\x3\u12\0", r"k=\d\x3\u12\0"),
            (r"k=\\x31", r"k=\x31"),
            ("k=\\", "k=\\"),
            ("k=\\é", "k=\\é"),
        ] {
            assert_eq!(unescaped(word).as_deref(), Some(text), "{word}");
        }
        for word in [r"k=\N{DASH}", r"k=\ud83d", r"k=\Uffffffff"] {
            assert_eq!(unescaped(word), None, "{word}");
        }
    }
}
