//! The metadata service: what a droplet finds at `http://169.254.169.254/metadata/v1/`. It is told from which
//! droplet a question comes by the address it comes from.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use super::api::Lab;
use super::machine::Machines;

/// Where it listens, on this machine's address on the public network.
pub(super) const PORT: u16 = 80;

/// Answers until it is dropped.
///
/// # Errors
/// The listener fails.
pub(super) async fn serve<M: Machines>(listener: TcpListener, lab: Lab<M>) -> Result<()> {
    let app = Router::new().fallback(answer::<M>).with_state(lab);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await.context("cannot serve the metadata")
}

async fn answer<M: Machines>(
    State(lab): State<Lab<M>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> Response {
    let metadata = match from.ip() {
        IpAddr::V4(address) => lab.metadata_of(address),
        IpAddr::V6(_) => None,
    };
    let Some(metadata) = metadata else { return StatusCode::NOT_FOUND.into_response() };
    if uri.path() == "/metadata/v1.json" {
        return ([(header::CONTENT_TYPE, "application/json")], metadata.to_string()).into_response();
    }
    match uri.path().strip_prefix("/metadata/v1").and_then(|path| look_up(&metadata, path)) {
        Some(Found::Text(text)) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        Some(Found::Elsewhere) => {
            let to = format!("{}/", uri.path());
            (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What is found at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// An index, or a value.
    Text(String),
    /// An index without its slash at the end.
    Elsewhere,
}

/// The paths are those of the JSON document, with hyphens, and with two names of their own.
fn look_up(metadata: &Value, path: &str) -> Option<Found> {
    let mut at = metadata;
    for word in path.split('/').filter(|word| !word.is_empty()) {
        let key = match word {
            "id" if path.trim_matches('/') == "id" => "droplet_id".to_owned(),
            "address" => "ip_address".to_owned(),
            word => word.replace('-', "_"),
        };
        at = match at {
            Value::Array(list) => list.get(word.parse::<usize>().ok()?)?,
            at => at.get(word).or_else(|| at.get(&key))?,
        };
    }
    let name = |key: &str| match key {
        "droplet_id" => "id".to_owned(),
        "ip_address" => "address".to_owned(),
        "anchor_ipv4" | "reserved_ip" | "floating_ip" => key.to_owned(),
        key => key.replace('_', "-"),
    };
    let index = |entries: Vec<String>| {
        Some(if path.ends_with('/') { Found::Text(entries.join("\n")) } else { Found::Elsewhere })
    };
    match at {
        Value::Object(fields) => index(
            fields
                .iter()
                .map(
                    |(key, value)| {
                        if value.is_object() || is_index(value) { name(key) + "/" } else { name(key) }
                    },
                )
                .collect(),
        ),
        at if is_index(at) => index((0..at.as_array()?.len()).map(|number| format!("{number}/")).collect()),
        Value::Array(lines) => {
            Some(Found::Text(lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")))
        }
        Value::String(text) => Some(Found::Text(text.clone())),
        Value::Null => Some(Found::Text(String::new())),
        at => Some(Found::Text(at.to_string())),
    }
}

/// A list of more than words.
fn is_index(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().any(Value::is_object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_those_of_the_document() {
        let metadata = json!({
            "droplet_id": 17, "hostname": "pg1", "user_data": "#cloud-config\n", "public_keys": ["a", "b"],
            "interfaces": { "public": [{ "ipv4": { "ip_address": "10.99.0.10" }, "type": "public" }] },
            "reserved_ip": { "ipv4": { "active": true, "ip_address": "10.99.3.10" } },
        });
        let text = |path: &str| match look_up(&metadata, path) {
            Some(Found::Text(text)) => Some(text),
            _ => None,
        };
        assert_eq!(text("/id").unwrap(), "17");
        assert_eq!(text("/user-data").unwrap(), "#cloud-config\n");
        assert_eq!(text("/public-keys").unwrap(), "a\nb");
        assert_eq!(text("/interfaces/public/0/ipv4/address").unwrap(), "10.99.0.10");
        assert_eq!(text("/reserved_ip/ipv4/active").unwrap(), "true");
        assert_eq!(text("/interfaces/").unwrap(), "public/");
        assert_eq!(look_up(&metadata, "/interfaces/public"), Some(Found::Elsewhere));
        assert_eq!(look_up(&metadata, "/nothing"), None);
        assert_eq!(look_up(&metadata, "/interfaces/public/7/"), None);
    }
}
