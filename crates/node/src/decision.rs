//! What a guard does with what it sees. Pure: a view in, one act and its reason out.
//!
//! What counts as proof that a server cannot write: its processes are gone; or it says so itself, by an answer or in its
//! control file, and nothing that it says contradicts it. A file that anybody may put into the directory proves nothing.

use cluster_contract::status;
use cluster_contract::{Millis, NodeId, Position};

use super::control::ControlState;
use super::lease::Local;
use super::postgres::{Look, State};

/// A look that is older says nothing about the present.
const FRESH: Millis = 3_000;
/// A heartbeat that is older is none.
const HEARTBEAT_FRESH: Millis = 1_500;
/// How long after its beginning a start may show nothing.
const START_GRACE: Millis = 8_000;
/// How long a server that starts may let nobody in and not say so. A postmaster that lives answers at once, whatever
/// is replayed behind it.
const START_SILENCE: Millis = 5_000;
/// How long a promotion may take before its lease is let run out, and a fence ends it. It cannot be taken back otherwise.
const PROMOTION: Millis = 120_000;

/// Why a guard that is paused does nothing. It fences all the same, and its voter votes.
const PAUSED: &str = "paused: PostgreSQL is not started, promoted or rejoined";

/// What a guard sees of its node and of the cluster.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub now: Millis,
    /// Whether this is the witness.
    pub witness: bool,
    /// Whether this node is one of the cluster's members.
    pub member: bool,
    /// Whether `cluster up` has finished the data directory.
    pub finished: bool,
    /// Whether the data directory has a file that says that it is a standby's.
    pub standby_signal: bool,
    /// Whether the unit of PostgreSQL has processes.
    pub processes: bool,
    /// What the server has written in its control file; none if that cannot be read.
    pub control: Option<ControlState>,
    /// The last look at PostgreSQL; none before the first.
    pub look: Option<Look>,
    /// What the server that runs has last answered, however long ago: whether it is a primary.
    pub answered_primary: Option<bool>,
    /// When it last answered anything at all, if only that it lets nobody in for now.
    pub answered_at: Option<Millis>,
    /// Whether the server was seen to begin beside a `standby.signal`, and has shown nothing else since.
    pub began_as_standby: bool,
    /// The WAL of a PostgreSQL that does not run.
    pub stopped: Option<Position>,
    /// The last WAL position that was seen here, whatever has become of the server since.
    pub last_position: Option<Position>,
    /// Whether this node holds the lease.
    pub holds: bool,
    /// The highest term granted here. Before the first, the cluster is new.
    pub term: u64,
    /// Whether this node was made primary by `cluster up` and waits for the first lease of all.
    pub bootstrap: bool,
    /// What is being done.
    pub job: Option<Job>,
    /// Since when.
    pub job_since: Millis,
    /// Whether PostgreSQL is stopped for a moment on purpose, until then.
    pub restarting: bool,
    /// Whether a primary is shutting down in order, and has not taken too long.
    pub stopping: bool,
    /// Whether PostgreSQL has just been allowed to start here, and may have no processes yet.
    pub promised: bool,
    /// Whether a person wants nothing to be started, promoted or rejoined.
    pub paused: bool,
    /// Whether what was written here beside another primary is kept for a person to look at.
    pub kept: bool,
    /// Whether a rewind was begun here and not ended: the data is good for nothing but to be replaced.
    pub half_rewound: bool,
    /// Another node that takes writes with a lease.
    pub primary: Option<NodeId>,
    /// Whether this standby has WAL that the primary's history lacks, so that it can never follow.
    pub diverged: bool,
    /// Not to be made primary now: something failed here a moment ago.
    pub unfit: bool,
}

/// Work that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// PostgreSQL is being started.
    Start,
    /// The standby becomes primary.
    Promote,
    /// What was primary, or has diverged, becomes a standby of this node.
    Rejoin {
        /// The primary.
        of: NodeId,
        /// Whether nothing is rewound.
        clone: bool,
    },
    /// The primary stops, for this node to take over.
    HandOver {
        /// The heir.
        to: NodeId,
    },
}

