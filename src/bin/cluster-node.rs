//! The program on the nodes.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster::node::socket::Request;
use cluster::node::{fence, guard, memory, promote, socket, view};

/// What `cluster up` puts on every node of a PostgreSQL cluster.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the lease, and does what follows from it; run by systemd
    Guard,
    /// Watches the lease beside the guard, and ends PostgreSQL when it has run out; run by the guard
    #[command(hide = true)]
    Watch,
    /// Ends PostgreSQL on this node, with everything that it is doing
    Fence {
        /// Only if this node's lease has run out
        #[arg(long, required = true)]
        if_lease_expired: bool,
    },
    /// Promotes this standby; called by repmgrd
    Promote,
    /// Says whether this standby may promote; called by repmgrd
    MayPromote {
        /// This node's id
        #[arg(long)]
        node: Option<String>,
        /// Nodes that repmgrd sees
        #[arg(long)]
        visible: Option<String>,
        /// All nodes
        #[arg(long)]
        total: Option<String>,
    },
    /// Says whether PostgreSQL may start here; called by systemd
    StartCheck,
    /// Keeps the lease while PostgreSQL is restarted on purpose
    Restart,
    /// Stops PostgreSQL and lets another node take over
    HandOver {
        /// Its name
        to: String,
    },
    /// Holds the lease without a majority, and promotes
    Take,
    /// Makes a standby of this node now
    Rejoin {
        /// By a fresh clone, beside the old data
        #[arg(long)]
        clone: bool,
    },
    /// Starts, promotes and rejoins nothing on this node, until it is resumed
    Pause,
    /// Ends a pause
    Resume,
    /// Writes an event of repmgr to the journal; called by repmgr
    Event {
        /// The node
        #[arg(long)]
        node: String,
        /// The event
        #[arg(long)]
        event: String,
        /// 1 or 0
        #[arg(long)]
        success: String,
        /// When
        #[arg(long)]
        at: String,
        /// What else
        #[arg(long, default_value = "")]
        details: String,
    },
    /// Says what this node sees and does
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. Who reads it may have gone, which is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let verdict = |verdict: socket::Verdict| {
        say(&format!("{}: {}", if verdict.allowed { "yes" } else { "no" }, verdict.why));
        if verdict.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    };
    match command {
        Command::Guard => guard::run(view::config()?).await?,
        Command::Promote => promote::promote(&view::config()?).await?,
        Command::Watch => fence::watch(&view::config()?),
        Command::Fence { .. } => {
            let killed = fence::if_lease_expired(&view::config()?, 0)?;
            if killed > 0 {
                say(&format!("the lease has run out: killed {killed} processes of PostgreSQL"));
            }
        }
        Command::MayPromote { .. } => {
            return Ok(verdict(socket::verdict_in_time(&Request::MayPromote).await?));
        }
        Command::StartCheck => return Ok(verdict(guard::start_check(&view::config()?).await)),
        Command::Restart => return Ok(verdict(socket::verdict(&Request::Restart).await?)),
        Command::HandOver { to } => return Ok(verdict(socket::verdict(&Request::HandOver { to }).await?)),
        Command::Take => return Ok(verdict(socket::verdict(&Request::Take).await?)),
        Command::Rejoin { clone } => return Ok(verdict(socket::verdict(&Request::Rejoin { clone }).await?)),
        Command::Pause => say(if memory::pause()? { "paused" } else { "was paused already" }),
        Command::Resume => say(if memory::resume()? { "resumed" } else { "was not paused" }),
        Command::Event { node, event, success, at, details } => {
            let line = serde_json::json!({
                "node": node, "event": event, "success": success == "1", "at": at, "details": details,
            });
            say(&line.to_string());
        }
        Command::Status { json } => {
            let answer = socket::ask(&Request::Status).await?;
            if json {
                say(&answer);
            } else {
                let status: serde_json::Value = serde_json::from_str(&answer)?;
                for (name, value) in status.as_object().into_iter().flatten() {
                    let value = value.as_str().map_or(value.to_string(), str::to_owned);
                    say(&format!("{:<12} {value}", name.replace('_', " ")));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
