//! The guard's core, led by hand: an input and a time in, effects out.

use cluster_contract::config::{Config, Failover, FloatingIp, Member};
use cluster_contract::request::Request;
use cluster_contract::timing::{DEFAULT_LAG_LIMIT_BYTES, DEFAULT_LEASE};
use cluster_contract::{Millis, WalPosition};
use cluster_node::control_file::{ControlFile, DbState};
use cluster_node::core::{Core, Effect, HostObservation, Input, JobFailure, Startup};
use cluster_node::decision::Job;
use cluster_node::lease::{HardState, Message};
use cluster_node::postgres::{ServerObservation, ServerState};
use cluster_node::store::{HeldLease, Pause};

const POSITION: WalPosition = WalPosition { timeline: 1, lsn: 1 << 24 };
const TICK: Millis = 250;

/// The guard of pg1, one of three voters: pg2 grants whatever it is asked for, and pg3 says nothing.
struct Guard {
    core: Core,
    host: HostObservation,
    /// What PostgreSQL answers, while it runs.
    state: ServerState,
    now: Millis,
}

impl Guard {
    /// PostgreSQL does not run; what it was last is said by the control file.
    fn of(was: DbState) -> Guard {
        Guard::of_lease(was, DEFAULT_LEASE)
    }

    fn config(lease_ms: Millis) -> Config {
        let member = |id: u32| Member {
            name: format!("pg{id}"),
            id,
            witness: id == 2,
            host: std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()).into(),
            droplet_id: None,
        };
        Config {
            cluster: "demo".into(),
            node: "pg1".into(),
            version: 15,
            port: 5432,
            generation: 1,
            members: vec![member(1), member(2), member(3)],
            observer: None,
            floating_ip: Some(FloatingIp {
                address: std::net::Ipv4Addr::new(198, 51, 100, 1).into(),
                api_url: "http://127.0.0.1:9".into(),
            }),
            failover: Failover { lease_ms, lag_limit_bytes: DEFAULT_LAG_LIMIT_BYTES },
        }
    }

    fn of_lease(was: DbState, lease_ms: Millis) -> Guard {
        let config = Guard::config(lease_ms);
        let host = HostObservation {
            has_processes: false,
            control_file: Some(ControlFile { state: was, checkpoint: POSITION }),
            standby_signal: was == DbState::InArchiveRecovery,
            data_ready: true,
            paused: None,
            diverged_data_kept: false,
            half_rewound: false,
            space: None,
        };
        let hard_state = HardState { term: 1, holder: Some(1), ..HardState::default() };
        let startup = Startup { config, hard_state, held_lease: None, disk_restored: false };
        let core = Core::new(startup, host.clone(), 1_000).unwrap();
        Guard { core, host, state: ServerState::Silent("no such file".into()), now: 1_000 }
    }

    /// A guard that is started where another was, with what that one held.
    fn resumed(held: HeldLease, before: &Guard) -> Guard {
        let mut guard = Guard::of(DbState::InProduction);
        let hard_state = HardState { term: held.term, holder: Some(1), ..HardState::default() };
        guard.host = HostObservation { has_processes: true, ..before.host.clone() };
        let startup = Startup {
            config: Guard::config(DEFAULT_LEASE),
            hard_state,
            held_lease: Some(held),
            disk_restored: false,
        };
        guard.now = before.now;
        guard.core = Core::new(startup, guard.host.clone(), guard.now).unwrap();
        guard
    }

    /// Hands the core an input, answers what it asks, and returns the jobs that it begins.
    fn takes(&mut self, input: Input) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.core.handle(self.now, &self.host, input) {
                match effect {
                    Effect::BeginJob(job) => jobs.push(job),
                    Effect::ObserveServer => {
                        let position = matches!(self.state, ServerState::Standby { .. }).then_some(POSITION);
                        inputs.push(Input::ServerObserved(ServerObservation {
                            began: self.now,
                            at: self.now,
                            state: self.state.clone(),
                            position,
                        }));
                    }
                    Effect::Send(2, Some(Message::PreVote { term, .. })) => {
                        let refusal = None;
                        let reply =
                            Message::PreVoteReply { term, refusal, highest_term: 0, sound_standby: false };
                        inputs.push(Input::Message(2, reply));
                    }
                    Effect::Send(2, Some(Message::RequestLease { term, asked_at, lease, .. })) => {
                        let refusal = None;
                        let reply =
                            Message::LeaseReply { term, asked_at, refusal, highest_term: term, lease };
                        inputs.push(Input::Message(2, reply));
                    }
                    _ => {}
                }
            }
        }
        jobs
    }

    /// pg2 takes writes, with a later term.
    fn hears_of_a_primary(&mut self) {
        let renewal = Message::RequestLease {
            term: 9,
            asked_at: self.now,
            position: POSITION,
            writable: true,
            lease: DEFAULT_LEASE,
            forced: false,
            claim_term: 9,
            generation: 1,
            confirmed_term: Some(9),
        };
        self.takes(Input::Message(2, renewal));
    }

    /// Lets time pass until a start begins.
    fn starts(&mut self) -> Millis {
        for _ in 0..400 {
            self.now += TICK;
            if self.takes(Input::Tick).contains(&Job::Start) {
                return self.now;
            }
        }
        panic!("nothing is started: {:?}", self.core.status(self.now));
    }

    fn start_fails(&mut self) -> Millis {
        self.takes(Input::JobEnded(Job::Start, Err("no space left on device".into())));
        self.now
    }
}

