//! `cluster status`.

use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};
use owo_colors::OwoColorize as _;

use super::{in_world, read};
use crate::error::Exit;
use crate::health::backup::{Backups, On, span};
use crate::health::{Health, health};
use crate::inventory::{Role, Source, time_text};
use crate::report::{Format, visible};
use crate::{data, screen};

pub(super) async fn run(source: &Source, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), None, |world| async move {
        let facts = world.observe_or_remember().await?;
        let health = health(&world.inventory, &facts, &world.public_addresses(&facts));
        if json {
            screen::json(&health)?;
        } else {
            data!("{}", text(&health));
        }
        Ok(if health.healthy { Exit::Done } else { Exit::Unhealthy })
    })
    .await
}

/// The state of a cluster as colored text.
pub fn text(health: &Health) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(health, &mut text);
    text
}

fn write_text(health: &Health, out: &mut String) -> std::fmt::Result {
    let primary = health.primary.as_deref().unwrap_or("none");
    writeln!(out, "{}  primary {}", health.cluster.bold(), primary.bold())?;
    if let Some(floating_ip) = &health.floating_ip {
        let address = &floating_ip.address;
        match &floating_ip.node {
            Some(node) => writeln!(out, "floating IP {address} points to {}", visible(node))?,
            None if floating_ip.known => writeln!(out, "floating IP {address} points to nowhere")?,
            None => writeln!(out, "floating IP {address}: nobody who answers knows where it points to")?,
        }
    }
    if let Some(cost) = health.monthly_cost.filter(|cost| *cost > 0.0) {
        writeln!(out, "droplets: ${cost:.2} a month")?;
    }
    if let Some(holder) = health.holder.as_ref().filter(|holder| health.primary.as_ref() != Some(holder)) {
        let doubt = if health.holder_confirmed { "" } else { ", according to the voters" };
        writeln!(out, "lease held by {}{doubt}", visible(holder))?;
    }
    if let Some(line) = lease_line(health) {
        writeln!(out, "{line}")?;
    }
    // Where nothing runs at all, that nobody would take over goes without saying.
    let runs = health.nodes.iter().any(|node| node.role != "none");
    if let Some(why) = health.failover.why.as_ref().filter(|_| runs) {
        writeln!(out, "{} {}", "failover: off:".yellow().bold(), visible(why))?;
    }
    if let Some(backups) = &health.backups {
        writeln!(out, "backups in {}: {}", visible(&backups.repository), visible(&backup_line(backups)))?;
        if let Some(line) = restore_line(backups) {
            writeln!(out, "restores: {}", visible(&line))?;
        }
    }
    for node in &health.nodes {
        if let Some(kept) = &node.kept {
            writeln!(
                out,
                "{} keeps the data of before a restore in {}; `cluster restore --discard` deletes it",
                node.name,
                visible(kept)
            )?;
        }
    }
    if let Some(run) = &health.run {
        writeln!(out, "{} is working on it", visible(&run.words()))?;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NODE", "ROLE", "STATE", "ADDRESS", "TIMELINE", "LAG", "REPMGRD", "GUARD", "VERSION"]);
    for node in &health.nodes {
        let role = if node.role == node.inventory_role.to_string() || node.role == "none" {
            node.role.clone()
        } else {
            // A failover happened; that is what it is for.
            let first = if node.inventory_role == Role::Primary { "primary" } else { "standby" };
            format!("{} (created as {first})", node.role)
        };
        let text = |value: &Option<String>| value.as_deref().map_or("-".into(), visible);
        table.add_row([
            node.name.clone(),
            visible(&role),
            visible(&node.state),
            text(&node.address),
            node.timeline.map_or("-".into(), |timeline| timeline.to_string()),
            node.lag_bytes.map_or("-".into(), bytes),
            text(&node.repmgrd),
            text(&node.guard),
            node.version
                .as_deref()
                .map_or("-".into(), |version| visible(version.split(' ').next().unwrap_or("-"))),
        ]);
    }
    writeln!(out)?;
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)?;
    if health.healthy {
        writeln!(out, "{}", "healthy".green().bold())?;
    }
    for problem in &health.problems {
        writeln!(out, "{} {}", "problem:".red().bold(), visible(problem))?;
    }
    Ok(())
}

/// The lengths of the leases, if a guard has another than the inventory.
fn lease_line(health: &Health) -> Option<String> {
    let lengths = || health.nodes.iter().filter_map(|node| Some((&node.name, node.lease_ms?)));
    lengths().find(|(_, length)| *length != health.lease_ms)?;
    let lengths: Vec<String> =
        lengths().map(|(name, length)| format!("{} on {name}", time_text(length))).collect();
    Some(format!("lease: {}; {} in the inventory", lengths.join(", "), time_text(health.lease_ms)))
}

/// The backups in a line.
fn backup_line(backups: &Backups) -> String {
    let (Some(at), Some(contents)) = (backups.at, &backups.contents) else { return "not read yet".into() };
    let age = |then: i64| span(at.saturating_sub(then).max(0).unsigned_abs());
    let last = match backups.last() {
        Some(last) => format!("{}, the last ({}) {} ago", contents.backups.len(), last.kind, age(last.ended)),
        None => "none yet".into(),
    };
    let running = backups.running.as_ref();
    let running =
        running.map_or(String::new(), |it| format!(", a {} one running for {}", it.kind, age(it.since)));
    let archived = backups.archive.last_at;
    let archived = archived.map_or(String::new(), |then| format!("; WAL archived {} ago", age(then)));
    format!("{last}{running}{archived}")
}

/// The restores in a line; none while nothing is known of the backups.
fn restore_line(backups: &Backups) -> Option<String> {
    let at = backups.at?;
    let age = |then: i64| span(at.saturating_sub(then).max(0).unsigned_abs());
    let restores = &backups.restores;
    let mut parts = vec![match &restores.proved {
        Some(On { node, it }) => {
            let backup = it.backup.as_deref().unwrap_or("a backup");
            format!("the last was proved {} ago on {node} ({backup} in {} s)", age(it.at), it.seconds)
        }
        None => "none proved yet".into(),
    }];
    if let Some(On { node, it }) = restores.failed() {
        let error = it.error.as_deref().unwrap_or_default();
        // A failure is among the problems, with why.
        parts.push(if it.impossible {
            format!("on {node} {error}")
        } else {
            format!("one failed {} ago", age(it.at))
        });
    }
    if let Some(On { node, it }) = &restores.running {
        parts.push(format!("one is tried on {node} for {} ({})", age(it.since), it.doing));
    }
    let recovery_point = backups.recovery_point_s.map(span);
    let point =
        recovery_point.map(|span| format!("; now the last {span} of writes would be lost with the cluster"));
    Some(format!("{}{}", parts.join(", "), point.unwrap_or_default()))
}

/// `0 B`, `12 KiB`, `3 MiB`.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
