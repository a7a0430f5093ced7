//! SSH keys and known hosts of one cluster, in files of its own. Cloud addresses are used again by others, so a host is
//! known by `<cluster>-<node>` and never by its address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use serde_json::json;

use super::World;
use crate::error::Advice;
use crate::inventory::{Node, Provider};
use crate::plan::files::host_keys;
use crate::remote::ssh::keygen;
use crate::templates::Template;

impl World {
    /// The private key that the operator logs in with; made if the inventory names none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn private_key(&self) -> Result<Option<PathBuf>> {
        match (&self.inventory.provider, self.inventory.provider.ssh_key()) {
            (_, Some(path)) => Ok(Some(path.to_owned())),
            (Provider::Existing(_), None) => Ok(None),
            (Provider::DigitalOcean(_), None) => {
                let path = self.state.path(OWN_KEY);
                if path.is_symlink() && !path.exists() {
                    let target = std::fs::read_link(&path).unwrap_or_default();
                    return Err(Advice::refused(format!(
                        "the SSH key {}, which `cluster adopt` was given, is gone",
                        target.display()
                    ))
                    .hint("put it back, or run `cluster adopt --ssh-key FILE` with another")
                    .into());
                }
                if !path.exists() {
                    keygen(&path, &format!("cluster {}", self.inventory.cluster)).await?;
                }
                Ok(Some(path))
            }
        }
    }

    /// Whether there is a key to log in with, without making one.
    pub fn has_private_key(&self) -> bool {
        match self.inventory.provider {
            Provider::Existing(_) => true,
            Provider::DigitalOcean(_) => {
                self.inventory.provider.ssh_key().is_some() || self.state.path(OWN_KEY).exists()
            }
        }
    }

    /// Has this machine log in to the cluster's droplets with this key from now on. A public key stands for the private
    /// one that an agent holds. A key that this program had made is kept beside it.
    ///
    /// # Errors
    /// When it is no key, or the state cannot be written.
    pub async fn use_key(&self, file: &Path) -> Result<()> {
        let file = std::fs::canonicalize(file)
            .map_err(|error| Advice::usage(format!("--ssh-key: cannot read {}: {error}", file.display())))?;
        let is_public = file.extension().is_some_and(|it| it == "pub");
        let public = if is_public { file.clone() } else { with_suffix(&file, "pub") };
        let private = Some(file.with_extension("")).filter(|it| is_public && it.exists()).unwrap_or(file);
        let text = match std::fs::read_to_string(&public) {
            Ok(text) => text,
            Err(_) => public_half(&private).await?,
        };
        if cluster_cloud::key::fingerprint(&text).is_none() {
            return Err(Advice::usage(format!("--ssh-key: {} is no SSH key", public.display())).into());
        }
        let own = self.state.path(OWN_KEY);
        if std::fs::canonicalize(&own).is_ok_and(|it| it == private) {
            return Ok(());
        }
        if own.exists() && !own.is_symlink() {
            std::fs::rename(&own, self.state.path("id_ed25519.replaced"))?;
        } else {
            self.state.forget_file(OWN_KEY)?;
        }
        self.state.write(&format!("{OWN_KEY}.pub"), &text)?;
        std::os::unix::fs::symlink(&private, &own).with_context(|| format!("cannot create {}", own.display()))
    }

    /// The public half of the operator's key.
    ///
    /// # Errors
    /// When the file beside the private key is missing.
    pub async fn public_key(&self) -> Result<String> {
        let path = self.private_key().await?.context("no key is named")?;
        let public = with_suffix(&path, "pub");
        let text = std::fs::read_to_string(&public).map_err(|error| {
            Advice::refused(format!("cannot read {}: {error}", public.display()))
                .hint(format!("`ssh-keygen -y -f {}` prints it", path.display()))
        })?;
        Ok(text.trim().to_owned())
    }

    /// Host keys that user data carried and that are not replaced yet, by node.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn bootstrap_keys(&self) -> Result<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        for node in &self.inventory.nodes {
            if let Ok(text) = std::fs::read_to_string(with_suffix(&self.bootstrap_key(node), "pub")) {
                keys.insert(node.name.clone(), first_two_words(&text));
            }
        }
        Ok(keys)
    }

    fn bootstrap_key(&self, node: &Node) -> PathBuf {
        self.state.path("bootstrap").join(&node.name)
    }

    /// User data for a node's server: a host key for the first session. The key is pinned before the server is asked
    /// for, and kept until it is replaced, so that a run that was killed knows the host that it made. What was pinned
    /// before stays beside it until the server is made: the old host may be there all the same.
    ///
    /// # Errors
    /// When the key cannot be made or written.
    pub async fn user_data(&self, node: &Node) -> Result<SecretString> {
        let path = self.bootstrap_key(node);
        crate::state::make_private(&self.state.path("bootstrap"))?;
        if !path.exists() || !with_suffix(&path, "pub").exists() {
            // What a killed ssh-keygen left would stop it.
            let _ = std::fs::remove_file(&path);
            keygen(&path, &node.name).await?;
        }
        let private = std::fs::read_to_string(&path)?;
        let public = std::fs::read_to_string(with_suffix(&path, "pub"))?;
        let mut keys = self.pinned(node);
        let key = first_two_words(&public);
        if !keys.contains(&key) {
            keys.push(key);
            self.pin(node, &keys)?;
        }
        let indented = private.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n");
        // One that is made to take another's place has that one's name.
        let hostname = node.name.split('.').next().unwrap_or_default();
        let values = json!({"hostname": hostname, "host_key": indented, "host_key_public": public.trim()});
        Ok(Template::CloudInit.render(&values).into())
    }

    /// The node's server was made: it shows the bootstrap key and no other.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn made(&self, node: &Node) -> Result<()> {
        let public = std::fs::read_to_string(with_suffix(&self.bootstrap_key(node), "pub"))?;
        self.pin(node, &[first_two_words(&public)])
    }

    /// The node's server was not made: its bootstrap key is no host's.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn not_made(&self, node: &Node) -> Result<()> {
        let Ok(public) = std::fs::read_to_string(with_suffix(&self.bootstrap_key(node), "pub")) else {
            return Ok(());
        };
        let mut keys = self.pinned(node);
        keys.retain(|key| *key != first_two_words(&public));
        self.pin(node, &keys)?;
        self.drop_bootstrap_key(node)
    }

    /// The bootstrap key of this node has been replaced by `key`.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn replaced(&self, node: &Node, key: &str) -> Result<()> {
        self.pin(node, &[key.to_owned()])?;
        self.drop_bootstrap_key(node)
    }

    /// The node shows the key of its user data still: the next `up` replaces it.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn exposed(&self, node: &Node, key: &str) -> Result<()> {
        crate::state::make_private(&self.state.path("bootstrap"))?;
        let path = with_suffix(&self.bootstrap_key(node), "pub");
        std::fs::write(&path, format!("{key}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    fn drop_bootstrap_key(&self, node: &Node) -> Result<()> {
        let path = self.bootstrap_key(node);
        for path in [with_suffix(&path, "pub"), path] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot delete {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What was known of `from` is known of `to`: it is the same host, under another name.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn rename_keys(&self, from: &Node, to: &Node) -> Result<()> {
        let keys = self.pinned(from);
        if keys.is_empty() {
            // An earlier run has done it.
            return Ok(());
        }
        for (old, new) in [(from, to)].map(|(from, to)| (self.bootstrap_key(from), self.bootstrap_key(to))) {
            for (old, new) in [(with_suffix(&old, "pub"), with_suffix(&new, "pub")), (old, new)] {
                match std::fs::rename(&old, &new) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("cannot rename {}", old.display()));
                    }
                    _ => {}
                }
            }
        }
        self.pin(to, &keys)?;
        self.pin(from, &[])
    }

    /// The only keys that this node may show.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn pin(&self, node: &Node, keys: &[String]) -> Result<()> {
        let _writing = self.pins.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let alias = self.alias(node);
        let mut text: String = self
            .known_hosts()
            .lines()
            .filter(|line| line.split(' ').next() != Some(alias.as_str()))
            .map(|line| format!("{line}\n"))
            .collect();
        for key in keys {
            let _ = writeln!(text, "{alias} {key}");
        }
        self.state.write("known_hosts", &text)
    }

    /// The keys that this node may show.
    pub fn pinned(&self, node: &Node) -> Vec<String> {
        let alias = self.alias(node);
        let lines = self.known_hosts();
        lines
            .lines()
            .filter_map(|line| {
                line.split_once(' ').filter(|(name, _)| *name == alias).map(|(_, key)| key.to_owned())
            })
            .collect()
    }

    fn known_hosts(&self) -> String {
        std::fs::read_to_string(self.state.path("known_hosts")).unwrap_or_default()
    }

    fn alias(&self, node: &Node) -> String {
        host_keys::alias(&self.inventory.cluster, &node.name)
    }

    /// Writes the cluster's `ssh_config`; `ssh -F` works with it by hand.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn write_ssh_config(&self, addresses: &BTreeMap<String, String>) -> Result<()> {
        let mut text =
            format!("# SSH configuration of cluster {}; rewritten by every run.\n", self.inventory.cluster);
        let existing = matches!(self.inventory.provider, Provider::Existing(_));
        let quote = |path: &Path| format!("\"{}\"", path.display());
        // What the inventory says goes before what this machine remembers, and does not take its place: a key that was
        // mistaken is none any more when it is taken out again.
        let mut given = String::new();
        let key = self.private_key().await?;
        let identity = key
            .map_or(String::new(), |key| format!("  IdentityFile {}\n  IdentitiesOnly yes\n", quote(&key)));
        for node in &self.inventory.nodes {
            let Some(address) = addresses.get(&node.name) else { continue };
            let _ = write!(text, "Host {}\n  HostName {address}\n{}", node.name, node.reach.config());
            if node.reach.key.is_none() {
                text.push_str(&identity);
            }
            if let Some(key) = &node.host_key {
                let key = first_two_words(key);
                let _ = writeln!(given, "{} {key}", self.alias(node));
                if self.pinned(node).is_empty() {
                    self.pin(node, &[key])?;
                }
                let _ = writeln!(text, "  HostKeyAlias {}", self.alias(node));
                let _ = writeln!(text, "  UserKnownHostsFile {}", quote(&self.state.path(GIVEN)));
            } else if !existing || !self.pinned(node).is_empty() {
                let _ = writeln!(text, "  HostKeyAlias {}", self.alias(node));
                let _ = writeln!(text, "  UserKnownHostsFile {}", quote(&self.state.path("known_hosts")));
            }
        }
        // Jump hosts: ssh would add their key to a node's own.
        if !identity.is_empty() {
            let nodes: String = self.inventory.nodes.iter().map(|node| format!(" !{}", node.name)).collect();
            let _ = write!(text, "Host *{nodes}\n{identity}");
        }
        let _ = write!(text, "Host *\n  User {}\n", self.inventory.provider.ssh_user());
        text.push_str(
            "  StrictHostKeyChecking yes\n  UpdateHostKeys no\n  BatchMode yes\n  ForwardAgent no\n  \
             PasswordAuthentication no\n  ServerAliveInterval 5\n  ServerAliveCountMax 3\n",
        );
        self.state.write(GIVEN, &given)?;
        self.state.write("ssh_config", &text)
    }
}

/// The key that this program makes where the inventory names none.
const OWN_KEY: &str = "id_ed25519";

/// The keys that the inventory gives.
const GIVEN: &str = "known_hosts.inventory";

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Where no file has it, ssh-keygen tells it.
async fn public_half(private: &Path) -> Result<String> {
    let output =
        tokio::process::Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(private).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(Advice::usage(format!("--ssh-key: cannot read {}: {why}", private.display()))
        .hint(format!("`ssh-keygen -y -f {0} > {0}.pub` writes its public half", private.display()))
        .into())
}

/// A public key without its comment.
pub(crate) fn first_two_words(key: &str) -> String {
    key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
