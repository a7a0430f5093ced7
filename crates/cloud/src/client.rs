//! The client: one base URL, one token, and the rules by which requests are sent and sent again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::Retryable;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::{ANSWER_LIMIT, Answer, Call, Error};
use crate::page::{self, Envelope, PER_PAGE};
use crate::retry::{Policy, asked};

/// What a client tells while it waits.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A request will be sent again.
    Retry {
        /// The request.
        call: Call,
        /// When: this long from now.
        wait: Duration,
        /// What came instead of an answer: `429`, `503`, or nothing.
        status: Option<u16>,
    },
    /// A state of the world is waited for.
    Waiting {
        /// What is waited for.
        what: String,
        /// What was seen last.
        last: String,
        /// For how long so far.
        waited: Duration,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Retry { wait, status: Some(429), .. } => {
                write!(f, "rate limit: DigitalOcean asks to wait {}", Seconds(*wait))
            }
            Notice::Retry { call, wait, status: Some(status) } => {
                write!(f, "{call}: HTTP {status}; retrying in {}", Seconds(*wait))
            }
            Notice::Retry { call, wait, status: None } => {
                write!(f, "{call}: no answer; retrying in {}", Seconds(*wait))
            }
            Notice::Waiting { what, last, waited } => {
                write!(f, "waiting for {what}: {last} ({})", Seconds(*waited))
            }
        }
    }
}

/// A duration as a person reads it: whole seconds, or tenths below ten.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 10.0 || seconds.fract() == 0.0 {
            write!(f, "{seconds:.0} s")
        } else {
            write!(f, "{seconds:.1} s")
        }
    }
}

/// Who is told of retries and waits. Called between requests, so it must not block.
pub type Observer = Arc<dyn Fn(&Notice) + Send + Sync>;

/// A token, and where it came from: an error names the place where another one has to be put.
#[derive(Clone, Debug)]
pub struct Token {
    secret: SecretString,
    place: Option<String>,
}

impl Token {
    /// A token from a place, which completes "replace it in …": the name of a variable, or of a file.
    pub fn from_place(secret: SecretString, place: impl Into<String>) -> Self {
        Self { secret, place: Some(place.into()) }
    }

    /// The token itself.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }
}

impl From<SecretString> for Token {
    fn from(secret: SecretString) -> Self {
        Self { secret, place: None }
    }
}

impl From<&str> for Token {
    fn from(secret: &str) -> Self {
        SecretString::from(secret).into()
    }
}

/// A client of the API. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
    policy: Policy,
    observer: Option<Observer>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Whether a request may be sent a second time without a look at the world.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It reads, or sending it twice is the same as once.
    Freely,
    /// It makes something that has no name of its own: sent again only if it certainly did nothing.
    Never,
}

/// So many characters of an answer that cannot be read are shown.
const SHOWN: usize = 100;

/// A request before it is sent.
pub(super) struct Request {
    call: Call,
    method: Method,
    url: Url,
    body: Option<Value>,
    repeat: Repeat,
    /// Whether the answer has a secret in it, and is not to be shown.
    confidential: bool,
    /// What a success has to have: without, whatever answered was not the API.
    key: Option<String>,
}

