//! The operator's program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster::commands::lab::{self, LabArgs};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Write data as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cloud on this machine.
    Lab(LabArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let Command::Lab(args) = cli.command;
    match lab::run(args, cli.json).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
