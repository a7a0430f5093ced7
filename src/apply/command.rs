//! Turns actions into commands. Pure, so that tests can read what would run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_contract::marker::DataStage;
use cluster_contract::position::Lsn;

use crate::inventory::Inventory;
use crate::plan::files::{Content, FileChange};
use crate::plan::restore::{RestorePlace, repository};
use crate::plan::{Action, RestoreSource, RestoreTarget, Unit};
use crate::remote::Command;
use crate::script;
use crate::settings;
use crate::{scram, sql};

/// A start may replay WAL for an hour (`bring_up` in `lib.sh`), and a restart stops what runs before.
const START_LIMIT_S: u64 = 3_600 + 300;

/// The label of the command that tests settings.
pub(super) const TRY: &str = "try settings";

/// The label of the command that creates an extension.
pub(super) const EXTEND: &str = "create extension";

/// A file as `write-files.sh` reads it.
fn line(file: &FileChange) -> Option<String> {
    let content = STANDARD.encode(file.content.as_ref()?.expose());
    Some(format!("{} {} {} {content}\n", file.path, file.mode, file.owner))
}

/// Restores the data as it was at that moment. `end` is how far the files in the repository lead.
pub fn restore(
    inventory: &Inventory,
    target: &RestoreTarget,
    place: RestorePlace,
    source: Option<&RestoreSource>,
    end: Lsn,
) -> Command {
    let (config, stanza) = repository(&inventory.cluster, source);
    let (place, bytes) = match place {
        RestorePlace::New => ("new", 0),
        RestorePlace::Beside { bytes } => ("beside", bytes),
    };
    script::of_postgres(inventory, "restore", script::RESTORE)
        .args(target.words())
        .arg(place)
        .arg(config)
        .arg(stanza)
        .args([bytes.to_string(), end.to_string()])
        .stdin(script::RESTORE_UNIT)
        // As long as it takes to copy everything, and to replay what has been written since.
        .limit(2 * 86_400)
}

/// Puts on a host what another cluster's repository is opened with. The restore takes it away again.
pub fn open_source(source: &RestoreSource) -> Command {
    let file = |path: &str, mode, owner, content| {
        line(&FileChange { path: path.into(), mode, owner, content: Some(content), before: None })
    };
    let config = file(RestoreSource::CONFIG, "640", "root:postgres", Content::Secret(source.config.clone()));
    let ca = source.ca.clone().and_then(|ca| file(RestoreSource::CA, "644", "root:root", Content::Plain(ca)));
    let lines: String = config.into_iter().chain(ca).collect();
    Command::new("open the repository", script::WRITE_FILES).stdin(lines)
}

/// Takes it away again, where no restore has.
pub fn close_source() -> Command {
    Command::new("close the repository", script::FORGET).args([RestoreSource::CONFIG, RestoreSource::CA])
}

/// Puts the copy of that moment, made when the files in the repository led to `end`, in the place of the data.
pub fn swap(inventory: &Inventory, target: &RestoreTarget, end: Lsn) -> Command {
    script::of_postgres(inventory, "swap", script::SWAP)
        .args(target.words())
        .arg(end.to_string())
        .stdin(script::SWAP_UNIT)
        // A checkpoint, a stop and a start, each of which may take minutes.
        .limit(3_600)
}

/// Deletes the data that a restore has replaced; prints how many MB it was, or nothing.
pub fn discard(inventory: &Inventory) -> Command {
    script::of_postgres(inventory, "discard", script::DISCARD).limit(3_600)
}

