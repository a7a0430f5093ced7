//! What voters grant, told by hand: after a start, to a successor, on the word of the provider.

use cluster_contract::timing::{DEFAULT_LEASE, Timing};
use cluster_contract::{HolderReport, Millis, Term, WalPosition};
use cluster_node::lease::force::CannotForce;
use cluster_node::lease::{HardState, Lease, Message, NodeState, Output, Refusal};

const START: Millis = 100_000;

fn timing() -> Timing {
    Timing::new(DEFAULT_LEASE, 1 << 20, 3).unwrap()
}

fn at(lsn: u64) -> WalPosition {
    WalPosition { timeline: 1, lsn }
}

fn guard(id: u32, hard_state: HardState) -> Lease {
    Lease::new(id, vec![1, 2, 3], timing(), hard_state, START)
}

fn held_by_one(released: bool) -> HardState {
    HardState {
        term: 7,
        holder: Some(1),
        released,
        successor: None,
        granted_for: Some(DEFAULT_LEASE),
        forced: false,
        last_held: None,
        report: Some(HolderReport { term: 7, position: at(5_000) }),
    }
}

fn refusal_of(output: &Output) -> Option<Refusal> {
    output
        .send
        .iter()
        .find_map(|(_, message)| match message {
            Message::PreVoteReply { refusal, .. } => Some(refusal.clone()),
            _ => None,
        })
        .expect("a pre-vote is answered")
}

fn pre_vote(voter: &mut Lease, now: Millis, from: u32) -> Option<Refusal> {
    pre_vote_for(8, voter, now, from)
}

fn pre_vote_for(term: Term, voter: &mut Lease, now: Millis, from: u32) -> Option<Refusal> {
    refusal_of(&voter.receive(now, from, Message::PreVote { term, position: at(5_000), generation: 0 }))
}

/// What was off with all others and could be started.
fn stopped_primary() -> NodeState {
    NodeState {
        position: Some(at(5_000)),
        candidate: true,
        should_renew: false,
        writable: false,
        cannot_write: true,
        successor: None,
        sound_standby: false,
        may_lead_first: true,
        stream_ended: false,
    }
}

fn running_primary() -> NodeState {
    NodeState {
        should_renew: true,
        writable: true,
        cannot_write: false,
        candidate: false,
        ..stopped_primary()
    }
}

#[test]
fn a_voter_that_starts_waits_for_the_node_that_let_go_last() {
    let mut voter = guard(3, held_by_one(true));
    assert!(matches!(pre_vote(&mut voter, START, 2), Some(Refusal::LeaseActive { .. })));
    assert!(
        matches!(pre_vote(&mut voter, START, 1), Some(Refusal::LeaseActive { by: None, .. })),
        "it listens first"
    );
    assert_eq!(pre_vote(&mut voter, START + timing().listen_window, 1), None, "it has everything");
    assert_eq!(
        pre_vote(&mut voter, START + timing().voter_wait() + timing().preference, 2),
        None,
        "it stayed away"
    );
}

#[test]
fn a_successor_does_not_wait_for_a_voter_that_starts() {
    let mut voter = guard(3, HardState { successor: Some(2), ..held_by_one(true) });
    assert_eq!(pre_vote(&mut voter, START, 2), None);
    let listened = START + timing().listen_window;
    assert!(matches!(
        pre_vote(&mut voter, listened, 1),
        Some(Refusal::ReservedForSuccessor { successor: 2 })
    ));
}

#[test]
fn a_holder_that_was_off_with_all_others_asks_anew_and_gives_nothing_away() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START - 5_000, START);
    let mut said = Vec::new();
    for tick in 0..=timing().listen_window / 200 {
        said.extend(holder.tick(START + tick * 200, stopped_primary()).send);
    }
    assert!(said.iter().all(|(_, message)| !matches!(message, Message::Release { .. })), "{said:?}");
    assert!(said.iter().any(|(_, message)| matches!(message, Message::PreVote { term: 8, .. })), "{said:?}");
}

#[test]
fn a_holder_whose_postgresql_has_failed_lets_another_go_first() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START - 5_000, START);
    let mut said = Vec::new();
    for tick in 0..3 {
        let node_state = NodeState { candidate: false, ..stopped_primary() };
        said.extend(holder.tick(START + tick * 200, node_state).send);
    }
    assert!(said.iter().any(|(_, message)| matches!(message, Message::Release { term: 7, .. })), "{said:?}");
}

