//! `cluster adopt`: this machine takes over a cluster that another one created.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueHint};
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::confirm::confirm;
use super::{in_world, read};
use crate::adopt::contact::contacts;
use crate::adopt::{Contact, Trust, Verdict, fingerprint, judge};
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::inventory::{Inventory, Provider, Source};
use crate::plan::changed::changed;
use crate::plan::plan;
use crate::report::{Format, visible};
use crate::world::World;
use crate::world::recover::Taken;
use crate::{data, screen, tell};

/// Arguments of `cluster adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// The key to log in to droplets with, if the inventory names no `ssh_key`
    ///
    /// A public key stands for the private one that an SSH agent holds.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ssh_key: Option<PathBuf>,
    /// A node's host key or its fingerprint, as its console shows it; may be repeated
    ///
    /// One is enough: every node states the keys of the others.
    #[arg(long, value_name = "NODE=KEY")]
    host_key: Vec<String>,
    /// Do not ask whether the fingerprints are right
    #[arg(short, long)]
    yes: bool,
}

/// What to do where nobody knows a droplet's host key.
const COMPARE: &str = "Compare one of them with what the node's own console prints: \
                       `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`. --host-key NODE=SHA256:… says that it is right.";

pub(super) async fn run(source: &Source, args: AdoptArgs, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    let given = given(&inventory, &args.host_key)?;
    may_name_a_key(&inventory, &args)?;
    in_world(inventory, Format::beside_result(json), Some("adopt"), |world| async move {
        let _lock = world.state.lock("adopt")?;
        way_in(&world, &args).await?;
        let addresses = world.write_own_ssh_config().await?;
        if addresses.is_empty() {
            let cluster = &world.inventory.cluster;
            return Err(Advice::refused(format!("the provider lists no droplet of cluster `{cluster}`"))
                .hint("check `cluster` in the inventory, and whose token it is; `cluster up` creates a cluster that does not exist yet")
                .into());
        }
        let contacts = contacts(&world, &addresses, &given).await?;
        let verdict = judge(&world.inventory.cluster, &contacts);
        show(&world, &addresses, &contacts, &verdict);
        refuse(&world, &contacts, &verdict)?;
        if verdict.asks() {
            tell!("{COMPARE}");
            confirm("cluster", &world.inventory.cluster, args.yes, "nothing was taken over")?;
        }
        for node in &world.inventory.nodes {
            if let Some(believed) = verdict.keys.get(&node.name) {
                world.pin(node, std::slice::from_ref(&believed.key))?;
            }
        }
        // As patient as `up`: what is not read now is taken for missing.
        let facts = world.observe().await?;
        let identifier = identifier(&world, &facts)?;
        let secrets = world.take_back_secrets(&facts).await?;
        let exposed = world.take_back_exposed_keys(&facts).await?;
        let generation = world.take_back_memory(&facts, identifier.clone())?;
        let told = Told { identifier, generation, secrets, exposed, lost: lost_passwords(&world)? };
        told.tell(&world, &verdict, &facts, json).await?;
        Ok(Exit::Done)
    })
    .await
}

/// The host keys of the command line, by node.
fn given(inventory: &Inventory, words: &[String]) -> Result<BTreeMap<String, String>> {
    let mut given = BTreeMap::new();
    for word in words {
        let Some((node, key)) = word.split_once('=') else {
            return Err(Advice::usage(format!("--host-key {word} names no node"))
                .hint("write --host-key NODE=SHA256:…, or --host-key 'NODE=ssh-ed25519 AAAA…'")
                .into());
        };
        super::declared(inventory, node)?;
        let key =
            if key.starts_with("ssh-") { crate::world::keys::first_two_words(key) } else { key.to_owned() };
        let is_fingerprint = key.strip_prefix("SHA256:").is_some_and(|it| it.len() == 43);
        if !is_fingerprint && cluster_cloud::key::fingerprint(&key).is_none() {
            return Err(Advice::usage(format!(
                "--host-key {node}: `{key}` is neither a key nor a fingerprint"
            ))
            .hint("`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the node's console prints SHA256:…")
            .into());
        }
        given.insert(node.to_owned(), key);
    }
    Ok(given)
}

