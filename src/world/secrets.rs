//! Where tokens and passwords come from. None of them is ever printed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use cluster_contract::paths;
use secrecy::{ExposeSecret, SecretString};

use super::World;
use crate::error::Advice;
use crate::facts::Facts;
use crate::inventory::{DigitalOcean, Inventory, Provider};
use crate::plan::Means;
use crate::provider::Token;
use crate::remote::{Command, Remote as _};
use crate::scram::verifies;
use crate::script;

/// The operator's token. A file that the inventory names comes first, so that a token that happens to be in the
/// environment is not sent to a lab.
pub(super) fn operator_token(provider: &DigitalOcean) -> Result<Token> {
    if let Some(path) = &provider.token_file {
        let key = "provider.digitalocean.token_file";
        let token = read(path, key, TOKEN_HINT)?;
        return Ok(Token::from_place(token, format!("{} ({key})", path.display())));
    }
    let variables = ["DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"];
    let token = variables.iter().find_map(|name| Some(Token::from_place(from_environment(name)?, *name)));
    token.ok_or_else(|| {
        Advice::refused("no DigitalOcean token is set")
            .hint("export DIGITALOCEAN_TOKEN, or name a file as provider.digitalocean.token_file")
            .into()
    })
}

pub(super) fn from_environment(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().filter(|it| !it.trim().is_empty()).map(|it| it.trim().into())
}

/// What to do about a token's file that is not there.
const TOKEN_HINT: &str =
    "write the token to that file; a lab's tokens exist only while it runs (`cluster lab start`)";

pub(super) fn read(path: &Path, key: &str, hint: &str) -> Result<SecretString> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Advice::refused(format!("{key}: cannot read {}: {error}", path.display())).hint(hint)
    })?;
    if text.trim().is_empty() {
        return Err(Advice::refused(format!("{key}: {} is empty", path.display())).into());
    }
    Ok(text.trim().into())
}

/// Files with secrets in them that everybody on this machine can read, each with what to do about it.
pub(super) fn open_to_everybody(inventory: &Inventory) -> Vec<String> {
    let mut files = Vec::new();
    match &inventory.provider {
        Provider::DigitalOcean(it) => {
            files.push((it.token_file.as_deref(), "the operator's token"));
            files.push((it.failover_token_file.as_deref(), "the nodes' token"));
        }
        Provider::Existing(it) => {
            let token = it.floating_ip.as_ref().and_then(|it| it.failover_token_file.as_deref());
            files.push((token, "the nodes' token"));
        }
    }
    if let Some(backup) = &inventory.backup {
        files.push((backup.passphrase_file.as_deref(), "the passphrase of the backups"));
        if let Some(s3) = backup.repository.bucket() {
            files.push((s3.credentials_file.as_deref(), "the key of the backups' bucket"));
        }
    }
    if inventory.users.iter().any(|user| user.password.is_some()) {
        files.extend(inventory.password_files.iter().map(|file| (Some(file.as_path()), "passwords")));
    }
    let warn = |(path, what): (Option<&Path>, &str)| {
        let path = path?;
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        let path = path.display();
        (mode & 0o004 != 0).then(|| {
            format!("{path} contains {what} and is readable by every user of this machine: chmod 600 {path}")
        })
    };
    files.into_iter().filter_map(warn).collect()
}

impl World {
    /// What a plan needs beside the inventory and the facts. Passwords that are needed and not there are made, and
    /// kept with mode 0600; repmgr's is taken back from a node if this machine has lost it.
    ///
    /// # Errors
    /// When a token is missing, or the state cannot be written.
    pub async fn means(&self, facts: &Facts) -> Result<Means> {
        let repmgr_password = self.kept_or_a_nodes("repmgr", facts, paths::PGPASS, repmgr_password).await?;
        let cluster_key = self.kept_or_a_nodes("key", facts, paths::KEY, whole).await?;
        let mut user_passwords = BTreeMap::new();
        for user in &self.inventory.users {
            let name = &user.name;
            let roles = facts.hosts.values().filter_map(|host| host.up()?.postgres.as_ref());
            let in_force = roles.flat_map(|postgres| &postgres.roles).find(|role| role.name == *name);
            let in_force = in_force.and_then(|role| role.password.as_deref());
            let leave = |why: &str| {
                self.warn_once(format!(
                    "the password of `{name}` {why}; it is left unchanged (`cluster user password {name}` sets a new one)"
                ));
            };
            let password =
                match (&user.password, self.state.kept_password(&format!("user:{name}"))?, in_force) {
                    (Some(declared), _, _) => declared.clone(),
                    // Somebody gave applications another one. Restored data has the one of then.
                    (None, Some(kept), Some(verifier))
                        if !self.has_restored() && !verifies(verifier, &kept) =>
                    {
                        leave("was changed elsewhere");
                        continue;
                    }
                    (None, Some(kept), _) => kept,
                    (None, None, Some(_)) => {
                        leave("is not stored on this machine");
                        continue;
                    }
                    (None, None, None) => self.state.password(&format!("user:{name}"))?,
                };
            user_passwords.insert(user.name.clone(), password);
        }
        Ok(Means {
            repmgr_password,
            cluster_key,
            check_password: self.kept_or_a_nodes("cluster", facts, paths::CHECK_PASSWORD, whole).await?,
            user_passwords,
            failover_token: self.failover_token(facts).await?,
            api_url: self.nodes_api_url(),
            backup: self.backup_means(facts).await?,
            restore: None,
        })
    }

