//! The inventory: the desired state, read from one YAML file and checked before anything is changed.
//!
//! `file` is the YAML as it is written, `check` what makes it valid, `position` where in the text a key stands, `reach` how
//! a host is reached, `shown` what may be shown. `ansible` reads inventories of Ansible.
//! Everything else in the program sees only the types in this file, which cannot be wrong.

pub mod ansible;
mod backup;
mod check;
pub mod end_of_life;
mod file;
mod position;
mod reach;
mod schema;
mod shown;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use backup::{Backup, Repository, S3};
pub use cluster_contract::config::Failover;
use ipnet::IpNet;
pub use position::Positions;
pub use reach::{Reach, Through};
pub use schema::schema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
pub use shown::Part;

pub(crate) use check::{NAME_HINT, is_identifier};
pub(crate) use units::time_text;

/// PostgreSQL major versions that this program can set up.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 12..=18;

/// The desired state of a cluster.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The file that it was read from, for messages.
    pub file: PathBuf,
    /// The files that its passwords stand in.
    pub password_files: Vec<PathBuf>,
    /// The cluster's name: lower case letters, digits and dashes.
    pub cluster: String,
    /// Where the hosts come from.
    pub provider: Provider,
    /// PostgreSQL's version and settings.
    pub postgresql: Postgresql,
    /// Settings of a failover.
    pub failover: Failover,
    /// Where backups go; nowhere if absent.
    pub backup: Option<Backup>,
    /// Databases that applications need.
    pub databases: Vec<Database>,
    /// Extensions, each with the databases that it is wanted in.
    pub extensions: Vec<Extension>,
    /// Roles that applications log in with.
    pub users: Vec<User>,
    /// Who may connect.
    pub clients: Clients,
    /// The nodes, in the file's order: one primary, any number of standbys, at most one witness.
    pub nodes: Vec<Node>,
    /// Warnings that do not refuse the inventory.
    pub warnings: Vec<String>,
}

impl Inventory {
    /// Reads and checks the file at `path`, an inventory of this program or one of Ansible.
    ///
    /// # Errors
    /// [`Problems`], with every mistake found, or one for a file that cannot be read.
    pub fn read(path: &Path) -> Result<Inventory, Problems> {
        Inventory::read_from(&Source { file: path.to_owned(), extra_vars: Vec::new() })
    }

    /// Reads and checks what the command line names.
    ///
    /// # Errors
    /// As [`Inventory::read`].
    pub fn read_from(source: &Source) -> Result<Inventory, Problems> {
        match Written::find(source)? {
            Written::Ansible(reading) => reading.inventory(),
            Written::Own(text) => Inventory::parse(&source.file, &text),
        }
    }

    /// Checks `text`, which came from `path`.
    ///
    /// # Errors
    /// [`Problems`], with every mistake found.
    pub fn parse(path: &Path, text: &str) -> Result<Inventory, Problems> {
        let positions = position::Positions::of(text);
        if let Some((key, line)) = &positions.twice {
            let first = positions.line(key).unwrap_or_default();
            return Err(Problems {
                file: path.to_owned(),
                list: vec![Problem {
                    file: None,
                    key: key.clone(),
                    line: Some(*line),
                    message: format!("is set here and on line {first}"),
                    hint: Some("keep one of the two".into()),
                }],
                notes: Vec::new(),
            });
        }
        let (raw, mut list) = file::parse(text);
        let checked = raw.map(|raw| check::check(path, raw));
        match checked {
            Some(Ok(inventory)) if list.is_empty() => return Ok(inventory),
            Some(Err(more)) => list.extend(more),
            Some(Ok(_)) | None => {}
        }
        for problem in &mut list {
            problem.line = problem.line.or_else(|| positions.line(&problem.key));
        }
        list.sort_by_key(|problem| problem.line);
        Err(Problems { file: path.to_owned(), list, notes: Vec::new() })
    }

