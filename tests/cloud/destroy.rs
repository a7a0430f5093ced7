//! Teardown, and the proof of it.

use cluster_cloud::destroy::Memory;
use cluster_lab::api::fault::{Fault, Rule};
use serde_json::json;

use crate::bench::{Bench, KEY, pace, spec};

/// Three droplets, an address on the first, a key.
async fn cluster(bench: &Bench) -> Memory {
    bench.client.ensure_ssh_key("demo", KEY).await.unwrap();
    let ids = [bench.ready("pg1").await.id, bench.ready("pg2").await.id, bench.ready("pg3").await.id];
    let address = bench.client.ensure_reserved_ip("demo", &ids, ids[0], pace()).await.unwrap().value;
    bench.client.assign(address.ip, ids[0], pace()).await.unwrap();
    let droplets = ids.into_iter().zip(["pg1", "pg2", "pg3"].map(str::to_owned)).collect();
    Memory { addresses: vec![address.ip], droplets }
}

async fn tear_down(bench: &Bench, memory: &Memory) {
    let belongings = bench.client.belongings("demo", memory, pace()).await.unwrap();
    bench.client.destroy(&belongings, pace()).await.unwrap();
}

#[tokio::test]
async fn everything_of_the_cluster_goes_and_nothing_else() {
    let bench = Bench::new().await;
    let memory = cluster(&bench).await;
    let mut other = spec("web");
    other.cluster = "other".into();
    bench.client.ensure_droplet(&other, pace()).await.unwrap();
    bench.client.create_tag("cluster:demo2").await.unwrap();
    bench.raw("POST", "/v2/reserved_ips", json!({ "region": "fra1" })).await;

    let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    let (droplets, addresses, tags) =
        (belongings.droplets.len(), belongings.addresses.len(), belongings.tags.len());
    assert_eq!((droplets, addresses, tags, belongings.ssh_keys.len()), (3, 1, 2, 1));
    bench.client.destroy(&belongings, pace()).await.unwrap();
    assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty());

    let state = bench.lab.state();
    assert_eq!((state.droplets.len(), state.addresses.len(), state.keys.len()), (1, 1, 0));
    assert_eq!(state.tags.iter().collect::<Vec<_>>(), ["cluster:demo2", "cluster:other"]);
    assert_eq!(bench.machines.running().len(), 1);
    // Again: nothing to do, no error.
    bench.client.destroy(&belongings, pace()).await.unwrap();
}

#[tokio::test]
async fn teardown_survives_every_passing_fault() {
    for rule in [
        Rule::once("DELETE", "/v2/*", Fault::LoseReply).times(3),
        Rule::once("DELETE", "/v2/*", Fault::Status { code: 503, body: None }).times(3),
        Rule::once("DELETE", "/v2/*", Fault::Status { code: 409, body: None }).times(3),
        Rule::once("DELETE", "/v2/*", Fault::PendingEvent).times(4),
        Rule::once("DELETE", "/v2/*", Fault::RateLimit { retry_after: None }).times(3),
        Rule::once("POST", "/v2/reserved_ips/*/actions", Fault::LoseReply),
        Rule::once("POST", "/v2/reserved_ips/*/actions", Fault::Truncate),
        Rule::once("POST", "/v2/reserved_ips/*/actions", Fault::PendingEvent).times(4),
        Rule::once("POST", "/v2/reserved_ips/*/actions", Fault::Status { code: 422, body: None }),
        Rule {
            count: None,
            ..Rule::once("GET", "/v2/reserved_ips/*/actions/*", Fault::Status { code: 404, body: None })
        },
        // Just made, it is in the list and cannot be read: it is not gone.
        Rule::once("GET", "/v2/reserved_ips/*", Fault::Status { code: 404, body: None }).times(2),
    ] {
        let bench = Bench::new().await;
        let memory = cluster(&bench).await;
        bench.fault(rule.clone());
        tear_down(&bench, &memory).await;
        let state = bench.lab.state();
        assert!(state.addresses.is_empty() && state.droplets.is_empty() && state.keys.is_empty(), "{rule:?}");
        assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty(), "{rule:?}");
    }
}

#[tokio::test]
async fn a_first_delete_that_only_unassigns_is_followed_by_another() {
    let bench = Bench::new().await;
    let memory = cluster(&bench).await;
    bench.lab.set(|settings| settings.quirks.delete_only_unassigns = true);
    let ip = memory.addresses[0];
    // Somebody else, or an earlier run, has asked for the deletion without unassigning first.
    bench.client.delete_reserved_ip(ip).await.unwrap();
    bench.until("unassigned", |lab| lab.state().addresses[&ip].holder.is_none()).await;
    tear_down(&bench, &memory).await;
    assert!(bench.lab.state().addresses.is_empty());
}

