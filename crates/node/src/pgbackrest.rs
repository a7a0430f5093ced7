//! pgBackRest: runs it, and reads what it prints.
//!
//! It is run as postgres, with a configuration of our own and nothing of `/etc/pgbackrest`. What it prints about a
//! repository that it cannot read is not text (2.45 prints the bytes that it could not decipher), and is cut and cleaned.

use std::process::Stdio;
use std::time::Duration;

use cluster_contract::backup::{Backup, BackupKind};
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use serde::Deserialize;
use tokio::process::Command;

use crate::psql;

pub const PROGRAM: &str = "/usr/bin/pgbackrest";
/// The most of its words that is handed on.
const LONGEST: usize = 400;

/// Why a command of pgBackRest's did not end well.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failed {
    /// Its exit code (`src/build/error/error.yaml` of pgBackRest has all of them); none if it was killed or never ran.
    pub code: Option<i32>,
    /// Its own words.
    pub text: String,
    /// What the object storage answered, if that is why: S3's error code.
    pub refusal: Option<String>,
}

impl Failed {
    /// What a command has printed before it failed.
    pub fn of(code: Option<i32>, stderr: &[u8]) -> Failed {
        Failed { code, text: words(stderr), refusal: refusal(&String::from_utf8_lossy(stderr)) }
    }

    /// A failure that is not pgBackRest's.
    pub fn new(text: impl Into<String>) -> Failed {
        Failed { text: text.into(), ..Failed::default() }
    }
}

/// Another command holds the stanza's lock on this host (`LockAcquireError`).
pub const LOCKED: i32 = 50;
/// A file of the repository is not what it should be (`FormatError`): the passphrase is another's.
pub const UNREADABLE: i32 = 29;
/// The repository belongs to a database of another system identifier or version (`FileInvalidError`).
pub const OTHER_DATABASE: i32 = 28;

/// What stands in front of every command's own words.
pub fn options(stanza: &str) -> [String; 5] {
    options_of(paths::PGBACKREST_CONF, stanza)
}

fn options_of(config: &str, stanza: &str) -> [String; 5] {
    [
        format!("--config={config}"),
        format!("--stanza={stanza}"),
        "--log-level-console=off".to_owned(),
        "--log-level-stderr=warn".to_owned(),
        "--no-log-timestamp".to_owned(),
    ]
}

/// The command, ready to run as postgres.
pub fn command(stanza: &str, args: &[&str]) -> anyhow::Result<Command> {
    command_of(paths::PGBACKREST_CONF, stanza, args)
}

fn command_of(config: &str, stanza: &str, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(PROGRAM);
    psql::become_postgres(&mut command)?;
    command
        .args(options_of(config, stanza))
        .args(args)
        .env("HOME", paths::POSTGRES_HOME)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a command and returns what it printed.
///
/// # Errors
/// When it fails, or does not end within `limit`.
pub async fn run(stanza: &str, args: &[&str], limit: Duration) -> Result<String, Failed> {
    run_of(paths::PGBACKREST_CONF, stanza, args, limit).await
}

/// The same with a configuration of its own, for a repository that is not this cluster's.
///
/// # Errors
/// As [`run`].
pub async fn run_of(config: &str, stanza: &str, args: &[&str], limit: Duration) -> Result<String, Failed> {
    let mut command = command_of(config, stanza, args).map_err(|error| Failed::new(format!("{error:#}")))?;
    command.current_dir("/");
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| Failed::new(format!("pgbackrest did not finish within {} s", limit.as_secs())))?
        .map_err(|error| Failed::new(format!("cannot run pgbackrest: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failed::of(output.status.code(), &output.stderr))
}

/// The error in what it printed, on one line. Warnings before it are left out.
pub fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let error = text.find("ERROR: ").map_or(text.as_ref(), |at| &text[at + "ERROR: ".len()..]);
    // Of an answer over HTTP, what it was about and what the server says; not every header.
    let said = refusal(error).map(|code| format!("the server says {code}"));
    let error = match error.split_once(REQUEST) {
        Some((error, _)) => error.trim_end_matches([':', ' ', '\n']),
        None => error,
    };
    let lines: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Nothing is told twice, as of a file and its copy.
    let new = lines.iter().enumerate().filter(|(at, line)| !lines[..*at].contains(line));
    let words = new.map(|(_, line)| {
        line.strip_prefix("HINT: ").map_or((*line).to_owned(), |hint| format!("hint: {hint}"))
    });
    let mut line = String::new();
    for word in words.chain(said) {
        // A line that ends with a colon says where; what is wrong there follows it.
        line.push_str(if line.is_empty() {
            ""
        } else if line.ends_with(':') {
            " "
        } else {
            "; "
        });
        line.push_str(&word);
    }
    let clean = |c: char| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '?' } else { c };
    let line: String = line.chars().map(clean).take(LONGEST).collect();
    if line.is_empty() { "it said nothing".to_owned() } else { line }
}

/// What comes before the request that an error over HTTP is about.
const REQUEST: &str = "*** Path/Query ***";

/// S3's error code in the answer that an error is about.
fn refusal(text: &str) -> Option<String> {
    let (_, answer) = text.split_once(REQUEST)?;
    element(answer, "Code").map(str::to_owned)
}

/// The text of an element of XML, where it is a word.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (word, _) = rest.split_once(&format!("</{name}>"))?;
    word.chars().all(char::is_alphanumeric).then_some(word)
}

