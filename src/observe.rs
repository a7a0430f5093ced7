//! Observes the current state: one listing from the API and one probe per host, in parallel. Changes nothing.

mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::facts::{Cloud, Facts, Host, Local, ServerStatus, probe};
use crate::inventory::Role;
use crate::plan::files;
use crate::plan::packages::{for_probe, packages};
use crate::plan::roles::{self, Primary};
use crate::provider::{Patience, why_away};
use crate::remote::{Command, RemoteError};
use crate::report::Event;
use crate::timings::{self, Slowest};
use crate::world::{Purpose, World};

/// How long a server that was powered on may be silent before that means something.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);

/// How long a command that only looks waits for a host that falls silent: connecting takes 5 s at most.
const LOOK_PATIENCE: Duration = Duration::from_secs(8);
/// How long one may take before it is switched off for saying nothing.
const ASK_AGAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long one that is late is looked at again, where what is done next depends on it.
const LATE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a command that works on hosts connects again to one that is there and slow.
const WORK_PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Observes the provider and all hosts.
    ///
    /// # Errors
    /// When the API does not answer. A host that does not is a fact.
    pub async fn observe(self: &Arc<Self>) -> Result<Facts> {
        self.report.send(Event::Observing);
        let memory = self.state.memory()?;
        let begun = Instant::now();
        let cloud = match &self.provider {
            Some(api) => Some(self.observe_cloud(api, &memory).await?),
            None => None,
        };
        self.timed_cloud(begun);
        if let Some(cloud) = &cloud {
            self.refuse_while_another_makes_it(cloud).await?;
        }
        let mut facts = self.observe_hosts(cloud, self.purpose).await?;
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
        let begun = Instant::now();
        let cloud = self.cloud_or_memory().await?;
        self.timed_cloud(begun);
        // Who asks this changes no host: the guards do. A host that hangs holds up no failover.
        self.observe_hosts(cloud, Purpose::Look).await
    }

    /// The same, and looks again, for half a minute, while a host only took too long to answer.
    ///
    /// # Errors
    /// As [`World::observe_or_remember`].
    pub async fn observe_or_wait(self: &Arc<Self>) -> Result<Facts> {
        let begun = Instant::now();
        loop {
            let facts = self.observe_or_remember().await?;
            let late = facts.hosts.iter().find(|(_, host)| host.is_late()).map(|(name, _)| name);
            let Some(late) = late.filter(|_| begun.elapsed() < LATE_PATIENCE) else { return Ok(facts) };
            self.report.progress(late, "took too long to answer, and is asked again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn timed_cloud(&self, begun: Instant) {
        if self.provider.is_some() {
            timings::part("ask the provider", begun);
        }
    }

    /// Writes the SSH configuration, without contacting the hosts.
    ///
    /// # Errors
    /// As [`World::observe_or_remember`].
    pub async fn write_own_ssh_config(&self) -> Result<BTreeMap<String, String>> {
        let addresses = self.addresses(self.cloud_or_memory().await?.as_ref());
        self.write_ssh_config(&addresses).await?;
        Ok(addresses)
    }

    async fn cloud_or_memory(&self) -> Result<Option<Cloud>> {
        let Some(api) = &self.provider else { return Ok(None) };
        let memory = self.state.memory()?;
        let error = match self.observe_cloud(&api.with_patience(Patience::Brief), &memory).await {
            Ok(cloud) => return Ok(Some(cloud)),
            Err(error) => error,
        };
        let away = why_away(&error);
        let remembered = away.and_then(|why| self.remembered_cloud(&memory, &why, api.url()));
        let Some(cloud) = remembered else { return Err(error) };
        if let Some(note) = cloud.remembered.as_ref().filter(|_| self.first_time_away()) {
            self.report.warning(note);
        }
        Ok(Some(cloud))
    }

    async fn observe_hosts(self: &Arc<Self>, cloud: Option<Cloud>, purpose: Purpose) -> Result<Facts> {
        let addresses = self.addresses(cloud.as_ref());
        self.write_ssh_config(&addresses).await?;
        let bootstrap_keys = self.bootstrap_keys()?;
        let begun = Instant::now();
        let mut probes = JoinSet::new();
        let mut hosts = BTreeMap::new();
        for node in &self.inventory.nodes {
            let name = node.name.clone();
            let server = cloud.as_ref().map(|cloud| cloud.servers.get(&name));
            match server {
                Some(None) => drop(hosts.insert(name, Host::Missing)),
                Some(Some(server)) if server.status == ServerStatus::Off => {
                    drop(hosts.insert(name, Host::Off));
                }
                Some(Some(server)) if server.public.is_none() => {
                    let why = if server.failed {
                        "the provider failed to create its droplet"
                    } else {
                        "its droplet is being created"
                    };
                    drop(hosts.insert(name, Host::Unreachable { why: why.into(), young: true }));
                }
                _ => {
                    let (world, young) = (self.clone(), bootstrap_keys.contains_key(&name));
                    probes
                        .spawn(async move { (name.clone(), world.timed_probe(&name, young, purpose).await) });
                }
            }
        }
        let mut slowest: Option<Slowest> = None;
        for (name, (host, seconds, connect_seconds)) in probes.join_all().await {
            if slowest.as_ref().is_none_or(|slowest| slowest.seconds < seconds) {
                slowest =
                    Some(Slowest { node: name.clone(), seconds, connect_seconds: Some(connect_seconds) });
            }
            hosts.insert(name, host);
        }
        let mut facts = Facts { cloud, hosts, local: self.local()? };
        // They are not asked at the same moment, so that while roles change the old primary and the new one may both have been seen
        // taking writes. Two that do are still there a moment later.
        if let Primary::Several(names) = roles::primary(&self.inventory, &facts) {
            let mut again = JoinSet::new();
            for name in names {
                let (world, young) = (self.clone(), bootstrap_keys.contains_key(&name));
                again.spawn(async move { (name.clone(), world.timed_probe(&name, young, purpose).await) });
            }
            // One that says nothing of its PostgreSQL now takes nothing back.
            for (name, (host, ..)) in again.join_all().await {
                if host.up().is_some_and(|it| it.postgres.is_some() || it.postgres_error.is_none()) {
                    facts.hosts.insert(name, host);
                }
            }
        }
        timings::part_of("look at the hosts", begun, slowest);
        self.refuse_another()?;
        Ok(facts)
    }

    /// Looks at one host again.
    pub(crate) async fn look_at(&self, node: &str) -> Host {
        let young = self.bootstrap_keys().is_ok_and(|keys| keys.contains_key(node));
        let mut connected = Duration::ZERO;
        self.probe(node, young, None, &mut connected).await
    }

    /// Looks at one host again that may be slow, with more patience and without waiting for anybody.
    pub(crate) async fn ask_again(&self, node: &str) -> Host {
        let mut connected = Duration::ZERO;
        self.probe(node, false, Some(ASK_AGAIN_PATIENCE), &mut connected).await
    }

    /// Asks the provider again; what was seen of the hosts stays.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn look_at_provider(&self, facts: &mut Facts) -> Result<()> {
        if let Some(api) = &self.provider {
            facts.cloud = Some(self.observe_cloud(api, &self.state.memory()?).await?);
        }
        Ok(())
    }

    /// Reads again what this machine knows.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub(crate) fn look_at_memory(&self, facts: &mut Facts) -> Result<()> {
        facts.local = self.local()?;
        Ok(())
    }

    fn local(&self) -> Result<Local> {
        let memory = self.state.memory()?;
        let now = jiff::Timestamp::now();
        let boots = |since: jiff::Timestamp| now.duration_since(since).unsigned_abs() < BOOT_PATIENCE;
        let booting = memory.servers.into_values().filter(|server| server.powered_on.is_some_and(boots));
        Ok(Local {
            system_identifier: memory.system_identifier,
            generation: memory.generation,
            bootstrap_keys: self.bootstrap_keys()?,
            booting: booting.map(|server| server.node).collect(),
            node_program: self.program.sha256.clone(),
        })
    }

    /// The SSH address.
    pub(crate) fn addresses(&self, cloud: Option<&Cloud>) -> BTreeMap<String, String> {
        self.inventory
            .nodes
            .iter()
            .filter_map(|node| {
                let public = || Some(cloud?.servers.get(&node.name)?.public?.to_string());
                Some((node.name.clone(), node.address.clone().or_else(public)?))
            })
            .collect()
    }

    /// The same, and the seconds that it took, and of these until there was a connection.
    async fn timed_probe(&self, node: &str, young: bool, purpose: Purpose) -> (Host, f64, f64) {
        let begun = Instant::now();
        let mut connected = Duration::ZERO;
        let limit = match purpose {
            Purpose::Look => Some(LOOK_PATIENCE),
            Purpose::Work => None,
        };
        let host = self.probe(node, young, limit, &mut connected).await;
        (host, begun.elapsed().as_secs_f64(), connected.as_secs_f64())
    }

    /// What a host is. That one host makes no sense says nothing about the others. Within `limit`, and beside whatever works on it;
    /// without one, when that has ended.
    async fn probe(
        &self,
        node: &str,
        young: bool,
        limit: Option<Duration>,
        connected: &mut Duration,
    ) -> Host {
        let version = self.inventory.postgresql.version;
        let node_of = self.inventory.node(node);
        let packages = node_of.map(|node| packages(&self.inventory, node)).unwrap_or_default();
        let packages: Vec<String> = packages.iter().map(|package| for_probe(package, version)).collect();
        let has_data = node_of.is_some_and(|node| node.role != Role::Witness);
        let databases = if has_data { self.inventory.own_databases() } else { Vec::new() };
        let command = Command::new("probe", probe::SCRIPT)
            .arg(version.to_string())
            .arg(self.inventory.postgresql.port.to_string())
            .arg(packages.join(" "))
            .arg(databases.join(" "))
            .args(files::paths(version))
            .looks()
            .limit(30);
        let command = if limit.is_none() { command.alone() } else { command };
        let unreachable = |why: String| Host::Unreachable { why, young };
        let (begun, patience) = (Instant::now(), limit.unwrap_or(WORK_PATIENCE));
        let mut was_lost = false;
        loop {
            let probed = async {
                let begun = Instant::now();
                self.connection(node).await?;
                *connected += begun.elapsed();
                self.run(node, &command, &|_| {}).await
            };
            let result = match limit {
                Some(limit) => match tokio::time::timeout(limit, probed).await {
                    Ok(result) => result,
                    Err(_) => return Host::late(limit.as_secs(), young),
                },
                None => probed.await,
            };
            match result {
                Ok(output) => {
                    return match probe::parse(&output.stdout) {
                        Ok(facts) => Host::Up(Box::new(facts)),
                        Err(error) => unreachable(format!("its answer cannot be read: {error}")),
                    };
                }
                // A connection that stood idle may be gone: one more try with a new one.
                Err(RemoteError::Lost { .. }) if !was_lost => was_lost = true,
                Err(error) if error.is_slow() => {
                    let waited = begun.elapsed();
                    if waited >= patience {
                        return Host::late(patience.as_secs(), young);
                    }
                    let waited = waited.as_secs();
                    self.report.progress(node, format!("waiting for its sshd to answer ({waited} s)"));
                }
                Err(RemoteError::Connect { message, .. } | RemoteError::Lost { message, .. }) => {
                    return unreachable(message);
                }
                // sudo wants a password or a terminal, and no waiting helps.
                Err(RemoteError::Failed { output, .. }) if output.contains("sudo: ") => {
                    let line = output.lines().find(|line| line.contains("sudo: ")).unwrap_or_default();
                    return Host::Unreachable { why: line.trim().to_owned(), young: false };
                }
                Err(error) => return unreachable(first_line_and_last(&error.to_string())),
            }
        }
    }
}

/// What failed, and the last thing that it printed.
fn first_line_and_last(text: &str) -> String {
    let mut lines = text.lines().map(|line| line.trim_start_matches([' ', '|']).trim());
    let first = lines.next().unwrap_or_default();
    match lines.rfind(|line| !line.is_empty()) {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::first_line_and_last;

    #[test]
    fn a_login_that_runs_nothing_is_told_in_a_line() {
        let text = "`probe` on pg1 ended with exit code 1\n    | This account is currently not available.";
        assert_eq!(
            first_line_and_last(text),
            "`probe` on pg1 ended with exit code 1: This account is currently not available."
        );
        assert_eq!(first_line_and_last("pg1 is busy"), "pg1 is busy");
    }
}
