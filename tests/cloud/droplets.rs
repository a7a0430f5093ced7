//! Droplets and keys that are there, once.

use cluster_cloud::Error;
use cluster_cloud::droplet::Power;
use cluster_cloud::key::{fingerprint, is_ours};
use cluster_cloud::model::DropletStatus;
use cluster_cloud::names::cluster_tag;
use cluster_lab::api::fault::{Fault, Rule};
use proptest::prelude::*;
use serde_json::json;

use crate::bench::{Bench, KEY, config, hasty, millis, pace, spec};

#[tokio::test]
async fn a_droplet_is_made_once_and_found_after() {
    let bench = Bench::new().await;
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    assert!(made.made);
    let ready = bench.client.wait_droplet_ready(made.value.id, pace()).await.unwrap();
    assert_eq!(ready.tags, [cluster_tag("demo")]);
    assert!(ready.public_ipv4().is_some() && ready.private_ipv4().is_some());
    let found = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    assert_eq!((found.made, found.value.id), (false, ready.id));
    assert_eq!(bench.count("POST", "/v2/droplets"), 1);
}

#[tokio::test]
async fn the_same_name_in_another_cluster_is_another_droplet() {
    let bench = Bench::new().await;
    let ours = bench.ready("pg1").await;
    let mut other = spec("pg1");
    other.cluster = "other".into();
    let theirs = bench.client.ensure_droplet(&other, pace()).await.unwrap();
    assert!(theirs.made && theirs.value.id != ours.id);
}

