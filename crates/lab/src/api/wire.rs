//! Requests and answers as values.

use std::collections::BTreeMap;

use cluster_cloud::scope;
use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value, json};

/// Milliseconds since 1970.
pub type Millis = i64;

/// A time as the API writes it: UTC, whole seconds.
pub(super) fn stamp(at: Millis) -> String {
    Timestamp::from_second(at.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Whose token a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The operator's: everything.
    Operator,
    /// The nodes': moves addresses and reads what that takes.
    Failover,
}

impl Access {
    /// Whether the token has a scope.
    pub fn has(self, scope: &str) -> bool {
        self == Access::Operator || scope::FAILOVER.contains(&scope)
    }

    /// The word for it in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Access::Operator => "operator",
            Access::Failover => "failover",
        }
    }
}

/// A request to `/v2`, taken apart.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The whole path.
    pub path: String,
    /// Decoded query.
    pub query: BTreeMap<String, String>,
    /// JSON body; `null` if there was none.
    pub body: Value,
    /// Scheme, host and port that the client used: links in the answer start with it.
    pub base: String,
    /// Whose token it carries.
    pub access: Access,
}

impl Request {
    /// The path's segments after `/v2`, decoded.
    pub(super) fn segments(&self) -> Vec<String> {
        let path = self.path.strip_prefix("/v2/").unwrap_or_default().trim_end_matches('/');
        path.split('/').map(decode).collect()
    }

    /// A text field of the body.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key)?.as_str()
    }

    /// A number, or one that is written as a string: clients send both.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        let value = self.body.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The items of a list in the body; none if it is not there.
    ///
    /// # Errors
    /// The refusal, if it is something else, or has items of another kind.
    pub(super) fn list(&self, key: &str, is_item: impl Fn(&Value) -> bool) -> Result<Vec<Value>, Reply> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) if items.iter().all(is_item) => Ok(items.clone()),
            Some(_) => Err(Reply::invalid(&format!("{key} is invalid"))),
        }
    }

    /// The texts of a list in the body.
    ///
    /// # Errors
    /// As [`Request::list`].
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, Reply> {
        let items = self.list(key, Value::is_string)?;
        Ok(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// A text field of the body that need not be there.
    ///
    /// # Errors
    /// The refusal, if it is something else.
    pub(super) fn text_or_none(&self, key: &str) -> Result<Option<&str>, Reply> {
        match self.body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Reply::invalid(&format!("{key} is invalid"))),
        }
    }

    /// A link into this API.
    pub(super) fn href(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON body; none for 204.
    pub body: Option<Value>,
    /// Seconds for the header `retry-after`.
    pub retry_after: Option<u64>,
}

impl Reply {
    /// A success with a body.
    pub fn ok(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), retry_after: None }
    }

    /// 204.
    pub fn empty() -> Self {
        Self { status: 204, body: None, retry_after: None }
    }

    /// An error as the API words it.
    pub fn error(status: u16, message: &str) -> Self {
        let id = match status {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            409 => "conflict",
            422 => "unprocessable_entity",
            429 => "too_many_requests",
            503 => "service_unavailable",
            _ => "server_error",
        };
        Self::ok(status, json!({ "id": id, "message": message }))
    }

    /// 404.
    pub fn not_found() -> Self {
        Self::error(404, "The resource you requested could not be found.")
    }

    /// 422.
    pub fn invalid(message: &str) -> Self {
        Self::error(422, message)
    }

    /// 422, because a droplet is busy.
    pub fn droplet_busy() -> Self {
        Self::invalid("Droplet already has a pending event.")
    }

    /// 422, because an address is busy.
    pub fn address_busy() -> Self {
        Self::invalid("The floating IP already has a pending event.")
    }

    /// 429.
    pub fn too_many(retry_after: Option<u64>) -> Self {
        Self { retry_after, ..Self::error(429, "API Rate limit exceeded.") }
    }

    /// The page of `items` that the request asks for.
    pub(super) fn page(request: &Request, key: &str, items: Vec<Value>) -> Self {
        let number = |key: &str| request.query.get(key).and_then(|text| text.parse::<usize>().ok());
        let per_page = number("per_page").unwrap_or(20).clamp(1, 200);
        let page = number("page").unwrap_or(1).max(1);
        let (total, pages) = (items.len(), items.len().div_ceil(per_page).max(1));
        let link = |page: usize| {
            let mut url = Url::parse(&request.href(&request.path)).ok()?;
            let others = request.query.iter().filter(|(key, _)| *key != "page");
            url.query_pairs_mut().extend_pairs(others).append_pair("page", &page.to_string());
            Some(url.to_string())
        };
        let mut links = Map::new();
        let mut add = |name: &str, there: bool, to: usize| {
            if let Some(url) = there.then(|| link(to)).flatten() {
                links.insert(name.to_owned(), url.into());
            }
        };
        add("first", page > 1, 1);
        add("prev", page > 1, page - 1);
        add("next", page < pages, page + 1);
        add("last", page < pages, pages);
        let items: Vec<Value> = items.into_iter().skip((page - 1) * per_page).take(per_page).collect();
        Self::ok(200, json!({ key: items, "links": { "pages": links }, "meta": { "total": total } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: usize, query: &[(&str, &str)]) -> Value {
        let request = Request {
            method: "GET".into(),
            path: "/v2/things".into(),
            query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            body: Value::Null,
            base: "http://127.0.0.1:80".into(),
            access: Access::Operator,
        };
        Reply::page(&request, "things", (0..count).map(Value::from).collect()).body.unwrap_or_default()
    }

    #[test]
    fn pages_link_to_their_neighbours() {
        assert_eq!(
            list(3, &[]),
            json!({ "things": [0, 1, 2], "links": { "pages": {} }, "meta": { "total": 3 } })
        );
        let middle = list(50, &[("page", "2"), ("tag_name", "a:b")]);
        assert_eq!(middle["things"].as_array().map(Vec::len), Some(20));
        let links = &middle["links"]["pages"];
        assert_eq!(links["next"], "http://127.0.0.1/v2/things?tag_name=a%3Ab&page=3");
        assert_eq!(links["prev"], links["first"]);
        let last = list(50, &[("page", "3")]);
        assert_eq!(last["links"]["pages"]["next"], Value::Null);
        assert_eq!(list(500, &[("per_page", "1000")])["things"].as_array().map(Vec::len), Some(200));
    }

    #[test]
    fn segments_are_decoded() {
        assert_eq!(decode("a%3Ab%2f"), "a:b/");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(stamp(1_595_356_664_999), "2020-07-21T18:37:44Z");
    }
}
