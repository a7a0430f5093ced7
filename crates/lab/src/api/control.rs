//! `/lab`: what the real API does not have. Settings, faults, the journal, and a look behind the scenes.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fault::{Faults, Rule};
use super::lab::Lab;
use super::settings::Settings;
use super::spaces_fault::{Away, SpacesFault, SpacesFaults};
use super::wire::{Access, Reply, Request};
use crate::machine::Machines;

/// Answers a request to `/lab`. The operator's token only.
pub(super) fn answer<M: Machines>(lab: &Lab<M>, request: &Request) -> Reply {
    if request.access != Access::Operator {
        return Reply::error(403, "You do not have permission to perform this action.");
    }
    let path = request.path.trim_end_matches('/');
    match (request.method.as_str(), path) {
        ("GET", "/lab/state") => Reply::ok(200, state(lab)),
        ("GET", "/lab/requests") => Reply::ok(200, json!({ "requests": lab.lock().journal.entries() })),
        ("DELETE", "/lab/requests") => {
            lab.lock().journal.clear();
            Reply::empty()
        }
        ("GET", "/lab/settings") => Reply::ok(200, json!({ "settings": lab.lock().settings })),
        ("PUT" | "PATCH", "/lab/settings") => {
            let mut wanted = json!(lab.lock().settings);
            merge(&mut wanted, &request.body);
            parsed::<Settings>(wanted, |settings| {
                lab.lock().settings = settings;
                Reply::ok(200, json!({ "settings": lab.lock().settings }))
            })
        }
        ("GET", "/lab/faults") => Reply::ok(200, json!(lab.lock().faults)),
        ("POST", "/lab/faults") => parsed::<Vec<Rule>>(listed(request), |rules| {
            lab.lock().faults.rules.extend(rules);
            Reply::ok(201, json!(lab.lock().faults))
        }),
        ("DELETE", "/lab/faults") => {
            lab.lock().faults = Faults::default();
            Reply::empty()
        }
        ("PUT", "/lab/away") => match request.body.get("away").and_then(Value::as_bool) {
            Some(away) => {
                lab.lock().faults.away = away;
                Reply::ok(200, json!({ "away": away }))
            }
            None => Reply::invalid("away must be true or false"),
        },
        ("GET", "/lab/spaces/faults") => Reply::ok(200, json!(lab.lock().state.spaces_faults)),
        ("POST", "/lab/spaces/faults") => parsed::<Vec<Rule<SpacesFault>>>(listed(request), |rules| {
            Reply::ok(201, lab.spaces_faults(|faults| faults.rules.extend(rules)))
        }),
        ("DELETE", "/lab/spaces/faults") => {
            lab.spaces_faults(|faults| *faults = SpacesFaults::default());
            Reply::empty()
        }
        ("PUT", "/lab/spaces/away") => {
            let away = request.body.get("away").cloned().unwrap_or_default();
            parsed::<Option<Away>>(away, |away| {
                Reply::ok(200, lab.spaces_faults(|faults| faults.away = away))
            })
        }
        ("GET", path) => {
            let id = path.strip_prefix("/lab/metadata/").and_then(|id| id.parse().ok());
            match id.and_then(|id| lab.with(|world| world.metadata(id))) {
                Some(metadata) => Reply::ok(200, metadata),
                None => Reply::not_found(),
            }
        }
        _ => Reply::not_found(),
    }
}

/// One thing or several, as several.
fn listed(request: &Request) -> Value {
    if request.body.is_array() { request.body.clone() } else { json!([request.body]) }
}

/// The whole state but for secrets: keys to Spaces, and user data, which holds keys.
fn state<M: Machines>(lab: &Lab<M>) -> Value {
    let inner = lab.lock();
    let mut state = json!(inner.state);
    if let Some(droplets) = state["droplets"].as_object_mut() {
        for droplet in droplets.values_mut() {
            droplet["spec"]["user_data"] = Value::Null;
        }
    }
    if let Some(keys) = state["spaces_keys"].as_object_mut() {
        for key in keys.values_mut() {
            key["secret_key"] = Value::Null;
        }
    }
    json!({ "state": state, "routes": inner.state.routes(), "faults": inner.faults,
            "settings": inner.settings, "troubles": inner.troubles })
}

fn parsed<T: DeserializeOwned>(value: Value, then: impl FnOnce(T) -> Reply) -> Reply {
    match serde_json::from_value(value) {
        Ok(value) => then(value),
        Err(error) => Reply::invalid(&error.to_string()),
    }
}

/// Writes the leaves of `patch` over those of `target`.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (target, patch) => *target = patch.clone(),
    }
}
