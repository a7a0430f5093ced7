//! A restart that a person, or `cluster up`, has announced: the lease is kept while it goes on, and no longer.

use cluster_contract::Millis;

use super::{Core, STOP_LIMIT};

/// How long each of its steps may show nothing: the end of the server, and its beginning. A restart that is given up by
/// mistake costs little: this node starts PostgreSQL itself.
const STEP_LIMIT: Millis = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restart {
    announced: Millis,
    /// When its last step was seen.
    since: Millis,
    /// Whether PostgreSQL has been seen to end.
    has_ended: bool,
}

impl Restart {
    pub(super) fn announced(now: Millis) -> Restart {
        Restart { announced: now, since: now, has_ended: false }
    }

    pub(super) fn ended(self, now: Millis) -> Restart {
        Restart { since: now, has_ended: true, ..self }
    }

    pub(super) fn has_ended(self) -> bool {
        self.has_ended
    }
}

impl Core {
    /// Whether a restart goes on. A server that is there and answers, if only that it lets nobody in, has as long as an
    /// orderly shutdown has.
    pub(super) fn is_restarting(&self, now: Millis) -> bool {
        self.restart.is_some_and(|restart| {
            let answers = self.had_processes && self.has_answered_lately(now);
            now < restart.announced + STOP_LIMIT && (now < restart.since + STEP_LIMIT || answers)
        })
    }

    /// Takes the steps down that are seen.
    pub(super) fn notice_restart(&mut self, now: Millis, began: bool, ended: bool) {
        let Some(restart) = &mut self.restart else { return };
        if ended {
            *restart = restart.ended(now);
        } else if began {
            restart.since = now;
        }
    }
}
