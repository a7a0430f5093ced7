//! What this machine keeps of a cluster: keys, known hosts, passwords that were made, logs. A convenience: the hosts
//! and the provider are the truth, and a cluster survives the loss of this directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::{Advice, Exit};

/// How many logs of earlier runs are kept.
const LOGS_KEPT: usize = 50;

/// The directory of one cluster, 0700.
#[derive(Clone, Debug)]
pub struct State {
    directory: PathBuf,
    cluster: String,
}

/// What is remembered in `cluster.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The cluster's system identifier, once a primary was initialized.
    pub system_identifier: Option<String>,
    /// The highest membership generation assigned by this machine.
    pub generation: u64,
    /// The floating IP that was made for it.
    pub floating_ip: Option<std::net::Ipv4Addr>,
    /// The servers that were made for it, by id: what leads to them when their tag is gone or the API is away.
    #[serde(rename = "droplets")]
    pub servers: BTreeMap<u64, KnownServer>,
    /// The tag at the provider that is this machine's lock of the cluster. Whoever holds the lock of this directory may
    /// delete it: the run that wrote it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_tag: Option<String>,
    /// When the provider last listed them.
    pub listed: Option<jiff::Timestamp>,
}

/// A server as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownServer {
    /// The node that it is, or was.
    pub node: String,
    pub public: Option<std::net::Ipv4Addr>,
    pub private: Option<std::net::Ipv4Addr>,
    /// When this machine last had it powered on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub powered_on: Option<jiff::Timestamp>,
}

/// Passwords that were made, in `secrets.json`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Secrets {
    passwords: BTreeMap<String, String>,
}

impl State {
    /// The directory of `cluster`: below `CLUSTER_STATE_DIR`, or the user's state directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(cluster: &str) -> Result<State> {
        let base = match std::env::var_os("CLUSTER_STATE_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => {
                use etcetera::BaseStrategy as _;
                let base =
                    etcetera::choose_base_strategy().context("cannot determine your home directory")?;
                base.state_dir().unwrap_or_else(|| base.data_dir()).join("cluster")
            }
        };
        State::below(&base, cluster)
    }

    /// The directory of `cluster` below this one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn below(base: &Path, cluster: &str) -> Result<State> {
        let directory = base.join(cluster);
        make_private(&directory)?;
        make_private(&directory.join("logs"))?;
        Ok(State { directory, cluster: cluster.to_owned() })
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is remembered.
    ///
    /// # Errors
    /// When the file cannot be read or is not what this program writes.
    pub fn memory(&self) -> Result<Memory> {
        self.read_json("cluster.json")
    }

    /// Changes what is remembered. Servers are made at the same time, and a `status` may run beside an `up`: one
    /// writer at a time, each of which sees what the last one wrote.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remember(&self, change: impl FnOnce(&mut Memory)) -> Result<()> {
        let path = self.path("cluster.lock");
        let turn = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file));
        let _turn = turn.with_context(|| format!("cannot lock {}", path.display()))?;
        let before = self.memory()?;
        let mut memory = before.clone();
        change(&mut memory);
        if memory == before {
            return Ok(());
        }
        self.write("cluster.json", &(serde_json::to_string_pretty(&memory)? + "\n"))
    }

    /// The password kept under `name`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn kept_password(&self, name: &str) -> Result<Option<SecretString>> {
        Ok(self.read_json::<Secrets>("secrets.json")?.passwords.remove(name).map(SecretString::from))
    }

    /// Keeps a password.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_password(&self, name: &str, password: &SecretString) -> Result<()> {
        let mut secrets: Secrets = self.read_json("secrets.json")?;
        secrets.passwords.insert(name.to_owned(), password.expose_secret().to_owned());
        self.write("secrets.json", &(serde_json::to_string_pretty(&secrets)? + "\n"))
    }

    /// The password kept under `name`, made now if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn password(&self, name: &str) -> Result<SecretString> {
        if let Some(password) = self.kept_password(name)? {
            return Ok(password);
        }
        let password = make_password();
        self.keep_password(name, &password)?;
        Ok(password)
    }

    /// Forgets the password kept under `name`.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn forget_password(&self, name: &str) -> Result<()> {
        let mut secrets: Secrets = self.read_json("secrets.json")?;
        if secrets.passwords.remove(name).is_some() {
            self.write("secrets.json", &(serde_json::to_string_pretty(&secrets)? + "\n"))?;
        }
        Ok(())
    }

    /// Deletes a file, if it is there.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn forget_file(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn read_json<T: Default + for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes a file that nobody else can read, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// A new log file's path; the oldest logs go.
    pub fn new_log(&self, command: &str) -> PathBuf {
        let logs = self.path("logs");
        let mut old: Vec<PathBuf> =
            fs::read_dir(&logs).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        old.sort();
        for path in old.iter().take(old.len().saturating_sub(LOGS_KEPT - 1)) {
            // One log too many does no harm.
            let _ = fs::remove_file(path);
        }
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        logs.join(format!("{now}-{command}-{}.jsonl", std::process::id()))
    }

    /// Takes the cluster's lock for as long as the result lives.
    ///
    /// # Errors
    /// [`Advice`] that says who holds it.
    pub fn lock(&self, command: &str) -> Result<Lock> {
        let path = self.path("lock");
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            // The holder may be writing; its name is a courtesy.
            let _ = file.read_to_string(&mut holder);
            let holder =
                if holder.trim().is_empty() { "another run".to_owned() } else { holder.trim().to_owned() };
            return Err(Advice::failed(format!("{holder} is working on cluster `{}`", self.cluster))
                .hint("wait for it to finish; the lock is released when its process ends, however it ends")
                .exit(Exit::Locked)
                .into());
        }
        let now = jiff::Timestamp::now().strftime("%F %TZ");
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "`cluster {command}` (process {}, since {now})", std::process::id())?;
        file.flush()?;
        Ok(Lock { _file: file })
    }

    /// Forgets the cluster: all but the logs and the password kept under `kept`. Returns whether there is one.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub fn forget(&self, kept: &str) -> Result<bool> {
        let kept_password = self.kept_password(kept)?;
        if let Some(password) = &kept_password {
            // Before anything is deleted: at no moment is it nowhere.
            let passwords = [(kept.to_owned(), password.expose_secret().to_owned())].into();
            self.write("secrets.json", &(serde_json::to_string_pretty(&Secrets { passwords })? + "\n"))?;
        }
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "logs") {
                    fs::remove_dir_all(&path)?;
                }
            } else if path
                .file_name()
                .is_some_and(|name| name != "lock" && (name != "secrets.json" || kept_password.is_none()))
            {
                fs::remove_file(&path)?;
            }
        }
        Ok(kept_password.is_some())
    }
}

/// The cluster's lock; let go when it is dropped or the process ends.
pub struct Lock {
    _file: File,
}

/// Makes a directory that nobody else can look into.
///
/// # Errors
/// When it cannot be made.
pub fn make_private(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// 32 characters that need no quoting anywhere: 190 bits.
fn make_password() -> SecretString {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::with_capacity(32);
    let mut bytes = [0u8; 64];
    while password.len() < 32 {
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        // Values past the last whole multiple would favour the alphabet's beginning.
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        password.extend(letters.take(32 - password.len()));
    }
    password.into()
}
