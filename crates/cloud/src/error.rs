//! What can go wrong between us and the API, told apart as far as callers act on the difference.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::retry::Asked;
use crate::scope;

/// Most bytes of an answer that are read. A page of 200 droplets has less than one MiB.
pub(super) const ANSWER_LIMIT: usize = 16 << 20;

/// A request, as errors and notices name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Path without host and query, for instance `/v2/droplets`.
    pub path: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// An answer that was not a success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub call: Call,
    /// HTTP status.
    pub status: u16,
    /// The API's word for the error (`unprocessable_entity`); empty if the body was not the API's.
    pub id: String,
    /// The API's sentence, or the start of whatever the body was.
    pub message: String,
    /// What DigitalOcean's support asks for.
    pub request_id: Option<String>,
    /// How long the answer asked us to wait, if it did.
    pub wait: Option<Asked>,
    /// Where the wanted size can be had, when the refusal is about capacity.
    pub available_regions: Vec<String>,
    /// Where the token came from that the request carried, if anybody has told.
    pub token_place: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed with HTTP {}", self.call, self.status)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

/// Why the cloud did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The base URL cannot be used; nothing was sent.
    #[error("{url} is not a valid API URL: {why}")]
    BaseUrl {
        /// The URL, without any password that was in it.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token cannot be put into a request; nothing was sent.
    #[error("the API token is empty or contains invalid characters")]
    Token {
        /// Where it came from, if anybody has told.
        place: Option<String>,
    },
    /// The HTTP client could not be set up.
    #[error("cannot set up an HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No answer came: no connection, a timeout, or a connection that was closed. A repeatable request was
    /// repeated before this was returned.
    #[error("no answer to {call}")]
    NoAnswer {
        /// What was asked.
        call: Call,
        /// What the transport said.
        #[source]
        source: reqwest::Error,
    },
    /// The API said no (4xx): it did nothing.
    #[error("{0}")]
    Refused(Box<Answer>),
    /// The API failed (5xx).
    #[error("{0}")]
    Failed(Box<Answer>),
    /// A request that makes something had no clear answer: the thing may exist. Look before asking again.
    #[error("{call} may or may not have been carried out")]
    MaybeHappened {
        /// What was asked.
        call: Call,
        /// Why that is not known.
        #[source]
        source: Box<Error>,
    },
    /// A success whose body we cannot read.
    #[error("unexpected answer to {call}; it begins with {body:?}")]
    Malformed {
        /// What was asked.
        call: Call,
        /// The beginning of the body.
        body: String,
        /// Where the body differs.
        #[source]
        source: serde_json::Error,
    },
    /// A success whose body is too long to be the API's. It was not read to its end.
    #[error("the answer to {call} is longer than {} MiB", ANSWER_LIMIT >> 20)]
    TooLong {
        /// What was asked.
        call: Call,
    },
    /// A list's next page is on another host. It was not fetched: the token goes to one host only.
    #[error("{call} links to a next page at {next}, which is not at the API's address")]
    ForeignPage {
        /// The list.
        call: Call,
        /// The foreign address.
        next: String,
    },
    /// The user data of a droplet would be refused, or would make the droplet vanish.
    #[error("user data of droplet {name} {why}")]
    UserData {
        /// The droplet's name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was to be registered as an SSH key is none.
    #[error("not an OpenSSH public key (type, base64 blob, comment)")]
    PublicKey,
    /// Several droplets of the cluster have the name that one of them should have.
    #[error("{} droplets of the cluster are named {name}: {}", ids.len(), list(ids))]
    Duplicate {
        /// The name.
        name: String,
        /// The droplets' ids.
        ids: Vec<u64>,
    },
    /// A droplet was made, and the API lists it under no tag of the cluster.
    #[error("droplet {id} ({name}) was created, but the API does not list it under its tag {tag}")]
    Untagged {
        /// The droplet.
        id: u64,
        /// Its name.
        name: String,
        /// The tag that was asked for.
        tag: String,
    },
    /// A droplet was to be deleted as one that never ran, and does not look like one.
    #[error("droplet {id} is left alone: {why}")]
    NotFailed {
        /// The droplet.
        id: u64,
        /// What it has that such a droplet has not.
        why: String,
    },
    /// More than one address could be the cluster's.
    #[error("several floating IPs may be the cluster's: {}", list(addresses))]
    Ambiguous {
        /// The addresses.
        addresses: Vec<Ipv4Addr>,
    },
    /// The address that is recorded as the cluster's leads to a droplet that is not the cluster's.
    #[error(
        "{ip} is recorded as the cluster's address but is assigned to droplet {droplet}, which is not part of the cluster"
    )]
    Taken {
        /// The address.
        ip: Ipv4Addr,
        /// Who has it.
        droplet: u64,
    },
    /// The object storage cannot be asked; nothing was sent.
    #[error("{what} cannot be used as object storage: {why}")]
    Place {
        /// The endpoint, or whatever else of it is wrong.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The object storage said no, or failed.
    #[error("{0}")]
    Storage(Box<Answer>),
    /// The bucket's name is in use, by somebody else.
    #[error("bucket {bucket} belongs to another account")]
    BucketTaken {
        /// The bucket.
        bucket: String,
    },
    /// An action ended in the state `errored`. The API gives no reason.
    #[error("{what}: the provider's action {id} failed")]
    ActionFailed {
        /// What it was to do.
        what: String,
        /// The action's id.
        id: u64,
    },
    /// What should be there is not, and was waited for.
    #[error("{what} no longer exists")]
    Gone {
        /// What it is.
        what: String,
    },
    /// A state was waited for in vain.
    #[error("gave up after {} s waiting for {what}; last seen: {last}", waited.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen last.
        last: String,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// The answer behind this error, if one came.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Error::Refused(answer) | Error::Failed(answer) | Error::Storage(answer) => Some(answer),
            Error::MaybeHappened { source, .. } => source.answer(),
            _ => None,
        }
    }

    /// The HTTP status behind this error, if an answer came.
    pub fn status(&self) -> Option<u16> {
        self.answer().map(|answer| answer.status)
    }

    /// Whether the API does not know the thing (404).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused(answer) if answer.status == 404)
    }

    /// Whether the object storage does not know the key, which is what it says of one just made. The answer to a HEAD
    /// has no words: there any 403 may mean it.
    pub fn is_unknown_key(&self) -> bool {
        matches!(self, Error::Storage(answer)
            if answer.status == 403 && ["InvalidAccessKeyId", ""].contains(&answer.id.as_str()))
    }

    /// Whether the droplet or address is busy with an earlier action: wait and ask again.
    pub fn is_pending_event(&self) -> bool {
        matches!(self, Error::Refused(answer) if answer.status == 422 && answer.message.contains("pending event"))
    }

    /// Whether the same request may well succeed later: no answer, one that is not the API's, 408, 409, 423, 429, and
    /// 5xx except 501.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::NoAnswer { source, .. } => !source.is_builder() && !is_tls(source),
            Error::Refused(answer) => [408, 409, 423, 429].contains(&answer.status),
            Error::Failed(answer) => answer.status != 501,
            Error::Storage(answer) => {
                [408, 429].contains(&answer.status) || answer.status >= 500 && answer.status != 501
            }
            Error::Malformed { .. } => true,
            _ => false,
        }
    }

    /// Whether the API is not there, as far as one can tell: no answer, or one that is not the API's own. A refusal is
    /// an answer.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            Error::NoAnswer { .. } | Error::Failed(_) | Error::Malformed { .. } | Error::TooLong { .. }
        ) || matches!(self, Error::Refused(answer) if answer.status == 429)
    }

    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::BaseUrl { .. } => {
                "use https, or http to a loopback address, without a path or user name".into()
            }
            Error::Token { place } => {
                let there = place.as_ref().map_or(String::new(), |place| format!("in {place} "));
                format!("replace it {there}with the token alone, exactly as shown when it was created")
            }
            Error::NoAnswer { source, .. } if is_tls(source) => {
                "this machine does not trust the certificate for this address: check the address, any proxy \
                 in between, and this machine's clock (`date`)"
                    .into()
            }
            Error::Malformed { .. } | Error::TooLong { .. } => {
                "a proxy may have answered in the API's place; check the API's \
                 address, then run the same command again"
                    .into()
            }
            Error::Gone { .. } => "run the same command again; it checks the current state first".into(),
            Error::NoAnswer { .. } => {
                "check the network and the API's address, then run the same command again".into()
            }
            Error::MaybeHappened { .. } => {
                "run the same command again; it checks what exists before creating anything".into()
            }
            Error::Duplicate { .. } => "delete all but the one that is in use".into(),
            Error::Ambiguous { .. } => "unassign or delete the one that is not in use".into(),
            Error::Taken { ip, .. } => {
                format!("assign {ip} to a droplet of the cluster, or delete the tag that records it")
            }
            Error::TimedOut { .. } | Error::ActionFailed { .. } => {
                "run the same command again; if it fails again, see https://status.digitalocean.com".into()
            }
            Error::Untagged { tag, .. } => {
                format!("give it the tag {tag}, or delete it with `cluster down`, which knows it by its id")
            }
            Error::NotFailed { .. } => "run the same command again; it checks the current state first".into(),
            Error::Place { .. } => "use https and an existing region's endpoint, without a path".into(),
            Error::BucketTaken { .. } => "choose another name: all accounts share one namespace".into(),
            Error::Storage(answer) => return storage_hint(answer),
            Error::Refused(answer) | Error::Failed(answer) => return answer.hint(),
            _ => return None,
        };
        Some(text)
    }
}

