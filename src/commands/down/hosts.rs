//! Stops the services that `up` installed on existing hosts, which are not deleted.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use cluster_contract::config::Config;
use cluster_contract::paths;
use owo_colors::OwoColorize as _;
use tokio::task::JoinSet;

use super::{failed, finished};
use crate::commands::confirm::confirm;
use crate::error::Exit;
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Node};
use crate::plan::roles::{self, Data};
use crate::remote::Command;
use crate::script;
use crate::tell;
use crate::world::World;

/// The services that are stopped together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Half {
    /// The guard and repmgrd, which would start PostgreSQL again or promote another.
    Services,
    /// PostgreSQL.
    Postgresql,
}

pub(in crate::commands) fn stop(world: &World, half: Half) -> Command {
    let half = match half {
        Half::Services => "services",
        Half::Postgresql => "postgresql",
    };
    script::of_postgres(&world.inventory, "stop", script::STOP).arg(half).limit(300)
}

pub(super) async fn run(world: &Arc<World>, yes: bool) -> Result<Exit> {
    let cluster = &world.inventory.cluster;
    tell!(
        "PostgreSQL, repmgrd and cluster-node of cluster {} will be stopped and disabled on:",
        cluster.bold()
    );
    for node in &world.inventory.nodes {
        tell!("  {} ({})", node.name, node.address.as_deref().unwrap_or("-"));
    }
    tell!("Data, packages and configuration are kept.");
    confirm("cluster", cluster, yes, "nothing was stopped")?;
    let begun = Instant::now();
    let facts = world.observe().await?;
    world.lock_cluster(&facts).await?;
    let mut reasons = Vec::new();
    let mut hints = Vec::new();
    let mut nodes = Vec::new();
    for node in &world.inventory.nodes {
        match sort(&world.inventory, &facts, node) {
            Sort::Ours(halves) => nodes.push((node.name.clone(), halves)),
            Sort::Nothing(why) => world.report.note(format!("{}: {why}; left alone", node.name)),
            Sort::Foreign(whose) => {
                reasons.push(format!("{} belongs to cluster `{whose}` and was left alone", node.name));
                hints.push(format!("to stop cluster `{whose}`, use its own inventory"));
            }
            Sort::Silent(why) => {
                reasons.push(format!("{} was not stopped: {why}", node.name));
                hints.push(format!(
                    "run `cluster down` again once {} is reachable; if it is gone for good, there is nothing left to do",
                    node.name
                ));
            }
        }
    }
    // The guards first, all of them, so that nobody takes over; then the primary, whose shutdown waits until the
    // standbys have everything; then the others.
    let mut tasks = JoinSet::new();
    for (node, halves) in nodes {
        let world = world.clone();
        tasks.spawn(async move { (half(&world, node, Half::Services).await, halves) });
    }
    let mut stopped = Vec::new();
    let mut count = 0;
    for (result, halves) in tasks.join_all().await {
        match result {
            Ok(node) if halves.contains(&Half::Postgresql) => stopped.push(node),
            Ok(node) => {
                count += 1;
                world.report.note(format!("{node}: cluster-node and repmgrd are stopped and disabled"));
            }
            Err(why) => reasons.push(why),
        }
    }
    stopped.sort_by_key(|node| !takes_writes(&facts, node));
    for node in stopped {
        match half(world, node, Half::Postgresql).await {
            Ok(node) => {
                count += 1;
                world.report.note(format!("{node}: stopped and disabled"));
            }
            Err(why) => reasons.push(why),
        }
    }
    if !reasons.is_empty() {
        hints.dedup();
        let again = || "run `cluster down` again".to_owned();
        return Err(failed(&reasons, if hints.is_empty() { again() } else { hints.join("; ") }));
    }
    finished(world, "stopped and disabled; its data is kept", count, begun);
    Ok(Exit::Done)
}

async fn half(world: &World, node: String, half: Half) -> Result<String, String> {
    match world.run(&node, &stop(world, half), &|_| {}).await {
        Ok(_) => Ok(node),
        Err(error) => Err(error.to_string()),
    }
}

/// How `down` treats a host.
#[derive(Debug, PartialEq, Eq)]
enum Sort {
    /// Belongs to the cluster, as far as these go.
    Ours(&'static [Half]),
    /// Has nothing of the cluster: why.
    Nothing(String),
    /// Belongs to another cluster.
    Foreign(String),
    /// Cannot be reached.
    Silent(String),
}

fn sort(inventory: &Inventory, facts: &Facts, node: &Node) -> Sort {
    match facts.hosts.get(&node.name).unwrap_or(&Host::Missing) {
        Host::Up(host) => match &host.marker {
            Some(marker) if marker.cluster != inventory.cluster => Sort::Foreign(marker.cluster.clone()),
            _ => match ours(inventory, facts, host) {
                Ok(halves) => Sort::Ours(halves),
                Err(why) => Sort::Nothing(why),
            },
        },
        host => Sort::Silent(host.absence().unwrap_or_default()),
    }
}

/// What of the cluster may be stopped on a host; or why nothing is. A PostgreSQL that the cluster did not make is never
/// stopped, whatever the inventory says.
pub(in crate::commands) fn ours(
    inventory: &Inventory,
    facts: &Facts,
    host: &HostFacts,
) -> Result<&'static [Half], String> {
    let configured = host
        .files
        .get(paths::CONFIG)
        .and_then(|file| serde_json::from_str::<Config>(file.content.as_deref()?).ok())
        .is_some_and(|config| config.cluster == inventory.cluster);
    match roles::data(inventory, facts, host) {
        Data::Ours | Data::Initialized | Data::HalfMade => Ok(&[Half::Services, Half::Postgresql]),
        Data::Foreign(_) | Data::None if configured => Ok(&[Half::Services]),
        Data::Foreign(whose) => Err(whose),
        Data::None => Err(format!("it holds nothing of cluster `{}`", inventory.cluster)),
    }
}

fn takes_writes(facts: &Facts, node: &str) -> bool {
    let host = facts.hosts.get(node).and_then(Host::up);
    host.and_then(|host| host.postgres.as_ref()).is_some_and(|postgres| !postgres.in_recovery)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cluster_contract::marker::{DataStage, Marker};

    use super::*;

    #[test]
    fn what_is_anothers_or_does_not_answer_is_left_alone() {
        let text = "
cluster: demo
provider: {existing: {}}
postgresql: {version: 15}
nodes:
  - {name: pg1, id: 1, role: primary, address: 198.51.100.11}
  - {name: pg2, id: 2, role: standby, address: 198.51.100.12}
";
        let inventory = Inventory::parse(Path::new("demo.yaml"), text).unwrap();
        let sorted = |host: Host| {
            let facts = Facts { hosts: [("pg1".to_owned(), host)].into(), ..Facts::default() };
            sort(&inventory, &facts, &inventory.nodes[0])
        };
        let marked = |cluster: &str| {
            let marker =
                Marker { cluster: cluster.into(), stage: DataStage::Primary, system_identifier: None };
            Host::Up(Box::new(HostFacts { marker: Some(marker), ..HostFacts::default() }))
        };
        assert_eq!(sorted(marked("shop")), Sort::Foreign("shop".into()));
        let nothing = "it holds nothing of cluster `demo`";
        assert_eq!(sorted(marked("demo")), Sort::Nothing(nothing.into()));
        let unreachable = Host::Unreachable { why: "no route to host".into(), young: false };
        assert_eq!(sorted(unreachable), Sort::Silent("it is unreachable: no route to host".into()));
        assert_eq!(sorted(Host::Off), Sort::Silent("its droplet is off".into()));
    }
}
