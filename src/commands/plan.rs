//! `cluster plan`: what `up` would do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use owo_colors::OwoColorize as _;
use serde_json::json;
use similar::TextDiff;

use super::{in_world, read, today};
use crate::error::{Advice, Exit, with_exit};
use crate::inventory::Source;
use crate::plan::files::{Content, FileChange};
use crate::plan::old_hosts::old_hosts;
use crate::plan::saved::Saved;
use crate::plan::{self, Action, Plan, Risk, Step, cost};
use crate::report::{Format, visible};
use crate::{data, screen, tell};

/// What is asked of a plan besides showing it.
pub(super) struct Wish {
    /// Exit with 4 if there is anything to do, or a problem.
    pub(super) check: bool,
    /// Exit as Terraform's `-detailed-exitcode` does it.
    pub(super) exit_code: bool,
    /// Where the plan is written to.
    pub(super) out: Option<PathBuf>,
}

pub(super) async fn run(source: &Source, wish: &Wish, json: bool) -> Result<Exit> {
    let shown = show(source, wish, json).await;
    if !wish.exit_code {
        return shown;
    }
    match shown {
        // A pipeline that reads 2 as "something to do" must not read it in a mistaken inventory.
        Ok(Exit::Refused) => Ok(Exit::Failed),
        Ok(exit) => Ok(exit),
        Err(error) => Err(with_exit(error, Exit::Failed)),
    }
}

async fn show(source: &Source, wish: &Wish, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        let mut warnings = world.inventory.warnings_on(today());
        for warning in &warnings {
            world.report.warning(warning);
        }
        let facts = world.observe().await?;
        for warning in old_hosts(&world.inventory, &facts, today()) {
            world.report.warning(&warning);
            warnings.push(warning);
        }
        world.preflight(&facts).await?;
        let means = world.means(&facts).await?;
        let plan = plan::plan(&world.inventory, &facts, &means);
        let cost = cost(&world.inventory, &facts);
        let mut shown = as_json(&world.inventory.cluster, &plan);
        shown["monthly_cost"] = json!(cost);
        shown["warnings"] = json!(warnings);
        if json {
            screen::json(&shown)?;
        } else {
            data!("{}", text(&plan));
            if let Some(cost) = cost {
                data!("droplets: {cost}");
            }
        }
        if let Some(path) = wish.out.as_deref().filter(|_| plan.refusals.is_empty()) {
            let saved = Saved::new(&world.inventory.cluster, &plan, &facts, &means.cluster_key, shown);
            write(path, &(serde_json::to_string_pretty(&saved)? + "\n"))?;
            let again = format!("up --plan {} -i {}", path.display(), world.inventory.file.display());
            tell!("written to {}; `cluster {again}` carries out this plan and no other", path.display());
        }
        Ok(match () {
            () if !plan.refusals.is_empty() => Exit::Refused,
            () if wish.exit_code && !plan.steps.is_empty() => Exit::CHANGES,
            // `up` fails as well: the cluster is not as described, and no step makes it so.
            () if wish.exit_code && !plan.troubles.is_empty() => Exit::Failed,
            () if wish.check && !(plan.steps.is_empty() && plan.troubles.is_empty()) => Exit::Unhealthy,
            () => Exit::Done,
        })
    })
    .await
}

/// Writes a plan, which tells nobody else what the cluster is like, whole or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Advice::failed(format!("cannot write {}: {error}", path.display())).into())
}

/// The plan as JSON.
pub fn as_json(cluster: &str, plan: &Plan) -> serde_json::Value {
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let files: Vec<_> = changes(step)
                .iter()
                .map(|file| json!({"path": file.path, "mode": file.mode, "owner": file.owner, "diff": diff(file)}))
                .collect();
            let mut one = json!({
                "phase": step.phase, "node": step.node, "kind": step.action.kind(), "action": step.action.summary(),
                "reason": step.why, "why": step.why.to_string(),
                "risk": step.risk(), "files": files,
            });
            if let Some(interrupts) = &step.interrupts {
                one["interrupts"] = json!(interrupts);
            }
            one
        })
        .collect();
    json!({"cluster": cluster, "refusals": plan.refusals, "problems": plan.troubles, "notes": plan.notes, "steps": steps, "then": plan.then})
}

/// The plan as colored text.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(plan, &mut text);
    text
}

/// What a destructive step deletes, in a few words.
fn destroys(action: &Action) -> &'static str {
    match action {
        Action::RemakeServer { .. } => "[deletes a droplet that never ran]",
        _ => "[replaces an empty data directory]",
    }
}

/// The lane of steps that belong to no node.
const PROVIDER: &str = "provider";