#[test]
fn where_nobody_else_wants_to_lead_a_start_that_failed_is_soon_tried_again() {
    let mut guard = Guard::of(DbState::InProduction);
    guard.starts();
    let failed = guard.start_fails();
    let again = guard.starts() - failed;
    assert!((10_000..14_000).contains(&again), "{again} ms");
}

#[test]
fn a_start_that_failed_lets_another_candidate_go_first() {
    let mut guard = Guard::of(DbState::InProduction);
    guard.starts();
    let failed = guard.start_fails();
    guard.now += 1_000;
    guard.takes(Input::Message(2, Message::PreVote { term: 9, position: POSITION, generation: 1 }));
    let again = guard.starts() - failed;
    assert!(again >= 20_000, "{again} ms");
}

#[test]
fn a_trouble_is_gone_when_its_cause_is() {
    let mut guard = Guard::of(DbState::InArchiveRecovery);
    guard.starts();
    guard.start_fails();
    let trouble = guard.core.status(guard.now).trouble;
    assert!(trouble.is_some_and(|it| it.contains("no space left on device")));
    // Somebody has made room, and has started it.
    guard.host.has_processes = true;
    guard.state = ServerState::Standby { upstream: Some("10.0.0.2".into()) };
    for _ in 0..20 {
        guard.now += TICK;
        guard.takes(Input::Tick);
    }
    assert_eq!(guard.core.status(guard.now).trouble, None);
}

#[test]
fn clones_that_fail_are_tried_less_and_less_often() {
    let mut guard = Guard::of(DbState::InProduction);
    guard.host.half_rewound = true;
    let rejoin = Job::Rejoin { of: 2, clone: false };
    let mut rejoins = |failure: Option<JobFailure>| {
        let failed = guard.now;
        if let Some(failure) = failure {
            guard.takes(Input::JobEnded(rejoin, Err(failure)));
        }
        for _ in 0..400 {
            guard.now += TICK;
            guard.hears_of_a_primary();
            if guard.takes(Input::Tick).contains(&rejoin) {
                return (guard.now - failed) / 1_000;
            }
        }
        panic!("nothing is rejoined: {:?}", guard.core.status(guard.now));
    };
    rejoins(None);
    let no_room = JobFailure { text: "no room".into(), cloning: true };
    let pauses = [10, 20, 40].map(|_| rejoins(Some(no_room.clone())));
    assert_eq!(pauses, [10, 20, 40]);
    assert_eq!(rejoins(Some("the primary does not answer".into())), 10, "that was no clone");
}

impl Guard {
    /// A primary that holds the lease and answers.
    fn primary() -> Guard {
        let mut guard = Guard::of(DbState::InProduction);
        guard.starts();
        guard.begins();
        guard.takes(Input::JobEnded(Job::Start, Ok("started".into())));
        guard.passes(2_000);
        assert!(guard.core.lease().holds(guard.now));
        guard
    }

    /// PostgreSQL begins, and takes writes at once.
    fn begins(&mut self) {
        (self.host.has_processes, self.state) = (true, ServerState::Primary);
        self.writes_down(DbState::InProduction);
    }

