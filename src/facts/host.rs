//! The observed state of one host.

use std::collections::BTreeMap;

use cluster_contract::marker::Marker;
use cluster_contract::status::{JobKind, Status};
use serde::{Deserialize, Serialize};

use crate::holder::Holder;
use crate::settings::Machine;

/// A host that can be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostFacts {
    /// Whether commands run as root.
    pub root: bool,
    /// Distribution, for instance `debian`.
    pub os: String,
    /// Its release, for instance `12`.
    pub os_version: String,
    /// Its code name, for instance `bookworm`.
    pub codename: String,
    /// Machine, for instance `x86_64`.
    pub arch: String,
    /// The operator's address, as the host sees it.
    pub client: String,
    /// Public SSH host key (type and key).
    pub host_key: String,
    /// cloud-init's word: `running`, `done`, `error`, …; empty without cloud-init.
    pub cloud_init: String,
    /// Free space below `/var`, in KiB.
    pub disk_free_kib: u64,
    /// What it has to work with; none if an older probe was asked.
    pub machine: Option<Machine>,
    /// The host's global IPv4 addresses.
    pub addresses: Vec<String>,
    /// apt and dpkg.
    pub packages: Packages,
    /// Existing files among those requested, by path.
    pub files: BTreeMap<String, FileFacts>,
    /// systemd units, by name.
    pub units: BTreeMap<String, UnitFacts>,
    /// Whether a service has read its present configuration: unit name to yes or no.
    pub loaded: BTreeMap<String, bool>,
    /// This program's marker of the data directory.
    pub marker: Option<Marker>,
    /// What its guard has begun to do with the data, and not ended: `rewind`, `clone`, or `placing`, where the clone is whole and
    /// takes the place of the data. It finishes that, and nobody else does.
    pub half_rewound: Option<String>,
    /// The data that a restore has replaced.
    pub kept: Option<String>,
    /// PostgreSQL clusters that Debian's tools know: version, name, port, status, data directory.
    pub pg_clusters: Vec<PgCluster>,
    /// The data directory, if it exists.
    pub data: Option<DataFacts>,
    /// PostgreSQL, if it answers.
    pub postgres: Option<PostgresFacts>,
    /// Hash of the settings with which a test server has started on this host.
    pub tried: Option<String>,
    /// Programs that listen on PostgreSQL's port, by port.
    pub listeners: BTreeMap<u16, String>,
    /// Why PostgreSQL does not answer, if its socket is there.
    pub postgres_error: Option<String>,
    /// Extensions and their versions, by database, of those that matter and are there.
    pub extensions: BTreeMap<String, BTreeMap<String, String>>,
    /// Rows of `repmgr.nodes`, as this node sees them; none without repmgr's database.
    pub repmgr: Option<Vec<RepmgrNode>>,
    /// The guard's status.
    pub guard: Option<Status>,
    /// The run that holds the cluster's lock on this host.
    pub operator: Option<Holder>,
}

impl HostFacts {
    /// Whether this node holds the lease, according to its guard; `None` without an answer.
    pub fn holds_lease(&self) -> Option<bool> {
        self.guard.as_ref().map(|guard| guard.holds)
    }

    /// Whether this node is paused; `None` without an answer from its guard.
    pub fn paused(&self) -> Option<bool> {
        self.guard.as_ref().map(|guard| guard.paused)
    }

    /// Whether its guard is rejoining or cloning it at this moment: that ends, and begins from nothing, with the guard.
    pub fn is_in_a_rejoin(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.job == Some(JobKind::Rejoin))
    }

    /// Whether it is, or was cut off while it did and begins again: after a boot it may not have said so yet.
    pub fn rejoins(&self) -> bool {
        self.is_in_a_rejoin() || (self.half_rewound.is_some() && self.has_finished_data())
    }

    /// Whether there is no data only because its guard puts a clone in its place, or was cut off while it did.
    pub fn is_between_two_names(&self) -> bool {
        let is_placing = self.half_rewound.as_deref() == Some("placing");
        self.data.is_none() && (self.is_in_a_rejoin() || (is_placing && self.has_finished_data()))
    }

    fn has_finished_data(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| marker.stage.is_finished())
    }

    /// Whether this node took writes while another was primary, and keeps its data for inspection.
    pub fn keeps_data(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.diverged_data_kept)
    }
}

