//! The commands, one per file.

pub mod adopt;
mod backup;
pub mod completions;
mod confirm;
pub mod connect;
pub mod db;
mod down;
pub mod drill;
mod explain;
mod failover;
pub mod inventory;
pub mod lab;
mod pause;
pub mod plan;
pub mod psql;
mod rejoin;
mod remove;
mod render;
mod replace;
pub mod restore;
pub mod ssh;
pub mod status;
mod switchover;
mod unlock;
mod up;
pub mod user;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command, InventoryCommand};
use crate::error::{Advice, Exit};
use crate::inventory::{Inventory, Node, Provider, Role, Source};
use crate::plan::Restore;
use crate::report::{self, Format};
use crate::state::State;
use crate::tell;
use crate::world::{Purpose, World};

/// Runs one command.
///
/// # Errors
/// Any error that the command cannot recover from; [`crate::error::exit_of`] has its exit code.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let exit = match cli.command {
        Command::Lab(args) => return lab::run(args, cli.json).await,
        Command::Up { inventory, plan, from_backup, to } => {
            let restore = from_backup.then_some(Restore { target: to, source: None });
            up::run(&inventory.source(), plan.as_deref(), restore, cli.json).await
        }
        Command::Plan { inventory, check, exit_code, out } => {
            let wish = plan::Wish { check, exit_code, out };
            plan::run(&inventory.source(), &wish, cli.json).await
        }
        Command::Adopt { inventory, adopt } => adopt::run(&inventory.source(), adopt, cli.json).await,
        Command::Status { inventory } => status::run(&inventory.source(), cli.json).await,
        Command::Switchover { inventory, to } => switchover::run(&inventory.source(), to, cli.json).await,
        Command::Failover { inventory, failover } => {
            failover::run(&inventory.source(), failover, cli.json).await
        }
        Command::Rejoin { inventory, node, clone, yes } => {
            rejoin::run(&inventory.source(), &node, rejoin::How { clone, yes }, cli.json).await
        }
        Command::Remove { inventory, node, yes } => {
            remove::run(&inventory.source(), &node, yes, cli.json).await
        }
        Command::Replace { inventory, node, yes } => {
            replace::run(&inventory.source(), &node, yes, cli.json).await
        }
        Command::Explain { inventory, list } => explain::run(&inventory.source(), list, cli.json).await,
        Command::Pause { inventory } => pause::run(&inventory.source(), pause::Wish::Pause, cli.json).await,
        Command::Resume { inventory } => pause::run(&inventory.source(), pause::Wish::Resume, cli.json).await,
        Command::Connect { inventory, connect } => connect::run(&inventory.source(), connect, cli.json).await,
        Command::Psql { inventory, psql } => psql::run(&inventory.source(), psql).await,
        Command::Ssh { inventory, ssh } => ssh::run(&inventory.source(), ssh).await,
        Command::Logs { inventory, logs } => ssh::logs(&inventory.source(), logs).await,
        Command::Db { inventory, command } => db::run(&inventory.source()?, command, cli.json).await,
        Command::User { inventory, command } => user::run(&inventory.source()?, command, cli.json).await,
        Command::Backup { inventory, full, command } => {
            backup::run(&inventory.source()?, full, command, cli.json).await
        }
        Command::Restore { inventory, restore } => restore::run(&inventory.source(), restore, cli.json).await,
        Command::Drill { inventory, drill } => drill::run(&inventory.source(), drill, cli.json).await,
        Command::Inventory { command: InventoryCommand::Schema, .. } => inventory::print_schema(),
        Command::Inventory { inventory, command } => inventory::run(&inventory.source()?, command, cli.json),
        Command::Unlock { inventory, yes } => unlock::run(&inventory.source(), yes, cli.json).await,
        Command::Down { inventory, yes } => down::run(&inventory.source(), yes, cli.json).await,
        Command::Completions { shell } => completions::run(shell),
        Command::Render { directory } => render::run(&directory),
        Command::Play => {
            let (reporter, consumers) = report::start(Format::choose(cli.json), "pg1".len(), None);
            report::play(&reporter);
            drop(reporter);
            consumers.finish();
            Ok(Exit::Done)
        }
    };
    exit.map(ExitCode::from)
}

