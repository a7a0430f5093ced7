//! A bucket for a repository, and a key that opens nothing else.
//!
//! The API makes keys but no buckets: those are S3's. So a key that opens everything is made, the bucket is made
//! with it, and it is deleted again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use backon::Retryable;
use reqwest::{Certificate, Method, Response, Url, redirect};
use rusty_s3::actions::{CreateBucket, HeadBucket, S3Action};
use rusty_s3::{Credentials, UrlStyle};
use secrecy::ExposeSecret;

use crate::client::{Client, install_crypto, read};
use crate::error::{Answer, Call, Error};
use crate::model::{Grant, NewSpacesKey};
use crate::names;
use crate::pace::{Pace, Watch};
use crate::retry::Policy;

/// For how long a signed request can be sent.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// How many times a key is asked for anew after the answer was lost.
const CREATE_ROUNDS: usize = 3;

/// A bucket, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address of the object storage: scheme, host and port only, for instance
    /// `https://fra1.digitaloceanspaces.com`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket's name.
    pub bucket: String,
    /// Certificates to trust instead of this machine's, as PEM.
    pub ca: Option<String>,
    /// Where to connect to instead of asking for the endpoint's address.
    pub address: Option<IpAddr>,
}

/// A bucket that can be asked about.
#[derive(Clone, Debug)]
pub struct Bucket {
    http: reqwest::Client,
    bucket: rusty_s3::Bucket,
    policy: Policy,
}

impl Bucket {
    /// Checks the place; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Place`] says what is wrong with it.
    pub fn new(place: &Place) -> Result<Self, Error> {
        let wrong = |what: &str, why: &str| Error::Place { what: what.to_owned(), why: why.to_owned() };
        let endpoint = Url::parse(&place.endpoint).map_err(|_| wrong(&place.endpoint, "it is not a URL"))?;
        let host = endpoint.host_str().filter(|_| endpoint.scheme() == "https");
        let Some(host) = host.map(str::to_owned) else {
            return Err(wrong(&place.endpoint, "it does not begin with https://"));
        };
        if endpoint.path() != "/" || endpoint.query().is_some() || !endpoint.username().is_empty() {
            return Err(wrong(&place.endpoint, "it has more than a host and a port"));
        }
        if !is_bucket(&place.bucket) {
            return Err(wrong(
                &place.bucket,
                "a bucket's name has 3 to 63 lower-case letters, digits and hyphens",
            ));
        }
        install_crypto();
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("cluster/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10));
        if let Some(pem) = &place.ca {
            let roots = Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|roots| !roots.is_empty());
            http =
                http.tls_certs_only(roots.ok_or_else(|| wrong("the CA", "it is not a certificate (PEM)"))?);
        }
        if let Some(address) = place.address {
            http = http.no_proxy().resolve(&host, SocketAddr::new(address, 0));
        }
        let bucket =
            rusty_s3::Bucket::new(endpoint, UrlStyle::Path, place.bucket.clone(), place.region.clone())
                .map_err(|error| wrong(&place.endpoint, &error.to_string()))?;
        let http = http.build().map_err(Error::Setup)?;
        Ok(Self { http, bucket, policy: Policy::default() })
    }

    /// The same bucket with another patience.
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Makes the bucket, unless it is there; true if it was made.
    ///
    /// # Errors
    /// [`Error::BucketTaken`] if it is another account's; [`Error::Storage`] for any other refusal.
    pub async fn ensure(&self, key: &NewSpacesKey) -> Result<bool, Error> {
        let credentials = credentials(key);
        let create = || CreateBucket::new(&self.bucket, &credentials).sign(SIGNED_FOR);
        let error = match self.send(Method::PUT, "PUT", create).await {
            Ok(()) => return Ok(true),
            Err(error) => error,
        };
        match error.answer().map(|answer| answer.id.as_str()) {
            Some("BucketAlreadyOwnedByYou") => Ok(false),
            // Some say this of one's own bucket too.
            Some("BucketAlreadyExists") => match self.exists(key).await {
                Ok(true) => Ok(false),
                Ok(false) => Err(error),
                Err(other) if other.status() == Some(403) => {
                    Err(Error::BucketTaken { bucket: self.bucket.name().to_owned() })
                }
                Err(other) => Err(other),
            },
            _ => Err(error),
        }
    }

