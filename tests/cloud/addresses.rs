//! The floating IP: one, ours, and where it should be.

use std::net::Ipv4Addr;

use cluster_cloud::model::ReservedIp;
use cluster_cloud::names::address_tag;
use cluster_cloud::{Error, Pace};
use cluster_lab::api::fault::{Fault, Rule};
use serde_json::json;

use crate::bench::{Bench, FAILOVER, client, config, hasty, millis, pace, policy, spec};

async fn ensure(bench: &Bench, preferred: u64) -> Result<ReservedIp, Error> {
    bench
        .client
        .ensure_reserved_ip("demo", &[preferred], preferred, pace())
        .await
        .map(|ensured| ensured.value)
}

/// An address that somebody reserved for a region, assigned to nothing.
async fn stray(bench: &Bench) -> Ipv4Addr {
    let (status, body) = bench.raw("POST", "/v2/reserved_ips", json!({ "region": "fra1" })).await;
    assert_eq!(status, 202);
    body["reserved_ip"]["ip"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_address_is_made_once_recorded_and_found_after() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let made = bench.client.ensure_reserved_ip("demo", &[one, two], one, pace()).await.unwrap();
    assert!(made.made);
    let ip = made.value.ip;
    assert_eq!(bench.client.assign(ip, one, pace()).await.unwrap().holder(), Some(one));
    for id in [one, two] {
        let droplet = bench.client.droplet(id).await.unwrap().unwrap();
        assert!(droplet.tags.contains(&address_tag("demo", ip)), "{:?}", droplet.tags);
    }
    let before = bench.lab.journal().len();
    let found = bench.client.ensure_reserved_ip("demo", &[one, two], one, pace()).await.unwrap();
    assert_eq!((found.made, found.value.ip), (false, ip));
    assert_eq!(bench.lab.journal().len(), before, "a look changes nothing");
    assert_eq!(bench.machines.routes().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_makes_one_address() {
    for fault in [
        Fault::LoseReply,
        Fault::Truncate,
        Fault::Drop,
        Fault::Delay { ms: 250 },
        Fault::Status { code: 500, body: None },
        Fault::PendingEvent,
        Fault::RateLimit { retry_after: None },
    ] {
        let bench = Bench::new().await;
        let id = bench.ready("pg1").await.id;
        bench.once("POST", "/v2/reserved_ips", fault.clone());
        let client = bench.client.clone().with_policy(hasty());
        let address = client.ensure_reserved_ip("demo", &[id], id, pace()).await.unwrap().value;
        bench.client.assign(address.ip, id, pace()).await.unwrap();
        assert_eq!(bench.lab.state().addresses.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_and_a_late_list_make_one_address() {
    let mut config = config();
    config.settings.times.address_listed = 60;
    config.settings.times.address_readable = 100;
    config.settings.times.assign = 100;
    let bench = Bench::with(config, Default::default()).await;
    let id = bench.ready("pg1").await.id;
    bench.once("POST", "/v2/reserved_ips", Fault::LoseReply);
    let address = ensure(&bench, id).await.unwrap();
    bench.client.assign(address.ip, id, pace()).await.unwrap();
    assert_eq!(bench.count("POST", "/v2/reserved_ips"), 1);
}

#[tokio::test]
async fn a_recorded_address_is_ours_even_if_nothing_has_it() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let ip = ensure(&bench, id).await.unwrap().ip;
    bench.client.assign(ip, id, pace()).await.unwrap();
    bench.raw("POST", &format!("/v2/reserved_ips/{ip}/actions"), json!({ "type": "unassign" })).await;
    bench.until("unassigned", |lab| lab.state().addresses[&ip].holder.is_none()).await;
    assert_eq!(ensure(&bench, id).await.unwrap().ip, ip);
    // Its droplets were deleted by hand; the tag alone still tells.
    bench.client.destroy_droplets(&[id], pace()).await.unwrap();
    let id = bench.ready("pg1").await.id;
    assert_eq!(ensure(&bench, id).await.unwrap().ip, ip);
    assert_eq!(bench.lab.state().addresses.len(), 1);
}

#[tokio::test]
async fn an_address_that_is_not_proven_ours_is_left_alone() {
    let bench = Bench::new().await;
    let mut other = spec("web");
    other.cluster = "other".into();
    let other = bench.client.ensure_droplet(&other, pace()).await.unwrap().value.id;
    bench.client.wait_droplet_ready(other, pace()).await.unwrap();
    let stray = stray(&bench).await;
    // Being assigned to a stranger: it may be ours, until it has settled.
    bench.lab.set(|settings| settings.times.assign = 80);
    let theirs = bench.client.create_reserved_ip(other).await.unwrap().ip;
    let id = bench.ready("pg1").await.id;
    let ours = ensure(&bench, id).await.unwrap().ip;
    assert!(ours != stray && ours != theirs);
    let state = bench.lab.state();
    assert_eq!((state.addresses[&stray].holder, state.addresses[&theirs].holder), (None, Some(other)));
}

#[tokio::test]
async fn an_address_on_its_way_to_us_is_waited_for() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    bench.lab.set(|settings| settings.times.assign = 80);
    let made = bench.client.create_reserved_ip(id).await.unwrap().ip;
    assert_eq!(ensure(&bench, id).await.unwrap().ip, made);
    assert_eq!(bench.count("POST", "/v2/reserved_ips"), 1);
}

#[tokio::test]
async fn two_candidates_are_an_error_with_both() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let first = bench.client.create_reserved_ip(one).await.unwrap().ip;
    let second = bench.client.create_reserved_ip(two).await.unwrap().ip;
    bench
        .until("assigned", |lab| lab.state().addresses.values().all(|address| address.holder.is_some()))
        .await;
    match ensure(&bench, one).await.unwrap_err() {
        Error::Ambiguous { addresses } => assert_eq!(addresses, [first, second]),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_recorded_address_that_a_stranger_has_is_not_taken_back() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let ip = ensure(&bench, id).await.unwrap().ip;
    bench.client.assign(ip, id, pace()).await.unwrap();
    let mut other = spec("web");
    other.cluster = "other".into();
    let other = bench.client.ensure_droplet(&other, pace()).await.unwrap().value.id;
    bench.client.wait_droplet_ready(other, pace()).await.unwrap();
    bench.client.assign(ip, other, pace()).await.unwrap();
    let error = ensure(&bench, id).await.unwrap_err();
    assert!(matches!(error, Error::Taken { droplet, .. } if droplet == other), "{error}");
}

#[tokio::test]
async fn a_record_of_an_address_that_is_gone_does_not_hinder() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let old = ensure(&bench, id).await.unwrap().ip;
    bench.client.release_address(old, pace()).await.unwrap();
    let (stray, new) = (stray(&bench).await, ensure(&bench, id).await);
    // The provider gave the old address to somebody else, unassigned: by the record it is ours.
    assert_eq!((stray, new.unwrap().ip), (old, old));
}

#[tokio::test]
async fn the_address_moves_in_one_step() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await, bench.ready("pg2").await);
    let ip = ensure(&bench, one.id).await.unwrap().ip;
    for to in [&one, &two, &two, &one] {
        let address = bench.client.assign(ip, to.id, pace()).await.unwrap();
        assert_eq!((address.holder(), address.locked), (Some(to.id), false));
        let anchor = bench.lab.state().droplets[&to.id].spec.anchor_ip;
        assert_eq!(bench.machines.routes()[&ip], anchor, "the API says so only when it is so");
    }
    assert_eq!(bench.count("POST", &format!("/v2/reserved_ips/{ip}/actions")), 2);
}

#[tokio::test]
async fn the_move_survives_every_passing_fault() {
    let actions = "/v2/reserved_ips/*/actions";
    let poll = "/v2/reserved_ips/*/actions/*";
    for rule in [
        Rule::once("POST", actions, Fault::LoseReply),
        Rule::once("POST", actions, Fault::Truncate),
        Rule::once("POST", actions, Fault::Drop).times(3),
        Rule::once("POST", actions, Fault::PendingEvent).times(5),
        Rule::once("POST", actions, Fault::Status { code: 500, body: None }).times(9),
        Rule::once("POST", actions, Fault::RateLimit { retry_after: None }).times(2),
        Rule::once("POST", actions, Fault::Delay { ms: 250 }),
        Rule { count: None, ..Rule::once("GET", poll, Fault::Status { code: 404, body: None }) },
        Rule::once("GET", poll, Fault::Drop).times(8),
        Rule::once("GET", "/v2/reserved_ips/*", Fault::Status { code: 404, body: None }).times(4),
        Rule::once("GET", "/v2/reserved_ips/*", Fault::Status { code: 502, body: None }).times(12),
    ] {
        let bench = Bench::new().await;
        let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
        let ip = ensure(&bench, one).await.unwrap().ip;
        bench.client.assign(ip, one, pace()).await.unwrap();
        bench.fault(rule.clone());
        let address = bench.client.clone().with_policy(hasty()).assign(ip, two, pace()).await.unwrap();
        assert_eq!(address.holder(), Some(two), "{rule:?}");
    }
}

#[tokio::test]
async fn the_move_survives_an_api_that_is_away_for_a_while() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let ip = ensure(&bench, one).await.unwrap().ip;
    bench.lab.faults(|faults| faults.away = true);
    let back = async {
        tokio::time::sleep(millis(300)).await;
        bench.heal();
    };
    let hook = client(&bench.url, FAILOVER).with_policy(policy());
    let (moved, ()) = tokio::join!(hook.assign(ip, two, pace()), back);
    assert_eq!(moved.unwrap().holder(), Some(two));
}

