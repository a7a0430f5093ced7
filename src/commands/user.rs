//! `cluster user`: roles for applications. Their passwords are made here, kept with mode 0600, and never shown.

use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;

use super::{in_world, read};
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::facts::host::PostgresFacts;
use crate::inventory::{Inventory, NAME_HINT, Source, is_identifier};
use crate::plan::roles::{self, Primary};
use crate::remote::{Remote as _, RemoteError};
use crate::report::Format;
use crate::script;
use crate::state::State;
use crate::world::World;
use crate::{data, screen};
use crate::{scram, sql};

/// What to do with a role.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Create a login role with a generated password
    Create {
        /// The role's name
        name: String,
    },
    /// Change a role's password and store it on this machine
    ///
    /// Open sessions continue; new logins with the old password are refused.
    Password {
        /// The role's name
        name: String,
    },
    /// List login roles
    List,
    /// Drop a role that owns nothing
    Drop {
        /// The role's name
        name: String,
    },
}

/// Names reserved for this program or for PostgreSQL.
const OURS: [&str; 5] = ["postgres", "repmgr", "cluster", "public", "none"];

pub(super) async fn run(source: &Source, command: UserCommand, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    match &command {
        UserCommand::Create { name } | UserCommand::Drop { name } => {
            check_name(name, "role", &OURS)?;
            undeclared(&inventory, name, "the next `cluster up` would create it again")?;
        }
        UserCommand::Password { name } => {
            check_name(name, "role", &OURS)?;
            let declared = inventory.users.iter().find(|user| user.name == *name);
            if declared.is_some_and(|user| user.password.is_some()) {
                undeclared(
                    &inventory,
                    name,
                    "change its `password` in the inventory, or leave it out to have one generated; then run `cluster up`",
                )?;
            }
        }
        UserCommand::List => {}
    }
    in_world(inventory, Format::Quiet, None, |world| async move {
        match command {
            UserCommand::Create { name } => create(&world, &name, json).await,
            UserCommand::Password { name } => new_password(&world, &name, json).await,
            UserCommand::List => list(&world, json).await,
            UserCommand::Drop { name } => drop(&world, &name, json).await,
        }
    })
    .await
}

fn undeclared(inventory: &Inventory, name: &str, hint: &str) -> Result<()> {
    if inventory.users.iter().any(|user| user.name == name) {
        return Err(Advice::refused(format!("`{name}` is declared in {}", inventory.file.display()))
            .hint(hint)
            .into());
    }
    Ok(())
}

async fn list(world: &Arc<World>, json: bool) -> Result<Exit> {
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    let mut rows = Vec::new();
    for role in primary.postgres.roles.iter().filter(|role| role.login) {
        let declared = world.inventory.users.iter().find(|user| user.name == role.name);
        let here = declared.is_some_and(|user| user.password.is_some())
            || world.state.kept_password(&format!("user:{}", role.name))?.is_some();
        let whose = match role.name.as_str() {
            "repmgr" | "cluster" => "internal",
            "postgres" if declared.is_none() => "built in",
            _ if declared.is_some() => "declared",
            _ => "created manually",
        };
        rows.push((role, whose, here));
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(role, whose, here)| {
                serde_json::json!({
                    "name": role.name, "superuser": role.superuser, "origin": whose, "password_here": here,
                })
            })
            .collect();
        screen::json(&rows)?;
        return Ok(Exit::Done);
    }
    for (role, whose, here) in rows {
        let superuser = if role.superuser { ", superuser" } else { "" };
        let password = if here { "; password stored here" } else { "" };
        data!("{}: {whose}{superuser}{password}", role.name);
    }
    Ok(Exit::Done)
}

/// The password is stored first, so that the next run can finish one that was killed.
async fn new_password(world: &Arc<World>, name: &str, json: bool) -> Result<Exit> {
    let _lock = world.begin("user password")?;
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    world.lock_cluster(&facts).await?;
    let Some(role) = primary.postgres.roles.iter().find(|role| role.name == name) else {
        return Err(Advice::refused(format!("there is no role `{name}`"))
            .hint(format!("`cluster user create {name}` creates it"))
            .into());
    };
    let (key, next) = (format!("user:{name}"), format!("next:user:{name}"));
    let password = world.state.password(&next)?;
    let verifier = scram::verifier(&password);
    primary.sql(world, sql::role("alter", name, role.superuser, role.replication, &verifier)).await?;
    world.state.keep_password(&key, &password)?;
    world.state.forget_password(&next)?;
    let file = world.state.path("secrets.json");
    let words = format!(
        "{name}: password changed, stored in {}; `cluster connect --user {name}` writes it for applications",
        file.display()
    );
    screen::result(json, &serde_json::json!({"name": name, "changed": true, "password_in": file}), &words)?;
    Ok(Exit::Done)
}

