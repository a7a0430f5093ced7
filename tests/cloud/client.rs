//! Paging, retries, and what is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use cluster_cloud::{Client, Error, Notice, Policy, Token};
use cluster_lab::api::fault::{Fault, Rule};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bench::{
    Bench, FAILOVER, OPERATOR, brittle, client, everything, hasty, millis, pace, policy, spec,
};

#[tokio::test]
async fn all_pages_of_a_list_are_read() {
    let bench = Bench::new().await;
    for n in 0..405 {
        bench.client.create_tag(&format!("tag-{n}")).await.unwrap();
    }
    assert_eq!(bench.client.tags().await.unwrap().len(), 405);
}

/// Serves one answer to everything and counts the requests.
async fn canned(
    answer: impl Fn(&str) -> Value + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, here) = (Arc::new(AtomicUsize::new(0)), url.clone());
    let count = Arc::clone(&asked);
    let app = Router::new().fallback(get(move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        axum::Json(answer(&here))
    }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

#[tokio::test]
async fn the_token_is_not_taken_to_another_host() {
    let (other, asked_there) = canned(|_| json!({ "tags": [] })).await;
    let (url, asked_here) = canned(move |_| {
        json!({ "tags": [{ "name": "a" }], "links": { "pages": { "next": format!("{other}/v2/tags?page=2") } } })
    })
    .await;
    let error = client(&url, OPERATOR).tags().await.unwrap_err();
    assert!(matches!(error, Error::ForeignPage { .. }), "{error}");
    assert_eq!((asked_here.load(Ordering::SeqCst), asked_there.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_list_that_leads_to_itself_ends() {
    let (url, asked) = canned(|here| {
        json!({ "tags": [{ "name": "a" }], "links": { "pages": { "next": format!("{here}/v2/tags?page=2") } } })
    })
    .await;
    assert_eq!(client(&url, OPERATOR).tags().await.unwrap().len(), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_is_not_the_apis_is_an_error() {
    let (url, _) = canned(|_| json!({ "hello": "world" })).await;
    let error = client(&url, OPERATOR).account().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("hello"), "{error}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_to_it() {
    let bench = Bench::new().await;
    let long = json!({ "account": { "status": "active", "status_message": "x".repeat(16 << 20) } });
    bench.fault(Rule::once("GET", "/v2/account", Fault::Status { code: 200, body: Some(long.clone()) }));
    let error = bench.client.account().await.unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    assert_eq!(error.to_string(), "the answer to GET /v2/account is longer than 16 MiB");
    assert!(error.is_away() && !error.is_transient());
    // A refusal stays one, however long it is.
    bench.fault(Rule::once("GET", "/v2/account", Fault::Status { code: 403, body: Some(long) }));
    assert_eq!(bench.client.account().await.unwrap_err().status(), Some(403));
    // What was asked for may have been made.
    let long = Fault::Status { code: 202, body: Some(json!("x".repeat(16 << 20))) };
    bench.once("POST", "/v2/droplets", long);
    let error = bench.client.create_droplet(&spec("pg1")).await.unwrap_err();
    assert!(matches!(error, Error::MaybeHappened { .. }), "{error}");
}

#[tokio::test]
async fn reading_survives_every_passing_fault() {
    let bench = Bench::new().await;
    let page = |code| Fault::Body { code, text: "<html>Bad Gateway</html>".into(), headers: [].into() };
    for fault in [
        Fault::Status { code: 500, body: None },
        page(502),
        page(200),
        Fault::Truncate,
        Fault::Status { code: 503, body: None },
        Fault::Status { code: 200, body: Some(json!({})) },
        Fault::Status { code: 408, body: None },
        Fault::Status { code: 409, body: None },
        Fault::Status { code: 423, body: None },
        Fault::Drop,
        Fault::LoseReply,
        Fault::Hang { ms: 600 },
        Fault::Delay { ms: 20 },
        Fault::RateLimit { retry_after: Some(0) },
        Fault::RateLimit { retry_after: None },
    ] {
        bench.fault(Rule::once("GET", "/v2/account", fault.clone()).times(2));
        let patient = bench.client.clone().with_policy(Policy { timeout: millis(200), ..policy() });
        assert!(patient.account().await.is_ok(), "{fault:?}");
    }
}

#[tokio::test]
async fn retries_end() {
    let bench = Bench::new().await;
    bench.fault(Rule {
        count: None,
        ..Rule::once("GET", "/v2/account", Fault::Status { code: 503, body: None })
    });
    let error = bench.client.account().await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert_eq!(bench.notices.lock().unwrap().len(), policy().retries);
}

#[tokio::test]
async fn what_a_stranger_answers_is_told_as_such() {
    let bench = Bench::new().await;
    let page = |code, headers: &[(&str, &str)]| Fault::Body {
        code,
        text: "<html><title>Blocked</title></html>".into(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    for (fault, text, hint) in [
        (
            page(403, &[]),
            "GET /v2/account failed with HTTP 403: <html><title>Blocked</title></html>",
            "the API did not answer this itself; a proxy or firewall in between did",
        ),
        (
            page(302, &[("location", "https://login.example/")]),
            "GET /v2/account failed with HTTP 302: redirected to https://login.example/; the token is not sent there",
            "if the new address is right, use it as the API's address",
        ),
    ] {
        bench.once("GET", "/v2/account", fault);
        let error = bench.client.account().await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint().as_deref()), (text, Some(hint)));
    }
    assert!(bench.notices.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_help_is_not_repeated() {
    let bench = Bench::new().await;
    for code in [400, 404, 422, 501] {
        bench.once("GET", "/v2/account", Fault::Status { code, body: None });
        let error = bench.client.account().await.unwrap_err();
        assert_eq!(error.status(), Some(code));
    }
    assert!(bench.notices.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_wait_that_is_asked_for_is_kept_and_told() {
    let bench = Bench::new().await;
    bench.once("GET", "/v2/account", Fault::RateLimit { retry_after: Some(1) });
    let started = std::time::Instant::now();
    bench.client.account().await.unwrap();
    assert!(started.elapsed() >= millis(1000));
    let told: Vec<String> = bench.notices.lock().unwrap().iter().map(Notice::to_string).collect();
    assert_eq!(told, ["rate limit: DigitalOcean asks to wait 1 s"]);
}

#[tokio::test]
async fn a_wait_beyond_our_patience_is_an_error_that_names_it() {
    let bench = Bench::new().await;
    bench.once("GET", "/v2/account", Fault::RateLimit { retry_after: Some(1800) });
    let error = bench.client.account().await.unwrap_err();
    assert_eq!(error.status(), Some(429));
    assert_eq!(error.hint().unwrap(), "the rate limit frees up in 1800 s");
}

#[tokio::test]
async fn the_simulators_own_rate_limit_is_waited_out() {
    let bench = Bench::new().await;
    bench.lab.set(|settings| settings.limits.burst = Some(3));
    for _ in 0..3 {
        bench.client.account().await.unwrap();
    }
    let error = bench.client.account().await.unwrap_err();
    let wait = error.answer().unwrap().wait.unwrap().time();
    assert!((1..=60).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn creating_is_repeated_only_where_nothing_can_have_happened() {
    let bench = Bench::new().await;
    for fault in [
        Fault::Status { code: 503, body: None },
        Fault::Status { code: 409, body: None },
        Fault::LoseReply,
        Fault::Truncate,
        Fault::Drop,
        Fault::Delay { ms: 250 },
    ] {
        let before = bench.count("POST", "/v2/droplets");
        bench.once("POST", "/v2/droplets", fault.clone());
        let error = bench.client.clone().with_policy(hasty()).create_droplet(&spec("pg1")).await.unwrap_err();
        assert!(matches!(error, Error::MaybeHappened { .. }), "{fault:?}: {error}");
        tokio::time::sleep(millis(300)).await;
        assert_eq!(bench.count("POST", "/v2/droplets"), before + 1, "{fault:?}");
    }
    bench.once("POST", "/v2/droplets", Fault::RateLimit { retry_after: None });
    bench.client.create_droplet(&spec("pg2")).await.unwrap();
    let refused = bench.client.create_droplet(&spec("no spaces")).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
}

#[tokio::test]
async fn with_nobody_listening_nothing_can_have_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url, OPERATOR).with_policy(brittle()).create_droplet(&spec("pg1")).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let bench = Bench::new().await;
    let error = client(&bench.url, FAILOVER).create_droplet(&spec("pg1")).await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    assert_eq!(error.hint().unwrap(), "the token needs the scope droplet:create");
    assert!(error.to_string().contains("POST /v2/droplets failed with HTTP 403"), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_replaced_where_it_came_from() {
    let bench = Bench::new().await;
    let from = |place: &str| Token::from_place("dop_v1_revoked".into(), place);
    for place in ["DIGITALOCEAN_TOKEN", "/etc/token (provider.digitalocean.token_file)"] {
        let error = Client::new(&bench.url, from(place)).unwrap().account().await.unwrap_err();
        let hint = format!("the token is wrong, expired or revoked: replace it in {place}");
        assert_eq!(error.hint(), Some(hint));
        let broken = Client::new(&bench.url, Token::from_place("a b".into(), place)).unwrap_err();
        assert!(broken.hint().unwrap().starts_with(&format!("replace it in {place} with the token alone")));
    }
    let error = client(&bench.url, "dop_v1_revoked").account().await.unwrap_err();
    assert_eq!(error.hint().unwrap(), "the token is wrong, expired or revoked: replace it");
}

#[tokio::test]
async fn no_error_and_no_notice_shows_the_token() {
    let bench = Bench::new().await;
    let mut said = format!("{:?} {:?}", bench.client, bench.lab.tokens());
    let mut errors = Vec::new();
    for fault in [
        Fault::Status { code: 401, body: None },
        Fault::Status { code: 403, body: None },
        Fault::Status { code: 500, body: Some(json!({ "id": 5 })) },
        Fault::Drop,
        Fault::Hang { ms: 600 },
    ] {
        bench.fault(Rule { count: None, ..Rule::once("POST", "/v2/droplets", fault.clone()) });
        bench.fault(Rule { count: None, ..Rule::once("GET", "/v2/account", fault) });
        let hasty = bench.client.clone().with_policy(Policy { timeout: millis(30), retries: 1, ..policy() });
        errors.push(hasty.create_droplet(&spec("pg1")).await.unwrap_err());
        errors.push(hasty.account().await.unwrap_err());
        bench.heal();
    }
    errors.push(client(&bench.url, "dop_v1_0perat0r5ecret-but-wrong").account().await.unwrap_err());
    errors.push(Client::new("http://example.com", OPERATOR.into()).unwrap_err());
    errors.push(Client::new("https://example.com", format!("{OPERATOR}\n").as_str().into()).unwrap_err());
    errors.iter().for_each(|error| said.push_str(&everything(error)));
    said.push_str(&format!("{:?}", bench.notices.lock().unwrap()));
    assert!(said.contains("/v2/droplets") && !said.contains("0perat0r5ecret"), "{said}");
}

#[tokio::test]
async fn plain_http_is_for_loopback_only() {
    let error = Client::new("http://api.digitalocean.com", OPERATOR.into()).unwrap_err();
    assert!(error.to_string().contains("plain http would expose the token"), "{error}");
    assert!(Client::new("http://127.0.0.1:1", OPERATOR.into()).is_ok());
    assert!(Client::new("https://api.digitalocean.com", OPERATOR.into()).is_ok());
    assert!(matches!(Client::new("https://api.digitalocean.com", "".into()), Err(Error::Token { .. })));
    let bench = Bench::new().await;
    let by_name = bench.url.replace("127.0.0.1", "localhost");
    client(&by_name, OPERATOR).account().await.unwrap();
}

/// The operations can be spawned: their futures are `Send`.
#[tokio::test]
async fn operations_run_side_by_side_as_tasks() {
    let bench = Bench::new().await;
    let tasks: Vec<_> = ["pg1", "pg2", "pg3"]
        .map(|name| {
            let client = bench.client.clone();
            tokio::spawn(async move {
                let made = client.ensure_droplet(&spec(name), pace()).await?;
                client.wait_droplet_ready(made.value.id, pace()).await
            })
        })
        .into_iter()
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(bench.machines.running().len(), 3);
}
