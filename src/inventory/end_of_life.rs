//! When PostgreSQL's versions and the systems below them get no more fixes. repmgr has no such dates: what it is built for says
//! which versions can be had (decision 16).

use jiff::ToSpan as _;
use jiff::civil::{Date, date};

/// Each major version, and the day of its last release (<https://www.postgresql.org/support/versioning/>).
const LAST_RELEASES: &[(u32, Date)] = &[
    (12, date(2024, 11, 21)),
    (13, date(2025, 11, 13)),
    (14, date(2026, 11, 12)),
    (15, date(2027, 11, 11)),
    (16, date(2028, 11, 9)),
    (17, date(2029, 11, 8)),
    (18, date(2030, 11, 14)),
];

/// Each system, and the last day on which everybody gets its security fixes: at Debian that is the end of its long-term
/// support (Debian's package distro-info-data, 2026).
const SYSTEMS: &[(&str, &str, Date)] = &[
    ("debian", "10", date(2024, 6, 30)),
    ("debian", "11", date(2026, 8, 31)),
    ("debian", "12", date(2028, 6, 30)),
    ("debian", "13", date(2030, 6, 30)),
    ("ubuntu", "20.04", date(2025, 5, 29)),
    ("ubuntu", "22.04", date(2027, 6, 1)),
    ("ubuntu", "24.04", date(2029, 5, 31)),
    ("ubuntu", "25.04", date(2026, 1, 15)),
    ("ubuntu", "25.10", date(2026, 7, 9)),
    ("ubuntu", "26.04", date(2031, 5, 29)),
];

/// How long before its end a version is warned of.
const NOTICE_DAYS: i64 = 180;

/// A warning of a version that gets no more fixes on this day, or soon will not.
pub(super) fn warning(version: u32, today: Date) -> Option<String> {
    let (_, end) = LAST_RELEASES.iter().find(|(known, _)| *known == version)?;
    let what = ends(&format!("PostgreSQL {version}"), "fixes", *end, today)?;
    Some(format!(
        "{what}: use a later version for a new cluster, and move the data of an existing one there with pg_dumpall"
    ))
}

/// A warning of a system, by the names of `/etc/os-release`, that gets no more security fixes on this day, or soon will not.
pub fn system_warning(id: &str, version: &str, today: Date) -> Option<String> {
    let (.., end) = SYSTEMS.iter().find(|(known, number, _)| *known == id && *number == version)?;
    let name = if id == "debian" { "Debian" } else { "Ubuntu" };
    ends(&format!("{name} {version}"), "security fixes", *end, today)
}

/// The system of an image of DigitalOcean's, by the names of `/etc/os-release`.
pub fn system_of_image(slug: &str) -> Option<(&str, String)> {
    let mut words = slug.split('-');
    let id = words.next().filter(|id| ["debian", "ubuntu"].contains(id))?;
    let number = words.next()?;
    let version = match id {
        "ubuntu" => format!("{number}.{}", words.next()?),
        _ => number.to_owned(),
    };
    Some((id, version))
}

fn ends(what: &str, fixes: &str, end: Date, today: Date) -> Option<String> {
    if today > end {
        Some(format!("{what} has had no {fixes} since {end}, the end of its life"))
    } else if today >= end.checked_sub(NOTICE_DAYS.days()).ok()? {
        Some(format!("{what} gets no more {fixes} after {end}, the end of its life"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::VERSIONS;

    #[test]
    fn every_version_has_an_end_and_each_lives_longer_than_the_one_before() {
        assert!(LAST_RELEASES.iter().map(|(version, _)| *version).eq(VERSIONS));
        assert!(LAST_RELEASES.is_sorted_by_key(|(_, end)| end));
    }

    #[test]
    fn a_version_is_warned_of_from_half_a_year_before_its_end() {
        let warned = |day| warning(14, day).map(|text| text.split(',').next().unwrap().to_owned());
        assert_eq!(warned(date(2026, 5, 15)), None);
        let soon = "PostgreSQL 14 gets no more fixes after 2026-11-12";
        assert_eq!(warned(date(2026, 5, 16)).as_deref(), Some(soon));
        assert_eq!(warned(date(2026, 11, 12)).as_deref(), Some(soon));
        let past = "PostgreSQL 14 has had no fixes since 2026-11-12";
        assert_eq!(warned(date(2026, 11, 13)).as_deref(), Some(past));
        assert_eq!(warning(99, date(2026, 11, 13)), None);
    }

    #[test]
    fn a_system_is_known_by_its_image_and_warned_of() {
        let of = |slug| system_of_image(slug).map(|(id, version)| format!("{id} {version}"));
        assert_eq!(of("debian-11-x64").as_deref(), Some("debian 11"));
        assert_eq!(of("debian-12-x64-postgresql-15").as_deref(), Some("debian 12"));
        assert_eq!(of("ubuntu-22-04-x64").as_deref(), Some("ubuntu 22.04"));
        for none in ["debian-sid-x64", "rockylinux-9-x64", "ubuntu-22", "", "123456"] {
            let warned = system_of_image(none)
                .and_then(|(id, version)| system_warning(id, &version, date(2099, 1, 1)));
            assert_eq!(warned, None, "{none}");
        }
        let warned = |day| system_warning("debian", "11", day);
        assert_eq!(warned(date(2026, 3, 3)), None);
        let soon = "Debian 11 gets no more security fixes after 2026-08-31, the end of its life";
        assert_eq!(warned(date(2026, 8, 31)).as_deref(), Some(soon));
        let past = "Debian 11 has had no security fixes since 2026-08-31, the end of its life";
        assert_eq!(warned(date(2026, 9, 1)).as_deref(), Some(past));
        assert_eq!(system_warning("ubuntu", "24.04", date(2026, 11, 27)), None);
    }
}
