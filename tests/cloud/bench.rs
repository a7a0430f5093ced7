//! A lab on a port of its own, and a client in a hurry.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_cloud::droplet::DropletSpec;
use cluster_cloud::model::Droplet;
use cluster_cloud::{Client, Error, Notice, Pace, Policy};
use cluster_lab::api::fault::{Fault, Rule};
use cluster_lab::api::settings::Times;
use cluster_lab::api::{Config, FakeMachines, Lab, Tokens, serve};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The operator's token: odd enough to be found wherever it leaks to.
pub(crate) const OPERATOR: &str = "dop_v1_0perat0r5ecret";
/// The nodes' token.
pub(crate) const FAILOVER: &str = "dop_v1_fa1l0ver5ecret";

/// A key pair's public half; nobody has the other.
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMnGVnuFY03xwlYQ0fy5mjru7MQ00s7lXvh1vqKmuDpm test";

/// Looks every few milliseconds, gives up after twenty seconds: longer than any wait on a busy machine.
pub(crate) fn pace() -> Pace {
    Pace { first: millis(2), poll: millis(8), grace: millis(500), deadline: millis(20_000) }
}

/// Retries after a few milliseconds.
pub(crate) fn policy() -> Policy {
    Policy { base: millis(1), cap: millis(8), retries: 6, deadline: millis(20_000), timeout: millis(10_000) }
}

/// Waits for no answer longer than a moment.
pub(crate) fn hasty() -> Policy {
    Policy { timeout: millis(150), ..policy() }
}

/// No retries at all: every fault is the end.
pub(crate) fn brittle() -> Policy {
    Policy { retries: 0, ..policy() }
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn config() -> Config {
    let mut config = Config::new(Tokens { operator: OPERATOR.into(), failover: FAILOVER.into() });
    config.settings.times = Times::default().scaled(0.01);
    config.settings.limits.hourly = usize::MAX;
    config
}

/// A lab that runs.
pub(crate) struct Bench {
    pub(crate) lab: Lab<FakeMachines>,
    pub(crate) machines: FakeMachines,
    pub(crate) client: Client,
    pub(crate) url: String,
    /// What the client told its observer.
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(config(), FakeMachines::default()).await
    }

    pub(crate) async fn with(config: Config, machines: FakeMachines) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lab = Lab::open(config, machines.clone()).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(lab.clone(), vec![listener], stop.clone()));
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let heard = Arc::clone(&notices);
        let client = client(&url, OPERATOR).with_observer(Arc::new(move |notice| {
            heard.lock().unwrap().push(notice.clone());
        }));
        Self { lab, machines, client, url, notices, stop, server }
    }

    /// Stops the lab as `lab stop` would.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }

    pub(crate) fn fault(&self, rule: Rule) {
        self.lab.faults(|faults| faults.rules.push(rule));
    }

    /// Orders a fault for the next request of this kind.
    pub(crate) fn once(&self, method: &str, path: &str, fault: Fault) {
        self.fault(Rule::once(method, path, fault));
    }

    /// Whether an ordered fault has not struck yet.
    pub(crate) fn is_waiting(&self, fault: &Fault) -> bool {
        let mut waiting = false;
        self.lab.faults(|faults| {
            waiting = faults.rules.iter().any(|rule| rule.count.is_some() && rule.fault == *fault)
        });
        waiting
    }

    pub(crate) fn heal(&self) {
        self.lab.faults(|faults| *faults = Default::default());
    }

    /// How many requests of a method and path prefix the journal has.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.lab
            .journal()
            .iter()
            .filter(|entry| entry.method == method && entry.path.starts_with(path))
            .count()
    }

    /// A droplet of the cluster `demo` that is ready.
    pub(crate) async fn ready(&self, name: &str) -> Droplet {
        let made = self.client.ensure_droplet(&spec(name), pace()).await.unwrap();
        self.client.wait_droplet_ready(made.value.id, pace()).await.unwrap()
    }

    /// A request as it stands, with the operator's token.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.raw_as(OPERATOR, method, path, body).await
    }

    pub(crate) async fn raw_as(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request =
            client.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, bytes) = (response.status().as_u16(), response.bytes().await.unwrap());
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Waits until the lab is in a state.
    pub(crate) async fn until(&self, what: &str, seen: impl Fn(&Lab<FakeMachines>) -> bool) {
        for _ in 0..2000 {
            if seen(&self.lab) {
                return;
            }
            tokio::time::sleep(millis(5)).await;
        }
        panic!("{what}: {:#?}", self.lab.state());
    }
}

pub(crate) fn client(url: &str, token: &str) -> Client {
    Client::new(url, token.into()).unwrap().with_policy(policy())
}

pub(crate) fn spec(name: &str) -> DropletSpec {
    DropletSpec {
        cluster: "demo".into(),
        name: name.into(),
        region: "fra1".into(),
        size: "s-1vcpu-1gb".into(),
        image: "debian-12-x64".into(),
        ssh_keys: Vec::new(),
        user_data: None,
        vpc_uuid: None,
    }
}

/// An error with everything that a program could print of it.
pub(crate) fn everything(error: &Error) -> String {
    let mut text = format!("{error:?} {error} {}", error.hint().unwrap_or_default());
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