#[tokio::test]
async fn a_lost_answer_makes_one_droplet() {
    for fault in [
        Fault::LoseReply,
        Fault::Truncate,
        Fault::Drop,
        Fault::Delay { ms: 250 },
        Fault::Status { code: 500, body: None },
        Fault::Status { code: 504, body: Some(json!("gateway timeout")) },
        Fault::Status { code: 409, body: None },
    ] {
        let bench = Bench::new().await;
        bench.once("POST", "/v2/droplets", fault.clone());
        let client = bench.client.clone().with_policy(hasty());
        let made = client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
        bench.client.wait_droplet_ready(made.value.id, pace()).await.unwrap();
        assert_eq!(bench.lab.state().droplets.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_list_that_lags_does_not_make_a_second_one() {
    let mut config = config();
    config.settings.times.droplet_listed = 100;
    config.settings.times.droplet_readable = 100;
    let bench = Bench::with(config, Default::default()).await;
    bench.once("POST", "/v2/droplets", Fault::LoseReply);
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    bench.client.wait_droplet_ready(made.value.id, pace()).await.unwrap();
    assert_eq!(bench.count("POST", "/v2/droplets"), 1);
}

#[tokio::test]
async fn a_provider_that_only_fails_is_given_up() {
    let bench = Bench::new().await;
    bench.fault(Rule {
        count: None,
        ..Rule::once("POST", "/v2/droplets", Fault::Status { code: 500, body: None })
    });
    let error = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap_err();
    assert!(matches!(error, Error::MaybeHappened { .. }), "{error}");
    assert_eq!(bench.count("POST", "/v2/droplets"), 3);
}

#[tokio::test]
async fn two_droplets_of_one_name_are_an_error_with_both() {
    let bench = Bench::new().await;
    let first = bench.client.create_droplet(&spec("pg1")).await.unwrap();
    let second = bench.client.create_droplet(&spec("pg1")).await.unwrap();
    tokio::time::sleep(millis(20)).await;
    match bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap_err() {
        Error::Duplicate { name, ids } => {
            assert_eq!((name.as_str(), ids), ("pg1", vec![first.id, second.id]))
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn active_without_addresses_is_not_ready() {
    let mut config = config();
    config.settings.times.network = 100;
    let bench = Bench::with(config, Default::default()).await;
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    bench.until("active", |lab| !lab.state().idle().is_empty()).await;
    let early = bench.client.droplet(made.value.id).await.unwrap().unwrap();
    assert_eq!((early.status, early.public_ipv4()), (DropletStatus::Active, None));
    bench.client.wait_droplet_ready(made.value.id, pace()).await.unwrap();
    let waits: Vec<String> = bench.notices.lock().unwrap().iter().map(ToString::to_string).collect();
    assert!(waits.iter().any(|wait| wait.contains("no public address yet")), "{waits:?}");
}

#[tokio::test]
async fn a_droplet_that_could_not_be_made_is_deleted_and_only_such_a_one() {
    let bench = Bench::new().await;
    bench.machines.fail("create");
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap().value;
    let error = bench.client.wait_droplet_ready(made.id, pace()).await.unwrap_err();
    assert!(matches!(error, Error::ActionFailed { .. }), "{error}");
    bench.machines.heal();
    let why = bench.lab.state().creation_failed(made.id).unwrap().to_owned();
    assert!(why.contains("create was told to fail"), "{why}");
    let other = bench.ready("pg2").await;
    for (cluster, name, id) in
        [("other", "pg1", made.id), ("demo", "pg3", made.id), ("demo", "pg2", other.id)]
    {
        let left = bench.client.destroy_failed_droplet(cluster, name, id, pace()).await.unwrap_err();
        assert!(matches!(left, Error::NotFailed { .. }), "{left}");
    }
    assert_eq!(bench.lab.state().droplets.len(), 2);
    bench.client.destroy_failed_droplet("demo", "pg1", made.id, pace()).await.unwrap();
    assert!(bench.ready("pg1").await.id > other.id);
}

#[tokio::test]
async fn a_droplet_that_is_accepted_and_never_made_is_replaced() {
    let bench = Bench::new().await;
    bench.once("POST", "/v2/droplets", Fault::FailCreate);
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap().value;
    let error = bench.client.wait_droplet_ready(made.id, pace()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("creating droplet {}: the provider's action", made.id)));
    assert!(bench.client.creation_failed(made.id).await.unwrap());
    bench.client.destroy_failed_droplet("demo", "pg1", made.id, pace()).await.unwrap();
    assert!(bench.ready("pg1").await.id > made.id);
    assert_eq!(bench.lab.state().droplets.len(), 1);
}

#[tokio::test]
async fn a_droplet_that_is_made_without_its_tag_is_named() {
    let bench = Bench::new().await;
    let body = json!({ "droplet": { "id": 77, "name": "pg1", "status": "new" } });
    bench.once("POST", "/v2/droplets", Fault::Status { code: 202, body: Some(body) });
    let error = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap_err();
    assert!(matches!(error, Error::Untagged { id: 77, .. }), "{error}");
}

#[tokio::test]
async fn a_create_that_is_answered_with_nothing_is_looked_for() {
    let bench = Bench::new().await;
    bench.once("POST", "/v2/droplets", Fault::Status { code: 202, body: Some(json!({})) });
    bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    assert_eq!(bench.lab.state().droplets.len(), 1);
}

#[tokio::test]
async fn a_region_that_has_run_out_is_named_with_a_way_on() {
    let bench = Bench::new().await;
    let mut nowhere = spec("pg1");
    nowhere.region = "nyc2".into();
    let error = bench.client.ensure_droplet(&nowhere, pace()).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("try another region or size"), "{error}");
    let mut rare = spec("pg1");
    (rare.region, rare.size) = ("ams3".into(), "so-2vcpu-16gb".into());
    let error = bench.client.ensure_droplet(&rare, pace()).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("available in: nyc1, fra1"), "{error}");
    assert!(bench.lab.state().droplets.is_empty());
}

#[tokio::test]
async fn power_is_told_by_the_droplet_where_the_action_is_never_known() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let unknown = Fault::Status { code: 404, body: None };
    bench.fault(Rule { count: None, ..Rule::once("GET", "/v2/droplets/*/actions/*", unknown) });
    for power in [Power::Off, Power::On] {
        bench.client.power(id, power, pace()).await.unwrap();
    }
}

#[tokio::test]
async fn a_droplet_that_is_off_gets_another_size_and_its_disk_never_shrinks() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let seen = async || {
        let droplet = bench.client.droplet(id).await.unwrap().unwrap();
        (droplet.size_slug, droplet.disk.unwrap())
    };
    let before = seen().await;
    assert_eq!(before, ("s-1vcpu-1gb".to_owned(), 25));
    let error = bench.client.resize(id, "s-1vcpu-2gb", None, pace()).await.unwrap_err();
    assert!(error.to_string().contains("must be powered off"), "{error}");
    bench.client.power(id, Power::Off, pace()).await.unwrap();
    for (size, disk, gib) in
        [("s-1vcpu-2gb", None, 25), ("s-1vcpu-2gb", Some(50), 50), ("s-1vcpu-2gb-amd", None, 50)]
    {
        // What was asked for is not asked for twice.
        for _ in 0..2 {
            bench.client.resize(id, size, disk, pace()).await.unwrap();
        }
        assert_eq!(seen().await, (size.to_owned(), gib));
    }
    let error = bench.client.resize(id, "s-1vcpu-1gb", None, pace()).await.unwrap_err();
    assert!(error.to_string().contains("can not decrease"), "{error}");
    bench.once("POST", "/v2/droplets/*/actions", Fault::LoseReply);
    bench.client.resize(id, "s-2vcpu-2gb", None, pace()).await.unwrap();
    assert_eq!(seen().await, ("s-2vcpu-2gb".to_owned(), 50));
    assert_eq!(bench.client.droplet(id).await.unwrap().unwrap().status, DropletStatus::Off);
}

#[tokio::test]
async fn a_droplet_is_renamed_once() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    for _ in 0..2 {
        bench.client.rename(id, "pg1.old", pace()).await.unwrap();
    }
    assert_eq!(bench.client.droplet(id).await.unwrap().unwrap().name, "pg1.old");
    assert_eq!(bench.count("POST", &format!("/v2/droplets/{id}/actions")), 1);
}

