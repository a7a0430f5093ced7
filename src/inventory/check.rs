//! Validates the inventory. Every mistake is collected, so one run shows them all.

mod extensions;
mod nodes;

pub(super) use nodes::is_host;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cluster_contract::timing::Timing;
use ipnet::IpNet;
use secrecy::SecretString;

use super::{
    Clients, Database, DigitalOcean, Existing, ExistingFloatingIp, Failover, Inventory, Postgresql, Problem,
    Provider, Role, User, VERSIONS, file, reach, units,
};
use crate::settings;

pub(super) struct Checker {
    problems: Vec<Problem>,
    warnings: Vec<String>,
    directory: PathBuf,
}

impl Checker {
    pub(super) fn wrong(
        &mut self,
        key: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = hint.into();
        let hint = (!hint.is_empty()).then_some(hint);
        self.problems.push(Problem {
            file: None,
            key: key.into(),
            line: None,
            message: message.into(),
            hint,
        });
    }

    /// `~` is the home directory; anything else that is relative, is relative to the inventory.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        if let Ok(rest) = path.strip_prefix("~")
            && let Some(home) = std::env::var_os("HOME")
        {
            return Path::new(&home).join(rest);
        }
        self.directory.join(path)
    }
}

/// Where what an inventory names is looked for: its directory, or itself where it is one.
pub(super) fn beside(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) }
}

pub(super) fn check(path: &Path, raw: file::File) -> Result<Inventory, Vec<Problem>> {
    let directory = beside(path).to_owned();
    let mut checker = Checker { problems: Vec::new(), warnings: Vec::new(), directory };
    let c = &mut checker;

    if !is_name(&raw.cluster, 30) {
        c.wrong(
            "cluster",
            format!("`{}` is not a valid name", raw.cluster),
            "use at most 30 lower-case letters, digits and dashes, beginning with a letter; the name becomes a tag",
        );
    }
    let postgresql = postgresql(c, raw.postgresql, raw.nodes.len());
    let provider = provider(c, raw.provider);
    let nodes = nodes::check(c, raw.nodes, provider.as_ref());
    if let Some(Provider::Existing(existing)) = &provider
        && existing.floating_ip.is_some()
    {
        for (index, node) in nodes.iter().enumerate() {
            if node.role != Role::Witness && node.droplet_id.is_none() {
                c.wrong(
                    format!("nodes[{index}].droplet_id"),
                    format!("is missing; without it the floating IP cannot move to {}", node.name),
                    "set it to the droplet's id, as `doctl compute droplet list` shows it, or leave `floating_ip` out",
                );
            }
        }
    }
    let failover = failover(c, &raw.failover, nodes.len());
    let backup =
        raw.backup.and_then(|backup| super::backup::check(c, &raw.cluster, provider.as_ref(), backup));
    let users = users(c, raw.users, raw.client_tls);
    let databases = databases(c, raw.databases, &users);
    let extensions = extensions::check(c, raw.extensions, &databases, postgresql.version);
    let clients = clients(c, &raw.clients, raw.client_tls);

    match provider {
        Some(provider) if checker.problems.is_empty() => Ok(Inventory {
            file: path.to_owned(),
            password_files: vec![path.to_owned()],
            cluster: raw.cluster,
            provider,
            postgresql,
            failover,
            backup,
            databases,
            extensions,
            users,
            clients,
            nodes,
            warnings: checker.warnings,
        }),
        _ => Err(checker.problems),
    }
}

fn postgresql(c: &mut Checker, raw: file::Postgresql, nodes: usize) -> Postgresql {
    let version = raw.version.0;
    if !VERSIONS.contains(&version) {
        c.wrong(
            "postgresql.version",
            format!("PostgreSQL {version} is not supported"),
            format!("use {} to {}", VERSIONS.start(), VERSIONS.end()),
        );
    }
    let port = raw.port.map_or(5432, |port| port.0);
    if port < 1024 {
        c.wrong(
            "postgresql.port",
            format!("{port} is a privileged port"),
            "use 1024 or higher; 5432 is the usual port",
        );
    }
    let mut settings = BTreeMap::new();
    for (name, value) in raw.settings {
        let key = format!("postgresql.settings.{name}");
        if name.is_empty()
            || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')
        {
            c.wrong(&key, "is not a valid setting name", "use lower-case letters, digits and underscores");
        } else if VERSIONS.contains(&version)
            && let Some((message, hint)) = settings::refusal(&name, &value.0, version, nodes)
        {
            c.wrong(&key, message, hint);
        } else if value.0.contains(['\n', '\0']) {
            c.wrong(&key, "contains a line break", "write the value on one line");
        } else {
            settings.insert(name, value.0);
        }
    }
    Postgresql { version, port, tune: raw.tune, settings }
}

