//! How the backup repository is opened: its passphrase, and the key of its bucket.

use anyhow::Result;
use cluster_contract::paths;
use secrecy::{ExposeSecret, SecretString};

use super::World;
use super::secrets::{from_environment, read};
use crate::error::Advice;
use crate::facts::Facts;
use crate::inventory::{Repository, S3};
use crate::plan::files::BackupMeans;
use crate::provider::Api;

/// Under which names this machine keeps them.
pub(super) const PASSPHRASE: &str = "backup";
/// Where the operator may put it for a restore on a new machine.
const VARIABLE: &str = "CLUSTER_BACKUP_PASSPHRASE";
pub(super) const ACCESS_KEY: &str = "backup-access-key";
pub(super) const SECRET_KEY: &str = "backup-secret-key";
const PASSPHRASE_HINT: &str = "write the passphrase to that file";

impl World {
    /// What opens the repository; none where the inventory names none. A passphrase that is needed and not there is made.
    ///
    /// # Errors
    /// When the bucket's key or its CA is missing.
    pub async fn backup_means(&self, facts: &Facts) -> Result<Option<BackupMeans>> {
        let Some(backup) = &self.inventory.backup else { return Ok(None) };
        let passphrase = match &backup.passphrase_file {
            Some(path) => read(path, "backup.passphrase_file", PASSPHRASE_HINT)?,
            None => self.kept_or_a_nodes(PASSPHRASE, facts, paths::PGBACKREST_CONF, passphrase).await?,
        };
        let (key, ca) = match &backup.repository {
            Repository::Path(_) => (None, None),
            Repository::S3(s3) => (Some(self.bucket_key(s3)?), ca(s3)?),
            Repository::Spaces { bucket, .. } => (self.kept_bucket_key()?, ca(bucket)?),
        };
        Ok(Some(BackupMeans { passphrase, key, ca }))
    }

    /// Makes sure that the passphrase of a repository that exists is known: a new one would open nothing.
    ///
    /// # Errors
    /// When it is not.
    pub fn require_passphrase(&self) -> Result<()> {
        if self.kept_passphrase()?.is_some() {
            return Ok(());
        }
        let Some(given) = from_environment(VARIABLE) else {
            return Err(Advice::refused("the repository's passphrase is not known on this machine")
                .hint(format!(
                    "export {VARIABLE}, or name a file as backup.passphrase_file: `cluster backup passphrase` has \
                     printed it where the cluster was made"
                ))
                .into());
        };
        self.state.keep_password(PASSPHRASE, &given)
    }

    /// The passphrase, as this machine knows it.
    ///
    /// # Errors
    /// When the state, or the file that the inventory names, cannot be read.
    pub fn kept_passphrase(&self) -> Result<Option<SecretString>> {
        let named = self.inventory.backup.as_ref().and_then(|backup| backup.passphrase_file.as_ref());
        match named {
            Some(path) => Ok(Some(read(path, "backup.passphrase_file", PASSPHRASE_HINT)?)),
            None => self.state.kept_password(PASSPHRASE),
        }
    }

