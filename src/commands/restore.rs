//! `cluster restore`: a cluster as it was at an earlier moment, in its own place or as another cluster.
//!
//! In place, everything that takes time is done beside the data while the primary takes writes: the backup is copied and
//! WAL replayed by a server of its own. Only then do the two exchange their places, within one restart, for which the
//! guard keeps its lease. The copy is on a later timeline than anything else in the cluster, and the later timeline wins
//! with voters and standbys: they follow as they follow after a failover.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};
use cluster_contract::backup::{Backup, Contents};
use cluster_contract::paths;
use cluster_contract::position::Lsn;
use cluster_contract::status::Status;
use owo_colors::OwoColorize as _;

use super::confirm::confirm;
use super::up::{self, can_be_found, can_be_restored};
use super::{in_world, interruptible, read};
use crate::apply::{self, command};
use crate::error::{Advice, Exit};
use crate::facts::{Facts, Host};
use crate::health::backup::{repository, size, span};
use crate::health::{Health, health};
use crate::inventory::{Inventory, Role, Source};
use crate::plan::restore::{EXPECTED, RestorePlace};
use crate::plan::{Restore, RestoreSource, RestoreTarget, files};
use crate::poll::poll_until;
use crate::report::Format;
use crate::world::World;
use crate::{control, data, screen, tell};

