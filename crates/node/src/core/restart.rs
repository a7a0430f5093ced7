//! A restart that a person, or `cluster up`, has announced: the lease is kept while it goes on.
//!
//! Between the end of the server and its start whoever has announced it may have something to do (`cluster restore`
//! exchanges the data), so that moment is given all the time that there is. What is noticed early is an announcement that
//! nothing has followed, and a start that has come to nothing.

use cluster_contract::Millis;

use super::{Core, STOP_LIMIT};
use crate::control_file::DbState;

/// By when a server that does not answer must have begun to stop.
const BEGINS_WITHIN: Millis = 20_000;
/// How long a start may show no processes: those of systemd's own checks come and go before it.
const STARTS_WITHIN: Millis = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    announced: Millis,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The server is there, or stops.
    Announced,
    Ended,
    /// It was allowed to start. Since when there have been no processes, as far as there are none now.
    Starting(Millis),
}

impl Restart {
    pub(super) fn announced(now: Millis) -> Restart {
        Restart { announced: now, step: Step::Announced }
    }

    pub(super) fn starts(self, now: Millis) -> Restart {
        Restart { step: Step::Starting(now), ..self }
    }

    fn ended(self, now: Millis) -> Restart {
        let step = match self.step {
            Step::Announced | Step::Ended => Step::Ended,
            Step::Starting(_) => Step::Starting(now),
        };
        Restart { step, ..self }
    }

    pub(super) fn has_ended(self) -> bool {
        self.step != Step::Announced
    }
}

impl Core {
    pub(super) fn is_restarting(&self, now: Millis) -> bool {
        self.restart.is_some_and(|restart| {
            let goes_on = match restart.step {
                Step::Announced => {
                    now < restart.announced + BEGINS_WITHIN
                        || self.shutting_down_since.is_some()
                        || self.has_answered_lately(now)
                }
                Step::Ended => true,
                Step::Starting(since) => self.had_processes || now < since + STARTS_WITHIN,
            };
            goes_on && now < restart.announced + STOP_LIMIT
        })
    }

    /// PostgreSQL has ended. That is no part of a restart which nothing had followed for too long, nor of one that was only
    /// announced where it has crashed.
    pub(super) fn forget_restart_unless_it_goes_on(&mut self, now: Millis) {
        let goes_on = self.is_restarting(now);
        let has_crashed = self.control_state() == Some(DbState::InProduction);
        self.restart = self.restart.filter(|restart| goes_on && (restart.has_ended() || !has_crashed));
    }

    /// Takes down that PostgreSQL was seen to end.
    pub(super) fn restart_ended(&mut self, now: Millis) {
        self.restart = self.restart.map(|restart| restart.ended(now));
    }
}
