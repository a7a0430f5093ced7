//! DigitalOcean's API, or anything that speaks it. Its servers are droplets; a cluster's have its tag, and a second tag
//! records the floating IP.

mod belongings;
mod listing;
mod lock;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cluster_cloud::droplet::{DropletSpec, Power};
use cluster_cloud::model::{Action, DropletStatus, ReservedIp};
use cluster_cloud::preflight::{Setting, Wanted};
use cluster_cloud::spaces::Place;
use cluster_cloud::{Client, Error, Pace, Policy, key, names};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::{EnsuredServer, Event, Left, NotEnsured, Patience};
use crate::facts::{Size, Stray};
use crate::inventory::{DigitalOcean, Node, S3};
use crate::report::Reporter;
pub use belongings::Belongings;
pub use cluster_cloud::Token;
pub use lock::ProviderLock;

/// How long a server may take to be off after the action that switches it off has ended.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// The API, as the operator's token lets it be used for one cluster.
#[derive(Clone)]
pub struct Api {
    cluster: String,
    settings: DigitalOcean,
    client: Client,
    pace: Pace,
    /// The sizes do not change during a run.
    sizes: Arc<OnceCell<BTreeMap<String, Size>>>,
}

impl Patience {
    fn policy(self) -> Policy {
        let patient = Policy::default();
        match self {
            Patience::Long => patient,
            Patience::Short => Policy { retries: 2, ..patient },
            Patience::Brief => Policy {
                base: Duration::from_millis(300),
                cap: Duration::from_secs(1),
                retries: 1,
                deadline: Duration::from_secs(6),
                timeout: Duration::from_secs(5),
            },
        }
    }
}

/// Base URL of the API: the inventory's word, then the environment's, then the public one.
pub fn api_url(declared: Option<&str>) -> String {
    let environment = || std::env::var("DIGITALOCEAN_API_URL").ok().filter(|url| !url.is_empty());
    declared.map(str::to_owned).or_else(environment).unwrap_or_else(|| cluster_cloud::DEFAULT_URL.to_owned())
}

/// Why the API does not answer, if that is what `error` says.
pub fn why_away(error: &anyhow::Error) -> Option<String> {
    let mut cause: &dyn std::error::Error = error.downcast_ref::<Error>().filter(|error| error.is_away())?;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Some(cause.to_string())
}

impl Api {
    /// Sends nothing.
    ///
    /// # Errors
    /// When the URL or the token cannot be used.
    pub fn new(
        cluster: &str,
        settings: &DigitalOcean,
        token: Token,
        patience: Patience,
        report: Reporter,
    ) -> Result<Api> {
        let client = Client::new(&api_url(settings.api_url.as_deref()), token)
            .context("cannot use the provider's API")?
            .with_policy(patience.policy())
            .with_observer(Arc::new(move |notice| report.progress("provider", notice.to_string())));
        Ok(Api {
            cluster: cluster.to_owned(),
            settings: settings.clone(),
            client,
            pace: Pace::default(),
            sizes: Arc::default(),
        })
    }

    /// The same API, with another patience.
    #[must_use]
    pub fn with_patience(&self, patience: Patience) -> Api {
        Api { client: self.client.clone().with_policy(patience.policy()), ..self.clone() }
    }

    /// Base URL.
    pub fn url(&self) -> &str {
        self.client.base_url()
    }

    fn tag(&self) -> String {
        names::cluster_tag(&self.cluster)
    }

