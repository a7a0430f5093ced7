//! What a guard does about what it observes. Pure: an observation in, one act and its reason out.
//!
//! What counts as proof that a server cannot write: its processes are gone; or it says so itself, by an answer or in its
//! control file, and nothing that it says contradicts it. A file that anybody may put into the directory proves nothing.

use cluster_contract::status::JobKind;
use cluster_contract::{Millis, NodeId, WalPosition};

use super::control_file::DbState;
use super::lease::NodeState;
use super::postgres::{ServerObservation, ServerState};

/// A server that was observed longer ago may be another by now.
const OBSERVATION_FRESH_FOR: Millis = 3_000;
/// A heartbeat that is older renews no lease.
pub(super) const HEARTBEAT_FRESH_FOR: Millis = 1_500;
const _: () = assert!(HEARTBEAT_FRESH_FOR < OBSERVATION_FRESH_FOR);
/// For how long a start that shows nothing is worth its lease.
pub(super) const START_GRACE: Millis = 8_000;
/// How long a server that starts may let nobody in and not say so. A postmaster that lives answers at once, whatever
/// is replayed behind it.
const START_SILENT_LIMIT: Millis = 5_000;
/// How long a promotion may take before its lease is let run out, and a fence ends it. It cannot be taken back otherwise.
pub(super) const PROMOTION_LIMIT: Millis = 120_000;

/// Why a guard that is paused does nothing. It fences all the same, and its voter votes.
const WHY_PAUSED: &str = "paused: PostgreSQL is not started, promoted or rejoined";
/// Why a guard whose data could lead does nothing yet.
const WHY_LEADERLESS: &str = "waiting for a majority to grant the lease, or for another primary";

/// What a guard observes of its node and of the cluster.
#[derive(Clone, Debug)]
pub struct Observation {
    pub now: Millis,
    pub is_witness: bool,
    /// Whether this node has a vote.
    pub is_member: bool,
    /// Whether `cluster up` has finished the data directory.
    pub data_ready: bool,
    /// Whether the data directory has a `standby.signal`.
    pub standby_signal: bool,
    /// Whether the unit of PostgreSQL has processes.
    pub has_processes: bool,
    /// What the server has written in its control file; none if that cannot be read.
    pub control_state: Option<DbState>,
    /// What PostgreSQL was last observed to be; none before that.
    pub server: Option<ServerObservation>,
    /// What the server that runs has last answered, however long ago: whether it is a primary.
    pub server_answered_primary: Option<bool>,
    /// When it last answered anything at all, if only that it lets nobody in for now.
    pub server_answered_at: Option<Millis>,
    /// Whether the server was seen to begin beside a `standby.signal`, and has shown nothing else since.
    pub started_as_standby: bool,
    /// The end of the WAL of a PostgreSQL that does not run.
    pub stopped_at: Option<WalPosition>,
    /// The last WAL position that was seen here, whatever has become of the server since.
    pub last_position: Option<WalPosition>,
    pub holds_lease: bool,
    /// Whether the cluster is a new one that waits for the first lease of all, as far as is known here.
    pub bootstrap: bool,
    /// The job that is under way.
    pub job: Option<Job>,
    /// When the last job began.
    pub job_since: Millis,
    /// Whether PostgreSQL is being restarted on purpose, and has not taken too long.
    pub restarting: bool,
    /// Whether a primary is shutting down in order, and has not taken too long.
    pub shutting_down: bool,
    /// Whether PostgreSQL has just been allowed to start here, and may have no processes yet.
    pub start_allowed: bool,
    /// Whether a person wants nothing to be started, promoted or rejoined.
    pub paused: bool,
    /// Whether what was written here beside another primary is kept for a person to look at.
    pub diverged_data_kept: bool,
    /// Whether a rewind was begun here and not ended: the data is good for nothing but to be replaced.
    pub half_rewound: bool,
    /// Another node that takes writes with a lease.
    pub other_primary: Option<NodeId>,
    /// Whether this standby has WAL that the primary's history lacks, so that it can never follow.
    pub diverged: bool,
    /// Whether this node lets others become primary first: something has failed here a moment ago.
    pub backing_off: bool,
    /// Whether the disk has no room for writes: as a primary this node would refuse them.
    pub disk_full: bool,
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
        /// Whether the data is cloned without trying to rewind it.
        clone: bool,
    },
    /// The primary stops, for this node to take over.
    HandOver {
        /// The successor.
        to: NodeId,
    },
}

