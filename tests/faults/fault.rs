//! What breaks, and how it is mended.

use std::fmt;

use cluster_contract::Millis;
use cluster_node::clock;
use serde_json::{Value, json};

use crate::bucket;
use crate::stage::Stage;

/// What a node is cut off from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Everything,
    Api,
    Node(String),
}

/// One thing that breaks. Nodes are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every process of PostgreSQL is killed (SIGKILL).
    KillPostgres(String),
    /// One backend is, which makes the postmaster throw out everybody and recover.
    KillBackend(String),
    /// PostgreSQL is stopped by hand.
    StopPostgres(String),
    /// The postmaster alone is frozen (SIGSTOP): who is in goes on, nobody else gets in.
    FreezePostmaster(String),
    /// Every process of PostgreSQL is.
    FreezePostgres(String),
    /// The guard is killed.
    KillGuard(String),
    /// The guard is frozen, and the watch beside it.
    FreezeGuard(String),
    /// The unit of the guard is stopped, as by a person.
    StopGuard(String),
    /// repmgrd is killed.
    KillRepmgrd(String),
    /// Power is cut, by the API.
    PowerOff(String),
    /// The whole host is frozen, its kernel included.
    FreezeHost(String),
    /// Packets are lost.
    Cut { node: String, from: From, one_way: bool, refused: bool },
    /// What a node sends to the others crosses slowly, at 60 kB a second.
    SlowLink(String),
    /// The API closes every connection without a word, but for power actions, which are the test's.
    ApiAway,
    /// Moves of addresses end in this fault.
    Api(Value),
    /// The disk of PostgreSQL is full.
    FullDisk(String),
    /// The object storage has a fault: the words of `cluster lab spaces`.
    Spaces(&'static [&'static str]),
    /// The bucket is deleted with everything in it. `cluster up` is the remedy.
    NoBucket,
    /// The key of the bucket is deleted. `cluster up` is the remedy.
    NoKey,
    /// A file with which the data nodes open the repository is another: it, and the script that makes it so. `cluster up`
    /// is the remedy.
    Opener { file: &'static str, script: &'static str },
}

impl Fault {
    pub(crate) fn cut(node: &str, from: From) -> Fault {
        Fault::Cut { node: node.to_owned(), from, one_way: false, refused: false }
    }

    pub(crate) fn isolate(node: &str) -> Fault {
        Fault::cut(node, From::Everything)
    }

    pub(crate) fn between(node: &str, other: &str) -> Fault {
        Fault::cut(node, From::Node(other.to_owned()))
    }

    /// Breaks it. Returns the moment, as exactly as it can be told, and never too late.
    pub(crate) fn inject(&self, stage: &Stage) -> Result<Millis, String> {
        let unit = stage.unit();
        let now = clock::now();
        let on = |node: &str, script: &str| stage.at_once(node, script);
        match self {
            Fault::KillPostgres(node) => on(node, &format!("systemctl kill -s KILL {unit}")),
            Fault::KillBackend(node) => on(node, "pkill -KILL -o -f '[p]ostgres: .*cluster cluster'"),
            // It returns when PostgreSQL is gone, or by its own time-out.
            Fault::StopPostgres(node) => on(node, &format!("systemctl stop --no-block {unit}")),
            Fault::FreezePostmaster(node) => {
                on(node, &format!("systemctl kill -s STOP --kill-who=main {unit}"))
            }
            Fault::FreezePostgres(node) => on(node, &format!("systemctl kill -s STOP {unit}")),
            Fault::KillGuard(node) => on(node, "systemctl kill -s KILL cluster-node"),
            Fault::FreezeGuard(node) => on(node, "systemctl kill -s STOP cluster-node cluster-watch"),
            Fault::StopGuard(node) => on(node, "systemctl stop cluster-node"),
            Fault::KillRepmgrd(node) => on(node, "systemctl kill -s KILL repmgrd"),
            Fault::PowerOff(node) => {
                stage.lab.ask_power(stage.node(node).droplet, "power_off");
                Ok(now)
            }
            Fault::FreezeHost(node) => stage.lab_does(&["freeze", node]).map(|()| now),
            Fault::Cut { node, from, one_way, refused } => {
                let mut words = vec!["cut", node];
                match from {
                    From::Everything => {}
                    From::Api => words.push("api"),
                    From::Node(other) => words.push(other),
                }
                words.extend(one_way.then_some("--one-way"));
                words.extend(refused.then_some("--reject"));
                stage.lab_does(&words).map(|()| now)
            }
            Fault::SlowLink(node) => {
                let shape = [
                    "add", "dev", "eth1", "root", "tbf", "rate", "480kbit", "burst", "16kb", "latency",
                    "500ms",
                ];
                stage.shape_link(node, &shape).map(|()| now)
            }
            Fault::ApiAway => {
                for (method, path) in [("GET", "/v2/*"), ("POST", "/v2/reserved_ips/*")] {
                    stage.lab.fault(&json!({"method": method, "path": path, "fault": "drop"}));
                }
                Ok(now)
            }
            Fault::Api(rule) => {
                stage.lab.fault(rule);
                Ok(now)
            }
            Fault::FullDisk(node) => on(node, FILL),
            Fault::Spaces(words) => stage.lab_does(&[&["spaces"], *words].concat()).map(|()| now),
            Fault::NoBucket => bucket::delete(&stage.lab).map(|()| now),
            Fault::NoKey => bucket::delete_keys(&stage.lab).map(|()| now),
            Fault::Opener { file, script } => {
                for host in stage.hosts().iter().filter(|host| !host.witness) {
                    stage.on(&host.name, &format!("file={file}; {script}"))?;
                }
                Ok(now)
            }
        }
    }

