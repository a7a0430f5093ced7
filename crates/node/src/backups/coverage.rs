//! What can be restored: from the files that are in the archive, and never from what somebody says of them. pgBackRest
//! names the first and the last WAL file; a file that is missing between them makes everything behind it unreachable.
//! Pure.

use std::collections::BTreeMap;

use cluster_contract::backup::{Backup, Gap, Interval};
use cluster_contract::position::Lsn;
use serde::Deserialize;

/// A WAL file: its timeline and its number on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    pub timeline: u32,
    pub number: u64,
}

impl Segment {
    /// From the first 24 characters of a name.
    pub fn parse(name: &str, size: u64) -> Option<Segment> {
        let part = |range: std::ops::Range<usize>| u32::from_str_radix(name.get(range)?, 16).ok();
        let per_id = (1_u64 << 32) / size;
        let (id, rest) = (u64::from(part(8..16)?), u64::from(part(16..24)?));
        (rest < per_id).then_some(Segment { timeline: part(0..8)?, number: id * per_id + rest })
    }

    /// Its file name.
    pub fn name(self, size: u64) -> String {
        let per_id = (1_u64 << 32) / size;
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / per_id, self.number % per_id)
    }
}

/// The WAL files in the archive, with the time at which each came, in seconds since 1970.
pub type Archived = BTreeMap<Segment, i64>;

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    time: Option<i64>,
}

/// Reads `repo-ls --recurse --output=json` of a stanza's archive. Files that are no whole WAL file are left out: a
/// `.partial` one cannot be relied on.
///
/// # Errors
/// When it is not JSON.
pub fn archived(json: &str, version: u32, size: u64) -> serde_json::Result<Archived> {
    let listed: BTreeMap<String, Listed> = serde_json::from_str(json)?;
    // A directory for each major version that the cluster has had, and each database: `15-1`.
    let of_version = format!("{version}-");
    let segment = |(path, listed): (&String, &Listed)| {
        let name = path.starts_with(&of_version).then(|| path.rsplit('/').next())??;
        // What follows is the hash of its content.
        let whole = listed.kind == "file" && name.get(24..25) == Some("-");
        Some((Segment::parse(name, size).filter(|_| whole)?, listed.time.unwrap_or_default()))
    };
    Ok(listed.iter().filter_map(segment).collect())
}

/// The histories in the archive: each timeline's, and where its file lies. From the same listing.
///
/// # Errors
/// When it is not JSON.
pub fn histories(json: &str, version: u32) -> serde_json::Result<BTreeMap<u32, String>> {
    let listed: BTreeMap<String, Listed> = serde_json::from_str(json)?;
    let of_version = format!("{version}-");
    let history = |path: &String| {
        let name = path.starts_with(&of_version).then(|| path.rsplit('/').next())??;
        let timeline = name.strip_suffix(".history").filter(|timeline| timeline.len() == 8)?;
        Some((u32::from_str_radix(timeline, 16).ok()?, path.clone()))
    };
    Ok(listed.keys().filter_map(history).collect())
}

/// The timeline that a restore without a target ends on: PostgreSQL asks for the history of the one after the backup's,
/// and of the next, until there is none (`findNewestTimeLine`).
pub fn newest(histories: &BTreeMap<u32, String>, from: u32) -> u32 {
    (from..)
        .take_while(|timeline| *timeline == from || histories.contains_key(timeline))
        .last()
        .unwrap_or(from)
}

/// The size of the WAL files in bytes: the one with which every file's name fits to a position in it.
pub fn segment_size(starts: &[(String, Lsn)]) -> Option<u64> {
    let fits = |size: &u64| {
        let is_in = |(file, at): &(String, Lsn)| {
            Segment::parse(file, *size).is_some_and(|segment| segment.number == at.0 / size)
        };
        starts.iter().all(is_in)
    };
    // The first file of 4 GiB has the same name at every size: the usual one is tried first.
    let sizes = [24].into_iter().chain(20..=30).map(|power| 1_u64 << power);
    sizes.filter(|_| !starts.is_empty()).find(fits)
}

