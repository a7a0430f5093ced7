//! The key `backup`: where backups go, how often they are taken and how long they are kept.

use std::net::IpAddr;
use std::path::PathBuf;

use super::check::{Checker, is_host};
use super::shown::quoted;
use super::{Provider, file, units};

const DAY_S: u64 = 86_400;

/// Where backups go, how often they are taken and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub repository: Repository,
    /// The directory in the repository, with a slash in front: the cluster's name, unless the inventory says otherwise.
    pub folder: String,
    /// For how many days everything can be restored.
    pub keep_days: u64,
    /// A full backup is taken when the last one is this old, in seconds.
    pub full_every_s: u64,
    /// A differential backup is taken when the last backup is this old, in seconds.
    pub differential_every_s: u64,
    /// File with the passphrase that encrypts the repository; one is made if absent.
    pub passphrase_file: Option<PathBuf>,
    /// WAL is archived at least this often while there are writes, in seconds.
    pub archive_within_s: u64,
    /// A restore is proved beside a standby when the last proof is this old, in seconds; never if absent.
    pub prove_every_s: Option<u64>,
}

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repository {
    /// A bucket of DigitalOcean's, which the provider makes, with a key for it alone.
    Spaces {
        bucket: S3,
        /// Where this machine reaches it, if not where its name leads.
        address: Option<IpAddr>,
    },
    S3(S3),
    /// A directory that every data node has mounted at the same place.
    Path(String),
}

impl Repository {
    /// The bucket, if it is one.
    pub fn bucket(&self) -> Option<&S3> {
        match self {
            Repository::Spaces { bucket, .. } | Repository::S3(bucket) => Some(bucket),
            Repository::Path(_) => None,
        }
    }

    /// Whether `up` makes it, and its key, with the provider's API.
    pub fn is_made(&self) -> bool {
        matches!(self, Repository::Spaces { .. })
    }
}

/// A bucket of any server that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// Host name of the server; nodes check its certificate against it.
    pub host: String,
    pub port: u16,
    pub region: String,
    pub bucket: String,
    /// File with the CA of the server's certificate; the host's own CAs if absent.
    pub ca: Option<PathBuf>,
    /// Whether the bucket is part of the path rather than of the host name.
    pub path_style: bool,
    /// File with the access key, in the format of `~/.aws/credentials`; the environment if absent.
    pub credentials_file: Option<PathBuf>,
}

pub(super) fn check(
    c: &mut Checker,
    cluster: &str,
    provider: Option<&Provider>,
    raw: file::Backup,
) -> Option<Backup> {
    let repository = match (raw.spaces, raw.s3, raw.path) {
        (Some(spaces), None, None) => check_spaces(c, provider, spaces),
        (None, Some(s3), None) => check_s3(c, "backup.s3", s3).map(Repository::S3),
        (None, None, Some(path)) => check_path(c, path).map(Repository::Path),
        (None, None, None) => {
            let hint = "add `spaces:` or `s3:` with a bucket, or `path:` with a directory";
            c.wrong("backup", "names no repository", hint);
            None
        }
        _ => {
            c.wrong("backup", "names more than one repository", "keep one of `spaces`, `s3` and `path`");
            None
        }
    };
    let folder = raw.folder.map(|folder| {
        let name = folder.trim_matches('/').to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if name.is_empty()
            || !name.chars().all(plain)
            || name.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        {
            c.wrong(
                "backup.folder",
                format!("`{folder}` is not a valid directory name"),
                "use letters, digits, dashes and underscores, with slashes between directories",
            );
        }
        format!("/{name}")
    });
    let mut span = |key: &str, value: Option<file::Scalar>, default: u64, least: u64, most: u64| -> u64 {
        let Some(text) = value else { return default };
        let key = format!("backup.{key}");
        match units::span(&text.0) {
            Some(seconds) if (least..=most).contains(&seconds) => return seconds,
            Some(_) => c.wrong(
                key,
                format!("`{}` is out of range", text.0),
                format!("use {} to {}", units::span_text(least), units::span_text(most)),
            ),
            None => c.wrong(
                key,
                format!("`{}` is not a valid time", text.0),
                format!("use a whole number followed by min, h or d: {}", units::span_text(default)),
            ),
        }
        default
    };
    let full_every_s = span("full_every", raw.full_every, 7 * DAY_S, 3_600, 60 * DAY_S);
    let differential_every_s = span("differential_every", raw.differential_every, DAY_S, 600, 60 * DAY_S);
    let archive_within_s = span("archive_within", raw.archive_within, 60, 60, DAY_S);
    let keep_s = span("keep", raw.keep, 14 * DAY_S, DAY_S, 9_999 * DAY_S);
    let never = raw.prove_every.as_ref().is_some_and(|text| text.0 == "never");
    let prove_every_s = (!never).then(|| span("prove_every", raw.prove_every, 7 * DAY_S, 3_600, 60 * DAY_S));
    if differential_every_s > full_every_s {
        c.wrong(
            "backup.differential_every",
            format!("is longer than full_every ({})", units::span_text(full_every_s)),
            "differential backups stand between full ones: make it shorter",
        );
    }
    if keep_s % DAY_S != 0 {
        c.wrong("backup.keep", "is not a whole number of days", "for instance 14d");
    }
    Some(Backup {
        repository: repository?,
        folder: folder.unwrap_or_else(|| format!("/{cluster}")),
        keep_days: keep_s / DAY_S,
        full_every_s,
        differential_every_s,
        passphrase_file: raw.passphrase_file.as_deref().map(|path| c.path(path)),
        archive_within_s,
        prove_every_s,
    })
}

