//! The lab's object storage, as any client of S3 sees it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use cluster_cloud::model::{Grant, NewSpacesKey};
use cluster_cloud::spaces::Place;
use cluster_lab::api::fault::Rule;
use cluster_lab::api::spaces_fault::{Away, SpacesFault};
use cluster_lab::api::{Config, FakeMachines};
use cluster_lab::spaces::{HOST, Spaces, serve};
use reqwest::{Certificate, Client, Method, StatusCode, Url};
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2, ObjectIdentifier};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, config};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SOON: Duration = Duration::from_secs(60);

/// A lab with Spaces.
pub(crate) struct Stand {
    pub(crate) bench: Bench,
    pub(crate) directory: TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Stand {
    pub(crate) async fn new() -> Self {
        Self::with(tempfile::tempdir().unwrap()).await
    }

    /// One that keeps everything in a directory.
    async fn with(directory: TempDir) -> Self {
        let config = Config { save_to: Some(directory.path().join("state.json")), ..config() };
        let bench = Bench::with(config, FakeMachines::default()).await;
        let (home, ca) = (directory.path().join("spaces"), ca(directory.path()));
        let spaces = Spaces::open(&home, &ca, &[LOOPBACK]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(spaces, bench.lab.clone(), vec![listener], stop.clone()));
        Self { bench, directory, address, stop, server }
    }

    /// The same after a restart, on another port.
    async fn restart(self) -> Self {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
        self.bench.stop().await;
        Self::with(self.directory).await
    }

    pub(crate) fn place(&self, bucket: &str) -> Place {
        Place {
            endpoint: format!("https://{HOST}:{}", self.address.port()),
            region: "fra1".into(),
            bucket: bucket.into(),
            ca: Some(std::fs::read_to_string(ca(self.directory.path())).unwrap()),
            address: Some(LOOPBACK),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A key that works already.
    pub(crate) async fn key(&self, name: &str, grants: &[Grant]) -> NewSpacesKey {
        let key = self.bench.client.create_spaces_key(name, grants).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        key
    }

    pub(crate) fn fault(&self, rule: Rule<SpacesFault>) {
        self.bench.lab.spaces_faults(|faults| faults.rules.push(rule));
    }

    pub(crate) fn away(&self, away: Option<Away>) {
        self.bench.lab.spaces_faults(|faults| faults.away = away);
    }

    pub(crate) fn heal(&self) {
        self.bench.lab.spaces_faults(|faults| *faults = Default::default());
    }

    /// A bucket that exists, and what asks it with a key for everything.
    pub(crate) async fn bucket(&self, name: &str) -> Asking {
        let asking = self.asking(name, self.key("test", &[Grant::full()]).await);
        assert_eq!(asking.create().await.0, 200);
        asking
    }

    pub(crate) fn asking(&self, bucket: &str, key: NewSpacesKey) -> Asking {
        let place = self.place(bucket);
        let url: Url = place.endpoint.parse().unwrap();
        let ca = Certificate::from_pem(place.ca.unwrap().as_bytes()).unwrap();
        let http = Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .resolve(HOST, SocketAddr::new(LOOPBACK, 0))
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Asking {
            http,
            bucket: Bucket::new(url, UrlStyle::Path, bucket.to_owned(), "fra1").unwrap(),
            credentials: Credentials::new(key.access_key, key.secret_key.expose_secret()),
        }
    }
}

fn ca(directory: &Path) -> std::path::PathBuf {
    directory.join("ca.crt")
}

/// What asks a bucket.
pub(crate) struct Asking {
    http: Client,
    bucket: Bucket,
    credentials: Credentials,
}

type Answer = (u16, Vec<u8>);

/// An answer's code, or what else it says.
fn code(answer: &Answer) -> (u16, String) {
    let text = String::from_utf8_lossy(&answer.1).into_owned();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    (answer.0, code.map_or(text.clone(), |(code, _)| code.to_owned()))
}

impl Asking {
    async fn try_send(&self, method: Method, url: Url, body: Vec<u8>) -> reqwest::Result<Answer> {
        let answer = self.http.request(method, url).body(body).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.bytes().await?.to_vec()))
    }

    async fn send(&self, method: Method, url: Url, body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, url, body.into()).await.unwrap()
    }

    pub(crate) async fn create(&self) -> Answer {
        self.send(Method::PUT, self.bucket.create_bucket(&self.credentials).sign(SOON), "").await
    }

