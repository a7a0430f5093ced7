//! The program on the nodes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cluster_contract::backup::{BackupKind, Contents, Proof};
use cluster_contract::journal::LostTransactions;
use cluster_contract::marker::DataStage;
use cluster_contract::paths;
use cluster_contract::request::{Changed, Request, Verdict};
use cluster_contract::status::Status;
use cluster_node::{archive, backups, config, fence, file, guard, marker, promote, say, socket, store};

/// The node program of a PostgreSQL cluster, installed by `cluster up`
#[derive(Parser)]
#[command(version)]
struct Cli {
    // The environment variable is ignored by programs of an earlier build, which know no such option.
    /// Print JSON
    #[arg(long, global = true, env = "CLUSTER_NODE_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hold the lease and manage PostgreSQL accordingly; run by systemd
    Guard,
    /// Fence PostgreSQL if the lease expires and the guard does not act; run by the guard
    #[command(hide = true)]
    Watch,
    /// Kill PostgreSQL on this node
    Fence {
        /// Only if this node's lease has expired
        #[arg(long, required = true)]
        if_lease_expired: bool,
    },
    /// Promote this standby; called by repmgrd
    Promote,
    /// Check whether this standby may promote; called by repmgrd
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
    /// Check whether PostgreSQL may start here; called by systemd
    StartCheck,
    /// Keep the lease during a planned restart of PostgreSQL
    Restart,
    /// Stop PostgreSQL and hand the lease to another node
    HandOver {
        /// The node's name
        to: String,
    },
    /// Take the lease without a majority and promote
    Take,
    /// Turn this node into a standby now
    Rejoin {
        /// Replace the data with a fresh clone; the old data is kept
        #[arg(long)]
        clone: bool,
    },
    /// Do not start, promote or rejoin PostgreSQL on this node until `resume`
    Pause,
    /// End a pause
    Resume,
    /// Print a repmgr event to repmgrd's journal; called by repmgr
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
        /// The event's time
        #[arg(long)]
        at: String,
        /// Details
        #[arg(long, default_value = "")]
        details: String,
    },
    /// Record the stage of the data directory; called by `cluster up`
    #[command(hide = true)]
    Mark {
        /// The cluster that it belongs to
        #[arg(long)]
        cluster: String,
        /// The data's system identifier, once known
        #[arg(long)]
        system_identifier: Option<String>,
        /// How far it has come
        #[arg(value_parser = stage)]
        stage: DataStage,
    },
    /// Print the recorded stage of the data directory; called by `cluster up`
    #[command(hide = true)]
    Marked {
        /// Fails unless it belongs to this cluster
        #[arg(long)]
        cluster: Option<String>,
        /// Fails unless this is the data's system identifier
        #[arg(long)]
        system_identifier: Option<String>,
    },
    /// Record what a rejoin gives up, or check whether it is recorded; called by a rejoin
    #[command(hide = true)]
    Lost {
        /// On which timeline
        timeline: u32,
        /// From where
        from: String,
        /// To where
        to: String,
        /// How many transactions
        #[arg(requires = "wal")]
        transactions: Option<u64>,
        /// Where their WAL is
        wal: Option<String>,
    },
    /// Let two directories exchange their names, both at once; called by a restore
    #[command(hide = true)]
    Exchange {
        /// One
        one: PathBuf,
        /// The other
        other: PathBuf,
    },
    /// Initialize the guard's state on a node of a new cluster; called by `cluster up`
    #[command(hide = true)]
    NewCluster,
    /// Show what this node's guard sees and does
    Status,
    /// Archive a WAL file with pgBackRest, if the cluster has a backup repository; PostgreSQL's archive_command
    PgbackrestPush {
        /// The file, relative to the data directory
        file: String,
    },
    /// Fetch a WAL file with pgBackRest, if the cluster has a backup repository; PostgreSQL's restore_command
    PgbackrestGet {
        /// The file's name
        name: String,
        /// Where to, relative to the data directory
        path: String,
    },
    /// Take backups while this node takes writes, and prove them while it does not; run by systemd
    Backups,
    /// Restore the newest backup beside this standby's data, check it and throw it away; run as postgres
    Prove,
    /// Take a backup now, list the backups, or check the repository
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
}

#[derive(Subcommand)]
enum BackupCommand {
    /// Take a backup now
    Take {
        /// Copy everything, and not only what has changed since the last full backup
        #[arg(long)]
        full: bool,
    },
    /// List the backups in the repository
    List,
    /// List what can be restored from a repository of which no server is left; called by `cluster up`
    #[command(hide = true)]
    ListAlone {
        /// pgBackRest's configuration
        config: String,
        /// pgBackRest's name for the cluster
        stanza: String,
    },
    /// Check that WAL reaches the repository
    Check,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command, cli.json).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cluster-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stage(word: &str) -> Result<DataStage, String> {
    let words = DataStage::ALL.map(DataStage::word);
    DataStage::ALL
        .into_iter()
        .find(|stage| stage.word() == word)
        .ok_or_else(|| format!("use one of {}", words.join(", ")))
}

fn list_backups(contents: &Contents, json: bool) -> anyhow::Result<()> {
    if json {
        say(&serde_json::to_string(contents)?);
    } else {
        for backup in &contents.backups {
            say(&format!("{:<34} {:<12} {}", backup.label, backup.kind, backup.stop_lsn));
        }
    }
    Ok(())
}