/// A standby that streams is always a little behind: with a limit below this there would be no failover under load.
const LEAST_LAG_LIMIT: u64 = 1 << 20;

fn failover(c: &mut Checker, raw: &file::Failover, nodes: usize) -> Failover {
    let mut failover = Failover::default();
    if let Some(text) = &raw.lease {
        let key = "failover.lease";
        match units::time(&text.0) {
            None => c.wrong(
                key,
                format!("`{}` is not a valid time", text.0),
                format!(
                    "use a whole number followed by ms, s or min: {}",
                    units::time_text(Failover::default().lease_ms)
                ),
            ),
            Some(lease) => {
                failover.lease_ms = lease;
                if let Err(error) = Timing::new(lease, failover.lag_limit_bytes, nodes) {
                    c.wrong(key, error.to_string(), lease_hint(nodes));
                }
            }
        }
    }
    if let Some(text) = &raw.lag_limit {
        let key = "failover.lag_limit";
        match units::size(&text.0) {
            None => {
                c.wrong(
                    key,
                    format!("`{}` is not a valid size", text.0),
                    format!(
                        "use a whole number followed by kB, MB or GB: {}",
                        units::size_text(Failover::default().lag_limit_bytes)
                    ),
                );
            }
            Some(limit) if limit < LEAST_LAG_LIMIT => c.wrong(
                key,
                format!("{} is too low: no standby could take over from a primary under load", text.0),
                format!(
                    "use at least {}; the default is {}, one WAL segment",
                    units::size_text(LEAST_LAG_LIMIT),
                    units::size_text(Failover::default().lag_limit_bytes)
                ),
            ),
            Some(limit) => failover.lag_limit_bytes = limit,
        }
    }
    failover
}

/// The valid range, probed from the lease's own rules in whole seconds.
fn lease_hint(nodes: usize) -> String {
    let Failover { lease_ms, lag_limit_bytes } = Failover::default();
    let mut fit =
        (1..=600).map(|s| s * 1000).filter(|lease| Timing::new(*lease, lag_limit_bytes, nodes).is_ok());
    let least = fit.next().unwrap_or(lease_ms);
    let most = fit.next_back().unwrap_or(least);
    let [least, most, default] = [least, most, lease_ms].map(units::time_text);
    format!("use {least} to {most}; the default is {default}")
}

fn provider(c: &mut Checker, raw: file::Provider) -> Option<Provider> {
    match (raw.digitalocean, raw.existing) {
        (Some(_), Some(_)) => {
            c.wrong("provider", "has two providers", "keep one of `digitalocean` and `existing`");
            None
        }
        (None, None) => {
            c.wrong("provider", "has no provider", "add `digitalocean:` or `existing:` under it");
            None
        }
        (Some(raw), None) => Some(Provider::DigitalOcean(Box::new(digitalocean(c, raw)))),
        (None, Some(raw)) => Some(Provider::Existing(existing(c, raw))),
    }
}

/// What droplets are made from unless the inventory says otherwise: the newest stable Debian.
const IMAGE: &str = "debian-13-x64";

fn slug(c: &mut Checker, key: String, value: &str) {
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        c.wrong(
            key,
            format!("`{value}` is not a valid slug"),
            "for instance fra1, s-1vcpu-1gb or debian-13-x64",
        );
    }
}

