//! What a step can do. Values only; `apply` carries them out.

use cluster_contract::marker::DataStage;
use secrecy::SecretString;
use serde::Serialize;

use super::files::FileChange;
use super::members::Configuration;
use super::restore::{RestoreSource, RestoreTarget};

/// The risk of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Not noticeable.
    Safe,
    /// Connections break for a moment.
    Restart,
    /// Something is deleted that this program made and that holds nobody's data.
    Destructive,
}

/// A service that `cluster` manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// repmgr's daemon.
    Repmgrd,
    /// The guard.
    ClusterNode,
    /// The service that takes backups.
    ClusterBackup,
}

impl Unit {
    /// The name of the systemd unit.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Repmgrd => "repmgrd",
            Unit::ClusterNode => "cluster-node",
            Unit::ClusterBackup => "cluster-backup",
        }
    }
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Adds the operator's public key to the account.
    ImportSshKey,
    CreateServer,
    /// Waits for a server that an earlier run asked for: it has no address yet.
    AwaitServer {
        server: u64,
    },
    /// Deletes a server that the provider has failed to make, and makes it anew.
    RemakeServer {
        server: u64,
    },
    /// Powers a server on.
    PowerOn {
        server: u64,
    },
    /// Shuts a server down, gives it another size and powers it on.
    Resize {
        server: u64,
        /// The size that it has.
        from: String,
        size: String,
        /// In GiB, what its disk grows to, for ever.
        disk_gib: Option<u64>,
        /// In GiB, what its disk stays at although the size has more.
        kept_gib: Option<u64>,
    },
    /// Hands over to another node.
    Switchover {
        to: String,
    },
    /// Makes the floating IP, on this node's server.
    CreateFloatingIp {
        /// The node that it points to first.
        node: String,
    },
    /// Records the floating IP as a tag of every server.
    RecordFloatingIp,
    AssignFloatingIp {
        /// The node that takes writes.
        node: String,
        server: u64,
    },
    /// Makes the bucket for backups, unless it is there, and a key for it.
    MakeRepository,
    /// Waits until SSH accepts a login and cloud-init has finished.
    Reach,
    /// Replaces the host key that user data carried.
    ReplaceHostKey,
    /// `apt-get update`.
    UpdateLists,
    /// Adds the PostgreSQL project's repository.
    AddRepository {
        /// The archive of versions past their end of life.
        archive: bool,
    },
    Install {
        packages: Vec<String>,
    },
    /// Starts a server of its own with changed settings, on an empty data directory, and takes it away again.
    TrySettings {
        /// The settings, as a file.
        text: String,
        sha256: String,
    },
    WriteFiles {
        /// All of one host, in one go.
        files: Vec<FileChange>,
    },
    /// Installs the node's program.
    InstallProgram {
        sha256: String,
    },
    /// Makes a data directory, new and empty.
    CreateData {
        /// Whether the cluster is new: no guard has ever granted anything, and this host's is told so.
        first: bool,
    },
    /// Fills a new data directory from the backup repository and replays WAL.
    Restore {
        target: RestoreTarget,
        /// Another cluster's repository; none for the cluster's own.
        source: Option<RestoreSource>,
    },
    /// Starts a data directory of ours, for the first time.
    StartNew {
        made: DataStage,
    },
    RegisterPrimary,
    Clone {
        /// The primary's node name.
        from: String,
        /// Its connection string.
        conninfo: String,
    },
    /// Starts PostgreSQL on a standby.
    StartStandby,
    RegisterStandby,
    RegisterWitness {
        /// Where the primary is.
        primary_host: String,
    },
    /// Makes a role, or brings it to what is wanted.
    Role {
        name: String,
        password: SecretString,
        /// Whether it is a superuser.
        superuser: bool,
        /// Whether it may replicate.
        replication: bool,
        /// Settings of its sessions.
        settings: &'static [(&'static str, &'static str)],
        /// Whether it is there already.
        exists: bool,
    },
    Database {
        name: String,
        owner: String,
    },
    /// Creates an extension in a database, with those that it needs.
    Extension {
        name: String,
        database: String,
    },
    /// PostgreSQL reads its configuration again.
    Reload,
    Restart {
        /// The settings that wait for it.
        settings: Vec<String>,
    },
    /// Gives a node another configuration of members, and has its guard read it.
    Configure {
        members: Configuration,
        /// The guard's configuration file.
        file: Box<FileChange>,
    },
    /// Starts and enables services, or restarts them so that they read their configuration.
    Services {
        units: Vec<Unit>,
        /// Whether they run already, with an old configuration.
        restart: bool,
    },
}