/// How long the guard may take to say where the new server stands.
const POSITION_PATIENCE: Duration = Duration::from_secs(30);
/// How long the standbys may take to follow, and the next backup to end; both go on without the command.
const PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `cluster restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The moment: a time with its zone, a WAL position, the name of a mark, or `latest`
    #[arg(long, value_name = "TARGET", required_unless_present = "discard")]
    to: Option<RestoreTarget>,
    /// Leave this cluster as it is, and create the one that FILE describes from its repository
    #[arg(long = "as", value_name = "FILE", value_hint = ValueHint::FilePath)]
    other: Option<PathBuf>,
    /// Delete the data that an earlier restore has replaced
    #[arg(long, conflicts_with_all = ["to", "other"])]
    discard: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(named: &Source, args: RestoreArgs, json: bool) -> Result<Exit> {
    let inventory = read(named)?;
    let Some(target) = args.to else { return discard(inventory, args.yes, json).await };
    can_be_restored(&inventory, &target)?;
    let Some(other) = &args.other else { return in_place(inventory, target, args.yes, json).await };
    let other = Source { file: other.clone(), extra_vars: Vec::new() };
    let apart = read(&other)?;
    stands_apart(&inventory, &apart)?;
    let (source, target) = source(inventory, target, json).await?;
    up::run(&other, None, Some(Restore { target, source: Some(source) }), json).await
}

async fn in_place(inventory: Inventory, target: RestoreTarget, yes: bool, json: bool) -> Result<Exit> {
    in_world(inventory, Format::beside_result(json), Some("restore"), |world| async move {
        let _lock = world.begin("restore")?;
        let facts = world.observe_or_remember().await?;
        let before = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let (primary, guard) = leader(&world, &before).await?;
        world.report.progress(&primary, "archiving what is written until now");
        control::check_repository(&world, &primary).await?;
        world.report.progress(&primary, "reading what can be restored");
        let contents = control::backups(&world, &primary).await?;
        let target = position(&world, &primary, target).await?;
        let end = is_within(&target, &contents)?;
        announce(&world.inventory, &primary, &guard, &target);
        confirm("cluster", &world.inventory.cluster, yes, "nothing was changed")?;
        world.lock_cluster(&facts).await?;

        let bytes = contents.backups.iter().map(|backup| backup.size).max().unwrap_or_default();
        let place = RestorePlace::Beside { bytes };
        let step = format!("restore a copy beside the data, up to {target}");
        let copy = apply::on_host(
            &world,
            &primary,
            "restore-beside",
            &step,
            &command::restore(&world.inventory, &target, place, None, end),
        )
        .await?;
        let restored_to = copy.stdout.trim().lines().last().unwrap_or_default().to_owned();
        world.report.note(format!("{primary}: {restored_to}"));
        let begun = Instant::now();
        let step = "put the copy in the place of the data";
        apply::on_host(&world, &primary, "swap", step, &command::swap(&world.inventory, &target, end))
            .await?;
        let stopped = begun.elapsed();
        // Roles, passwords and databases are those of then; the inventory's are wanted.
        world.restores();
        let outcome = apply::converge(&world, &interruptible()).await?;
        for trouble in &outcome.troubles {
            let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            world.report.warning(format!("{place}{} ({})", trouble.message, trouble.hint));
        }
        // The guard may not have looked at the new server yet, and tell of the one before: the new timeline is a later one.
        let replaced = guard.position.map_or(0, |it| it.timeline);
        let timeline = poll_until(POSITION_PATIENCE, Duration::from_millis(500), async || {
            let position = control::status(&world, &primary).await.ok().and_then(|it| it.position);
            let timeline = position.map(|it| it.timeline);
            Ok::<_, anyhow::Error>(timeline.filter(|timeline| *timeline > replaced))
        });
        let timeline = timeline.await?;
        let redundant = standbys(&world, begun).await;
        let backup = next_backup(&world, timeline).await;
        let kept = format!("{}.before-restore", paths::data_directory(world.inventory.postgresql.version));
        if json {
            screen::json(&serde_json::json!({
                "restored": restored_to, "primary": primary, "timeline": timeline,
                "seconds_without_writes": stopped.as_secs_f64(),
                "redundant_after": redundant.map(|it| it.as_secs_f64()),
                "backup": backup.as_ref().map(|it| &it.label), "kept": kept,
            }))?;
        } else {
            data!(
                "{}: {restored_to}; writes were refused for {:.1} s",
                world.inventory.cluster,
                stopped.as_secs_f64()
            );
            match redundant {
                Some(after) => data!("the standbys stream again ({:.1} s)", after.as_secs_f64()),
                None => {
                    data!("not all standbys stream yet; they continue by themselves, see `cluster status`")
                }
            }
            match backup {
                Some(backup) => data!("backup {} is the first of the new timeline", backup.label),
                None => data!("the next backup follows by itself; see `cluster status`"),
            }
            data!("{primary} keeps the replaced data in {kept}; `cluster restore --discard` deletes it");
        }
        Ok(if redundant.is_some() { Exit::Done } else { Exit::Unhealthy })
    })
    .await
}

/// The primary and what its guard says: without the lease nothing keeps others from taking over in the meantime.
async fn leader(world: &World, before: &Health) -> Result<(String, Status)> {
    if before.paused {
        return Err(Advice::refused("the cluster is paused: the standbys would not follow")
            .hint("`cluster resume` ends the pause")
            .into());
    }
    let Some(primary) = before.primary.clone() else {
        return Err(Advice::refused("no node takes writes")
            .hint("`cluster status` shows what is wrong; `cluster up --from-backup` restores a cluster of which nothing is left")
            .into());
    };
    let guard = control::status(world, &primary).await?;
    if !guard.leads() {
        return Err(Advice::refused(format!("{primary} does not hold the lease"))
            .hint("a restore needs a majority of the nodes; `cluster status` shows which are up")
            .into());
    }
    Ok((primary, guard))
}

/// What a mark stands for; any other target is itself.
async fn position(world: &World, primary: &str, target: RestoreTarget) -> Result<RestoreTarget> {
    let RestoreTarget::Mark(name) = target else { return Ok(target) };
    let marks = world.marks(primary).await?;
    match marks.iter().find(|mark| mark.name == name) {
        Some(mark) => Ok(RestoreTarget::Lsn(mark.lsn)),
        None => {
            let names: Vec<&str> = marks.iter().map(|mark| mark.name.as_str()).collect();
            let hint = match names.as_slice() {
                [] => format!("use {EXPECTED}; `cluster backup mark` sets one"),
                names => format!("its marks are {}", names.join(", ")),
            };
            Err(Advice::refused(format!("{} has no mark `{name}`", world.inventory.cluster))
                .hint(hint)
                .into())
        }
    }
}

fn is_within(target: &RestoreTarget, contents: &Contents) -> Result<Lsn> {
    let hint = "`cluster backup list` shows what can be";
    target.within(contents).map_err(|out| out.refusal(target, hint).into())
}

/// What will be given up, and what is kept.
fn announce(inventory: &Inventory, primary: &str, guard: &Status, target: &RestoreTarget) {
    let cluster = inventory.cluster.bold();
    let given_up = match target {
        RestoreTarget::Latest | RestoreTarget::Mark(_) => {
            "nothing that has been archived is given up".to_owned()
        }
        RestoreTarget::Time(at) => {
            let ago = jiff::Timestamp::now().as_second().saturating_sub(at.as_second());
            format!(
                "everything committed after that is given up: the last {}",
                span(u64::try_from(ago).unwrap_or_default())
            )
        }
        RestoreTarget::Lsn(at) => {
            let end = guard.position.map_or(0, |position| position.lsn);
            format!(
                "everything after that is given up: {} of WAL, up to {}",
                size(end.saturating_sub(at.0)),
                Lsn(end)
            )
        }
    };
    tell!("{cluster} goes back to {target}; {given_up}.");
    tell!(
        "  A copy is restored beside the data of {primary} while that takes writes; then the two exchange their places,"
    );
    tell!(
        "  and applications are cut off for some seconds. The data of now stays on {primary} until you delete it."
    );
}

/// Waits until every standby that can be reached streams; none if that takes too long.
async fn standbys(world: &Arc<World>, begun: Instant) -> Option<Duration> {
    let whole = poll_until(PATIENCE, Duration::from_secs(1), async || {
        let facts = world.observe_or_remember().await?;
        let now = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let lacking: Vec<&str> = world
            .inventory
            .data_nodes()
            .map(|node| node.name.as_str())
            .filter(|name| now.primary.as_deref() != Some(name) && !streams(&now, name))
            .collect();
        let Some(first) = lacking.first() else { return Ok(Some(begun.elapsed())) };
        world.report.progress(first, format!("following the new timeline ({} s)", begun.elapsed().as_secs()));
        Ok::<_, anyhow::Error>(None)
    });
    whole.await.ok().flatten()
}

fn streams(health: &Health, name: &str) -> bool {
    health.nodes.iter().any(|node| node.name == name && node.state == "streaming")
}

/// Waits for the first backup of the new timeline.
async fn next_backup(world: &Arc<World>, timeline: Option<u32>) -> Option<Backup> {
    // Of a timeline that is not known there is none to be recognized.
    timeline?;
    let begun = Instant::now();
    let taken = poll_until(PATIENCE, Duration::from_secs(2), async || {
        let facts = world.observe_or_remember().await?;
        let now = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let last = now.backups.as_ref().and_then(|backups| backups.last()).cloned();
        let last = last.filter(|last| Some(last.timeline) == timeline);
        if last.is_none() {
            let seconds = begun.elapsed().as_secs();
            world
                .report
                .progress("cluster", format!("waiting for a backup of the new timeline ({seconds} s)"));
        }
        Ok::<_, anyhow::Error>(last)
    });
    taken.await.ok().flatten()
}

/// A copy shares nothing with its original: neither name nor repository, and no server of theirs is another version's.
fn stands_apart(inventory: &Inventory, other: &Inventory) -> Result<()> {
    let refused = |message: String, hint: &str| Err(Advice::refused(message).hint(hint).into());
    if inventory.cluster == other.cluster {
        return refused(
            format!("both inventories describe the cluster `{}`", other.cluster),
            "give the copy another `cluster` and hosts of its own",
        );
    }
    let (Some(from), Some(to)) = (&inventory.backup, &other.backup) else {
        return refused(
            format!("the inventory of `{}` names no backup repository", other.cluster),
            "add a `backup` key: the copy is backed up as well, into a repository of its own",
        );
    };
    if repository(from) == repository(to) {
        return refused(
            format!("`{}` would archive into the repository of `{}`", other.cluster, inventory.cluster),
            "give the copy another bucket, or another `backup.folder`",
        );
    }
    let (ours, theirs) = (inventory.postgresql.version, other.postgresql.version);
    if ours != theirs {
        return refused(
            format!("the backups are of PostgreSQL {ours}, and `{}` wants {theirs}", other.cluster),
            "restore to the same version; an upgrade is another step",
        );
    }
    Ok(())
}

/// What opens the repository of this cluster, of which nothing else may be left; and the target, as far as the cluster
/// itself can say what it is.
async fn source(
    inventory: Inventory,
    target: RestoreTarget,
    json: bool,
) -> Result<(RestoreSource, RestoreTarget)> {
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        world.require_passphrase()?;
        let facts = match world.observe_or_remember().await {
            Ok(facts) => facts,
            Err(error) => {
                world.report.warning(format!("{} was not asked: {error:#}", world.inventory.cluster));
                Facts::default()
            }
        };
        let now = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let target = match &now.primary {
            Some(primary) => {
                world.report.progress(primary, "archiving what is written until now");
                control::check_repository(&world, primary).await?;
                let target = position(&world, primary, target).await?;
                is_within(&target, &control::backups(&world, primary).await?)?;
                target
            }
            None => {
                can_be_found(&target)?;
                world.report.warning(format!(
                    "{} has no primary to ask whether {target} can be restored; the copy's first host will look",
                    world.inventory.cluster
                ));
                target
            }
        };
        let means = world.backup_means(&facts).await?.context("the inventory names no repository")?;
        let source = files::source(&world.inventory, &means).ok_or_else(|| {
            Advice::refused(format!(
                "this machine does not have the key of {}'s bucket",
                world.inventory.cluster
            ))
            .hint("run this on the machine that created the cluster, or `cluster up` for it first")
        })?;
        Ok((source, target))
    })
    .await
}

async fn discard(inventory: Inventory, yes: bool, json: bool) -> Result<Exit> {
    in_world(inventory, Format::beside_result(json), Some("restore"), |world| async move {
        let _lock = world.begin("restore")?;
        confirm("cluster", &world.inventory.cluster, yes, "nothing was deleted")?;
        let facts = world.observe_or_remember().await?;
        world.lock_cluster(&facts).await?;
        let (mut freed, mut absent) = (Vec::new(), Vec::new());
        for node in world.inventory.nodes.iter().filter(|node| node.role != Role::Witness) {
            if facts.hosts.get(&node.name).and_then(Host::up).is_none() {
                absent.push(node.name.clone());
                continue;
            }
            let output = world.run(&node.name, &command::discard(&world.inventory), &|_| {}).await?;
            if let Ok(megabytes) = output.stdout.trim().parse::<u64>() {
                freed.push((node.name.clone(), megabytes));
            }
        }
        if json {
            let freed: std::collections::BTreeMap<_, _> = freed.into_iter().collect();
            screen::json(&serde_json::json!({"freed_megabytes": freed, "not_reached": absent}))?;
            return Ok(Exit::Done);
        }
        for (node, megabytes) in &freed {
            data!("{node}: the data of before the restore is deleted ({megabytes} MB)");
        }
        if freed.is_empty() {
            data!("no node keeps data of before a restore");
        }
        for node in absent {
            world.report.warning(format!("{node} was not reached"));
        }
        Ok(Exit::Done)
    })
    .await
}
