//! What a guard does with what it sees. Pure: a look in, one act and its reason out.

use super::lease::{Local, Millis, NodeId, Position};
use super::postgres::{Look, State};

/// A look that is older says nothing about the present.
const FRESH: Millis = 3_000;
/// A heartbeat that is older is none.
const HEARTBEAT_FRESH: Millis = 1_500;

/// Why a guard that is paused does nothing. It fences all the same, and its voter votes.
const PAUSED: &str = "paused: nothing is started, promoted or rejoined";

/// What a guard sees of its node and of the cluster.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub now: Millis,
    /// Whether this is the witness.
    pub witness: bool,
    /// Whether `cluster up` has finished the data directory.
    pub finished: bool,
    /// Whether the data directory is a standby's.
    pub standby_signal: bool,
    /// Whether the unit of PostgreSQL has processes.
    pub processes: bool,
    /// The last look at PostgreSQL; none before the first.
    pub look: Option<Look>,
    /// The WAL of a PostgreSQL that does not run.
    pub stopped: Option<Position>,
    /// Whether this node holds the lease.
    pub holds: bool,
    /// The highest term granted here. Before the first, the cluster is new.
    pub term: u64,
    /// Whether this node was made primary by `cluster up` and waits for the first lease of all.
    pub bootstrap: bool,
    /// What is being done.
    pub job: Option<Job>,
    /// Whether PostgreSQL is stopped for a moment on purpose, until then.
    pub restarting: bool,
    /// Whether a person wants nothing to be started, promoted or rejoined.
    pub paused: bool,
    /// Whether what was written here beside another primary is kept for a person to look at.
    pub kept: bool,
    /// Whether a rewind was begun here and not ended: the data is good for nothing but to be replaced.
    pub half_rewound: bool,
    /// Another node that takes writes with a lease.
    pub primary: Option<NodeId>,
    /// Not to be made primary now: something failed here a moment ago.
    pub unfit: bool,
}

/// Work that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// PostgreSQL is being started.
    Start,
    /// The standby becomes primary.
    Promote,
    /// What was primary becomes a standby.
    Rejoin,
    /// The primary stops, for another to take over.
    HandOver,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Rest,
    /// Kill PostgreSQL, whatever it is doing.
    Fence,
    /// Start PostgreSQL.
    Start,
    /// Promote it.
    Promote,
    /// Make a standby of what was primary.
    Rejoin(NodeId),
}

impl Seen {
    fn state(&self) -> Option<&State> {
        let look = self.look.as_ref()?;
        (self.processes && self.now <= look.at + FRESH).then_some(&look.state)
    }

    fn is_primary(&self) -> bool {
        self.state() == Some(&State::Primary)
    }

    /// Whether the floating IP belongs here: with the lease, to what takes writes or is about to. It takes the provider
    /// seconds to move it, so that is not waited for.
    pub fn leads(&self) -> bool {
        self.holds && (self.job == Some(Job::Promote) || (self.processes && !self.standby_signal))
    }

    /// What the lease is told about this node.
    pub fn local(&self) -> Local {
        let raising = matches!(self.job, Some(Job::Promote | Job::HandOver))
            || (self.job == Some(Job::Start) && self.holds);
        let beats =
            self.is_primary() && self.look.as_ref().is_some_and(|look| self.now <= look.at + HEARTBEAT_FRESH);
        // A server that is being started has not said yet what it has; at least what it had.
        let told = self.look.as_ref().filter(|_| self.processes).and_then(|look| look.position);
        Local {
            position: told.or(self.stopped).filter(|_| !self.half_rewound),
            candidate: self.candidate(),
            renew: beats || raising || self.restarting || self.is_stopped_in_a_pause(),
            writable: self.is_primary(),
            gone: !raising && (!self.processes || self.standby_signal),
            heir: None,
        }
    }

    /// Whether a person may have stopped PostgreSQL here, to start it again: the lease is kept for that, so that a
    /// pause on this node alone is no reason for another to take over. What does not run writes nothing, and a process
    /// that hangs is none that was stopped.
    fn is_stopped_in_a_pause(&self) -> bool {
        self.paused && self.holds && !self.processes && !self.standby_signal
    }