fn write_text(plan: &Plan, out: &mut String) -> std::fmt::Result {
    for (kind, list) in [("refused:", &plan.refusals), ("problem:", &plan.troubles)] {
        for trouble in list {
            let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            writeln!(
                out,
                "{} {place}{}\n  hint: {}",
                kind.red().bold(),
                visible(&trouble.message),
                visible(&trouble.hint)
            )?;
        }
    }
    for note in &plan.notes {
        let place = note.node.as_ref().map_or(String::new(), |node| format!("{node} "));
        writeln!(out, "{} {place}{}\n  hint: {}", "note:".yellow().bold(), note.message, note.hint)?;
    }
    if !plan.refusals.is_empty() {
        return Ok(());
    }
    let width = plan.steps.iter().filter_map(|step| Some(step.node.as_ref()?.chars().count())).max();
    let width = width.unwrap_or_default().max(PROVIDER.len());
    let mut phase = None;
    let mut shown = BTreeSet::new();
    for step in &plan.steps {
        if phase != Some(step.phase.title()) {
            phase = Some(step.phase.title());
            writeln!(out, "{} {}", "==".dimmed(), step.phase.title())?;
        }
        let risk = match step.risk() {
            Risk::Safe => String::new(),
            Risk::Restart => {
                let interrupts = step.interrupts.as_ref().map_or(String::new(), |it| format!(": {it}"));
                format!(" {}", format!("[restart{interrupts}]").yellow())
            }
            Risk::Destructive => format!(" {}", destroys(&step.action).red()),
        };
        let lane = format!("{:<width$}", step.node.as_deref().unwrap_or(PROVIDER));
        let why = visible(&format!("({})", step.why));
        writeln!(out, "{} {}{risk} {}", lane.bold(), visible(&step.action.summary()), why.dimmed())?;
        for file in changes(step) {
            write_change(plan, file, &mut shown, out)?;
        }
    }
    for consequence in &plan.then {
        let interrupts: Vec<&str> = consequence.interrupts.iter().map(|it| it.what.as_str()).collect();
        let interrupts =
            if interrupts.is_empty() { String::new() } else { format!(" ({})", interrupts.join("; ")) };
        let nodes = consequence.nodes.join(", then ");
        let nodes = if consequence.risk == Risk::Safe { consequence.nodes.join(", ") } else { nodes };
        writeln!(out, "{} {} on {nodes}{}", "then:".bold(), consequence.action, interrupts.yellow())?;
    }
    match plan.steps.len() {
        0 if plan.troubles.is_empty() => writeln!(out, "nothing to do"),
        0 if plan.troubles.len() == 1 => {
            writeln!(out, "no steps: `up` can do nothing about the problem above")
        }
        0 => writeln!(out, "no steps: `up` can do nothing about the problems above"),
        1 => writeln!(out, "1 step"),
        count => writeln!(out, "{count} steps"),
    }
}

/// Prints the change of a file once, however many nodes have it.
fn write_change(
    plan: &Plan,
    file: &FileChange,
    shown: &mut BTreeSet<(String, String)>,
    out: &mut String,
) -> std::fmt::Result {
    let difference = diff(file);
    if !shown.insert((file.path.clone(), difference.clone())) {
        return Ok(());
    }
    let has = |step: &&Step| changes(step).iter().any(|it| it.path == file.path && diff(it) == difference);
    let nodes: Vec<&str> = plan.steps.iter().filter(has).filter_map(|step| step.node.as_deref()).collect();
    let place = if nodes.len() > 1 { format!(" on {}", nodes.join(", ")) } else { String::new() };
    writeln!(out, "         {} {} {}{place}", file.path, file.mode.dimmed(), file.owner.dimmed())?;
    for line in visible(&difference).lines() {
        let line = format!("           {line}");
        match line.trim_start().chars().next() {
            Some('+') => writeln!(out, "{}", line.green())?,
            Some('-') => writeln!(out, "{}", line.red())?,
            _ => writeln!(out, "{}", line.dimmed())?,
        }
    }
    Ok(())
}

fn changes(step: &Step) -> &[FileChange] {
    match &step.action {
        Action::WriteFiles { files } => files,
        _ => &[],
    }
}

/// The diff of a file; secrets are not shown.
fn diff(file: &FileChange) -> String {
    match &file.content {
        None => "(shown once the hosts and their addresses are known)\n".into(),
        Some(Content::Secret(_)) => "(secret, not shown)\n".into(),
        Some(Content::Plain(text)) => {
            let before = file.before.as_deref().unwrap_or_default();
            if before == text {
                return "(mode or owner)\n".into();
            }
            TextDiff::from_lines(before, text).unified_diff().context_radius(1).to_string()
        }
    }
}
