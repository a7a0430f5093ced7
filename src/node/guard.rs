//! The guard: starts PostgreSQL after a boot, when that is safe, and keeps the floating IP where the primary is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::address;
use super::config::Config;
use super::decision;
use super::socket::{self, Request};
use super::view::{self, Local};

/// How often the guard looks at its own PostgreSQL.
const TICK: Duration = Duration::from_secs(1);
/// How often the API is asked where the address is, when nothing has changed: 240 requests an hour of 5,000.
const CALM: Duration = Duration::from_secs(15);
/// How often a move that failed is tried again.
const TROUBLED: Duration = Duration::from_secs(2);
/// Made by `cluster up` just before the first start of a new primary; gone after a boot.
const FIRST_START: &str = "/run/cluster/first-start";

/// What the guard says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// `primary`, `standby` or `down`.
    pub postgresql: String,
    /// Whether the address was seen here at the last look; none before the first.
    pub has_address: Option<bool>,
    /// What went wrong last, and has not gone right since.
    pub trouble: Option<String>,
    /// What it last did, and why.
    pub last: Option<String>,
}

/// Whether PostgreSQL may start on this node now: a standby always, anything else only when a majority knows of no
/// other primary.
pub async fn start_check(config: &Config) -> decision::Verdict {
    let because = |why: &str| decision::Verdict { allowed: true, why: why.to_owned() };
    if config.me().witness {
        return because("this is the witness");
    }
    if Path::new(&config.data_directory()).join("standby.signal").exists() {
        return because("this is a standby");
    }
    if std::fs::remove_file(FIRST_START).is_ok() {
        return because("`cluster up` starts it");
    }
    decision::may_start(config.me().id, &view::peers(config).await)
}

/// Runs until it is stopped.
///
/// # Errors
/// When it cannot listen.
pub async fn run(config: Config) -> Result<()> {
    std::fs::create_dir_all("/run/cluster")?;
    // A socket that an earlier guard left.
    let _ = std::fs::remove_file(socket::PATH);
    let listener = UnixListener::bind(socket::PATH).context("cannot listen")?;
    // repmgrd's hook runs as postgres. What can be asked here does no harm.
    std::fs::set_permissions(socket::PATH, std::fs::Permissions::from_mode(0o666))?;
    notify(&[sd_notify::NotifyState::Ready]);

    let mut status = Status::default();
    let mut starter = Starter::default();
    let mut next_look = Instant::now();
    // Moving the address takes seconds; the loop goes on meanwhile.
    let (moved, mut moves) = mpsc::channel::<Result<bool, String>>(1);
    let mut moving = false;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                notify(&[sd_notify::NotifyState::Watchdog]);
                let local = view::local(&config).await;
                let word = match local { Local::Primary => "primary", Local::Standby => "standby", Local::Down => "down" };
                if status.postgresql != word {
                    println!("PostgreSQL here is {word}");
                    word.clone_into(&mut status.postgresql);
                    next_look = Instant::now();
                }
                if local == Local::Down {
                    starter.start(&config, &mut status).await;
                } else {
                    starter.saw_it_running();
                }
                if local == Local::Primary && !config.me().witness && config.floating_ip.is_some() && !moving
                    && Instant::now() >= next_look
                {
                    moving = true;
                    let (config, moved) = (config.clone(), moved.clone());
                    tokio::spawn(async move {
                        let result = take_address(&config).await;
                        // The receiver lives as long as the loop.
                        let _ = moved.send(result).await;
                    });
                }
                if local != Local::Primary {
                    status.has_address = None;
                }
            }
            Some(result) = moves.recv() => {
                moving = false;
                next_look = Instant::now() + if result.is_ok() { CALM } else { TROUBLED };
                match result {
                    Ok(moved) => {
                        if moved {
                            println!("moved the floating IP here");
                            status.last = Some("moved the floating IP here".into());
                        }
                        (status.has_address, status.trouble) = (Some(true), None);
                    }
                    Err(error) => {
                        if status.trouble.as_deref() != Some(&error) {
                            eprintln!("floating IP: {error}");
                        }
                        (status.has_address, status.trouble) = (Some(false), Some(error));
                    }
                }
            }
            Ok((mut stream, _)) = listener.accept() => {
                let answer = match socket::read(&mut stream).await {
                    Some(Request::Status) => serde_json::to_string(&status).unwrap_or_default(),
                    Some(Request::Promoted) => {
                        next_look = Instant::now();
                        tick.reset_immediately();
                        "{}".to_owned()
                    }
                    None => "{\"error\":\"what?\"}".to_owned(),
                };
                // Who asked may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    }
}

/// Takes the address, unless another node takes writes too: then nobody knows where it belongs.
async fn take_address(config: &Config) -> Result<bool, String> {
    let peers = view::peers(config).await;
    if let Some(other) =
        peers.iter().find(|it| !it.witness && it.answer.as_ref().is_some_and(|it| !it.in_recovery))
    {
        return Err(format!("{} takes writes too; the floating IP is left where it is", other.name));
    }
    address::take(config).await.map_err(|error| format!("{error:#}"))
}

/// Starts PostgreSQL after a boot. One that has run since the boot and was lost is not started again here: its standby
/// may be taking over at this moment.
#[derive(Default)]
struct Starter {
    has_run: bool,
    refused: Option<String>,
}

impl Starter {
    fn saw_it_running(&mut self) {
        self.has_run = true;
    }

    async fn start(&mut self, config: &Config, status: &mut Status) {
        let standby = Path::new(&config.data_directory()).join("standby.signal").exists();
        if (self.has_run && !standby && !config.me().witness) || !finished() {
            return;
        }
        if !standby && !config.me().witness {
            let verdict = decision::may_start(config.me().id, &view::peers(config).await);
            if !verdict.allowed {
                if self.refused.as_ref() != Some(&verdict.why) {
                    println!("PostgreSQL is not started: {}", verdict.why);
                    self.refused = Some(verdict.why.clone());
                }
                status.last = Some(format!("did not start PostgreSQL: {}", verdict.why));
                return;
            }
        }
        let mut command = Command::new("systemctl");
        command.args(["start", "--no-block", &config.unit()]).stdin(Stdio::null());
        match command.status().await {
            Ok(result) if result.success() => status.last = Some("started PostgreSQL".into()),
            Ok(result) => eprintln!("systemctl start ended with {result}"),
            Err(error) => eprintln!("cannot run systemctl: {error}"),
        }
    }
}

/// Whether the data directory is one that `cluster up` has finished.
fn finished() -> bool {
    let text = std::fs::read_to_string("/etc/cluster/data.json").unwrap_or_default();
    ["primary", "standby", "witness"].iter().any(|made| text.contains(&format!("\"made\":\"{made}\"")))
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Outside systemd there is nobody to tell.
    let _ = sd_notify::notify(false, states);
}