/// The command for an action that consists of one command on one host; `None` for other actions.
pub fn of(inventory: &Inventory, action: &Action, program: &[u8]) -> Option<Command> {
    let postgres = |label, script| script::of_postgres(inventory, label, script).limit(120);
    let psql = |label, database: &str, sql: String| script::psql(inventory, label, database, sql).limit(120);
    Some(match action {
        Action::UpdateLists => Command::new("apt-get update", script::UPDATE_LISTS).limit(900),
        Action::AddRepository { archive } => {
            let which = if *archive { "archive" } else { "pgdg" };
            Command::new("add apt repository", script::UPDATE_LISTS).arg(which).limit(900)
        }
        Action::Install { packages } => {
            Command::new("apt-get install", script::INSTALL).args(packages).limit(1800)
        }
        Action::TrySettings { text, sha256 } => {
            postgres(TRY, script::TRY_SETTINGS).arg(sha256).stdin(text.as_str())
        }
        Action::WriteFiles { files } => {
            let lines: Option<String> = files.iter().map(line).collect();
            Command::new("write files", script::WRITE_FILES).stdin(lines?)
        }
        Action::Configure { file, .. } => Command::new("change members", script::CONFIGURE)
            .arg(Unit::ClusterNode.name())
            .stdin(line(file)?)
            .limit(120),
        Action::InstallProgram { sha256 } => Command::new("install cluster-node", script::PROGRAM)
            .arg("/usr/local/bin/cluster-node")
            .arg(sha256)
            .stdin(program)
            .limit(300),
        Action::CreateData { first } => {
            postgres("create data directory", script::CREATE_DATA).arg(if *first { "first" } else { "later" })
        }
        Action::StartNew { made } => {
            let role = if *made == DataStage::Witness { "witness" } else { "primary" };
            postgres("start PostgreSQL", script::START_NEW).arg(role).limit(START_LIMIT_S)
        }
        Action::RegisterPrimary => postgres("repmgr primary register", script::REGISTER_PRIMARY),
        // A day: a large database on a small server.
        Action::Clone { conninfo, .. } => postgres("repmgr standby clone", script::CLONE)
            .arg(conninfo)
            .stdin(script::CLONE_UNIT)
            .limit(86_400),
        Action::StartStandby => {
            postgres("start PostgreSQL", script::START_STANDBY).limit(START_LIMIT_S)
        }
        // Its row comes back when everything before it is replayed.
        Action::RegisterStandby => postgres("repmgr standby register", script::REGISTER_STANDBY).limit(720),
        Action::RegisterWitness { primary_host } => {
            postgres("repmgr witness register", script::REGISTER_WITNESS).arg(primary_host)
        }
        Action::Role { name, password, superuser, replication, settings, exists } => {
            let verb = if *exists { "alter" } else { "create" };
            let mut statement = sql::role(verb, name, *superuser, *replication, &scram::verifier(password));
            for (setting, value) in *settings {
                let role = sql::identifier(name);
                statement.push_str(&format!("alter role {role} set {setting} = {};\n", sql::literal(value)));
            }
            psql("set role", "postgres", statement)
        }
        Action::Database { name, owner } => {
            let (name, owner) = (sql::identifier(name), sql::identifier(owner));
            psql("create database", "postgres", format!("create database {name} owner {owner};\n"))
        }
        Action::Extension { name, database } => {
            let sql = format!("create extension if not exists {} cascade;\n", sql::identifier(name));
            psql(EXTEND, database, sql).limit(600)
        }
        Action::Reload => postgres("reload PostgreSQL", script::RELOAD),
        Action::Restart { .. } => postgres("restart PostgreSQL", script::RESTART)
            .args(settings::hot_standby().map(|(name, control)| format!("{name}:{control}")))
            .limit(START_LIMIT_S),
        Action::Services { units, .. } => Command::new("start services", script::SERVICES)
            .args(units.iter().map(|unit| unit.name()))
            .limit(120),
        Action::ImportSshKey
        | Action::CreateServer
        | Action::AwaitServer { .. }
        | Action::RemakeServer { .. }
        | Action::PowerOn { .. }
        | Action::Resize { .. }
        | Action::Switchover { .. }
        | Action::CreateFloatingIp { .. }
        | Action::RecordFloatingIp
        | Action::AssignFloatingIp { .. }
        | Action::MakeRepository
        // How far the repository leads is asked first.
        | Action::Restore { .. }
        | Action::Reach
        | Action::ReplaceHostKey => return None,
    })
}
