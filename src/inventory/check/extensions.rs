//! Extensions: known ones by name, any other with its package.

use std::collections::BTreeSet;

use super::{Checker, file, is_identifier};
use crate::extensions::{self, Place};
use crate::inventory::{Database, Extension, VERSIONS};

/// The database that is there without being declared.
const POSTGRES: &str = "postgres";

pub(super) fn check(
    c: &mut Checker,
    raw: Vec<file::Extension>,
    databases: &[Database],
    version: u32,
) -> Vec<Extension> {
    let mut seen = BTreeSet::new();
    let mut extensions = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("extensions[{index}]");
        // An item may be a name alone.
        let named = if raw.is_name { key.clone() } else { format!("{key}.name") };
        if !seen.insert(raw.name.clone()) {
            c.wrong(named, format!("`{}` is listed twice", raw.name), "keep one of the two");
            continue;
        }
        if ["plpgsql", "repmgr"].contains(&raw.name.as_str()) {
            c.wrong(named, format!("`{}` is there without being listed", raw.name), "take it out");
            continue;
        }
        let known = extensions::find(&raw.name);
        match known {
            Some(known) if VERSIONS.contains(&version) && !(known.since..=known.until).contains(&version) => {
                let when = if version < known.since {
                    format!("it was added in PostgreSQL {}", known.since)
                } else {
                    format!("it was removed after PostgreSQL {}", known.until)
                };
                c.wrong(named.as_str(), format!("PostgreSQL {version} does not have `{}`", raw.name), when);
            }
            Some(_) => {}
            None if !is_identifier(&raw.name) || raw.package.is_none() => {
                let hint = match extensions::alike(&raw.name) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "write the name that `create extension` takes; for one that is not in docs/inventory.md, \
                             add its `package`"
                        .into(),
                };
                c.wrong(named.as_str(), format!("`{}` is not a known extension", raw.name), hint);
            }
            None => {}
        }
        if let Some(package) = &raw.package
            && !is_package(package)
        {
            c.wrong(
                format!("{key}.package"),
                format!("`{package}` is not the name of a Debian package"),
                format!("for instance postgresql-{version}-{}", raw.name.replace('_', "-")),
            );
        }
        if let Some(library) = &raw.library
            && !is_identifier(library)
        {
            c.wrong(
                format!("{key}.library"),
                format!("`{library}` is not the name of a library"),
                "write it as in shared_preload_libraries, without a path and without .so",
            );
        }
        let one = known.is_some_and(|known| known.place == Place::One);
        let named = raw.databases;
        for (index, name) in named.iter().flatten().enumerate() {
            if name != POSTGRES && !databases.iter().any(|database| database.name == *name) {
                c.wrong(
                    format!("{key}.databases[{index}]"),
                    format!("no database `{name}` is declared"),
                    "add it under `databases`, or name another",
                );
            }
        }
        if one && named.as_ref().is_some_and(|named| named.len() > 1) {
            c.wrong(
                format!("{key}.databases"),
                format!("`{}` works in one database alone", raw.name),
                "keep one; from there, cron.schedule_in_database runs jobs in others",
            );
        }
        let databases = named.unwrap_or_else(|| match databases {
            declared @ [_, ..] if !one => declared.iter().map(|database| database.name.clone()).collect(),
            _ => vec![POSTGRES.to_owned()],
        });
        extensions.push(Extension {
            package: raw.package.or_else(|| known?.package(version)),
            library: raw.library.or_else(|| known?.library.map(str::to_owned)),
            name: raw.name,
            databases,
        });
    }
    if !seen.contains(extensions::BY_DEFAULT) {
        let by_default = Extension {
            name: extensions::BY_DEFAULT.into(),
            package: None,
            library: Some(extensions::BY_DEFAULT.into()),
            databases: vec![POSTGRES.to_owned()],
        };
        extensions.insert(0, by_default);
    }
    // What is in no database is not wanted.
    extensions.retain(|extension| !extension.databases.is_empty());
    extensions
}

/// As Debian's policy has it; so it cannot be taken for an option of apt's.
fn is_package(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
        // apt would take these for what is to be removed or installed.
        && !text.ends_with(['+', '-'])
}
