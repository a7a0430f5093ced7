//! The packages of a node, and the versions of them that will do.

use crate::inventory::{Inventory, Node, Role};

/// The packages of a node.
pub fn packages(inventory: &Inventory, node: &Node) -> Vec<String> {
    let version = inventory.postgresql.version;
    let backs_up = inventory.backup.is_some() && node.role != Role::Witness;
    let mut packages =
        vec![format!("postgresql-{version}"), format!("postgresql-{version}-repmgr"), "sudo".to_owned()];
    packages.extend(backs_up.then(|| "pgbackrest".to_owned()));
    // Also where nobody uses it now: every node with data may become primary.
    for package in inventory.extensions.iter().filter_map(|it| it.package.as_ref()) {
        if node.role != Role::Witness && !packages.contains(package) {
            packages.push(package.clone());
        }
    }
    packages
}

/// The oldest version of a package that will do for a version of PostgreSQL, where it matters.
fn oldest(package: &str, postgresql: u32) -> Option<&'static [u32]> {
    match package {
        // The first that knows the version, by its release notes. Since 2.39 it also bundles small files, and finds the backup
        // for a position by itself.
        "pgbackrest" => Some(match postgresql {
            ..=15 => &[2, 39],
            16 => &[2, 46],
            17 => &[2, 53, 1],
            18.. => &[2, 55],
        }),
        // Debian 11's; nothing older was ever tried.
        _ if package.ends_with("-repmgr") => Some(&[5, 2]),
        _ => None,
    }
}

/// Whether a version of a package, as Debian writes it, will do.
pub fn is_new_enough(package: &str, version: &str, postgresql: u32) -> bool {
    let Some(oldest) = oldest(package, postgresql) else { return true };
    let upstream = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let numbers: Result<Vec<u32>, _> = upstream.split('.').map(str::parse).collect();
    numbers.is_ok_and(|it| it.as_slice() >= oldest)
}

/// A package as the probe takes it: with the oldest version that will do, where one matters.
pub fn for_probe(package: &str, postgresql: u32) -> String {
    match oldest(package, postgresql) {
        Some(oldest) => format!("{package}:{}", dotted(oldest)),
        None => package.to_owned(),
    }
}

/// A package as people read it, with the oldest version that will do.
pub fn in_words(package: &str, postgresql: u32) -> String {
    match oldest(package, postgresql) {
        Some(oldest) => format!("{package} {} or later", dotted(oldest)),
        None => package.to_owned(),
    }
}

fn dotted(version: &[u32]) -> String {
    version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_tried_is_not_enough() {
        for (version, postgresql, enough) in [
            ("2.33-1", 15, false),
            ("2.38", 15, false),
            ("2.39-1.pgdg110+1", 15, true),
            ("2.45-1", 15, true),
            ("2.45-1", 16, false),
            ("2.46-1", 16, true),
            ("2.53-1", 17, false),
            ("2.53.1-1", 17, true),
            ("2.54.0-2.pgdg22.04+1", 18, false),
            ("2.55.1-1", 18, true),
            ("2.60.0-1", 18, true),
            ("3.0", 18, true),
            ("1.99", 12, false),
            ("", 15, false),
            ("unknown", 15, false),
        ] {
            assert_eq!(
                is_new_enough("pgbackrest", version, postgresql),
                enough,
                "{version} for {postgresql}"
            );
        }
        assert!(is_new_enough("postgresql-13-repmgr", "5.2.1-2+deb11u1", 13));
        assert!(!is_new_enough("postgresql-12-repmgr", "5.0.0-2", 12));
        assert!(is_new_enough("postgresql-15", "1", 15));
    }
}
