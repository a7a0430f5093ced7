//! The program on the nodes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster::node::socket::Request;
use cluster::node::{decision, guard, promote, socket, view};

/// What `cluster up` puts on every node of a PostgreSQL cluster.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts PostgreSQL after a boot and keeps the floating IP with the primary; run by systemd
    Guard,
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

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let verdict = |verdict: decision::Verdict| {
        println!("{}: {}", if verdict.allowed { "yes" } else { "no" }, verdict.why);
        if verdict.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    };
    match command {
        Command::Guard => guard::run(view::config()?).await?,
        Command::Promote => promote::promote(&view::config()?).await?,
        Command::MayPromote { .. } => {
            return Ok(verdict(decision::may_promote(&view::peers(&view::config()?).await)));
        }
        Command::StartCheck => return Ok(verdict(guard::start_check(&view::config()?).await)),
        Command::Event { node, event, success, at, details } => {
            let line = serde_json::json!({
                "node": node, "event": event, "success": success == "1", "at": at, "details": details,
            });
            println!("{line}");
        }
        Command::Status { json } => {
            let answer = socket::ask(Request::Status).await?;
            if json {
                println!("{answer}");
            } else {
                let status: serde_json::Value = serde_json::from_str(&answer)?;
                for (name, value) in status.as_object().into_iter().flatten() {
                    println!(
                        "{:<12} {}",
                        name.replace('_', " "),
                        value.as_str().map_or(value.to_string(), str::to_owned)
                    );
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
