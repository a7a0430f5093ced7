//! Turns facts into a report that an operator can act on. Pure.

pub mod backup;
mod guards;
mod room;

use std::collections::BTreeMap;

use cluster_contract::paths;
use cluster_contract::status::{Level, Space, Status};
use serde::Serialize;

use crate::facts::host::PostgresFacts;
use crate::facts::{Facts, Host, HostFacts};
use crate::holder::Holder;
use crate::inventory::{Inventory, Provider, Role};
use crate::plan::changed::changed;
use crate::plan::files;
use crate::plan::members::Configuration;
use crate::plan::roles::{self, Data, Primary};

/// The state of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    pub cluster: String,
    /// Whether there is no problem.
    pub healthy: bool,
    /// The node that takes writes.
    pub primary: Option<String>,
    /// The floating IP and the node that has it.
    pub floating_ip: Option<FloatingIp>,
    /// The node that holds the lease.
    pub holder: Option<String>,
    /// Whether that node confirms it; otherwise it is what the voters report.
    pub holder_confirmed: bool,
    /// The length of a lease by the inventory.
    pub lease_ms: u64,
    /// Whether failover is automatic.
    pub failover: Failover,
    /// Whether any node is paused.
    pub paused: bool,
    /// The price of the nodes' servers, in US dollars a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_cost: Option<f64>,
    /// The nodes, in the inventory's order.
    pub nodes: Vec<Node>,
    /// The backups; `None` where the inventory names no repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backups: Option<backup::Backups>,
    /// The problems, as text.
    pub problems: Vec<String>,
    /// Why the provider was not asked, if its part comes from this machine's state.
    pub provider: Option<String>,
    /// The run that holds the cluster's lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Holder>,
}

/// Whether another node would take over by itself if the primary were lost now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failover {
    pub automatic: bool,
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FloatingIp {
    pub address: String,
    /// The node that it points to.
    pub node: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub name: String,
    /// Current role: `primary`, `standby`, `witness`, or `none`.
    pub role: String,
    /// The role that the inventory starts it with.
    pub inventory_role: Role,
    /// `running`, `streaming`, `stopped`, `unreachable`, `off`, `missing`, …
    pub state: String,
    /// The SSH address.
    pub address: Option<String>,
    /// PostgreSQL's timeline.
    pub timeline: Option<u32>,
    /// WAL not yet replayed, in bytes.
    pub lag_bytes: Option<u64>,
    /// Whether it replays nothing although it has been sent something: what it shows is old.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replay_stopped: bool,
    /// repmgrd's state in systemd.
    pub repmgrd: Option<String>,
    /// The guard's state in systemd.
    pub guard: Option<String>,
    /// PostgreSQL's version.
    pub version: Option<String>,
    /// Whether it has a vote; `None` if its guard does not report the members.
    pub votes: Option<bool>,
    /// Whether it is paused; `None` without an answer from its guard.
    pub paused: Option<bool>,
    /// What its guard is doing, or why it is idle; `None` without an answer.
    pub guard_says: Option<String>,
    /// The length of the leases that its guard requests; `None` if it does not say it.
    pub lease_ms: Option<u64>,
    /// Where it keeps the data that a restore has replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// The room that PostgreSQL has; `None` if its guard does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Space>,
}

impl Node {
    /// Whether it would refuse writes: such a standby does not take over.
    pub fn is_full(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.level == Level::Full)
    }
}

