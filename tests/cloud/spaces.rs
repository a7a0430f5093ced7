//! The client's way to a bucket and a key that opens nothing else.

use std::time::{Duration, Instant};

use cluster_cloud::model::{Grant, NewSpacesKey};
use cluster_cloud::spaces::{Bucket, Place};
use cluster_cloud::{Client, Error, Pace};
use cluster_lab::api::fault::{Fault, Rule};
use cluster_lab::api::spaces_fault::{Away, SpacesFault};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::bench::{FAILOVER, brittle, everything, pace, policy};
use crate::buckets::Stand;
use crate::interrupted::{at_every_request, die, dying};

const REPOSITORY: &str = "cluster-repository-demo";
const TEMPORARY: &str = "cluster-temporary-demo";

async fn make(client: &Client, place: &Place, pace: Pace) -> Result<NewSpacesKey, Error> {
    client.make_repository("demo", place, pace).await
}

/// The names of the account's keys.
fn names(stand: &Stand) -> Vec<String> {
    stand.bench.lab.state().spaces_keys.values().map(|key| key.name.clone()).collect()
}

fn bucket(place: &Place) -> Bucket {
    Bucket::new(place).unwrap().with_policy(policy())
}

#[tokio::test]
async fn a_keys_secret_is_told_once() {
    let stand = Stand::new().await;
    let bench = &stand.bench;
    let made = bench.client.create_spaces_key("one", &[Grant::read_write("demo")]).await.unwrap();
    bench.client.create_spaces_key("two", &[Grant::full()]).await.unwrap();
    let secret = made.secret_key.expose_secret();
    assert!(made.access_key.len() == 20 && secret.len() == 43, "{made:?}");
    assert!(!format!("{made:?}").contains(secret));

    let listed = bench.client.spaces_keys("one").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].access_key, &listed[0].grants),
        (&made.access_key, &vec![Grant::read_write("demo")])
    );
    let path = format!("/v2/spaces/keys/{}", made.access_key);
    for path in ["/v2/spaces/keys", &path, "/lab/state"] {
        let (status, body) = bench.raw("GET", path, Value::Null).await;
        assert!(status == 200 && !body.to_string().contains(secret), "{path}: {body}");
    }
    let (_, body) = bench.raw("GET", "/v2/spaces/keys?permission=fullaccess", Value::Null).await;
    assert_eq!((&body["keys"][0]["name"], &body["meta"]["total"]), (&json!("two"), &json!(1)));

    let (status, body) = bench.raw("PUT", &path, json!({ "name": "three" })).await;
    assert_eq!((status, &body["key"]["name"]), (200, &json!("three")));
    assert_eq!(body["key"]["grants"], json!([{ "bucket": "demo", "permission": "readwrite" }]));
    let full = json!({ "grants": [{ "bucket": "", "permission": "fullaccess" }] });
    assert_eq!(bench.raw("PATCH", &path, full).await.0, 400);

    bench.client.delete_spaces_key(&made.access_key).await.unwrap();
    assert_eq!(bench.raw("GET", &path, Value::Null).await.0, 404);
    bench.client.delete_spaces_key(&made.access_key).await.unwrap();
    for bad in [json!({}), json!({ "name": "x", "grants": [{ "bucket": "", "permission": "read" }] })] {
        assert_eq!(bench.raw("POST", "/v2/spaces/keys", bad).await.0, 400);
    }
}

#[tokio::test]
async fn the_nodes_token_has_nothing_to_do_with_keys() {
    let stand = Stand::new().await;
    let made = stand.key("one", &[]).await;
    let one = format!("/v2/spaces/keys/{}", made.access_key);
    for (method, path) in [
        ("GET", "/v2/spaces/keys"),
        ("POST", "/v2/spaces/keys"),
        ("GET", &one),
        ("PUT", &one),
        ("DELETE", &one),
    ] {
        let (status, _) = stand.bench.raw_as(FAILOVER, method, path, json!({ "name": "x" })).await;
        assert_eq!(status, 403, "{method} {path}");
    }
    let nodes = crate::bench::client(&stand.bench.url, FAILOVER);
    let error = nodes.create_spaces_key("x", &[]).await.unwrap_err();
    assert_eq!(error.hint().unwrap(), "the token needs the scope spaces_key:create_credentials");
}