impl Request {
    pub(super) fn expecting(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    pub(super) fn confidential(self) -> Self {
        Self { confidential: true, ..self }
    }
}

impl Client {
    /// A client of the API at `base_url` (scheme, host and port only).
    ///
    /// # Errors
    /// [`Error::BaseUrl`] for anything but https, or http to a loopback address; [`Error::Token`] for a token
    /// that no header can carry. Nothing is sent.
    pub fn new(base_url: &str, token: Token) -> Result<Self, Error> {
        let base = checked_base(base_url)?;
        bearer(&token)?;
        install_crypto();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("cluster/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10));
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(Error::Setup)?;
        Ok(Self { http, base, token, policy: Policy::default(), observer: None })
    }

    /// The same client with another patience.
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The same client, telling `observer` of its waits: one per host, so that each can show its own.
    pub fn with_observer(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The API's address.
    pub fn base_url(&self) -> &str {
        self.base.as_str()
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn notify(&self, notice: &Notice) {
        if let Some(observer) = &self.observer {
            observer(notice);
        }
    }

    /// A request to `path`, which starts with `/v2/`; its variable parts need no escaping.
    pub(super) fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Option<Value>,
        repeat: Repeat,
    ) -> Request {
        let mut url = self.base.clone();
        url.set_path(path);
        let verb = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
        let call = Call { method, path: path.to_owned() };
        Request { call, method: verb, url, body, repeat, confidential: false, key: None }
    }

    /// `GET path` for one object under `key`; `None` if the API does not know it.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, key: &str) -> Result<Option<T>, Error> {
        match self.send(self.request("GET", path, None, Repeat::Freely).expecting(key)).await {
            Ok(answer) => answer.take(key).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `GET path` for all pages of the list under `key`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        key: &str,
    ) -> Result<Vec<T>, Error> {
        let mut request = self.request("GET", path, None, Repeat::Freely).expecting(key);
        request.url.query_pairs_mut().extend_pairs(query).append_pair("per_page", &PER_PAGE.to_string());
        let mut items: Vec<T> = Vec::new();
        loop {
            let url = request.url.clone();
            let mut answer = self.send(request).await?;
            let envelope = Envelope::deserialize(&answer.body).map_err(|source| answer.malformed(source))?;
            let page: Vec<T> = answer.take_field(key)?;
            let empty = page.is_empty();
            items.extend(page);
            let Some(next) = envelope.next() else { return Ok(items) };
            let next_url = page::own(&self.base, next)
                .ok_or_else(|| Error::ForeignPage { call: answer.call.clone(), next: next.to_owned() })?;
            // A list that leads to itself, or on from an empty page, would never end.
            if empty || next_url == url {
                return Ok(items);
            }
            request = self.request("GET", path, None, Repeat::Freely).expecting(key);
            request.url = next_url;
        }
    }

    /// The first page of the list under `key`, for lists that are long and begin with what is latest.
    pub(super) async fn first_page<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
    ) -> Result<Vec<T>, Error> {
        let mut request = self.request("GET", path, None, Repeat::Freely).expecting(key);
        request.url.query_pairs_mut().append_pair("per_page", &PER_PAGE.to_string());
        self.send(request).await?.take(key)
    }

    /// How many items the list at `path` has, without fetching them.
    pub(super) async fn count(&self, path: &str) -> Result<Option<u64>, Error> {
        let mut request = self.request("GET", path, None, Repeat::Freely);
        request.url.query_pairs_mut().append_pair("per_page", "1");
        let answer = self.send(request).await?;
        let envelope = Envelope::deserialize(&answer.body).map_err(|source| answer.malformed(source))?;
        Ok(envelope.total())
    }

    /// `DELETE path`. What is not there counts as deleted.
    pub(super) async fn delete(&self, path: &str) -> Result<(), Error> {
        match self.send(self.request("DELETE", path, None, Repeat::Freely)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// `POST path`.
    pub(super) async fn post(&self, path: &str, body: Value, repeat: Repeat) -> Result<Success, Error> {
        self.send(self.request("POST", path, Some(body), repeat)).await
    }

    /// `POST path` for the object under `key`.
    pub(super) async fn post_for<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Value,
        repeat: Repeat,
        key: &str,
    ) -> Result<T, Error> {
        self.send(self.request("POST", path, Some(body), repeat).expecting(key)).await?.take(key)
    }

    /// Sends a request, again if it may be, and returns the body of a success.
    pub(super) async fn send(&self, request: Request) -> Result<Success, Error> {
        let started = Instant::now();
        let result = (|| self.attempt(&request))
            .retry(self.policy)
            .when(|error| match request.repeat {
                Repeat::Freely => error.is_transient(),
                Repeat::Never => did_nothing(error) && error.is_transient(),
            })
            .adjust(|error, own| {
                let own = own?;
                let asked = error.answer().and_then(|answer| answer.wait);
                let wait = asked.map_or(own, |asked| asked.under(&self.policy).max(own));
                (started.elapsed() + wait <= self.policy.deadline).then_some(wait)
            })
            .notify(|error, wait| {
                self.notify(&Notice::Retry { call: request.call.clone(), wait, status: error.status() });
            })
            .await;
        match result {
            Err(error) if request.repeat == Repeat::Never && !did_nothing(&error) => {
                Err(Error::MaybeHappened { call: request.call, source: Box::new(error) })
            }
            result => result,
        }
    }

    async fn attempt(&self, request: &Request) -> Result<Success, Error> {
        let no_answer = |source: reqwest::Error| Error::NoAnswer {
            call: request.call.clone(),
            source: source.without_url(),
        };
        let mut builder = self
            .http
            .request(request.method.clone(), request.url.clone())
            .timeout(self.policy.timeout)
            .header(AUTHORIZATION, bearer(&self.token)?);
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(no_answer)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let (bytes, whole) = read(response).await.map_err(no_answer)?;
        if !status.is_success() {
            let answer = Box::new(Answer {
                token_place: self.token.place.clone(),
                ..refusal(request.call.clone(), status.as_u16(), &headers, &bytes)
            });
            return Err(if status.is_server_error() {
                Error::Failed(answer)
            } else {
                Error::Refused(answer)
            });
        }
        if !whole {
            return Err(Error::TooLong { call: request.call.clone() });
        }
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        let shown = if request.confidential { "(withheld)".to_owned() } else { beginning(&bytes) };
        let body: Value = body.map_err(|source| Error::Malformed {
            call: request.call.clone(),
            body: shown.clone(),
            source,
        })?;
        let success = Success { call: request.call.clone(), body, shown };
        match request.key.as_ref().filter(|key| success.body.get(key).is_none()) {
            Some(key) => Err(success.malformed(serde::de::Error::custom(format!("`{key}` is missing")))),
            None => Ok(success),
        }
    }
}

/// The body of an answer, and whether that is all of it: no more is read than [`ANSWER_LIMIT`].
pub(super) async fn read(mut response: Response) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_LIMIT - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// A successful answer.
pub(super) struct Success {
    pub(super) call: Call,
    pub(super) body: Value,
    /// How it began, for errors.
    shown: String,
}

impl Success {
    /// The object under `key`.
    pub(super) fn take<T: DeserializeOwned>(mut self, key: &str) -> Result<T, Error> {
        self.take_field(key)
    }

    fn take_field<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, Error> {
        let value = self.body.get_mut(key).map(Value::take).unwrap_or_default();
        serde_json::from_value(value).map_err(|source| self.malformed(source))
    }

    fn malformed(&self, source: serde_json::Error) -> Error {
        Error::Malformed { call: self.call.clone(), body: self.shown.clone(), source }
    }
}

/// The first characters of a body, as an error shows them.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut shown: String = text.trim().chars().take(SHOWN).collect();
    if shown.len() < text.trim().len() {
        shown.push('…');
    }
    shown
}

/// Whether after this error it is certain that the request had no effect: it was refused, or never left.
fn did_nothing(error: &Error) -> bool {
    match error {
        Error::NoAnswer { source, .. } => source.is_connect() || source.is_builder(),
        Error::Failed(_) | Error::Malformed { .. } | Error::TooLong { .. } => false,
        // 408: the server gave up waiting, for the end of the request or of its own work. 409: what is in the way may be
        // what an earlier attempt has made.
        Error::Refused(answer) => ![408, 409].contains(&answer.status),
        _ => true,
    }
}

fn bearer(token: &Token) -> Result<HeaderValue, Error> {
    let secret = token.secret.expose_secret();
    let plain = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_graphic());
    let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| Error::Token { place: token.place.clone() })?;
    value.set_sensitive(true);
    Ok(value)
}