#[tokio::test]
async fn a_machine_that_cannot_be_made_is_an_error_and_can_be_cleared_away() {
    let bench = Bench::new().await;
    bench.machines.fail("create");
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    let error = bench.client.wait_droplet_ready(made.value.id, pace()).await.unwrap_err();
    assert!(matches!(error, Error::ActionFailed { .. }), "{error}");
    let (_, state) = bench.raw("GET", "/lab/state", json!(null)).await;
    assert!(state["troubles"][0].as_str().unwrap().contains("create was told to fail"), "{state}");
    bench.client.destroy_droplets(&[made.value.id], pace()).await.unwrap();
    assert!(bench.lab.state().droplets.is_empty());
}

#[tokio::test]
async fn a_droplet_that_never_was_is_gone_after_the_grace() {
    let bench = Bench::new().await;
    let error = bench.client.wait_droplet_ready(7, pace()).await.unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline_and_says_what_it_saw() {
    let bench = Bench::new().await;
    bench.lab.set(|settings| settings.times.create = 60_000);
    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    let hasty = cluster_cloud::Pace { deadline: millis(60), ..pace() };
    let error = bench.client.wait_droplet_ready(made.value.id, hasty).await.unwrap_err();
    assert!(error.to_string().ends_with("last seen: being created"), "{error}");
}

#[tokio::test]
async fn user_data_that_would_be_refused_is_not_sent() {
    let bench = Bench::new().await;
    for (data, complaint) in [
        ("x".repeat(65_537), "has 65537 bytes; the limit is 65536"),
        ("#cloud-config\n# caf\u{e9}".into(), "(line 2)"),
    ] {
        let mut spec = spec("pg1");
        spec.user_data = Some(data.into());
        let error = bench.client.ensure_droplet(&spec, pace()).await.unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
        assert!(!format!("{spec:?}").contains("cloud-config"));
    }
    assert!(bench.lab.journal().is_empty());
}

#[tokio::test]
async fn a_host_is_off_where_its_droplet_is_and_nothing_is_done_to_it() {
    let bench = Bench::new().await;
    let (ours, other) = (bench.ready("pg1").await, bench.ready("pg2").await);
    let address = ours.private_ipv4().unwrap().into();
    let is_off = async |id: u64| bench.client.droplet_is_off(id, address).await.unwrap();
    assert!(!is_off(ours.id).await, "it runs");
    for id in [ours.id, other.id] {
        bench.client.power(id, Power::Off, pace()).await.unwrap();
    }
    assert!(is_off(ours.id).await);
    assert!(!is_off(other.id).await, "another host's droplet is off");
    assert!(!is_off(ours.id + 1_000).await, "nobody knows it");
    bench.lab.set(|settings| settings.times.power = 60_000);
    let hasty = cluster_cloud::Pace { deadline: millis(60), ..pace() };
    bench.client.power(ours.id, Power::On, hasty).await.unwrap_err();
    assert!(!is_off(ours.id).await, "it is being switched on");
}

#[tokio::test]
async fn power_is_cut_and_restored() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    bench.fault(Rule::once("POST", "/v2/droplets/*/actions", Fault::PendingEvent).times(2));
    for (power, status) in [
        (Power::Off, DropletStatus::Off),
        (Power::Off, DropletStatus::Off),
        (Power::On, DropletStatus::Active),
        (Power::Shutdown, DropletStatus::Off),
    ] {
        bench.client.power(id, power, pace()).await.unwrap();
        assert_eq!(bench.client.droplet(id).await.unwrap().unwrap().status, status, "{power:?}");
    }
    bench.machines.fail("power_on");
    let error = bench.client.power(id, Power::On, pace()).await.unwrap_err();
    assert!(matches!(error, Error::ActionFailed { .. }), "{error}");
}