    /// What to warn of before anything is done: what is questionable in the file, and a version of PostgreSQL or an image
    /// whose life has ended, or soon will have.
    pub fn warnings_on(&self, today: jiff::civil::Date) -> Vec<String> {
        let old = end_of_life::warning(self.postgresql.version, today);
        let mut images: Vec<&str> = match &self.provider {
            Provider::DigitalOcean(provider) => {
                self.nodes.iter().map(|node| provider.image_of(node)).collect()
            }
            Provider::Existing(_) => Vec::new(),
        };
        images.sort_unstable();
        images.dedup();
        let old_images = images.into_iter().filter_map(|image| {
            let (id, version) = end_of_life::system_of_image(image)?;
            let what = end_of_life::system_warning(id, &version, today)?;
            Some(format!(
                "image {image}: {what}: name a newer one; `cluster replace NODE` makes a node anew with it"
            ))
        });
        self.warnings.iter().cloned().chain(old).chain(old_images).collect()
    }

    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Who logs in to a node: root, or a user that may `sudo -n`.
    pub fn ssh_user<'a>(&'a self, node: &'a Node) -> &'a str {
        node.reach.user.as_deref().unwrap_or(self.provider.ssh_user())
    }

    /// The private keys with which nodes are logged in to, each once, as far as the inventory names them.
    pub fn ssh_keys<'a>(&'a self) -> BTreeSet<&'a Path> {
        let key = |node: &'a Node| node.reach.key.as_deref().or(self.provider.ssh_key());
        self.nodes.iter().filter_map(key).collect()
    }

    /// The node that the cluster starts with as primary.
    ///
    /// # Panics
    /// Never: an inventory without a primary is refused.
    pub fn primary(&self) -> &Node {
        self.nodes.iter().find(|node| node.role == Role::Primary).expect("checked: exactly one primary")
    }

    /// The witness, if there is one.
    pub fn witness(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role == Role::Witness)
    }

    /// The databases of which it matters what extensions they have: those declared, and the one that is always there.
    pub fn own_databases(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.databases.iter().map(|database| database.name.as_str()).collect();
        if !names.contains(&"postgres") {
            names.push("postgres");
        }
        names
    }

    /// Nodes that hold the data: all but the witness.
    pub fn data_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role != Role::Witness)
    }
}

/// An inventory, as the command line names it.
#[derive(Clone, Debug)]
pub struct Source {
    pub file: PathBuf,
    /// The options `-e`: variables of an Ansible inventory.
    pub extra_vars: Vec<String>,
}

/// An inventory, as it is written.
pub enum Written {
    /// For Ansible.
    Ansible(Box<ansible::Reading>),
    /// For this program: its text.
    Own(String),
}

impl Written {
    /// Reads the files and tells whose they are.
    ///
    /// # Errors
    /// [`Problems`], if they cannot be read.
    pub fn find(source: &Source) -> Result<Written, Problems> {
        let written = ansible::find(&source.file, &source.extra_vars)?;
        if let Written::Own(_) = &written
            && !source.extra_vars.is_empty()
        {
            let hint = "change the file instead: -e is for variables of an Ansible inventory";
            return Err(Problems::one(
                &source.file,
                "is an inventory of cluster's own, which -e cannot change",
                hint,
            ));
        }
        Ok(written)
    }
}

/// Where the hosts come from.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Droplets, made through the API of DigitalOcean or of anything that speaks it.
    DigitalOcean(Box<DigitalOcean>),
    /// Existing hosts, named by address.
    Existing(Existing),
}

impl Provider {
    /// The SSH private key to log in with, if the inventory names one.
    pub fn ssh_key(&self) -> Option<&Path> {
        match self {
            Provider::DigitalOcean(it) => it.ssh_key.as_deref(),
            Provider::Existing(it) => it.ssh_key.as_deref(),
        }
    }

    /// The user to log in as.
    pub fn ssh_user(&self) -> &str {
        match self {
            Provider::DigitalOcean(_) => "root",
            Provider::Existing(it) => &it.ssh_user,
        }
    }
}

#[derive(Clone, Debug)]
pub struct DigitalOcean {
    /// Base URL of the API; the environment or the public one if absent.
    pub api_url: Option<String>,
    /// File with the operator's token; the environment if absent.
    pub token_file: Option<PathBuf>,
    /// File with the nodes' token, which can move the floating IP; `DIGITALOCEAN_FAILOVER_TOKEN` if absent.
    pub failover_token_file: Option<PathBuf>,
    /// Region slug.
    pub region: String,
    /// Size slug of nodes that name no other.
    pub size: String,
    /// Image slug of nodes that name no other.
    pub image: String,
    /// Whether the disk of a droplet that gets another size grows to what that size has, which cannot be undone.
    pub resize_disk: bool,
    /// Private key file whose public half is beside it; a key of the cluster's own is made if absent.
    pub ssh_key: Option<PathBuf>,
    /// VPC by id; the region's default if absent.
    pub vpc: Option<String>,
    /// Whether the cluster has a floating IP.
    pub floating_ip: bool,
}