    /// The secret kept under `name`; if this machine has lost it, what `file` on a node says; a new one otherwise.
    pub(super) async fn kept_or_a_nodes(
        &self,
        name: &str,
        facts: &Facts,
        file: &str,
        extract: fn(&str) -> Option<&str>,
    ) -> Result<SecretString> {
        if let Some(kept) = self.state.kept_password(name)? {
            return Ok(kept);
        }
        for (node, host) in &facts.hosts {
            if host.up().is_some_and(|host| host.files.contains_key(file)) {
                let command = Command::new("read a secret", script::READ_SECRET).arg(file);
                let output = self.connect(node).await?.run(&command, &|_| {}).await?;
                if let Some(found) = extract(&output.stdout) {
                    let found = SecretString::from(found);
                    self.state.keep_password(name, &found)?;
                    return Ok(found);
                }
            }
        }
        self.state.password(name)
    }

    /// The token with which nodes move the floating IP. It is not the operator's: that one never reaches a node. Where
    /// nobody names one, the nodes keep what they have.
    async fn failover_token(&self, facts: &Facts) -> Result<Option<SecretString>> {
        let (file, key) = match &self.inventory.provider {
            Provider::DigitalOcean(it) if it.floating_ip => {
                (it.failover_token_file.as_deref(), "provider.digitalocean.failover_token_file")
            }
            Provider::Existing(it) => match &it.floating_ip {
                Some(it) => {
                    (it.failover_token_file.as_deref(), "provider.existing.floating_ip.failover_token_file")
                }
                None => return Ok(None),
            },
            Provider::DigitalOcean(_) => return Ok(None),
        };
        let token = match file {
            Some(path) => read(path, key, TOKEN_HINT)?,
            None => self.named_or_the_nodes_token(facts).await?.ok_or_else(|| {
                Advice::refused("DIGITALOCEAN_FAILOVER_TOKEN is not set: the nodes need that token to move the floating IP").hint(format!(
                    "create a second token with the scope reserved_ip:update (and those it requires) and export \
                     DIGITALOCEAN_FAILOVER_TOKEN, or name a file as {key}; without a floating IP no token is needed"
                ))
            })?,
        };
        if let Provider::DigitalOcean(provider) = &self.inventory.provider
            && operator_token(provider)?.secret().expose_secret() == token.expose_secret()
        {
            return Err(Advice::refused("the nodes' token is the same as the operator's")
                .hint("create a second token with the scope reserved_ip:update: a token stolen from a node must not be able to delete droplets")
                .into());
        }
        Ok(Some(token))
    }

    /// It is not kept on this machine: a token that was replaced elsewhere must not come back from here.
    async fn named_or_the_nodes_token(&self, facts: &Facts) -> Result<Option<SecretString>> {
        if let Some(named) = from_environment("DIGITALOCEAN_FAILOVER_TOKEN") {
            return Ok(Some(named));
        }
        let text = self.secret_file(facts, paths::FAILOVER_TOKEN).await?;
        Ok(text.as_deref().and_then(whole).map(SecretString::from))
    }
}

pub(super) fn repmgr_password(pgpass: &str) -> Option<&str> {
    let line = pgpass.lines().find(|line| line.contains(":repmgr:") && !line.starts_with('#'))?;
    line.rsplit(':').next()
}

pub(super) fn whole(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_secrets_that_everybody_can_read_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let (token, file) = (directory.path().join("token"), directory.path().join("demo.yaml"));
        std::fs::write(&token, "secret").unwrap();
        let text = format!(
            "cluster: demo\nprovider:\n  digitalocean: {{region: fra1, size: s-1vcpu-1gb, image: debian-12-x64, \
             token_file: {}}}\npostgresql: {{version: 15}}\nusers:\n  - {{name: app, password: 'long enough to pass'}}\n\
             nodes:\n  - {{name: pg1, id: 1, role: primary}}\n  - {{name: pg2, id: 2, role: standby}}\n  \
             - {{name: pg3, id: 3, role: witness}}\n",
            token.display()
        );
        std::fs::write(&file, &text).unwrap();
        let warnings = |mode| {
            for path in [&token, &file] {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            open_to_everybody(&Inventory::read(&file).unwrap())
        };
        assert_eq!(warnings(0o640), [""; 0]);
        let told = warnings(0o644);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].ends_with(&format!("chmod 600 {}", token.display())), "{told:?}");
        assert!(told[1].contains("demo.yaml contains passwords"), "{told:?}");
    }
}
