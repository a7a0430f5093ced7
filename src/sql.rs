//! Names and texts as SQL takes them, whatever they are.

/// A name: `"user"`, which without quotes is a word of SQL's.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Makes a role that may log in, or gives it these rights and this password, which is a verifier. The statement, which
/// has the verifier in it, is kept out of the server's log.
pub fn role(verb: &str, name: &str, superuser: bool, replication: bool, verifier: &str) -> String {
    let right = |on: bool, name: &str| if on { name.to_owned() } else { format!("no{name}") };
    format!(
        "set log_statement = 'none'; set log_min_error_statement = 'panic'; set log_min_duration_statement = -1;\n\
         {verb} role {} login {} {} password {};\n",
        identifier(name),
        right(superuser, "superuser"),
        right(replication, "replication"),
        literal(verifier),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_and_quotes_are_names_like_any_other() {
        assert_eq!(identifier("user"), "\"user\"");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), " E'a\\\\b'");
        assert!(
            role("create", "order", false, false, "v")
                .contains("create role \"order\" login nosuperuser noreplication password 'v';")
        );
    }
}