/// The inventory's node of this name.
fn declared<'a>(inventory: &'a Inventory, name: &str) -> Result<&'a Node> {
    inventory.node(name).ok_or_else(|| {
        let names: Vec<&str> = inventory.nodes.iter().map(|node| node.name.as_str()).collect();
        Advice::usage(format!("the inventory has no node `{name}`"))
            .hint(format!("its nodes are {}", names.join(", ")))
            .into()
    })
}

/// The inventory's node of this name, for commands that need a data node.
fn declared_with_data<'a>(inventory: &'a Inventory, name: &str) -> Result<&'a Node> {
    let node = declared(inventory, name)?;
    if node.role == Role::Witness {
        return Err(Advice::refused(format!("{name} is the witness and holds no data"))
            .hint("name a data node")
            .into());
    }
    Ok(node)
}

fn read(source: &Source) -> Result<Inventory> {
    Inventory::read_from(source).map_err(inventory::usage)
}

/// The day, in UTC; tests set it, so that what they expect does not change with the calendar.
fn today() -> jiff::civil::Date {
    let set = std::env::var("CLUSTER_TODAY").ok().and_then(|day| day.parse().ok());
    set.unwrap_or_else(|| jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// The width of the longest name in front of a line of progress: a node's, or that of what no node does.
fn lane_width(inventory: &Inventory) -> usize {
    let nodes = inventory.nodes.iter().map(|node| node.name.len());
    let others = match inventory.provider {
        Provider::DigitalOcean(_) => "provider".len(),
        Provider::Existing(_) => "cluster".len(),
    };
    nodes.fold(others, usize::max)
}

/// Runs `work` with its own [`World`], and flushes all reports before it returns.
async fn in_world<T, F, W>(inventory: Inventory, format: Format, log: Option<&str>, work: F) -> Result<T>
where
    F: FnOnce(Arc<World>) -> W,
    W: Future<Output = Result<T>>,
{
    let state = State::open(&inventory.cluster)?;
    let purpose = if log.is_some() { Purpose::Work } else { Purpose::Look };
    let log = log.map(|command| state.new_log(command));
    let (reporter, consumers) = report::start(format, lane_width(&inventory), log.as_deref());
    let result = match World::new(inventory, state, reporter, purpose) {
        Ok(world) => {
            let world = Arc::new(world);
            let result = work(world.clone()).await;
            let begun = std::time::Instant::now();
            world.close().await;
            crate::timings::part("leave the hosts", begun);
            result
        }
        Err(error) => Err(error),
    };
    consumers.finish();
    result.map_err(|error| match log {
        Some(log) => crate::error::with_log(error, &log),
        None => error,
    })
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this program was begun so that it outlives its terminal (`nohup`).
fn outlives_its_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// A token cancelled by the first Ctrl-C or SIGTERM, or when the terminal is closed; the second one ends the program
/// immediately.
fn interruptible() -> CancellationToken {
    interruptible_with("stopping after the steps in progress; interrupt again to stop immediately", None)
}

/// The same, with what is told at the first and at the second one.
fn interruptible_with(first: &'static str, second: Option<String>) -> CancellationToken {
    let token = CancellationToken::new();
    let (stop, outlives) = (token.clone(), outlives_its_terminal());
    tokio::spawn(async move {
        let mut terminate = signal(SignalKind::terminate()).ok();
        let mut hang_up = signal(SignalKind::hangup()).ok().filter(|_| !outlives);
        for count in 0.. {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = received(&mut terminate) => {}
                () = received(&mut hang_up) => {}
            }
            if count > 0 {
                if let Some(second) = &second {
                    tell!("{second}");
                }
                #[expect(
                    clippy::disallowed_methods,
                    reason = "whoever asks twice wants nothing to be waited for"
                )]
                std::process::exit(Exit::Interrupted as i32);
            }
            tell!("{first}");
            stop.cancel();
        }
    });
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_sets_the_width_of_a_lane() {
        let text = include_str!("inventory/example.yaml");
        let width =
            |text: &str| lane_width(&Inventory::parse(std::path::Path::new("demo.yaml"), text).unwrap());
        assert_eq!(width(text), "provider".len());
        assert_eq!(width(&text.replace("pg2", "database-12")), "database-12".len());
    }
}
