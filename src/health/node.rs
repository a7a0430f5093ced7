//! The state of one node, and what is wrong with it.

use std::collections::BTreeMap;

use cluster_contract::paths;
use cluster_contract::status::{Level, Space, Status};
use serde::Serialize;

use super::room;
use crate::facts::host::PostgresFacts;
use crate::facts::{Facts, Host, HostFacts};
use crate::inventory::{Inventory, Role};
use crate::plan::files;
use crate::plan::members::Configuration;
use crate::plan::roles::{self, Data};

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

/// What a node is, and what is wrong with it.
pub(super) fn look_at(
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
    let members = Configuration::in_use(host);
    seen.votes = members.as_ref().map(|members| members.names.contains(&node.name));
    if let Some(guard) = &host.guard {
        complaints(facts, guard, seen.votes).into_iter().for_each(&mut wrong);
        let newest = Configuration::newest(inventory, facts);
        if let (Some(own), Some(newest)) = (members, newest)
            && seen.votes == Some(true)
            && own != newest
        {
            wrong(format!(
                "its guard goes by an older list of members ({}) than the others ({}): `cluster up` tells it the new one",
                own.list(),
                newest.list()
            ));
        }
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