#[tokio::test]
async fn a_failed_action_is_tried_again() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let ip = ensure(&bench, one).await.unwrap().ip;
    bench.client.assign(ip, one, pace()).await.unwrap();
    bench.machines.fail("route");
    let healed = async {
        tokio::time::sleep(millis(100)).await;
        bench.machines.heal();
    };
    let (moved, ()) = tokio::join!(bench.client.assign(ip, two, pace()), healed);
    assert_eq!(moved.unwrap().holder(), Some(two));
}

#[tokio::test]
async fn an_impossible_move_is_refused_at_once() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let ip = ensure(&bench, one).await.unwrap().ip;
    bench.client.assign(ip, one, pace()).await.unwrap();
    assert!(bench.client.assign(ip, 7, pace()).await.unwrap_err().is_not_found());
    bench.client.create_reserved_ip(two).await.unwrap();
    let error = bench.client.assign(ip, two, pace()).await.unwrap_err();
    assert_eq!(error.status(), Some(422), "{error}");
    let nowhere = bench.client.assign(Ipv4Addr::new(10, 99, 3, 200), one, pace()).await.unwrap_err();
    assert!(matches!(nowhere, Error::Gone { .. }), "{nowhere}");
}

#[tokio::test]
async fn a_move_that_never_ends_is_given_up() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let ip = ensure(&bench, one).await.unwrap().ip;
    bench.client.assign(ip, one, pace()).await.unwrap();
    bench.lab.set(|settings| settings.times.assign = 60_000);
    let hasty = Pace { deadline: millis(80), ..pace() };
    let error = bench.client.assign(ip, two, hasty).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}