#[test]
fn a_holder_that_stops_for_another_names_it() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START + 5_000, START);
    let stops = NodeState {
        candidate: false,
        should_renew: true,
        cannot_write: false,
        successor: Some(3),
        ..stopped_primary()
    };
    let said = holder.tick(START, stops).send;
    assert!(said.iter().all(|(_, message)| !matches!(message, Message::Release { .. })), "{said:?}");
    // PostgreSQL is gone: nobody but the successor may have the next term.
    let said = holder.tick(START + 200, NodeState { should_renew: false, cannot_write: true, ..stops }).send;
    assert!(
        said.iter()
            .any(|(_, message)| *message
                == Message::Release { term: 7, successor: Some(3), end: Some(at(5_000)) }),
        "{said:?}"
    );
    assert_eq!(holder.hard_state().successor, Some(3), "on disk, too");
    assert!(matches!(
        pre_vote(&mut holder, START + 4_000, 2),
        Some(Refusal::ReservedForSuccessor { successor: 3 })
    ));
}

#[test]
fn a_guard_that_has_just_started_asks_again_when_the_others_have_not_understood() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START + 200, START);
    let runs = running_primary();
    let asks = |output: &Output| {
        output.send.iter().filter(|it| matches!(it.1, Message::RequestLease { .. })).count()
    };
    assert_eq!(asks(&holder.tick(START, runs)), 2);
    assert_eq!(asks(&holder.peer_met(START + 5)), 2);
    assert_eq!(asks(&holder.peer_met(START + 10_000)), 0, "that is the other one's start");
    holder.tick(START + 20, NodeState { should_renew: false, ..runs });
    assert_eq!(asks(&holder.peer_met(START + 25)), 0, "a server that does not answer is not worth it");
}

#[test]
fn the_first_lease_of_a_new_cluster_is_granted_at_once() {
    let new = HardState { released: true, ..HardState::default() };
    let mut voter = guard(3, new);
    let mut wants = |now, term| pre_vote_for(term, &mut voter, now, 1);
    assert_eq!(wants(START, 1), None);
    // Who wants a later one has heard of the first: whoever asked for that may write for a lease, granted here or not.
    let waits = |refusal| matches!(refusal, Some(Refusal::LeaseActive { by: None, .. }));
    assert!(waits(wants(START + 100, 2)));
    let waited = START + 100 + timing().voter_wait();
    assert!(waits(wants(waited - 1, 3)));
    assert_eq!(wants(waited, 3), None, "the wait is not begun anew");
    let unknown = pre_vote(&mut guard(3, HardState::default()), START, 1);
    assert!(
        matches!(unknown, Some(Refusal::LeaseActive { by: None, .. })),
        "a disk that was lost has forgotten"
    );
}

#[test]
fn a_newcomer_that_has_heard_a_holder_once_does_not_wait_for_the_first_primary() {
    for hears in [true, false] {
        let mut newcomer = guard(3, HardState::default());
        if hears {
            let renewal = Message::RequestLease {
                term: 1,
                asked_at: START,
                position: at(5_000),
                writable: true,
                lease: DEFAULT_LEASE,
                forced: false,
                claim_term: 1,
                generation: 0,
                confirmed_term: Some(1),
            };
            newcomer.receive(START + 100, 1, renewal);
            assert_eq!(newcomer.hard_state().term, 0, "it abstains");
        }
        let later = START + timing().voter_wait();
        assert_eq!(pre_vote_for(2, &mut newcomer, later, 2).is_none(), hears);
    }
}

fn grants_one(voter: &mut Lease, now: Millis) {
    let request = Message::RequestLease {
        term: 8,
        asked_at: now,
        position: at(5_000),
        writable: true,
        lease: DEFAULT_LEASE,
        forced: false,
        claim_term: 0,
        generation: 0,
        confirmed_term: None,
    };
    voter.receive(now, 1, request);
}

#[test]
fn a_host_that_the_provider_calls_off_is_not_waited_for() {
    let mut voter = guard(3, held_by_one(false));
    grants_one(&mut voter, START);
    assert_eq!(voter.silent_holder(START + 2_000), None, "one late renewal is nothing");
    let asked_at = START + 2_600;
    assert_eq!(voter.silent_holder(asked_at), Some(1));
    let request = Message::PreVote { term: 9, position: at(5_000), generation: 0 };
    assert!(refusal_of(&voter.receive(asked_at, 2, request.clone())).is_some());
    assert!(voter.holder_is_off(asked_at + 300, 1, asked_at).persist.is_some());
    assert_eq!(refusal_of(&voter.receive(asked_at + 400, 2, request)), None);
}

#[test]
fn a_word_about_the_past_frees_nobody() {
    let mut voter = guard(3, held_by_one(false));
    grants_one(&mut voter, START);
    // Asked while it was off; it has booted and was granted the lease before the answer came.
    grants_one(&mut voter, START + 4_000);
    assert_eq!(voter.holder_is_off(START + 5_000, 1, START + 3_000), Output::default());
    assert_eq!(voter.holder_is_off(START + 5_000, 2, START + 4_500), Output::default(), "not the holder");
    let request = Message::PreVote { term: 9, position: at(5_000), generation: 0 };
    assert!(matches!(
        refusal_of(&voter.receive(START + 5_100, 2, request)),
        Some(Refusal::LeaseActive { .. })
    ));
}

