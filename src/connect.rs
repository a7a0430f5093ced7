//! Connection settings for applications, from the inventory, the current health and a password. Pure;
//! `format` renders them for each driver.

pub mod format;

use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::Advice;
use crate::facts::host::DatabaseFacts;
use crate::health::{Health, Node};
use crate::inventory::{Inventory, Role};

/// A server that does not answer is given up after this long. libpq rounds one second up to two.
pub const CONNECT_SECONDS: u32 = 2;
/// A server that has stopped answering on an open connection is given up after this long.
pub const SILENCE_SECONDS: u32 = 3;
/// Keepalive interval of an idle connection.
pub const KEEPALIVE_SECONDS: u32 = 2;

/// How an application reaches the cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    pub cluster: String,
    /// PostgreSQL's major version.
    pub version: u32,
    pub user: String,
    pub database: String,
    /// The port, the same everywhere.
    pub port: u16,
    /// Hosts for writes: the floating IP or, without one, every data node, the current primary first.
    pub write: Vec<Server>,
    /// Hosts for reads: every data node, standbys first, unreachable nodes last.
    pub read: Vec<Server>,
    /// The password, or where it is.
    pub password: Password,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    /// The node at this address; `None` for a floating IP, which moves.
    pub node: Option<String>,
}

/// The password, or where it is.
#[derive(Clone, Debug)]
pub enum Password {
    /// In this file, which libpq and most drivers read if `PGPASSFILE` names it.
    In(PathBuf),
    /// The password itself.
    Plain(SecretString),
}

/// The role and the database that are meant when none is named: the inventory's first role that is not a superuser, and
/// a database that it owns, by the inventory or by what is there (`live`, empty where nobody could be asked).
///
/// # Errors When the inventory declares no role, or the database that is named is not there.
pub fn login(
    inventory: &Inventory,
    user: Option<&str>,
    database: Option<&str>,
    live: &[DatabaseFacts],
) -> Result<(String, String), Advice> {
    let user = match user {
        Some(user) => user.to_owned(),
        None => first_user(inventory)?,
    };
    if let Some(name) = database {
        if !live.is_empty() && live.iter().all(|it| it.name != name) {
            let names: Vec<&str> = live
                .iter()
                .map(|it| it.name.as_str())
                .filter(|name| !name.starts_with("template") && !["repmgr", "cluster"].contains(name))
                .collect();
            return Err(Advice::refused(format!("there is no database `{name}`")).hint(format!(
                "the databases are {}; `cluster db create {name}` creates it",
                names.join(", ")
            )));
        }
        return Ok((user, name.to_owned()));
    }
    let declared = inventory.databases.iter().find(|database| database.owner == user);
    let own = live.iter().find(|database| database.owner == user).map(|it| it.name.as_str());
    // A declared role without a database of its own works in the first of the application's.
    let shared =
        inventory.users.iter().any(|it| it.name == user).then(|| inventory.databases.first()).flatten();
    let database = declared
        .map(|it| it.name.as_str())
        .or(own.filter(|_| user != "postgres"))
        .or(shared.map(|it| it.name.as_str()))
        .unwrap_or("postgres");
    Ok((user, database.to_owned()))
}

/// The inventory's first role that is not a superuser.
///
/// # Errors
/// When the inventory declares none.
pub fn first_user(inventory: &Inventory) -> Result<String, Advice> {
    let first = inventory.users.iter().find(|user| !user.superuser).or(inventory.users.first());
    first.map(|user| user.name.clone()).ok_or_else(|| {
        Advice::refused("the inventory declares no user to log in as")
            .hint("name a role with --user; `cluster user create` creates one")
    })
}

/// Everything that an application needs, for the cluster as it is now.
///
/// # Errors
/// When there is nothing to connect to yet.
pub fn connection(
    inventory: &Inventory,
    health: &Health,
    (user, database): (String, String),
    password: Password,
) -> Result<Connection, Advice> {
    let servers = |rank: fn(&Node) -> u8| -> Vec<Server> {
        let mut nodes: Vec<&Node> =
            health.nodes.iter().filter(|node| node.inventory_role != Role::Witness).collect();
        nodes.sort_by_key(|node| rank(node));
        let server =
            |node: &Node| Some(Server { host: node.address.clone()?, node: Some(node.name.clone()) });
        nodes.into_iter().filter_map(server).collect()
    };
    let read = servers(|node| match (node.role.as_str(), node.state.as_str()) {
        ("standby", "streaming") if !node.replay_stopped => 0,
        ("primary", _) => 1,
        _ => 2,
    });
    let write = match &health.floating_ip {
        Some(floating_ip) => vec![Server { host: floating_ip.address.clone(), node: None }],
        None => servers(|node| if node.role == "primary" { 0 } else { 1 }),
    };
    if read.is_empty() {
        return Err(Advice::refused(format!("cluster `{}` has no running data node", inventory.cluster))
            .hint("create it with `cluster up`"));
    }
    Ok(Connection {
        cluster: inventory.cluster.clone(),
        version: inventory.postgresql.version,
        user,
        database,
        port: inventory.postgresql.port,
        write,
        read,
        password,
    })
}

/// Servers in an order that does not change with a failover.
pub(crate) fn in_order(servers: &[Server]) -> Vec<&Server> {
    let mut servers: Vec<&Server> = servers.iter().collect();
    servers.sort_by_key(|server| &server.host);
    servers
}

impl Connection {
    /// A password file for every address that an application may dial. Java's driver does not look for each of several
    /// hosts but for all of them, as they stand in its URL: those have a line too.
    pub fn pgpass(&self, password: &str) -> String {
        let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let (user, password, port) = (escape(&self.user), escape(password), self.port.to_string());
        let line = |hosts: &[&str]| {
            let hosts_of: Vec<String> = hosts.iter().map(|host| escape(host)).collect();
            let ports = vec![port.as_str(); hosts.len()];
            format!("{}:{}:*:{user}:{password}\n", hosts_of.join(","), ports.join(","))
        };
        let single = self
            .write
            .iter()
            .chain(self.read.iter().filter(|server| !self.write.iter().any(|it| it.host == server.host)))
            .map(|server| line(&[server.host.as_str()]));
        let mut several: Vec<String> = [in_order(&self.write), in_order(&self.read)]
            .iter()
            .filter(|hosts| hosts.len() > 1)
            .map(|hosts| line(&hosts.iter().map(|server| server.host.as_str()).collect::<Vec<_>>()))
            .collect();
        several.dedup();
        single.chain(several).collect()
    }
}