    async fn delete_bucket(&self) -> Answer {
        self.send(Method::DELETE, self.bucket.delete_bucket(&self.credentials).sign(SOON), "").await
    }

    pub(crate) async fn put(&self, key: &str, content: impl Into<Vec<u8>>) -> Answer {
        self.try_put(key, content.into()).await.unwrap()
    }

    async fn try_put(&self, key: &str, content: Vec<u8>) -> reqwest::Result<Answer> {
        let url = self.bucket.put_object(Some(&self.credentials), key).sign(SOON);
        self.try_send(Method::PUT, url, content).await
    }

    pub(crate) async fn get(&self, key: &str) -> Answer {
        self.send(Method::GET, self.bucket.get_object(Some(&self.credentials), key).sign(SOON), "").await
    }

    async fn range(&self, key: &str, range: &str) -> (u16, String, Vec<u8>) {
        let url = self.bucket.get_object(Some(&self.credentials), key).sign(SOON);
        let answer = self.http.get(url).header("range", range).send().await.unwrap();
        let status = answer.status().as_u16();
        let told = answer.headers().get("content-range").map(|told| told.to_str().unwrap().to_owned());
        (status, told.unwrap_or_default(), answer.bytes().await.unwrap().to_vec())
    }

    async fn delete(&self, key: &str) -> Answer {
        let url = self.bucket.delete_object(Some(&self.credentials), key).sign(SOON);
        self.send(Method::DELETE, url, "").await
    }

    /// All keys.
    pub(crate) async fn keys(&self) -> Vec<String> {
        self.list("", "", 1000).await.0
    }

    /// All keys and prefixes, so many on a page.
    async fn list(&self, prefix: &str, delimiter: &str, most: usize) -> (Vec<String>, Vec<String>) {
        let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
            list.with_prefix(prefix);
            list.with_delimiter(delimiter);
            list.with_max_keys(most);
            if let Some(token) = token {
                list.with_continuation_token(token);
            }
            let (status, body) = self.send(Method::GET, list.sign(SOON), "").await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
            let page = ListObjectsV2::parse_response(std::str::from_utf8(&body).unwrap()).unwrap();
            assert!(page.contents.len() + page.common_prefixes.len() <= most);
            keys.extend(page.contents.into_iter().map(|object| object.key));
            prefixes.extend(page.common_prefixes.into_iter().map(|prefix| prefix.prefix));
            token = page.next_continuation_token;
            if token.is_none() {
                return (keys, prefixes);
            }
        }
    }
}