/// The way from the first timeline to the present one: each timeline with the position at which it begins.
pub fn way(history: &str, timeline: u32) -> Option<Vec<(u32, Lsn)>> {
    let mut way = Vec::new();
    let mut begins = Lsn(0);
    for line in history.lines() {
        let mut fields = line.split_whitespace();
        let Some(of) = fields.next().filter(|of| !of.starts_with('#')) else { continue };
        way.push((of.parse().ok()?, begins));
        begins = fields.next()?.parse().ok()?;
    }
    way.push((timeline, begins));
    Some(way)
}

/// What can be restored, and what is missing in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The oldest first.
    pub intervals: Vec<Interval>,
    /// Between and behind them.
    pub gaps: Vec<Gap>,
    /// The files of all gaps that lie behind the first backup.
    pub missing: Vec<Segment>,
}

/// Follows the WAL from each backup as far as there is any.
///
/// `end` is the position up to which WAL should be in the archive: where the last finished file ends.
pub fn coverage(
    way: &[(u32, Lsn)],
    archived: &Archived,
    backups: &[Backup],
    end: Lsn,
    size: u64,
) -> Coverage {
    // In the file in which a timeline begins, the end of the one before it is, too.
    let timeline_of = |number: u64| {
        let begun = way.iter().rev().find(|(_, begins)| begins.0 / size <= number);
        begun.map_or(1, |(timeline, _)| *timeline)
    };
    let time_of = |number: u64| archived.get(&Segment { timeline: timeline_of(number), number }).copied();
    // A backup of a timeline that was given up leads nowhere on this way.
    let on_the_way = |backup: &&Backup| {
        let next = way.iter().position(|(timeline, _)| *timeline == backup.timeline).map(|at| at + 1);
        next.is_some_and(|next| way.get(next).is_none_or(|(_, ends)| backup.stop_lsn <= *ends))
    };
    let mut found = Coverage::default();
    let mut backups: Vec<&Backup> = backups.iter().filter(on_the_way).filter(|it| !it.damaged).collect();
    // A position on a border is the end of the file before it.
    let last_of = |backup: &Backup| backup.stop_lsn.0.saturating_sub(1) / size;
    // The WAL that was written during a backup is part of it.
    backups.retain(|it| (it.start_lsn.0 / size..=last_of(it)).all(|number| time_of(number).is_some()));
    backups.sort_by_key(|backup| backup.stop_lsn);
    let ends_at = end.0 / size;
    for (index, backup) in backups.iter().enumerate() {
        if found.intervals.last().is_some_and(|last| backup.stop_lsn <= last.until_lsn) {
            continue;
        }
        let mut number = last_of(backup) + 1;
        let mut until = backup.ended;
        while let Some(time) = time_of(number) {
            (until, number) = (until.max(time), number + 1);
        }
        let until_lsn = Lsn((number * size).max(backup.stop_lsn.0));
        found.intervals.push(Interval {
            from: backup.ended,
            from_lsn: backup.stop_lsn,
            until,
            until_lsn,
            timeline: timeline_of(number.saturating_sub(1)),
        });
        // Up to where the next backup makes a fresh start, or up to the present.
        let next = backups[index + 1..].iter().map(|it| it.start_lsn.0 / size).find(|start| *start > number);
        let behind = next.unwrap_or(ends_at);
        let missing: Vec<Segment> = (number..behind)
            .filter(|number| time_of(*number).is_none())
            .map(|number| Segment { timeline: timeline_of(number), number })
            .collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            found.gaps.push(Gap {
                from: first.name(size),
                to: last.name(size),
                files: missing.len() as u64,
                closed_by_backup: next.is_some(),
            });
        }
        found.missing.extend(missing);
    }
    found
}

#[cfg(test)]
mod tests {
    use cluster_contract::backup::BackupKind;
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 16 << 20;

    fn at(number: u64) -> Lsn {
        Lsn(number * SIZE + 0x100)
    }