/// Evaluates the facts.
pub fn health(inventory: &Inventory, facts: &Facts, addresses: &BTreeMap<String, String>) -> Health {
    let primary = roles::primary(inventory, facts);
    let mut problems = Vec::new();
    let changed = changed(inventory, facts);
    let nobody = |problems: &mut Vec<String>| {
        let unseen = |node: &&crate::inventory::Node| {
            matches!(facts.hosts.get(&node.name), Some(Host::Unreachable { .. }))
        };
        let unseen: Vec<&str> =
            inventory.data_nodes().filter(unseen).map(|node| node.name.as_str()).collect();
        let is_unknown =
            |host: &Host| matches!(host, Host::Unreachable { why, .. } if why.contains("host key is known"));
        problems.push(if unseen.is_empty() {
            "the cluster does not exist yet: `cluster up` creates it".into()
        } else if facts.hosts.values().any(is_unknown) {
            "this machine does not know the hosts' keys: if the cluster was created on another one, `cluster adopt` takes it \
             over here"
                .into()
        } else {
            format!("cannot tell whether the cluster exists: no answer from {}", unseen.join(", "))
        });
    };
    let name = match &primary {
        Primary::One(name) => Some(name.clone()),
        Primary::Never => {
            nobody(&mut problems);
            None
        }
        Primary::Several(names) => {
            problems.push(format!("SPLIT BRAIN: {} take writes at the same time", names.join(" and ")));
            None
        }
        Primary::Gone(identifier) => {
            problems.push(format!(
                "no host has data of the cluster that this machine remembers (system identifier {identifier})"
            ));
            None
        }
        Primary::Lost(why) => {
            problems.push(format!("no node takes writes: {why}"));
            None
        }
    };
    let only_guards_know = guards::only_they_know(inventory, facts);
    let name = if only_guards_know { guards::primary(inventory, facts) } else { name };
    let upstream = name.as_deref().and_then(|name| probed(facts, name));
    let mut of_guards = Vec::new();
    pause(inventory, facts, &mut of_guards);
    forced(inventory, facts, &mut of_guards);
    problems.extend(of_guards.iter().cloned());
    let mut nodes: Vec<Node> = inventory
        .nodes
        .iter()
        .map(|node| look_at(inventory, facts, node, name.as_deref(), upstream, addresses, &mut problems))
        .collect();
    let floating_ip = floating_ip(inventory, facts, name.as_deref(), &mut problems);
    mislaid(inventory, facts, &mut problems);
    let backups = backup::backups(inventory, facts, name.as_deref(), &mut problems);
    if !changed.is_empty() {
        // The hosts were looked at by an inventory that is not theirs: what else seems wrong may not be, but for what
        // the guards say.
        let changed = changed.into_iter().map(|it| {
            let place = it.node.map_or(String::new(), |node| format!("{node} "));
            format!("{place}{} ({})", it.message, it.hint)
        });
        problems = changed.chain(of_guards).collect();
    }
    if only_guards_know {
        nodes.iter_mut().for_each(|node| guards::correct(inventory, facts, node));
    }
    let failover = if only_guards_know {
        guards::failover(inventory, facts, &nodes)
    } else {
        failover(inventory, &primary, &nodes)
    };
    let (holder, holder_confirmed) = holder(inventory, facts);
    Health {
        cluster: inventory.cluster.clone(),
        healthy: problems.is_empty(),
        primary: name,
        floating_ip,
        holder,
        holder_confirmed,
        lease_ms: inventory.failover.lease_ms,
        failover,
        paused: nodes.iter().any(|node| node.paused == Some(true)),
        monthly_cost: crate::plan::cost_now(facts),
        nodes,
        backups,
        problems,
        provider: facts.cloud.as_ref().and_then(|cloud| cloud.remembered.clone()),
        run: facts.hosts.values().find_map(|host| host.up()?.operator.clone()),
    }
}

/// Reports servers that are renamed, untagged or unknown.
fn mislaid(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    let Some(cloud) = &facts.cloud else { return };
    for node in &inventory.nodes {
        let server = cloud.servers.get(&node.name);
        if let Some(wrong) = server.and_then(|server| server.mislabelled(&inventory.cluster)) {
            problems.push(format!("{}: {wrong}", node.name));
        }
    }
    for stray in &cloud.strays {
        problems.push(stray.describe(&inventory.cluster));
    }
}

/// What was read from a node's host, if it answered.
fn probed<'a>(facts: &'a Facts, node: &str) -> Option<&'a HostFacts> {
    facts.hosts.get(node)?.up()
}

/// The status that a node's guard reports.
fn guard<'a>(facts: &'a Facts, node: &str) -> Option<&'a Status> {
    probed(facts, node)?.guard.as_ref()
}