fn check_path(c: &mut Checker, path: String) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !path.starts_with('/') || path.len() < 2 || !path.chars().all(plain) || path.contains("/.") {
        c.wrong(
            "backup.path",
            format!("`{path}` is not a valid absolute path"),
            "name a directory that every data node has mounted at the same place, for instance /mnt/backup",
        );
        return None;
    }
    if path.starts_with("/var/lib/postgresql") {
        c.wrong(
            "backup.path",
            "is on the disk that is backed up",
            "name a mounted directory of another machine: a backup must survive the loss of every node",
        );
        return None;
    }
    Some(path.trim_end_matches('/').to_owned())
}

fn check_spaces(c: &mut Checker, provider: Option<&Provider>, raw: file::Spaces) -> Option<Repository> {
    let Some(Provider::DigitalOcean(provider)) = provider else {
        if provider.is_some() {
            let hint = "make a bucket and a key, and name them under `backup.s3`";
            c.wrong("backup.spaces", "needs the API of provider.digitalocean", hint);
        }
        return None;
    };
    let region = raw.region.unwrap_or_else(|| provider.region.clone());
    let address = raw.address.and_then(|text| {
        let parsed = text.parse::<IpAddr>().ok();
        if parsed.is_none() {
            let hint = "use the address at which this machine reaches the endpoint, or leave it out";
            c.wrong("backup.spaces.address", format!("`{text}` is not an IP address"), hint);
        }
        parsed
    });
    let bucket = file::S3 {
        endpoint: raw.endpoint.unwrap_or_else(|| format!("https://{region}.digitaloceanspaces.com")),
        region,
        bucket: raw.bucket,
        ca: raw.ca,
        path_style: true,
        credentials_file: None,
    };
    if bucket.bucket.contains('.') {
        let hint = "use letters, digits and dashes: no certificate of Spaces covers a dot";
        c.wrong("backup.spaces.bucket", format!("`{}` has a dot", bucket.bucket), hint);
    }
    Some(Repository::Spaces { bucket: check_s3(c, "backup.spaces", bucket)?, address })
}

fn check_s3(c: &mut Checker, above: &str, raw: file::S3) -> Option<S3> {
    let key = |name: &str| format!("{above}.{name}");
    let mut sound = true;
    let mut wrong = |c: &mut Checker, name: &str, message: String, hint: &str| {
        sound = false;
        c.wrong(key(name), message, hint);
    };
    let endpoint = raw.endpoint.trim_end_matches('/');
    let place = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port > 0)),
        None => (place, Some(443)),
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if endpoint.starts_with("http://") {
        wrong(
            c,
            "endpoint",
            format!("{} is not encrypted", quoted(endpoint)),
            "use https://: pgBackRest speaks S3 over TLS alone",
        );
    } else if port.is_none() || !is_host(host) || is_address {
        let hint = "use the server's host name, for instance https://s3.eu-central-1.amazonaws.com; pgBackRest checks \
                    certificates against names, not addresses";
        wrong(c, "endpoint", format!("{} is not a valid endpoint", quoted(endpoint)), hint);
    }
    let is_word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if !is_word(&raw.region) {
        wrong(c, "region", format!("`{}` is not a valid region", raw.region), "for instance us-east-1");
    }
    if !is_bucket(&raw.bucket) {
        let hint = "use 3 to 63 lower-case letters, digits, dashes and dots";
        wrong(c, "bucket", format!("`{}` is not a valid bucket name", raw.bucket), hint);
    }
    sound.then(|| S3 {
        host: host.to_owned(),
        port: port.unwrap_or(443),
        region: raw.region,
        bucket: raw.bucket,
        ca: raw.ca.as_deref().map(|path| c.path(path)),
        path_style: raw.path_style,
        credentials_file: raw.credentials_file.as_deref().map(|path| c.path(path)),
    })
}

fn is_bucket(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.starts_with(edge)
        && name.ends_with(edge)
        && name.chars().all(|c| edge(c) || c == '-' || c == '.')
}
