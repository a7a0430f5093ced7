//! `cluster backup`: what the operator asks of the repository. Backups themselves are the nodes' work.

use anyhow::{Context as _, Result};
use cluster_contract::backup::Contents;
use comfy_table::{Table, presets};
use secrecy::ExposeSecret as _;

use super::{in_world, read};
use crate::cli::BackupCommand;
use crate::control;
use crate::error::{Advice, Exit};
use crate::health::backup::{repository, size};
use crate::health::health;
use crate::inventory::{self, Inventory, Source};
use crate::plan::restore::can_be_mark;
use crate::report::{Format, visible};
use crate::world::World;
use crate::{data, screen};

pub(super) async fn run(
    source: &Source,
    full: bool,
    command: Option<BackupCommand>,
    json: bool,
) -> Result<Exit> {
    let inventory = read(source)?;
    let repository = repository(declared(&inventory)?);
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        match &command {
            Some(BackupCommand::Passphrase) => return passphrase(&world, json),
            Some(BackupCommand::Mark { name }) if !can_be_mark(name) => {
                return Err(Advice::usage(format!("`{name}` cannot be the name of a mark"))
                    .hint("use lower-case letters, digits, `-` and `_`, for instance before-migration")
                    .into());
            }
            _ => {}
        }
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let primary = health.primary.ok_or_else(|| {
            Advice::refused("no node takes writes, and only the primary backs up")
                .hint("`cluster status` shows what is wrong")
        })?;
        match command {
            None => {
                let kind = if full { "full" } else { "differential" };
                world.report.progress(&primary, format!("taking a {kind} backup to {repository}"));
                show(&control::backup(&world, &primary, full).await?, json)
            }
            Some(BackupCommand::List) => show(&control::backups(&world, &primary).await?, json),
            Some(BackupCommand::Check) => {
                world.report.progress(&primary, format!("archiving a WAL file to {repository}"));
                control::check_repository(&world, &primary).await?;
                if json {
                    screen::json(&serde_json::json!({"repository": repository, "works": true}))?;
                } else {
                    data!("{primary} archives to {repository}");
                }
                Ok(Exit::Done)
            }
            Some(BackupCommand::Mark { name }) => mark(&world, &primary, &name, json).await,
            Some(BackupCommand::Passphrase) => unreachable!("answered above"),
        }
    })
    .await
}

fn declared(inventory: &Inventory) -> Result<&inventory::Backup> {
    inventory.backup.as_ref().ok_or_else(|| {
        Advice::refused("the inventory names no backup repository")
            .hint("add a `backup` key (docs/backups.md) and run `cluster up`")
            .into()
    })
}

async fn mark(world: &World, primary: &str, name: &str, json: bool) -> Result<Exit> {
    let mark = world.set_mark(primary, name).await?.ok_or_else(|| {
        Advice::refused(format!("there is a mark `{name}` already")).hint("choose another name")
    })?;
    if json {
        screen::json(&mark)?;
    } else {
        data!("{name} is {} ({})", mark.lsn, mark.at);
    }
    Ok(Exit::Done)
}

fn passphrase(world: &World, json: bool) -> Result<Exit> {
    let kept = world.kept_passphrase()?.ok_or_else(|| {
        Advice::refused("this machine does not know the passphrase")
            .hint("`cluster up` makes it, or takes it from a node")
    })?;
    if json {
        screen::json(&serde_json::json!({"passphrase": kept.expose_secret()}))?;
    } else {
        data!("{}", kept.expose_secret());
    }
    Ok(Exit::Done)
}

fn show(contents: &Contents, json: bool) -> Result<Exit> {
    if json {
        screen::json(contents)?;
        return Ok(Exit::Done);
    }
    if contents.backups.is_empty() {
        data!("no backups yet");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["BACKUP", "KIND", "ENDED", "TIMELINE", "DATA", "ADDED"]);
    for backup in &contents.backups {
        let damaged = if backup.damaged { " (damaged pages)" } else { "" };
        table.add_row([
            visible(&backup.label),
            format!("{}{damaged}", backup.kind),
            moment(backup.ended)?,
            backup.timeline.to_string(),
            size(backup.size),
            size(backup.added),
        ]);
    }
    for line in table.to_string().lines() {
        data!("{}", line.trim_end());
    }
    data!("");
    for interval in &contents.intervals {
        data!("can be restored to any moment from {} to {}", moment(interval.from)?, moment(interval.until)?);
    }
    for gap in &contents.gaps {
        let (from, to) = (visible(&gap.from), visible(&gap.to));
        data!("missing in the archive: {} WAL files, {from} to {to}", gap.files);
    }
    Ok(Exit::Done)
}

fn moment(seconds: i64) -> Result<String> {
    let at = jiff::Timestamp::from_second(seconds).context("a backup ended at no time that there is")?;
    Ok(at.strftime("%F %TZ").to_string())
}