fn may_name_a_key(inventory: &Inventory, args: &AdoptArgs) -> Result<()> {
    let Some(file) = &args.ssh_key else { return Ok(()) };
    let key = match &inventory.provider {
        Provider::Existing(_) => "provider.existing.ssh_key",
        Provider::DigitalOcean(_) if inventory.provider.ssh_key().is_some() => {
            "provider.digitalocean.ssh_key"
        }
        Provider::DigitalOcean(_) => return Ok(()),
    };
    Err(Advice::usage(format!("--ssh-key {}: the inventory says which key is used", file.display()))
        .hint(format!("set {key} instead"))
        .into())
}

/// The key that the nodes let in. One that was made here just now would open nothing.
async fn way_in(world: &World, args: &AdoptArgs) -> Result<()> {
    if let Some(file) = &args.ssh_key {
        world.use_key(file).await?;
    }
    if world.has_private_key() {
        return world.usable_key().await;
    }
    Err(Advice::refused("the inventory names no `ssh_key`, and the key that was made for this cluster is on another machine")
        .hint(
            "--ssh-key FILE names a key that the droplets let in, for instance id_ed25519 of the other machine's state \
             directory. If that is lost and no other is let in: open each droplet's recovery console in the control panel, \
             add your public key to /root/.ssh/authorized_keys, then run this with --ssh-key",
        )
        .into())
}

/// The nodes, their fingerprints, and why each is believed.
fn show(
    world: &World,
    addresses: &BTreeMap<String, String>,
    contacts: &BTreeMap<String, Contact>,
    verdict: &Verdict,
) {
    tell!("cluster {}:", world.inventory.cluster.bold());
    let width = world.inventory.nodes.iter().map(|node| node.name.len()).max().unwrap_or_default();
    for node in &world.inventory.nodes {
        let name = &node.name;
        let address = addresses.get(name).map_or("-", String::as_str);
        let words = match (contacts.get(name), verdict.keys.get(name)) {
            (Some(Contact::Silent { why }), Some(it)) => {
                format!("{}  {} (not reached: {why})", fingerprint(&it.key), it.trust.words())
            }
            (Some(Contact::Silent { why }), None) => format!("not reached: {why}"),
            (_, Some(it)) => format!("{}  {}", fingerprint(&it.key), it.trust.words()),
            (Some(Contact::Reached { key, .. }), None) => format!("{}  not believed", fingerprint(key)),
            (None, None) => "-".to_owned(),
        };
        tell!("  {name:width$}  {address}  {}", visible(&words));
    }
    for note in &verdict.notes {
        world.report.warning(note);
    }
}

fn refuse(world: &World, contacts: &BTreeMap<String, Contact>, verdict: &Verdict) -> Result<()> {
    if !verdict.refusals.is_empty() {
        return Err(Advice::refused_for(verdict.refusals.clone()).into());
    }
    if contacts.values().any(|it| matches!(it, Contact::Reached { .. })) {
        return Ok(());
    }
    let each = contacts.iter().filter_map(|(name, contact)| match contact {
        Contact::Silent { why } => Some(format!("{name}: {why}")),
        Contact::Reached { .. } => None,
    });
    let each = each.collect::<Vec<_>>().join("\n  ");
    let hint = if each.contains("Permission denied") {
        let how = match &world.inventory.provider {
            Provider::Existing(_) => "set `ssh_key` and `ssh_user` in the inventory to what the hosts let in",
            Provider::DigitalOcean(_) => {
                "name a key that they let in with --ssh-key, or as `ssh_key` in the inventory. If there is none: open each \
                 droplet's recovery console in the control panel and add your public key to /root/.ssh/authorized_keys"
            }
        };
        how.to_owned()
    } else {
        "one node that holds data has to answer: bring one back, or correct its address".to_owned()
    };
    Err(Advice::refused(format!("no node lets us in\n  {each}")).hint(hint).into())
}