#[tokio::test]
async fn what_is_put_can_be_had_in_whole_and_in_part() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let long = format!("archive/{}/{}", "stanza".repeat(60), "0".repeat(600));
    for key in ["a", "a/b", "a b+c%20é&<", &long] {
        assert_eq!(bucket.put(key, content.clone()).await.0, 200, "{key}");
        let (status, body) = bucket.get(key).await;
        assert!(status == 200 && body == content, "{key}");
    }
    assert_eq!(code(&bucket.put(&"x".repeat(1025), "").await), (400, "KeyTooLongError".to_owned()));
    for (range, told, want) in [
        ("bytes=0-0", "bytes 0-0/200000", &content[..1]),
        ("bytes=100-199", "bytes 100-199/200000", &content[100..200]),
        ("bytes=199990-", "bytes 199990-199999/200000", &content[199_990..]),
        ("bytes=-5", "bytes 199995-199999/200000", &content[199_995..]),
        ("bytes=199999-300000", "bytes 199999-199999/200000", &content[199_999..]),
    ] {
        assert_eq!(bucket.range("a", range).await, (206, told.to_owned(), want.to_vec()), "{range}");
    }
    assert_eq!(bucket.range("a", "bytes=200000-").await.0, 416);

    let url = bucket.bucket.head_object(Some(&bucket.credentials), "a").sign(SOON);
    let head = bucket.http.head(url).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-length"]),
        (StatusCode::OK, &"200000".parse().unwrap())
    );
    // A prefix of keys is none, and no error of the server's.
    assert_eq!(code(&bucket.get("archive").await), (404, "NoSuchKey".to_owned()));
    assert_eq!(code(&bucket.get("archive/").await), (404, "NoSuchKey".to_owned()));

    assert_eq!(bucket.delete("a").await.0, 204);
    assert_eq!(bucket.delete("a").await.0, 204, "what is not there is deleted");
    assert_eq!(code(&bucket.get("a").await), (404, "NoSuchKey".to_owned()));
    assert_eq!(bucket.get("a/b").await.0, 200);
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_by_prefix() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    let all = ["a/1", "a/2", "a/3/x", "b", "b/1", "c&<>", "c d"];
    for key in all {
        bucket.put(key, key).await;
    }
    let sorted = ["a/1", "a/2", "a/3/x", "b", "b/1", "c d", "c&<>"];
    for most in [1, 2, 3, 1000] {
        assert_eq!(bucket.list("", "", most).await.0, sorted, "{most}");
        let (keys, prefixes) = bucket.list("", "/", most).await;
        assert_eq!((keys, prefixes), (strings(&["b", "c d", "c&<>"]), strings(&["a/", "b/"])), "{most}");
        let (keys, prefixes) = bucket.list("a/", "/", most).await;
        assert_eq!((keys, prefixes), (strings(&["a/1", "a/2"]), strings(&["a/3/"])), "{most}");
    }
    assert_eq!(bucket.list("nothing", "/", 1000).await, (Vec::new(), Vec::new()));

    let gone: Vec<_> = ["a/1", "b", "never"].map(|key| ObjectIdentifier::new(key.to_owned())).into();
    let delete = bucket.bucket.delete_objects(Some(&bucket.credentials), gone.iter());
    let url = delete.sign(SOON);
    let (body, md5) = delete.body_with_md5();
    let answer = bucket.http.post(url).header("content-md5", md5).body(body).send().await.unwrap();
    let status = answer.status();
    assert_eq!(status, 200, "{}", answer.text().await.unwrap());
    assert_eq!(bucket.list("", "", 1000).await.0, strings(&["a/2", "a/3/x", "b/1", "c d", "c&<>"]));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn an_object_can_come_in_parts_and_outlives_the_daemon() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    bucket.put("kept", "whole").await;
    let begin = bucket.bucket.create_multipart_upload(Some(&bucket.credentials), "big");
    let (_, body) = bucket.send(Method::POST, begin.sign(SOON), "").await;
    let upload = CreateMultipartUpload::parse_response(std::str::from_utf8(&body).unwrap()).unwrap();
    let part = async |bucket: &Asking, number: u16, content: &str| {
        let sign = bucket.bucket.upload_part(Some(&bucket.credentials), "big", number, upload.upload_id());
        let answer = bucket.http.put(sign.sign(SOON)).body(content.to_owned()).send().await.unwrap();
        answer.headers()["etag"].to_str().unwrap().to_owned()
    };
    let one = part(&bucket, 1, "hello ").await;
    assert_eq!(code(&bucket.get("big").await), (404, "NoSuchKey".to_owned()));

    let (key, secret) = (bucket.credentials.key().to_owned(), bucket.credentials.secret().to_owned());
    let stand = stand.restart().await;
    let bucket = stand.asking("demo", NewSpacesKey { access_key: key, secret_key: secret.into() });
    assert_eq!(bucket.get("kept").await, (200, b"whole".to_vec()));
    let two = part(&bucket, 2, "world").await;
    let tags = [one.as_str(), two.as_str()];
    let complete = bucket.bucket.complete_multipart_upload(
        Some(&bucket.credentials),
        "big",
        upload.upload_id(),
        tags.into_iter(),
    );
    let url = complete.sign(SOON);
    let (status, body) = bucket.send(Method::POST, url, complete.body()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(bucket.get("big").await, (200, b"hello world".to_vec()));
    assert_eq!(bucket.list("", "", 10).await.0, ["big", "kept"]);
}

#[tokio::test]
async fn a_bucket_that_is_not_empty_stays() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    assert_eq!(code(&bucket.create().await), (409, "BucketAlreadyOwnedByYou".to_owned()));
    bucket.put("a", "").await;
    assert_eq!(code(&bucket.delete_bucket().await), (409, "BucketNotEmpty".to_owned()));
    bucket.delete("a").await;
    assert_eq!(bucket.delete_bucket().await.0, 204);
    assert_eq!(code(&bucket.get("a").await), (404, "NoSuchBucket".to_owned()));
    assert_eq!(code(&bucket.put("a", "").await), (404, "NoSuchBucket".to_owned()));
}