#[tokio::test]
async fn an_address_whose_droplets_are_gone_is_still_found() {
    let bench = Bench::new().await;
    let memory = cluster(&bench).await;
    let ids: Vec<u64> = bench.lab.state().droplets.keys().copied().collect();
    bench.client.destroy_droplets(&ids, pace()).await.unwrap();
    // By its tag, with nothing remembered.
    let belongings = bench.client.belongings("demo", &Memory::default(), pace()).await.unwrap();
    assert_eq!(belongings.addresses.len(), 1);
    // By what is remembered, with no tag left.
    for tag in &belongings.tags {
        bench.client.delete_tag(tag).await.unwrap();
    }
    let belongings = bench.client.belongings("demo", &Memory::default(), pace()).await.unwrap();
    assert!(belongings.addresses.is_empty());
    let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    assert_eq!(belongings.addresses.len(), 1);
    tear_down(&bench, &memory).await;
    assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_that_is_not_ours_stays() {
    let bench = Bench::new().await;
    bench.client.create_ssh_key("laptop", KEY).await.unwrap();
    let memory = cluster(&bench).await;
    tear_down(&bench, &memory).await;
    assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty());
    assert_eq!(bench.lab.state().keys.len(), 1);
}

#[tokio::test]
async fn keys_that_other_machines_registered_for_the_cluster_go_too() {
    let bench = Bench::new().await;
    let memory = cluster(&bench).await;
    let key = |byte: char| KEY.replacen("IMnGVnuF", &format!("IMnGVnu{byte}"), 1);
    for (name, byte) in [("cluster:demo", 'A'), ("cluster:demo2", 'B'), ("laptop", 'C')] {
        bench.client.create_ssh_key(name, &key(byte)).await.unwrap();
    }
    let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    assert_eq!(belongings.ssh_keys.len(), 2);
    bench.client.destroy(&belongings, pace()).await.unwrap();
    assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty());
    let state = bench.lab.state();
    let left: Vec<&str> = state.keys.values().map(|key| key.name.as_str()).collect();
    assert_eq!(left, ["cluster:demo2", "laptop"]);
}

#[tokio::test]
async fn a_machine_that_cannot_be_destroyed_is_not_called_gone() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    bench.machines.fail("destroy");
    let hasty = cluster_cloud::Pace { deadline: crate::bench::millis(100), ..pace() };
    assert!(bench.client.destroy_droplets(&[id], hasty).await.is_err());
    bench.machines.heal();
    bench.client.destroy_droplets(&[id], pace()).await.unwrap();
}

#[tokio::test]
async fn what_has_lost_its_tag_is_found_by_its_id() {
    let bench = Bench::new().await;
    let memory = cluster(&bench).await;
    for tag in bench.lab.state().tags {
        bench.client.delete_tag(&tag).await.unwrap();
    }
    let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    assert_eq!((belongings.droplets.len(), belongings.addresses.len()), (3, 1));
    bench.client.destroy(&belongings, pace()).await.unwrap();
    assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty());
    assert!(bench.lab.state().droplets.is_empty() && bench.lab.state().addresses.is_empty());
}

#[tokio::test]
async fn what_somebody_may_have_taken_over_is_named_and_stays() {
    let bench = Bench::new().await;
    let mut memory = cluster(&bench).await;
    for tag in bench.lab.state().tags {
        bench.client.delete_tag(&tag).await.unwrap();
    }
    // One that had another name when it was made.
    *memory.droplets.values_mut().next().unwrap() = "pg9".into();
    let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    assert_eq!((belongings.droplets.len(), belongings.doubtful.len()), (2, 1));
    bench.client.destroy(&belongings, pace()).await.unwrap();
    let left = bench.client.belongings("demo", &memory, pace()).await.unwrap();
    assert!(!left.is_empty() && left.doubtful.len() == 1);
    assert_eq!(bench.lab.state().droplets.len(), 1);
}

#[tokio::test]
async fn what_does_not_go_holds_up_nothing_else() {
    for (method, path, droplets, addresses) in [
        ("DELETE", "/v2/droplets/400000001", 1, 0),
        ("POST", "/v2/reserved_ips/*/actions", 0, 1),
        ("DELETE", "/v2/reserved_ips/*", 0, 1),
    ] {
        let bench = Bench::new().await;
        let memory = cluster(&bench).await;
        let belongings = bench.client.belongings("demo", &memory, pace()).await.unwrap();
        let refused = Fault::Status { code: 403, body: None };
        bench.fault(Rule { count: None, ..Rule::once(method, path, refused) });
        let errors = bench.client.destroy(&belongings, pace()).await.unwrap_err();
        let state = bench.lab.state();
        assert_eq!(
            (state.droplets.len(), state.addresses.len(), errors.len()),
            (droplets, addresses, 1),
            "{path}"
        );
        // What leads to the rest is kept.
        assert!(!state.tags.is_empty() && !state.keys.is_empty(), "{path}");
        bench.heal();
        tear_down(&bench, &memory).await;
        assert!(bench.client.belongings("demo", &memory, pace()).await.unwrap().is_empty(), "{path}");
    }
}