/// apt and dpkg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packages {
    /// Installed versions of the packages that matter.
    pub installed: BTreeMap<String, String>,
    /// What apt could install, asked only when something is missing.
    pub candidates: BTreeMap<String, String>,
    /// Age of apt's lists in seconds; none if there are no lists.
    pub lists_age: Option<u64>,
    /// dpkg was interrupted.
    pub interrupted: bool,
    /// Source lines of the PostgreSQL project's repository.
    pub pgdg: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileFacts {
    /// Mode in octal, for instance `640`.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Time of the last change, in seconds since 1970.
    pub modified: f64,
    /// The text; none for a secret.
    pub content: Option<String>,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UnitFacts {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// `enabled`, `disabled`, …
    pub enabled: String,
    /// Whether its file changed since systemd read it.
    pub need_reload: bool,
}

/// A PostgreSQL cluster that Debian's tools know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgCluster {
    pub version: String,
    /// Name, for instance `main`.
    pub name: String,
    pub port: u16,
    /// `online`, `down`, …
    pub status: String,
    pub data: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataFacts {
    /// Number of entries in it.
    pub entries: u64,
    /// Whether it holds `standby.signal`.
    pub standby_signal: bool,
    /// The system identifier, from `pg_controldata`.
    pub system_identifier: Option<String>,
    /// `in production`, `shut down`, …
    pub state: Option<String>,
    /// Timeline of the last checkpoint.
    pub timeline: Option<u32>,
    /// When `pg_control` was last written, as PostgreSQL prints it.
    pub modified: Option<String>,
}

/// A PostgreSQL that answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostgresFacts {
    pub version: String,
    /// True on a standby, and during recovery.
    pub in_recovery: bool,
    /// The system identifier.
    pub system_identifier: String,
    pub timeline: u32,
    /// WAL position: written on a primary, received on a standby.
    pub lsn: Option<String>,
    /// The server's clock, in seconds since 1970.
    pub now: f64,
    /// When the last transaction that a standby has replayed was committed, on its primary's clock.
    pub replayed_at: Option<f64>,
    /// Whether somebody has paused a standby's replay.
    pub replay_paused: bool,
    /// Sessions whose commit waits for a synchronous standby.
    pub synchronous_waits: u64,
    /// When the configuration was last read, in seconds since 1970.
    pub conf_loaded: f64,
    /// Settings that wait for a restart.
    pub pending_restart: Vec<String>,
    /// Errors in the configuration files.
    pub file_errors: Vec<String>,
    /// Settings of the files that are neither in force nor wait for a restart. Once the files were read, their values
    /// are wrong.
    pub not_applied: Vec<String>,
    /// Errors in `pg_hba.conf`.
    pub hba_errors: Vec<String>,
    /// Settings that must not be lower on a standby than on its primary: as they are in force.
    pub hot_standby_settings: BTreeMap<String, String>,
    /// The same, as the files have them.
    pub file_settings: BTreeMap<String, String>,
    pub roles: Vec<RoleFacts>,
    pub databases: Vec<DatabaseFacts>,
    /// Standbys that stream from this server.
    pub replication: Vec<Replica>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleFacts {
    pub name: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether it may replicate.
    pub replication: bool,
    /// Whether it may log in.
    pub login: bool,
    /// The verifier of its password.
    pub password: Option<String>,
    /// Its own settings, `name=value`.
    pub settings: Vec<String>,
}

/// A verifier is not the password, but is worth guessing at.
impl std::fmt::Debug for RoleFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleFacts").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseFacts {
    pub name: String,
    pub owner: String,
}

/// A standby that streams from this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replica {
    /// `application_name`: the node's name.
    pub name: String,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// WAL not yet replayed, in bytes.
    pub lag_bytes: Option<f64>,
}

/// A row of `repmgr.nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepmgrNode {
    /// repmgr's node id.
    pub id: u32,
    pub name: String,
    /// `primary`, `standby` or `witness`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether repmgr considers it active.
    pub active: bool,
    /// The node that it follows.
    pub upstream: Option<i64>,
    /// Its connection string.
    pub conninfo: String,
}
