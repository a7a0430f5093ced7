//! What a step can do. Values only: how it is done is for `apply` to say.

use cluster_contract::marker::DataStage;
use secrecy::SecretString;
use serde::Serialize;

use super::files::FileChange;
use super::members::Configuration;

/// What a step may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Nobody notices.
    Safe,
    /// Connections break for a moment.
    Restart,
    /// Something is deleted that this program made and that holds nobody's data.
    Destructive,
}

/// A service of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// repmgr's daemon.
    Repmgrd,
    /// The guard.
    ClusterNode,
}

impl Unit {
    /// systemd's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Repmgrd => "repmgrd",
            Unit::ClusterNode => "cluster-node",
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Gives the operator's public key to the account.
    ImportSshKey,
    /// Makes a droplet.
    CreateDroplet,
    /// Waits for a droplet that an earlier run asked for: it has no address yet.
    AwaitDroplet {
        /// The droplet's id.
        droplet: u64,
    },
    /// Deletes a droplet that the provider has failed to make, and makes it anew.
    RemakeDroplet {
        /// The droplet's id.
        droplet: u64,
    },
    /// Switches a droplet on.
    PowerOn {
        /// The droplet's id.
        droplet: u64,
    },
    /// Makes the floating IP, on this node's droplet.
    CreateFloatingIp {
        /// The node that it leads to at first.
        node: String,
    },
    /// Writes the floating IP down, as a tag of every droplet.
    RecordFloatingIp,
    /// Moves the floating IP.
    AssignFloatingIp {
        /// The node that takes writes.
        node: String,
        /// Its droplet's id.
        droplet: u64,
    },
    /// Waits until SSH gets in and cloud-init is done.
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
    /// Installs packages.
    Install {
        /// Their names.
        packages: Vec<String>,
    },
    /// Starts a server of its own with changed settings, on an empty data directory, and takes it away again.
    TrySettings {
        /// The settings, as a file.
        text: String,
        /// Its SHA-256.
        sha256: String,
    },
    /// Writes files.
    WriteFiles {
        /// All of one host, in one go.
        files: Vec<FileChange>,
    },
    /// Installs the node's program.
    InstallProgram {
        /// Its SHA-256.
        sha256: String,
    },
    /// Makes a data directory, new and empty.
    CreateData {
        /// Whether the cluster is new: no guard has ever granted anything, and this host's is told so.
        first: bool,
    },
    /// Starts a data directory of ours, for the first time.
    StartNew {
        /// As what.
        made: DataStage,
    },
    /// Registers the primary with repmgr.
    RegisterPrimary,
    /// Clones the primary.
    Clone {
        /// The primary's node name.
        from: String,
        /// How it is reached.
        conninfo: String,
    },
    /// Starts PostgreSQL on a standby.
    StartStandby,
    /// Registers a standby.
    RegisterStandby,
    /// Registers the witness.
    RegisterWitness {
        /// Where the primary is.
        primary_host: String,
    },
    /// Makes a role, or brings it to what is wanted.
    Role {
        /// Its name.
        name: String,
        /// Its password.
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
    /// Makes a database.
    Database {
        /// Its name.
        name: String,
        /// Its owner.
        owner: String,
    },
    /// PostgreSQL reads its configuration again.
    Reload,
    /// Restarts PostgreSQL.
    Restart {
        /// The settings that wait for it.
        settings: Vec<String>,
    },
    /// Gives a node another configuration of members, and has its guard read it.
    Configure {
        /// The configuration.
        members: Configuration,
        /// The guard's configuration file.
        file: Box<FileChange>,
    },
    /// Starts and enables services, or restarts them so that they read their configuration.
    Services {
        /// The services.
        units: Vec<Unit>,
        /// Whether they run already, with an old configuration.
        restart: bool,
    },
}

impl Action {
    /// What it does, in a line.
    pub fn summary(&self) -> String {
        match self {
            Action::ImportSshKey => "import the SSH key".into(),
            Action::CreateDroplet => "create the droplet".into(),
            Action::AwaitDroplet { droplet } => format!("wait for droplet {droplet}"),
            Action::RemakeDroplet { droplet } => {
                format!("delete droplet {droplet}, which never ran, and create it anew")
            }
            Action::PowerOn { droplet } => format!("switch droplet {droplet} on"),
            Action::CreateFloatingIp { node } => format!("create a floating IP that leads to {node}"),
            Action::RecordFloatingIp => "record the floating IP as a tag of the droplets".into(),
            Action::AssignFloatingIp { node, .. } => format!("move the floating IP to {node}"),
            Action::Reach => "wait for SSH and cloud-init".into(),
            Action::ReplaceHostKey => "replace the host key that user data carried".into(),
            Action::UpdateLists => "update apt's lists".into(),
            Action::AddRepository { archive: false } => "add the PostgreSQL project's apt repository".into(),
            Action::AddRepository { archive: true } => "add the PostgreSQL project's apt archive".into(),
            Action::Install { packages } => format!("install {}", packages.join(", ")),
            Action::TrySettings { .. } => "try the settings".into(),
            Action::WriteFiles { files } => match files.as_slice() {
                [file] => format!("write {}", file.path),
                files => format!("write {} files", files.len()),
            },
            Action::InstallProgram { .. } => "install cluster-node".into(),
            Action::CreateData { .. } => "create a new data directory".into(),
            Action::StartNew { made: DataStage::Witness } => "start PostgreSQL as the witness".into(),
            Action::StartNew { .. } => "start PostgreSQL as the first primary".into(),
            Action::RegisterPrimary => "register the primary".into(),
            Action::Clone { from, .. } => format!("clone {from}"),
            Action::StartStandby => "start the standby".into(),
            Action::RegisterStandby => "register the standby".into(),
            Action::RegisterWitness { .. } => "register the witness".into(),
            Action::Role { name, exists: false, .. } => format!("create the role {name}"),
            Action::Role { name, exists: true, .. } => format!("change the role {name}"),
            Action::Database { name, .. } => format!("create the database {name}"),
            Action::Reload => "reload PostgreSQL".into(),
            Action::Restart { settings } => format!("restart PostgreSQL for {}", settings.join(", ")),
            Action::Configure { members, .. } => {
                format!("take up members {}: {}", members.generation, members.list())
            }
            Action::Services { units, restart } => {
                let names: Vec<&str> = units.iter().map(|unit| unit.name()).collect();
                format!("{} {}", if *restart { "restart" } else { "start" }, names.join(" and "))
            }
        }
    }

