//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::error::Advice;

/// Makes and keeps a PostgreSQL cluster that survives the loss of a server
///
/// Everything follows from one inventory file: `cluster up` makes the world as the file says, and running it again
/// changes only what differs.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (run it again), 2 wrong command line or inventory, \
                          3 refused (nothing was changed), 4 unhealthy, 5 another run is at work, 130 interrupted";

/// Where the inventory is.
#[derive(Debug, Args)]
pub struct InventoryArg {
    /// The inventory file
    #[arg(short, long, value_name = "FILE", env = "CLUSTER_INVENTORY")]
    pub inventory: PathBuf,
}

/// The same before or behind a subcommand of its own.
#[derive(Debug, Args)]
pub struct InventoryAnywhere {
    /// The inventory file
    #[arg(short, long, value_name = "FILE", env = "CLUSTER_INVENTORY", global = true)]
    inventory: Option<PathBuf>,
}

impl InventoryAnywhere {
    /// The file.
    ///
    /// # Errors
    /// When none is named.
    pub fn file(self) -> Result<PathBuf, Advice> {
        self.inventory.ok_or_else(|| {
            Advice::usage("no inventory is named").hint("--inventory FILE, or CLUSTER_INVENTORY, names it")
        })
    }
}

/// A failover that a person wants.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// The node that becomes primary
    #[arg(required_if_eq("force", "true"))]
    pub node: Option<String>,
    /// Without a majority, on your word that the others are lost
    #[arg(long)]
    pub force: bool,
    /// Leave the droplets of data nodes that cannot be reached as they are; they are switched off otherwise
    #[arg(long, requires = "force")]
    pub no_power_off: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the cluster as the inventory says, or finish what an earlier run began
    Up {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Show what `up` would do, and why
    Plan {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Exit with 4 if there is anything to do
        #[arg(long)]
        check: bool,
    },
    /// Show the nodes, their live roles, and what is wrong
    Status {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Let a standby take over, planned: nothing acknowledged is lost
    ///
    /// The primary stops cleanly, hands the lease over once the standby has its last byte, and becomes a standby.
    Switchover {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node that takes over; the standby with the least to replay if left out
        to: Option<String>,
    },
    /// Make a node primary although no majority is left, or although it lacks too much; with --force alone
    ///
    /// Where a majority is healthy the guards do it by themselves, and this command says so. By force, transactions may
    /// be lost, and an old primary that still runs may go on taking writes: it names all of that, and asks.
    Failover {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// What is wanted
        #[command(flatten)]
        failover: FailoverArgs,
    },
    /// Make a standby of a node that was primary, now rather than when its guard next tries
    Rejoin {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node
        node: String,
        /// Do not rewind: clone it anew, beside its old data, which is kept until the clone works
        #[arg(long)]
        clone: bool,
        /// Do not ask where rows are given up that no other node has
        #[arg(long)]
        yes: bool,
    },
    /// Take a node out of the cluster: its vote, then what runs on it, then its droplet
    Remove {
        /// The inventory, with the node still in it
        #[command(flatten)]
        inventory: InventoryArg,
        /// The node
        node: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Tell the last failover or switchover as one story, with the seconds that each part of it took
    Explain {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// All that the nodes remember, a line each
        #[arg(long)]
        list: bool,
    },
    /// Let the guards start, promote and rejoin nothing, for maintenance
    ///
    /// No node takes over until `cluster resume`. A primary that loses its lease is stopped all the same.
    Pause {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// End a pause
    Resume {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Lose the primary on purpose, with clients at work, and report what they saw
    ///
    /// Asks before anything is done, and puts everything back: what was switched off, stopped or cut off, and the table
    /// that was written to. The node that took over stays primary.
    Drill {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The drill
        #[command(flatten)]
        drill: crate::commands::drill::DrillArgs,
    },
    /// Print what an application needs to reach the cluster
    ///
    /// Writes go to the floating IP, reads to every data node. The password is not printed but named by the file that
    /// holds it, unless --with-password asks for it.
    Connect {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// What is printed
        #[command(flatten)]
        connect: crate::commands::connect::ConnectArgs,
    },
    /// Open a psql session on the node that takes writes, or on another
    Psql {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// The session
        #[command(flatten)]
        psql: crate::commands::psql::PsqlArgs,
    },
    /// Log in to a node, with the cluster's own key and known hosts
    Ssh {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Where to
        #[command(flatten)]
        ssh: crate::commands::ssh::SshArgs,
    },
    /// Show what the guards, PostgreSQL and repmgrd have written into the nodes' journals
    Logs {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Which of it
        #[command(flatten)]
        logs: crate::commands::ssh::LogsArgs,
    },
    /// Make, list and drop databases of applications
    Db {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// What to do
        #[command(subcommand)]
        command: crate::commands::db::DbCommand,
    },
    /// Make, list and drop roles of applications, and renew their passwords
    User {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryAnywhere,
        /// What to do
        #[command(subcommand)]
        command: crate::commands::user::UserCommand,
    },
    /// Delete what `up` made at the provider; stop it on hosts that exist
    Down {
        /// The inventory
        #[command(flatten)]
        inventory: InventoryArg,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// A cloud on this machine, for trials and tests
    Lab(crate::commands::lab::LabArgs),
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write every script and rendered template into a directory, for linters
    #[command(hide = true)]
    Render {
        /// The directory
        directory: PathBuf,
    },
    /// Play a made-up run
    #[command(hide = true)]
    Play,
}
