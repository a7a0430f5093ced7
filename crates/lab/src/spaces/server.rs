//! TLS, HTTP and faults in front of the buckets.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use http::Method;
use rustls::ServerConfig;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Keys;
use super::authority;
use super::body::{Treated, Treatment};
use super::s3::{Buckets, Limit};
use super::store::Store;
use super::tls::{Cut, TlsListener};
use crate::api::Lab;
use crate::api::spaces_fault::SpacesFault;
use crate::machine::Machines;

/// What there is to serve.
pub struct Spaces {
    store: Arc<Store>,
    tls: Arc<ServerConfig>,
}

impl Spaces {
    /// Opens the buckets in a directory, which is made if it is not there, and the certificate for these addresses.
    /// The certificate of its authority is written to `ca`.
    ///
    /// # Errors
    /// Files cannot be read or written.
    pub fn open(directory: &Path, ca: &Path, addresses: &[IpAddr]) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let tls = Arc::new(authority::server(directory, ca, addresses)?);
        Ok(Self { store: Arc::new(Store::open(directory)?), tls })
    }
}

struct Shared<M> {
    lab: Lab<M>,
    store: Arc<Store>,
    service: S3Service,
}

/// Serves the buckets on listeners until `stop`, for the keys and under the faults of a lab.
///
/// # Errors
/// If a listener fails.
pub async fn serve<M: Machines>(
    spaces: Spaces,
    lab: Lab<M>,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<()> {
    let keys = lab.clone();
    let keys = Keys(Arc::new(move |access_key| keys.spaces_key(access_key)));
    let mut service = S3ServiceBuilder::new(Buckets(Arc::clone(&spaces.store)));
    service.set_auth(keys.clone());
    service.set_access(keys);
    let shared = Shared { lab: lab.clone(), store: spaces.store, service: service.build() };
    let app = Router::new().fallback(handle::<M>).with_state(Arc::new(shared));
    let app = app.into_make_service_with_connect_info::<Cut>();
    let mut servers = JoinSet::new();
    for listener in listeners {
        let (app, lab) = (app.clone(), lab.clone());
        let away = move || lab.spaces_away();
        let listener = TlsListener::new(listener, Arc::clone(&spaces.tls), away, stop.clone())
            .context("cannot serve Spaces")?;
        servers.spawn(async move { axum::serve(listener, app).await });
    }
    stop.cancelled().await;
    servers.shutdown().await;
    Ok(())
}

async fn handle<M: Machines>(
    State(shared): State<Arc<Shared<M>>>,
    ConnectInfo(Cut(cut)): ConnectInfo<Cut>,
    request: Request,
) -> Response {
    let (mut treatment, mut refusal) = (Treatment::default(), None);
    let mut limit = None;
    for fault in shared.lab.strike_spaces(request.method().as_str(), request.uri().path()) {
        match fault {
            SpacesFault::Slow { ms, bytes_per_second } => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                treatment.bytes_per_second = bytes_per_second.or(treatment.bytes_per_second);
            }
            SpacesFault::Forbidden => refusal = Some(S3ErrorCode::AccessDenied),
            SpacesFault::Error => refusal = Some(S3ErrorCode::InternalError),
            SpacesFault::SlowDown => refusal = Some(S3ErrorCode::SlowDown),
            SpacesFault::Reset { after_bytes } => treatment.reset = Some((after_bytes, cut.clone())),
            SpacesFault::Full { bytes } => limit = Some(bytes.unwrap_or_else(|| shared.store.used())),
            SpacesFault::Taken => refusal = Some(taken(&request)),
        }
    }
    let (parts, body) = request.into_parts();
    let body = Treated::new(body, treatment.clone());
    let answer = match refusal {
        Some(code) => {
            drop(body);
            S3Error::new(code).to_http_response().map_err(|error| error.to_string())
        }
        None => {
            let mut request = http::Request::from_parts(parts, s3s::Body::http_body_unsync(body));
            if let Some(limit) = limit {
                request.extensions_mut().insert(Limit(limit));
            }
            shared.service.call(request).await.map_err(|error| format!("{error:?}"))
        }
    };
    match answer {
        Ok(answer) => {
            let treatment = Treatment { reset: None, ..treatment };
            answer.map(|body| Body::new(Treated::new(Body::new(body), treatment)))
        }
        Err(error) => {
            let mut answer = Response::new(Body::from(error));
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// The answer about another account's bucket.
fn taken(request: &Request) -> S3ErrorCode {
    let is_bucket = !request.uri().path().trim_matches('/').contains('/');
    if request.method() == Method::PUT && is_bucket {
        S3ErrorCode::BucketAlreadyExists
    } else {
        S3ErrorCode::AccessDenied
    }
}
