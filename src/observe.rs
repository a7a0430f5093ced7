//! Reading the world: one listing of the API, one probe a host, all at once. Nothing is changed.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::cloud::model::DropletStatus;
use crate::cloud::{key, names};
use crate::facts::{Cloud, Droplet, Facts, FloatingIp, Host, Local, probe};
use crate::plan::files;
use crate::remote::{Command, RemoteError};
use crate::report::Event;
use crate::world::{Purpose, World};

impl World {
    /// Reads the provider and all hosts.
    ///
    /// # Errors
    /// When the API does not answer. A host that does not is a fact.
    pub async fn observe(self: &Arc<Self>) -> Result<Facts> {
        self.report.send(Event::Observing);
        let memory = self.state.memory()?;
        let cloud = self.observe_cloud(memory.floating_ip).await?;
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
                    drop(hosts.insert(
                        name,
                        Host::Unreachable { why: "its droplet is being created".into(), young: true },
                    ));
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
            bootstrap_keys,
            node_program: self.program.sha256.clone(),
            ..Local::default()
        };
        Ok(Facts { cloud, hosts, local })
    }

    async fn observe_cloud(&self, remembered: Option<Ipv4Addr>) -> Result<Option<Cloud>> {
        let Some(client) = &self.cloud else { return Ok(None) };
        let cluster = &self.inventory.cluster;
        let tag = names::cluster_tag(cluster);
        let (droplets, addresses) = tokio::try_join!(client.droplets(&tag), client.reserved_ips())
            .context("cannot list the cluster's droplets and addresses")?;
        let ids: Vec<u64> = droplets.iter().map(|droplet| droplet.id).collect();
        let recorded: Vec<Ipv4Addr> = droplets
            .iter()
            .flat_map(|droplet| &droplet.tags)
            .filter_map(|tag| names::recorded_address(cluster, tag))
            .chain(remembered)
            .collect();
        // The address of one of our droplets, else one that is written down and that no stranger has.
        let floating_ip = addresses
            .iter()
            .find(|address| address.holder().is_some_and(|holder| ids.contains(&holder)))
            .or_else(|| addresses.iter().find(|it| recorded.contains(&it.ip) && it.holder().is_none()))
            .map(|address| FloatingIp { address: address.ip, droplet: address.holder() });
        let mut by_name = BTreeMap::new();
        for droplet in droplets {
            let record = floating_ip.as_ref().map(|it| names::address_tag(cluster, it.address));
            let entry = Droplet {
                id: droplet.id,
                status: status(droplet.status).to_owned(),
                public: droplet.public_ipv4(),
                private: droplet.private_ipv4(),
                region: droplet.region.as_ref().map(|region| region.slug.clone()),
                size: Some(droplet.size_slug.clone()).filter(|slug| !slug.is_empty()),
                image: droplet.image.as_ref().and_then(|image| image.slug.clone()),
                records_floating_ip: record.is_some_and(|tag| droplet.tags.contains(&tag)),
            };
            if let Some(twin) = by_name.insert(droplet.name.clone(), entry) {
                return Err(crate::error::Advice::refused(format!(
                    "two droplets of cluster `{cluster}` are called {}: {} and {}",
                    droplet.name, twin.id, droplet.id
                ))
                .hint("delete the one that is not needed, or take its tag away")
                .into());
            }
        }
        // Asked only when it matters: a droplet that is to be made.
        let ssh_key = if self.inventory.nodes.iter().all(|node| by_name.contains_key(&node.name)) {
            true
        } else {
            let fingerprint =
                key::fingerprint(&self.public_key().await?).context("the public key cannot be read")?;
            client
                .ssh_key(&fingerprint)
                .await
                .context("cannot look for the SSH key at the provider")?
                .is_some()
        };
        Ok(Some(Cloud { ssh_key, droplets: by_name, floating_ip }))
    }

    /// Where SSH goes.
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
            match self.run(node, &command, &|_| {}).await {
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

fn status(status: DropletStatus) -> &'static str {
    match status {
        DropletStatus::New => "new",
        DropletStatus::Active => "active",
        DropletStatus::Off => "off",
        DropletStatus::Archive => "archive",
        DropletStatus::Unknown => "unknown",
    }
}
