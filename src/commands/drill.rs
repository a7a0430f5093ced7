//! `cluster drill`: the primary is lost on purpose, while clients write and read, and what they saw is told.
//!
//! Whatever happens to this program in the middle, the cluster mends itself: the fault ends by a timer on its host, and
//! a server that is off is switched on by the next `cluster up`. `damage` makes the fault and undoes it. `restore` is
//! another drill: it breaks nothing.

mod course;
mod damage;
mod restore;
mod table;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use owo_colors::OwoColorize as _;

use self::course::Drill;
use super::confirm::confirm;
use super::{in_world, interruptible_with, read};
use crate::drill::lane::TABLE;
use crate::drill::restore::WORD;
use crate::drill::{Fault, Target, picture, preflight, text};
use crate::error::{Advice, Exit};
use crate::health::health;
use crate::inventory::Source;
use crate::report::Format;
use crate::{data, screen, tell};

/// `cluster drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The fault to inject
    #[arg(short, long, value_enum)]
    fault: Exercise,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Draw the accepted and refused writes over time to FILE
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    svg: Option<PathBuf>,
}

/// What `--fault` names: a fault, or a restore, which harms nothing.
#[derive(Clone, Copy, Debug)]
enum Exercise {
    Fault(Fault),
    Restore,
}

impl ValueEnum for Exercise {
    fn value_variants<'a>() -> &'a [Exercise] {
        static ALL: LazyLock<Vec<Exercise>> = LazyLock::new(|| {
            let faults = Fault::value_variants().iter().map(|fault| Exercise::Fault(*fault));
            faults.chain([Exercise::Restore]).collect()
        });
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Exercise::Fault(fault) => fault.to_possible_value(),
            Exercise::Restore => Some(PossibleValue::new(WORD).help(
                "Break nothing: restore the newest backup beside a standby, check it and throw it away",
            )),
        }
    }
}

pub(super) async fn run(source: &Source, args: DrillArgs, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    let fault = match args.fault {
        Exercise::Restore => return restore::run(inventory, args.svg.is_some(), json).await,
        Exercise::Fault(fault) => fault,
    };
    if let Some(file) = &args.svg {
        can_be_written(file)?;
    }
    preflight::possible(&inventory, fault)?;
    in_world(inventory, Format::beside_result(json), Some("drill"), |world| async move {
        let _lock = world.begin("drill")?;
        let facts = world.observe().await?;
        let before = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let target = Target::choose(&world.inventory, &facts, &before, fault)?;
        let drill = Drill::new(&world, fault, target)?;
        drill.damage.check().await?;
        announce(&world.inventory.cluster, fault, &drill.target);
        confirm("cluster", &world.inventory.cluster, args.yes, "nothing was done")?;
        world.lock_cluster(&facts).await?;
        // The question may have stood for a while, and the cluster was not this command's.
        let facts = world.observe().await?;
        let before = health(&world.inventory, &facts, &world.public_addresses(&facts));
        let now = Target::choose(&world.inventory, &facts, &before, fault)?;
        if now.primary != drill.target.primary {
            let meanwhile = format!("{} takes writes by now; nothing was done", now.primary);
            return Err(Advice::refused(meanwhile).hint("run the drill again").into());
        }
        let drill = Drill::new(&world, fault, now)?;
        let left = format!(
            "stopped at once: {}. Table {TABLE} of database cluster goes with the next drill",
            fault.left_behind(&drill.target.primary)
        );
        let stop = interruptible_with("undoing the fault; interrupt again to leave it as it is", Some(left));
        let run = drill.run(&stop).await?;
        let report = run.report();
        if json {
            screen::json(&report)?;
        } else {
            data!("{}", text::text(&report));
        }
        if let Some(file) = &args.svg {
            let drawn = std::fs::write(file, picture::svg(&report));
            drawn.with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(if report.passed { Exit::Done } else { Exit::Unhealthy })
    })
    .await
}

/// Announces the fault, the servers affected, and what applications will notice.
fn announce(cluster: &str, fault: Fault, target: &Target) {
    tell!("drill {} on cluster {}:", fault.word().bold(), cluster.bold());
    tell!("  {}", fault.deed(&target.primary, &target.successor));
    for (name, address) in &target.data {
        let role = if *name == target.primary { "is the primary" } else { "is a standby" };
        tell!("  {name} ({address}) {role}");
    }
    tell!("Applications: {}. Reads on {} go on.", fault.outlook(), target.successor);
    tell!(
        "The drill writes its own rows to table {TABLE} of database cluster and drops it at the end. Everything is put \
         back; the node that takes over remains primary."
    );
}

/// Checks before the drill that its picture can be written.
fn can_be_written(file: &Path) -> Result<()> {
    let place = std::path::absolute(file)?;
    let directory = place.parent().unwrap_or(Path::new("/"));
    if directory.is_dir() && !place.is_dir() {
        return Ok(());
    }
    Err(Advice::usage(format!("cannot write {}", file.display()))
        .hint("name a file in an existing directory with --svg")
        .into())
}