    /// What it does, in a word or two that stay the same: for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::ImportSshKey => "import-ssh-key",
            Action::CreateDroplet => "create-droplet",
            Action::AwaitDroplet { .. } => "await-droplet",
            Action::RemakeDroplet { .. } => "remake-droplet",
            Action::PowerOn { .. } => "power-on",
            Action::CreateFloatingIp { .. } => "create-floating-ip",
            Action::RecordFloatingIp => "record-floating-ip",
            Action::AssignFloatingIp { .. } => "assign-floating-ip",
            Action::Reach => "reach",
            Action::ReplaceHostKey => "replace-host-key",
            Action::UpdateLists => "update-lists",
            Action::AddRepository { .. } => "add-repository",
            Action::Install { .. } => "install",
            Action::TrySettings { .. } => "try-settings",
            Action::WriteFiles { .. } => "write-files",
            Action::InstallProgram { .. } => "install-program",
            Action::CreateData { .. } => "create-data",
            Action::StartNew { .. } => "start-new",
            Action::RegisterPrimary => "register-primary",
            Action::Clone { .. } => "clone",
            Action::StartStandby => "start-standby",
            Action::RegisterStandby => "register-standby",
            Action::RegisterWitness { .. } => "register-witness",
            Action::Role { .. } => "role",
            Action::Database { .. } => "database",
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
            Action::Restart { .. } => Risk::Restart,
            Action::Clone { .. } | Action::RemakeDroplet { .. } => Risk::Destructive,
            _ => Risk::Safe,
        }
    }
}