    /// Whether the bucket is there. One that the key does not open is an error.
    ///
    /// # Errors
    /// [`Error::Storage`] for any refusal.
    pub async fn exists(&self, key: &NewSpacesKey) -> Result<bool, Error> {
        let credentials = credentials(key);
        let head = || HeadBucket::new(&self.bucket, Some(&credentials)).sign(SIGNED_FOR);
        match self.send(Method::HEAD, "HEAD", head).await {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a request, signed anew each time, until there is an answer that counts.
    async fn send(&self, method: Method, verb: &'static str, sign: impl Fn() -> Url) -> Result<(), Error> {
        let path = self.bucket.base_url().as_str().trim_end_matches('/').to_owned();
        let call = Call { method: verb, path };
        let attempt = || async {
            // The signature is in the URL: errors must not show it.
            let no_answer =
                |source: reqwest::Error| Error::NoAnswer { call: call.clone(), source: source.without_url() };
            let request = self.http.request(method.clone(), sign()).timeout(self.policy.timeout);
            let response = request.send().await.map_err(no_answer)?;
            if response.status().is_success() {
                return Ok(());
            }
            let answer = refusal(call.clone(), response).await.map_err(no_answer)?;
            Err(Error::Storage(Box::new(answer)))
        };
        attempt.retry(self.policy).when(Error::is_transient).await
    }
}

fn credentials(key: &NewSpacesKey) -> Credentials {
    Credentials::new(key.access_key.clone(), key.secret_key.expose_secret())
}

/// What an answer says, other than success.
async fn refusal(call: Call, response: Response) -> Result<Answer, reqwest::Error> {
    let status = response.status().as_u16();
    let request_id = response.headers().get("x-amz-request-id");
    let request_id = request_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let (body, _) = read(response).await?;
    let body = String::from_utf8_lossy(&body);
    let id = element(&body, "Code").unwrap_or_default().to_owned();
    let message = match (id.as_str(), element(&body, "Message")) {
        ("", _) => String::new(),
        (id, None) => id.to_owned(),
        (id, Some(message)) => format!("{id}: {message}"),
    };
    let (wait, available_regions, token_place) = (None, Vec::new(), None);
    Ok(Answer { call, status, id, message, request_id, wait, available_regions, token_place })
}

/// The text of the first element of this name, as far as S3's errors need it.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// Whether this can be a bucket's name. Dots are allowed by S3, and by no certificate for its buckets.
fn is_bucket(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Client {
    /// Makes the bucket, unless it is there, and a key for the cluster's nodes that reads and writes this bucket and
    /// opens no other. The key is a new one each time, since nobody can ask for the secret of an earlier one; those
    /// go on working until [`Client::retire_repository_keys`].
    ///
    /// May be killed and run again: the key that opens everything is deleted by the next run, if not by this one.
    ///
    /// # Errors
    /// As of [`Bucket`] and the API.
    pub async fn make_repository(
        &self,
        cluster: &str,
        place: &Place,
        pace: Pace,
    ) -> Result<NewSpacesKey, Error> {
        let bucket = Bucket::new(place)?.with_policy(self.policy());
        let temporary = names::temporary_spaces_key(cluster);
        self.delete_spaces_keys(&temporary, &BTreeSet::new()).await?;
        let made = self.make_limited_key(cluster, &bucket, place, pace).await;
        // Whatever happened: it opens every bucket of the account.
        let gone = self.delete_spaces_keys(&temporary, &BTreeSet::new()).await;
        let key = made?;
        gone.map(|()| key)
    }

    async fn make_limited_key(
        &self,
        cluster: &str,
        bucket: &Bucket,
        place: &Place,
        pace: Pace,
    ) -> Result<NewSpacesKey, Error> {
        let full = self.make_spaces_key(&names::temporary_spaces_key(cluster), &[Grant::full()]).await?;
        let mut watch = Watch::new(self, pace, "the temporary key to work");
        while let Err(error) = bucket.ensure(&full).await {
            unless_unknown(error, &mut watch).await?;
        }
        let grants = [Grant::read_write(&place.bucket)];
        let limited = self.make_spaces_key(&names::repository_spaces_key(cluster), &grants).await?;
        let mut watch = Watch::new(self, pace, "the repository's key to work");
        loop {
            match bucket.exists(&limited).await {
                Ok(true) => return Ok(limited),
                Ok(false) => return Err(Error::Gone { what: format!("bucket {}", place.bucket) }),
                Err(error) => unless_unknown(error, &mut watch).await?,
            }
        }
    }

    /// Deletes the cluster's keys for its repository, but for the one that requests name so.
    ///
    /// # Errors
    /// The API's.
    pub async fn retire_repository_keys(&self, cluster: &str, kept: Option<&str>) -> Result<(), Error> {
        let kept = kept.into_iter().map(str::to_owned).collect();
        self.delete_spaces_keys(&names::repository_spaces_key(cluster), &kept).await?;
        self.delete_spaces_keys(&names::temporary_spaces_key(cluster), &BTreeSet::new()).await
    }

    /// A new key. One that was made without our hearing of it is of no use to anybody, and deleted.
    ///
    /// # Errors
    /// The API's.
    pub async fn make_spaces_key(&self, name: &str, grants: &[Grant]) -> Result<NewSpacesKey, Error> {
        let before = self.spaces_keys(name).await?.into_iter().map(|key| key.access_key).collect();
        let mut rounds = 0;
        loop {
            rounds += 1;
            match self.create_spaces_key(name, grants).await {
                Err(error @ Error::MaybeHappened { .. }) => {
                    self.delete_spaces_keys(name, &before).await?;
                    if rounds == CREATE_ROUNDS {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Deletes all keys of a name but for some.
    async fn delete_spaces_keys(&self, name: &str, kept: &BTreeSet<String>) -> Result<(), Error> {
        for key in self.spaces_keys(name).await? {
            if !kept.contains(&key.access_key) {
                self.delete_spaces_key(&key.access_key).await?;
            }
        }
        Ok(())
    }
}

/// Waits until it is worth asking again with a key that has just been made; any other error is returned.
async fn unless_unknown(error: Error, watch: &mut Watch<'_>) -> Result<(), Error> {
    if error.is_unknown_key() && watch.in_grace() {
        return watch.pause("the object storage does not know it yet").await;
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            endpoint: "https://fra1.digitaloceanspaces.com".into(),
            region: "fra1".into(),
            bucket: "demo-backup".into(),
            ca: None,
            address: None,
        }
    }

    #[test]
    fn a_place_is_checked_before_anything_is_sent() {
        assert!(Bucket::new(&place()).is_ok());
        for endpoint in [
            "http://fra1.digitaloceanspaces.com",
            "fra1.digitaloceanspaces.com",
            "https://fra1.digitaloceanspaces.com/bucket",
            "https://me@fra1.digitaloceanspaces.com",
        ] {
            let wrong = Bucket::new(&Place { endpoint: endpoint.into(), ..place() });
            assert!(matches!(wrong, Err(Error::Place { .. })), "{endpoint}");
        }
        for bucket in ["ab", "Demo", "-demo", "a.b.c", "demo/x", &"x".repeat(64)] {
            let wrong = Bucket::new(&Place { bucket: bucket.into(), ..place() });
            assert!(matches!(wrong, Err(Error::Place { .. })), "{bucket}");
        }
        for ca in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Bucket::new(&Place { ca: Some(ca.into()), ..place() }).is_err(), "{ca}");
        }
    }

    #[test]
    fn the_code_of_an_error_is_found() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        assert_eq!(element(xml, "Code"), Some("AccessDenied"));
        assert_eq!(element(xml, "RequestId"), None);
        assert_eq!(element("<Code>cut", "Code"), None);
    }
}