    /// Whether this node should have the lease if nobody else has.
    fn candidate(&self) -> bool {
        if self.half_rewound {
            return false;
        }
        if self.witness
            || self.paused
            || self.kept
            || self.unfit
            || matches!(self.job, Some(Job::Rejoin | Job::HandOver))
        {
            return false;
        }
        if self.is_primary() {
            return self.bootstrap;
        }
        match self.state() {
            // What still streams has a primary. And in a cluster that never had a lease, the first one is for the
            // primary that `cluster up` started.
            Some(State::Standby { from }) => self.holds || (from.is_none() && self.term > 0),
            Some(_) => false,
            None => {
                !self.processes
                    && !self.standby_signal
                    && self.finished
                    && self.stopped.is_some()
                    && self.primary.is_none()
            }
        }
    }

    /// What to do now.
    pub fn decide(&self) -> (Act, &'static str) {
        if self.witness {
            if self.paused {
                return (Act::Rest, PAUSED);
            }
            if !self.processes && self.finished && self.job.is_none() {
                return (Act::Start, "the witness does not run");
            }
            return (Act::Rest, "the witness only votes");
        }
        let could_write = self.processes && (!self.standby_signal || self.job == Some(Job::Promote));
        if could_write && !self.holds && !self.bootstrap {
            return (Act::Fence, "PostgreSQL runs as a primary, and this node does not hold the lease");
        }
        if self.job.is_some() {
            return (Act::Rest, "something is under way");
        }
        if self.restarting {
            return (Act::Rest, "PostgreSQL is being restarted");
        }
        if self.paused {
            return (Act::Rest, PAUSED);
        }
        if !self.finished {
            return (Act::Rest, "`cluster up` has not finished the data directory");
        }
        if self.half_rewound {
            return match self.primary {
                Some(primary) => (Act::Rejoin(primary), "a rewind was cut off: the data is cloned anew"),
                None => (Act::Rest, "a rewind was cut off: waiting for a primary to clone from"),
            };
        }
        match (self.holds, self.processes, self.standby_signal) {
            (true, false, false) => (Act::Start, "this node holds the lease"),
            (_, false, true) => (Act::Start, "a standby does no harm"),
            (true, true, _) if matches!(self.state(), Some(State::Standby { .. })) => {
                (Act::Promote, "this node holds the lease")
            }
            (true, _, _) => (Act::Rest, "this node holds the lease"),
            (false, false, false) if self.kept => {
                (Act::Rest, "it took writes beside another primary: its data is kept until `cluster rejoin`")
            }
            (false, false, false) => match self.primary {
                Some(primary) => (Act::Rejoin(primary), "another node is primary"),
                None => (Act::Rest, "waiting for a majority to grant the lease, or for another primary"),
            },
            (false, true, _) => (Act::Rest, "nothing to do"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby() -> Seen {
        let position = Some(Position { timeline: 1, lsn: 5 });
        Seen {
            now: 10_000,
            witness: false,
            finished: true,
            standby_signal: true,
            processes: true,
            look: Some(Look { began: 9_800, at: 9_900, state: State::Standby { from: None }, position }),
            stopped: None,
            holds: false,
            term: 3,
            bootstrap: false,
            job: None,
            restarting: false,
            paused: false,
            kept: false,
            half_rewound: false,
            primary: None,
            unfit: false,
        }
    }

    fn primary() -> Seen {
        let mut seen = Seen { standby_signal: false, holds: true, ..standby() };
        seen.look.as_mut().unwrap().state = State::Primary;
        seen
    }

    fn stopped() -> Seen {
        Seen {
            processes: false,
            look: None,
            holds: false,
            stopped: standby().look.unwrap().position,
            ..primary()
        }
    }

    #[test]
    fn nothing_takes_writes_without_the_lease() {
        assert_eq!(primary().decide().0, Act::Rest);
        assert_eq!(Seen { holds: false, ..primary() }.decide().0, Act::Fence);
        let silent = Seen { look: None, holds: false, ..primary() };
        assert_eq!(silent.decide().0, Act::Fence, "what does not answer may still write");
        assert_eq!(
            Seen { holds: false, bootstrap: true, ..primary() }.decide().0,
            Act::Rest,
            "the first of all"
        );
        assert_eq!(
            Seen { job: Some(Job::Promote), ..standby() }.decide().0,
            Act::Fence,
            "a promotion under way"
        );
        assert_eq!(standby().decide().0, Act::Rest);
        assert_eq!(Seen { holds: true, ..standby() }.decide().0, Act::Promote);
    }

    #[test]
    fn the_address_belongs_to_the_holder_from_its_promotion_on() {
        assert!(primary().leads());
        assert!(!Seen { holds: false, ..primary() }.leads());
        assert!(!Seen { holds: true, ..standby() }.leads(), "nothing has been begun");
        assert!(Seen { holds: true, job: Some(Job::Promote), ..standby() }.leads());
        assert!(Seen { look: None, ..primary() }.leads(), "promoted, and not looked at since");
        assert!(!Seen { holds: true, ..stopped() }.leads(), "it has handed over");
    }

    #[test]
    fn what_was_primary_starts_with_the_lease_or_rejoins() {
        assert_eq!(stopped().decide().0, Act::Rest);
        assert_eq!(Seen { holds: true, ..stopped() }.decide().0, Act::Start);
        assert_eq!(Seen { primary: Some(2), ..stopped() }.decide().0, Act::Rejoin(2));
        assert_eq!(Seen { primary: Some(2), paused: true, ..stopped() }.decide().0, Act::Rest);
        assert_eq!(Seen { standby_signal: true, ..stopped() }.decide().0, Act::Start);
        let kept = Seen { primary: Some(2), kept: true, ..stopped() };
        assert_eq!(kept.decide().0, Act::Rest, "what was written beside another primary is not rewound");
        assert!(!Seen { primary: None, ..kept }.local().candidate, "nor is it made primary by itself");
    }

    #[test]
    fn a_pause_stops_what_helps_and_not_what_fences() {
        let paused = |seen: Seen| Seen { paused: true, ..seen };
        assert_eq!(paused(Seen { holds: false, ..primary() }).decide().0, Act::Fence);
        assert_eq!(paused(Seen { job: Some(Job::Promote), ..standby() }).decide().0, Act::Fence);
        assert!(paused(primary()).local().renew, "a paused primary goes on");
        let stale = Seen { now: 12_000, ..primary() };
        assert!(!paused(stale).local().renew, "what hangs loses its lease, paused or not");
        for seen in [
            Seen { holds: true, ..standby() },
            Seen { holds: true, ..stopped() },
            Seen { primary: Some(2), ..stopped() },
            Seen { standby_signal: true, ..stopped() },
            Seen { witness: true, ..stopped() },
        ] {
            assert_ne!(seen.decide().0, Act::Rest);
            assert_eq!(paused(seen).decide().0, Act::Rest);
        }
        let by_hand = paused(Seen { holds: true, ..stopped() });
        assert!(by_hand.local().renew, "a person may start it again");
        assert!(!paused(stopped()).local().renew && !paused(stopped()).local().candidate);
        assert!(
            !paused(Seen { holds: true, ..standby() }).local().renew,
            "a standby that will not promote lets go"
        );
    }

    #[test]
    fn what_is_half_rewound_is_never_started() {
        for seen in [standby(), stopped(), Seen { standby_signal: true, ..stopped() }] {
            let half = Seen { half_rewound: true, ..seen };
            assert_eq!(half.decide().0, Act::Rest, "there is nobody to clone from");
            assert_eq!(Seen { primary: Some(2), ..half.clone() }.decide().0, Act::Rejoin(2));
            assert!(!half.local().candidate);
            assert_eq!(half.local().position, None, "what it has is no history");
        }
    }

    #[test]
    fn only_a_standby_without_a_primary_is_a_candidate() {
        assert!(standby().local().candidate);
        let mut streams = standby();
        streams.look.as_mut().unwrap().state = State::Standby { from: Some("10.0.0.1".into()) };
        assert!(!streams.local().candidate);
        assert!(!Seen { term: 0, ..standby() }.local().candidate, "the first lease is the first primary's");
        assert!(!Seen { paused: true, ..standby() }.local().candidate);
        assert!(!Seen { now: 20_000, ..standby() }.local().candidate, "seen too long ago");
        assert!(stopped().local().candidate);
        assert!(
            !Seen { unfit: true, ..stopped() }.local().candidate,
            "it has just crashed: the standby goes first"
        );
        assert!(!Seen { primary: Some(2), ..stopped() }.local().candidate);
    }

    #[test]
    fn a_lease_is_renewed_by_a_fresh_heartbeat_alone() {
        assert!(primary().local().renew);
        assert!(!Seen { now: 12_000, ..primary() }.local().renew);
        let crashed = Seen { processes: false, ..primary() };
        assert!(!crashed.local().renew);
        assert!(crashed.local().gone);
        assert!(!primary().local().gone);
        assert!(
            Seen { restarting: true, processes: false, ..primary() }.local().renew,
            "`cluster up` restarts it"
        );
    }
}