/// The system identifier, once everything that the hosts are fits the inventory and what this machine remembers.
fn identifier(world: &World, facts: &Facts) -> Result<String> {
    let found = changed(&world.inventory, facts);
    if !found.is_empty() {
        let place = |node: &Option<String>| node.as_ref().map_or(String::new(), |node| format!("{node} "));
        let reasons = found.into_iter().map(|it| (format!("{}{}", place(&it.node), it.message), it.hint));
        return Err(Advice::refused_for(reasons).into());
    }
    let mut identifiers = world.identifiers(facts);
    let Some(identifier) = identifiers.pop_first() else {
        let absent =
            facts.hosts.iter().filter_map(|(name, host)| Some(format!("; {name}: {}", host.absence()?)));
        return Err(Advice::refused(format!(
            "no host that answers holds data of cluster `{}`{}",
            world.inventory.cluster,
            absent.collect::<String>()
        ))
        .hint(
            "bring a node with data back. If there never was any, because the first `up` was interrupted: finish it on the \
             machine where it began, or `cluster down` and begin again",
        )
        .into());
    };
    if let Some(other) = identifiers.pop_first() {
        return Err(Advice::refused(format!(
            "the hosts hold two clusters: system identifiers {identifier} and {other}"
        ))
        .hint("the inventory must name the hosts of one of them")
        .into());
    }
    match world.state.memory()?.system_identifier {
        Some(known) if known != identifier => Err(Advice::refused(format!(
            "this machine knows another cluster named `{}`: its system identifier is {known}, and the hosts' is {identifier}",
            world.inventory.cluster
        ))
        .hint(format!(
            "if that cluster is gone for good, move {} away; it has that cluster's passwords",
            world.state.directory().display()
        ))
        .into()),
        _ => Ok(identifier),
    }
}

/// Users whose passwords were generated elsewhere: PostgreSQL has no more than their verifiers.
fn lost_passwords(world: &World) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    for user in world.inventory.users.iter().filter(|user| user.password.is_none()) {
        if world.state.kept_password(&format!("user:{}", user.name))?.is_none() {
            lost.push(user.name.clone());
        }
    }
    Ok(lost)
}

/// What was taken over.
struct Told {
    identifier: String,
    generation: u64,
    secrets: Vec<(&'static str, Taken)>,
    /// Nodes that show the host key of their user data.
    exposed: Vec<String>,
    /// Users whose passwords are nowhere.
    lost: Vec<String>,
}

impl Told {
    async fn tell(&self, world: &Arc<World>, verdict: &Verdict, facts: &Facts, json: bool) -> Result<()> {
        let steps = match world.means(facts).await {
            Ok(means) => Some(plan(&world.inventory, facts, &means)),
            Err(error) => {
                world.report.warning(format!("what `cluster up` would do is not known: {error:#}"));
                None
            }
        };
        let of = |wanted: Taken| -> Vec<&str> {
            self.secrets.iter().filter(|(_, taken)| *taken == wanted).map(|(what, _)| *what).collect()
        };
        for what in of(Taken::Missing) {
            world
                .report
                .warning(format!("{what} is on no node that answers; the next `cluster up` sets a new one"));
        }
        for node in &self.exposed {
            world.report.warning(format!(
                "{node} still has the host key that its user data carried; the next `cluster up` replaces it"
            ));
        }
        if json {
            let keys: BTreeMap<_, _> = verdict.keys.iter().map(|(node, it)| {
                (node, json!({"key": it.key, "fingerprint": fingerprint(&it.key), "asked": matches!(it.trust, Trust::Asked(_)), "why": it.trust.words()}))
            }).collect();
            return Ok(screen::json(&json!({
                "cluster": world.inventory.cluster, "system_identifier": self.identifier,
                "membership": self.generation, "host_keys": keys,
                "taken": of(Taken::New), "replaced": of(Taken::Replaced), "kept": of(Taken::Same),
                "missing": of(Taken::Missing), "unknown_passwords": self.lost,
                "steps_of_next_up": steps.map(|plan| plan.steps.len()),
                "state": world.state.directory(),
            }))?);
        }
        let cluster = &world.inventory.cluster;
        data!(
            "{cluster}: taken over (system identifier {}); nothing on the nodes was changed",
            self.identifier
        );
        for (what, taken) in [("taken back", Taken::New), ("replaced by the nodes'", Taken::Replaced)] {
            if !of(taken).is_empty() {
                data!("{what}: {}", of(taken).join(", "));
            }
        }
        match steps {
            None => {}
            Some(plan) if !plan.refusals.is_empty() => {
                for it in &plan.refusals {
                    let place = it.node.as_ref().map_or(String::new(), |node| format!("{node} "));
                    world.report.warning(format!("{place}{} ({})", it.message, it.hint));
                }
            }
            Some(plan) if plan.steps.is_empty() => data!("`cluster up` has nothing to do"),
            Some(plan) => {
                data!("`cluster up` would do {} steps; `cluster plan` shows them", plan.steps.len());
            }
        }
        Ok(())
    }
}
