//! Why a step is needed, and what a run waits for when no step is left.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Why a step is needed. Programs read the kind, people the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reason {
    /// The provider's account does not have the operator's key.
    KeyUnknown,
    /// The provider has no server for the node.
    #[serde(rename = "no-droplet")]
    NoServer { node: String },
    /// The node's server is off.
    #[serde(rename = "droplet-off")]
    ServerOff,
    /// The node's server was powered on a moment ago.
    PoweredOn,
    /// The node's server has never been reached.
    #[serde(rename = "droplet-new")]
    ServerNew,
    /// The provider is making the server.
    #[serde(rename = "droplet-being-made")]
    ServerBeingMade,
    /// The provider has failed to make the server.
    CreationFailed,
    /// The cluster has no floating IP.
    NoFloatingIp,
    /// The floating IP is not written down at the provider.
    FloatingIpUnrecorded,
    /// Another node takes writes than the one that the floating IP leads to.
    TakesWrites { node: String },
    /// The node's server has not the size that the inventory says.
    SizeDiffers,
    /// A server is switched off to be resized, and this one takes writes.
    ResizeNeedsAnother,
    /// Nobody has got in yet.
    NotReached {
        /// ssh's message.
        why: String,
    },
    /// cloud-init has not ended.
    CloudInit { state: String },
    /// The host key was handed over where others can read it.
    KeyExposed,
    /// Debian's packages make a cluster of their own unless they are told not to.
    NoClusterOfPackages,
    /// apt's lists are missing or old.
    ListsOld,
    /// The distribution does not have a package.
    NotInDistribution { os: String, packages: String },
    /// Packages are missing.
    NotInstalled,
    /// dpkg was interrupted.
    DpkgInterrupted,
    /// Changed settings have not been tried.
    SettingsUntried,
    /// The node's program is missing or of another build.
    ProgramDiffers,
    /// There is no data directory.
    NoData,
    /// What a killed run left is worth nothing.
    HalfMade,
    /// Files are missing or differ.
    FilesDiffer {
        count: usize,
        /// Whether some are missing.
        missing: bool,
    },
    /// There is no key for the bucket of backups.
    NoRepositoryKey,
    /// The object storage refuses the nodes, and another bucket of that name, or another key, would do.
    RepositoryRefused,
    /// The cluster has never been.
    NewCluster,
    /// The operator asks for it, and no host has the cluster's data.
    FromBackup,
    /// PostgreSQL is not running.
    NotRunning,
    /// The services are not running.
    ServicesNotRunning,
    /// What runs has read an older program or configuration.
    ServicesStale,
    /// The files are newer than what PostgreSQL has read.
    ConfigurationUnread,
    /// The same, and PostgreSQL does not answer.
    ConfigurationUnreadUnanswered,
    /// PostgreSQL says that settings wait for a restart.
    RestartPending,
    /// A clone is under way.
    CloneUnderWay,
    /// A clone was begun and did not end.
    CloneUnfinished,
    /// The standby has no data yet.
    NoCloneYet,
    /// repmgr has no record of the node.
    Unregistered,
    /// repmgr's record of the node is not right.
    RegistrationDiffers,
    /// A role is needed.
    RoleNeeded { by: RoleUse },
    /// A role has other rights, settings or another password.
    RoleDiffers,
    /// A database is missing.
    DatabaseNeeded {
        /// Whether the inventory declares it; `up` and `drill` write to it otherwise.
        declared: bool,
    },
    /// An extension is missing.
    ExtensionNeeded {
        /// Whether it is wanted without being listed.
        by_default: bool,
    },
    /// The node is worth a vote and has none.
    NoVoteYet,
    /// The node has no vote any more.
    NoVoteAnyMore,
    /// The primary is told of a change of members before the others: it asks them as one of them.
    PrimaryAsksAsMember,
    /// The node goes by an older configuration of members.
    MembersOld,
    /// An older change of members was not finished.
    MembersUnfinished,
}

