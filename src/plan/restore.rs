//! To which moment a cluster is restored, and from where.

use std::fmt;

use cluster_contract::backup::Contents;
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use secrecy::SecretString;
use serde::Serialize;

use crate::error::Advice;

/// A restore of which nothing is there yet but an inventory.
#[derive(Clone, Debug)]
pub struct Restore {
    pub target: RestoreTarget,
    /// Another cluster's repository; none for the cluster's own.
    pub source: Option<RestoreSource>,
}

/// Another cluster's repository, which is read once and never written to.
#[derive(Clone, Debug)]
pub struct RestoreSource {
    /// The other cluster.
    pub cluster: String,
    /// pgBackRest's configuration for it.
    pub config: SecretString,
    /// The CA of the repository's certificate, in PEM.
    pub ca: Option<String>,
}

impl RestoreSource {
    /// Where the configuration lies while it is needed: in memory, and not on a disk.
    pub const CONFIG: &str = "/run/cluster/restore-source.conf";
    /// Where the CA does.
    pub const CA: &str = "/run/cluster/restore-source-ca.crt";
}

/// Where a restore puts the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestorePlace {
    /// The data directory that was made for it.
    New,
    /// Beside the data directory, to take its place.
    Beside {
        /// What it takes, in bytes.
        bytes: u64,
    },
}

/// pgBackRest's configuration and stanza for a restore.
pub fn repository<'a>(cluster: &'a str, source: Option<&'a RestoreSource>) -> (&'static str, &'a str) {
    match source {
        None => (paths::PGBACKREST_CONF, cluster),
        Some(source) => (RestoreSource::CONFIG, &source.cluster),
    }
}

/// The moment to which a cluster is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreTarget {
    /// The end of the archive.
    Latest,
    /// Every transaction that had committed by then, in seconds since 1970 and after.
    Time(jiff::Timestamp),
    /// The position up to which WAL is replayed.
    Lsn(Lsn),
    /// A mark that was set in the cluster, and stands for a position.
    Mark(String),
}

/// What an operator may write.
pub const EXPECTED: &str = "`latest`, a time with its zone such as 2026-11-26T14:03:00Z, a WAL position such as 0/3000148, or the name of a mark";

/// Whether a mark can have this name: no time, no position and no other word of ours reads like it.
pub fn can_be_mark(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 63
        && name != "latest"
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

impl std::str::FromStr for RestoreTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<RestoreTarget, String> {
        if text == "latest" {
            return Ok(RestoreTarget::Latest);
        }
        if let Ok(lsn) = text.parse::<Lsn>() {
            return Ok(RestoreTarget::Lsn(lsn));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(RestoreTarget::Time(at));
        }
        if text.parse::<jiff::civil::DateTime>().is_ok() {
            // The nodes', this machine's and the application's zone may be three.
            return Err(format!(
                "has no time zone; write {text}Z if it is UTC, or for instance {text}+02:00"
            ));
        }
        if can_be_mark(text) {
            return Ok(RestoreTarget::Mark(text.to_owned()));
        }
        Err(format!("use {EXPECTED}"))
    }
}

impl RestoreTarget {
    /// As `restore-unit.sh` takes it: the kind and the target.
    pub fn words(&self) -> [String; 2] {
        match self {
            RestoreTarget::Latest => ["latest".into(), String::new()],
            // Both pgBackRest and PostgreSQL read this the same way, whatever their zones.
            RestoreTarget::Time(at) => ["time".into(), at.strftime("%F %T%.f+00").to_string()],
            RestoreTarget::Lsn(lsn) => ["lsn".into(), lsn.to_string()],
            // Refused by the host: whoever restores asks the cluster first for the position.
            RestoreTarget::Mark(name) => ["mark".into(), name.clone()],
        }
    }
}

impl fmt::Display for RestoreTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreTarget::Latest => f.write_str("the end of the archive"),
            RestoreTarget::Time(at) => write!(f, "{}", at.strftime("%F %T%.fZ")),
            RestoreTarget::Lsn(lsn) => write!(f, "{lsn}"),
            RestoreTarget::Mark(name) => write!(f, "the mark `{name}`"),
        }
    }
}

/// Why a moment cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// The last moment before it that can be.
    pub before: Option<RestoreTarget>,
    /// The first one after it.
    pub after: Option<RestoreTarget>,
}

impl OutOfReach {
    /// The refusal of that moment.
    pub fn refusal(&self, target: &RestoreTarget, hint: &str) -> Advice {
        Advice::refused(format!("{target} cannot be restored: {}", self.nearest())).hint(hint)
    }

    /// The nearest moments, in words.
    pub fn nearest(&self) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => format!("the nearest moments are {before} and {after}"),
            (Some(before), None) => {
                format!("the last moment is {before}; `latest` is the end of the archive")
            }
            (None, Some(after)) => format!("the first moment is {after}"),
            (None, None) => "there is no backup that can be restored".into(),
        }
    }
}

