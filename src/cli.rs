//! The command line.

mod synonym;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::commands::completions::{data_nodes, nodes};
use crate::error::Advice;
use crate::inventory::Source;
use crate::plan::RestoreTarget;

/// Build and run a PostgreSQL cluster that survives the loss of a server
///
/// One inventory file describes the cluster. `cluster up` creates what is missing and changes what differs; it can be
/// run again at any time.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print where the seconds went, on standard error
    #[arg(long, global = true)]
    pub timings: bool,
}

impl Cli {
    /// Parses the command line; help and version are errors, too.
    ///
    /// # Errors
    /// A mistake in it, with a tip where one is known.
    pub fn of_the_process() -> Result<Cli, clap::Error> {
        let word = std::env::args_os().nth(1);
        let word = word.as_deref().and_then(std::ffi::OsStr::to_str);
        Cli::try_parse().map_err(|error| synonym::explain(error, word))
    }
}

const EXAMPLE: &str = concat!("The smallest inventory:\n\n", include_str!("inventory/example.yaml"));

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (run it again), 2 wrong command line or inventory, \
                          3 refused (nothing was changed), 4 unhealthy, 5 another run in progress, 130 interrupted";

/// The inventory, named after the subcommand.
#[derive(Debug, Args)]
pub struct InventoryArg {
    /// The inventory file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, env = "CLUSTER_INVENTORY")]
    inventory: PathBuf,
    /// The variables
    #[command(flatten)]
    variables: ExtraVars,
}

impl InventoryArg {
    /// The inventory that is named.
    pub fn source(self) -> Source {
        Source { file: self.inventory, extra_vars: self.variables.extra_vars }
    }
}

/// Variables of an Ansible inventory.
#[derive(Debug, Args)]
pub struct ExtraVars {
    /// Set variables of an Ansible inventory: key=value, JSON, or @FILE; may be repeated
    #[arg(short, long, value_name = "VARS", global = true)]
    extra_vars: Vec<String>,
}

/// The inventory, named before or after a nested subcommand.
#[derive(Debug, Args)]
pub struct InventoryAnywhere {
    /// The inventory file
    #[arg(
        short,
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        env = "CLUSTER_INVENTORY",
        global = true
    )]
    inventory: Option<PathBuf>,
    /// The variables
    #[command(flatten)]
    variables: ExtraVars,
}

impl InventoryAnywhere {
    /// The inventory that is named.
    ///
    /// # Errors
    /// If none is named.
    pub fn source(self) -> Result<Source, Advice> {
        let file = self.inventory.ok_or_else(|| {
            Advice::usage("no inventory given").hint("use --inventory FILE, or set CLUSTER_INVENTORY")
        })?;
        Ok(Source { file, extra_vars: self.variables.extra_vars })
    }
}

/// Arguments of `cluster failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// The node to promote
    #[arg(required_if_eq("force", "true"), add = data_nodes())]
    pub node: Option<String>,
    /// Promote without a majority; you assert that the other nodes are lost
    #[arg(long)]
    pub force: bool,
    /// Do not power off the droplets of unreachable data nodes first
    #[arg(long, requires = "force")]
    pub no_power_off: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

/// The subcommands of `cluster backup`.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// List the backups in the repository
    List,
    /// Check that WAL reaches the repository and can be found there
    Check,
    /// Give this moment a name, to which the cluster can be restored
    ///
    /// For instance before a migration. `cluster restore --to NAME` takes the cluster back to it.
    Mark {
        /// The name: lower-case letters, digits, `-` and `_`
        name: String,
    },
    /// Print the passphrase that encrypts the repository
    ///
    /// Without it nothing in the repository can be read. Keep a copy outside the cluster and outside this machine.
    Passphrase,
}