/// Reports a pause as a problem: a forgotten one shows only when a server is lost.
fn pause(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    let mut paused = Vec::new();
    let mut others = Vec::new();
    for node in &inventory.nodes {
        let host = facts.hosts.get(&node.name).and_then(Host::up);
        match host.map(HostFacts::paused) {
            Some(Some(true)) => paused.push(node.name.as_str()),
            Some(Some(false)) => others.push(format!("not on {}", node.name)),
            Some(None) | None => others.push(format!("unknown on {}", node.name)),
        }
    }
    if paused.is_empty() {
        return;
    }
    let since = paused.iter().filter_map(|name| guard(facts, name)?.paused_since.as_deref()).min();
    let since = since.map_or(String::new(), |since| match since.parse::<jiff::Timestamp>() {
        Ok(since) => format!(" since {}", since.strftime("%F %TZ")),
        Err(_) => format!(" since {since}"),
    });
    let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    problems.push(format!(
        "PAUSED on {}{since}{others}: guards there do not start, promote or rejoin PostgreSQL; `cluster resume` ends the pause",
        paused.join(", ")
    ));
}

/// Reports a forced primary until a majority is back.
fn forced(inventory: &Inventory, facts: &Facts, problems: &mut Vec<String>) {
    for node in &inventory.nodes {
        let Some(guard) = guard(facts, &node.name) else { continue };
        if guard.forced {
            problems.push(format!(
                "{} took over BY FORCE and has had no majority since: there is no failover, and it is not fenced \
                 when it is cut off; bring the other nodes back where they can reach it",
                node.name
            ));
        }
        if guard.diverged_data_kept {
            problems.push(format!(
                "{}: took writes while another node was primary; its data is kept until you have checked it and \
                 given it up with `cluster rejoin {}`",
                node.name, node.name
            ));
        }
    }
}

/// The lease holder, and whether that node confirms it; otherwise the node that most voters name.
fn holder(inventory: &Inventory, facts: &Facts) -> (Option<String>, bool) {
    let says = |name: &str| facts.hosts.get(name).and_then(|host| host.up()?.holds_lease());
    if let Some(node) = inventory.nodes.iter().find(|node| says(&node.name) == Some(true)) {
        return (Some(node.name.clone()), true);
    }
    let named = |node: &crate::inventory::Node| guard(facts, &node.name)?.holder.as_deref();
    let names: Vec<&str> = inventory.nodes.iter().filter_map(named).collect();
    let most = names.iter().max_by_key(|name| names.iter().filter(|it| it == name).count());
    (most.map(|name| (*name).to_owned()), false)
}

/// Whether another node would take over if the primary were lost now.
fn failover(inventory: &Inventory, primary: &Primary, nodes: &[Node]) -> Failover {
    let off = |why: String| Failover { automatic: false, why: Some(why) };
    let nodes: Vec<&Node> = nodes.iter().filter(|node| node.votes != Some(false)).collect();
    let count = nodes.len();
    if *primary == Primary::Never {
        return off("the cluster does not exist yet".into());
    }
    if inventory.data_nodes().count() < 2 {
        return off("there is no standby".into());
    }
    if count < 3 {
        return off(
            "two nodes have no majority when one is lost; add a third, for instance a witness, to turn it on"
                .into(),
        );
    }
    let paused: Vec<&str> =
        nodes.iter().filter(|node| node.paused == Some(true)).map(|node| node.name.as_str()).collect();
    let takes_writes = |node: &&Node| node.role == "primary";
    if nodes.iter().any(takes_writes) {
        if !nodes.iter().any(|node| node.state == "streaming" && node.paused != Some(true)) {
            let why =
                if paused.is_empty() { "no standby streams" } else { "every streaming standby is paused" };
            return off(why.into());
        }
        if !nodes.iter().any(|node| node.state == "streaming" && node.paused != Some(true) && !node.is_full())
        {
            return off("the disk of every streaming standby is full".into());
        }
        let within = |node: &Node| node.lag_bytes.is_none_or(|lag| lag <= inventory.failover.lag_limit_bytes);
        if !nodes.iter().any(|node| {
            node.state == "streaming" && node.paused != Some(true) && !node.is_full() && within(node)
        }) {
            return off("every standby lags by more than failover.lag_limit".into());
        }
        let voters: Vec<&Node> = nodes.into_iter().filter(|node| !takes_writes(node)).collect();
        let there = voters.iter().filter(|node| node.guard.as_deref() == Some("active")).count();
        if there < count / 2 + 1 {
            return off(format!(
                "without the primary, {there} of {count} guards would remain, and a majority is {}",
                count / 2 + 1
            ));
        }
    } else if !paused.is_empty() {
        return off(format!("{} paused", if paused.len() == 1 { "one node is" } else { "some nodes are" }));
    } else {
        let there = |node: &&&Node| node.guard.as_deref() == Some("active");
        let (guards, majority) = (nodes.iter().filter(there).count(), count / 2 + 1);
        if guards < majority {
            return off(format!("{guards} of {count} guards are reachable, and a majority is {majority}"));
        }
        let has_data = |node: &&Node| node.inventory_role != Role::Witness && node.state != "bare";
        if !nodes.iter().filter(there).any(has_data) {
            return off("no data node with a guard is reachable".into());
        }
    }
    Failover { automatic: true, why: None }
}