#[tokio::test]
async fn a_key_opens_what_it_was_made_for() {
    let stand = Stand::new().await;
    let full = stand.bucket("one").await;
    full.put("a", "1").await;
    stand.bucket("two").await.put("a", "2").await;
    let denied = (403, "AccessDenied".to_owned());

    let grants = [Grant::read_write("one"), Grant { bucket: "two".into(), permission: "read".into() }];
    let key = stand.key("scoped", &grants).await;
    let (one, two) = (stand.asking("one", key.clone()), stand.asking("two", key.clone()));
    assert_eq!(one.put("b", "new").await.0, 200);
    assert_eq!(one.list("", "", 10).await.0, ["a", "b"]);
    assert_eq!(one.delete("b").await.0, 204);
    assert_eq!(two.get("a").await, (200, b"2".to_vec()));
    for answer in [
        two.put("b", "new").await,
        two.delete("a").await,
        one.delete_bucket().await,
        stand.asking("three", key.clone()).create().await,
        stand.asking("three", key.clone()).get("a").await,
        stand.asking("one", stand.key("none", &[]).await).get("a").await,
    ] {
        assert_eq!(code(&answer), denied);
    }
    let anonymous = full.http.get(full.bucket.object_url("a").unwrap()).send().await.unwrap();
    assert_eq!(anonymous.status(), 403);

    let wrong = NewSpacesKey { secret_key: "wrong".into(), ..key.clone() };
    assert_eq!(code(&stand.asking("one", wrong).get("a").await), (403, "SignatureDoesNotMatch".to_owned()));
    stand.bench.client.delete_spaces_key(&key.access_key).await.unwrap();
    assert_eq!(code(&one.get("a").await), (403, "InvalidAccessKeyId".to_owned()));
}

/// Where a key of another bucket stands in the path twice over, and the like.
#[tokio::test]
async fn no_path_leads_into_another_bucket() {
    let stand = Stand::new().await;
    stand.bucket("secret").await.put("a", "hidden").await;
    stand.bucket("mine").await;
    let mine = stand.asking("mine", stand.key("mine", &[Grant::read_write("mine")]).await);
    for key in ["../secret/a", "/../secret/a", "..%2fsecret%2fa", "./../secret/a"] {
        let answer = mine.get(key).await;
        assert!(answer.0 >= 400 && answer.1 != b"hidden", "{key}: {}", answer.0);
    }
}

#[tokio::test]
async fn an_answer_is_a_fault_as_ordered() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    // More than what fits into a socket: the client has not sent it all when it is refused.
    let much = vec![7; 4_000_000];
    for (fault, want) in [
        (SpacesFault::Forbidden, (403, "AccessDenied")),
        (SpacesFault::Error, (500, "InternalError")),
        (SpacesFault::SlowDown, (503, "SlowDown")),
        (SpacesFault::Taken, (403, "AccessDenied")),
        (SpacesFault::Full { bytes: None }, (403, "QuotaExceeded")),
    ] {
        stand.fault(Rule::once("PUT", "/demo/*", fault.clone()));
        assert_eq!(code(&bucket.put("a", much.clone()).await), (want.0, want.1.to_owned()), "{fault:?}");
        assert_eq!(bucket.list("", "", 10).await.0, strings(&[]), "{fault:?}");
    }
    assert_eq!(bucket.put("a", much.clone()).await.0, 200, "it struck once");
    stand.fault(Rule { count: None, ..Rule::once("PUT", "*", SpacesFault::Full { bytes: Some(4_000_003) }) });
    assert_eq!(bucket.put("b", "123").await.0, 200);
    assert_eq!(code(&bucket.put("c", "4").await), (403, "QuotaExceeded".to_owned()));
    assert_eq!(bucket.delete("b").await.0, 204, "room can be made");
    assert_eq!(bucket.put("c", "4").await.0, 200);
}

#[tokio::test]
async fn an_upload_is_reset_in_its_middle() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    stand.fault(Rule::once("PUT", "/demo/a", SpacesFault::Reset { after_bytes: 1_000_000 }));
    let error = bucket.try_put("a", vec![7; 4_000_000]).await.unwrap_err();
    assert!(error.status().is_none(), "{error:?}");
    assert_eq!(code(&bucket.get("a").await), (404, "NoSuchKey".to_owned()));
    let left = std::fs::read_dir(stand.directory.path().join("spaces/incoming")).unwrap().count();
    assert_eq!(left, 0);
    assert_eq!(bucket.put("a", vec![7; 4_000_000]).await.0, 200);
    // A short one is over before.
    stand.fault(Rule::once("PUT", "/demo/a", SpacesFault::Reset { after_bytes: 1_000_000 }));
    assert_eq!(bucket.put("a", "short").await.0, 200);
}

