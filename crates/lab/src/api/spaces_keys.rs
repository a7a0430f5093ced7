//! `/v2/spaces/keys`.

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::render;
use super::route::World;
use super::wire::{Millis, Reply, Request};

/// What the characters of a secret are drawn from: one for each value of six bits.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What the characters of a key's name are drawn from: one for each value of five bits.
const CAPITALS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// A key to Spaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpacesKey {
    /// What whoever made it called it; not unique.
    pub name: String,
    /// What a request names.
    pub access_key: String,
    /// What signs it. The answer to the creation is the only one that has it.
    pub secret_key: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it was asked for.
    pub created: Millis,
    /// When it works.
    pub works: Millis,
}

/// What a key may do to a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The bucket, which need not exist; empty for full access.
    pub bucket: String,
    /// How much.
    pub permission: Permission,
}

/// How much a key may do. Each includes what comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// List and read objects.
    Read,
    /// Write and delete objects.
    ReadWrite,
    /// All of it in every bucket, and make and delete buckets.
    FullAccess,
}

impl SpacesKey {
    /// Whether it may do so much to a bucket.
    pub fn may(&self, wanted: Permission, bucket: &str) -> bool {
        self.grants.iter().any(|grant| {
            grant.permission >= wanted
                && (grant.permission == Permission::FullAccess || grant.bucket == bucket)
        })
    }

    fn is_full(&self) -> bool {
        is_full(&self.grants)
    }
}

fn is_full(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.permission == Permission::FullAccess)
}

impl World<'_> {
    pub(super) fn spaces_keys(&mut self, request: &Request, rest: &[&str]) -> Reply {
        match (request.method.as_str(), rest) {
            ("GET", []) => self.list_spaces_keys(request),
            ("POST", []) => self.create_spaces_key(request),
            (method, [which]) if self.state.spaces_keys.contains_key(*which) => match method {
                "GET" => self.spaces_key(which),
                "PUT" | "PATCH" => self.update_spaces_key(request, which),
                "DELETE" => {
                    self.state.spaces_keys.remove(*which);
                    Reply::empty()
                }
                _ => Reply::not_found(),
            },
            _ => Reply::not_found(),
        }
    }

    fn list_spaces_keys(&self, request: &Request) -> Reply {
        let asked = |name: &str| request.query.get(name).filter(|value| !value.is_empty());
        let mut keys: Vec<&SpacesKey> = self
            .state
            .spaces_keys
            .values()
            .filter(|key| asked("name").is_none_or(|name| key.name == *name))
            .filter(|key| {
                asked("bucket").is_none_or(|bucket| key.grants.iter().any(|grant| grant.bucket == *bucket))
            })
            .filter(|key| {
                asked("permission").is_none_or(|permission| {
                    key.grants.iter().any(|grant| json!(grant.permission) == **permission)
                })
            })
            .collect();
        keys.sort_by_key(|key| key.created);
        if asked("sort_direction").is_none_or(|direction| direction != "asc") {
            keys.reverse();
        }
        Reply::page(request, "keys", keys.into_iter().map(render::spaces_key).collect())
    }

    fn spaces_key(&self, which: &str) -> Reply {
        Reply::ok(200, json!({ "key": self.state.spaces_keys.get(which).map(render::spaces_key) }))
    }

    fn create_spaces_key(&mut self, request: &Request) -> Reply {
        let Some(name) = request.text("name").filter(|name| !name.is_empty()) else {
            return Reply::error(400, "name is required");
        };
        let grants = match grants(request.body.get("grants")) {
            Ok(grants) => grants.unwrap_or_default(),
            Err(refusal) => return refusal,
        };
        let (id, secret_key) = match (random(CAPITALS, 16), random(LETTERS, 43)) {
            (Ok(id), Ok(secret)) => (id, secret),
            (Err(error), _) | (_, Err(error)) => return Reply::error(500, &error.to_string()),
        };
        let key = SpacesKey {
            name: name.to_owned(),
            access_key: format!("DO00{id}"),
            secret_key,
            grants,
            created: self.now,
            works: self.now.saturating_add_unsigned(self.settings.times.spaces_key),
        };
        let mut shown = render::spaces_key(&key);
        shown["secret_key"] = key.secret_key.as_str().into();
        self.state.spaces_keys.insert(key.access_key.clone(), key);
        Reply::ok(201, json!({ "key": shown }))
    }

    fn update_spaces_key(&mut self, request: &Request, which: &str) -> Reply {
        let grants = match grants(request.body.get("grants")) {
            Ok(grants) => grants,
            Err(refusal) => return refusal,
        };
        if let Some(key) = self.state.spaces_keys.get_mut(which) {
            if grants.as_ref().is_some_and(|grants| is_full(grants) != key.is_full()) {
                return Reply::error(400, "cannot convert between fullaccess and scoped permissions.");
            }
            key.grants = grants.unwrap_or_else(|| key.grants.clone());
            key.name = request.text("name").map_or_else(|| key.name.clone(), str::to_owned);
        }
        self.spaces_key(which)
    }
}

