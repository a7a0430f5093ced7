//! The HTTP in front of a lab.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request as HttpRequest, State as Shared};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use reqwest::Url;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control;
use super::cord::{Cord, CordedListener};
use super::fault::Fault;
use super::half::half;
use super::journal::Entry;
use super::lab::{Lab, now};
use super::rate::Standing;
use super::wire::{Reply, Request};
use crate::machine::Machines;

/// Largest request body that is read: user data, escaped, and a little more.
const BODY_LIMIT: usize = 1024 * 1024;

/// Serves a lab on listeners (loopback, and whatever else its droplets reach it at) until `stop`. Returns when
/// all work on the machines that had begun is finished.
///
/// # Errors
/// If a listener fails.
pub async fn serve<M: Machines>(
    lab: Lab<M>,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<()> {
    let app = Router::new().fallback(handle::<M>).with_state((lab.clone(), stop.clone()));
    let app = app.into_make_service_with_connect_info::<Cord>();
    let work = tokio::spawn({
        let (lab, stop) = (lab, stop.clone());
        async move { lab.run(stop).await }
    });
    let mut servers = JoinSet::new();
    for listener in listeners {
        let app = app.clone();
        servers.spawn(async move { axum::serve(CordedListener(listener), app).await });
    }
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        Some(ended) = servers.join_next() => match ended {
            Ok(result) => result.context("serve the lab's API"),
            Err(error) => Err(error).context("serve the lab's API"),
        },
    };
    stop.cancel();
    work.await.context("finish the lab's work")?;
    // Not gracefully: a client that keeps its connection open must not keep the lab alive.
    servers.shutdown().await;
    result
}

async fn handle<M: Machines>(
    Shared((lab, stop)): Shared<(Lab<M>, CancellationToken)>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    http: HttpRequest,
) -> Response {
    let (parts, body) = http.into_parts();
    let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let is_lab = path == "/lab" || path.starts_with("/lab/");
    if stop.is_cancelled() || (!is_lab && lab.lock().faults.away) {
        cord.pull();
        return respond(&lab, Reply::empty(), None);
    }
    let Some(access) = lab.tokens().access(token) else {
        return respond(&lab, Reply::error(401, "Unable to authenticate you."), None);
    };
    let bytes = match to_bytes(body, BODY_LIMIT).await {
        Ok(bytes) => bytes,
        Err(_) => return respond(&lab, Reply::error(400, "error parsing request body"), None),
    };
    let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
    let Ok(body) = body else {
        return respond(&lab, Reply::error(400, "error parsing request body"), None);
    };
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let request = Request {
        method: parts.method.as_str().to_owned(),
        query: query(&parts.uri.to_string()),
        path,
        body,
        base: format!("http://{host}"),
        access,
    };
    if is_lab {
        return respond(&lab, control::answer(&lab, &request), None);
    }
    if !request.path.starts_with("/v2/") {
        return respond(&lab, Reply::not_found(), None);
    }
    // In a task of its own: it is carried out even if the client does not wait for it.
    let late = lab.clone();
    let answered = tokio::spawn(async move { answer(&late, &cord, &request).await }).await;
    answered.unwrap_or_else(|error| respond(&lab, Reply::error(500, &error.to_string()), None))
}

/// Answers a request to `/v2`, or fails to, as ordered.
async fn answer<M: Machines>(lab: &Lab<M>, cord: &Cord, request: &Request) -> Response {
    let (standing, fault) = {
        let mut guard = lab.lock();
        let inner = &mut *guard;
        let standing = inner.rates.count(request, &inner.settings.limits, now());
        let fault = inner.faults.strike(&request.method, &request.path);
        (standing, fault.filter(|_| !standing.exceeded))
    };
    let mut lost = false;
    let mut done = true;
    let reply = match &fault {
        _ if standing.exceeded => Reply::too_many(standing.retry_after),
        None => lab.with(|world| world.answer(request)),
        Some(Fault::Delay { ms }) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            lab.with(|world| world.answer(request))
        }
        Some(Fault::LoseReply | Fault::Truncate) => {
            lost = true;
            lab.with(|world| world.answer(request))
        }
        Some(Fault::Drop) => {
            (lost, done) = (true, false);
            Reply::empty()
        }
        Some(Fault::Hang { ms }) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            (lost, done) = (true, false);
            Reply::empty()
        }
        Some(Fault::Status { code, body: Some(body) }) => Reply::ok(*code, body.clone()),
        Some(Fault::Status { code, body: None }) => Reply::error(*code, words(*code)),
        Some(Fault::Body { code, .. }) => Reply { status: *code, ..Reply::empty() },
        Some(Fault::RateLimit { retry_after }) => Reply::too_many(*retry_after),
        Some(Fault::PendingEvent) if request.path.starts_with("/v2/droplets") => Reply::droplet_busy(),
        Some(Fault::PendingEvent) => Reply::address_busy(),
        Some(Fault::FailCreate) => lab.with(|world| world.answer_and_fail(request)),
    };
    if request.method != "GET" {
        lab.lock().journal.add(Entry {
            at: now(),
            token: request.access.word().to_owned(),
            method: request.method.clone(),
            path: request.path.clone(),
            status: if done { reply.status } else { 0 },
            lost,
        });
    }
    let broken = match fault {
        Some(Fault::Body { code, text, headers }) => return page(code, text, &headers),
        Some(Fault::Truncate) => half(respond(lab, reply.clone(), Some(standing))).await,
        _ => None,
    };
    broken.unwrap_or_else(|| {
        if lost {
            cord.pull();
        }
        respond(lab, reply, Some(standing))
    })
}

/// An answer that somebody in between gives: none of the API's headers is on it.
fn page(code: u16, text: String, headers: &BTreeMap<String, String>) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// What the API says with a status, as far as it always says the same.
fn words(code: u16) -> &'static str {
    match code {
        401 => "Unable to authenticate you.",
        403 => "You do not have permission to perform this action.",
        404 => "The resource you requested could not be found.",
        429 => "API rate limit exceeded.",
        _ => "Unexpected server-side error",
    }
}

fn query(uri: &str) -> BTreeMap<String, String> {
    // Any host will do: a request's URI has none.
    let url = Url::parse("http://localhost").and_then(|base| base.join(uri));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// Puts an answer on the wire, with the headers that every answer has.
fn respond<M: Machines>(lab: &Lab<M>, mut reply: Reply, standing: Option<Standing>) -> Response {
    let number = {
        let mut inner = lab.lock();
        inner.requests += 1;
        inner.requests
    };
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    if let Some(standing) = standing {
        add("ratelimit-limit", standing.limit.to_string());
        add("ratelimit-remaining", standing.remaining.to_string());
        add("ratelimit-reset", standing.reset.to_string());
    }
    if let Some(seconds) = reply.retry_after {
        add("retry-after", seconds.to_string());
    }
    if let Some(Value::Object(body)) = &mut reply.body
        && reply.status >= 400
        && body.contains_key("id")
    {
        body.insert("request_id".into(), request_id.clone().into());
    }
    add("x-request-id", request_id);
    let body = match &reply.body {
        Some(body) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}
