//! `cluster db`: databases for applications.

use anyhow::Result;
use clap::Subcommand;

use super::confirm::confirm;
use super::user::{Writable, check_name};
use super::{in_world, read};
use crate::error::{Advice, Exit};
use crate::inventory::{Inventory, Source};
use crate::remote::RemoteError;
use crate::report::Format;
use crate::{connect, sql};
use crate::{data, screen, tell};

/// What to do with a database.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Create a database
    Create {
        /// The database's name
        name: String,
        /// The owner [default: the inventory's first role that is not a superuser]
        #[arg(long)]
        owner: Option<String>,
    },
    /// List databases and their owners
    List,
    /// Drop a database with everything in it
    ///
    /// Asks for the name. A database that the inventory declares, or that has open sessions, is not dropped.
    Drop {
        /// The database's name
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

/// Names reserved for this program or for PostgreSQL.
const OURS: [&str; 5] = ["postgres", "repmgr", "cluster", "template0", "template1"];

pub(super) async fn run(source: &Source, command: DbCommand, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    match command {
        DbCommand::Create { name, owner } => create(inventory, name, owner, json).await,
        DbCommand::List => list(inventory, json).await,
        DbCommand::Drop { name, yes } => drop(inventory, name, yes, json).await,
    }
}

async fn create(inventory: Inventory, name: String, owner: Option<String>, json: bool) -> Result<Exit> {
    check_name(&name, "database", &OURS)?;
    let (owner, _) = connect::login(&inventory, owner.as_deref(), None, &[])?;
    in_world(inventory, Format::Quiet, None, |world| async move {
        let _lock = world.begin("db create")?;
        let facts = world.observe_or_remember().await?;
        let primary = Writable::find(&world.inventory, &facts)?;
        world.lock_cluster(&facts).await?;
        if !primary.postgres.roles.iter().any(|role| role.name == owner) {
            return Err(Advice::refused(format!("there is no role `{owner}`"))
                .hint(format!("`cluster user create {owner}` creates it"))
                .into());
        }
        let changed = match primary.postgres.databases.iter().find(|database| database.name == name) {
            Some(found) if found.owner == owner => false,
            Some(found) => {
                return Err(Advice::refused(format!(
                    "database `{name}` already exists and belongs to `{}`",
                    found.owner
                ))
                .hint("choose another name")
                .into());
            }
            None => {
                let statement = format!(
                    "create database {} owner {};\n",
                    sql::identifier(&name),
                    sql::identifier(&owner)
                );
                primary.sql(&world, statement).await?;
                true
            }
        };
        let words = if changed {
            format!("{name}: created, owned by {owner}")
        } else {
            format!("{name}: already exists")
        };
        screen::result(json, &serde_json::json!({"name": name, "owner": owner, "changed": changed}), &words)?;
        Ok(Exit::Done)
    })
    .await
}

async fn list(inventory: Inventory, json: bool) -> Result<Exit> {
    in_world(inventory, Format::Quiet, None, |world| async move {
        let facts = world.observe_or_remember().await?;
        let primary = Writable::find(&world.inventory, &facts)?;
        let all = primary.postgres.databases.iter();
        let rows: Vec<_> = all.filter(|database| !database.name.starts_with("template")).collect();
        if json {
            let rows: Vec<_> =
                rows.iter().map(|it| serde_json::json!({"name": it.name, "owner": it.owner})).collect();
            screen::json(&rows)?;
        } else {
            rows.iter().for_each(|it| data!("{}: owned by {}", it.name, it.owner));
        }
        Ok(Exit::Done)
    })
    .await
}

async fn drop(inventory: Inventory, name: String, yes: bool, json: bool) -> Result<Exit> {
    check_name(&name, "database", &OURS)?;
    if inventory.databases.iter().any(|database| database.name == name) {
        return Err(Advice::refused(format!("`{name}` is declared in {}", inventory.file.display()))
            .hint("remove it from the inventory first; otherwise the next `cluster up` recreates it, empty")
            .into());
    }
    in_world(inventory, Format::Quiet, None, |world| async move {
        let _lock = world.begin("db drop")?;
        let facts = world.observe_or_remember().await?;
        let primary = Writable::find(&world.inventory, &facts)?;
        world.lock_cluster(&facts).await?;
        if !primary.postgres.databases.iter().any(|database| database.name == name) {
            let value = serde_json::json!({"name": name, "changed": false});
            screen::result(json, &value, &format!("{name}: no such database"))?;
            return Ok(Exit::Done);
        }
        if !yes {
            tell!("database {name} will be deleted with everything in it, on every node");
        }
        confirm("database", &name, yes, "nothing was deleted")?;
        // PostgreSQL refuses while sessions are in it: nobody loses what he is at work on.
        primary.sql(&world, format!("drop database {};\n", sql::identifier(&name))).await.map_err(
            |error| match &error {
                RemoteError::Failed { output, .. } if output.contains("is being accessed by other users") => {
                    anyhow::Error::from(
                        Advice::refused(format!("database `{name}` is in use by other sessions"))
                            .hint("stop the applications that use it, then run this again"),
                    )
                }
                _ => error.into(),
            },
        )?;
        let value = serde_json::json!({"name": name, "changed": true});
        screen::result(json, &value, &format!("{name}: dropped"))?;
        Ok(Exit::Done)
    })
    .await
}