    fn backup(timeline: u32, start: u64, stop: u64) -> Backup {
        Backup {
            label: String::new(),
            kind: BackupKind::Full,
            started: 0,
            ended: i64::try_from(stop).unwrap() * 10,
            start_lsn: at(start),
            stop_lsn: at(stop),
            timeline,
            size: 0,
            added: 0,
            damaged: false,
        }
    }

    fn files(timeline: u32, numbers: std::ops::Range<u64>) -> Archived {
        let time = |number: u64| i64::try_from(number).unwrap() * 10 + 5;
        numbers.map(|number| (Segment { timeline, number }, time(number))).collect()
    }

    #[test]
    fn names_are_those_of_postgresql() {
        let segment = Segment { timeline: 2, number: 0x1_05 };
        assert_eq!(segment.name(SIZE), "000000020000000100000005");
        assert_eq!(Segment::parse("000000020000000100000005", SIZE), Some(segment));
        assert_eq!(Segment::parse("000000020000000100000105", SIZE), None);
        assert_eq!(Segment::parse("00000002.history", SIZE), None);
    }

    #[test]
    fn a_listing_is_read() {
        let json = r#"{".":{"type":"path"},
            "15-1/0000000100000000/000000010000000000000003-0a1b.zst":{"type":"file","size":720,"time":1764190000},
            "14-1/0000000100000000/000000010000000000000009-0a1b.zst":{"type":"file","size":720,"time":9},
            "15-1/0000000100000000/000000010000000000000004.partial-0a1b.zst":{"type":"file","size":720,"time":9},
            "15-1/0000000100000000/000000010000000000000003.00000028.backup":{"type":"file","size":7,"time":9},
            "00000002.history":{"type":"file","size":50,"time":9}}"#;
        assert_eq!(
            archived(json, 15, SIZE).unwrap(),
            [(Segment { timeline: 1, number: 3 }, 1_764_190_000)].into()
        );
        assert!(archived("ERROR", 15, SIZE).is_err());
    }

    #[test]
    fn the_newest_timeline_is_the_last_that_postgresql_would_find() {
        let json = r#"{"15-1/00000002.history":{"type":"file"},"15-1/00000003.history":{"type":"file"},
            "15-1/00000005.history":{"type":"file"},"14-1/00000004.history":{"type":"file"},
            "15-1/0000000100000000/000000010000000000000003-0a1b.zst":{"type":"file"}}"#;
        let found = histories(json, 15).unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(found[&2], "15-1/00000002.history");
        assert_eq!([1, 2, 3, 4, 9].map(|from| newest(&found, from)), [3, 3, 3, 5, 9]);
        assert!(histories("ERROR", 15).is_err());
    }

    proptest! {
        #[test]
        fn the_size_of_the_files_is_told_by_one_of_them(power in 20_u32..=30, number in 1_u64..1_000_000, within in 0_u64..1 << 20) {
            let size = 1_u64 << power;
            prop_assume!(number % ((1 << 32) / size) > 0);
            let start = (Segment { timeline: 1, number }.name(size), Lsn(number * size + within));
            prop_assert_eq!(segment_size(&[start]), Some(size));
        }
    }

    #[test]
    fn without_a_backup_the_size_of_the_files_is_not_known() {
        assert_eq!(segment_size(&[]), None);
    }

    #[test]
    fn everything_from_a_backup_to_the_last_file_can_be_restored() {
        let way = way("", 1).unwrap();
        let found = coverage(&way, &files(1, 2..9), &[backup(1, 3, 4)], at(9), SIZE);
        assert_eq!(found.intervals.len(), 1);
        assert_eq!((found.intervals[0].from, found.intervals[0].until), (40, 85));
        assert_eq!(found.intervals[0].until_lsn, Lsn(9 * SIZE));
        assert_eq!((found.gaps, found.missing), (vec![], vec![]));
    }

    #[test]
    fn a_failover_is_followed_into_the_new_timeline() {
        let way = way("1\t0/6000100\tno recovery target specified\n", 2).unwrap();
        assert_eq!(way, [(1, Lsn(0)), (2, at(6))]);
        // File 6 of timeline 1 was never finished; what was in it is in file 6 of timeline 2.
        let mut archive = files(1, 2..6);
        archive.extend(files(2, 6..9));
        let found = coverage(&way, &archive, &[backup(1, 3, 4)], at(9), SIZE);
        assert_eq!((found.intervals[0].until_lsn, found.intervals[0].timeline), (Lsn(9 * SIZE), 2));
        assert_eq!(found.gaps, []);
    }

    #[test]
    fn what_the_old_primary_had_not_archived_is_a_gap_until_the_next_backup() {
        let way = way("1\t0/6000100\tx\n", 2).unwrap();
        let mut archive = files(1, 2..5);
        archive.extend(files(2, 6..12));
        let old = backup(1, 3, 3);
        let found = coverage(&way, &archive, std::slice::from_ref(&old), at(12), SIZE);
        assert_eq!(found.intervals[0].until_lsn, Lsn(5 * SIZE));
        assert_eq!(found.missing, [Segment { timeline: 1, number: 5 }]);
        assert!(!found.gaps[0].closed_by_backup);
        let found = coverage(&way, &archive, &[old, backup(2, 8, 9)], at(12), SIZE);
        assert_eq!(found.intervals.len(), 2);
        assert_eq!(found.intervals[1].until_lsn, Lsn(12 * SIZE));
        assert!(found.gaps[0].closed_by_backup);
        assert_eq!(found.gaps[0].from, "000000010000000000000005");
    }

    #[test]
    fn a_backup_of_a_timeline_that_was_given_up_promises_nothing() {
        let way = way("1\t0/6000100\tx\n", 2).unwrap();
        let mut archive = files(1, 2..10);
        archive.extend(files(2, 6..9));
        // It ended on timeline 1 behind the place where 2 left it.
        assert_eq!(coverage(&way, &archive, &[backup(1, 7, 8)], at(9), SIZE).intervals, []);
        assert_eq!(coverage(&way, &archive, &[backup(3, 7, 8)], at(9), SIZE).intervals, []);
    }

    proptest! {
        /// Whatever is missing: every file between a backup's end and the end of its interval is there, and the one
        /// behind it is not.
        #[test]
        fn an_interval_has_all_of_its_files_and_ends_where_one_is_missing(
            lost in prop::collection::btree_set(0_u64..40, 0..10),
            switch in 5_u64..35,
            ends in prop::collection::vec((0_u64..38, 0_u64..3), 1..4),
        ) {
            let way = vec![(1, Lsn(0)), (2, at(switch))];
            let mut archive = files(1, 0..switch);
            archive.extend(files(2, switch..40));
            archive.retain(|segment, _| !lost.contains(&segment.number));
            let backups: Vec<Backup> = ends
                .iter()
                .map(|(start, length)| {
                    let stop = start + length;
                    backup(if stop < switch { 1 } else { 2 }, *start, stop)
                })
                .collect();
            let found = coverage(&way, &archive, &backups, at(40), SIZE);
            for backup in &backups {
                let own = backup.start_lsn.0 / SIZE..=backup.stop_lsn.0 / SIZE;
                let whole = own.clone().all(|number| !lost.contains(&number));
                let within = |it: &Interval| it.from_lsn <= backup.stop_lsn && backup.stop_lsn <= it.until_lsn;
                prop_assert!(!whole || found.intervals.iter().any(within), "{own:?}");
            }
            for interval in &found.intervals {
                let first = interval.from_lsn.0 / SIZE + 1;
                let behind = interval.until_lsn.0 / SIZE;
                for number in first..behind {
                    prop_assert!(!lost.contains(&number), "{number} is lost");
                }
                prop_assert!(behind >= 40 || behind < first || lost.contains(&behind));
            }
            for pair in found.intervals.windows(2) {
                prop_assert!(pair[0].until_lsn < pair[1].from_lsn);
            }
        }
    }
}