/// Who needs a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleUse {
    /// repmgr logs in with it.
    Repmgr,
    /// This program's own checks write with it.
    Checks,
    /// The inventory declares it.
    Inventory,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::KeyUnknown => "the account does not have it",
            Reason::NoServer { node } => {
                return write!(f, "no droplet `{node}` has this cluster's tag");
            }
            Reason::ServerOff => "its droplet is off",
            Reason::PoweredOn => "its droplet was powered on a moment ago",
            Reason::ServerNew => "its droplet is new",
            Reason::ServerBeingMade => "it is being created and has no address yet",
            Reason::CreationFailed => "the provider failed to create it",
            Reason::NoFloatingIp => "the cluster has none",
            Reason::FloatingIpUnrecorded => "so that it can be found when it is unassigned",
            Reason::TakesWrites { node } => return write!(f, "{node} takes writes"),
            Reason::SizeDiffers => "the inventory says so",
            Reason::ResizeNeedsAnother => "its droplet is switched off to be resized, and it takes writes",
            Reason::NotReached { why } => why,
            Reason::CloudInit { state } => return write!(f, "cloud-init is {state}"),
            Reason::KeyExposed => "every process on a droplet can read its user data",
            Reason::NoClusterOfPackages => "the packages must not create a database cluster of their own",
            Reason::ListsOld => "the package lists are missing or outdated",
            Reason::NotInDistribution { os, packages } => return write!(f, "{os} does not have {packages}"),
            Reason::NotInstalled => "not installed",
            Reason::DpkgInterrupted => "dpkg was interrupted",
            Reason::SettingsUntried => "to prove that a server starts with them, on an empty data directory",
            Reason::ProgramDiffers => "it is missing or from another build",
            Reason::NoData => "the node has none",
            Reason::HalfMade => "an earlier run was killed halfway",
            Reason::FilesDiffer { count: 1, missing: false } => "it differs from what the inventory renders",
            Reason::FilesDiffer { missing: false, .. } => "they differ from what the inventory renders",
            Reason::FilesDiffer { count: 1, missing: true } => "it is missing",
            Reason::FilesDiffer { missing: true, .. } => "some or all are missing",
            Reason::NoRepositoryKey => "this machine has no key for it",
            Reason::RepositoryRefused => "the bucket is gone, or its key was deleted",
            Reason::NewCluster => "the cluster does not exist yet",
            Reason::FromBackup => "no host has the cluster's data",
            Reason::NotRunning => "it is not running",
            Reason::ServicesNotRunning => "not running",
            Reason::ServicesStale => "running with an older program or configuration",
            Reason::ConfigurationUnread => "PostgreSQL has not read the latest files",
            Reason::ConfigurationUnreadUnanswered => "it does not answer, and has not read the latest files",
            Reason::RestartPending => "PostgreSQL reports them as pending a restart",
            Reason::CloneUnderWay => "a clone is in progress",
            Reason::CloneUnfinished => "the last clone did not finish",
            Reason::NoCloneYet => "it has no data yet",
            Reason::Unregistered => "it is not in repmgr's metadata",
            Reason::RegistrationDiffers => "repmgr's metadata is outdated",
            Reason::RoleNeeded { by: RoleUse::Repmgr } => "repmgr logs in with it",
            Reason::RoleNeeded { by: RoleUse::Checks } => "`up` and `drill` write with it",
            Reason::RoleNeeded { by: RoleUse::Inventory } | Reason::DatabaseNeeded { declared: true } => {
                "the inventory declares it"
            }
            Reason::RoleDiffers => "its privileges, settings or password differ",
            Reason::DatabaseNeeded { declared: false } => "`up` and `drill` write to it",
            Reason::ExtensionNeeded { by_default: false } => "`extensions` lists it",
            Reason::ExtensionNeeded { by_default: true } => "it shows which statements take the time",
            Reason::NoVoteYet => "it is in sync and has no vote yet",
            Reason::NoVoteAnyMore => "it no longer has a vote",
            Reason::PrimaryAsksAsMember => "the primary must request renewals as a member",
            Reason::MembersOld => "its membership is outdated",
            Reason::MembersUnfinished => "an earlier change of membership was not finished",
        })
    }
}

/// What the nodes do by themselves, worth waiting for when no step is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Waiting {
    /// A majority grants the lease.
    Lease {
        /// The node that takes writes.
        node: String,
    },
    /// The guards agree on a primary.
    Primary,
    /// A guard makes a standby of its node.
    Rejoin { node: String },
    /// What was primary becomes a standby.
    Follow { node: String, primary: String },
    /// A guard takes up a configuration of members.
    Members {
        node: String,
        /// The number of the configuration.
        generation: u64,
    },
    /// A guard answers.
    Guard { node: String },
    /// A guard that has started a while ago grants the primary its lease.
    Grant { node: String, primary: String },
    /// A newcomer streams.
    Newcomer { node: String, primary: String },
    /// A standby that was away streams.
    Streaming { node: String, primary: String },
}

impl Waiting {
    /// How long it is worth waiting for.
    pub fn patience(&self) -> Duration {
        match self {
            // What it has missed may be as much as a slot keeps.
            Waiting::Streaming { .. } => Duration::from_secs(600),
            // A guard without a memory grants nothing for the time of a lease, of a minute at most.
            Waiting::Lease { .. } | Waiting::Primary => Duration::from_secs(150),
            _ => Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Lease { node } => write!(f, "a majority to grant {node} the lease"),
            Waiting::Primary => f.write_str("the guards to agree on a primary"),
            Waiting::Rejoin { node } => write!(f, "the guard of {node} to make it a standby"),
            Waiting::Follow { node, primary } => write!(f, "{node} to become a standby of {primary}"),
            Waiting::Members { node, generation } => {
                write!(f, "the guard of {node} to apply membership {generation}")
            }
            Waiting::Grant { node, primary } => write!(f, "the guard of {node} to grant {primary} its lease"),
            Waiting::Guard { node } => {
                write!(f, "the guard of {node} to answer")
            }
            Waiting::Newcomer { node, primary } => {
                write!(f, "{node} to follow {primary} before it becomes a voting member")
            }
            Waiting::Streaming { node, primary } => write!(f, "{node} to stream from {primary}"),
        }
    }
}
