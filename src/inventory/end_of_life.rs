//! When PostgreSQL's versions get no more fixes.

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

/// How long before its end a version is warned of.
const NOTICE_DAYS: i64 = 180;

/// A warning of a version that gets no more fixes on this day, or soon will not.
pub(super) fn warning(version: u32, today: Date) -> Option<String> {
    let (_, end) = LAST_RELEASES.iter().find(|(known, _)| *known == version)?;
    let what = if today > *end {
        format!("PostgreSQL {version} has had no fixes since {end}, the end of its life")
    } else if today >= end.checked_sub(NOTICE_DAYS.days()).ok()? {
        format!("PostgreSQL {version} gets no more fixes after {end}, the end of its life")
    } else {
        return None;
    };
    Some(format!(
        "{what}: use a later version for a new cluster, and move the data of an existing one there with pg_dumpall"
    ))
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
}