impl Job {
    /// What it is, without its particulars.
    pub fn kind(self) -> status::Job {
        match self {
            Job::Start => status::Job::Start,
            Job::Promote => status::Job::Promote,
            Job::Rejoin { .. } => status::Job::Rejoin,
            Job::HandOver { .. } => status::Job::HandOver,
        }
    }
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
    /// Make a standby of what was primary, or has diverged.
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

    /// Whether the server that runs is proved to be in recovery: it says so, in its control file or by its last answer,
    /// and the file with which it began is still there (a promotion removes it before it lets anybody write).
    fn is_proved_standby(&self) -> bool {
        let says_so = match self.control {
            Some(ControlState::InArchiveRecovery | ControlState::ShutDownInRecovery) => true,
            // What it was before it has begun to say what it is.
            Some(_) => self.began_as_standby,
            None => self.began_as_standby || self.answered_primary == Some(false),
        };
        says_so && self.standby_signal && self.answered_primary != Some(true)
    }

    /// Whether the floating IP belongs here: with the lease, to what takes writes or is about to. It takes the provider
    /// seconds to move it, so that is not waited for.
    pub fn leads(&self) -> bool {
        self.holds && (self.job == Some(Job::Promote) || (self.processes && !self.is_proved_standby()))
    }

    /// What the lease is told about this node.
    pub fn local(&self) -> Local {
        let raising = self.promotes() || self.hands_over() || (self.starts() && self.holds);
        let beats =
            self.is_primary() && self.look.as_ref().is_some_and(|look| self.now <= look.at + HEARTBEAT_FRESH);
        // A server that is being started, or stopped, does not say what it has; at least what it had.
        let told = self.look.as_ref().filter(|_| self.processes).and_then(|look| look.position);
        let is_busy = matches!(self.job, Some(Job::Promote | Job::HandOver { .. } | Job::Start));
        Local {
            position: told.or(self.stopped).or(self.last_position).filter(|_| !self.half_rewound),
            candidate: self.candidate(),
            renew: beats
                || raising
                || (self.holds && (self.restarting || self.stopping || self.promised))
                || self.is_stopped_in_a_pause(),
            writable: self.is_primary(),
            gone: !is_busy && !self.promised && (!self.processes || self.is_proved_standby()),
            heir: None,
            sound: self.is_sound_standby(),
            settled: matches!(self.state(), Some(State::Standby { from: None })),
        }
    }

    /// Whether a promotion is under way that is worth its lease.
    fn promotes(&self) -> bool {
        self.job == Some(Job::Promote) && self.processes && self.now < self.job_since + PROMOTION
    }

    /// What is to be handed over is held until the heir has all of it. The job has limits of its own.
    fn hands_over(&self) -> bool {
        matches!(self.job, Some(Job::HandOver { .. }))
    }

    /// Whether a start is under way that is worth its lease: what died, or hangs, is not waited for.
    fn starts(&self) -> bool {
        let is_young = self.now < self.job_since + START_GRACE;
        let answers = self.answered_at.is_some_and(|at| self.now < at + START_SILENCE);
        self.job == Some(Job::Start) && (is_young || (self.processes && answers))
    }

    /// Whether a person may have stopped PostgreSQL here, to start it again: the lease is kept for that, so that a
    /// pause on this node alone is no reason for another to take over. What does not run writes nothing, and a process
    /// that hangs is none that was stopped.
    fn is_stopped_in_a_pause(&self) -> bool {
        self.paused && self.holds && !self.processes && !self.standby_signal
    }

    /// Whether anything speaks against this node's data or its person's wishes.
    fn is_fit(&self) -> bool {
        self.member
            && !self.witness
            && !self.half_rewound
            && !self.paused
            && !self.kept
            && !self.unfit
            && !matches!(self.job, Some(Job::Rejoin { .. } | Job::HandOver { .. }))
    }

