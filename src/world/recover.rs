//! Takes back from the nodes what another machine kept of the cluster. Reads alone; what is kept here and differs gives
//! way to what the nodes run with.

use std::collections::BTreeSet;

use anyhow::Result;
use cluster_contract::paths;
use secrecy::{ExposeSecret as _, SecretString};

use super::World;
use super::keys::first_two_words;
use crate::facts::{Facts, Host};
use crate::inventory::{Provider, Repository};
use crate::plan::members::Configuration;
use crate::plan::roles::{self, Data, Primary};
use crate::remote::Command;
use crate::script;

/// A secret that lies on the nodes.
struct Kind {
    /// Under which name this machine keeps it.
    name: &'static str,
    /// For a person.
    what: &'static str,
    file: &'static str,
    extract: fn(&str) -> Option<&str>,
}

/// What came of taking one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was not here.
    New,
    /// It was here already.
    Same,
    /// Another one was here.
    Replaced,
    /// No node that answers has it.
    Missing,
}

impl World {
    /// The cluster's system identifier, as the hosts have it; none if no host that answers holds its data.
    pub fn identifiers(&self, facts: &Facts) -> BTreeSet<String> {
        let hosts =
            self.inventory.nodes.iter().filter_map(|node| Some((node, facts.hosts.get(&node.name)?.up()?)));
        let ours = hosts.filter(|(node, host)| {
            roles::holds_data(node, host) && roles::data(&self.inventory, facts, host) == Data::Ours
        });
        ours.filter_map(|(_, host)| {
            let found = host.data.as_ref().and_then(|data| data.system_identifier.clone());
            host.postgres.as_ref().map(|postgres| postgres.system_identifier.clone()).or(found)
        })
        .collect()
    }

    /// Keeps the secrets of the nodes, each with what came of it.
    ///
    /// # Errors
    /// When a node that has answered does not any more, or the state cannot be written.
    pub async fn take_back_secrets(&self, facts: &Facts) -> Result<Vec<(&'static str, Taken)>> {
        let mut taken = Vec::new();
        let mut files: Vec<(&str, Option<String>)> = Vec::new();
        for kind in self.kinds() {
            let text = match files.iter().find(|(file, _)| *file == kind.file) {
                Some((_, text)) => text.clone(),
                None => {
                    let text = self.secret_file(facts, kind.file).await?;
                    files.push((kind.file, text.clone()));
                    text
                }
            };
            let found = text.as_deref().and_then(kind.extract).map(SecretString::from);
            let kept = self.state.kept_password(kind.name)?;
            let result = match (&found, &kept) {
                (None, _) => Taken::Missing,
                (Some(found), Some(kept)) if found.expose_secret() == kept.expose_secret() => Taken::Same,
                (Some(_), None) => Taken::New,
                (Some(_), Some(kept)) => {
                    if kind.name == super::backup::PASSPHRASE {
                        // It may be all that opens the repository of a cluster that is gone.
                        let name = format!("{}-before-{}", kind.name, jiff::Timestamp::now().as_second());
                        self.state.keep_password(&name, kept)?;
                    }
                    Taken::Replaced
                }
            };
            if let (Some(found), Taken::New | Taken::Replaced) = (&found, result) {
                self.state.keep_password(kind.name, found)?;
            }
            taken.push((kind.what, result));
        }
        Ok(taken)
    }

    fn kinds(&self) -> Vec<Kind> {
        use super::backup::{ACCESS_KEY, PASSPHRASE, SECRET_KEY, access_key, passphrase, secret_key};
        use super::secrets::{repmgr_password, whole};
        let mut kinds = vec![
            Kind { name: "repmgr", what: "repmgr's password", file: paths::PGPASS, extract: repmgr_password },
            Kind { name: "key", what: "the guards' key", file: paths::KEY, extract: whole },
            Kind {
                name: "cluster",
                what: "the password of role `cluster`",
                file: paths::CHECK_PASSWORD,
                extract: whole,
            },
        ];
        let Some(backup) = &self.inventory.backup else { return kinds };
        let file = paths::PGBACKREST_CONF;
        if backup.passphrase_file.is_none() {
            let what = "the passphrase of the backups";
            kinds.push(Kind { name: PASSPHRASE, what, file, extract: passphrase });
        }
        if !matches!(backup.repository, Repository::Path(_)) {
            kinds.push(Kind {
                name: ACCESS_KEY,
                what: "the id of the bucket's key",
                file,
                extract: access_key,
            });
            kinds.push(Kind { name: SECRET_KEY, what: "the bucket's key", file, extract: secret_key });
        }
        kinds
    }

    /// What a secret file holds: on the node that takes writes, else on any other.
    pub(super) async fn secret_file(&self, facts: &Facts, file: &str) -> Result<Option<String>> {
        let has = |name: &&String| {
            facts.hosts.get(*name).and_then(Host::up).is_some_and(|host| host.files.contains_key(file))
        };
        let primary = match roles::primary(&self.inventory, facts) {
            Primary::One(name) => Some(name),
            _ => None,
        };
        let Some(node) = primary.iter().chain(facts.hosts.keys()).find(has) else { return Ok(None) };
        let command = Command::new("read a secret", script::READ_SECRET).arg(file);
        Ok(Some(self.run(node, &command, &|_| {}).await?.stdout))
    }

    /// Remembers that the cluster exists, and the newest configuration of its members.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn take_back_memory(&self, facts: &Facts, identifier: String) -> Result<u64> {
        let files = Configuration::newest(&self.inventory, facts).map(|it| it.generation);
        let guards = facts.hosts.values().filter_map(|host| host.up()?.guard.as_ref()?.generation);
        let newest = guards.chain(files).max().unwrap_or_default();
        self.state.remember(|memory| {
            memory.system_identifier = Some(identifier);
            memory.generation = memory.generation.max(newest);
        })?;
        Ok(newest)
    }

    /// Droplets that still show the host key of their user data, because the run that made them never replaced it: the
    /// next `up` does. Returns their names.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn take_back_exposed_keys(&self, facts: &Facts) -> Result<Vec<String>> {
        let mut exposed = Vec::new();
        if !matches!(self.inventory.provider, Provider::DigitalOcean(_)) {
            return Ok(exposed);
        }
        for node in &self.inventory.nodes {
            let Some(host) = facts.hosts.get(&node.name).and_then(Host::up) else { continue };
            let command = Command::new("look at user data", script::EXPOSED_KEY).limit(20);
            if self.run(&node.name, &command, &|_| {}).await?.stdout.trim() == "exposed" {
                self.exposed(node, &first_two_words(&host.host_key))?;
                exposed.push(node.name.clone());
            }
        }
        Ok(exposed)
    }
}