    /// The host in which it is, and with whose power it ends.
    pub(crate) fn inside(&self) -> Option<&str> {
        match self {
            Fault::FreezePostmaster(node) | Fault::FreezePostgres(node) | Fault::FreezeGuard(node) => {
                Some(node)
            }
            Fault::StopGuard(node) | Fault::FreezeHost(node) => Some(node),
            _ => None,
        }
    }

    /// Mends it. What mends itself has nothing to mend.
    pub(crate) fn mend(&self, stage: &Stage) -> Result<(), String> {
        let unit = stage.unit();
        match self {
            Fault::KillPostgres(_) | Fault::KillBackend(_) | Fault::StopPostgres(_) => Ok(()),
            Fault::KillGuard(_) | Fault::KillRepmgrd(_) => Ok(()),
            Fault::FreezePostmaster(node) | Fault::FreezePostgres(node) => {
                stage.on(node, &format!("systemctl kill -s CONT {unit} || :")).map(drop)
            }
            Fault::FreezeGuard(node) => {
                stage.on(node, "systemctl kill -s CONT cluster-node cluster-watch || :").map(drop)
            }
            Fault::StopGuard(node) => stage.on(node, "systemctl start cluster-node").map(drop),
            Fault::PowerOff(node) => {
                stage.lab.ask_power(stage.node(node).droplet, "power_on");
                Ok(())
            }
            Fault::FreezeHost(node) => stage.lab_does(&["thaw", node]),
            Fault::Cut { .. } => stage.lab_does(&["heal"]),
            Fault::SlowLink(node) => stage.shape_link(node, &["del", "dev", "eth1", "root"]),
            Fault::ApiAway | Fault::Api(_) => {
                stage.lab.clear_faults();
                Ok(())
            }
            Fault::FullDisk(node) => {
                stage.on(node, "rm -f /var/lib/postgresql/15/main/pg_wal/filler").map(drop)
            }
            Fault::Spaces(_) => stage.lab_does(&["spaces", "heal"]),
            Fault::NoBucket | Fault::NoKey | Fault::Opener { .. } => {
                let run = stage.lab.cluster(&["up", "-i", &stage.inventory]);
                if run.code == 0 {
                    Ok(())
                } else {
                    Err(format!("cluster up: exit {}: {}", run.code, run.stderr))
                }
            }
        }
    }
}

/// The WAL of a node that `small_disk` has prepared has no more room.
const FILL: &str = "dd if=/dev/zero of=/var/lib/postgresql/15/main/pg_wal/filler bs=64k 2>/dev/null; :";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::KillPostgres(node) => write!(f, "PostgreSQL on {node} killed"),
            Fault::KillBackend(node) => write!(f, "a backend on {node} killed"),
            Fault::StopPostgres(node) => write!(f, "PostgreSQL on {node} stopped by hand"),
            Fault::FreezePostmaster(node) => write!(f, "the postmaster on {node} frozen"),
            Fault::FreezePostgres(node) => write!(f, "PostgreSQL on {node} frozen"),
            Fault::KillGuard(node) => write!(f, "the guard of {node} killed"),
            Fault::FreezeGuard(node) => write!(f, "the guard of {node} frozen"),
            Fault::StopGuard(node) => write!(f, "the guard of {node} stopped by hand"),
            Fault::KillRepmgrd(node) => write!(f, "repmgrd on {node} killed"),
            Fault::PowerOff(node) => write!(f, "{node} powered off"),
            Fault::FreezeHost(node) => write!(f, "{node} frozen as a whole"),
            Fault::Cut { node, from, one_way, refused } => {
                let way = if *one_way { "what it sends is lost" } else { "both ways" };
                let manner = if *refused { ", refused" } else { "" };
                match from {
                    From::Everything => write!(f, "{node} isolated ({way}{manner})"),
                    From::Api => write!(f, "{node} cut off from the API ({way}{manner})"),
                    From::Node(other) => write!(f, "{node} cut off from {other} ({way}{manner})"),
                }
            }
            Fault::SlowLink(node) => write!(f, "the link of {node} slow"),
            Fault::ApiAway => write!(f, "the API away"),
            Fault::Api(rule) => write!(f, "the API: {rule}"),
            Fault::FullDisk(node) => write!(f, "the disk of {node} full"),
            Fault::Spaces(words) => write!(f, "the object storage: {}", words.join(" ")),
            Fault::NoBucket => f.write_str("the bucket deleted"),
            Fault::NoKey => f.write_str("the bucket's key deleted"),
            Fault::Opener { file, .. } => write!(f, "{file} another"),
        }
    }
}