async fn create(world: &Arc<World>, name: &str, json: bool) -> Result<Exit> {
    let _lock = world.begin("user create")?;
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    world.lock_cluster(&facts).await?;
    let key = format!("user:{name}");
    let known = world.state.kept_password(&key)?.is_some();
    match (primary.postgres.roles.iter().any(|role| role.name == name), known) {
        (true, true) => {
            let value = serde_json::json!({"name": name, "changed": false});
            screen::result(json, &value, &format!("{name}: already exists"))?;
            return Ok(Exit::Done);
        }
        (true, false) => {
            return Err(Advice::refused(format!(
                "role `{name}` already exists, and its password is not stored here"
            ))
            .hint(format!("`cluster user password {name}` sets a new one and stores it here"))
            .into());
        }
        (false, _) => {}
    }
    // Kept first: a run that is killed after it finds the same password the next time.
    let password = world.state.password(&key)?;
    let statement = sql::role("create", name, false, false, &scram::verifier(&password));
    created_or_forgotten(&world.state, &key, primary.sql(world, statement).await)?;
    let file = world.state.path("secrets.json");
    let words = format!("{name}: created; its password is stored in {}", file.display());
    screen::result(json, &serde_json::json!({"name": name, "changed": true, "password_in": file}), &words)?;
    Ok(Exit::Done)
}

/// Forgets the password kept under `key` if PostgreSQL has refused to create its role. A role that is there, although the
/// answer was lost, is told the next time.
fn created_or_forgotten(state: &State, key: &str, result: Result<(), RemoteError>) -> Result<()> {
    if matches!(result, Err(RemoteError::Failed { .. })) {
        state.forget_password(key)?;
    }
    Ok(result?)
}

async fn drop(world: &Arc<World>, name: &str, json: bool) -> Result<Exit> {
    let _lock = world.begin("user drop")?;
    let facts = world.observe_or_remember().await?;
    let primary = Writable::find(&world.inventory, &facts)?;
    world.lock_cluster(&facts).await?;
    let is_there = primary.postgres.roles.iter().any(|role| role.name == name);
    if is_there {
        // PostgreSQL itself refuses if anything depends on the role: nobody can be faster than its answer.
        let result = primary.sql(world, format!("drop role {};\n", sql::identifier(name))).await;
        result.map_err(|error| why_it_stays(name, error))?;
    }
    let words = format!("{name}: {}", if is_there { "dropped" } else { "no such role" });
    screen::result(json, &serde_json::json!({"name": name, "changed": is_there}), &words)?;
    world.state.forget_password(&format!("user:{name}"))?;
    world.state.forget_password(&format!("next:user:{name}"))?;
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
    Advice::refused(format!("`{name}` still owns objects: {what}"))
        .hint(format!(
            "for a database: `alter database … owner to …`; for objects in it: `cluster psql -u postgres -d DATABASE`, then \
             `reassign owned by \"{name}\" to …; drop owned by \"{name}\"`"
        ))
        .into()
}

/// Checks that a name is valid and not reserved.
pub(super) fn check_name(name: &str, what: &str, taken: &[&str]) -> Result<()> {
    if !is_identifier(name) {
        return Err(Advice::usage(format!("`{name}` is not a valid {what} name")).hint(NAME_HINT).into());
    }
    if taken.contains(&name) || name.starts_with("pg_") {
        return Err(Advice::usage(format!("`{name}` is reserved for PostgreSQL or for this program"))
            .hint("choose another name")
            .into());
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
                .hint("`cluster status` shows what is wrong")
                .into());
        };
        let host = facts.hosts.get(&node).and_then(|host| host.up());
        let postgres = host.and_then(|host| host.postgres.as_ref()).expect("a primary answers");
        Ok(Writable { node, postgres })
    }

    /// Runs SQL as postgres.
    pub(super) async fn sql(&self, world: &World, statement: String) -> Result<(), RemoteError> {
        let command = script::psql(&world.inventory, "psql", "postgres", statement);
        world.connect(&self.node).await?.run(&command, &|_| {}).await.map(std::mem::drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_postgresql_refuses_leaves_no_password() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::below(directory.path(), "demo").unwrap();
        let host = || "pg1".to_owned();
        let refused = || RemoteError::Failed {
            host: host(),
            command: "psql",
            code: 3,
            output: "ERROR:  permission denied".into(),
        };
        let lost = || RemoteError::Lost { host: host(), command: "psql", message: "closed".into() };
        let kept_after = |result: Result<(), RemoteError>| {
            state.password("user:app").unwrap();
            let is_done = result.is_ok();
            assert_eq!(created_or_forgotten(&state, "user:app", result).is_ok(), is_done);
            let text = std::fs::read_to_string(state.path("secrets.json")).unwrap();
            assert_eq!(text.contains("user:app"), state.kept_password("user:app").unwrap().is_some());
            text.contains("user:app")
        };
        assert!(!kept_after(Err(refused())));
        assert!(kept_after(Err(lost())), "it may have been created");
        assert!(kept_after(Ok(())));
    }
}
