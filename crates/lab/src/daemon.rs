//! The lab's daemon: the API and the work it orders. Droplets are not its children in any way that
//! matters: they run on when it dies, and the next daemon of the same name finds them as they are.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process, setsid};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::api::{self, Config, Lab, Layout, Tokens, layout::Range};
use super::home::Home;
use super::machine::container::Containers;
use super::settings::LabSettings;
use super::{IMAGES, LabName, Subnets, metadata, spaces};
use crate::Wrong;

/// How long a daemon may take until it answers, and how long until it has gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a daemon that outlives this process, and returns when its API can be reached.
///
/// # Errors
/// It ends, or does not answer in time: the error has its last words.
pub(super) async fn launch(settings: &LabSettings) -> Result<()> {
    let home = Home::of(&settings.name);
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let open = || File::options().create(true).append(true).open(home.log());
    let log = open().with_context(|| format!("cannot write {}", home.log().display()))?;
    let mut daemon = tokio::process::Command::new(program)
        .args(["lab", "serve", "--name", settings.name.as_str()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot write the daemon's log")?)
        .stderr(log)
        .spawn()
        .context("cannot start the daemon")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if answers(settings).await? {
            return Ok(());
        }
        if let Some(status) = daemon.try_wait().context("cannot monitor the daemon")? {
            let log = fs::read_to_string(home.log()).unwrap_or_default();
            bail!("the daemon ended ({status}): {}", log.lines().last().unwrap_or("no output"));
        }
        if Instant::now() > deadline {
            daemon.kill().await.context("cannot kill the daemon")?;
            bail!("the daemon does not answer on port {}", settings.port);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the lab's daemon is there and listens. One that is being killed may still hold its lock, but
/// does not stand two looks.
///
/// # Errors
/// The lock cannot be looked at.
pub(super) async fn answers(settings: &LabSettings) -> Result<bool> {
    let address = (Ipv4Addr::LOCALHOST, settings.port);
    // The lock comes before the listeners: with both it is certainly this daemon that answers.
    Ok(running(&settings.name)?.is_some()
        && tokio::net::TcpStream::connect(address).await.is_ok()
        && running(&settings.name)?.is_some())
}

/// Runs the lab's API until SIGTERM or SIGINT. Droplets run on afterwards.
///
/// # Errors
/// There is no such lab, it has a daemon, or its addresses cannot be listened on.
pub async fn serve(name: &LabName) -> Result<()> {
    // Away from the terminal, so that closing it does not matter. It fails in a process that leads its group,
    // as one started from a shell does; such a one wants to stay with its terminal.
    let _ = setsid();
    let Some(settings) = LabSettings::load(name)? else {
        bail!(Wrong::new(
            format!("there is no lab `{name}`"),
            format!("start it with `cluster lab start --name {name}`")
        ));
    };
    let _lock = lock(name)?;
    let home = Home::of(name);
    let subnets = settings.subnets;
    let listeners = vec![
        listen((Ipv4Addr::LOCALHOST, settings.port).into()).await?,
        listen((subnets.gateway(), settings.port).into()).await?,
    ];
    let for_spaces = vec![
        listen((Ipv4Addr::LOCALHOST, settings.spaces_port()).into()).await?,
        listen((subnets.gateway(), settings.spaces_port()).into()).await?,
    ];
    let addresses = [Ipv4Addr::LOCALHOST.into(), subnets.gateway().into()];
    let spaces = spaces::Spaces::open(&home.spaces(), &home.spaces_ca(), &addresses)?;
    let for_metadata = listen((subnets.gateway(), metadata::PORT).into()).await?;

    let read = |file: std::path::PathBuf| {
        let token = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::Ok(token.trim().to_owned().into())
    };
    let config = Config {
        layout: layout(&subnets),
        settings: settings.api.clone(),
        images: images(),
        save_to: Some(home.state()),
        log: Some(Arc::new(say)),
        ..Config::new(Tokens { operator: read(home.token())?, failover: read(home.failover_token())? })
    };
    let stop = CancellationToken::new();
    let containers = Containers::new(name.clone(), subnets, settings.port, stop.clone());
    let lab = Lab::open(config, containers)?;

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say("stopping");
        stopping.cancel();
    });
    say(&format!("serving {}", settings.api_url()));
    let metadata = tokio::spawn(metadata::serve(for_metadata, lab.clone()));
    let spaces = tokio::spawn(spaces::serve(spaces, lab.clone(), for_spaces, stop.clone()));
    let served = api::serve(lab, listeners, stop).await;
    metadata.abort();
    served?;
    spaces.await.context("end Spaces")?
}

/// The process id of the lab's daemon, if it has one: the one that holds the lock.
///
/// # Errors
/// The lock cannot be looked at.
pub(super) fn running(name: &LabName) -> Result<Option<Pid>> {
    let file = Home::of(name).pid();
    let handle = match File::open(&file) {
        Ok(handle) => handle,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", file.display())),
    };
    match handle.try_lock() {
        Ok(()) => Ok(None),
        Err(fs::TryLockError::WouldBlock) => {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            // Between taking the lock and writing the number there is a moment without one.
            Ok(text.trim().parse().ok().and_then(Pid::from_raw))
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot check the lock on {}", file.display()))
        }
    }
}

/// Ends the lab's daemon, if it has one: gently, and after twenty seconds not so.
///
/// # Errors
/// The process that holds the lock is not a daemon of this lab, or outlives everything.
pub(super) async fn end(name: &LabName) -> Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let deadline = Instant::now() + PATIENCE;
        let Some(pid) = running(name)? else { return Ok(()) };
        if !is_daemon(pid, name) {
            bail!("process {pid} holds the lock of lab {name} but is not its daemon: it was left alone");
        }
        kill_process(pid, signal).context("cannot signal the daemon")?;
        while running(name)?.is_some() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if running(name)?.is_some() {
        bail!("the daemon survived SIGKILL");
    }
    Ok(())
}

/// Whether this process was started as `… lab serve --name NAME`.
fn is_daemon(pid: Pid, name: &LabName) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).collect();
    let expected: [&[u8]; 4] = [b"lab", b"serve", b"--name", name.as_str().as_bytes()];
    words.windows(expected.len()).any(|window| window == expected)
}

/// Holds the lock for as long as the file is open.
fn lock(name: &LabName) -> Result<File> {
    let file = Home::of(name).pid();
    let attempt = || -> std::io::Result<Option<File>> {
        let mut handle = File::options().create(true).write(true).truncate(false).open(&file)?;
        if handle.try_lock().is_err() {
            return Ok(None);
        }
        handle.set_len(0)?;
        handle.rewind()?;
        handle.write_all(std::process::id().to_string().as_bytes())?;
        Ok(Some(handle))
    };
    attempt()
        .with_context(|| format!("cannot write {}", file.display()))?
        .with_context(|| format!("lab {name} already has a daemon"))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn layout(subnets: &Subnets) -> Layout {
    let range = |net: ipnet::Ipv4Net| Range::slash24(net.network());
    Layout {
        public: range(subnets.public()),
        private: range(subnets.private()),
        anchor: range(subnets.anchor()),
        floating: range(subnets.floating()),
    }
}

fn images() -> Vec<api::catalog::Image> {
    let image = |slug: &str| {
        let version = slug.split('-').nth(1).unwrap_or(slug);
        api::catalog::Image { slug: slug.to_owned(), ..api::catalog::Image::debian(version) }
    };
    IMAGES.iter().map(|(slug, _)| image(slug)).collect()
}

/// One line of the log.
fn say(line: &str) {
    eprintln!("{} {line}", Timestamp::now());
}