    /// It ends in order.
    fn ends(&mut self) {
        self.crashes();
        self.writes_down(DbState::ShutDown);
    }

    /// It ends with no word about it in its control file.
    fn crashes(&mut self) {
        (self.host.has_processes, self.state) = (false, ServerState::Silent("no such file".into()));
    }

    fn writes_down(&mut self, state: DbState) {
        self.host.control_file = Some(ControlFile { state, checkpoint: POSITION });
    }

    /// Lets time pass, and returns the jobs that begin with when they do.
    fn passes(&mut self, time: Millis) -> Vec<(Job, Millis)> {
        let (begun, mut jobs) = (self.now, Vec::new());
        while self.now < begun + time {
            self.now += TICK;
            jobs.extend(self.takes(Input::Tick).into_iter().map(|job| (job, self.now - begun)));
        }
        jobs
    }

    fn asks(&mut self, request: &Request) -> bool {
        self.core.answer_request(self.now, &self.host, request, false).0.allowed
    }

    fn holds(&self) -> bool {
        self.core.lease().holds(self.now)
    }
}

#[test]
fn a_restart_that_was_announced_keeps_the_lease_while_it_goes_on() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::Restart));
    // A long checkpoint: it answers, and lets nobody in. At its end it says nothing any more.
    guard.state = ServerState::Busy("it shuts down".into());
    assert!(guard.passes(20_000).is_empty() && guard.holds());
    guard.state = ServerState::Silent("no heartbeat within 3 s".into());
    assert!(guard.passes(15_000).is_empty() && guard.holds());
    // Whoever restarts it has something to do first.
    guard.ends();
    assert!(guard.passes(30_000).is_empty() && guard.holds());
    assert!(guard.asks(&Request::MayStart));
    // What systemd runs first comes and goes in the same unit.
    (guard.host.has_processes, guard.state) = (true, ServerState::Silent("no such file".into()));
    guard.passes(500);
    guard.ends();
    assert!(guard.passes(2_000).is_empty() && guard.holds());
    (guard.host.has_processes, guard.state) = (true, ServerState::Silent("no such file".into()));
    assert!(guard.passes(10_000).is_empty() && guard.holds());
    guard.state = ServerState::Busy("it starts".into());
    assert!(guard.passes(10_000).is_empty() && guard.holds());
    guard.begins();
    assert!(guard.passes(20_000).is_empty() && guard.holds());
    // It is through: what ends now has failed, and another may go first.
    guard.ends();
    guard.passes(1_000);
    assert!(!guard.holds());
}

#[test]
fn why_a_hand_over_failed_is_shown_when_postgresql_runs_here_again() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(1_000);
    guard.ends();
    let failed = Input::JobEnded(Job::HandOver { to: 3 }, Err("pg3 did not receive the end".into()));
    assert_eq!(guard.takes(failed), [Job::Start], "here, with the lease that it has");
    guard.begins();
    guard.takes(Input::JobEnded(Job::Start, Ok("started".into())));
    guard.passes(2_000);
    let status = guard.core.status(guard.now);
    assert!(status.leads() && status.job.is_none(), "{status:?}");
    let trouble = status.trouble.unwrap_or_default();
    assert!(trouble.contains("pg3 did not receive the end"), "{trouble}");
    guard.passes(30_000);
    assert_eq!(guard.core.status(guard.now).trouble, None, "nothing is wrong any more");
}

/// PostgreSQL was started by somebody, with the guard's leave, and takes writes.
fn just_started() -> Guard {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::Restart));
    guard.ends();
    guard.passes(500);
    assert!(guard.asks(&Request::MayStart));
    guard.begins();
    guard.passes(1_000);
    assert!(guard.holds());
    guard
}

#[test]
fn what_has_just_been_started_is_handed_over_all_the_same() {
    let mut guard = just_started();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(250);
    guard.ends();
    guard.passes(250);
    let ended = Input::JobEnded(Job::HandOver { to: 3 }, Ok("pg3 has everything".into()));
    assert_eq!(guard.takes(ended), [], "it is the other's to start");
    assert!(!guard.holds());
}

