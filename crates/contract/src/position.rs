//! Positions in the WAL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Term;

/// How much WAL a node has. The later timeline wins, whatever the bytes say: what its history lacks was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WalPosition {
    pub timeline: u32,
    /// The end of what is flushed (primary) or received (standby), as a number of bytes.
    pub lsn: u64,
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", Lsn(self.lsn), self.timeline)
    }
}

/// How much WAL a holder of the lease has reported, with a request to renew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HolderReport {
    /// The holder's term.
    pub term: Term,
    pub position: WalPosition,
}

/// A byte of the WAL, as PostgreSQL writes it: `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = NotAnLsn;

    fn try_from(text: String) -> Result<Lsn, NotAnLsn> {
        text.parse()
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A text that is no position in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnLsn(String);

impl fmt::Display for NotAnLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an LSN", self.0)
    }
}

impl std::error::Error for NotAnLsn {}

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Lsn, NotAnLsn> {
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_is_read_as_it_is_written() {
        for (text, byte) in [("0/0", 0), ("0/3000148", 0x300_0148), ("16/B374D848", 0x16_B374_D848)] {
            assert_eq!(text.parse(), Ok(Lsn(byte)));
            assert_eq!(Lsn(byte).to_string(), text);
        }
        for text in ["", "/", "0", "1/2/3", "0/123456789", "g/0", "-1/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_later_timeline_is_ahead_whatever_the_bytes_say() {
        let at = |timeline, lsn| WalPosition { timeline, lsn };
        assert!(at(2, 5) > at(1, 9) && at(2, 6) > at(2, 5));
        assert_eq!(at(2, 0x300_0148).to_string(), "0/3000148 on timeline 2");
    }
}
