//! `cluster up`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use secrecy::SecretString;

use super::{in_world, interruptible, read, today};
use crate::apply;
use crate::check;
use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::health::health;
use crate::inventory::{Inventory, Provider, Source};
use crate::plan::old_hosts::old_hosts;
use crate::plan::roles::{self, Primary};
use crate::plan::saved::Saved;
use crate::plan::{Action, Means, Plan, Restore, RestoreTarget, Step, Trouble, TroubleKind, plan};
use crate::report::{Event, Format, visible};
use crate::timings;
use crate::world::World;

/// A newly assigned address needs a moment before it works.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(30);

/// A newly started service needs a moment to become active.
const SERVICES_PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(
    source: &Source,
    saved: Option<&Path>,
    restore: Option<Restore>,
    json: bool,
) -> Result<Exit> {
    let inventory = read(source)?;
    let saved = saved.map(|path| read_plan(path, &inventory)).transpose()?;
    if let Some(restore) = &restore {
        can_be_restored(&inventory, &restore.target)?;
        can_be_found(&restore.target)?;
    }
    let begun = Instant::now();
    in_world(inventory, Format::choose(json), Some("up"), |world| async move {
        let _lock = world.begin("up")?;
        world.report.send(Event::Run { command: "up".into(), cluster: world.inventory.cluster.clone() });
        for warning in world.inventory.warnings_on(today()) {
            world.report.warning(warning);
        }
        if let Some(restore) = &restore {
            world.restores();
            if restore.source.is_none() {
                world.require_passphrase()?;
            }
        }
        let (restores, new_key) = (AtomicBool::new(false), AtomicBool::new(false));
        let planner = |inventory: &Inventory, facts: &Facts, means: &Means, begun: usize| {
            let mut plan = plan(inventory, facts, &Means { restore: restore.clone(), ..means.clone() });
            if let Some(saved) = &saved {
                // Until something was done, what is looked at is the world that the plan was made for.
                keep_to(saved, begun == 0, &mut plan, facts, &means.cluster_key);
            }
            let is_one = |step: &Step| matches!(step.action, Action::Restore { .. });
            restores.fetch_or(plan.steps.iter().any(is_one), Ordering::Relaxed);
            let is_one = |step: &Step| matches!(step.action, Action::MakeRepository);
            new_key.fetch_or(plan.steps.iter().any(is_one), Ordering::Relaxed);
            plan
        };
        let outcome = apply::converge_by(&world, &interruptible(), planner).await?;
        for warning in old_hosts(&world.inventory, &outcome.facts, today()) {
            world.report.warning(warning);
        }
        let primary = roles::primary(&world.inventory, &outcome.facts);
        let mut text = match outcome.steps {
            // Whoever reads the last line alone must not take it for well.
            0 if !outcome.troubles.is_empty() => format!("{}: nothing was changed", world.inventory.cluster),
            0 => format!("{}: nothing to do", world.inventory.cluster),
            1 => format!("{}: 1 step done", world.inventory.cluster),
            steps => format!("{}: {steps} steps done", world.inventory.cluster),
        };
        if let Primary::One(name) = &primary {
            let address = entry_point(&world.inventory, &outcome.facts, name);
            let port = world.inventory.postgresql.port;
            let begun = Instant::now();
            if world.inventory.node(name).is_none_or(|node| node.reach.is_direct()) {
                let password = world.state.password("cluster")?;
                let written = check::write_through(&address, port, &password, ADDRESS_PATIENCE)
                    .await
                    .with_context(|| format!("cannot write through {address}:{port}"))?;
                text.push_str(&format!("; {address}:{port} points to {}, which takes writes", written.node));
            } else {
                // Its network, and whom pg_hba.conf lets in, are the jump host's.
                let output = world.run(name, &check::write_on_host(&world.inventory), &|_| {}).await?;
                text.push_str(&format!(
                    "; {} takes writes, as tried there: this machine has no way of its own to {address}:{port}",
                    output.stdout.trim()
                ));
            }
            timings::part("write through the address", begun);
        }
        if new_key.load(Ordering::Relaxed) {
            // The nodes have it now: whatever key there was before opens nothing any more.
            world.retire_old_repository_keys().await?;
        }
        if restore.is_some() && !restores.load(Ordering::Relaxed) {
            world.report.warning("nothing was restored: the hosts have the cluster's data already");
        }
        for trouble in &outcome.troubles {
            let place = trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            world.report.warning(format!("{place}{} ({})", trouble.message, trouble.hint));
        }
        if outcome.troubles.is_empty() {
            for problem in settled(&world, &outcome.facts).await? {
                world.report.warning(problem);
            }
        }
        for note in &outcome.notes {
            let place = note.node.as_ref().map_or(String::new(), |node| format!("{node} "));
            world.report.warning(format!("{place}{} ({})", note.message, note.hint));
        }
        let seconds = begun.elapsed().as_secs_f64();
        world.report.send(Event::Finished { steps: outcome.steps, text, seconds });
        if outcome.steps > 0 && outcome.troubles.is_empty() && !json {
            world.report.note(next(&world.inventory));
        }
        Ok(if outcome.troubles.is_empty() { Exit::Done } else { Exit::Failed })
    })
    .await
}