impl Job {
    /// What kind of job it is, without its particulars.
    pub fn kind(self) -> JobKind {
        match self {
            Job::Start => JobKind::Start,
            Job::Promote => JobKind::Promote,
            Job::Rejoin { .. } => JobKind::Rejoin,
            Job::HandOver { .. } => JobKind::HandOver,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Do nothing.
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

impl Observation {
    fn state(&self) -> Option<&ServerState> {
        let server = self.server.as_ref()?;
        (self.has_processes && self.now <= server.at + OBSERVATION_FRESH_FOR).then_some(&server.state)
    }

    fn is_primary(&self) -> bool {
        self.state() == Some(&ServerState::Primary)
    }

    /// Whether the server that runs is proved to be in recovery: it says so, in its control file or by its last answer,
    /// and the file with which it began is still there (a promotion removes it before it lets anybody write).
    fn is_proved_standby(&self) -> bool {
        let says_so = match self.control_state {
            Some(DbState::InArchiveRecovery | DbState::ShutDownInRecovery) => true,
            // What it was before it has begun to say what it is.
            Some(_) => self.started_as_standby,
            None => self.started_as_standby || self.server_answered_primary == Some(false),
        };
        says_so && self.standby_signal && self.server_answered_primary != Some(true)
    }

    /// Whether the floating IP belongs here: with the lease, to what takes writes or is about to. It takes the provider
    /// seconds to move it, so that is not waited for.
    pub fn should_hold_address(&self) -> bool {
        self.holds_lease
            && (self.job == Some(Job::Promote) || (self.has_processes && !self.is_proved_standby()))
    }

    /// What the lease is told about this node.
    pub fn node_state(&self) -> NodeState {
        let is_worth_it =
            self.is_promoting() || self.is_handing_over() || (self.is_starting() && self.holds_lease);
        let beats = self.is_primary()
            && self.server.as_ref().is_some_and(|server| self.now <= server.at + HEARTBEAT_FRESH_FOR);
        // A server that is being started, or stopped, does not say what it has; at least what it had.
        let told = self.server.as_ref().filter(|_| self.has_processes).and_then(|server| server.position);
        let is_busy = matches!(self.job, Some(Job::Promote | Job::HandOver { .. } | Job::Start));
        NodeState {
            position: told.or(self.stopped_at).or(self.last_position).filter(|_| !self.half_rewound),
            candidate: self.is_candidate(),
            should_renew: beats
                || is_worth_it
                || (self.holds_lease && (self.restarting || self.shutting_down || self.start_allowed))
                || self.is_stopped_in_a_pause(),
            writable: self.is_primary(),
            cannot_write: !is_busy
                && !self.start_allowed
                && (!self.has_processes || self.is_proved_standby()),
            successor: None,
            sound_standby: self.is_sound_standby(),
            may_lead_first: !matches!(self.state(), Some(ServerState::Standby { .. })),
            stream_ended: matches!(self.state(), Some(ServerState::Standby { upstream: None })),
        }
    }

    /// Whether a promotion is under way that is worth its lease.
    fn is_promoting(&self) -> bool {
        self.job == Some(Job::Promote) && self.has_processes && self.now < self.job_since + PROMOTION_LIMIT
    }

    /// What is to be handed over is held until the successor has all of it. The job has limits of its own.
    fn is_handing_over(&self) -> bool {
        matches!(self.job, Some(Job::HandOver { .. }))
    }

    /// Whether a start is under way that is worth its lease: what died, or hangs, is not waited for.
    fn is_starting(&self) -> bool {
        let is_young = self.now < self.job_since + START_GRACE;
        let answers = self.server_answered_at.is_some_and(|at| self.now < at + START_SILENT_LIMIT);
        self.job == Some(Job::Start) && (is_young || (self.has_processes && answers))
    }

    /// Whether a person may have stopped PostgreSQL here, to start it again: the lease is kept for that, so that a
    /// pause on this node alone is no reason for another to take over. What does not run writes nothing, and a process
    /// that hangs is none that was stopped.
    fn is_stopped_in_a_pause(&self) -> bool {
        self.paused && self.holds_lease && !self.has_processes && !self.standby_signal
    }

    /// Whether nothing about this node's data, and no person's wish, speaks against a lease.
    fn is_eligible(&self) -> bool {
        self.is_member
            && !self.is_witness
            && !self.half_rewound
            && !self.paused
            && !self.diverged_data_kept
            && !self.backing_off
            && !matches!(self.job, Some(Job::Rejoin { .. } | Job::HandOver { .. }))
    }

    /// A full disk is no sound one: it would take the place of nobody whose own is as full.
    fn is_sound_standby(&self) -> bool {
        self.is_eligible()
            && !self.disk_full
            && self.data_ready
            && !self.diverged
            && !self.bootstrap
            && matches!(self.state(), Some(ServerState::Standby { .. }))
    }

    /// Whether this is a standby of nobody, as far as is known here.
    fn is_leaderless(&self) -> bool {
        self.other_primary.is_none() && self.state() == Some(&ServerState::Standby { upstream: None })
    }

    /// Whether this node should have the lease if nobody else has.
    fn is_candidate(&self) -> bool {
        if !self.is_eligible() {
            return false;
        }
        if self.is_primary() {
            return self.bootstrap;
        }
        match self.state() {
            // What still streams has a primary. A standby with a full disk would refuse writes like the primary that it
            // takes the place of; it serves its readers as it is.
            Some(ServerState::Standby { upstream }) => {
                self.holds_lease || (upstream.is_none() && !self.disk_full)
            }
            Some(_) => false,
            None => {
                !self.has_processes
                    && !self.standby_signal
                    && self.data_ready
                    && self.stopped_at.is_some()
                    && self.other_primary.is_none()
            }
        }
    }

    /// What to do now.
    pub fn decide(&self) -> (Act, &'static str) {
        if self.is_witness {
            if self.paused {
                return (Act::Rest, WHY_PAUSED);
            }
            if !self.is_member {
                return (Act::Rest, "this node has no vote in the cluster");
            }
            if !self.has_processes && self.data_ready && self.job.is_none() {
                return (Act::Start, "the witness's PostgreSQL is not running");
            }
            return (Act::Rest, "the witness only votes");
        }
        let could_write = self.has_processes && (!self.is_proved_standby() || self.job == Some(Job::Promote));
        if could_write && !self.holds_lease && !self.bootstrap {
            return (Act::Fence, "PostgreSQL runs as a primary, and this node does not hold the lease");
        }
        if self.job.is_some() {
            return (Act::Rest, "a job is in progress");
        }
        if self.restarting {
            return (Act::Rest, "PostgreSQL is being restarted");
        }
        if self.paused {
            return (Act::Rest, WHY_PAUSED);
        }
        if !self.is_member {
            return (Act::Rest, "this node has no vote in the cluster");
        }
        if !self.data_ready {
            return (Act::Rest, "`cluster up` has not finished the data directory");
        }
        if self.half_rewound {
            return match self.other_primary {
                Some(primary) => {
                    (Act::Rejoin(primary), "a rewind was interrupted: a fresh clone replaces the data")
                }
                None => (Act::Rest, "a rewind was interrupted: waiting for a primary to clone from"),
            };
        }
        match (self.holds_lease, self.has_processes, self.standby_signal) {
            (true, false, false) => (Act::Start, "this node holds the lease"),
            (_, false, true) => (Act::Start, "a standby may start at any time"),
            (true, true, _) if matches!(self.state(), Some(ServerState::Standby { .. })) => {
                (Act::Promote, "this node holds the lease")
            }
            (true, _, _) => (Act::Rest, "this node holds the lease"),
            (false, false, false) if self.diverged_data_kept => (
                Act::Rest,
                "it took writes while another node was primary: its data is kept until `cluster rejoin`",
            ),
            (false, false, false) => match self.other_primary {
                Some(primary) => (Act::Rejoin(primary), "another node is primary"),
                None => (Act::Rest, WHY_LEADERLESS),
            },
            (false, true, _) => {
                match self.other_primary.filter(|_| self.diverged && !self.diverged_data_kept) {
                    Some(primary) => {
                        (Act::Rejoin(primary), "it has WAL that is not in the primary's history")
                    }
                    None if self.disk_full => (Act::Rest, "its disk is full: it would not take over"),
                    None if self.is_leaderless() => (Act::Rest, WHY_LEADERLESS),
                    None => (Act::Rest, "nothing to do"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standby() -> Observation {
        let position = Some(WalPosition { timeline: 1, lsn: 5 });
        Observation {
            now: 10_000,
            is_witness: false,
            is_member: true,
            data_ready: true,
            standby_signal: true,
            has_processes: true,
            control_state: Some(DbState::InArchiveRecovery),
            server_answered_primary: Some(false),
            server_answered_at: Some(9_900),
            started_as_standby: false,
            server: Some(ServerObservation {
                began: 9_800,
                at: 9_900,
                state: ServerState::Standby { upstream: None },
                position,
            }),
            stopped_at: None,
            last_position: position,
            holds_lease: false,
            bootstrap: false,
            job: None,
            job_since: 10_000,
            restarting: false,
            shutting_down: false,
            start_allowed: false,
            paused: false,
            diverged_data_kept: false,
            half_rewound: false,
            other_primary: None,
            diverged: false,
            backing_off: false,
            disk_full: false,
        }
    }

    fn primary() -> Observation {
        let mut observed = Observation {
            standby_signal: false,
            holds_lease: true,
            control_state: Some(DbState::InProduction),
            server_answered_primary: Some(true),
            ..standby()
        };
        observed.server.as_mut().unwrap().state = ServerState::Primary;
        observed
    }

    fn stopped() -> Observation {
        Observation {
            has_processes: false,
            server: None,
            server_answered_primary: None,
            server_answered_at: None,
            holds_lease: false,
            stopped_at: standby().server.unwrap().position,
            ..primary()
        }
    }

    #[test]
    fn a_start_that_was_allowed_keeps_the_lease_and_may_write_at_any_moment() {
        let state =
            |start_allowed| Observation { start_allowed, holds_lease: true, ..stopped() }.node_state();
        assert!(state(true).should_renew && !state(true).cannot_write);
        assert!(!state(false).should_renew && state(false).cannot_write);
        let without_lease = Observation { start_allowed: true, ..stopped() }.node_state();
        assert!(!without_lease.should_renew, "what may start holds no lease by that");
    }

    #[test]
    fn nothing_takes_writes_without_the_lease() {
        assert_eq!(primary().decide().0, Act::Rest);
        assert_eq!(Observation { holds_lease: false, ..primary() }.decide().0, Act::Fence);
        let silent = Observation { server: None, holds_lease: false, ..primary() };
        assert_eq!(silent.decide().0, Act::Fence, "what does not answer may still write");
        assert_eq!(
            Observation { holds_lease: false, bootstrap: true, ..primary() }.decide().0,
            Act::Rest,
            "the first of all"
        );
        assert_eq!(
            Observation { job: Some(Job::Promote), ..standby() }.decide().0,
            Act::Fence,
            "a promotion under way"
        );
        assert_eq!(standby().decide().0, Act::Rest);
        assert_eq!(Observation { holds_lease: true, ..standby() }.decide().0, Act::Promote);
    }

    #[test]
    fn a_file_proves_nothing_about_a_server_that_runs() {
        // `touch standby.signal` on a primary, however one looks at it.
        let planted = Observation { standby_signal: true, ..primary() };
        let silent = Observation { server: None, ..planted.clone() };
        let restarted = Observation { server_answered_primary: None, ..silent.clone() };
        let unreadable = Observation { control_state: None, ..planted.clone() };
        for observed in [&planted, &silent, &restarted, &unreadable] {
            assert!(!observed.node_state().cannot_write, "{observed:?}");
            assert!(observed.should_hold_address(), "{observed:?}");
            assert_eq!(
                Observation { holds_lease: false, ..observed.clone() }.decide().0,
                Act::Fence,
                "{observed:?}"
            );
        }
        // Nor does the control file alone, if somebody has put that of a standby there.
        let forged = Observation { control_state: Some(DbState::InArchiveRecovery), ..planted };
        assert_eq!(Observation { holds_lease: false, ..forged }.decide().0, Act::Fence);
        // A standby that answers nobody is one all the same.
        let silent = Observation { server: None, ..standby() };
        assert!(silent.node_state().cannot_write);
        assert_eq!(silent.decide().0, Act::Rest);
        // So is one that has only just begun, of whatever its directory was a copy.
        let begun = Observation {
            control_state: Some(DbState::InProduction),
            started_as_standby: true,
            server_answered_primary: None,
            server: None,
            ..standby()
        };
        assert_eq!(begun.decide().0, Act::Rest);
        assert_eq!(
            Observation { started_as_standby: false, ..begun }.decide().0,
            Act::Fence,
            "whose beginning nobody saw"
        );
        assert_eq!(
            Observation { standby_signal: false, ..standby() }.decide().0,
            Act::Fence,
            "it was promoted"
        );
    }

    #[test]
    fn what_shuts_down_in_order_keeps_its_lease_and_tells_what_it_had() {
        let busy = |observed: Observation| {
            let mut observed = Observation { now: 20_000, shutting_down: true, ..observed };
            observed.server = Some(ServerObservation {
                began: 19_900,
                at: 19_910,
                state: ServerState::Busy("shutting down".into()),
                position: None,
            });
            observed
        };
        let shutting_down = busy(primary()).node_state();
        assert!(shutting_down.should_renew && !shutting_down.cannot_write && !shutting_down.candidate);
        assert_eq!(shutting_down.position, primary().last_position, "what it last said");
        assert!(
            !busy(Observation { holds_lease: false, ..primary() }).node_state().should_renew,
            "without a lease there is none to keep"
        );
        let hands_over =
            Observation { job: Some(Job::HandOver { to: 2 }), server: None, now: 40_000, ..primary() };
        assert!(hands_over.node_state().should_renew && hands_over.node_state().position.is_some());
    }

    #[test]
    fn a_start_is_worth_a_lease_while_the_server_is_there_and_answers() {
        let starting =
            |observed: Observation| Observation { job: Some(Job::Start), holds_lease: true, ..observed };
        assert!(starting(stopped()).node_state().should_renew, "it has only begun");
        let later = Observation { now: 30_000, ..stopped() };
        assert!(!starting(later.clone()).node_state().should_renew, "nothing came of it");
        let replays = Observation { has_processes: true, server_answered_at: Some(29_000), ..later };
        assert!(starting(replays.clone()).node_state().should_renew, "crash recovery takes its time");
        assert!(
            !starting(Observation { server_answered_at: Some(20_000), ..replays }).node_state().should_renew,
            "it hangs"
        );
    }

    #[test]
    fn a_standby_that_has_diverged_rejoins() {
        let diverged = Observation { diverged: true, other_primary: Some(2), ..standby() };
        assert_eq!(diverged.decide().0, Act::Rejoin(2));
        assert!(!diverged.node_state().sound_standby);
        assert_eq!(Observation { other_primary: None, ..diverged.clone() }.decide().0, Act::Rest);
        assert_eq!(Observation { diverged_data_kept: true, ..diverged }.decide().0, Act::Rest);
    }

    #[test]
    fn a_node_that_was_taken_out_starts_nothing_and_writes_nothing() {
        let out = |observed: Observation| Observation { is_member: false, holds_lease: false, ..observed };
        assert_eq!(out(primary()).decide().0, Act::Fence);
        for observed in [standby(), stopped(), Observation { standby_signal: true, ..stopped() }] {
            assert_eq!(out(observed.clone()).decide().0, Act::Rest);
            assert!(
                !out(observed.clone()).node_state().candidate && !out(observed).node_state().sound_standby
            );
        }
    }

    #[test]
    fn the_address_belongs_to_the_holder_from_its_promotion_on() {
        assert!(primary().should_hold_address());
        assert!(!Observation { holds_lease: false, ..primary() }.should_hold_address());
        assert!(
            !Observation { holds_lease: true, ..standby() }.should_hold_address(),
            "nothing has been begun"
        );
        assert!(
            Observation { holds_lease: true, job: Some(Job::Promote), ..standby() }.should_hold_address()
        );
        assert!(
            Observation { server: None, ..primary() }.should_hold_address(),
            "promoted, and not observed since"
        );
        assert!(!Observation { holds_lease: true, ..stopped() }.should_hold_address(), "it has handed over");
    }

    #[test]
    fn what_was_primary_starts_with_the_lease_or_rejoins() {
        assert_eq!(stopped().decide().0, Act::Rest);
        assert_eq!(Observation { holds_lease: true, ..stopped() }.decide().0, Act::Start);
        assert_eq!(Observation { other_primary: Some(2), ..stopped() }.decide().0, Act::Rejoin(2));
        assert_eq!(Observation { other_primary: Some(2), paused: true, ..stopped() }.decide().0, Act::Rest);
        assert_eq!(Observation { standby_signal: true, ..stopped() }.decide().0, Act::Start);
        let kept = Observation { other_primary: Some(2), diverged_data_kept: true, ..stopped() };
        assert_eq!(kept.decide().0, Act::Rest, "what was written beside another primary is not rewound");
        assert!(
            !Observation { other_primary: None, ..kept }.node_state().candidate,
            "nor is it made primary by itself"
        );
    }

    #[test]
    fn a_pause_stops_what_helps_and_not_what_fences() {
        let paused = |observed: Observation| Observation { paused: true, ..observed };
        assert_eq!(paused(Observation { holds_lease: false, ..primary() }).decide().0, Act::Fence);
        assert_eq!(paused(Observation { job: Some(Job::Promote), ..standby() }).decide().0, Act::Fence);
        assert!(paused(primary()).node_state().should_renew, "a paused primary goes on");
        let stale = Observation { now: 12_000, ..primary() };
        assert!(!paused(stale).node_state().should_renew, "what hangs loses its lease, paused or not");
        for observed in [
            Observation { holds_lease: true, ..standby() },
            Observation { holds_lease: true, ..stopped() },
            Observation { other_primary: Some(2), ..stopped() },
            Observation { standby_signal: true, ..stopped() },
            Observation { is_witness: true, ..stopped() },
        ] {
            assert_ne!(observed.decide().0, Act::Rest);
            assert_eq!(paused(observed).decide().0, Act::Rest);
        }
        let by_hand = paused(Observation { holds_lease: true, ..stopped() });
        assert!(by_hand.node_state().should_renew, "a person may start it again");
        assert!(!paused(stopped()).node_state().should_renew && !paused(stopped()).node_state().candidate);
        assert!(
            !paused(Observation { holds_lease: true, ..standby() }).node_state().should_renew,
            "a standby that will not promote lets go"
        );
    }

    #[test]
    fn what_is_half_rewound_is_never_started() {
        for observed in [standby(), stopped(), Observation { standby_signal: true, ..stopped() }] {
            let half = Observation { half_rewound: true, ..observed };
            assert_eq!(half.decide().0, Act::Rest, "there is nobody to clone from");
            assert_eq!(Observation { other_primary: Some(2), ..half.clone() }.decide().0, Act::Rejoin(2));
            assert!(!half.node_state().candidate);
            assert_eq!(half.node_state().position, None, "what it has is no history");
        }
    }

    #[test]
    fn only_a_standby_without_a_primary_is_a_candidate() {
        assert!(standby().node_state().candidate);
        let mut streams = standby();
        streams.server.as_mut().unwrap().state = ServerState::Standby { upstream: Some("10.0.0.1".into()) };
        assert!(!streams.node_state().candidate);
        assert!(!standby().node_state().may_lead_first, "the first lease is the first primary's");
        assert!(primary().node_state().may_lead_first && stopped().node_state().may_lead_first);
        assert!(!Observation { paused: true, ..standby() }.node_state().candidate);
        assert!(!Observation { now: 20_000, ..standby() }.node_state().candidate, "seen too long ago");
        let full = Observation { disk_full: true, ..standby() };
        assert!(!full.node_state().candidate && !full.node_state().sound_standby, "it would refuse writes");
        assert!(
            Observation { disk_full: true, ..stopped() }.node_state().candidate,
            "what was primary comes back: nobody else may have more room"
        );
        assert!(
            Observation { disk_full: true, ..primary() }.node_state().should_renew,
            "a full disk is no failover"
        );
        assert!(stopped().node_state().candidate);
        assert!(
            !Observation { backing_off: true, ..stopped() }.node_state().candidate,
            "it has just crashed: the standby goes first"
        );
        assert!(!Observation { other_primary: Some(2), ..stopped() }.node_state().candidate);
    }

    #[test]
    fn a_lease_is_renewed_by_a_fresh_heartbeat_alone() {
        assert!(primary().node_state().should_renew);
        assert!(!Observation { now: 12_000, ..primary() }.node_state().should_renew);
        let crashed = Observation { has_processes: false, ..primary() };
        assert!(!crashed.node_state().should_renew);
        assert!(crashed.node_state().cannot_write);
        assert!(!primary().node_state().cannot_write);
        assert!(
            Observation { restarting: true, has_processes: false, ..primary() }.node_state().should_renew,
            "`cluster up` restarts it"
        );
    }
}
