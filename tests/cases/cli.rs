//! What the program prints and how it ends: no root, no host, and no network but a simulated API on loopback.
//!
//! A case is a command line with what lies around it; the `.txt` beside it has the exit code and both streams.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cluster_lab::api::fault::{Fault, Rule};
use cluster_lab::api::settings::{Limits, Times};
use cluster_lab::api::{Config, FakeMachines, Lab, Tokens, serve};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::golden;

const TOKEN: &str = "hunter2-operator";
const FAILOVER_TOKEN: &str = "hunter2-failover";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The command line, after `cluster`.
    run: String,
    /// The simulated account; there is none, and nothing listens, if it is left out.
    account: Option<Account>,
    /// The environment, besides a state directory and the API's address.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Overwrites lines of `inventory.yaml`: what is looked for, and what takes its place.
    #[serde(default)]
    replace: BTreeMap<String, String>,
    /// Files beside the inventory, which nobody else may read.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// What this machine remembers: its `cluster.json`.
    remembered: Option<serde_json::Value>,
    /// An SSH key in `key`, with this passphrase.
    passphrase: Option<String>,
    /// Another run holds the cluster's lock.
    #[serde(default)]
    locked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    #[serde(default)]
    limits: Limits,
    /// The API answers everything with this status.
    answers: Option<u16>,
    /// Faults of the API.
    #[serde(default)]
    faults: Vec<Rule>,
}

/// The inventory that every case begins with.
const INVENTORY: &str = "\
cluster: demo
provider:
  digitalocean:
    api_url: API
    region: fra1
    size: s-1vcpu-1gb
    image: debian-12-x64
postgresql:
  version: 15
nodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: witness}
";

/// A simulated account on a port of its own.
struct Simulator {
    url: String,
    lab: Lab<FakeMachines>,
    stop: CancellationToken,
    _runtime: tokio::runtime::Runtime,
}

impl Simulator {
    fn start(account: &Account) -> Simulator {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = Config::new(Tokens { operator: TOKEN.into(), failover: FAILOVER_TOKEN.into() });
        config.settings.times = Times::none();
        config.settings.limits = account.limits.clone();
        let lab = Lab::open(config, FakeMachines::default()).unwrap();
        if let Some(code) = account.answers {
            let fault = Fault::Status { code, body: None };
            lab.faults(|faults| faults.rules.push(Rule { count: None, ..Rule::once("GET", "/v2/*", fault) }));
        }
        lab.faults(|faults| faults.rules.extend(account.faults.clone()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        runtime.spawn(serve(lab.clone(), vec![listener], stop.clone()));
        Simulator { url, lab, stop, _runtime: runtime }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A port that nobody listens on.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Runs a case and tells what came of it.
pub(crate) fn transcript(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case =
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let simulator = case.account.as_ref().map(Simulator::start);
    let url = simulator.as_ref().map_or_else(closed_port, |simulator| simulator.url.clone());
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let mut inventory = INVENTORY.to_owned();
    for (from, to) in &case.replace {
        assert!(inventory.contains(from), "the inventory has no `{from}`");
        inventory = inventory.replace(from, to);
    }
    let file = directory.path().join("inventory.yaml");
    std::fs::write(&file, inventory.replace("API", &url)).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    for (name, text) in &case.files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    if let Some(memory) = &case.remembered {
        std::fs::create_dir_all(state.join("demo")).unwrap();
        std::fs::write(state.join("demo/cluster.json"), memory.to_string()).unwrap();
    }
    if let Some(passphrase) = &case.passphrase {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(directory.path().join("key"));
        assert!(keygen.status().unwrap().success());
    }
    let held = case.locked.then(|| {
        std::fs::create_dir_all(state.join("demo")).unwrap();
        let lock = std::fs::File::create(state.join("demo/lock")).unwrap();
        lock.lock().unwrap();
        std::fs::write(state.join("demo/lock"), "`cluster up` (process 4711, since 2026-11-22 10:00:00Z)")
            .unwrap();
        lock
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command
        .args(case.run.split_whitespace())
        .current_dir(&directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory.path())
        .env("CLUSTER_STATE_DIR", &state)
        .env("CLUSTER_TODAY", "2026-11-27")
        .stdin(Stdio::null());
    for (name, value) in &case.env {
        command.env(name, value.replace("API", &url));
    }
    let output = command.output().unwrap();
    drop(held);
    if let Some(simulator) = &simulator {
        assert!(simulator.lab.journal().is_empty(), "something was changed at the provider");
    }
    let mut told = format!("exit code {}\n", output.status.code().unwrap_or(-1));
    for (name, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !stream.is_empty() {
            let text = String::from_utf8_lossy(stream)
                .replace(&url, "http://127.0.0.1:PORT")
                .replace(&directory.path().display().to_string(), "DIR")
                .replace("/v2/droplets", "/v2/reserved_ips");
            let _ = write!(told, "-- {name}\n{}", constant(&text));
        }
    }
    assert!(!told.contains("hunter2"), "{}: a token is told: {told}", path.display());
    told
}

/// Takes out what differs from run to run: the fingerprint of a key that was just made, the number of a request
/// (two are under way at the same time, and either may be refused first), the name of a log, and how long it took.
fn constant(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let mut line = line.trim_end().to_owned();
        for (before, after, shown) in [
            ("/v2/account/keys/", " ", "FINGERPRINT"),
            ("(request ", ")", "ID"),
            ("provider   ", "", "…"),
            ("belongs to it (", ")", "…"),
            ("is unreachable: ", "", "…"),
            ("/demo/logs/", ".jsonl", "RUN"),
        ] {
            if let Some(begin) = line.find(before).map(|at| at + before.len()) {
                let end = if after.is_empty() {
                    line.len()
                } else {
                    begin + line[begin..].find(after).unwrap_or_default()
                };
                line.replace_range(begin..end, shown);
            }
        }
        if !lines.ends_with(&format!("{line}\n")) || !line.contains('…') {
            lines.push_str(&line);
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn every_command_line_ends_as_it_is_written_down() {
    golden::each("cli", transcript);
}
