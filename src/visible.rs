//! Words of others on a terminal: a host that was taken over, or an API, may say what a terminal would obey.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::visible;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let said = "\x1b]0;owned\x07\x1b[2J\u{9b}31mé\r\n\tok\x7f";
        assert_eq!(visible(said), "\\x1b]0;owned\\x07\\x1b[2J\\x9b31mé\\x0d\n\tok\\x7f");
    }

    proptest! {
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