/// Reads a plan that `cluster plan --out` has written for this cluster.
fn read_plan(path: &Path, inventory: &Inventory) -> Result<Saved> {
    let refused = |message: String| {
        Advice::usage(message).hint("`cluster plan --out FILE` writes one; nothing was changed")
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("cannot read {}: {error}", path.display())))?;
    let saved: Saved = serde_json::from_str(&text)
        .map_err(|error| refused(format!("{} is not a saved plan: {error}", path.display())))?;
    if saved.cluster != inventory.cluster {
        let message = format!(
            "{} is a plan for cluster `{}`, and the inventory is for `{}`",
            path.display(),
            visible(&saved.cluster),
            inventory.cluster
        );
        return Err(refused(message).into());
    }
    Ok(saved)
}

/// Refuses a plan that is not the saved one, or does not follow from it.
fn keep_to(saved: &Saved, is_untouched: bool, plan: &mut Plan, facts: &Facts, key: &SecretString) {
    let (differences, what) = if is_untouched {
        let what = format!("what would be done has changed since the plan was made ({})", saved.made);
        (saved.compare(plan, facts, key).err().unwrap_or_default(), what)
    } else {
        (saved.unforeseen(plan), "what would be interrupted next was not in the plan".to_owned())
    };
    if differences.is_empty() || !plan.refusals.is_empty() {
        return;
    }
    let hint = if is_untouched {
        "nothing was changed; look at it again with `cluster plan --out`"
    } else {
        "the steps before it were done; look at the rest with `cluster plan --out`"
    };
    let message = format!("{what}: {}", differences.join("; "));
    plan.refusals.push(Trouble { kind: TroubleKind::PlanOutdated, node: None, message, hint: hint.into() });
    plan.steps.clear();
    plan.then.clear();
}

/// What to do with a cluster that was just brought up.
fn next(inventory: &Inventory) -> String {
    let file = inventory.file.display();
    format!(
        "next: `cluster status -i {file}`; `cluster connect -i {file}` prints the settings for applications"
    )
}

/// What can be said of a restore before anything is looked at.
pub(super) fn can_be_restored(inventory: &Inventory, target: &RestoreTarget) -> Result<()> {
    if inventory.backup.is_none() {
        return Err(Advice::refused("the inventory names no backup repository")
            .hint("add the `backup` key that the cluster had (docs/backups.md)")
            .into());
    }
    if let RestoreTarget::Time(at) = target
        && *at > jiff::Timestamp::now()
    {
        return Err(Advice::refused(format!("{target} is in the future"))
            .hint("use --to latest for everything that is in the archive")
            .into());
    }
    Ok(())
}

/// A mark is known to the cluster alone in which it was set.
pub(super) fn can_be_found(target: &RestoreTarget) -> Result<()> {
    if let RestoreTarget::Mark(name) = target {
        return Err(Advice::refused(format!("no node is there that knows the mark `{name}`"))
            .hint("use the position or the time that `cluster backup mark` printed when it was set")
            .into());
    }
    Ok(())
}