fn digitalocean(c: &mut Checker, raw: file::DigitalOcean) -> DigitalOcean {
    let image = raw.image.unwrap_or_else(|| IMAGE.to_owned());
    for (key, value) in [("region", &raw.region), ("size", &raw.size), ("image", &image)] {
        slug(c, format!("provider.digitalocean.{key}"), value);
    }
    if let Some(url) = &raw.api_url {
        api_url(c, "provider.digitalocean.api_url", url);
    }
    if let Some(vpc) = &raw.vpc
        && !(vpc.len() == 36 && vpc.chars().all(|c| c.is_ascii_hexdigit() || c == '-'))
    {
        c.wrong(
            "provider.digitalocean.vpc",
            format!("`{vpc}` is not a VPC id"),
            "use the UUID that `doctl vpcs list` shows",
        );
    }
    DigitalOcean {
        token_file: raw.token_file.as_deref().map(|path| c.path(path)),
        failover_token_file: raw.failover_token_file.as_deref().map(|path| c.path(path)),
        ssh_key: private_key(c, "provider.digitalocean.ssh_key", raw.ssh_key.as_deref()),
        api_url: raw.api_url,
        region: raw.region,
        size: raw.size,
        image,
        resize_disk: raw.resize_disk,
        vpc: raw.vpc,
        floating_ip: raw.floating_ip,
    }
}

fn existing(c: &mut Checker, raw: file::Existing) -> Existing {
    let reach = reach::of_all(c, &raw);
    let floating_ip = raw.floating_ip.and_then(|raw| {
        if let Some(url) = &raw.api_url {
            api_url(c, "provider.existing.floating_ip.api_url", url);
        }
        let failover_token_file = raw.failover_token_file.as_deref().map(|path| c.path(path));
        let Ok(address) = raw.address.parse() else {
            c.wrong(
                "provider.existing.floating_ip.address",
                format!("`{}` is not an IP address", raw.address),
                "use the floating IP as shown in the control panel",
            );
            return None;
        };
        Some(ExistingFloatingIp { address, api_url: raw.api_url, failover_token_file })
    });
    let ssh_user = raw.ssh_user.unwrap_or_else(|| "root".into());
    user(c, "provider.existing.ssh_user", &ssh_user);
    Existing {
        ssh_user,
        ssh_key: private_key(c, "provider.existing.ssh_key", raw.ssh_key.as_deref()),
        reach,
        floating_ip,
    }
}

/// The client's own rule, told before anything is touched: a token must not travel in the clear.
fn api_url(c: &mut Checker, key: &str, url: &str) {
    if let Err(error) = cluster_cloud::check_base_url(url) {
        c.wrong(key, error.to_string(), error.hint().unwrap_or_default());
    }
}

/// Who logs in.
pub(super) fn user(c: &mut Checker, key: &str, name: &str) {
    if !is_name(&name.replace('_', "-"), 32) {
        c.wrong(key, format!("`{name}` is not a valid user name"), "for instance root, debian or ubuntu");
    }
}

pub(super) fn private_key(c: &mut Checker, key: &str, path: Option<&Path>) -> Option<PathBuf> {
    let path = c.path(path?);
    if path.to_string_lossy().contains("PRIVATE KEY-----") {
        c.wrong(key, "is a key, and not the name of a file", "write it into a file, and name that");
    } else if !path.is_file() {
        c.wrong(
            key,
            format!("{} does not exist", path.display()),
            "name a private key, or leave it out; `ssh-keygen -t ed25519` generates one",
        );
    } else if path.extension().is_some_and(|it| it == "pub") {
        c.wrong(key, "is the public half of a key", "name the private key, without `.pub`");
    }
    Some(path)
}

/// A shorter password can be guessed.
const PASSWORD_LENGTH: usize = 12;