    /// Everything that stands in the way of making servers for these nodes, which have their places in the inventory, each
    /// with a hint.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn preflight(
        &self,
        missing: &[(usize, &Node)],
        has_address: bool,
    ) -> Result<Vec<(String, String)>> {
        let setting = |value: &str, key: &str| Setting {
            value: value.to_owned(),
            key: format!("provider.digitalocean.{key}"),
        };
        let DigitalOcean { region, vpc, floating_ip, .. } = &self.settings;
        // Each value once, with the first place that it stands at.
        let slugs = |key: &str, of: fn(&Node) -> Option<&String>, common: &str| {
            let mut found: Vec<Setting> = Vec::new();
            for (index, node) in missing {
                let (value, key) = match of(node) {
                    Some(own) => (own.as_str(), format!("nodes[{index}].{key}")),
                    None => (common, format!("provider.digitalocean.{key}")),
                };
                if found.iter().all(|it| it.value != value) {
                    found.push(Setting { value: value.to_owned(), key });
                }
            }
            found
        };
        let cluster = Setting { value: self.cluster.clone(), key: "cluster".to_owned() };
        let wanted = Wanted {
            cluster,
            region: setting(region, "region"),
            sizes: slugs("size", |node| node.size.as_ref(), &self.settings.size),
            images: slugs("image", |node| node.image.as_ref(), &self.settings.image),
            vpc: vpc.as_deref().map(|vpc| setting(vpc, "vpc")),
            new_droplets: missing.len() as u64,
            new_addresses: u64::from(*floating_ip && !has_address),
        };
        let problems = self.client.preflight(&wanted).await?;
        Ok(problems.into_iter().map(|it| (format!("{}: {}", it.place, it.what), it.hint)).collect())
    }

    /// All sizes, by slug.
    ///
    /// # Errors
    /// The API's.
    pub async fn sizes(&self) -> Result<BTreeMap<String, Size>> {
        let ask = async || {
            let sizes = self.client.sizes().await.context("cannot list the provider's sizes")?;
            let fact = |size: &cluster_cloud::model::Size| Size {
                disk_gib: size.disk,
                monthly_price: size.price_monthly,
            };
            Ok::<_, anyhow::Error>(sizes.iter().map(|size| (size.slug.clone(), fact(size))).collect())
        };
        Ok(self.sizes.get_or_try_init(ask).await?.clone())
    }

    /// Gives a node's server, which is off, another size. It is left off.
    ///
    /// # Errors
    /// The API's.
    pub async fn resize(&self, id: u64, size: &str, disk: Option<u64>, patience: Duration) -> Result<()> {
        let pace = Pace { deadline: patience, ..self.pace };
        Ok(self.client.resize(id, size, disk, pace).await?)
    }

    /// Asks a server to shut down, and takes its power away if it has not after `patience`.
    ///
    /// # Errors
    /// The API's.
    pub async fn shut_down(&self, id: u64, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        // What the provider says of it is not what counts: one that it calls failed may shut down all the same, and one that it
        // calls done may go on running.
        let asked = self.client.power(id, Power::Shutdown, Pace { deadline: patience, ..self.pace }).await;
        match asked {
            Ok(()) | Err(Error::ActionFailed { .. } | Error::TimedOut { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if self.is_off_within(id, patience.saturating_sub(begun.elapsed())).await? {
            return Ok(());
        }
        self.power_off(id).await?;
        // It is off some seconds after the action has ended.
        let within = SETTLES_WITHIN.as_secs();
        anyhow::ensure!(
            self.is_off_within(id, SETTLES_WITHIN).await?,
            "droplet {id} is not off {within} s after it was switched off"
        );
        Ok(())
    }

    /// Waits until a server is off and can be worked on, or is gone. Whether it was in time.
    async fn is_off_within(&self, id: u64, patience: Duration) -> Result<bool> {
        let begun = Instant::now();
        loop {
            let seen = self.client.droplet(id).await?;
            if seen.is_none_or(|it| it.status == DropletStatus::Off && !it.locked) {
                return Ok(true);
            }
            if begun.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Gives a server another name.
    ///
    /// # Errors
    /// The API's.
    pub async fn rename(&self, id: u64, name: &str) -> Result<()> {
        Ok(self.client.rename(id, name, self.pace).await?)
    }

    /// Adds the operator's public key to the account, unless it is there.
    ///
    /// # Errors
    /// The API's.
    pub async fn ensure_ssh_key(&self, public_key: &str) -> Result<()> {
        self.client.ensure_ssh_key(&self.cluster, public_key).await?;
        Ok(())
    }

    /// The bucket, made unless it is there, and a new key that opens it and no other: id and secret.
    ///
    /// # Errors
    /// The API's, and the bucket's.
    pub async fn ensure_repository(
        &self,
        bucket: &S3,
        ca: Option<String>,
        address: Option<IpAddr>,
    ) -> Result<(String, SecretString)> {
        let place = Place {
            endpoint: format!("https://{}:{}", bucket.host, bucket.port),
            region: bucket.region.clone(),
            bucket: bucket.bucket.clone(),
            ca,
            address,
        };
        let key = self.client.make_repository(&self.cluster, &place, self.pace).await?;
        Ok((key.access_key, key.secret_key))
    }

    /// Deletes the keys of the cluster's bucket, but for the one with this id. The bucket itself stays.
    ///
    /// # Errors
    /// The API's.
    pub async fn retire_repository_keys(&self, kept: Option<&str>) -> Result<()> {
        Ok(self.client.retire_repository_keys(&self.cluster, kept).await?)
    }

    /// The node's server: found, else made. Returns when the API knows it; [`Api::await_server`] waits for more. A look
    /// comes first: for a server that is there, no key is made and none that is pinned is touched.
    ///
    /// # Errors
    /// The API's, with what may be there all the same.
    pub async fn ensure_server(
        &self,
        node: &Node,
        public_key: impl Future<Output = Result<String>>,
        user_data: impl Future<Output = Result<SecretString>>,
    ) -> Result<EnsuredServer, NotEnsured> {
        let failed = |error: anyhow::Error| NotEnsured { error, left: Left::Unknown };
        let found = self.client.find_droplet(&self.cluster, &node.name, self.pace).await;
        if let Some(found) = found.map_err(|error| failed(error.into()))? {
            return Ok(EnsuredServer { id: found.id, made: false });
        }
        let public_key = public_key.await.map_err(failed)?;
        let fingerprint =
            key::fingerprint(&public_key).context("the public key cannot be read").map_err(failed)?;
        let spec = DropletSpec {
            cluster: self.cluster.clone(),
            name: node.name.clone(),
            region: self.settings.region.clone(),
            size: self.settings.size_of(node).to_owned(),
            image: self.settings.image_of(node).to_owned(),
            ssh_keys: vec![fingerprint],
            user_data: Some(user_data.await.map_err(failed)?),
            vpc_uuid: self.settings.vpc.clone(),
        };
        match self.client.ensure_droplet(&spec, self.pace).await {
            Ok(ensured) => Ok(EnsuredServer { id: ensured.value.id, made: ensured.made }),
            Err(error) => {
                let left = match &error {
                    Error::Untagged { id, .. } => Left::Server(*id),
                    Error::Refused(answer) if answer.call.method == "POST" => Left::Nothing,
                    _ => Left::Unknown,
                };
                Err(NotEnsured { error: error.into(), left })
            }
        }
    }

    /// Waits until a server is active and has its addresses.
    ///
    /// # Errors
    /// The API's; when the server could not be made, or is gone.
    pub async fn await_server(&self, id: u64) -> Result<()> {
        self.client.wait_droplet_ready(id, self.pace).await?;
        Ok(())
    }

    /// Deletes a node's server that the provider has failed to make. Everything that says that it holds nothing is asked
    /// once more.
    ///
    /// # Errors
    /// The API's; when it is not surely one that never ran.
    pub async fn delete_failed_server(&self, node: &str, id: u64) -> Result<()> {
        Ok(self.client.destroy_failed_droplet(&self.cluster, node, id, self.pace).await?)
    }

    /// Deletes a server with all that is on it, and returns when it is gone.
    ///
    /// # Errors
    /// All that the API said.
    pub async fn delete_server(&self, id: u64) -> Result<(), Vec<anyhow::Error>> {
        self.client.destroy_droplets(&[id], self.pace).await.map_err(every)
    }

    /// Whether the API says that a server does not exist. False if it does not answer.
    pub async fn is_gone(&self, id: u64) -> bool {
        matches!(self.client.droplet(id).await, Ok(None))
    }

    /// A server that a node knows as a peer's, and the inventory's nodes do not lead to.
    ///
    /// # Errors
    /// The API's.
    pub async fn stray(&self, id: u64) -> Result<Option<Stray>> {
        let found = self.client.droplet(id).await.with_context(|| format!("cannot look up droplet {id}"))?;
        let tagged = |tags: &[String]| tags.contains(&self.tag());
        Ok(found.map(|it| Stray {
            id,
            tagged: tagged(&it.tags),
            monthly_price: listing::monthly_price(&it),
            name: it.name,
            node: None,
        }))
    }

    /// # Errors
    /// The API's.
    pub async fn power_on(&self, id: u64) -> Result<()> {
        Ok(self.client.power(id, Power::On, self.pace).await?)
    }

    /// Takes a server's power away, without a shutdown.
    ///
    /// # Errors
    /// The API's.
    pub async fn power_off(&self, id: u64) -> Result<()> {
        Ok(self.client.power(id, Power::Off, self.pace).await?)
    }

    /// The cluster's floating IP: found, else made at the server `preferred`; and recorded at all `servers`.
    ///
    /// # Errors
    /// The API's.
    pub async fn ensure_address(&self, servers: &[u64], preferred: u64) -> Result<Ipv4Addr> {
        let ensured = self.client.ensure_reserved_ip(&self.cluster, servers, preferred, self.pace).await?;
        Ok(ensured.value.ip)
    }

    /// Makes the floating IP lead to a server.
    ///
    /// # Errors
    /// The API's.
    pub async fn assign_address(&self, address: Ipv4Addr, server: u64) -> Result<()> {
        self.client.assign(address, server, self.pace).await?;
        Ok(())
    }

    /// The server that the floating IP leads to.
    ///
    /// # Errors
    /// The API's.
    pub async fn address_holder(&self, address: Ipv4Addr) -> Result<Option<u64>> {
        Ok(self.client.reserved_ip(address).await?.as_ref().and_then(ReservedIp::holder))
    }

    /// What has happened to a server.
    ///
    /// # Errors
    /// The API's.
    pub async fn server_events(&self, id: u64) -> Result<Vec<Event>> {
        Ok(events(self.client.droplet_actions(id).await?))
    }

    /// What has happened to the floating IP.
    ///
    /// # Errors
    /// The API's.
    pub async fn address_events(&self, address: Ipv4Addr) -> Result<Vec<Event>> {
        Ok(events(self.client.reserved_ip_actions(address).await?))
    }
}

fn events(actions: Vec<Action>) -> Vec<Event> {
    let event = |action: Action| {
        let started = action.started_at?.parse().ok()?;
        let completed = action.completed_at.and_then(|at| at.parse().ok());
        Some(Event { kind: action.kind, started, completed })
    };
    actions.into_iter().filter_map(event).collect()
}

fn every(errors: Vec<Error>) -> Vec<anyhow::Error> {
    errors.into_iter().map(Into::into).collect()
}