/// A proof's result: a failure is one of the program's, too.
fn told(proof: &Proof, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        say(&serde_json::to_string(proof)?);
    } else if let Some(error) = &proof.error {
        say(&format!("nothing is proved: {error}"));
    } else {
        let backup = proof.backup.as_deref().unwrap_or_default();
        say(&format!(
            "proved backup {backup} in {} s: checked with {}",
            proof.seconds,
            proof.checked.join(", ")
        ));
    }
    Ok(if proof.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(command: Command, json: bool) -> anyhow::Result<ExitCode> {
    let verdict = |verdict: Verdict| {
        match serde_json::to_string(&verdict) {
            Ok(text) if json => say(&text),
            _ => say(&format!("{}: {}", if verdict.allowed { "yes" } else { "no" }, verdict.why)),
        }
        if verdict.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    };
    let changed = |changed: bool, words: [&str; 2]| match serde_json::to_string(&Changed { changed }) {
        Ok(text) if json => say(&text),
        _ => say(words[usize::from(!changed)]),
    };
    match command {
        Command::Guard => guard::run(config::read()?).await?,
        Command::Promote => promote::promote(&config::read()?).await?,
        Command::Watch => fence::watch(&config::read()?),
        Command::Fence { .. } => {
            let killed = fence::if_lease_expired(&config::read()?, 0)?;
            if killed > 0 {
                say(&format!("the lease has expired: killed {killed} PostgreSQL processes"));
            }
        }
        Command::MayPromote { .. } => {
            return Ok(verdict(socket::verdict_in_time(&Request::MayPromote).await?));
        }
        Command::StartCheck => return Ok(verdict(guard::start_check(&config::read()?).await)),
        Command::Restart => return Ok(verdict(socket::verdict(&Request::Restart).await?)),
        Command::HandOver { to } => return Ok(verdict(socket::verdict(&Request::HandOver { to }).await?)),
        Command::Take => return Ok(verdict(socket::verdict(&Request::TakeByForce).await?)),
        Command::Rejoin { clone } => return Ok(verdict(socket::verdict(&Request::Rejoin { clone }).await?)),
        Command::Pause => changed(store::pause()?, ["paused", "already paused"]),
        Command::Resume => changed(store::resume()?, ["resumed", "not paused"]),
        Command::Event { node, event, success, at, details } => {
            let line = serde_json::json!({
                "node": node, "event": event, "success": success == "1", "at": at, "details": details,
            });
            say(&line.to_string());
        }
        Command::Mark { cluster, system_identifier, stage } => {
            marker::write(&cluster, stage, system_identifier)?;
        }
        Command::Marked { cluster, system_identifier } => {
            let Some(marker) = marker::read()? else { return Ok(ExitCode::FAILURE) };
            let differs = cluster.is_some_and(|cluster| cluster != marker.cluster)
                || (system_identifier.is_some() && system_identifier != marker.system_identifier);
            if differs {
                return Ok(ExitCode::FAILURE);
            }
            say(marker.stage.word());
        }
        Command::Lost { timeline, from, to, transactions, wal } => {
            let path = Path::new(paths::LOST);
            if let (Some(transactions), Some(wal)) = (transactions, wal) {
                file::write(
                    path,
                    &LostTransactions { timeline, from, to, transactions, wal, node: String::new() },
                    true,
                )?;
                return Ok(ExitCode::SUCCESS);
            }
            // What is there and cannot be read is as good as nothing.
            let told = file::read::<LostTransactions>(path)
                .ok()
                .flatten()
                .filter(|lost| Path::new(&lost.wal).is_dir());
            let same = told.is_some_and(|it| (it.timeline, it.from, it.to) == (timeline, from, to));
            return Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Exchange { one, other } => file::exchange(&one, &other)?,
        Command::NewCluster => store::initialize()?,
        Command::PgbackrestPush { file } => return Ok(archive::push(&file).await?.into()),
        Command::PgbackrestGet { name, path } => return Ok(archive::get(&name, &path).await?.into()),
        Command::Backups => backups::serve().await?,
        Command::Prove => return told(&backups::proof::prove().await?, json),
        Command::Backup { command: BackupCommand::Take { full } } => {
            let kind = if full { BackupKind::Full } else { BackupKind::Differential };
            list_backups(&backups::take_now(kind).await?, json)?;
        }
        Command::Backup { command: BackupCommand::List } => list_backups(&backups::listed().await?, json)?,
        Command::Backup { command: BackupCommand::ListAlone { config, stanza } } => {
            list_backups(&backups::listed_alone(&config, &stanza).await?, json)?;
        }
        Command::Backup { command: BackupCommand::Check } => backups::check().await?,
        Command::Status => {
            let answer = socket::ask(&Request::Status).await?;
            if json {
                say(&answer);
            } else {
                // Through the type, so that what the guard says in another build's words does not pass for this one's.
                let status = serde_json::to_value(serde_json::from_str::<Status>(&answer)?)?;
                for (name, value) in status.as_object().into_iter().flatten() {
                    let value = value.as_str().map_or(value.to_string(), str::to_owned);
                    say(&format!("{:<12} {value}", name.replace('_', " ")));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
