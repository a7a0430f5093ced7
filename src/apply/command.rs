//! Actions as commands: pure, so that tests can read what would run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::script;
use crate::facts::host::Made;
use crate::inventory::Inventory;
use crate::plan::Action;
use crate::remote::Command;
use crate::scram;

/// The command for an action that is one command on one host; none for the others.
pub fn of(inventory: &Inventory, action: &Action, program: &[u8]) -> Option<Command> {
    let version = inventory.postgresql.version.to_string();
    let port = inventory.postgresql.port.to_string();
    let postgres = |label, script| {
        Command::new(label, script).arg(&inventory.cluster).arg(&version).arg(&port).limit(120)
    };
    let sql = |label, database: &str, sql: String| postgres(label, script::PSQL).arg(database).stdin(sql);
    Some(match action {
        Action::UpdateLists => Command::new("apt-get update", script::UPDATE_LISTS).limit(900),
        Action::AddRepository { archive } => {
            let which = if *archive { "archive" } else { "pgdg" };
            Command::new("add apt repository", script::ADD_REPOSITORY).arg(which).limit(900)
        }
        Action::Install { packages } => {
            Command::new("apt-get install", script::INSTALL).args(packages).limit(1800)
        }
        Action::WriteFiles { files } => {
            let mut lines = String::new();
            for file in files {
                let content = file.content.as_ref()?.expose();
                lines.push_str(&format!(
                    "{} {} {} {}\n",
                    file.path,
                    file.mode,
                    file.owner,
                    STANDARD.encode(content)
                ));
            }
            Command::new("write files", script::WRITE_FILES).stdin(lines)
        }
        Action::InstallProgram { sha256 } => Command::new("install cluster-node", script::PROGRAM)
            .arg("/usr/local/bin/cluster-node")
            .arg(sha256)
            .stdin(program)
            .limit(300),
        Action::CreateData { first } => {
            postgres("create data directory", script::CREATE_DATA).arg(if *first { "first" } else { "later" })
        }
        Action::StartNew { made } => {
            let role = if *made == Made::Witness { "witness" } else { "primary" };
            postgres("start PostgreSQL", script::START_NEW).arg(role)
        }
        Action::RegisterPrimary => postgres("repmgr primary register", script::REGISTER_PRIMARY),
        // A day: a large database on a small droplet.
        Action::Clone { conninfo, .. } => postgres("repmgr standby clone", script::CLONE)
            .arg(conninfo)
            .stdin(script::CLONE_UNIT)
            .limit(86_400),
        Action::StartStandby => postgres("start PostgreSQL", script::START_STANDBY),
        Action::RegisterStandby => postgres("repmgr standby register", script::REGISTER_STANDBY),
        Action::RegisterWitness { primary_host } => {
            postgres("repmgr witness register", script::REGISTER_WITNESS).arg(primary_host)
        }
        Action::Role { name, password, superuser, replication, exists } => {
            let verb = if *exists { "alter" } else { "create" };
            let right = |on: bool, name: &str| if on { name.to_owned() } else { format!("no{name}") };
            let statement = format!(
                "set log_statement = 'none'; set log_min_error_statement = 'panic'; set log_min_duration_statement = -1;\n\
                 {verb} role {name} login {} {} password '{}';\n",
                right(*superuser, "superuser"),
                right(*replication, "replication"),
                scram::verifier(password),
            );
            sql("set role", "postgres", statement)
        }
        Action::Database { name, owner } => {
            sql("create database", "postgres", format!("create database {name} owner {owner};\n"))
        }
        Action::Reload => postgres("reload PostgreSQL", script::RELOAD),
        Action::Restart { .. } => postgres("restart PostgreSQL", script::RESTART).limit(900),
        Action::Services { units, .. } => Command::new("start services", script::SERVICES)
            .args(units.iter().map(|unit| unit.name()))
            .limit(120),
        Action::ImportSshKey
        | Action::CreateDroplet
        | Action::AwaitDroplet { .. }
        | Action::RemakeDroplet { .. }
        | Action::PowerOn { .. }
        | Action::CreateFloatingIp { .. }
        | Action::RecordFloatingIp
        | Action::AssignFloatingIp { .. }
        | Action::Reach
        | Action::ReplaceHostKey => return None,
    })
}