/// The grants in a request's body, if it has any, or why they are none.
fn grants(body: Option<&Value>) -> Result<Option<Vec<Grant>>, Reply> {
    let refused = |message: &str| Reply::error(400, message);
    let Some(body) = body.filter(|body| !body.is_null()) else { return Ok(None) };
    let grants: Vec<Grant> =
        serde_json::from_value(body.clone()).map_err(|error| refused(&format!("invalid grants: {error}")))?;
    if is_full(&grants) && grants.len() > 1 {
        return Err(refused("cannot mix fullaccess permission with scoped permissions."));
    }
    // An empty name means every bucket, and nothing but full access does.
    if grants.iter().any(|grant| (grant.permission == Permission::FullAccess) != grant.bucket.is_empty()) {
        return Err(refused("a scoped permission needs a bucket, and fullaccess takes none"));
    }
    Ok(Some(grants))
}

/// So many characters of an alphabet whose size is a power of two.
fn random(alphabet: &[u8], length: usize) -> Result<String> {
    let mut bytes = vec![0_u8; length];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(grants: &[(&str, Permission)]) -> SpacesKey {
        let grants = grants
            .iter()
            .map(|(bucket, permission)| Grant { bucket: (*bucket).to_owned(), permission: *permission })
            .collect();
        let (name, access_key, secret_key) = Default::default();
        SpacesKey { name, access_key, secret_key, grants, created: 0, works: 0 }
    }

    #[test]
    fn a_key_opens_what_it_was_made_for() {
        use Permission::{FullAccess, Read, ReadWrite};
        let scoped = key(&[("one", ReadWrite), ("two", Read)]);
        for (wanted, bucket, want) in [
            (Read, "one", true),
            (ReadWrite, "one", true),
            (FullAccess, "one", false),
            (Read, "two", true),
            (ReadWrite, "two", false),
            (Read, "three", false),
            (Read, "", false),
        ] {
            assert_eq!(scoped.may(wanted, bucket), want, "{wanted:?} {bucket}");
        }
        assert!(key(&[("", FullAccess)]).may(FullAccess, "any"));
        assert!(!key(&[]).may(Read, ""));
    }

    #[test]
    fn grants_are_read_or_refused() {
        let read = |body: Value| grants(Some(&body)).map_err(|reply| reply.status);
        assert_eq!(read(Value::Null), Ok(None));
        assert_eq!(read(json!([])), Ok(Some(Vec::new())));
        assert_eq!(read(json!([{ "bucket": "b", "permission": "readwrite" }])).unwrap().unwrap().len(), 1);
        for bad in [
            json!([{ "bucket": "", "permission": "read" }]),
            json!([{ "bucket": "b", "permission": "fullaccess" }]),
            json!([{ "bucket": "b", "permission": "own" }]),
            json!([{ "bucket": "", "permission": "fullaccess" }, { "bucket": "b", "permission": "read" }]),
            json!("read"),
        ] {
            assert_eq!(read(bad.clone()), Err(400), "{bad}");
        }
    }
}
