//! The moment to which a cluster is restored.

use std::fmt;

use cluster_contract::position::Lsn;
use serde::Serialize;

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
}

/// What an operator may write.
pub const EXPECTED: &str =
    "`latest`, a time with its zone such as 2026-11-26T14:03:00Z, or a WAL position such as 0/3000148";

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
        }
    }
}

impl fmt::Display for RestoreTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreTarget::Latest => f.write_str("the end of the archive"),
            RestoreTarget::Time(at) => write!(f, "{}", at.strftime("%F %T%.fZ")),
            RestoreTarget::Lsn(lsn) => write!(f, "{lsn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_latest_a_time_with_a_zone_or_a_position() {
        let words = |text: &str| text.parse::<RestoreTarget>().map(|target| target.words().join(" "));
        assert_eq!(words("latest").unwrap(), "latest ");
        assert_eq!(words("0/3000148").unwrap(), "lsn 0/3000148");
        assert_eq!(words("2026-11-26T14:03:00+02:00").unwrap(), "time 2026-11-26 12:03:00+00");
        assert_eq!(words("2026-11-26 14:03:00.25Z").unwrap(), "time 2026-11-26 14:03:00.25+00");
        assert!(words("2026-11-26T14:03:00").unwrap_err().contains("14:03:00Z if it is UTC"));
        for wrong in ["", "yesterday", "14:03", "2026-13-01T00:00:00Z", "G/1"] {
            assert!(words(wrong).unwrap_err().contains("`latest`"), "{wrong}");
        }
    }
}