#[derive(Deserialize)]
struct Info {
    name: String,
    status: InfoStatus,
    #[serde(default)]
    repo: Vec<InfoRepo>,
    #[serde(default)]
    backup: Vec<InfoBackup>,
}

#[derive(Deserialize)]
struct InfoStatus {
    code: i32,
    message: String,
}

#[derive(Deserialize)]
struct InfoRepo {
    status: InfoStatus,
}

#[derive(Deserialize)]
struct InfoBackup {
    label: String,
    #[serde(rename = "type")]
    kind: BackupKind,
    #[serde(default)]
    error: Option<bool>,
    timestamp: InfoTimes,
    lsn: Option<InfoLsn>,
    archive: InfoArchive,
    info: InfoSize,
}

#[derive(Deserialize)]
struct InfoTimes {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct InfoLsn {
    start: Lsn,
    stop: Lsn,
}

#[derive(Deserialize)]
struct InfoArchive {
    start: Option<String>,
    stop: Option<String>,
}

#[derive(Deserialize)]
struct InfoSize {
    size: u64,
    repository: InfoRepository,
}

#[derive(Deserialize)]
struct InfoRepository {
    delta: u64,
}

/// What `info` says of a stanza that is not there, or has no backup yet: no error.
const NOTHING_YET: [i32; 2] = [1, 2];

/// The backups of a stanza, from `info --output=json`, the oldest first. Its exit code is 0 whatever is wrong: what is,
/// stands in the text.
///
/// # Errors
/// When it cannot be read, or says that the repository cannot.
pub fn backups(stanza: &str, json: &str) -> Result<Vec<Backup>, Failed> {
    // With another passphrase its message has the bytes that it could not read, as they are: no JSON.
    let clean: String = json.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let all: Vec<Info> = serde_json::from_str(&clean)
        .map_err(|error| Failed::new(format!("cannot read what `info` printed: {error}")))?;
    let Some(ours) = all.into_iter().find(|info| info.name == stanza) else { return Ok(Vec::new()) };
    if ours.status.code != 0 && !NOTHING_YET.contains(&ours.status.code) {
        // The stanza's own word is no more than `other`.
        let message = ours.repo.first().map_or(&ours.status.message, |repo| &repo.status.message);
        // What it calls a format error prints what it could not decipher.
        let code = message.starts_with("[FormatError]").then_some(UNREADABLE);
        return Err(Failed { code, refusal: refusal(message), text: words(message.as_bytes()) });
    }
    let mut backups: Vec<Backup> = ours.backup.into_iter().filter_map(InfoBackup::whole).collect();
    backups.sort_by_key(|backup| backup.ended);
    Ok(backups)
}

/// The first WAL file of each backup of a stanza, and the position in it at which the backup begins.
pub fn starts(stanza: &str, json: &str) -> Vec<(String, Lsn)> {
    let all: Vec<Info> = serde_json::from_str(json).unwrap_or_default();
    let ours = all.into_iter().filter(|info| info.name == stanza);
    ours.flat_map(|info| info.backup).filter_map(|it| Some((it.archive.start?, it.lsn?.start))).collect()
}

impl InfoBackup {
    /// One that ended well has a place where its WAL ends.
    fn whole(self) -> Option<Backup> {
        let lsn = self.lsn?;
        let timeline = u32::from_str_radix(self.archive.stop?.get(..8)?, 16).ok()?;
        Some(Backup {
            label: self.label,
            kind: self.kind,
            started: self.timestamp.start,
            ended: self.timestamp.stop,
            start_lsn: lsn.start,
            stop_lsn: lsn.stop,
            timeline,
            size: self.info.size,
            added: self.info.repository.delta,
            damaged: self.error == Some(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 2.45 prints it.
    const INFO: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000006","min":"000000010000000000000001"}],"backup":[{"archive":{"start":"000000010000000000000006","stop":"000000010000000000000006"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},"error":false,"info":{"delta":46141303,"repository":{"delta":5701312,"size":5701312},"size":46141303},"label":"20261126-223056F","lsn":{"start":"0/6000028","stop":"0/60006A0"},"prior":null,"reference":null,"timestamp":{"start":1795732256,"stop":1795732259},"type":"full"}],"cipher":"aes-256-cbc","db":[{"id":1,"repo-key":1,"system-id":7712610861435314598,"version":"15"}],"name":"bk","repo":[{"cipher":"aes-256-cbc","key":1,"status":{"code":0,"message":"ok"}}],"status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

    #[test]
    fn backups_are_read_from_info() {
        let backups = backups("bk", INFO).unwrap();
        assert_eq!(backups.len(), 1);
        let backup = &backups[0];
        assert_eq!((backup.label.as_str(), backup.kind), ("20261126-223056F", BackupKind::Full));
        assert_eq!((backup.stop_lsn, backup.timeline), (Lsn(0x600_06A0), 1));
        assert_eq!((backup.size, backup.added, backup.damaged), (46_141_303, 5_701_312, false));
        assert_eq!(starts("bk", INFO), [("000000010000000000000006".to_owned(), Lsn(0x600_0028))]);
        assert_eq!(super::backups("another", INFO).unwrap(), []);
        assert_eq!(super::backups("bk", "[]").unwrap(), []);
    }

    #[test]
    fn a_repository_that_cannot_be_read_is_an_error_although_info_ends_well() {
        let json = r#"[{"name":"bk","backup":[],"archive":[],"db":[],
            "repo":[{"key":1,"status":{"code":99,"message":"[CryptoError] cipher header invalid\u0000\ufffd"}}],
            "status":{"code":99,"message":"other"}}]"#;
        let failed = backups("bk", json).unwrap_err();
        assert_eq!(failed.text, "[CryptoError] cipher header invalid??");
        let raw = json.replace("\\u0000", "\u{1}\n");
        assert_eq!(backups("bk", &raw).unwrap_err().text, "[CryptoError] cipher header invalid  ?");
        let other = json.replace("CryptoError", "FormatError");
        assert_eq!(backups("bk", &other).unwrap_err().code, Some(UNREADABLE));
        let none = r#"[{"name":"bk","backup":[],"status":{"code":2,"message":"no valid backups"}}]"#;
        assert_eq!(backups("bk", none).unwrap(), []);
    }

    #[test]
    fn an_answer_over_http_is_told_without_its_headers() {
        let stderr = "P00   WARN: something\nP00  ERROR: [039]: HTTP request failed with 404 (Not Found):\n       \
                      *** Path/Query ***:\n       GET /backups/?prefix=x\n       *** Request Headers ***:\n       \
                      authorization: <redacted>\n       *** Response Content ***:\n       \
                      <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code></Error>\n";
        assert_eq!(
            words(stderr.as_bytes()),
            "[039]: HTTP request failed with 404 (Not Found); the server says NoSuchBucket"
        );
        assert_eq!(refusal(stderr).as_deref(), Some("NoSuchBucket"));
        assert_eq!(refusal("ERROR: [050]: <Code>none</Code>"), None, "nobody was asked for anything");
        assert_eq!(
            words(b"P00  ERROR: [050]: lock\n            HINT: is another running?"),
            "[050]: lock; hint: is another running?"
        );
        let stderr = "P00  ERROR: [103]: unable to find a valid repository:\n       repo1: [CryptoError] unable to load \
                      info file 'a' or 'a.copy':\n       CryptoError: no issuer\n       HINT: encrypted?\n       \
                      CryptoError: no issuer\n       HINT: encrypted?\n";
        assert_eq!(
            words(stderr.as_bytes()),
            "[103]: unable to find a valid repository: repo1: [CryptoError] unable to load info file 'a' or 'a.copy': \
             CryptoError: no issuer; hint: encrypted?"
        );
        assert_eq!(words(b"P00  ERROR: [103]: unable:"), "[103]: unable:");
    }
}