#[test]
fn what_ends_just_after_its_start_is_another_nodes() {
    let mut guard = just_started();
    guard.crashes();
    assert_eq!(guard.passes(500), [], "it would end again");
    assert!(!guard.holds());
}

#[test]
fn nothing_is_started_or_restarted_beside_a_hand_over() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(500);
    assert!(!guard.asks(&Request::Restart));
    guard.ends();
    assert!(!guard.asks(&Request::MayStart));
    let ended = Input::JobEnded(Job::HandOver { to: 3 }, Ok("pg3 has everything".into()));
    assert_eq!(guard.takes(ended), []);
    assert!(!guard.holds());
}

#[test]
fn a_person_who_starts_it_just_after_a_hand_over_is_refused() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(250);
    guard.ends();
    guard.passes(250);
    // What systemd runs before it starts is in the same unit, and may be there at this very moment.
    (guard.host.has_processes, guard.state) = (true, ServerState::Silent("no such file".into()));
    guard.takes(Input::JobEnded(Job::HandOver { to: 3 }, Ok("pg3 has everything".into())));
    assert!(!guard.asks(&Request::MayStart));
    guard.ends();
    assert_eq!(guard.passes(500), []);
    assert!(!guard.holds());
}

#[test]
fn a_server_that_is_killed_while_it_hands_over_is_another_nodes() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(250);
    guard.crashes();
    let failed = Input::JobEnded(Job::HandOver { to: 3 }, Err("PostgreSQL does not answer".into()));
    assert_eq!(guard.takes(failed), [], "it has crashed, and the other has everything");
    guard.passes(500);
    assert!(!guard.holds());
}

#[test]
fn a_restart_after_which_nothing_starts_is_the_guards_to_finish_and_soon_another_nodes() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::Restart));
    guard.passes(1_000);
    guard.ends();
    guard.passes(500);
    // Its start is asked for, and comes to nothing.
    assert!(guard.asks(&Request::MayStart));
    let jobs = guard.passes(12_000);
    assert_eq!(jobs.first().map(|(job, _)| *job), Some(Job::Start), "{jobs:?}");
    assert!(jobs[0].1 < 8_000 && guard.holds(), "{jobs:?}");
    guard.start_fails();
    guard.passes(1_000);
    assert!(!guard.holds(), "nothing but the announcement speaks for it");
    // It holds up no promotion later. This node follows another for a while, and is wanted again when that one has gone.
    guard.host.standby_signal = true;
    (guard.host.has_processes, guard.state) = (true, ServerState::Standby { upstream: None });
    guard.writes_down(DbState::InArchiveRecovery);
    let jobs = guard.passes(40_000);
    assert!(guard.holds() && jobs.iter().any(|(job, _)| *job == Job::Promote), "{jobs:?}");
}

#[test]
fn an_announcement_that_nothing_followed_holds_up_no_failover() {
    for later in [500, 40_000] {
        let mut guard = Guard::primary();
        assert!(guard.asks(&Request::Restart));
        guard.passes(later);
        // Killed: its control file still says that it takes writes.
        guard.crashes();
        assert_eq!(guard.passes(1_000), [], "after {later} ms");
        assert!(!guard.holds(), "after {later} ms");
    }
}

#[test]
fn a_recovery_keeps_the_lease_as_long_as_somebody_has_just_been_allowed_to_start_it() {
    let mut guard = Guard::primary();
    guard.host.paused = Some(Pause::default());
    guard.passes(500);
    guard.ends();
    guard.passes(5_000);
    assert!(guard.asks(&Request::MayStart) && guard.holds());
    guard.writes_down(DbState::InCrashRecovery);
    (guard.host.has_processes, guard.state) =
        (true, ServerState::Busy("the database system is starting up".into()));
    guard.passes(60_000);
    assert!(guard.holds());
    // What says nothing any more is not waited for.
    guard.state = ServerState::Silent("no answer within 3 s".into());
    guard.passes(3_000 + DEFAULT_LEASE);
    assert!(!guard.holds());
}