impl Action {
    /// A description on one line.
    pub fn summary(&self) -> String {
        match self {
            Action::ImportSshKey => "import the SSH key".into(),
            Action::CreateServer => "create the droplet".into(),
            Action::AwaitServer { server } => format!("wait for droplet {server}"),
            Action::RemakeServer { server } => {
                format!("delete droplet {server}, which never ran, and create another")
            }
            Action::PowerOn { server } => format!("power on droplet {server}"),
            Action::Resize { from, size, disk_gib, kept_gib, .. } => {
                let disk = match (disk_gib, kept_gib) {
                    (Some(disk), _) => format!(", its disk to {disk} GiB for ever"),
                    (None, Some(disk)) => format!(", its disk stays at {disk} GiB"),
                    (None, None) => String::new(),
                };
                format!("resize the droplet from {from} to {size}{disk}")
            }
            Action::Switchover { to } => format!("switch over to {to}"),
            Action::CreateFloatingIp { node } => format!("create a floating IP that points to {node}"),
            Action::RecordFloatingIp => "record the floating IP as a tag of the droplets".into(),
            Action::AssignFloatingIp { node, .. } => format!("move the floating IP to {node}"),
            Action::MakeRepository => "create the bucket for backups and a key for it".into(),
            Action::Reach => "wait for SSH and cloud-init".into(),
            Action::ReplaceHostKey => "replace the host key that was in the user data".into(),
            Action::UpdateLists => "update the apt package lists".into(),
            Action::AddRepository { archive: false } => "add the PostgreSQL apt repository (PGDG)".into(),
            Action::AddRepository { archive: true } => "add the PostgreSQL apt archive (PGDG)".into(),
            Action::Install { packages } => format!("install {}", packages.join(", ")),
            Action::TrySettings { .. } => "test the settings".into(),
            Action::WriteFiles { files } => match files.as_slice() {
                [file] => format!("write {}", file.path),
                files => format!("write {} files", files.len()),
            },
            Action::InstallProgram { .. } => "install cluster-node".into(),
            Action::CreateData { .. } => "create a new data directory".into(),
            Action::Restore { target, source: None } => {
                format!("restore from the repository, up to {target}")
            }
            Action::Restore { target, source: Some(source) } => {
                format!("restore from {}'s repository, up to {target}", source.cluster)
            }
            Action::StartNew { made: DataStage::Witness } => "start PostgreSQL as the witness".into(),
            Action::StartNew { .. } => "start PostgreSQL as the first primary".into(),
            Action::RegisterPrimary => "register the primary".into(),
            Action::Clone { from, .. } => format!("clone {from}"),
            Action::StartStandby => "start the standby".into(),
            Action::RegisterStandby => "register the standby".into(),
            Action::RegisterWitness { .. } => "register the witness".into(),
            Action::Role { name, exists: false, .. } => format!("create the role `{name}`"),
            Action::Role { name, exists: true, .. } => format!("change the role `{name}`"),
            Action::Database { name, .. } => format!("create the database `{name}`"),
            Action::Extension { name, database } => format!("create the extension `{name}` in `{database}`"),
            Action::Reload => "reload PostgreSQL".into(),
            Action::Restart { settings } => format!("restart PostgreSQL for {}", settings.join(", ")),
            Action::Configure { members, .. } => {
                format!("apply membership {}: {}", members.generation, members.list())
            }
            Action::Services { units, restart } => {
                let names: Vec<&str> = units.iter().map(|unit| unit.name()).collect();
                format!("{} {}", if *restart { "restart" } else { "start" }, names.join(" and "))
            }
        }
    }

    /// A stable name for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::ImportSshKey => "import-ssh-key",
            Action::CreateServer => "create-droplet",
            Action::AwaitServer { .. } => "await-droplet",
            Action::RemakeServer { .. } => "remake-droplet",
            Action::PowerOn { .. } => "power-on",
            Action::Resize { .. } => "resize",
            Action::Switchover { .. } => "switchover",
            Action::CreateFloatingIp { .. } => "create-floating-ip",
            Action::RecordFloatingIp => "record-floating-ip",
            Action::AssignFloatingIp { .. } => "assign-floating-ip",
            Action::MakeRepository => "make-repository",
            Action::Reach => "reach",
            Action::ReplaceHostKey => "replace-host-key",
            Action::UpdateLists => "update-lists",
            Action::AddRepository { .. } => "add-repository",
            Action::Install { .. } => "install",
            Action::TrySettings { .. } => "try-settings",
            Action::WriteFiles { .. } => "write-files",
            Action::InstallProgram { .. } => "install-program",
            Action::CreateData { .. } => "create-data",
            Action::Restore { .. } => "restore",
            Action::StartNew { .. } => "start-new",
            Action::RegisterPrimary => "register-primary",
            Action::Clone { .. } => "clone",
            Action::StartStandby => "start-standby",
            Action::RegisterStandby => "register-standby",
            Action::RegisterWitness { .. } => "register-witness",
            Action::Role { .. } => "role",
            Action::Database { .. } => "database",
            Action::Extension { .. } => "extension",
            Action::Reload => "reload",
            Action::Restart { .. } => "restart",
            Action::Configure { .. } => "configure-members",
            Action::Services { restart: false, .. } => "start-services",
            Action::Services { restart: true, .. } => "restart-services",
        }
    }

    /// What it may cost.
    pub fn risk(&self) -> Risk {
        match self {
            Action::Restart { .. } | Action::Resize { .. } | Action::Switchover { .. } => Risk::Restart,
            Action::Clone { .. } | Action::RemakeServer { .. } => Risk::Destructive,
            _ => Risk::Safe,
        }
    }
}