/// Problems that `status` would report once services have had a moment to start, except those already reported.
async fn settled(world: &Arc<World>, seen: &Facts) -> Result<Vec<String>> {
    let begun = Instant::now();
    let problems = |facts: &Facts| health(&world.inventory, facts, &world.public_addresses(facts)).problems;
    let mut left = problems(seen);
    while !left.is_empty() && begun.elapsed() < SERVICES_PATIENCE {
        world.report.progress("cluster", format!("waiting for the cluster to become healthy: {}", left[0]));
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        timings::part("wait", begun);
        left = problems(&world.observe().await?);
    }
    Ok(left)
}

/// Where applications write: the floating IP, or the primary itself.
pub(super) fn entry_point(inventory: &Inventory, facts: &crate::facts::Facts, primary: &str) -> String {
    let floating = match &inventory.provider {
        Provider::Existing(it) => it.floating_ip.as_ref().map(|it| it.address.to_string()),
        Provider::DigitalOcean(_) => {
            facts.cloud.as_ref().and_then(|cloud| cloud.floating_ip.as_ref()).map(|it| it.address.to_string())
        }
    };
    let own = || {
        let public = facts
            .cloud
            .as_ref()
            .and_then(|cloud| cloud.servers.get(primary)?.public)
            .map(|it| it.to_string());
        inventory.node(primary).and_then(|node| node.address.clone()).or(public).unwrap_or_default()
    };
    floating.unwrap_or_else(own)
}

impl World {
    /// The nodes' SSH addresses, from the facts.
    pub(super) fn public_addresses(
        &self,
        facts: &crate::facts::Facts,
    ) -> std::collections::BTreeMap<String, String> {
        self.addresses(facts.cloud.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_names_the_inventory() {
        let text = include_str!("../inventory/example.yaml");
        let inventory = Inventory::parse(std::path::Path::new("dir/demo.yaml"), text).unwrap();
        let next = next(&inventory);
        assert!(next.starts_with("next: `cluster status -i dir/demo.yaml`; `cluster connect -i "), "{next}");
        assert!(!next.contains('\n'));
    }

    #[test]
    fn a_plan_of_another_build_or_with_other_secrets_says_so() {
        let (facts, key) = (Facts::default(), SecretString::from("key".to_owned()));
        let saved = Saved::new("demo", &Plan::default(), &facts, &key, serde_json::Value::Null);
        let mut rebuilt = facts.clone();
        rebuilt.local.node_program = "other".into();
        let other = SecretString::from("other".to_owned());
        for (facts, key, what) in [(&rebuilt, &key, "another build"), (&facts, &other, "cluster adopt")] {
            let mut plan = Plan::default();
            keep_to(&saved, true, &mut plan, facts, key);
            assert!(plan.refusals[0].message.contains(what), "{}", plan.refusals[0].message);
        }
        let mut plan = Plan::default();
        keep_to(&saved, true, &mut plan, &facts, &key);
        assert_eq!(plan.refusals, []);
    }

    #[test]
    fn a_plan_that_was_not_looked_at_is_refused_and_has_no_steps() {
        let (facts, key) = (Facts::default(), SecretString::from("key".to_owned()));
        let saved = Saved::new("demo", &Plan::default(), &facts, &key, serde_json::Value::Null);
        let step = Step {
            phase: crate::plan::Phase::RestartLast,
            node: Some("pg1".into()),
            action: Action::Restart { settings: vec!["shared_buffers".into()] },
            why: crate::plan::Reason::RestartPending,
            interrupts: None,
        };
        // Also when it turns up in the middle of a run: steps of a refused plan are taken for a bug.
        for is_untouched in [true, false] {
            let mut plan = Plan { steps: vec![step.clone()], ..Plan::default() };
            keep_to(&saved, is_untouched, &mut plan, &facts, &key);
            assert_eq!(plan.refusals.len(), 1);
            assert!(plan.steps.is_empty(), "{:?}", plan.steps);
        }
    }
}
