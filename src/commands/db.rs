//! `cluster db`: databases for applications.

use std::path::Path;

use anstream::println;
use anyhow::Result;
use clap::Subcommand;

use super::user::{Writable, check_name};
use super::{in_world, read};
use crate::connect;
use crate::error::{Advice, Exit};
use crate::report::Format;

/// What to do with a database.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Make a database
    Create {
        /// Its name
        name: String,
        /// The role that owns it; the inventory's first that is no superuser if left out
        #[arg(long)]
        owner: Option<String>,
    },
}

/// Names that are the program's own, or PostgreSQL's.
const OURS: [&str; 5] = ["postgres", "repmgr", "cluster", "template0", "template1"];

pub(super) async fn run(path: &Path, command: DbCommand) -> Result<Exit> {
    let inventory = read(path)?;
    let DbCommand::Create { name, owner } = command;
    check_name(&name, "database", &OURS)?;
    let (owner, _) = connect::login(&inventory, owner.as_deref(), None)?;
    in_world(inventory, Format::Quiet, None, |world| async move {
        let _lock = world.state.lock("db create")?;
        let facts = world.observe_or_remember().await?;
        let primary = Writable::find(&world.inventory, &facts)?;
        if !primary.postgres.roles.iter().any(|role| role.name == owner) {
            return Err(Advice::refused(format!("there is no role `{owner}`"))
                .hint(format!("`cluster user create {owner}` makes it"))
                .into());
        }
        match primary.postgres.databases.iter().find(|database| database.name == name) {
            Some(found) if found.owner == owner => println!("{name}: it is there already"),
            Some(found) => {
                return Err(Advice::refused(format!("there is a database `{name}` of `{}`", found.owner))
                    .hint("choose another name")
                    .into());
            }
            None => {
                primary.sql(&world, format!("create database {name} owner {owner};\n")).await?;
                println!("{name}: made, owned by {owner}");
            }
        }
        Ok(Exit::Done)
    })
    .await
}