    fn is_sound_standby(&self) -> bool {
        self.is_fit()
            && self.finished
            && !self.diverged
            && self.term > 0
            && matches!(self.state(), Some(State::Standby { .. }))
    }

    /// Whether this node should have the lease if nobody else has.
    fn candidate(&self) -> bool {
        if !self.is_fit() {
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
            if !self.member {
                return (Act::Rest, "this node has no vote in the cluster");
            }
            if !self.processes && self.finished && self.job.is_none() {
                return (Act::Start, "the witness's PostgreSQL is not running");
            }
            return (Act::Rest, "the witness only votes");
        }
        let could_write = self.processes && (!self.is_proved_standby() || self.job == Some(Job::Promote));
        if could_write && !self.holds && !self.bootstrap {
            return (Act::Fence, "PostgreSQL runs as a primary, and this node does not hold the lease");
        }
        if self.job.is_some() {
            return (Act::Rest, "a job is in progress");
        }
        if self.restarting {
            return (Act::Rest, "PostgreSQL is being restarted");
        }
        if self.paused {
            return (Act::Rest, PAUSED);
        }
        if !self.member {
            return (Act::Rest, "this node has no vote in the cluster");
        }
        if !self.finished {
            return (Act::Rest, "`cluster up` has not finished the data directory");
        }
        if self.half_rewound {
            return match self.primary {
                Some(primary) => {
                    (Act::Rejoin(primary), "a rewind was interrupted: a fresh clone replaces the data")
                }
                None => (Act::Rest, "a rewind was interrupted: waiting for a primary to clone from"),
            };
        }
        match (self.holds, self.processes, self.standby_signal) {
            (true, false, false) => (Act::Start, "this node holds the lease"),
            (_, false, true) => (Act::Start, "a standby may start at any time"),
            (true, true, _) if matches!(self.state(), Some(State::Standby { .. })) => {
                (Act::Promote, "this node holds the lease")
            }
            (true, _, _) => (Act::Rest, "this node holds the lease"),
            (false, false, false) if self.kept => (
                Act::Rest,
                "it took writes while another node was primary: its data is kept until `cluster rejoin`",
            ),
            (false, false, false) => match self.primary {
                Some(primary) => (Act::Rejoin(primary), "another node is primary"),
                None => (Act::Rest, "waiting for a majority to grant the lease, or for another primary"),
            },
            (false, true, _) => match self.primary.filter(|_| self.diverged && !self.kept) {
                Some(primary) => (Act::Rejoin(primary), "it has WAL that is not in the primary's history"),
                None => (Act::Rest, "nothing to do"),
            },
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
            member: true,
            finished: true,
            standby_signal: true,
            processes: true,
            control: Some(ControlState::InArchiveRecovery),
            answered_primary: Some(false),
            answered_at: Some(9_900),
            began_as_standby: false,
            look: Some(Look { began: 9_800, at: 9_900, state: State::Standby { from: None }, position }),
            stopped: None,
            last_position: position,
            holds: false,
            term: 3,
            bootstrap: false,
            job: None,
            job_since: 10_000,
            restarting: false,
            stopping: false,
            promised: false,
            paused: false,
            kept: false,
            half_rewound: false,
            primary: None,
            diverged: false,
            unfit: false,
        }
    }

    fn primary() -> Seen {
        let mut seen = Seen {
            standby_signal: false,
            holds: true,
            control: Some(ControlState::InProduction),
            answered_primary: Some(true),
            ..standby()
        };
        seen.look.as_mut().unwrap().state = State::Primary;
        seen
    }

