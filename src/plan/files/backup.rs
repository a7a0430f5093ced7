//! The files of a data node whose cluster is backed up.

use cluster_contract::backup::{BackupConfig, BackupStatus};
use cluster_contract::paths;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{Content, File, sha256};
use crate::facts::HostFacts;
use crate::inventory::{Backup, Inventory, Repository};
use crate::plan::{Means, RestoreSource};
use crate::templates::Template;

/// The unit of the service that takes backups.
pub const BACKUP_UNIT: &str = "/etc/systemd/system/cluster-backup.service";

/// What `files` may want besides, for the probe.
pub(super) fn paths() -> Vec<(String, bool)> {
    vec![
        (paths::BACKUP.into(), false),
        (paths::PGBACKREST_CONF.into(), true),
        (paths::BACKUP_CA.into(), false),
        (BACKUP_UNIT.into(), false),
        (paths::BACKUP_STATUS.into(), false),
        (paths::PROOFS.into(), false),
    ]
}

/// How a repository is opened.
#[derive(Clone, Debug)]
pub struct BackupMeans {
    /// Encrypts everything in it.
    pub passphrase: SecretString,
    /// Access key of a bucket: its id and its secret.
    pub key: Option<(String, SecretString)>,
    /// The CA of its certificate, in PEM.
    pub ca: Option<String>,
}

impl BackupMeans {
    /// Whether there is a bucket, and no key to it yet.
    pub fn lacks_key(&self, backup: &Backup) -> bool {
        self.key.is_none() && backup.repository.bucket().is_some()
    }

    /// Whether the repository has refused a node that opens it with the present key, and another key would do.
    pub fn is_refused(&self, inventory: &Inventory, backup: &Backup, host: &HostFacts) -> bool {
        let Some(conf) = host.files.get(paths::PGBACKREST_CONF) else { return false };
        let present = pgbackrest(inventory, backup, self, paths::BACKUP_CA);
        let status = host.files.get(paths::BACKUP_STATUS).and_then(|file| file.content.as_deref());
        let status = status.and_then(|text| serde_json::from_str::<BackupStatus>(text).ok());
        let Some(status) = status.filter(|status| status.leads) else { return false };
        // What was refused before the file was written is answered by it.
        let is_later = |at: i64| at as f64 > conf.modified;
        status.refusals().any(|it| it.is_for_want_of_a_key() && is_later(it.at))
            && conf.sha256 == sha256(present.as_bytes())
    }
}

pub(super) fn files(inventory: &Inventory, means: &Means) -> Vec<File> {
    let (Some(backup), Some(backup_means)) = (&inventory.backup, &means.backup) else { return Vec::new() };
    let plain = |path: &str, text: String| File {
        path: path.into(),
        mode: "644",
        owner: "root:root",
        content: Some(Content::Plain(text)),
    };
    let mut config = serde_json::to_string_pretty(&config(inventory, backup)).expect("plain data");
    config.push('\n');
    let unit = Template::BackupService
        .render(&json!({"cluster": inventory.cluster, "version": inventory.postgresql.version}));
    let mut files = vec![File {
        path: paths::PGBACKREST_CONF.into(),
        mode: "640",
        owner: "root:postgres",
        // Without its key while there is none yet.
        content: (!backup_means.lacks_key(backup))
            .then(|| Content::Secret(pgbackrest(inventory, backup, backup_means, paths::BACKUP_CA).into())),
    }];
    files.extend(backup_means.ca.clone().map(|ca| plain(paths::BACKUP_CA, ca)));
    files.push(plain(BACKUP_UNIT, unit));
    // Last: from here on WAL is archived.
    files.push(plain(paths::BACKUP, config));
    files
}

fn config(inventory: &Inventory, backup: &Backup) -> BackupConfig {
    BackupConfig {
        stanza: inventory.cluster.clone(),
        full_every_s: backup.full_every_s,
        differential_every_s: backup.differential_every_s,
        archive_within_s: backup.archive_within_s,
        prove_every_s: backup.prove_every_s,
    }
}

/// The cluster's repository, for another cluster to be restored from; none while there is no key to it.
pub fn source(inventory: &Inventory, means: &BackupMeans) -> Option<RestoreSource> {
    let backup = inventory.backup.as_ref().filter(|backup| !means.lacks_key(backup))?;
    Some(RestoreSource {
        cluster: inventory.cluster.clone(),
        config: pgbackrest(inventory, backup, means, RestoreSource::CA).into(),
        ca: means.ca.clone(),
    })
}

/// pgBackRest's configuration, with the repository's CA at the path `ca`.
fn pgbackrest(inventory: &Inventory, backup: &Backup, means: &BackupMeans, ca: &str) -> String {
    let (s3, folder) = match &backup.repository {
        Repository::Path(path) => (None, format!("{path}{}", backup.folder)),
        Repository::Spaces { bucket: s3, .. } | Repository::S3(s3) => {
            let (access_key, secret_key) = means.key.clone().unwrap_or_default();
            let s3 = json!({
                "bucket": s3.bucket, "host": s3.host, "port": s3.port, "region": s3.region,
                "style": if s3.path_style { "path" } else { "host" },
                "access_key": access_key, "secret_key": secret_key.expose_secret(),
                "ca": means.ca.as_ref().map(|_| ca),
            });
            (Some(s3), backup.folder.clone())
        }
    };
    Template::Pgbackrest.render(&json!({
        "cluster": inventory.cluster, "version": inventory.postgresql.version,
        "port": inventory.postgresql.port, "s3": s3, "folder": folder, "keep_days": backup.keep_days,
        "passphrase": means.passphrase.expose_secret(),
    }))
}