/// The subcommands of `cluster inventory`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum InventoryCommand {
    /// Show what is understood, and the file and line of every value
    Show,
    /// Print an Ansible inventory as an inventory of cluster's own, with comments
    Convert,
    /// Print the JSON Schema of inventories, from which editors complete and check them
    Schema,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the cluster, or bring it to the state that the inventory describes
    #[command(after_long_help = EXAMPLE)]
    Up {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Carry out this plan and no other: if the cluster has changed since, do nothing
        #[arg(long, value_name = "FILE", conflicts_with = "from_backup")]
        plan: Option<PathBuf>,
        /// If no host has the cluster's data, restore it from the backup repository
        #[arg(long)]
        from_backup: bool,
        /// Restore up to this time (with its zone) or WAL position
        #[arg(long, value_name = "TARGET", default_value = "latest", requires = "from_backup")]
        to: RestoreTarget,
    },
    /// Take over, on this machine, a cluster that was created on another
    ///
    /// Reads back from the nodes what the other machine kept: passwords, keys, pinned host keys. Changes nothing on them.
    /// Needs the inventory, the provider's token and an SSH key that the nodes let in.
    Adopt {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        adopt: crate::commands::adopt::AdoptArgs,
    },
    /// Show what `up` would do and why
    Plan {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Exit with code 4 if there is anything to do, or a problem that `up` cannot solve
        #[arg(long)]
        check: bool,
        /// Exit with code 0 if there is nothing to do, 2 if there is, and 1 on any error or problem that `up` cannot solve
        #[arg(long, conflicts_with = "check")]
        exit_code: bool,
        /// Write the plan to a file, for `up --plan`
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the nodes, their current roles and any problems
    Status {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Move the primary to a standby without losing a write
    ///
    /// The primary shuts down cleanly, hands the lease to the standby once it has received all WAL, and rejoins as a
    /// standby.
    Switchover {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The standby to promote [default: the one with the least WAL to replay]
        #[arg(add = data_nodes())]
        to: Option<String>,
    },
    /// Force a promotion without a majority (requires --force)
    ///
    /// While a majority is healthy, the nodes fail over by themselves, and this command explains what they are waiting
    /// for. A forced promotion may lose transactions, and an old primary that is still running may keep taking writes:
    /// the command lists what is at risk and asks.
    Failover {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        failover: FailoverArgs,
    },
    /// Turn a former primary into a standby now
    Rejoin {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node
        #[arg(add = data_nodes())]
        node: String,
        /// Clone from the primary instead of rewinding; the old data is kept until the clone works
        #[arg(long)]
        clone: bool,
        /// Do not ask for confirmation before giving up rows that no other node has
        #[arg(short, long)]
        yes: bool,
    },
    /// Remove a node: its vote, its services, then its droplet
    Remove {
        /// The inventory, which must still list the node
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node
        #[arg(add = nodes())]
        node: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Replace a dead or wrong host: the node is made anew on another, under its name and id
    Replace {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node
        #[arg(add = nodes())]
        node: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Show the timeline of the last failover or switchover, with the duration of each phase
    Explain {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// List every event that the journals record, one per line
        #[arg(long)]
        list: bool,
    },
    /// Suspend automatic failover for maintenance
    ///
    /// Until `cluster resume`, the guards do not start, promote or rejoin PostgreSQL. A primary that loses its lease is
    /// still stopped.
    Pause {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Resume automatic failover
    Resume {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Fail the primary on purpose under load and report what clients saw
    ///
    /// Asks first, and undoes the fault at the end. The node that took over remains primary.
    Drill {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        drill: crate::commands::drill::DrillArgs,
    },
    /// Print connection settings for applications
    ///
    /// Writes go to the floating IP, reads to every data node. The password is not included, only the file that holds
    /// it, unless --with-password is given.
    Connect {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        connect: crate::commands::connect::ConnectArgs,
    },
    /// Open a psql session on the primary or another node
    Psql {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        psql: crate::commands::psql::PsqlArgs,
    },
    /// Log in to a node with the cluster's key and pinned host keys
    Ssh {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        ssh: crate::commands::ssh::SshArgs,
    },
    /// Show the journals of the guards, PostgreSQL and repmgrd
    Logs {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        logs: crate::commands::ssh::LogsArgs,
    },
    /// Create, list and drop application databases
    Db {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// What to do
        #[command(subcommand)]
        command: crate::commands::db::DbCommand,
    },
    /// Create, list and drop application roles, and change their passwords
    User {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// What to do
        #[command(subcommand)]
        command: crate::commands::user::UserCommand,
    },
    /// Take a backup now, list the backups, or check the repository
    ///
    /// Backups are taken by themselves where the inventory has a `backup` key: one at the beginning, one a day, one soon
    /// after every failover. Without a subcommand, one is taken now.
    #[command(args_conflicts_with_subcommands = true)]
    Backup {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// Copy everything, and not only what has changed since the last full backup
        #[arg(long)]
        full: bool,
        /// What to do
        #[command(subcommand)]
        command: Option<BackupCommand>,
    },
    /// Take the cluster back to an earlier moment, or create another one as it was then
    ///
    /// In place, a copy is restored beside the data while the primary takes writes; then the two exchange their places, and
    /// the standbys follow. Says what is given up, and asks. The replaced data is kept until --discard. With --as, this
    /// cluster stays as it is, and another one is created from its repository.
    Restore {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The arguments
        #[command(flatten)]
        restore: crate::commands::restore::RestoreArgs,
    },
    /// Show how an inventory is read, or convert one of Ansible
    Inventory {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// What to do
        #[command(subcommand)]
        command: InventoryCommand,
    },
    /// Take the cluster's lock from a run that hangs
    ///
    /// Every command that changes the cluster takes its lock on the nodes first, and lets it go when it ends, however it
    /// ends. Says who holds it and since when, and asks.
    Unlock {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Delete the cluster at the provider, or stop it on existing hosts
    Down {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Run a local lab cloud for trials and tests
    Lab(crate::commands::lab::LabArgs),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write every script and rendered template to a directory, for linters
    #[command(hide = true)]
    Render {
        /// The directory
        directory: PathBuf,
    },
    /// Show a sample of progress output
    #[command(hide = true)]
    Play,
}
