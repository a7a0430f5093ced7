//! `cluster connect`: what an application needs.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use owo_colors::OwoColorize as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::{in_world, read};
use crate::connect::format::Format;
use crate::connect::{self, Connection, Password};
use crate::error::{Advice, Exit};
use crate::health::health;
use crate::inventory::{Inventory, Source};
use crate::plan::roles::{self, Primary};
use crate::report;
use crate::state::State;
use crate::tell;

/// Who logs in, and where.
#[derive(Debug, Args)]
pub struct Login {
    /// The role to log in as [default: the inventory's first that is not a superuser]
    #[arg(short, long)]
    pub user: Option<String>,
    /// The database [default: the role's own]
    #[arg(short, long)]
    pub database: Option<String>,
}

/// `cluster connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The output format [default: libpq, or json with --json]
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    login: Login,
    /// Include the password instead of naming the file that holds it; never on a terminal
    #[arg(long)]
    with_password: bool,
    /// Write to FILE, readable only by you
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
}

pub(super) async fn run(source: &Source, args: ConnectArgs, json: bool) -> Result<Exit> {
    let format = match (args.format, json) {
        (None | Some(Format::Json), true) => Format::Json,
        (Some(_), true) => {
            return Err(Advice::usage("--json and another --format contradict each other")
                .hint("leave one of the two out")
                .into());
        }
        (format, false) => format.unwrap_or(Format::Libpq),
    };
    if args.with_password && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Advice::refused("passwords are not printed to a terminal")
            .hint("write it to a file that only you can read with --output FILE, or to a pipe")
            .into());
    }
    let mut connection = connection(source, &args.login).await?;
    if args.with_password {
        connection.password = Password::Plain(password(&read(source)?, &connection.user)?);
    }
    let text = format.render(&connection);
    match &args.output {
        Some(file) => {
            write_private(file, &text)?;
            tell!("{} is written, readable only by you", file.display());
        }
        None => std::io::stdout().write_all(text.as_bytes())?,
    }
    if let Some(note) = format.warning(&connection) {
        tell!("{} {note}", "warning:".yellow().bold());
    }
    if let Some(note) = format.password_note(&connection) {
        tell!("{} {note}", "note:".bold());
    }
    Ok(Exit::Done)
}

/// Connection settings for the cluster's current state, with a freshly written password file.
pub(super) async fn connection(source: &Source, login: &Login) -> Result<Connection> {
    let inventory = read(source)?;
    let user = match &login.user {
        Some(user) => user.clone(),
        None => connect::first_user(&inventory)?,
    };
    let password = password(&inventory, &user)?;
    let database = login.database.clone();
    in_world(inventory, report::Format::Quiet, None, |world| async move {
        let facts = world.observe_or_remember().await?;
        let primary = match roles::primary(&world.inventory, &facts) {
            Primary::One(name) => facts.hosts.get(&name).and_then(|host| host.up()?.postgres.as_ref()),
            _ => None,
        };
        if primary.is_some_and(|postgres| postgres.roles.iter().all(|role| role.name != user)) {
            return Err(Advice::refused(format!("there is no role `{user}`"))
                .hint(format!(
                    "`cluster user create {user}` creates it; `cluster user list` lists the existing ones"
                ))
                .into());
        }
        let live = primary.map(|postgres| postgres.databases.as_slice()).unwrap_or_default();
        let login = connect::login(&world.inventory, Some(&user), database.as_deref(), live)?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        if let Some(note) = &health.provider {
            tell!("{} {note}", "warning:".yellow().bold());
        }
        let name = format!("pgpass-{}", login.0);
        let file = Password::In(std::path::absolute(world.state.path(&name))?);
        let connection = connect::connection(&world.inventory, &health, login, file)?;
        world.state.write(&name, &connection.pgpass(password.expose_secret()))?;
        Ok(connection)
    })
    .await
}

/// The password of a role: declared in the inventory, or generated on this machine.
fn password(inventory: &Inventory, user: &str) -> Result<SecretString> {
    let declared = inventory.users.iter().find(|it| it.name == user).and_then(|it| it.password.clone());
    let kept = || State::open(&inventory.cluster)?.kept_password(&format!("user:{user}"));
    match declared.map_or_else(kept, |password| Ok(Some(password)))? {
        Some(password) => Ok(password),
        None => Err(Advice::refused(format!("the password of `{user}` is not stored on this machine"))
            .hint(format!(
                "passwords are stored where they were generated: `cluster user create {user}` creates the role, `cluster user \
                 password {user}` sets a new password for an existing one"
            ))
            .into()),
    }
}

/// Writes a file that nobody else can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
