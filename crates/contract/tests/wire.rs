//! The words that the programs exchange and keep on disk, as every build so far has written them. Types, variants and
//! fields may be renamed; what stands here between quotes may not (`docs/decisions/0012-contract.md`).

mod words;

use cluster_contract::config::{Config, Failover, FloatingIp, Member};
use cluster_contract::journal::{Event, Line, LostTransactions};
use cluster_contract::marker::{DataStage, Marker};
use cluster_contract::request::{Changed, Code, Request, Verdict};
use cluster_contract::status::{JobKind, Level, Server, Space, Status, WalKept};
use cluster_contract::{HolderReport, WalPosition};
use words::same;

#[test]
fn what_a_guard_is_asked() {
    same([
        (Request::Status, r#""status""#),
        (Request::MayStart, r#""may-start""#),
        (Request::MayPromote, r#""may-promote""#),
        (Request::Restart, r#""restart""#),
        (Request::TakeByForce, r#""take""#),
        (Request::Rejoin { clone: true }, r#"{"rejoin":{"clone":true}}"#),
        (Request::HandOver { to: "pg2".into() }, r#"{"hand-over":{"to":"pg2"}}"#),
    ]);
}

#[test]
fn what_a_guard_answers() {
    let no = Verdict { allowed: false, code: Code::Paused, why: "paused".into() };
    same([(no, r#"{"allowed":false,"code":"paused","why":"paused"}"#)]);
    same([(Changed { changed: true }, r#"{"changed":true}"#)]);
    same([
        (Code::Allowed, r#""allowed""#),
        (Code::NotRoot, r#""not-root""#),
        (Code::Paused, r#""paused""#),
        (Code::HoldsByForce, r#""forced""#),
        (Code::NotHolder, r#""not-holder""#),
        (Code::TakesWrites, r#""takes-writes""#),
        (Code::NoSuccessor, r#""no-such-node""#),
        (Code::Busy, r#""busy""#),
        (Code::NoData, r#""no-data""#),
        (Code::AlreadyStandby, r#""standby""#),
        (Code::HalfRewound, r#""half-rewound""#),
        (Code::PrimaryHeard, r#""primary-heard""#),
        (Code::NoPrimary, r#""no-primary""#),
        (Code::LeaseActive, r#""lease-held""#),
        (Code::NoPosition, r#""no-position""#),
        (Code::Refused, r#""refused""#),
        (Code::Unknown, r#""unknown""#),
    ]);
}

#[test]
fn what_a_guard_says_of_itself() {
    let status = Status {
        postgresql: Server::Primary,
        holder: Some("pg1".into()),
        holds: true,
        forced: true,
        lease_left: Some(6_500),
        lease_length: 9_000,
        term: 4,
        generation: Some(2),
        members: Some(vec!["pg1".into()]),
        position: Some(WalPosition { timeline: 1, lsn: 9 }),
        report: Some(HolderReport { term: 4, position: WalPosition { timeline: 1, lsn: 8 } }),
        diverged_data_kept: true,
        automatic_failover: true,
        paused: true,
        paused_since: Some("2026-01-02T03:04:05Z".into()),
        has_address: Some(true),
        job: Some(JobKind::HandOver),
        why: "why".into(),
        trouble: Some("trouble".into()),
        cannot_persist: Some("disk".into()),
        no_room: Some("room".into()),
        space: Some(Space {
            level: Level::Full,
            level_for: 5_000,
            path: "/w".into(),
            size: 9,
            free: 1,
            reserve: 2,
            full_below: 4,
            writes_again_at: 5,
            refuses_writes: true,
            trouble: Some("no".into()),
            wal: Some(WalKept { bytes: 7, unarchived: 3, idle_slots: [("slot".to_owned(), 6)].into() }),
        }),
        runs_old_program: true,
        silent_peers: [("pg3".to_owned(), 21_000)].into(),
        stray_standby_signal: true,
        last_action: Some("last".into()),
    };
    let text = concat!(
        r#"{"postgresql":"primary","holder":"pg1","holds":true,"forced":true,"holds_for":6500,"lease":9000,"term":4,"#,
        r#""generation":2,"members":["pg1"],"position":{"timeline":1,"lsn":9},"#,
        r#""report":{"term":4,"position":{"timeline":1,"lsn":8}},"kept":true,"failover":true,"paused":true,"#,
        r#""paused_since":"2026-01-02T03:04:05Z","has_address":true,"doing":"handover","why":"why","#,
        r#""trouble":"trouble","disk":"disk","room":"room","#,
        r#""space":{"level":"full","level_for":5000,"path":"/w","size":9,"free":1,"reserve":2,"full_below":4,"#,
        r#""writes_again_at":5,"refuses_writes":true,"trouble":"no","#,
        r#""wal":{"bytes":7,"unarchived":3,"idle_slots":{"slot":6}}},"outdated":true,"deaf_to":{"pg3":21000},"#,
        r#""stray_standby_signal":true,"last":"last"}"#
    );
    same([(status, text)]);
    same([(Server::Primary, r#""primary""#), (Server::Standby, r#""standby""#), (Server::Down, r#""down""#)]);
    same([
        (Level::Ample, r#""ample""#),
        (Level::Low, r#""low""#),
        (Level::Scarce, r#""scarce""#),
        (Level::Full, r#""full""#),
        (Level::Unknown, r#""unknown""#),
    ]);
    same([
        (JobKind::Start, r#""start""#),
        (JobKind::Promote, r#""promote""#),
        (JobKind::Rejoin, r#""rejoin""#),
        (JobKind::HandOver, r#""handover""#),
        (JobKind::Unknown, r#""unknown""#),
    ]);
}

#[test]
fn what_stands_in_the_journal() {
    let lost = LostTransactions {
        timeline: 1,
        from: "0/1".into(),
        to: "0/2".into(),
        transactions: 3,
        wal: "/x".into(),
        node: "pg1".into(),
    };
    let job = Some(JobKind::Promote);
    let about = Some("pg1".to_owned());
    same([
        (Event::Started, r#"{"what":"started"}"#),
        (Event::LeaseResumed { term: 1 }, r#"{"what":"holds","term":1}"#),
        (Event::LeaseRequested { term: 1 }, r#"{"what":"asked","term":1}"#),
        (Event::Granted { term: 1, to: about.clone() }, r#"{"what":"granted","term":1,"to":"pg1"}"#),
        (Event::LeaseWon { term: 1 }, r#"{"what":"won","term":1}"#),
        (Event::TermRaised { term: 1 }, r#"{"what":"raised","term":1}"#),
        (Event::NoMajority { term: 1 }, r#"{"what":"gave_up","term":1}"#),
        (Event::LeaseExpired { term: 1 }, r#"{"what":"expired","term":1}"#),
        (Event::Superseded { term: 1 }, r#"{"what":"superseded","term":1}"#),
        (Event::TakenByForce { term: 1 }, r#"{"what":"forced","term":1}"#),
        (Event::ForceConfirmed { term: 1 }, r#"{"what":"confirmed","term":1}"#),
        (Event::Yielded, r#"{"what":"yielded"}"#),
        (Event::LeaseReleased { term: 1 }, r#"{"what":"released","term":1}"#),
        (Event::Refused, r#"{"what":"refused"}"#),
        (Event::JobBegun { job }, r#"{"what":"begun","job":"promote"}"#),
        (Event::JobDone { job }, r#"{"what":"done","job":"promote"}"#),
        (Event::JobFailed { job }, r#"{"what":"failed","job":"promote"}"#),
        (
            Event::ServerChanged { server: Some(Server::Standby) },
            r#"{"what":"postgresql","server":"standby"}"#,
        ),
        (Event::ServerEnded, r#"{"what":"ended"}"#),
        (Event::Fenced, r#"{"what":"fenced"}"#),
        (Event::FenceFailed, r#"{"what":"fence_failed"}"#),
        (Event::PrimarySilent { about: about.clone() }, r#"{"what":"silent","about":"pg1"}"#),
        (Event::PrimaryHeard { about: about.clone() }, r#"{"what":"heard","about":"pg1"}"#),
        (Event::HostOff { about }, r#"{"what":"off","about":"pg1"}"#),
        (Event::AddressMoved, r#"{"what":"address"}"#),
        (Event::Diverged, r#"{"what":"diverged"}"#),
        (Event::DivergedDataKept, r#"{"what":"kept"}"#),
        (
            Event::TransactionsLost { lost: lost.clone() },
            concat!(
                r#"{"what":"lost","lost":{"timeline":1,"from":"0/1","to":"0/2","transactions":3,"wal":"/x","#,
                r#""node":"pg1"}}"#
            ),
        ),
        (Event::Cloned, r#"{"what":"cloned"}"#),
        (Event::PromotionProgress, r#"{"what":"promoting"}"#),
        (Event::ReadersEnded, r#"{"what":"readers"}"#),
        (Event::PackageWait, r#"{"what":"waits"}"#),
        (Event::PackageWaitGivenUp, r#"{"what":"waited"}"#),
        (Event::Room { level: Level::Scarce }, r#"{"what":"room","level":"scarce"}"#),
        (Event::Reserve, r#"{"what":"reserve"}"#),
        (Event::WritesRefused { refused: true }, r#"{"what":"writes_refused","refused":true}"#),
        (Event::Repaired, r#"{"what":"mended"}"#),
        (Event::Trouble, r#"{"what":"trouble"}"#),
        (Event::Paused, r#"{"what":"paused"}"#),
        (Event::Resumed, r#"{"what":"resumed"}"#),
        (Event::Unknown, r#"{"what":"unknown"}"#),
    ]);
    let line = Line {
        at: "2026-01-02T03:04:05Z".into(),
        clock: 7,
        event: Event::PrimarySilent { about: None },
        text: "so".into(),
        since: Some("2026-01-02T03:04:01Z".into()),
    };
    let text = concat!(
        r#"{"at":"2026-01-02T03:04:05Z","clock":7,"what":"silent","about":null,"text":"so","#,
        r#""since":"2026-01-02T03:04:01Z"}"#
    );
    same([(line, text)]);
    let text = r#"{"timeline":1,"from":"0/1","to":"0/2","transactions":3,"wal":"/x","node":"pg1"}"#;
    same([(lost, text)]);
}

#[test]
fn what_a_node_is_configured_with() {
    let member = |name: &str, id, witness| Member {
        name: name.into(),
        id,
        witness,
        host: [10, 0, 0, 1].into(),
        droplet_id: Some(7),
    };
    let config = Config {
        cluster: "demo".into(),
        node: "pg2".into(),
        version: 15,
        port: 5432,
        generation: 3,
        members: vec![member("pg1", 1, false)],
        observer: Some(member("pg2", 2, true)),
        floating_ip: Some(FloatingIp { address: [10, 0, 3, 1].into(), api_url: "http://127.0.0.1:1".into() }),
        failover: Failover { lease_ms: 9_000, lag_limit_bytes: 16 << 20 },
    };
    let text = concat!(
        r#"{"cluster":"demo","node":"pg2","version":15,"port":5432,"generation":3,"#,
        r#""nodes":[{"name":"pg1","id":1,"witness":false,"host":"10.0.0.1","droplet_id":7}],"#,
        r#""observer":{"name":"pg2","id":2,"witness":true,"host":"10.0.0.1","droplet_id":7},"#,
        r#""floating_ip":{"address":"10.0.3.1","api_url":"http://127.0.0.1:1"},"#,
        r#""failover":{"lease_ms":9000,"lag_limit":16777216}}"#
    );
    same([(config, text)]);
}

#[test]
fn what_a_data_directory_is_marked_with() {
    let marked = |stage| Marker { cluster: "demo".into(), stage, system_identifier: None };
    same([
        (marked(DataStage::Creating), r#"{"cluster":"demo","made":"creating"}"#),
        (marked(DataStage::Initialized), r#"{"cluster":"demo","made":"virgin"}"#),
        (marked(DataStage::Primary), r#"{"cluster":"demo","made":"primary"}"#),
        (marked(DataStage::Witness), r#"{"cluster":"demo","made":"witness"}"#),
        (marked(DataStage::Cloning), r#"{"cluster":"demo","made":"cloning"}"#),
        (marked(DataStage::Standby), r#"{"cluster":"demo","made":"standby"}"#),
    ]);
    let known = Marker { system_identifier: Some("77".into()), ..marked(DataStage::Primary) };
    same([(known, r#"{"cluster":"demo","made":"primary","system_identifier":"77"}"#)]);
    let words: Vec<&str> = DataStage::ALL.iter().map(|stage| stage.word()).collect();
    assert_eq!(words, ["creating", "virgin", "primary", "witness", "cloning", "standby"]);
}