fn refusal(call: Call, status: u16, headers: &HeaderMap, body: &[u8]) -> Answer {
    /// The API's error body; `error` is what some tag calls have instead of `message`.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        id: String,
        message: String,
        error: String,
        request_id: Option<String>,
        error_attributes: Attributes,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Attributes {
        available_regions: Vec<String>,
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    let wait = asked(status, header("retry-after"), header("ratelimit-reset"), now);
    let parsed: Body = serde_json::from_slice(body).unwrap_or_default();
    let message = [parsed.message, parsed.error]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().chars().take(200).collect());
    let request_id = parsed.request_id.or_else(|| header("x-request-id").map(str::to_owned));
    let available_regions = parsed.error_attributes.available_regions;
    let message = match header("location").filter(|_| (300..400).contains(&status)) {
        Some(elsewhere) => format!("redirected to {elsewhere}; the token is not sent there"),
        None => message,
    };
    Answer { call, status, id: parsed.id, message, request_id, wait, available_regions, token_place: None }
}

/// Whether `text` can be the API's address: what [`Client::new`] asks.
///
/// # Errors
/// [`Error::BaseUrl`].
pub fn check_base_url(text: &str) -> Result<(), Error> {
    checked_base(text).map(drop)
}

fn checked_base(text: &str) -> Result<Url, Error> {
    let shown = |url: &Url| {
        let mut url = url.clone();
        // Fails only for URLs that cannot have them, and then there is nothing to hide.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.to_string()
    };
    let mut url =
        Url::parse(text).map_err(|_| Error::BaseUrl { url: text.to_owned(), why: "it is not a URL" })?;
    let why = match url.scheme() {
        "https" if url.has_host() => None,
        "http" if is_loopback(&url) => None,
        "http" => Some("plain http would expose the token; it is allowed for loopback addresses only"),
        _ => Some("the scheme is not https"),
    };
    let why = why
        .or((!url.username().is_empty() || url.password().is_some())
            .then_some("it contains a user name or password"))
        .or((url.path() != "/" || url.query().is_some())
            .then_some("it has a path; leave it out, /v2 is added automatically"));
    if let Some(why) = why {
        return Err(Error::BaseUrl { url: shown(&url), why });
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether the URL's host is this machine: 127.0.0.0/8, ::1 or `localhost`.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Makes ring the process's TLS provider. Somebody else may have chosen one first; that is as good.
pub(super) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use reqwest::header::LOCATION;

    use super::*;

    #[test]
    fn the_base_url_is_https_or_loopback() {
        for good in [
            "https://api.digitalocean.com",
            "https://x.org:8443/",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://localhost:1",
            "http://[::1]:80",
        ] {
            assert!(checked_base(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.digitalocean.com",
            "http://10.0.0.1",
            "http://127.0.0.1.evil.org",
            "http://localhost.evil.org",
            "ftp://127.0.0.1",
            "https://api.digitalocean.com/v2",
            "https://me:secret@api.digitalocean.com",
            "api.digitalocean.com",
            "",
        ] {
            let error = checked_base(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_error_body_may_be_anything() {
        let call = || Call { method: "GET", path: "/v2/x".into() };
        let of = |status, body: &str| refusal(call(), status, &HeaderMap::new(), body.as_bytes());
        let answer = of(
            422,
            r#"{"id":"unprocessable_entity","message":"no","error_attributes":{"available_regions":["fra1"]}}"#,
        );
        assert_eq!(
            (answer.message.as_str(), answer.available_regions.as_slice()),
            ("no", ["fra1".to_owned()].as_slice())
        );
        assert_eq!(of(400, r#"{"error":"bad tag","messages":null,"root_causes":[]}"#).message, "bad tag");
        assert_eq!(of(502, "<html>Bad Gateway</html>").message, "<html>Bad Gateway</html>");
        assert_eq!(of(500, "").to_string(), "GET /v2/x failed with HTTP 500");
    }

    #[test]
    fn a_refusal_that_is_not_the_apis_own_names_no_scope() {
        let call = || Call { method: "GET", path: "/v2/droplets".into() };
        let hint = |body: &str| {
            let answer = refusal(call(), 403, &HeaderMap::new(), body.as_bytes());
            Error::Refused(Box::new(answer)).hint().unwrap_or_default()
        };
        let own = hint(r#"{"id":"forbidden","message":"You are not authorized to perform this operation"}"#);
        assert_eq!(own, "the token needs the scope droplet:read");
        for body in ["<html><title>Security check</title></html>", "", "{}", "denied"] {
            assert!(hint(body).contains("proxy or firewall"), "{body}: {}", hint(body));
        }
    }

    #[test]
    fn what_has_run_out_is_to_be_had_elsewhere() {
        let call = || Call { method: "POST", path: "/v2/droplets".into() };
        let hint = |message: &str| {
            let body = serde_json::json!({ "id": "unprocessable_entity", "message": message }).to_string();
            Error::Refused(Box::new(refusal(call(), 422, &HeaderMap::new(), body.as_bytes()))).hint()
        };
        for message in [
            "Region is not available",
            "Size is not available in this region.",
            "The size is currently sold out",
            "This region has limited availability",
            "The region is at capacity",
        ] {
            assert_eq!(hint(message).as_deref(), Some("try another region or size"), "{message}");
        }
        let limit = hint("creating this/these droplet(s) will exceed your droplet limit").unwrap();
        assert!(limit.contains("higher limit"), "{limit}");
        for message in [
            "The image you specified is not available in the selected region",
            "VPC is not available in this region.",
            "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
        ] {
            assert_eq!(hint(message), None, "{message}");
        }
    }

    #[test]
    fn a_redirect_names_where_it_leads() {
        let call = || Call { method: "GET", path: "/v2/droplets".into() };
        let headers =
            HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("https://other.example/v2/"))]);
        for status in [301, 302, 307, 308] {
            let error = Error::Refused(Box::new(refusal(call(), status, &headers, b"<html>Moved</html>")));
            let text = error.to_string();
            assert!(
                text.contains("redirected to https://other.example/v2/;") && !text.contains("html"),
                "{text}"
            );
            assert_eq!(error.hint().unwrap(), "if the new address is right, use it as the API's address");
            assert!(!error.is_transient(), "{status}");
        }
        let nowhere = Error::Refused(Box::new(refusal(call(), 302, &HeaderMap::new(), b"")));
        assert_eq!(nowhere.to_string(), "GET /v2/droplets failed with HTTP 302");
    }

    #[test]
    fn notices_read_well() {
        let call = Call { method: "GET", path: "/v2/droplets".into() };
        let retry =
            |status, ms| Notice::Retry { call: call.clone(), wait: Duration::from_millis(ms), status };
        assert_eq!(retry(Some(429), 7000).to_string(), "rate limit: DigitalOcean asks to wait 7 s");
        assert_eq!(retry(Some(503), 1540).to_string(), "GET /v2/droplets: HTTP 503; retrying in 1.5 s");
        assert_eq!(retry(None, 12_300).to_string(), "GET /v2/droplets: no answer; retrying in 12 s");
    }
}
