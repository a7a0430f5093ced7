//! When a backup is due. Pure.

use cluster_contract::backup::{BackupConfig, BackupKind, Contents};

/// A backup that has failed is tried again after a minute, then two, then four, up to half an hour.
const RETRY_FIRST_S: u64 = 60;
const RETRY_MOST_S: u64 = 1_800;

/// The failures since the last backup that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    /// When the last one was.
    pub last: i64,
}

impl Failures {
    /// Whether it is too early for another try.
    fn waits(self, now: i64) -> bool {
        let pause =
            RETRY_FIRST_S.saturating_mul(1 << (self.count.saturating_sub(1)).min(10)).min(RETRY_MOST_S);
        self.count > 0 && age(now, self.last) < pause
    }
}

/// The kind of backup that is due, and why, for people. `timeline` is the one that this node writes.
pub fn due(
    config: &BackupConfig,
    contents: &Contents,
    timeline: u32,
    failures: Failures,
    now: i64,
) -> Option<(BackupKind, String)> {
    if failures.waits(now) {
        return None;
    }
    // One with damaged pages is no ground to build on.
    let sound = || contents.backups.iter().filter(|backup| !backup.damaged);
    let Some(last) = sound().max_by_key(|backup| backup.ended) else {
        return Some((BackupKind::Full, "there is none yet".to_owned()));
    };
    let full = sound().filter(|backup| backup.kind == BackupKind::Full).map(|backup| backup.ended).max();
    if full.is_none_or(|ended| age(now, ended) >= config.full_every_s) {
        return Some((BackupKind::Full, "the last full backup is due for renewal".to_owned()));
    }
    if last.timeline != timeline {
        // WAL that the old primary had not archived may be missing: until then nothing later can be promised.
        return Some((BackupKind::Differential, format!("timeline {timeline} has begun since the last one")));
    }
    if let Some(gap) = contents.gaps.iter().find(|gap| !gap.closed_by_backup) {
        return Some((
            BackupKind::Differential,
            format!("{} WAL files from {} on are not in the archive", gap.files, gap.from),
        ));
    }
    if age(now, last.ended) >= config.differential_every_s {
        return Some((BackupKind::Differential, "the last backup is due for renewal".to_owned()));
    }
    None
}

/// Seconds; 0 for what a clock that was put back has in its future.
fn age(now: i64, then: i64) -> u64 {
    u64::try_from(now.saturating_sub(then)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use cluster_contract::backup::{Backup, Gap};
    use cluster_contract::position::Lsn;

    use super::*;

    const DAY: i64 = 86_400;

    fn config() -> BackupConfig {
        BackupConfig {
            stanza: "demo".into(),
            full_every_s: 7 * 86_400,
            differential_every_s: 86_400,
            archive_within_s: 60,
            prove_every_s: Some(7 * 86_400),
        }
    }

    fn backup(kind: BackupKind, ended: i64, timeline: u32) -> Backup {
        Backup {
            label: String::new(),
            kind,
            started: ended - 60,
            ended,
            start_lsn: Lsn(1),
            stop_lsn: Lsn(2),
            timeline,
            size: 0,
            added: 0,
            damaged: false,
        }
    }

    fn kind(backups: &[Backup], timeline: u32, now: i64) -> Option<BackupKind> {
        let contents = Contents { backups: backups.to_vec(), ..Contents::default() };
        due(&config(), &contents, timeline, Failures::default(), now).map(|(kind, _)| kind)
    }

    #[test]
    fn a_full_one_first_then_one_a_day_and_a_full_one_a_week() {
        assert_eq!(kind(&[], 1, 0), Some(BackupKind::Full));
        let full = backup(BackupKind::Full, 0, 1);
        assert_eq!(kind(std::slice::from_ref(&full), 1, DAY - 1), None);
        assert_eq!(kind(std::slice::from_ref(&full), 1, DAY), Some(BackupKind::Differential));
        let both = [full.clone(), backup(BackupKind::Differential, DAY, 1)];
        assert_eq!(kind(&both, 1, 2 * DAY - 1), None);
        assert_eq!(kind(&both, 1, 7 * DAY), Some(BackupKind::Full));
        // A clock that was put back.
        assert_eq!(kind(&[full], 1, -DAY), None);
    }

    #[test]
    fn a_failover_is_followed_by_one() {
        let full = backup(BackupKind::Full, 0, 1);
        assert_eq!(kind(std::slice::from_ref(&full), 2, 10), Some(BackupKind::Differential));
        assert_eq!(kind(&[full, backup(BackupKind::Differential, 20, 2)], 2, 30), None);
    }

    #[test]
    fn a_gap_that_cannot_be_closed_is_followed_by_one() {
        let gap = |closed_by_backup| Gap { from: "A".into(), to: "B".into(), files: 2, closed_by_backup };
        let contents = |gap| Contents {
            backups: vec![backup(BackupKind::Full, 0, 1)],
            gaps: vec![gap],
            ..Contents::default()
        };
        let kind = |gap| due(&config(), &contents(gap), 1, Failures::default(), 1).map(|(kind, _)| kind);
        assert_eq!(kind(gap(false)), Some(BackupKind::Differential));
        assert_eq!(kind(gap(true)), None);
    }

    #[test]
    fn damaged_ones_do_not_count() {
        let full = Backup { damaged: true, ..backup(BackupKind::Full, 0, 1) };
        assert_eq!(kind(&[full], 1, 1), Some(BackupKind::Full));
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let next = |count| {
            let failures = Failures { count, last: 0 };
            (1..).find(|now| due(&config(), &Contents::default(), 1, failures, *now).is_some())
        };
        assert_eq!([0, 1, 2, 3, 6, 60].map(next), [1, 60, 120, 240, 1800, 1800].map(Some));
    }
}
