//! What guards say to each other and keep on disk, in the words of every build so far: two builds talk to each other
//! while `cluster up` runs. Types, variants and fields may be renamed; what stands here between quotes may not.

#[path = "../../contract/tests/words/mod.rs"]
mod words;

use cluster_contract::{HolderReport, WalPosition};
use cluster_node::lease::{HardState, Message, Refusal};
use cluster_node::store::{HardStateVersion, HeldLease, Pause};
use words::same;

const POSITION: WalPosition = WalPosition { timeline: 1, lsn: 5_000 };

#[test]
fn messages() {
    same([
        (
            Message::PreVote { term: 8, position: POSITION, generation: 2 },
            r#"{"canvass":{"term":8,"position":{"timeline":1,"lsn":5000},"generation":2}}"#,
        ),
        (
            Message::PreVoteReply { term: 8, refusal: None, highest_term: 7, sound_standby: true },
            r#"{"straw":{"term":8,"refusal":null,"known":7,"sound":true}}"#,
        ),
        (
            Message::RequestLease {
                term: 8,
                asked_at: 100,
                position: POSITION,
                writable: true,
                lease: 9_000,
                forced: true,
                claim_term: 6,
                generation: 2,
                confirmed_term: Some(7),
            },
            concat!(
                r#"{"ask":{"term":8,"asked_at":100,"position":{"timeline":1,"lsn":5000},"writable":true,"#,
                r#""lease":9000,"forced":true,"won":6,"generation":2,"confirmed":7}}"#
            ),
        ),
        (
            Message::LeaseReply {
                term: 8,
                asked_at: 100,
                refusal: Some(Refusal::StaleTerm),
                highest_term: 9,
                lease: 9_000,
            },
            r#"{"answer":{"term":8,"asked_at":100,"refusal":"past","known":9,"lease":9000}}"#,
        ),
        (
            Message::Release { term: 8, successor: Some(2), end: Some(POSITION) },
            r#"{"release":{"term":8,"heir":2,"end":{"timeline":1,"lsn":5000}}}"#,
        ),
    ]);
}

#[test]
fn refusals() {
    same([
        (Refusal::NotMember, r#""stranger""#),
        (Refusal::StaleConfiguration { generation: 2 }, r#"{"old_members":{"known":2}}"#),
        (Refusal::CannotPersist, r#""no_memory""#),
        (Refusal::InspectingOwnWal, r#""looking""#),
        (Refusal::StaleTerm, r#""past""#),
        (Refusal::LeaseActive { by: Some(1), millis: 500 }, r#"{"held":{"by":1,"millis":500}}"#),
        (Refusal::ReservedForSuccessor { successor: 2 }, r#"{"promised":{"heir":2}}"#),
        (Refusal::BehindLagLimit { bytes: 5, limit_bytes: 4 }, r#"{"lags":{"bytes":5,"limit":4}}"#),
        (Refusal::MissingWal { bytes: 5 }, r#"{"lacks":{"bytes":5}}"#),
        (Refusal::StaleTimeline { needed: 2 }, r#"{"old_timeline":{"needed":2}}"#),
        (Refusal::BetterCandidate { node: 2 }, r#"{"better":{"node":2}}"#),
    ]);
}

/// A guard of before there was one of these fields is understood.
#[test]
fn messages_of_earlier_builds() {
    let read = |text: &str| serde_json::from_str::<Message>(text).unwrap();
    let position = r#""position":{"timeline":1,"lsn":5000}"#;
    assert_eq!(
        read(&format!(r#"{{"canvass":{{"term":8,{position}}}}}"#)),
        Message::PreVote { term: 8, position: POSITION, generation: 0 }
    );
    assert_eq!(
        read(r#"{"straw":{"term":8,"refusal":"looking","known":7}}"#),
        Message::PreVoteReply {
            term: 8,
            refusal: Some(Refusal::InspectingOwnWal),
            highest_term: 7,
            sound_standby: false
        }
    );
    assert_eq!(
        read(&format!(r#"{{"ask":{{"term":8,"asked_at":100,{position},"writable":false}}}}"#)),
        Message::RequestLease {
            term: 8,
            asked_at: 100,
            position: POSITION,
            writable: false,
            lease: 9_000,
            forced: false,
            claim_term: 0,
            generation: 0,
            confirmed_term: None,
        }
    );
    assert_eq!(
        read(r#"{"answer":{"term":8,"asked_at":100,"refusal":null,"known":8}}"#),
        Message::LeaseReply { term: 8, asked_at: 100, refusal: None, highest_term: 8, lease: 9_000 }
    );
    assert_eq!(
        read(r#"{"release":{"term":8,"heir":null}}"#),
        Message::Release { term: 8, successor: None, end: None }
    );
}

#[test]
fn what_is_on_disk() {
    let hard_state = HardState {
        term: 7,
        holder: Some(1),
        released: true,
        successor: Some(2),
        granted_for: Some(9_000),
        forced: false,
        last_held: Some(6),
        report: Some(HolderReport { term: 7, position: POSITION }),
    };
    // The order counts as well: the checksum beside it is of this text.
    let text = concat!(
        r#"{"term":7,"holder":1,"released":true,"heir":2,"lease":9000,"forced":false,"held":6,"#,
        r#""report":{"term":7,"position":{"timeline":1,"lsn":5000}}}"#
    );
    same([(hard_state, text)]);
    let first = HardState { term: 7, holder: Some(1), ..HardState::default() };
    assert_eq!(serde_json::from_str::<HardState>(r#"{"term":7,"holder":1,"report":null}"#).unwrap(), first);

    same([(HeldLease { term: 7, until: 12_000 }, r#"{"term":7,"until":12000}"#)]);
    same([(HardStateVersion { file: "ab".into(), sequence: 4 }, r#"{"file":"ab","sequence":4}"#)]);
    same([(Pause { since: Some("2026-01-02T03:04:05Z".into()) }, r#"{"since":"2026-01-02T03:04:05Z"}"#)]);
}
