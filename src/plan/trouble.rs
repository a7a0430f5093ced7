//! Problems that a plan cannot solve, or that forbid it.

use serde::Serialize;

/// A problem that a plan cannot solve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is, for programs.
    pub kind: TroubleKind,
    /// The node, if it is one node's.
    pub node: Option<String>,
    /// What is wrong, for people.
    pub message: String,
    /// What a person can do about it.
    pub hint: String,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// Two nodes take writes.
    SplitBrain,
    /// No host holds the cluster that this machine remembers.
    ClusterGone,
    /// Whether the cluster existed before cannot be known.
    #[serde(rename = "unknown")]
    ExistenceUnknown,
    /// Commands do not run as root.
    NotRoot,
    /// An operating system or a processor that is not supported.
    Unsupported,
    /// Data of somebody else.
    ForeignData,
    /// The port is somebody else's.
    PortTaken,
    /// An address that the host does not have.
    WrongAddress,
    /// Too little room on the disk.
    NoRoom,
    /// Packages that nobody has.
    NoPackages,
    /// The data of two clusters.
    ClustersMixed,
    /// A server of the cluster that is no node's.
    Stray,
    /// A node's server with another name, or without the tag.
    Mislabelled,
    /// A stranger has the floating IP.
    AddressTaken,
    /// The inventory says something of a cluster that lives which cannot be changed.
    Changed,
    /// A node's host is another one than the cluster knows.
    Moved,
    /// No node takes writes.
    NoPrimary,
    /// A node takes writes, and must not.
    TakesWrites,
    /// A person has paused nodes.
    Paused,
    /// A host is switched off.
    SwitchedOff,
    /// A host cannot be reached.
    Unreachable,
    /// The primary has not been granted the lease.
    NoLease,
    /// A node is being made a standby.
    Rejoining,
    /// A node keeps what it wrote beside another primary.
    KeepsData,
    /// A node that was primary is no standby yet.
    WasPrimary,
    /// A guard does not go by the present members yet.
    MembersPending,
    /// A change of members cannot begin.
    MembersUnsettled,
    /// A node has no vote yet.
    NoVote,
    /// PostgreSQL does not accept its configuration.
    ConfigurationRefused,
    /// A server cannot get the size that the inventory says, or not now.
    CannotResize,
    /// The plan is not the one that was saved.
    PlanOutdated,
    /// A database is somebody else's.
    DatabaseOwner,
    /// An extension is not created yet.
    ExtensionWaits,
    /// The inventory says what nobody does.
    Ignored,
    /// Nodes with data have systems that may sort text differently.
    SystemsDiffer,
}
