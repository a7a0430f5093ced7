//! What a node asks of the provider, with the token that may do little: whether a silent primary's server is off, and
//! that the floating IP lead here. Nothing else of the node program knows the API.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cluster_cloud::{Client, Error, Pace, Policy, Token};
use cluster_contract::config::{Config, FloatingIp, Member};
use cluster_contract::paths;
use secrecy::SecretString;

/// An answer that takes longer is hardly worth having: the lease of a silent node ends by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// How long an answer is waited for once the API has shown that it takes its time.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Where another token is put: the one on this node comes from the operator's machine.
const TOKEN_PLACE: &str = "failover_token_file or DIGITALOCEAN_FAILOVER_TOKEN, and run `cluster up`";

/// # Errors
/// When there is no token.
fn client(floating_ip: &FloatingIp, policy: Policy) -> Result<Client> {
    let token = std::fs::read_to_string(Path::new(paths::FAILOVER_TOKEN))
        .with_context(|| format!("cannot read {}", paths::FAILOVER_TOKEN))?;
    let token = Token::from_place(SecretString::from(token.trim()), TOKEN_PLACE);
    Ok(Client::new(&floating_ip.api_url, token)?.with_policy(policy))
}

/// Whether `member`'s server is off, and nothing is being done to it.
///
/// # Errors
/// In the API's words, or that it does not answer in time.
pub(super) async fn is_off(config: &Config, member: &Member) -> Result<bool> {
    let (Some(floating_ip), Some(droplet)) = (&config.floating_ip, member.droplet_id) else {
        return Ok(false);
    };
    let client = client(floating_ip, Policy::urgent())?;
    let off = tokio::time::timeout(ANSWER_LIMIT, client.droplet_is_off(droplet, member.host)).await;
    Ok(off.context("the API does not answer in time")??)
}

/// Makes the floating IP lead to this node, if it does not yet, whatever the API says at the moment. `patient` is for an
/// API that has failed just now: it may be slow rather than away.
///
/// # Errors
/// In the API's words. Trying again is the caller's.
pub(super) async fn take_address(config: &Config, patient: bool) -> Result<bool> {
    let Some(floating_ip) = &config.floating_ip else { return Ok(false) };
    let IpAddr::V4(address) = floating_ip.address else {
        bail!("{} is not an IPv4 address", floating_ip.address)
    };
    let droplet = config.me().droplet_id.context("this node has no droplet id")?;
    let urgent = Policy::urgent();
    let policy = if patient { Policy { timeout: PATIENT_TIMEOUT, ..urgent } } else { urgent };
    let client = client(floating_ip, policy)?;
    let found = client.reserved_ip(address).await?;
    // A move that is under way may take it to another node.
    if found.is_some_and(|found| found.holder() == Some(droplet) && !found.locked) {
        return Ok(false);
    }
    client.assign(address, droplet, Pace::urgent()).await?;
    Ok(true)
}

/// An error in words, with what the operator can do about it where nothing else helps: what passes is tried again, and
/// hints about it are for whoever runs a command.
pub(super) fn in_words(error: &anyhow::Error) -> String {
    let of_provider = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let lasting = of_provider.filter(|error| {
        !error.is_transient()
            && matches!(error, Error::Refused(_) | Error::NoAnswer { .. } | Error::Token { .. })
    });
    match lasting.and_then(Error::hint) {
        Some(hint) => format!("{error:#} ({hint})"),
        None => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use cluster_cloud::error::{Answer, Call};

    use super::*;

    fn answer(status: u16, id: &str) -> Box<Answer> {
        Box::new(Answer {
            call: Call { method: "POST", path: "/v2/reserved_ips/10.0.0.1/actions".into() },
            status,
            id: id.into(),
            message: "no".into(),
            request_id: None,
            wait: None,
            available_regions: Vec::new(),
            token_place: Some(TOKEN_PLACE.into()),
        })
    }

    #[test]
    fn a_refusal_that_lasts_says_what_to_do() {
        let told = |error: Error| in_words(&anyhow::Error::new(error).context("cannot move the address"));
        let call = "cannot move the address: POST /v2/reserved_ips/10.0.0.1/actions failed with HTTP";
        assert_eq!(
            told(Error::Refused(answer(401, "unauthorized"))),
            format!(
                "{call} 401: no (the token is wrong, expired or revoked: replace it in failover_token_file or \
                 DIGITALOCEAN_FAILOVER_TOKEN, and run `cluster up`)"
            )
        );
        assert_eq!(
            told(Error::Refused(answer(403, "forbidden"))),
            format!("{call} 403: no (the token needs the scope reserved_ip:update)")
        );
        assert_eq!(told(Error::Refused(answer(429, "too_many_requests"))), format!("{call} 429: no"));
        assert_eq!(told(Error::Failed(answer(503, ""))), format!("{call} 503: no"));
        assert_eq!(in_words(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }
}
