//! What the guard keeps: over reboots what it granted, within a boot what it holds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lease::{Durable, Millis, Term};

/// Where everything lies that outlives a boot.
const STATE: &str = "/var/lib/cluster";
/// Grants and terms: synced before they are answered.
const DURABLE: &str = "/var/lib/cluster/lease.json";
/// The lease that this node holds. A boot clears it away, with every process that it was about.
const HELD: &str = "/run/cluster/lease.json";
/// Its presence is a person's wish that the guard start, promote and rejoin nothing. It outlives a boot: a host that
/// is being mended may boot several times.
const PAUSED: &str = "/var/lib/cluster/paused";
/// Its presence means that this node took writes beside another primary, and that its data is in nobody's way.
const KEPT_DATA: &str = "/var/lib/cluster/keep-data";
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

/// A person's wish that the guard start, promote and rejoin nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when, as a time stamp; none if somebody made the file by hand.
    #[serde(default)]
    pub since: Option<String>,
}

/// Whether a person has paused this node, and since when. Whatever the file says, it is there for a reason.
pub fn paused() -> Option<Pause> {
    Path::new(PAUSED).exists().then(|| read(PAUSED).ok().flatten().unwrap_or_default())
}

/// Pauses this node. Returns whether it was not paused before.
///
/// # Errors
/// When the wish cannot be made to last.
pub fn pause() -> Result<bool> {
    if paused().is_some() {
        return Ok(false);
    }
    write(PAUSED, &Pause { since: Some(jiff::Timestamp::now().strftime("%FT%TZ").to_string()) }, true)?;
    note("paused", "paused: nothing is started, promoted or rejoined");
    Ok(true)
}

/// Ends a pause. Returns whether there was one.
///
/// # Errors
/// When the wish cannot be taken back for good.
pub fn resume() -> Result<bool> {
    match fs::remove_file(PAUSED) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot remove {PAUSED}")),
    }
    File::open(STATE)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {STATE}"))?;
    note("resumed", "the pause has ended");
    Ok(true)
}

/// Whether the journal tells of something already.
pub fn tells(what: &str) -> bool {
    let journals = [JOURNAL.to_owned(), format!("{JOURNAL}.1")];
    journals.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(what)))
}

/// Whether what was written on this node beside another primary is kept until a person gives it up.
pub fn keeps_data() -> bool {
    Path::new(KEPT_DATA).exists()
}

/// Keeps what was written on this node beside another primary: nothing is rewound.
///
/// # Errors
/// When the note cannot be made to last.
pub fn keep_data() -> Result<()> {
    write(KEPT_DATA, &serde_json::json!({ "at": jiff::Timestamp::now().to_string() }), true)
}

/// Gives it up.
///
/// # Errors
/// When the note cannot be removed.
pub fn give_up_data() -> Result<()> {
    match fs::remove_file(KEPT_DATA) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {KEPT_DATA}"))
        }
        _ => Ok(()),
    }
}

/// Tells the system's journal and our own what happened. `what` is one word for programs, `text` a line for people.
pub fn note(what: &str, text: &str) {
    note_with(what, text, serde_json::json!({}));
}

/// The same, with more for programs: the members of `more`, an object.
pub fn note_with(what: &str, text: &str, mut more: serde_json::Value) {
    // The system's journal may be started anew at this moment; ours has it, too.
    let _ = writeln!(std::io::stdout(), "{text}");
    more["at"] = jiff::Timestamp::now().to_string().into();
    more["clock"] = super::clock::now().into();
    (more["what"], more["text"]) = (what.into(), text.into());
    let line = more;
    let append = || -> std::io::Result<()> {
        fs::create_dir_all(STATE)?;
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
