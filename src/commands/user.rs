//! `cluster user`: roles for applications. Their passwords are made here, kept with mode 0600, and never shown.

use std::path::Path;
use std::sync::Arc;

use anstream::println;
use anyhow::Result;
use clap::Subcommand;

use super::{in_world, read};
use crate::apply::script;
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::facts::host::PostgresFacts;
use crate::inventory::{Inventory, is_identifier};
use crate::plan::roles::{self, Primary};
use crate::remote::{Command, Remote as _, RemoteError};
use crate::report::Format;
use crate::scram;
use crate::world::World;

/// What to do with a role.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a role that may log in, with a password of its own
    Create {
        /// Its name
        name: String,
    },
    /// Drop a role that owns nothing
    Drop {
        /// Its name
        name: String,
    },
}

/// Names that are the program's own, or PostgreSQL's.
const OURS: [&str; 4] = ["postgres", "repmgr", "cluster", "public"];

pub(super) async fn run(path: &Path, command: UserCommand) -> Result<Exit> {
    let inventory = read(path)?;
    let (UserCommand::Create { name } | UserCommand::Drop { name }) = &command;
    check_name(name, "role", &OURS)?;
    if inventory.users.iter().any(|user| user.name == *name) {
        return Err(Advice::refused(format!("`{name}` is declared in {}", inventory.file.display()))
            .hint("`cluster up` makes what is declared there, and would make it again")
            .into());
    }
    in_world(inventory, Format::Quiet, None, |world| async move {
        match command {
            UserCommand::Create { name } => create(&world, &name).await,
            UserCommand::Drop { name } => drop(&world, &name).await,
        }
    })
    .await
}

async fn create(world: &Arc<World>, name: &str) -> Result<Exit> {
    let _lock = world.state.lock("user create")?;
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    let key = format!("user:{name}");
    let known = world.state.kept_password(&key)?.is_some();
    match (primary.postgres.roles.iter().any(|role| role.name == name), known) {
        (true, true) => {
            println!("{name}: it is there already");
            return Ok(Exit::Done);
        }
        (true, false) => {
            return Err(Advice::refused(format!("there is a role `{name}`, and its password is not here"))
                .hint(format!("choose another name, or `cluster user drop {name}` first"))
                .into());
        }
        (false, _) => {}
    }
    // Kept first: a run that is killed after it finds the same password the next time.
    let password = world.state.password(&key)?;
    let statement = format!(
        "set log_statement = 'none'; set log_min_error_statement = 'panic'; set log_min_duration_statement = -1;\n\
         create role {name} login nosuperuser noreplication password '{}';\n",
        scram::verifier(&password)
    );
    primary.sql(world, statement).await?;
    println!("{name}: made; its password is kept in {}", world.state.path("secrets.json").display());
    Ok(Exit::Done)
}

async fn drop(world: &Arc<World>, name: &str) -> Result<Exit> {
    let _lock = world.state.lock("user drop")?;
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    if primary.postgres.roles.iter().any(|role| role.name == name) {
        // PostgreSQL itself refuses if anything depends on the role: nobody can be faster than its answer.
        let result = primary.sql(world, format!("drop role {name};\n")).await;
        result.map_err(|error| why_it_stays(name, error))?;
        println!("{name}: dropped");
    } else {
        println!("{name}: there is no such role");
    }
    world.state.forget_password(&format!("user:{name}"))?;
    world.state.forget_file(&format!("pgpass-{name}"))?;
    Ok(Exit::Done)
}

fn why_it_stays(name: &str, error: RemoteError) -> anyhow::Error {
    let RemoteError::Failed { output, .. } = &error else { return error.into() };
    if !output.contains("cannot be dropped because some objects depend on it") {
        return error.into();
    }
    let what = output
        .lines()
        .skip_while(|line| !line.starts_with("DETAIL:"))
        .map(|line| line.trim_start_matches("DETAIL:").trim())
        .collect::<Vec<_>>()
        .join(", ");
    Advice::refused(format!("`{name}` is needed: {what}"))
        .hint(format!(
            "a database: `alter database … owner to …`; objects in one: `cluster psql -u postgres -d DATABASE`, there \
             `reassign owned by {name} to …; drop owned by {name}`"
        ))
        .into()
}

/// A name that needs no quotes and is nobody else's.
pub(super) fn check_name(name: &str, what: &str, taken: &[&str]) -> Result<()> {
    if !is_identifier(name) {
        return Err(Advice::usage(format!("`{name}` is not a {what} name"))
            .hint("lower case letters, digits and underscores, at most 63")
            .into());
    }
    if taken.contains(&name) || name.starts_with("pg_") {
        return Err(Advice::usage(format!("`{name}` is taken")).hint("choose another name").into());
    }
    Ok(())
}

/// The node that takes writes.
pub(super) struct Writable<'a> {
    node: String,
    pub(super) postgres: &'a PostgresFacts,
}

impl<'a> Writable<'a> {
    pub(super) fn find(inventory: &Inventory, facts: &'a Facts) -> Result<Self> {
        let Primary::One(node) = roles::primary(inventory, facts) else {
            return Err(Advice::refused("no single node takes writes")
                .hint("`cluster status` says what is wrong")
                .into());
        };
        let host = facts.hosts.get(&node).and_then(|host| host.up());
        let postgres = host.and_then(|host| host.postgres.as_ref()).expect("a primary answers");
        Ok(Writable { node, postgres })
    }

    /// Runs SQL as postgres.
    pub(super) async fn sql(&self, world: &World, statement: String) -> Result<(), RemoteError> {
        let (version, port) = (world.inventory.postgresql.version, world.inventory.postgresql.port);
        let command = Command::new("psql", script::PSQL)
            .args([&world.inventory.cluster, &version.to_string(), &port.to_string(), "postgres"])
            .stdin(statement);
        world.connect(&self.node).await?.run(&command, &|_| {}).await.map(std::mem::drop)
    }
}
