//! How long to wait for the world, and how often to look.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Client, Error, Notice};

/// The patience of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time to the second look; each later interval is half as long again, up to `poll`.
    pub first: Duration,
    /// Longest time between two looks.
    pub poll: Duration,
    /// For how long an answer that the API is known to give too early is not believed: 404 for a thing just
    /// made, or a list that lacks it.
    pub grace: Duration,
    /// When to give up.
    pub deadline: Duration,
}

impl Default for Pace {
    /// For an operator's run: looks every 0.5 to 3 s, 60 s of grace, ten minutes in all. Three droplets waited
    /// for at once make some 120 requests a minute; DigitalOcean allows 250, and 5,000 an hour.
    fn default() -> Self {
        Self { first: millis(500), poll: millis(3000), grace: millis(60_000), deadline: millis(600_000) }
    }
}

impl Pace {
    /// For a failover, where every second counts: looks every 0.5 to 1 s, two minutes in all.
    pub fn urgent() -> Self {
        Self { first: millis(500), poll: millis(1000), grace: millis(20_000), deadline: millis(120_000) }
    }
}

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One wait: paces the looks, tells the observer what is waited for, and ends it at the deadline.
pub(super) struct Watch<'a> {
    client: &'a Client,
    what: String,
    pace: Pace,
    started: Instant,
    step: Duration,
}

impl<'a> Watch<'a> {
    /// `what` completes "waiting for …".
    pub(super) fn new(client: &'a Client, pace: Pace, what: impl Into<String>) -> Self {
        Self { client, what: what.into(), pace, started: Instant::now(), step: pace.first }
    }

    /// Waits until the next look. `last` is what was seen now.
    pub(super) async fn pause(&mut self, last: impl Into<String>) -> Result<(), Error> {
        let (last, waited) = (last.into(), self.started.elapsed());
        let left = self.pace.deadline.saturating_sub(waited);
        if left.is_zero() {
            return Err(Error::TimedOut { what: self.what.clone(), waited, last });
        }
        self.client.notify(&Notice::Waiting { what: self.what.clone(), last, waited });
        tokio::time::sleep(self.step.min(left)).await;
        self.step = (self.step * 3 / 2).min(self.pace.poll);
        Ok(())
    }

    /// Whether an early "there is no such thing" is not to be believed yet.
    pub(super) fn in_grace(&self) -> bool {
        self.started.elapsed() < self.pace.grace
    }
}
