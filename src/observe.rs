//! Observes the current state: one listing from the API and one probe per host, in parallel. Changes nothing.

mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cluster_cloud::{Error, Policy};
use tokio::task::JoinSet;

use crate::facts::{Cloud, Facts, Host, Local, probe};
use crate::plan::files;
use crate::remote::{Command, RemoteError};
use crate::report::Event;
use crate::world::{Purpose, World};

/// For a question that is worth a moment: what follows can do without the answer.
const BRIEF: Policy = Policy {
    base: Duration::from_millis(300),
    cap: Duration::from_secs(1),
    retries: 1,
    deadline: Duration::from_secs(6),
    timeout: Duration::from_secs(5),
};

/// How long a command that only looks waits for a host that falls silent: connecting takes 5 s at most.
const LOOK_PATIENCE: Duration = Duration::from_secs(8);

impl World {
    /// Observes the provider and all hosts.
    ///
    /// # Errors
    /// When the API does not answer. A host that does not is a fact.
    pub async fn observe(self: &Arc<Self>) -> Result<Facts> {
        self.report.send(Event::Observing);
        let memory = self.state.memory()?;
        let cloud = match &self.cloud {
            Some(client) => Some(self.observe_cloud(client, &memory).await?),
            None => None,
        };
        let mut facts = self.observe_hosts(cloud).await?;
        self.find_peers(&mut facts).await?;
        Ok(facts)
    }

    /// Reads what can be read, for what needs no more of the provider than the way to the hosts: if the API does not
    /// answer a short question, its part is what this machine remembers.
    ///
    /// # Errors
    /// When the API does not answer and nothing is remembered, or refuses.
    pub async fn observe_or_remember(self: &Arc<Self>) -> Result<Facts> {
        self.report.send(Event::Observing);
        let cloud = self.cloud_or_memory().await?;
        self.observe_hosts(cloud).await
    }

    /// Writes the SSH configuration, without contacting the hosts.
    ///
    /// # Errors
    /// As [`World::observe_or_remember`].
    pub async fn locate(&self) -> Result<BTreeMap<String, String>> {
        let addresses = self.addresses(self.cloud_or_memory().await?.as_ref());
        self.write_ssh_config(&addresses).await?;
        Ok(addresses)
    }

    async fn cloud_or_memory(&self) -> Result<Option<Cloud>> {
        let Some(client) = &self.cloud else { return Ok(None) };
        let memory = self.state.memory()?;
        let error = match self.observe_cloud(&client.clone().with_policy(BRIEF), &memory).await {
            Ok(cloud) => return Ok(Some(cloud)),
            Err(error) => error,
        };
        let away = error.downcast_ref::<Error>().filter(|why| why.is_away());
        let remembered = away.and_then(|why| self.remembered_cloud(&memory, why, client.base_url()));
        let Some(cloud) = remembered else { return Err(error) };
        if let Some(note) = cloud.remembered.as_ref().filter(|_| self.first_time_away()) {
            self.report.warning(note);
        }
        Ok(Some(cloud))
    }

    async fn observe_hosts(self: &Arc<Self>, cloud: Option<Cloud>) -> Result<Facts> {
        let memory = self.state.memory()?;
        let addresses = self.addresses(cloud.as_ref());
        self.write_ssh_config(&addresses).await?;
        let bootstrap_keys = self.bootstrap_keys()?;
        let mut probes = JoinSet::new();
        let mut hosts = BTreeMap::new();
        for node in &self.inventory.nodes {
            let name = node.name.clone();
            let droplet = cloud.as_ref().map(|cloud| cloud.droplets.get(&name));
            match droplet {
                Some(None) => drop(hosts.insert(name, Host::Missing)),
                Some(Some(droplet)) if droplet.status == "off" => drop(hosts.insert(name, Host::Off)),
                Some(Some(droplet)) if droplet.public.is_none() => {
                    let why = if droplet.failed {
                        "the provider failed to create its droplet"
                    } else {
                        "its droplet is being created"
                    };
                    drop(hosts.insert(name, Host::Unreachable { why: why.into(), young: true }));
                }
                _ => {
                    let (world, young) = (self.clone(), bootstrap_keys.contains_key(&name));
                    probes.spawn(async move { (name.clone(), world.probe(&name, young).await) });
                }
            }
        }
        for (name, host) in probes.join_all().await {
            hosts.insert(name, host?);
        }
        let local = Local {
            system_identifier: memory.system_identifier,
            generation: memory.generation,
            bootstrap_keys,
            node_program: self.program.sha256.clone(),
            ..Local::default()
        };
        Ok(Facts { cloud, hosts, local })
    }

    /// The SSH address.
    pub(crate) fn addresses(&self, cloud: Option<&Cloud>) -> BTreeMap<String, String> {
        self.inventory
            .nodes
            .iter()
            .filter_map(|node| {
                let public = || Some(cloud?.droplets.get(&node.name)?.public?.to_string());
                Some((node.name.clone(), node.address.clone().or_else(public)?))
            })
            .collect()
    }

    async fn probe(&self, node: &str, young: bool) -> Result<Host> {
        let version = self.inventory.postgresql.version;
        let command = Command::new("probe", probe::SCRIPT)
            .arg(version.to_string())
            .arg(self.inventory.postgresql.port.to_string())
            .args(files::paths(version))
            .limit(30);
        let command = if self.purpose == Purpose::Work { command.alone() } else { command };
        // A connection that stood idle may be gone: one more try with a new one.
        for last in [false, true] {
            let patience = if self.purpose == Purpose::Look { LOOK_PATIENCE } else { Duration::MAX };
            let Ok(result) = tokio::time::timeout(patience, self.run(node, &command, &|_| {})).await else {
                let why = format!("no answer within {} s", LOOK_PATIENCE.as_secs());
                return Ok(Host::Unreachable { why, young });
            };
            match result {
                Ok(output) => {
                    return match probe::parse(&output.stdout) {
                        Ok(facts) => Ok(Host::Up(Box::new(facts))),
                        // First boots of some images let us in and run nothing.
                        Err(error) if young => Ok(Host::Unreachable { why: error.to_string(), young }),
                        Err(error) => Err(error).with_context(|| format!("cannot read {node}")),
                    };
                }
                Err(RemoteError::Lost { .. }) if !last => {}
                Err(RemoteError::Connect { message, .. } | RemoteError::Lost { message, .. }) => {
                    return Ok(Host::Unreachable { why: message, young });
                }
                // sudo wants a password or a terminal: the others are there all the same.
                Err(RemoteError::Failed { output, .. }) if output.contains("sudo: ") => {
                    let line = output.lines().find(|line| line.contains("sudo: ")).unwrap_or_default();
                    return Ok(Host::Unreachable { why: line.trim().to_owned(), young: false });
                }
                Err(error) => return Err(error).with_context(|| format!("cannot read {node}")),
            }
        }
        unreachable!("the second round returns")
    }
}