/// What to do about an answer of the object storage.
fn storage_hint(answer: &Answer) -> Option<String> {
    let text = match answer.status {
        403 => "the key is not known there, or does not open this bucket",
        408 | 429 | 500.. => "run the same command again; see https://status.digitalocean.com",
        _ => return None,
    };
    Some(text.into())
}

impl Answer {
    fn hint(&self) -> Option<String> {
        match self.status {
            401 => {
                let there = self.token_place.as_ref().map_or(String::new(), |place| format!(" in {place}"));
                Some(format!("the token is wrong, expired or revoked: replace it{there}"))
            }
            // Only the API knows what its tokens may do.
            403 if self.id.is_empty() => {
                Some("the API did not answer this itself; a proxy or firewall in between did".into())
            }
            403 => Some(match scope::needed(self.call.method, &self.call.path) {
                Some(scope) => format!("the token needs the scope {scope}"),
                None => "the token lacks the permission for this".into(),
            }),
            300..=399 => Some("if the new address is right, use it as the API's address".into()),
            _ if !self.available_regions.is_empty() => {
                Some(format!("available in: {}", self.available_regions.join(", ")))
            }
            422 if self.is_about_capacity() => Some("try another region or size".into()),
            422 if self.message.contains("limit") => {
                Some("delete unused ones, or ask DigitalOcean for a higher limit".into())
            }
            429 => self.wait.map(|wait| format!("the rate limit frees up in {} s", wait.time().as_secs())),
            500.. => Some("run the same command again; see https://status.digitalocean.com".into()),
            _ => None,
        }
    }

    /// Whether a region or a size has run out. The API has no word of its own for it, so its sentence is looked at; an
    /// image or a private network can be missing from a region too, and is there in no other size.
    fn is_about_capacity(&self) -> bool {
        let message = self.message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        says(&["not available", "unavailable", "sold out", "capacity", "limited availability"])
            && says(&["size", "region", "droplet"])
            && !says(&["image", "vpc"])
    }
}

/// Whether the connection failed over TLS itself (a certificate that is not trusted, say): trying again is idle.
/// `io::Error` hides what it wraps from `source`, and each layer of the transport wraps once more.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner)) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::is_tls;

    #[test]
    fn a_certificate_is_seen_through_every_layer() {
        let tls = || rustls::Error::General("certificate expired".into());
        assert!(is_tls(&Error::new(ErrorKind::InvalidData, tls())));
        assert!(is_tls(&Error::other(Error::new(ErrorKind::InvalidData, tls()))));
        assert!(!is_tls(&Error::other(Error::from(ErrorKind::ConnectionReset))));
    }
}
