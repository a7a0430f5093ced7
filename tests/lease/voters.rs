//! What voters grant, told by hand: after a start, to an heir, on the word of the provider.

use cluster_contract::timing::{DEFAULT_LEASE, Timing};
use cluster_contract::{Millis, Position, Report};
use cluster_node::lease::{Durable, Lease, Local, Message, Output, Refusal};

const START: Millis = 100_000;

fn timing() -> Timing {
    Timing::new(DEFAULT_LEASE, 1 << 20, 3).unwrap()
}

fn at(lsn: u64) -> Position {
    Position { timeline: 1, lsn }
}

fn guard(id: u32, durable: Durable) -> Lease {
    Lease::new(id, vec![1, 2, 3], timing(), durable, START)
}

fn held_by_one(released: bool) -> Durable {
    Durable {
        term: 7,
        holder: Some(1),
        released,
        heir: None,
        lease: Some(DEFAULT_LEASE),
        forced: false,
        held: None,
        report: Some(Report { term: 7, position: at(5_000) }),
    }
}

fn straw(output: &Output) -> Option<Refusal> {
    output
        .send
        .iter()
        .find_map(|(_, message)| match message {
            Message::Straw { refusal, .. } => Some(refusal.clone()),
            _ => None,
        })
        .expect("a canvass is answered")
}

fn canvassed(voter: &mut Lease, now: Millis, from: u32) -> Option<Refusal> {
    straw(&voter.receive(now, from, Message::Canvass { term: 8, position: at(5_000), generation: 0 }))
}

/// What was off with all others and could be started.
fn stopped_primary() -> Local {
    Local {
        position: Some(at(5_000)),
        candidate: true,
        renew: false,
        writable: false,
        gone: true,
        heir: None,
        sound: false,
        settled: false,
    }
}

#[test]
fn a_voter_that_starts_waits_for_the_node_that_let_go_last() {
    let mut voter = guard(3, held_by_one(true));
    assert!(matches!(canvassed(&mut voter, START, 2), Some(Refusal::Held { .. })));
    assert!(
        matches!(canvassed(&mut voter, START, 1), Some(Refusal::Held { by: None, .. })),
        "it listens first"
    );
    assert_eq!(canvassed(&mut voter, START + timing().listen, 1), None, "it has everything");
    assert_eq!(
        canvassed(&mut voter, START + timing().waits() + timing().preference, 2),
        None,
        "it stayed away"
    );
}

#[test]
fn an_heir_does_not_wait_for_a_voter_that_starts() {
    let mut voter = guard(3, Durable { heir: Some(2), ..held_by_one(true) });
    assert_eq!(canvassed(&mut voter, START, 2), None);
    let listened = START + timing().listen;
    assert!(matches!(canvassed(&mut voter, listened, 1), Some(Refusal::Promised { heir: 2 })));
}

#[test]
fn a_holder_that_was_off_with_all_others_asks_anew_and_gives_nothing_away() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START - 5_000, START);
    let mut said = Vec::new();
    for tick in 0..=timing().listen / 200 {
        said.extend(holder.tick(START + tick * 200, stopped_primary()).send);
    }
    assert!(said.iter().all(|(_, message)| !matches!(message, Message::Release { .. })), "{said:?}");
    assert!(said.iter().any(|(_, message)| matches!(message, Message::Canvass { term: 8, .. })), "{said:?}");
}

#[test]
fn a_holder_whose_postgresql_has_failed_lets_another_go_first() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START - 5_000, START);
    let mut said = Vec::new();
    for tick in 0..3 {
        let local = Local { candidate: false, ..stopped_primary() };
        said.extend(holder.tick(START + tick * 200, local).send);
    }
    assert!(said.iter().any(|(_, message)| matches!(message, Message::Release { term: 7, .. })), "{said:?}");
}

#[test]
fn a_holder_that_stops_for_another_names_it() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START + 5_000, START);
    let stops = Local { candidate: false, renew: true, gone: false, heir: Some(3), ..stopped_primary() };
    let said = holder.tick(START, stops).send;
    assert!(said.iter().all(|(_, message)| !matches!(message, Message::Release { .. })), "{said:?}");
    // PostgreSQL is gone: nobody but the heir may have the next term.
    let said = holder.tick(START + 200, Local { renew: false, gone: true, ..stops }).send;
    assert!(
        said.iter().any(|(_, message)| *message == Message::Release { term: 7, heir: Some(3), end: Some(at(5_000)) }),
        "{said:?}"
    );
    assert_eq!(holder.durable().heir, Some(3), "on disk, too");
    assert!(matches!(canvassed(&mut holder, START + 4_000, 2), Some(Refusal::Promised { heir: 3 })));
}