#[tokio::test]
async fn a_key_is_registered_once_and_known_as_ours() {
    let bench = Bench::new().await;
    bench.once("POST", "/v2/account/keys", Fault::LoseReply);
    let key = bench.client.ensure_ssh_key("demo", KEY).await.unwrap();
    assert!(key.made && is_ours("demo", &key.value));
    assert_eq!(Some(key.value.fingerprint.clone()), fingerprint(KEY));
    let again = bench.client.ensure_ssh_key("demo", KEY).await.unwrap();
    assert!(!again.made && is_ours("demo", &again.value));
    assert_eq!(bench.lab.state().keys.len(), 1);
    assert!(matches!(bench.client.ensure_ssh_key("demo", "rsa").await, Err(Error::PublicKey)));
}

#[tokio::test]
async fn a_key_that_somebody_else_registered_is_not_ours() {
    let bench = Bench::new().await;
    bench.client.create_ssh_key("laptop", KEY).await.unwrap();
    // As if it had been registered between our look and our request.
    bench.once(
        "GET",
        &format!("/v2/account/keys/{}", fingerprint(KEY).unwrap()),
        Fault::Status { code: 404, body: None },
    );
    let key = bench.client.ensure_ssh_key("demo", KEY).await.unwrap();
    assert!(!key.made && !is_ours("demo", &key.value));
    assert_eq!(bench.count("POST", "/v2/account/keys"), 2);
}

fn any_fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        Just(None),
        Just(Some(Fault::LoseReply)),
        Just(Some(Fault::Truncate)),
        Just(Some(Fault::Drop)),
        Just(Some(Fault::Status { code: 503, body: None })),
        Just(Some(Fault::RateLimit { retry_after: None })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever is lost on the way, and however late lists are: no name is there twice.
    #[test]
    fn no_sequence_of_faults_makes_two_droplets_of_one_name(
        steps in prop::collection::vec((0..3_usize, any_fault(), 0..2_u32), 1..8),
        listed in 0..25_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = config();
            config.settings.times.droplet_listed = listed;
            let bench = Bench::with(config, Default::default()).await;
            for (name, fault, after) in steps {
                if let Some(fault) = fault {
                    bench.fault(Rule::once("POST", "/v2/droplets", fault).after(after));
                }
                let _ = bench.client.ensure_droplet(&spec(&format!("pg{name}")), pace()).await;
            }
            let mut names: Vec<String> =
                bench.lab.state().droplets.values().map(|droplet| droplet.spec.name.clone()).collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{names:?}");
        });
    }
}