/// Whether a node's guard reports that it has the floating IP.
fn has_address(facts: &Facts, node: &str) -> bool {
    guard(facts, node).is_some_and(|guard| guard.has_address == Some(true))
}

fn floating_ip(
    inventory: &Inventory,
    facts: &Facts,
    primary: Option<&str>,
    problems: &mut Vec<String>,
) -> Option<FloatingIp> {
    if let Provider::Existing(existing) = &inventory.provider {
        // No API is asked: the guard of the primary knows.
        let address = existing.floating_ip.as_ref()?.address.to_string();
        let node = primary.filter(|name| has_address(facts, name)).map(str::to_owned);
        return Some(FloatingIp { address, node });
    }
    let cloud = facts.cloud.as_ref()?;
    let found = cloud.floating_ip.as_ref();
    if cloud.remembered.is_some() {
        let node = primary.filter(|name| has_address(facts, name)).map(str::to_owned);
        return Some(FloatingIp { address: found?.address.to_string(), node });
    }
    let wanted = matches!(&inventory.provider, Provider::DigitalOcean(it) if it.floating_ip);
    if let Some(taken) = cloud.taken.as_ref().filter(|_| wanted) {
        problems.push(taken.stranger());
        return None;
    }
    let Some(found) = found else {
        if wanted && !cloud.servers.is_empty() {
            problems.push("the cluster has no floating IP: `cluster up` creates one".into());
        }
        return None;
    };
    let holder = cloud
        .servers
        .iter()
        .find(|(_, server)| Some(server.id) == found.server)
        .map(|(name, _)| name.clone());
    if let Some(primary) = primary
        && holder.as_deref() != Some(primary)
    {
        let where_to = holder.as_deref().unwrap_or("nowhere");
        problems.push(format!("the floating IP {} points to {where_to}, not to {primary}", found.address));
    }
    Some(FloatingIp { address: found.address.to_string(), node: holder })
}

/// Problems that a guard reports about its node.
fn complaints(facts: &Facts, guard: &Status, votes: Option<bool>) -> Vec<String> {
    let mut found = Vec::new();
    if votes == Some(false) {
        found
            .push("is not a voting member yet and would not take over: `cluster up` makes it one".to_owned());
    }
    if let Some(why) = &guard.cannot_persist {
        found.push(format!("its guard cannot persist its vote and grants nothing: {why}"));
    }
    if let Some(why) = &guard.no_room {
        found.push(format!("its disk is full: no journal is written, and the node could not rejoin: {why}"));
    }
    if guard.runs_old_program {
        found.push(
            "PostgreSQL still runs the binary from before an upgrade: restart it \
             (on the primary, `cluster switchover` first)"
                .to_owned(),
        );
    }
    if guard.stray_standby_signal {
        found.push(
            "there is a standby.signal in the data directory of a server that takes writes: remove it, or the server becomes a standby on its next \
             start"
                .to_owned(),
        );
    }
    // That nothing is heard from a guard that does not run is its own node's problem.
    let runs = |peer: &str| {
        let host = facts.hosts.get(peer).and_then(Host::up);
        host.is_some_and(|host| host.units.get("cluster-node").is_some_and(|unit| unit.active == "active"))
    };
    for (peer, millis) in guard.silent_peers.iter().filter(|(peer, _)| runs(peer)) {
        let seconds = millis / 1000;
        found.push(format!(
            "its guard has not heard from {peer} for {seconds} s: open UDP port {} in both directions",
            paths::GUARD_PORT
        ));
    }
    found
}

