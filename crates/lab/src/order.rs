//! Orders to a lab's daemon, by its own end of the API.

use std::fs;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::api::fault::Rule;
use super::api::spaces_fault::{Away, SpacesFault};
use super::home::Home;
use super::settings::LabSettings;
use crate::Wrong;

/// Orders a fault of Spaces, in addition to those in force.
///
/// # Errors
/// The daemon does not answer.
pub async fn spaces_fault(settings: &LabSettings, rule: &Rule<SpacesFault>) -> Result<()> {
    send(settings, Method::POST, "/lab/spaces/faults", json!(rule)).await
}

/// Orders Spaces away.
///
/// # Errors
/// The daemon does not answer.
pub async fn spaces_away(settings: &LabSettings, away: Away) -> Result<()> {
    send(settings, Method::PUT, "/lab/spaces/away", json!({ "away": away })).await
}

/// Ends all faults of Spaces.
///
/// # Errors
/// The daemon does not answer.
pub async fn heal_spaces(settings: &LabSettings) -> Result<()> {
    send(settings, Method::DELETE, "/lab/spaces/faults", Value::Null).await
}

async fn send(settings: &LabSettings, method: Method, path: &str, body: Value) -> Result<()> {
    let token = Home::of(&settings.name).token();
    let token = fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;
    // Somebody else may have chosen a provider of TLS first; that is as good, and none is needed here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().build().context("cannot set up an HTTP client")?;
    let request =
        client.request(method, format!("{}{path}", settings.api_url())).bearer_auth(token.trim()).json(&body);
    let Ok(answer) = request.send().await else {
        bail!(Wrong::new(
            format!("the API of lab {} does not answer", settings.name),
            format!("start it again with `cluster lab start --name {} --resume`", settings.name)
        ));
    };
    if !answer.status().is_success() {
        bail!("the lab refused the order: {}", answer.text().await.unwrap_or_default());
    }
    Ok(())
}