#[test]
fn a_server_that_neither_starts_nor_stops_for_ever_keeps_no_lease_for_ever() {
    let busy = || ServerState::Busy("the database system is shutting down".into());
    // It was allowed to start, and does not get there.
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::Restart));
    guard.ends();
    guard.passes(500);
    assert!(guard.asks(&Request::MayStart));
    (guard.host.has_processes, guard.state) = (true, busy());
    guard.passes(60_000);
    assert!(guard.holds());
    guard.passes(60_000 + 2 * DEFAULT_LEASE);
    assert!(!guard.holds());
    // It hangs in its shutdown, and the guard starts anew beside it.
    let before = Guard::primary();
    let (term, until) = (before.core.lease().held_term().unwrap(), before.core.lease().until().unwrap());
    for state in [busy(), ServerState::Silent("no answer within 3 s".into())] {
        let mut guard = Guard::resumed(HeldLease { term, until }, &before);
        guard.writes_down(DbState::ShuttingDown);
        guard.state = state;
        guard.passes(120_000 + 2 * DEFAULT_LEASE);
        assert!(!guard.holds(), "{:?}", guard.state);
    }
}

#[test]
fn what_the_postmaster_replays_after_a_crash_keeps_no_lease() {
    let mut guard = Guard::primary();
    guard.writes_down(DbState::InCrashRecovery);
    guard.state = ServerState::Busy("the database system is in recovery mode".into());
    guard.passes(2 * DEFAULT_LEASE);
    assert!(!guard.holds());
}

#[test]
fn a_guard_that_starts_anew_waits_for_what_starts_or_stops_as_the_last_one_did() {
    let mut before = Guard::primary();
    before.writes_down(DbState::InCrashRecovery);
    let (term, until) = (before.core.lease().held_term().unwrap(), before.core.lease().until().unwrap());
    let mut guard = Guard::resumed(HeldLease { term, until }, &before);
    guard.state = ServerState::Busy("the database system is starting up".into());
    guard.passes(60_000);
    assert!(guard.holds());
    guard.begins();
    guard.passes(2_000);
    assert!(guard.holds());
}

#[test]
fn a_rejoin_that_ended_well_ends_the_trouble_of_a_hand_over() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::HandOver { to: "pg3".into() }));
    guard.passes(1_000);
    guard.ends();
    guard.takes(Input::JobEnded(Job::HandOver { to: 3 }, Err("pg3 did not receive the end".into())));
    guard.takes(Input::JobEnded(Job::Start, Err("no space left on device".into())));
    let rejoin = Job::Rejoin { of: 2, clone: false };
    let begun = (0..60).any(|_| {
        guard.hears_of_a_primary();
        guard.passes(250).iter().any(|(job, _)| *job == rejoin)
    });
    assert!(begun, "{:?}", guard.core.status(guard.now));
    guard.takes(Input::JobEnded(rejoin, Ok("rewound".into())));
    assert_eq!(guard.core.status(guard.now).trouble, None);
}

#[test]
fn an_api_that_is_away_moves_no_address() {
    let mut guard = Guard::primary();
    guard.takes(Input::AddressMoved(Ok(true)));
    assert_eq!(guard.core.status(guard.now).has_address, Some(true));
    guard.takes(Input::AddressMoved(Err("connection refused".into())));
    let status = guard.core.status(guard.now);
    assert_eq!(status.has_address, Some(true));
    assert!(status.trouble.is_some_and(|it| it.contains("connection refused")));
}

#[test]
fn what_was_stopped_in_a_short_pause_is_started_again_here() {
    let mut guard = Guard::primary();
    guard.host.paused = Some(Pause::default());
    guard.passes(500);
    guard.ends();
    assert!(guard.passes(500).is_empty() && guard.holds());
    guard.host.paused = None;
    assert_eq!(guard.passes(1_000).first().map(|(job, _)| *job), Some(Job::Start));
    assert!(guard.holds(), "a person has stopped it, and nobody else need go first");
}

#[test]
fn an_announcement_that_nothing_follows_keeps_no_lease_for_a_server_that_hangs() {
    let mut guard = Guard::primary();
    assert!(guard.asks(&Request::Restart));
    guard.passes(10_000);
    guard.state = ServerState::Silent("no heartbeat within 3 s".into());
    guard.passes(20_000 + DEFAULT_LEASE);
    assert!(!guard.holds());
}

#[test]
fn a_lease_that_an_older_build_took_and_that_is_too_long_costs_no_guard() {
    let guard = Guard::of_lease(DbState::InProduction, 75_000);
    assert!(guard.core.lease().lease_length() < 50_000);
}