impl RestoreTarget {
    /// Whether the files in the repository lead to this moment; and how far they lead from there on, which is where replay
    /// ends if nothing ends it before.
    ///
    /// # Errors
    /// The nearest moments, where they do not.
    pub fn within(&self, contents: &Contents) -> Result<Lsn, OutOfReach> {
        let intervals = contents.intervals.iter();
        match self {
            RestoreTarget::Latest => match contents.intervals.last() {
                Some(last) => Ok(last.until_lsn),
                None => Err(OutOfReach { before: None, after: None }),
            },
            RestoreTarget::Time(at) => {
                let time = |second| jiff::Timestamp::from_second(second).ok().map(RestoreTarget::Time);
                // A backup is chosen that has ended before, in whole seconds.
                within(intervals.map(|it| (it.from + 1, it.until, it.until_lsn)), at.as_second(), time)
            }
            RestoreTarget::Lsn(at) => {
                let lsn = |at| Some(RestoreTarget::Lsn(at));
                within(intervals.map(|it| (it.from_lsn, it.until_lsn, it.until_lsn)), *at, lsn)
            }
            RestoreTarget::Mark(_) => Err(OutOfReach { before: None, after: None }),
        }
    }
}

/// The end of the interval that has `at`; each is its first moment, its last and its end, the earliest comes first.
fn within<T: Copy + PartialOrd>(
    mut intervals: impl Iterator<Item = (T, T, Lsn)> + Clone,
    at: T,
    target: impl Fn(T) -> Option<RestoreTarget>,
) -> Result<Lsn, OutOfReach> {
    if let Some((_, _, end)) = intervals.clone().find(|(from, until, _)| *from <= at && at <= *until) {
        return Ok(end);
    }
    let before = intervals.clone().filter(|(_, until, _)| *until < at).last();
    let after = intervals.find(|(from, _, _)| at < *from);
    Err(OutOfReach {
        before: before.and_then(|(_, until, _)| target(until)),
        after: after.and_then(|(from, _, _)| target(from)),
    })
}

#[cfg(test)]
mod tests {
    use cluster_contract::backup::Interval;

    use super::*;

    #[test]
    fn a_target_is_latest_a_time_with_a_zone_or_a_position() {
        let words = |text: &str| text.parse::<RestoreTarget>().map(|target| target.words().join(" "));
        assert_eq!(words("latest").unwrap(), "latest ");
        assert_eq!(words("0/3000148").unwrap(), "lsn 0/3000148");
        assert_eq!(words("2026-11-26T14:03:00+02:00").unwrap(), "time 2026-11-26 12:03:00+00");
        assert_eq!(words("2026-11-26 14:03:00.25Z").unwrap(), "time 2026-11-26 14:03:00.25+00");
        assert!(words("2026-11-26T14:03:00").unwrap_err().contains("14:03:00Z if it is UTC"));
        assert_eq!("before-migration_2".parse(), Ok(RestoreTarget::Mark("before-migration_2".into())));
        for wrong in ["", "Yesterday", "14:03", "2026-13-01T00:00:00Z", "G/1", "two words", "-x"] {
            assert!(words(wrong).unwrap_err().contains("`latest`"), "{wrong}");
        }
    }

    #[test]
    fn a_moment_in_a_gap_is_refused_with_the_nearest_ones() {
        let interval = |from, until| Interval {
            from,
            from_lsn: Lsn(from.unsigned_abs() << 24),
            until,
            until_lsn: Lsn(until.unsigned_abs() << 24),
            timeline: 1,
        };
        let contents =
            Contents { intervals: vec![interval(10, 20), interval(30, 40)], ..Contents::default() };
        let time = |second| RestoreTarget::Time(jiff::Timestamp::from_second(second).unwrap());
        for good in [11, 20, 31, 40] {
            let end = if good <= 20 { 20 } else { 40 };
            assert_eq!(time(good).within(&contents), Ok(Lsn(end << 24)), "{good}");
        }
        let out = |at: RestoreTarget| at.within(&contents).unwrap_err();
        assert_eq!(out(time(10)), OutOfReach { before: None, after: Some(time(11)) });
        assert_eq!(out(time(25)), OutOfReach { before: Some(time(20)), after: Some(time(31)) });
        assert_eq!(out(time(41)), OutOfReach { before: Some(time(40)), after: None });
        let lsn = |at: u64| RestoreTarget::Lsn(Lsn(at << 24));
        assert_eq!(lsn(30).within(&contents), Ok(Lsn(40 << 24)));
        assert_eq!(out(lsn(21)), OutOfReach { before: Some(lsn(20)), after: Some(lsn(30)) });
        assert_eq!(RestoreTarget::Latest.within(&contents), Ok(Lsn(40 << 24)));
        let nothing = RestoreTarget::Latest.within(&Contents::default()).unwrap_err();
        assert_eq!(nothing.nearest(), "there is no backup that can be restored");
        assert_eq!(
            out(time(25)).nearest(),
            "the nearest moments are 1970-01-01 00:00:20Z and 1970-01-01 00:00:31Z"
        );
    }
}
