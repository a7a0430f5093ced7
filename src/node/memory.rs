//! What the guard keeps: over reboots what it granted, within a boot what it holds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lease::{Durable, Millis, Term};

/// Grants and terms: synced before they are answered.
const DURABLE: &str = "/var/lib/cluster/lease.json";
/// The lease that this node holds. A boot clears it away, with every process that it was about.
const HELD: &str = "/run/cluster/lease.json";
/// Its presence is a person's wish that the guard start, promote and rejoin nothing.
pub const PAUSED: &str = "/var/lib/cluster/paused";
/// There while the data is being rewound (`rejoin.sh`).
pub const REWINDING: &str = "/var/lib/cluster/rewinding";
/// What happened, a line of JSON each.
const JOURNAL: &str = "/var/lib/cluster/journal.jsonl";
/// Beyond this the journal begins anew, and the old one is kept once.
const JOURNAL_BYTES: u64 = 4 << 20;

/// A lease that this node holds, or has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its term.
    pub term: Term,
    /// Its end, on this host's clock.
    pub until: Millis,
}

fn read<T: DeserializeOwned>(path: &str) -> Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(serde_json::from_str(&text).with_context(|| format!("{path} is not as it was written"))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

/// Writes a file whole or not at all; `sync` makes it survive a power cut.
fn write<T: Serialize>(path: &str, value: &T, sync: bool) -> Result<()> {
    let path = Path::new(path);
    let attempt = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&new, path)?;
        if sync {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// What was granted here.
///
/// # Errors
/// When the file is there and makes no sense: a guard without its memory must not vote.
pub fn durable() -> Result<Durable> {
    Ok(read(DURABLE)?.unwrap_or_default())
}

/// Makes it durable.
///
/// # Errors
/// When it is not on disk: nothing that follows from it may be said.
pub fn persist(durable: &Durable) -> Result<()> {
    write(DURABLE, durable, true)
}

/// The lease that this node holds.
///
/// # Errors
/// When the file makes no sense.
pub fn held() -> Result<Option<Held>> {
    read(HELD)
}

/// Notes the lease that this node holds, or that it holds none.
///
/// # Errors
/// When it cannot be written.
pub fn hold(held: Option<Held>) -> Result<()> {
    match held {
        Some(held) => write(HELD, &held, false),
        None => match fs::remove_file(HELD) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {HELD}"))
            }
            _ => Ok(()),
        },
    }
}

/// Tells the system's journal and our own what happened. `what` is one word for programs, `text` a line for people.
pub fn note(what: &str, text: &str) {
    println!("{text}");
    let line = serde_json::json!({
        "at": jiff::Timestamp::now().to_string(), "clock": super::clock::now(), "what": what, "text": text,
    });
    let append = || -> std::io::Result<()> {
        fs::create_dir_all("/var/lib/cluster")?;
        if fs::metadata(JOURNAL).is_ok_and(|it| it.len() > JOURNAL_BYTES) {
            fs::rename(JOURNAL, format!("{JOURNAL}.1"))?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(JOURNAL)?;
        writeln!(file, "{line}")
    };
    if let Err(error) = append() {
        // The system's journal has it.
        eprintln!("cannot write {JOURNAL}: {error}");
    }
}