#[tokio::test]
async fn bodies_move_slowly() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    bucket.put("a", vec![7; 100_000]).await;
    let slow = SpacesFault::Slow { ms: 50, bytes_per_second: Some(400_000) };
    for (method, least) in [("GET", 300), ("PUT", 300), ("HEAD", 50)] {
        stand.heal();
        stand.fault(Rule::once(method, "*", slow.clone()));
        let begun = Instant::now();
        match method {
            "GET" => assert_eq!(bucket.get("a").await, (200, vec![7; 100_000])),
            "PUT" => assert_eq!(bucket.put("b", vec![7; 100_000]).await.0, 200),
            _ => {
                let url = bucket.bucket.head_bucket(Some(&bucket.credentials)).sign(SOON);
                assert_eq!(bucket.send(Method::HEAD, url, "").await.0, 200);
            }
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(least), "{method} took {took:?}");
    }
}

#[tokio::test]
async fn spaces_goes_away_and_comes_back() {
    let stand = Stand::new().await;
    let bucket = stand.bucket("demo").await;
    bucket.put("a", "1").await;
    for away in [Away::Refused, Away::Reset] {
        // The connection in the client's pool is cut as well.
        stand.away(Some(away));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let url = bucket.bucket.get_object(Some(&bucket.credentials), "a").sign(SOON);
        let error = bucket.try_send(Method::GET, url, Vec::new()).await.unwrap_err();
        assert!(error.is_connect(), "{away:?}: {error:?}");
        let dialled = tokio::net::TcpStream::connect(stand.address).await;
        assert_eq!(dialled.is_err(), away == Away::Refused, "{dialled:?}");
        stand.away(None);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bucket.get("a").await, (200, b"1".to_vec()), "{away:?}");
    }
}

#[tokio::test]
async fn faults_are_ordered_over_http_and_outlive_the_daemon() {
    let stand = Stand::new().await;
    let bench = &stand.bench;
    let rules = serde_json::json!([
        { "path": "*", "fault": "slow", "ms": 5 },
        { "method": "PUT", "path": "/demo/*", "fault": "slow_down", "count": 2 },
    ]);
    assert_eq!(bench.raw("POST", "/lab/spaces/faults", rules).await.0, 201);
    let wrong = serde_json::json!({ "path": "*", "fault": "explode" });
    assert_eq!(bench.raw("POST", "/lab/spaces/faults", wrong).await.0, 422);
    let away = serde_json::json!({ "away": "refused" });
    assert_eq!(bench.raw("PUT", "/lab/spaces/away", away).await.0, 200);
    let stand = stand.restart().await;
    let bench = &stand.bench;
    let (_, faults) = bench.raw("GET", "/lab/spaces/faults", Value::Null).await;
    assert_eq!((faults["rules"].as_array().unwrap().len(), &faults["away"]), (2, &"refused".into()));
    assert_eq!(bench.raw("DELETE", "/lab/spaces/faults", Value::Null).await.0, 204);
    let (_, faults) = bench.raw("GET", "/lab/spaces/faults", Value::Null).await;
    assert_eq!((faults["rules"].as_array().unwrap().len(), &faults["away"]), (0, &Value::Null));
}

#[tokio::test]
async fn only_the_labs_own_authority_is_believed() {
    let (stand, other) = (Stand::new().await, Stand::new().await);
    let bucket = stand.bucket("demo").await;
    let url = bucket.bucket.head_bucket(Some(&bucket.credentials)).sign(SOON);
    let foreign = Certificate::from_pem(other.place("demo").ca.unwrap().as_bytes()).unwrap();
    let client = |ca: Certificate, name: &str| {
        Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .resolve(name, SocketAddr::new(LOOPBACK, 0))
            .build()
            .unwrap()
    };
    assert!(client(foreign, HOST).head(url.clone()).send().await.unwrap_err().is_connect());
    // By address and by a name below its own, too.
    for name in ["127.0.0.1", "demo.spaces.lab"] {
        let own = Certificate::from_pem(stand.place("demo").ca.unwrap().as_bytes()).unwrap();
        let mut url = url.clone();
        url.set_host(Some(name)).unwrap();
        assert_eq!(client(own, name).head(url).send().await.unwrap().status(), 403, "{name}");
    }
    // The authority does not change with a restart.
    let before = stand.place("demo").ca;
    assert_eq!(stand.restart().await.place("demo").ca, before);
}