#[test]
fn the_last_holder_knows_how_far_it_had_written() {
    let reported = held_by_one(true).report.unwrap().term;
    let own = HardState { last_held: Some(reported), ..held_by_one(true) };
    assert_eq!(guard(1, own.clone()).own_report(), Some(at(5_000)));
    assert_eq!(guard(2, held_by_one(true)).own_report(), None, "another node's");
    let in_vain = HardState { term: reported + 1, ..own.clone() };
    assert_eq!(guard(1, in_vain).own_report(), Some(at(5_000)), "it has asked for a term in vain since");
    let later = HolderReport { term: reported + 1, ..own.report.unwrap() };
    let since = HardState { report: Some(later), ..own };
    assert_eq!(guard(1, since).own_report(), None, "another has taken writes since");
}

#[test]
fn a_holder_that_has_let_go_and_has_more_is_waited_for() {
    let mut voter = guard(3, held_by_one(false));
    // When it has listened for long enough.
    let granted = START + timing().listen_window;
    grants_one(&mut voter, granted);
    let released = granted + 1_000;
    voter.receive(released, 1, Message::Release { term: 8, successor: None, end: Some(at(6_000)) });
    let mut asks = |now, lsn| {
        refusal_of(&voter.receive(now, 2, Message::PreVote { term: 9, position: at(lsn), generation: 0 }))
    };
    assert_eq!(
        asks(released + 10, 5_500),
        Some(Refusal::MissingWal { bytes: 500 }),
        "within the limit, and yet"
    );
    let stays_away = released + timing().crash_backoff + timing().reply_timeout;
    assert!(matches!(asks(stays_away - 10, 5_500), Some(Refusal::MissingWal { .. })));
    assert_eq!(asks(stays_away, 5_500), None, "it did not come back");
    assert_eq!(asks(stays_away + 10, 6_000), None, "whoever has everything need not wait");
}

#[test]
fn what_has_granted_nothing_yet_is_forced_no_sooner_than_another() {
    for hard_state in [HardState::default(), held_by_one(false)] {
        let mut lease = guard(3, hard_state.clone());
        lease.tick(START, NodeState { cannot_write: true, ..stopped_primary() });
        let refusal = lease.take_by_force(START + 9_000).err();
        assert!(
            matches!(refusal, Some(CannotForce::Refused(Refusal::LeaseActive { .. }))),
            "whoever holds may have renewed before this guard started: {refusal:?}, {hard_state:?}"
        );
        assert!(lease.take_by_force(START + 11_000).is_ok(), "{hard_state:?}");
    }
}

#[test]
fn what_one_voter_alone_has_heard_bars_nobody_who_leads_since() {
    // It took writes on a timeline of which nobody else has heard, and is a standby of another by now.
    let report = Some(HolderReport { term: 7, position: WalPosition { timeline: 2, lsn: 9_000 } });
    let answer = |confirmed_term| {
        let mut voter = guard(2, HardState { holder: Some(2), report, ..held_by_one(true) });
        let request = Message::RequestLease {
            term: 8,
            asked_at: START,
            position: at(8_000),
            writable: true,
            lease: DEFAULT_LEASE,
            forced: false,
            claim_term: 8,
            generation: 0,
            confirmed_term: Some(confirmed_term),
        };
        let output = voter.receive(START + 20_000, 1, request);
        output.send.into_iter().find_map(|(_, message)| match message {
            Message::LeaseReply { refusal, .. } => Some(refusal),
            _ => None,
        })
    };
    assert_eq!(answer(0), Some(Some(Refusal::StaleTimeline { needed: 2 })), "it may lack what was written");
    assert_eq!(answer(7), Some(Some(Refusal::StaleTimeline { needed: 2 })), "that was before");
    assert_eq!(answer(8), Some(None), "a majority stands behind it");
}

#[test]
fn a_holder_whose_very_term_was_given_to_another_takes_a_later_one() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START + 5_000, START);
    let runs = running_primary();
    let asks_for = |output: &Output| {
        output.send.iter().find_map(|(_, message)| match message {
            Message::RequestLease { term, .. } => Some(*term),
            _ => None,
        })
    };
    assert_eq!(asks_for(&holder.tick(START, runs)), Some(7));
    let refusal = Some(Refusal::StaleTerm);
    holder.receive(
        START + 10,
        3,
        Message::LeaseReply { term: 7, asked_at: START, refusal, highest_term: 7, lease: DEFAULT_LEASE },
    );
    let asked = asks_for(&holder.tick(START + 2_000, runs));
    assert!(asked.is_some_and(|term| term > 7), "its voter would refuse it for ever: {asked:?}");
}
