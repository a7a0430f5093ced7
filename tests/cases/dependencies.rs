//! What `make deny` says of Cargo.lock and needs no other program for: sources and banned crates.

use std::fs;

/// The values of `key = "value"` in a text.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let begin = format!("{key} = \"");
    text.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_crate_is_from_the_registry_and_none_is_banned() {
    let lock = fs::read_to_string("Cargo.lock").unwrap();
    let rules = fs::read_to_string("deny.toml").unwrap();
    let sources = values(&lock, "source");
    assert!(sources.len() > 200, "{} sources", sources.len());
    for source in sources {
        let registry = source.strip_prefix("registry+").unwrap_or_else(|| panic!("{source}"));
        assert!(rules.contains(&format!("\"{registry}\"")), "{registry}");
    }
    let banned = values(&rules, "crate");
    assert!(banned.len() > 3, "{banned:?}");
    for name in values(&lock, "\nname") {
        assert!(!banned.contains(&name), "{name} is banned by deny.toml");
    }
}
