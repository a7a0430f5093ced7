//! `cluster plan`: what `up` would do.

use std::path::Path;

use std::fmt::Write as _;

use anstream::{print, println};
use anyhow::Result;
use owo_colors::OwoColorize as _;
use serde_json::json;
use similar::TextDiff;

use super::{in_world, read};
use crate::error::Exit;
use crate::plan::files::{Content, FileChange};
use crate::plan::{self, Action, Plan, Risk, Step};
use crate::report::{Format, visible};

pub(super) async fn run(path: &Path, check: bool, json: bool) -> Result<Exit> {
    let inventory = read(path)?;
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        let facts = world.observe().await?;
        world.preflight(&facts).await?;
        let means = world.means(&facts).await?;
        let plan = plan::plan(&world.inventory, &facts, &means);
        if json {
            println!("{}", serde_json::to_string_pretty(&as_json(&world.inventory.cluster, &plan))?);
        } else {
            print!("{}", text(&plan));
        }
        Ok(match () {
            () if !plan.refusals.is_empty() => Exit::Refused,
            () if check && !plan.steps.is_empty() => Exit::Unhealthy,
            () => Exit::Done,
        })
    })
    .await
}

/// The plan for a program.
pub fn as_json(cluster: &str, plan: &Plan) -> serde_json::Value {
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let files: Vec<_> = changes(step)
                .iter()
                .map(|file| json!({"path": file.path, "mode": file.mode, "owner": file.owner, "diff": diff(file)}))
                .collect();
            json!({
                "phase": step.phase, "node": step.node, "action": step.action.summary(), "why": step.why,
                "risk": step.risk(), "files": files,
            })
        })
        .collect();
    json!({"cluster": cluster, "refusals": plan.refusals, "problems": plan.troubles, "steps": steps})
}

/// The plan for a person, coloured.
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(plan, &mut text);
    text
}

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
    if !plan.refusals.is_empty() {
        return Ok(());
    }
    let mut phase = None;
    for step in &plan.steps {
        if phase != Some(step.phase.title()) {
            phase = Some(step.phase.title());
            writeln!(out, "{} {}", "==".dimmed(), step.phase.title())?;
        }
        let risk = match step.risk() {
            Risk::Safe => String::new(),
            Risk::Restart => format!(" {}", "[restart]".yellow()),
            Risk::Destructive => format!(" {}", "[replaces an empty data directory]".red()),
        };
        let lane = format!("{:<8}", step.node.as_deref().unwrap_or("provider"));
        let why = visible(&format!("({})", step.why));
        writeln!(out, "{} {}{risk} {}", lane.bold(), visible(&step.action.summary()), why.dimmed())?;
        for file in changes(step) {
            writeln!(out, "         {} {} {}", file.path, file.mode.dimmed(), file.owner.dimmed())?;
            for line in visible(&diff(file)).lines() {
                let line = format!("           {line}");
                match line.trim_start().chars().next() {
                    Some('+') => writeln!(out, "{}", line.green())?,
                    Some('-') => writeln!(out, "{}", line.red())?,
                    _ => writeln!(out, "{}", line.dimmed())?,
                }
            }
        }
    }
    match plan.steps.len() {
        0 => writeln!(out, "nothing to do"),
        1 => writeln!(out, "1 step"),
        count => writeln!(out, "{count} steps"),
    }
}

fn changes(step: &Step) -> &[FileChange] {
    match &step.action {
        Action::WriteFiles { files } => files,
        _ => &[],
    }
}

/// What changes in a file; a new file is all new, a secret is not shown.
fn diff(file: &FileChange) -> String {
    match &file.content {
        None => "(known when all addresses are)\n".into(),
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