#[test]
fn a_guard_that_has_just_started_asks_again_when_the_others_have_not_understood() {
    let mut holder = guard(1, held_by_one(false));
    holder.resume(7, START + 200, START);
    let runs = Local { renew: true, writable: true, gone: false, candidate: false, ..stopped_primary() };
    let asks = |output: &Output| output.send.iter().filter(|it| matches!(it.1, Message::Ask { .. })).count();
    assert_eq!(asks(&holder.tick(START, runs)), 2);
    assert_eq!(asks(&holder.met(START + 5)), 2);
    assert_eq!(asks(&holder.met(START + 10_000)), 0, "that is the other one's start");
    holder.tick(START + 20, Local { renew: false, ..runs });
    assert_eq!(asks(&holder.met(START + 25)), 0, "a server that does not answer is not worth it");
}

#[test]
fn the_first_lease_of_a_new_cluster_is_granted_at_once() {
    let new = Durable { released: true, ..Durable::default() };
    assert_eq!(canvassed(&mut guard(3, new), START, 1), None);
    let unknown = canvassed(&mut guard(3, Durable::default()), START, 1);
    assert!(matches!(unknown, Some(Refusal::Held { by: None, .. })), "a disk that was lost has forgotten");
}

fn grants_one(voter: &mut Lease, now: Millis) {
    let ask = Message::Ask {
        term: 8,
        asked_at: now,
        position: at(5_000),
        writable: true,
        lease: DEFAULT_LEASE,
        forced: false,
        won: 0,
        generation: 0,
        confirmed: None,
    };
    voter.receive(now, 1, ask);
}

#[test]
fn a_host_that_the_provider_calls_off_is_not_waited_for() {
    let mut voter = guard(3, held_by_one(false));
    grants_one(&mut voter, START);
    assert_eq!(voter.silent_holder(START + 2_000), None, "one late renewal is nothing");
    let asked_at = START + 2_600;
    assert_eq!(voter.silent_holder(asked_at), Some(1));
    let canvass = Message::Canvass { term: 9, position: at(5_000), generation: 0 };
    assert!(straw(&voter.receive(asked_at, 2, canvass.clone())).is_some());
    assert!(voter.off(asked_at + 300, 1, asked_at).persist.is_some());
    assert_eq!(straw(&voter.receive(asked_at + 400, 2, canvass)), None);
}

#[test]
fn a_word_about_the_past_frees_nobody() {
    let mut voter = guard(3, held_by_one(false));
    grants_one(&mut voter, START);
    // Asked while it was off; it has booted and was granted the lease before the answer came.
    grants_one(&mut voter, START + 4_000);
    assert_eq!(voter.off(START + 5_000, 1, START + 3_000), Output::default());
    assert_eq!(voter.off(START + 5_000, 2, START + 4_500), Output::default(), "not the holder");
    let canvass = Message::Canvass { term: 9, position: at(5_000), generation: 0 };
    assert!(matches!(straw(&voter.receive(START + 5_100, 2, canvass)), Some(Refusal::Held { .. })));
}

#[test]
fn the_last_holder_knows_how_far_it_had_written() {
    assert_eq!(guard(1, held_by_one(true)).own_report(), Some(at(5_000)));
    assert_eq!(guard(2, held_by_one(true)).own_report(), None, "another node's");
    let since = Durable { term: 8, ..held_by_one(false) };
    assert_eq!(guard(1, since).own_report(), None, "it took no writes in its last term");
}

#[test]
fn a_holder_that_has_let_go_and_has_more_is_waited_for() {
    let mut voter = guard(3, held_by_one(false));
    // When it has listened for long enough.
    let granted = START + timing().listen;
    grants_one(&mut voter, granted);
    let released = granted + 1_000;
    voter.receive(released, 1, Message::Release { term: 8, heir: None, end: Some(at(6_000)) });
    let mut asks = |now, lsn| {
        straw(&voter.receive(now, 2, Message::Canvass { term: 9, position: at(lsn), generation: 0 }))
    };
    assert_eq!(asks(released + 10, 5_500), Some(Refusal::Lacks { bytes: 500 }), "within the limit, and yet");
    let stays_away = released + timing().stands_back + timing().patience;
    assert!(matches!(asks(stays_away - 10, 5_500), Some(Refusal::Lacks { .. })));
    assert_eq!(asks(stays_away, 5_500), None, "it did not come back");
    assert_eq!(asks(stays_away + 10, 6_000), None, "whoever has everything need not wait");
}
