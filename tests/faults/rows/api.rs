//! An API that is slow, wrong or away at the moment of a failover.

use serde_json::{Value, json};

use crate::fault::Fault;
use crate::matrix::Row;
use crate::trial::Trial;

/// The rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "api-pending-event",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 422 \"pending event\" for 8 s",
        expected: "promoted immediately; the address is moved once the API allows it",
        play: |trial| api(trial, &json!({"fault": "pending_event"}), 8.0),
    },
    Row {
        name: "api-rate-limit",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 429 for 8 s",
        expected: "promoted immediately; the address is moved once the API allows it",
        play: |trial| api(trial, &json!({"fault": "rate_limit", "retry_after": 1}), 8.0),
    },
    Row {
        name: "api-500",
        goals: "G5",
        fault: "the primary killed; the API answers the move with 500 for 8 s",
        expected: "promoted immediately; the address is moved once the API works again",
        play: |trial| api(trial, &json!({"fault": "status", "code": 500}), 8.0),
    },
    Row {
        name: "api-slow",
        goals: "G5",
        fault: "the primary killed; every answer of the API is 5 s late",
        expected: "promoted immediately; the address is moved anyway",
        play: |trial| {
            trial.breaks(&Fault::Api(json!({"path": "/v2/*", "fault": "delay", "ms": 5000})))?;
            trial.restart_clock();
            let (old, new) = (trial.old.clone(), trial.new.clone());
            trial.kills(&old, &new)?;
            trial.failover()?;
            trial.mends()?;
            trial.back()
        },
    },
    Row {
        name: "api-token-refused",
        goals: "G5",
        fault: "the primary killed; the API refuses the token (401) for 15 s",
        expected: "promoted immediately; the address is moved once the token works again",
        play: |trial| api(trial, &json!({"fault": "status", "code": 401}), 15.0),
    },
    Row {
        name: "api-lost-answers",
        goals: "G5",
        fault: "the primary killed; the API carries out requests, but its answers are lost, for 8 s",
        expected: "promoted immediately; the address points to the new primary",
        play: |trial| api(trial, &json!({"fault": "lose_reply"}), 8.0),
    },
];

/// PostgreSQL on the primary is killed while the API has a fault at moves of the address, for `seconds`.
fn api(trial: &mut Trial<'_>, rule: &Value, seconds: f64) -> Result<(), String> {
    let mut rule = rule.clone();
    rule["method"] = json!("POST");
    rule["path"] = json!("/v2/reserved_ips/*");
    trial.breaks(&Fault::Api(rule))?;
    trial.restart_clock();
    let (old, new) = (trial.old.clone(), trial.new.clone());
    trial.kills(&old, &new)?;
    trial.promoted()?;
    trial.sleep(seconds);
    trial.mends()?;
    trial.address_follows()?;
    trial.back()
}
