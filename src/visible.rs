//! Text from hosts and APIs on a terminal: a compromised host could send control sequences.

/// The text with every control character but line breaks and tabs written out, as `\x1b`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            shown.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The same for a text that this program has coloured: colours stay, wherever they come from.
pub fn visible_but_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(at);
        shown.push_str(&visible(before));
        let end = sequence[2..].find(|it: char| !it.is_ascii_digit() && it != ';').map(|end| end + 2);
        match end.filter(|end| sequence[*end..].starts_with('m')) {
            Some(end) => {
                shown.push_str(&sequence[..=end]);
                rest = &sequence[end + 1..];
            }
            None => {
                shown.push_str(&visible(&sequence[..2]));
                rest = &sequence[2..];
            }
        }
    }
    shown + &visible(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{visible, visible_but_colours};

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let said = "\x1b]0;owned\x07\x1b[2J\u{9b}31mé\r\n\tok\x7f";
        assert_eq!(visible(said), "\\x1b]0;owned\\x07\\x1b[2J\\x9b31mé\\x0d\n\tok\\x7f");
    }

    #[test]
    fn colours_stay() {
        let coloured = "\x1b[1mpg1\x1b[0m \x1b[38;5;9mé\x1b[0m";
        assert_eq!(visible_but_colours(coloured), coloured);
        for (said, shown) in
            [("\x1b[2J", "\\x1b[2J"), ("\x1b[1", "\\x1b[1"), ("\x1b[", "\\x1b["), ("\x1b]0;m", "\\x1b]0;m")]
        {
            assert_eq!(visible_but_colours(said), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_but_colours_gets_through(text in "(\\PC|\\pC|\x1b\\[[0-9;]{0,3}[mJK]){0,20}") {
            let shown = visible_but_colours(&text);
            let mut plain = String::new();
            for (index, part) in shown.split("\x1b[").enumerate() {
                let part = if index == 0 { part } else {
                    let end = part.find('m').expect("a colour ends");
                    prop_assert!(part[..end].chars().all(|it| it.is_ascii_digit() || it == ';'), "{shown:?}");
                    &part[end + 1..]
                };
                plain.push_str(part);
            }
            prop_assert!(!plain.chars().any(|it| it.is_control() && it != '\n' && it != '\t'), "{shown:?}");
        }

        #[test]
        fn no_text_keeps_a_control_character_and_none_loses_anything_else(text in "(\\PC|\\pC){0,40}") {
            let shown = visible(&text);
            prop_assert!(!shown.chars().any(|it| it.is_control() && it != '\n' && it != '\t'), "{shown:?}");
            let plain: String = text.chars().filter(|it| !it.is_control()).collect();
            if plain.len() == text.len() {
                prop_assert_eq!(&shown, &text);
            }
            // Nothing is taken away: what is left without what was written out is what was there without it.
            let kept: Vec<char> = shown.chars().collect();
            let mut rest = kept.iter();
            prop_assert!(plain.chars().all(|it| rest.any(|kept| *kept == it)));
        }
    }
}
