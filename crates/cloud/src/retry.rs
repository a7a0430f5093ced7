//! When a request is sent again, and after how long.

use std::time::Duration;

use backon::BackoffBuilder;
use tokio::time::Instant;

/// How often and how long one request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Longest first wait. Waits are drawn evenly between nothing and a bound that doubles (full jitter).
    pub base: Duration,
    /// Highest bound.
    pub cap: Duration,
    /// How many times at most.
    pub retries: usize,
    /// No retry starts later than this after the first attempt, whatever the API asks for.
    pub deadline: Duration,
    /// Longest time for one attempt, from connect to the last byte.
    pub timeout: Duration,
}

impl Default for Policy {
    /// For an operator's run: up to six retries, 1 to 30 s apart, within five minutes.
    fn default() -> Self {
        Self { base: secs(1), cap: secs(30), retries: 6, deadline: secs(300), timeout: secs(30) }
    }
}

impl Policy {
    /// For a failover: retries 0.5 to 3 s apart within 15 s, five seconds an attempt. Operations that wait for a
    /// state go on looking after that; what else is asked in a failover is not worth a longer wait.
    pub fn urgent() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: secs(3),
            retries: usize::MAX,
            deadline: secs(15),
            timeout: secs(5),
        }
    }
}

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

impl BackoffBuilder for Policy {
    type Backoff = Waits;

    fn build(self) -> Waits {
        Waits { policy: self, started: Instant::now(), made: 0 }
    }
}

/// The waits of one request, in order.
#[derive(Debug)]
pub struct Waits {
    policy: Policy,
    started: Instant,
    made: usize,
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.made >= self.policy.retries {
            return None;
        }
        let wait = bound(&self.policy, self.made).mul_f64(fraction());
        self.made += 1;
        (self.started.elapsed() + wait <= self.policy.deadline).then_some(wait)
    }
}

/// The longest that the wait after `made` earlier ones can be.
fn bound(policy: &Policy, made: usize) -> Duration {
    policy.base.saturating_mul(1 << made.min(20)).min(policy.cap)
}

/// A number in `[0, 1)`. Jitter needs no seed and no quality; without a source of chance it is a half.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

/// How long an answer asks us to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `retry-after`: no sooner than this.
    For(Duration),
    /// `ratelimit-reset`: by then the first of our requests leaves the sliding window. Others may leave it
    /// earlier for all we know, so this is shortened to the longest wait that the policy has.
    About(Duration),
}

impl Asked {
    /// The wait, as the answer has it.
    pub fn time(self) -> Duration {
        match self {
            Asked::For(time) | Asked::About(time) => time,
        }
    }

    /// The wait that a policy makes of it.
    pub(super) fn under(self, policy: &Policy) -> Duration {
        match self {
            Asked::For(time) => time,
            Asked::About(time) => time.min(policy.cap),
        }
    }
}

/// Reads `retry-after` (seconds or a date) or, for want of it and on a 429 only, `ratelimit-reset` (Unix seconds).
pub(super) fn asked(status: u16, retry_after: Option<&str>, reset: Option<&str>, now: i64) -> Option<Asked> {
    let until = |at: i64| Duration::from_secs(u64::try_from(at - now).unwrap_or(0));
    if let Some(text) = retry_after {
        if let Ok(seconds) = text.trim().parse() {
            return Some(Asked::For(Duration::from_secs(seconds)));
        }
        if let Ok(date) = jiff::fmt::rfc2822::parse(text) {
            return Some(Asked::For(until(date.timestamp().as_second())));
        }
    }
    let reset = reset.filter(|_| status == 429)?.trim().parse().ok()?;
    Some(Asked::About(until(reset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_cap_and_waits_end() {
        let policy = Policy::default();
        let bounds: Vec<_> = (0..7).map(|n| bound(&policy, n).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 30, 30]);
        let waits: Vec<_> = policy.build().collect();
        assert_eq!(waits.len(), 6);
        assert!(waits.iter().zip(&bounds).all(|(wait, bound)| wait.as_secs_f64() <= *bound as f64));
        assert!(bound(&Policy::urgent(), usize::MAX) <= secs(3));
    }

    #[test]
    fn no_retry_starts_after_the_deadline() {
        let mut waits =
            Policy { deadline: Duration::from_millis(5), base: Duration::ZERO, ..Policy::urgent() }.build();
        assert!(waits.next().is_some());
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(waits.next(), None);
    }

    #[test]
    fn the_wait_asked_for_is_read() {
        let (exact, about) = (|s| Some(Asked::For(secs(s))), |s| Some(Asked::About(secs(s))));
        let cases = [
            (429, Some("7"), Some("1000"), exact(7)),
            (503, Some("7"), None, exact(7)),
            (429, Some("Thu, 01 Jan 1970 00:16:45 GMT"), None, exact(105)),
            (429, None, Some("960"), about(60)),
            (429, None, Some("800"), about(0)),
            (503, None, Some("960"), None),
            (429, Some("soon"), None, None),
            (429, None, None, None),
        ];
        for (status, retry_after, reset, want) in cases {
            assert_eq!(asked(status, retry_after, reset, 900), want, "{status} {retry_after:?}");
        }
        assert_eq!(Asked::About(secs(3600)).under(&Policy::default()), secs(30));
        assert_eq!(Asked::For(secs(3600)).under(&Policy::default()), secs(3600));
    }
}