/// A primary commits a heartbeat a second. A standby that has replayed none for so long, though it has been sent some, is
/// stopped, or waits for a reader (for whom it waits half a minute by PostgreSQL's default).
const REPLAY_STOPPED_AFTER_S: f64 = 60.0;

/// Why what a standby shows is old, if it is.
fn replay_stopped(
    standby: &PostgresFacts,
    upstream: Option<&HostFacts>,
    lag_bytes: Option<u64>,
) -> Option<String> {
    if standby.replay_paused {
        return Some(
            "replay is paused: reads there are stale until somebody calls pg_wal_replay_resume()".into(),
        );
    }
    // Both are times of the primary's clock.
    let now = upstream?.postgres.as_ref()?.now;
    let stopped_for = now - standby.replayed_at?;
    (lag_bytes.is_some_and(|lag| lag > 0) && stopped_for > REPLAY_STOPPED_AFTER_S).then(|| {
        format!(
            "has replayed nothing for {stopped_for:.0} s, although it has been sent WAL: reads there are stale (a long \
             query may hold up replay)"
        )
    })
}

const NOT_READ: &str = "PostgreSQL has not read its latest configuration: `cluster up` reloads it";

fn look_at(
    inventory: &Inventory,
    facts: &Facts,
    node: &crate::inventory::Node,
    primary: Option<&str>,
    upstream: Option<&HostFacts>,
    addresses: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Node {
    let mut seen = Node {
        name: node.name.clone(),
        role: "none".into(),
        inventory_role: node.role,
        state: String::new(),
        address: addresses.get(&node.name).cloned(),
        timeline: None,
        lag_bytes: None,
        replay_stopped: false,
        repmgrd: None,
        guard: None,
        version: None,
        votes: None,
        paused: None,
        guard_says: None,
        lease_ms: None,
        kept: None,
        disk: None,
    };
    let mut wrong = |text: String| problems.push(format!("{}: {text}", node.name));
    let host = match facts.hosts.get(&node.name) {
        Some(Host::Up(host)) => host,
        Some(Host::Off) => {
            seen.state = "off".into();
            wrong("its droplet is off".into());
            return seen;
        }
        Some(Host::Unreachable { why, .. }) => {
            seen.state = "unreachable".into();
            let server = facts.cloud.as_ref().and_then(|cloud| cloud.servers.get(&node.name));
            wrong(match server {
                Some(server) if server.failed => {
                    format!("{why} {}: `cluster up` deletes it and creates another", server.id)
                }
                _ => format!("is unreachable: {why}"),
            });
            return seen;
        }
        Some(Host::Missing) | None => {
            seen.state = "missing".into();
            if primary.is_some() {
                wrong("has no droplet: `cluster up` creates one".into());
            }
            return seen;
        }
    };
    let unit = |name: &str| host.units.get(name).map(|unit| unit.active.clone());
    seen.paused = host.paused();
    seen.kept = host.kept.clone();
    seen.votes = Configuration::in_use(host).map(|members| members.names.contains(&node.name));
    if let Some(guard) = &host.guard {
        complaints(facts, guard, seen.votes).into_iter().for_each(&mut wrong);
        room::problem(guard, node.role, primary == Some(node.name.as_str())).into_iter().for_each(&mut wrong);
        seen.disk = guard.space.clone();
        // From a guard that does not say it, it is 0.
        seen.lease_ms = Some(guard.lease_length).filter(|length| *length > 0);
    }
    seen.guard_says = host.guard.as_ref().and_then(|guard| {
        let idle = Some(&guard.why).filter(|why| !why.is_empty()).cloned();
        guard.job.map(|job| format!("{job} in progress")).or(idle)
    });
    (seen.repmgrd, seen.guard) = (unit("repmgrd"), unit("cluster-node"));
    let data = roles::data(inventory, facts, host);
    let Some(postgres) = &host.postgres else {
        seen.state = "stopped".into();
        match data {
            Data::Foreign(whose) => wrong(whose),
            Data::None | Data::HalfMade | Data::Initialized => {
                seen.state = "bare".into();
                if primary.is_some() {
                    wrong("has no data yet: `cluster up` creates it".into());
                }
            }
            Data::Ours => {
                let last = host.guard.as_ref().and_then(|guard| guard.last_action.as_ref());
                let last = last.map_or(String::new(), |last| format!(" (last event of its guard: {last})"));
                let now = seen.guard_says.as_ref().map_or(String::new(), |now| format!("; {now}"));
                // Where it has a socket and gave no facts, it said why.
                let what = match &host.postgres_error {
                    Some(error) => format!("PostgreSQL does not answer: {error}"),
                    None => "PostgreSQL is not running".to_owned(),
                };
                wrong(format!("{what}{last}{now}"));
                if host.loaded.get("postgresql") == Some(&false) {
                    wrong(NOT_READ.into());
                }
            }
        }
        return seen;
    };
    seen.version = Some(postgres.version.clone());
    if !roles::holds_data(node, host) {
        seen.role = "witness".into();
        seen.state = "running".into();
        let follows = primary.and_then(|name| inventory.node(name)).map(|node| i64::from(node.id));
        let row = host.repmgr.iter().flatten().find(|row| row.id == node.id);
        if row.is_none_or(|row| !row.active || row.upstream != follows) && primary.is_some() {
            wrong("repmgr's record of the witness is wrong: repmgr would not count it in an election".into());
        }
    } else if postgres.in_recovery {
        seen.role = "standby".into();
        seen.timeline = Some(postgres.timeline);
        let replica = upstream
            .and_then(|host| host.postgres.as_ref()?.replication.iter().find(|it| it.name == node.name));
        seen.lag_bytes = replica.and_then(|replica| replica.lag_bytes).map(|bytes| bytes.max(0.0) as u64);
        seen.state = replica.map_or("not streaming".to_owned(), |replica| replica.state.clone());
        if seen.state != "streaming" && primary.is_some() {
            wrong(format!("does not stream from {} ({})", primary.unwrap_or_default(), seen.state));
        }
        if let Some(lag) = seen.lag_bytes.filter(|lag| *lag > inventory.failover.lag_limit_bytes) {
            wrong(format!("is {} MiB behind", lag >> 20));
        }
        if let Some(why) = replay_stopped(postgres, upstream, seen.lag_bytes) {
            seen.replay_stopped = true;
            wrong(why);
        }
    } else {
        seen.role = "primary".into();
        seen.state = "running".into();
        seen.timeline = Some(postgres.timeline);
        if postgres.synchronous_waits > 0 {
            wrong(format!(
                "{} commits wait for a synchronous standby: synchronous_standby_names was set by hand, and is not supported",
                postgres.synchronous_waits
            ));
        }
        if host.holds_lease() == Some(false) {
            wrong("does not hold the lease: until it does, no node can take over from it".into());
        }
    }
    for error in postgres.file_errors.iter().chain(&postgres.hba_errors) {
        wrong(format!("PostgreSQL rejects its configuration and would not restart: {error}"));
    }
    let version = inventory.postgresql.version;
    let newer = [files::postgresql_conf(version), files::pg_hba(version)]
        .iter()
        .any(|path| host.files.get(path).is_some_and(|file| file.modified > postgres.conf_loaded));
    if newer {
        wrong(NOT_READ.into());
    } else {
        for name in &postgres.not_applied {
            wrong(format!(
                "the value of {name} in its configuration is invalid: PostgreSQL would not restart"
            ));
        }
    }
    if !postgres.pending_restart.is_empty() {
        wrong(format!("settings pending a restart: {}", postgres.pending_restart.join(", ")));
    }
    for (unit, state) in [("repmgrd", &seen.repmgrd), ("cluster-node", &seen.guard)] {
        if state.as_deref() != Some("active") {
            wrong(format!("{unit} is {}", state.as_deref().unwrap_or("missing")));
        }
    }
    if let Some(trouble) = host.guard.as_ref().and_then(|guard| guard.trouble.as_ref()) {
        wrong(format!("its guard reports: {trouble}"));
    }
    seen
}