#[tokio::test]
async fn a_bucket_is_made_once() {
    let stand = Stand::new().await;
    let key = stand.key("full", &[Grant::full()]).await;
    let bucket = bucket(&stand.place("demo"));
    assert!(!bucket.exists(&key).await.unwrap());
    assert!(bucket.ensure(&key).await.unwrap());
    assert!(bucket.exists(&key).await.unwrap());
    assert!(!bucket.ensure(&key).await.unwrap());
}

#[tokio::test]
async fn a_repository_has_a_key_that_opens_nothing_else() {
    let stand = Stand::new().await;
    let key = make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap();
    assert_eq!(names(&stand), [REPOSITORY]);
    stand.bucket("other").await;
    assert!(bucket(&stand.place("demo")).exists(&key).await.unwrap());
    let asking = stand.asking("demo", key.clone());
    assert_eq!((asking.put("a", "1").await.0, asking.get("a").await.1), (200, b"1".to_vec()));
    let other = bucket(&stand.place("other"));
    assert_eq!(other.exists(&key).await.unwrap_err().status(), Some(403));
    assert_eq!(other.ensure(&key).await.unwrap_err().answer().unwrap().id, "AccessDenied");

    // Again: what nodes have goes on working until it is retired.
    let next = make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap();
    assert_ne!(next.access_key, key.access_key);
    assert!(bucket(&stand.place("demo")).exists(&key).await.unwrap());
    stand.bench.client.retire_repository_keys("demo", Some(&next.access_key)).await.unwrap();
    assert_eq!(bucket(&stand.place("demo")).exists(&key).await.unwrap_err().status(), Some(403));
    assert!(bucket(&stand.place("demo")).exists(&next).await.unwrap());
    stand.bench.client.retire_repository_keys("demo", None).await.unwrap();
    assert_eq!(names(&stand), ["test"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_killed_at_any_request_leaves_no_key_to_everything() {
    at_every_request(|after, last| async move {
        let stand = Stand::new().await;
        let place = stand.place("demo");
        let ended = die(&stand.bench, after, last.clone(), async |client| {
            make(&client, &place, dying()).await?;
            make(&client, &place, dying()).await.map(drop)
        })
        .await;
        let key = make(&stand.bench.client, &place, pace()).await.unwrap();
        let names = names(&stand);
        assert!(names.iter().all(|name| name == REPOSITORY), "{last:?} at {after}: {names:?}");
        assert!(bucket(&place).exists(&key).await.unwrap());
        stand.bench.client.retire_repository_keys("demo", Some(&key.access_key)).await.unwrap();
        assert_eq!(stand.bench.lab.state().spaces_keys.len(), 1);
        ended
    })
    .await;
}

#[tokio::test]
async fn a_key_whose_secret_was_lost_on_the_way_is_deleted() {
    let stand = Stand::new().await;
    let lost = |after| Rule::once("POST", "/v2/spaces/keys", Fault::LoseReply).after(after);
    for after in [0, 1] {
        stand.bench.fault(lost(after));
        make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap();
        assert_eq!(stand.bench.count("POST", "/v2/spaces/keys"), 3 * (after as usize + 1));
    }
    assert_eq!(names(&stand), [REPOSITORY, REPOSITORY]);
    stand.bench.fault(Rule { count: None, ..lost(0) });
    let error = make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap_err();
    assert!(matches!(error, Error::MaybeHappened { .. }), "{error:?}");
    assert_eq!(names(&stand), [REPOSITORY, REPOSITORY]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_shown_if_it_has_a_secret() {
    let stand = Stand::new().await;
    let body = json!({ "key": { "secret_key": "s3cr3t" } });
    let fault = Fault::Status { code: 201, body: Some(body) };
    stand.bench.fault(Rule::once("POST", "/v2/spaces/keys", fault));
    let error = stand.bench.client.create_spaces_key("x", &[]).await.unwrap_err();
    assert!(!everything(&error).contains("s3cr3t"), "{}", everything(&error));
}

#[tokio::test]
async fn another_accounts_bucket_is_left_alone() {
    let stand = Stand::new().await;
    stand.fault(Rule { method: None, count: None, ..Rule::once("", "/demo*", SpacesFault::Taken) });
    let error = make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap_err();
    assert!(matches!(&error, Error::BucketTaken { bucket } if bucket == "demo"), "{error:?}");
    assert_eq!(names(&stand), Vec::<String>::new());
}

#[tokio::test]
async fn what_passes_is_outlasted_and_what_stays_is_told() {
    let stand = Stand::new().await;
    let key = stand.key("full", &[Grant::full()]).await;
    let place = stand.place("demo");
    for fault in [SpacesFault::Error, SpacesFault::SlowDown] {
        stand.fault(Rule::once("PUT", "/demo*", fault).times(2));
        bucket(&place).ensure(&key).await.unwrap();
    }
    for (fault, status, word) in [
        (SpacesFault::Error, 500, "InternalError"),
        (SpacesFault::SlowDown, 503, "SlowDown"),
        (SpacesFault::Forbidden, 403, "AccessDenied"),
    ] {
        stand.heal();
        stand.fault(Rule { method: None, count: None, ..Rule::once("", "*", fault) });
        let error = bucket(&place).ensure(&key).await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
        assert!(!everything(&error).contains(key.secret_key.expose_secret()), "{}", everything(&error));
        assert!(!everything(&error).contains("X-Amz-Signature"), "{}", everything(&error));
    }
    stand.heal();
    stand.fault(Rule::once("PUT", "/demo*", SpacesFault::Slow { ms: 50, bytes_per_second: None }));
    assert!(!bucket(&place).ensure(&key).await.unwrap());
}

#[tokio::test]
async fn a_storage_that_is_away_is_waited_for() {
    let stand = Stand::new().await;
    let key = stand.key("full", &[Grant::full()]).await;
    let place = stand.place("demo");
    for away in [Away::Refused, Away::Reset] {
        stand.away(Some(away));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let error = Bucket::new(&place).unwrap().with_policy(brittle()).ensure(&key).await.unwrap_err();
        assert!(error.is_away(), "{error:?}");
        assert!(!everything(&error).contains("X-Amz-Signature"), "{}", everything(&error));
        let patient = cluster_cloud::Policy { retries: 10_000, ..policy() };
        let bucket = Bucket::new(&place).unwrap().with_policy(patient);
        let waiting = tokio::spawn({
            let key = key.clone();
            async move { bucket.ensure(&key).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        stand.away(None);
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_at_once() {
    let (stand, other) = (Stand::new().await, Stand::new().await);
    let key = stand.key("full", &[Grant::full()]).await;
    let place = Place { ca: other.place("demo").ca, ..stand.place("demo") };
    let begun = Instant::now();
    let patient = cluster_cloud::Policy { base: Duration::from_secs(5), ..policy() };
    let error = Bucket::new(&place).unwrap().with_policy(patient).ensure(&key).await.unwrap_err();
    assert!(error.hint().unwrap().contains("does not trust the certificate"), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn leftovers_of_other_clusters_are_not_touched() {
    let stand = Stand::new().await;
    stand.key("cluster-temporary-demo2", &[Grant::full()]).await;
    stand.key(TEMPORARY, &[Grant::full()]).await;
    make(&stand.bench.client, &stand.place("demo"), pace()).await.unwrap();
    let mut names = names(&stand);
    names.sort();
    assert_eq!(names, [REPOSITORY, "cluster-temporary-demo2"]);
}
