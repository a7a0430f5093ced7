//! Rate limits: sliding windows per token, as DigitalOcean has them.

use std::collections::{BTreeMap, VecDeque};

use super::settings::Limits;
use super::wire::{Millis, Request};

const HOUR: Millis = 3_600_000;
const MINUTE: Millis = 60_000;

/// The list of SSH keys has a limit of its own: this many reads a minute.
const KEY_LISTS: usize = 10;

/// Where a token stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests an hour.
    pub limit: usize,
    /// Requests left.
    pub remaining: usize,
    /// When the oldest request falls out of the hour, in seconds since 1970.
    pub reset: i64,
    /// Whether this request is one too many.
    pub exceeded: bool,
    /// Seconds for `retry-after`: with limits a minute only.
    pub retry_after: Option<u64>,
}

/// The requests of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    hour: BTreeMap<&'static str, VecDeque<Millis>>,
    key_lists: VecDeque<Millis>,
}

impl Rates {
    /// Counts a request, unless it is one too many.
    pub fn count(&mut self, request: &Request, limits: &Limits, now: Millis) -> Standing {
        let hour = self.hour.entry(request.access.word()).or_default();
        while hour.front().is_some_and(|at| *at <= now - HOUR) {
            hour.pop_front();
        }
        let over_hour = hour.len() >= limits.hourly;
        let burst = limits.burst.and_then(|burst| wait(hour, burst, now));
        let is_key_list = request.method == "GET" && request.path == "/v2/account/keys";
        let keys = is_key_list.then(|| wait(&self.key_lists, KEY_LISTS, now)).flatten();
        let retry_after = burst.or(keys);
        let exceeded = over_hour || retry_after.is_some();
        if !exceeded {
            hour.push_back(now);
            if is_key_list {
                self.key_lists.push_back(now);
                while self.key_lists.len() > KEY_LISTS {
                    self.key_lists.pop_front();
                }
            }
        }
        Standing {
            limit: limits.hourly,
            remaining: if retry_after.is_some() { 0 } else { limits.hourly.saturating_sub(hour.len()) },
            reset: (hour.front().copied().unwrap_or(now) + HOUR) / 1000,
            exceeded,
            retry_after,
        }
    }
}

/// Seconds until there are fewer than `most` requests in the last minute; `None` if there are now.
fn wait(requests: &VecDeque<Millis>, most: usize, now: Millis) -> Option<u64> {
    let oldest = requests.len().checked_sub(most.max(1)).and_then(|index| requests.get(index))?;
    let left = oldest + MINUTE - now;
    (left > 0).then(|| left.unsigned_abs().div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Access;

    fn request(path: &str) -> Request {
        let (method, base) = ("GET".to_owned(), String::new());
        let body = serde_json::Value::Null;
        Request {
            method,
            path: path.to_owned(),
            query: BTreeMap::new(),
            body,
            base,
            access: Access::Operator,
        }
    }

    #[test]
    fn the_hour_slides() {
        let limits = Limits { hourly: 2, ..Limits::default() };
        let (mut rates, ask) = (Rates::default(), request("/v2/account"));
        assert_eq!(rates.count(&ask, &limits, 0).remaining, 1);
        assert_eq!(rates.count(&ask, &limits, 10_000).remaining, 0);
        let third = rates.count(&ask, &limits, 20_000);
        assert_eq!((third.exceeded, third.retry_after, third.reset), (true, None, 3600));
        assert!(!rates.count(&ask, &limits, HOUR).exceeded);
        assert!(rates.count(&ask, &limits, HOUR).exceeded);
    }

    #[test]
    fn limits_a_minute_say_how_long() {
        let limits = Limits { burst: Some(2), ..Limits::default() };
        let (mut rates, ask) = (Rates::default(), request("/v2/account"));
        rates.count(&ask, &limits, 0);
        rates.count(&ask, &limits, 1000);
        assert_eq!(rates.count(&ask, &limits, 2000).retry_after, Some(58));
        assert!(!rates.count(&ask, &limits, MINUTE).exceeded);
        let (mut rates, list) = (Rates::default(), request("/v2/account/keys"));
        let exceeded = (0..11).filter(|_| rates.count(&list, &Limits::default(), 0).exceeded).count();
        assert_eq!(exceeded, 1);
    }
}