    fn stopped() -> Seen {
        Seen {
            processes: false,
            look: None,
            answered_primary: None,
            answered_at: None,
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
    fn a_file_proves_nothing_about_a_server_that_runs() {
        // `touch standby.signal` on a primary, however one looks at it.
        let planted = Seen { standby_signal: true, ..primary() };
        let silent = Seen { look: None, ..planted.clone() };
        let restarted = Seen { answered_primary: None, ..silent.clone() };
        let unreadable = Seen { control: None, ..planted.clone() };
        for seen in [&planted, &silent, &restarted, &unreadable] {
            assert!(!seen.local().gone, "{seen:?}");
            assert!(seen.leads(), "{seen:?}");
            assert_eq!(Seen { holds: false, ..seen.clone() }.decide().0, Act::Fence, "{seen:?}");
        }
        // Nor does the control file alone, if somebody has put that of a standby there.
        let forged = Seen { control: Some(ControlState::InArchiveRecovery), ..planted };
        assert_eq!(Seen { holds: false, ..forged }.decide().0, Act::Fence);
        // A standby that answers nobody is one all the same.
        let silent = Seen { look: None, ..standby() };
        assert!(silent.local().gone);
        assert_eq!(silent.decide().0, Act::Rest);
        // So is one that has only just begun, of whatever its directory was a copy.
        let begun = Seen {
            control: Some(ControlState::InProduction),
            began_as_standby: true,
            answered_primary: None,
            look: None,
            ..standby()
        };
        assert_eq!(begun.decide().0, Act::Rest);
        assert_eq!(
            Seen { began_as_standby: false, ..begun }.decide().0,
            Act::Fence,
            "whose beginning nobody saw"
        );
        assert_eq!(Seen { standby_signal: false, ..standby() }.decide().0, Act::Fence, "it was promoted");
    }

    #[test]
    fn what_shuts_down_in_order_keeps_its_lease_and_tells_what_it_had() {
        let busy = |seen: Seen| {
            let mut seen = Seen { now: 20_000, stopping: true, ..seen };
            seen.look = Some(Look {
                began: 19_900,
                at: 19_910,
                state: State::Busy("shutting down".into()),
                position: None,
            });
            seen
        };
        let stopping = busy(primary()).local();
        assert!(stopping.renew && !stopping.gone && !stopping.candidate);
        assert_eq!(stopping.position, primary().last_position, "what it last said");
        assert!(
            !busy(Seen { holds: false, ..primary() }).local().renew,
            "without a lease there is none to keep"
        );
        let hands_over = Seen { job: Some(Job::HandOver { to: 2 }), look: None, now: 40_000, ..primary() };
        assert!(hands_over.local().renew && hands_over.local().position.is_some());
    }

    #[test]
    fn a_start_is_worth_a_lease_while_the_server_is_there_and_answers() {
        let starting = |seen: Seen| Seen { job: Some(Job::Start), holds: true, ..seen };
        assert!(starting(stopped()).local().renew, "it has only begun");
        let later = Seen { now: 30_000, ..stopped() };
        assert!(!starting(later.clone()).local().renew, "nothing came of it");
        let replays = Seen { processes: true, answered_at: Some(29_000), ..later };
        assert!(starting(replays.clone()).local().renew, "crash recovery takes its time");
        assert!(!starting(Seen { answered_at: Some(20_000), ..replays }).local().renew, "it hangs");
    }

    #[test]
    fn a_standby_that_has_diverged_rejoins() {
        let diverged = Seen { diverged: true, primary: Some(2), ..standby() };
        assert_eq!(diverged.decide().0, Act::Rejoin(2));
        assert!(!diverged.local().sound);
        assert_eq!(Seen { primary: None, ..diverged.clone() }.decide().0, Act::Rest);
        assert_eq!(Seen { kept: true, ..diverged }.decide().0, Act::Rest);
    }

    #[test]
    fn a_node_that_was_taken_out_starts_nothing_and_writes_nothing() {
        let out = |seen: Seen| Seen { member: false, holds: false, ..seen };
        assert_eq!(out(primary()).decide().0, Act::Fence);
        for seen in [standby(), stopped(), Seen { standby_signal: true, ..stopped() }] {
            assert_eq!(out(seen.clone()).decide().0, Act::Rest);
            assert!(!out(seen.clone()).local().candidate && !out(seen).local().sound);
        }
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