impl DigitalOcean {
    /// The size that a node's droplet is to have.
    pub fn size_of<'a>(&'a self, node: &'a Node) -> &'a str {
        node.size.as_deref().unwrap_or(&self.size)
    }

    /// The image that a node's droplet is made from.
    pub fn image_of<'a>(&'a self, node: &'a Node) -> &'a str {
        node.image.as_deref().unwrap_or(&self.image)
    }
}

/// Existing hosts.
#[derive(Clone, Debug)]
pub struct Existing {
    /// User to log in as: root, or one that may `sudo -n`.
    pub ssh_user: String,
    /// Private key file; ssh's own choice if absent.
    pub ssh_key: Option<PathBuf>,
    /// How hosts are reached that say nothing else.
    pub reach: Reach,
    /// The floating IP that points to these hosts, if there is one.
    pub floating_ip: Option<ExistingFloatingIp>,
}

/// An existing floating IP, and how the nodes can move it.
#[derive(Clone, Debug)]
pub struct ExistingFloatingIp {
    pub address: IpAddr,
    /// Base URL of the API that moves it, as the nodes see it.
    pub api_url: Option<String>,
    /// File with the token that may move it.
    pub failover_token_file: Option<PathBuf>,
}

/// PostgreSQL's version and settings.
#[derive(Clone, Debug)]
pub struct Postgresql {
    pub version: u32,
    pub port: u16,
    /// Whether settings are fitted to the hosts.
    pub tune: bool,
    /// The operator's settings, which override the defaults.
    pub settings: BTreeMap<String, String>,
}

/// A database that applications need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    /// The role that owns it.
    pub owner: String,
}

/// An extension of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The name that `create extension` takes.
    pub name: String,
    /// The package that it comes from; none if it comes with the server.
    pub package: Option<String>,
    /// The library that has to be loaded at the start, if it needs one.
    pub library: Option<String>,
    /// The databases that it is wanted in; at least one.
    pub databases: Vec<String>,
}

/// A role that applications log in with.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// The declared password; one is generated if absent.
    pub password: Option<SecretString>,
    /// Whether it is a superuser. The tutorial's `postgres` is.
    pub superuser: bool,
}

/// Who may connect to PostgreSQL, apart from the nodes themselves.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Addresses and networks.
    pub networks: Vec<IpNet>,
    /// Whether the operator's own address, as the nodes see it, is let in.
    pub auto: bool,
    /// Whether a connection must use TLS.
    pub require_tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Host name and repmgr's node name.
    pub name: String,
    /// repmgr's node id.
    pub id: u32,
    /// The role that it starts with; after a failover the live role is the truth.
    pub role: Role,
    /// Where SSH goes; a server's public address if absent.
    pub address: Option<String>,
    /// Where replication goes; a server's private address, or `address`, if absent.
    pub connection_host: Option<IpAddr>,
    /// The host's public SSH key, pinned; `~/.ssh/known_hosts` if absent.
    pub host_key: Option<String>,
    /// The droplet's id, where hosts are named by address and a floating IP is to be moved.
    pub droplet_id: Option<u64>,
    /// Size slug of its droplet, where it is not that of the others.
    pub size: Option<String>,
    /// Image slug, likewise.
    pub image: Option<String>,
    /// How it is reached.
    pub reach: Reach,
}

/// A role in the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Streams from the primary and can take over.
    Standby,
    /// Holds no data, but has a vote.
    Witness,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::Standby => "standby",
            Role::Witness => "witness",
        })
    }
}

/// One mistake in an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, if it is another one than the inventory.
    pub file: Option<PathBuf>,
    /// Path of the key, for instance `nodes[1].role`; empty for the file as a whole.
    pub key: String,
    /// Line in the file, from 1, where it is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// All mistakes in an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
    /// What was noticed while reading, which may be the reason: what has no effect, and what is not read.
    pub notes: Vec<String>,
}

impl Problems {
    /// One mistake, in the file as a whole.
    pub fn one(file: &Path, message: &str, hint: &str) -> Problems {
        let problem = Problem {
            file: None,
            key: String::new(),
            line: None,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        };
        Problems { file: file.to_owned(), list: vec![problem], notes: Vec::new() }
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", problem.file.as_ref().unwrap_or(&self.file).display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}