fn users(c: &mut Checker, raw: Vec<file::User>, require_tls: bool) -> Vec<User> {
    let mut seen = BTreeSet::new();
    let mut users = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("users[{index}]");
        let superuser = raw.superuser || raw.name == "postgres";
        if !is_identifier(&raw.name) {
            c.wrong(format!("{key}.name"), format!("`{}` is not a valid role name", raw.name), NAME_HINT);
        }
        if ["repmgr", "cluster"].contains(&raw.name.as_str()) {
            c.wrong(
                format!("{key}.name"),
                format!("`{}` is reserved for this program", raw.name),
                "choose another name",
            );
        }
        if ["none", "public"].contains(&raw.name.as_str()) || raw.name.starts_with("pg_") {
            c.wrong(
                format!("{key}.name"),
                format!("`{}` is reserved by PostgreSQL", raw.name),
                "choose another name",
            );
        }
        if !seen.insert(raw.name.clone()) {
            c.wrong(
                format!("{key}.name"),
                format!("`{}` is declared twice", raw.name),
                "keep one of the two",
            );
        }
        if let Some(password) = &raw.password {
            if password.0.is_empty() || password.0.contains(char::is_control) {
                c.wrong(
                    format!("{key}.password"),
                    "is empty, or contains a line break or another control character",
                    "leave it out to have one generated",
                );
            } else if password.0.trim() != password.0 {
                c.wrong(
                    format!("{key}.password"),
                    "begins or ends with a space",
                    "some clients trim it; leave the password out to have one generated",
                );
            } else {
                let length = password.0.chars().count();
                // Whoever guesses or overhears it runs programs on the nodes as postgres.
                if superuser && length < PASSWORD_LENGTH {
                    c.wrong(
                        format!("{key}.password"),
                        format!("is too weak for a superuser ({length} characters)"),
                        format!(
                            "use at least {PASSWORD_LENGTH} characters, or leave it out to have one generated; an \
                             application needs no superuser: declare another user for it"
                        ),
                    );
                } else if length < PASSWORD_LENGTH {
                    c.warnings.push(format!(
                        "the password of `{}` is weak ({length} characters) and is in the inventory in plain text; \
                         leave it out to have a strong one generated and stored with mode 0600",
                        raw.name,
                    ));
                }
                if superuser && !require_tls {
                    c.wrong(
                        format!("{key}.password"),
                        "is a superuser's, and `client_tls: false` allows connections without TLS",
                        "remove `client_tls: false`, or leave the password out to have one generated; an application \
                         needs no superuser: declare another user for it",
                    );
                }
            }
        }
        users.push(User {
            superuser,
            name: raw.name,
            password: raw.password.map(|password| SecretString::from(password.0)),
        });
    }
    users
}

fn databases(c: &mut Checker, raw: Vec<file::Database>, users: &[User]) -> Vec<Database> {
    let mut seen = BTreeSet::new();
    let mut databases = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("databases[{index}]");
        if !is_identifier(&raw.name) {
            c.wrong(format!("{key}.name"), format!("`{}` is not a valid database name", raw.name), NAME_HINT);
        }
        if ["repmgr", "cluster", "template0", "template1"].contains(&raw.name.as_str()) {
            c.wrong(format!("{key}.name"), format!("`{}` is reserved", raw.name), "choose another name");
        }
        if !seen.insert(raw.name.clone()) {
            c.wrong(
                format!("{key}.name"),
                format!("`{}` is declared twice", raw.name),
                "keep one of the two",
            );
        }
        let owner =
            raw.owner.unwrap_or_else(|| users.first().map_or("postgres", |user| &user.name).to_owned());
        if owner != "postgres" && !users.iter().any(|user| user.name == owner) {
            c.wrong(
                format!("{key}.owner"),
                format!("no user `{owner}` is declared"),
                "add it under `users`, or leave the owner out",
            );
        }
        databases.push(Database { name: raw.name, owner });
    }
    databases
}

fn clients(c: &mut Checker, raw: &[String], require_tls: bool) -> Clients {
    let mut networks = Vec::new();
    let mut auto = raw.is_empty();
    for (index, text) in raw.iter().enumerate() {
        if text == "auto" {
            auto = true;
            continue;
        }
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) if network.trunc() != network => c.wrong(
                format!("clients[{index}]"),
                format!("`{text}` has bits set to the right of its mask"),
                format!("did you mean {}?", network.trunc()),
            ),
            Ok(network) => {
                if network.prefix_len() == 0 {
                    c.warnings.push(format!("clients: {text} lets the whole Internet try passwords"));
                }
                networks.push(network);
            }
            Err(_) => c.wrong(
                format!("clients[{index}]"),
                format!("`{text}` is not a valid address"),
                "use an address, a network such as 203.0.113.0/24, or auto for this machine",
            ),
        }
    }
    Clients { networks, auto, require_tls }
}

/// A name that can be a host name, a tag and a word in a shell command.
fn is_name(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What the name of a role or of a database looks like.
pub(crate) const NAME_HINT: &str = "use at most 63 lower-case letters, digits, underscores and dashes, beginning with a letter or an underscore";

/// The name of a role or of a database. In SQL it stands in quotes.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}