    /// What the operator names now, else what was named before.
    fn bucket_key(&self, s3: &S3) -> Result<(String, SecretString)> {
        let named = match &s3.credentials_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Advice::refused(format!(
                        "backup.s3.credentials_file: cannot read {}: {error}",
                        path.display()
                    ))
                })?;
                Some(credentials(&text).ok_or_else(|| {
                    Advice::refused(format!("backup.s3.credentials_file: {} has no key", path.display()))
                        .hint("write aws_access_key_id = … and aws_secret_access_key = … below [default]")
                })?)
            }
            None => from_environment("AWS_ACCESS_KEY_ID").zip(from_environment("AWS_SECRET_ACCESS_KEY")),
        };
        if let Some((id, secret)) = named {
            if self
                .state
                .kept_password(ACCESS_KEY)?
                .is_none_or(|kept| kept.expose_secret() != id.expose_secret())
            {
                self.state.keep_password(ACCESS_KEY, &id)?;
            }
            if self
                .state
                .kept_password(SECRET_KEY)?
                .is_none_or(|kept| kept.expose_secret() != secret.expose_secret())
            {
                self.state.keep_password(SECRET_KEY, &secret)?;
            }
            return Ok((id.expose_secret().to_owned(), secret));
        }
        self.kept_bucket_key()?.ok_or_else(|| {
            Advice::refused(format!("the key of the bucket `{}` is not set", s3.bucket))
                .hint(
                    "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file as \
                     backup.s3.credentials_file",
                )
                .into()
        })
    }

    fn kept_bucket_key(&self) -> Result<Option<(String, SecretString)>> {
        let kept = self.state.kept_password(ACCESS_KEY)?.zip(self.state.kept_password(SECRET_KEY)?);
        Ok(kept.map(|(id, secret)| (id.expose_secret().to_owned(), secret)))
    }

    /// Forgets the cluster. Its backups are not deleted with it, and nothing else opens them than their passphrase: that
    /// stays.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn forget(&self) -> Result<()> {
        if self.state.forget(PASSPHRASE)? {
            self.report.warning(format!(
                "the cluster's backups are kept, and their passphrase stays in {}",
                self.state.path("secrets.json").display()
            ));
        }
        Ok(())
    }

    /// Deletes the keys of a bucket that the provider has made, but for the one in use, if there is to be one.
    ///
    /// # Errors
    /// The provider's.
    pub async fn retire_repository_keys(&self, api: &Api, kept: Option<&str>) -> Result<()> {
        match self.inventory.backup.as_ref().map(|backup| &backup.repository) {
            Some(Repository::Spaces { .. }) => api.retire_repository_keys(kept).await,
            _ => Ok(()),
        }
    }

    /// Deletes all keys of that bucket but the one that this machine knows.
    ///
    /// # Errors
    /// The provider's.
    pub async fn retire_old_repository_keys(&self) -> Result<()> {
        let (Some(api), Some((id, _))) = (&self.provider, self.kept_bucket_key()?) else { return Ok(()) };
        self.retire_repository_keys(api, Some(&id)).await
    }

    /// Has the provider make the bucket and a key for it, and keeps the key. Earlier keys go on working until the nodes
    /// have this one.
    ///
    /// # Errors
    /// When the inventory names no such bucket, or the provider refuses.
    pub async fn make_repository(&self) -> Result<()> {
        let named = self.inventory.backup.as_ref().map(|backup| &backup.repository);
        let (Some(api), Some(Repository::Spaces { bucket, address })) = (&self.provider, named) else {
            anyhow::bail!("this inventory names no bucket that a provider makes");
        };
        let (id, secret) = api.ensure_repository(bucket, ca(bucket)?, *address).await?;
        // The secret first: an id without one is no key.
        self.state.keep_password(SECRET_KEY, &secret)?;
        self.state.keep_password(ACCESS_KEY, &id.into())
    }
}

fn ca(s3: &S3) -> Result<Option<String>> {
    let Some(path) = &s3.ca else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Advice::refused(format!("backup.s3.ca: cannot read {}: {error}", path.display())))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(
            Advice::refused(format!("backup.s3.ca: {} has no certificate in PEM", path.display())).into()
        );
    }
    Ok(Some(text))
}

/// The first key in a file like `~/.aws/credentials`.
fn credentials(text: &str) -> Option<(SecretString, SecretString)> {
    let value = |wanted: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim() == wanted)?;
        Some(value.trim()).filter(|value| !value.is_empty()).map(SecretString::from)
    };
    value("aws_access_key_id").zip(value("aws_secret_access_key"))
}

pub(super) fn passphrase(conf: &str) -> Option<&str> {
    conf.lines().find_map(|line| line.strip_prefix("repo1-cipher-pass="))
}

pub(super) fn access_key(conf: &str) -> Option<&str> {
    conf.lines().find_map(|line| line.strip_prefix("repo1-s3-key="))
}

pub(super) fn secret_key(conf: &str) -> Option<&str> {
    conf.lines().find_map(|line| line.strip_prefix("repo1-s3-key-secret="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_for_other_tools() {
        let text = "# mine\n[default]\naws_access_key_id = AKIA\naws_secret_access_key=a/b+c=\nregion=x\n";
        let (id, secret) = credentials(text).unwrap();
        assert_eq!((id.expose_secret(), secret.expose_secret()), ("AKIA", "a/b+c="));
        assert!(credentials("[default]\naws_access_key_id = AKIA\n").is_none());
    }

    #[test]
    fn the_passphrase_is_found_again_on_a_node() {
        assert_eq!(passphrase("[global]\nrepo1-cipher-pass=x=y\nrepo1-bundle=y\n"), Some("x=y"));
    }
}
