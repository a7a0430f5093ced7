//! Plan and status cases: a world, and what `cluster plan` or `cluster status` says of it.
//!
//! A case begins with a world that the model makes (`start`), lets things happen to it (`events`), edits the
//! inventory (`change`) or overwrites facts (`facts`), and prints the plan. Where nothing is refused, the plan is
//! then carried out on the model, round after round, and what is left at the end is printed too.

use std::collections::BTreeMap;
use std::path::Path;

use cluster::commands::plan::{as_json, text};
use cluster::commands::status;
use cluster::drill::{Fault, Target};
use cluster::health::health;
use cluster::inventory::Inventory;
use cluster::plan::{Phase, Plan, Restore, Waiting, removal};
use serde::Deserialize;
use serde_json::Value;

use crate::model::{How, Model};
use crate::{golden, laws};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `droplets` or `existing`: the inventory in `tests/data/plan/base` that is begun with.
    #[serde(default = "droplets")]
    base: String,
    /// Merged over it.
    #[serde(default = "nothing")]
    inventory: Value,
    start: Start,
    /// What happens then, in order.
    #[serde(default)]
    events: Vec<Event>,
    /// Merged over the inventory after that.
    #[serde(default = "nothing")]
    change: Value,
    /// A run that was killed after that.
    killed: Option<Killed>,
    /// `up --from-backup`, to here.
    restore: Option<String>,
    /// `cluster remove` of this node, and not `cluster up`.
    remove: Option<String>,
    /// Merged over the facts last of all.
    #[serde(default = "nothing")]
    facts: Value,
    /// Show what changes in files.
    #[serde(default)]
    diffs: bool,
    /// Show JSON.
    #[serde(default)]
    json: bool,
    /// The fault of a drill.
    drill: Option<Fault>,
}

#[derive(Deserialize)]
struct Killed {
    /// The title of the phase that it did not begin,
    before: String,
    /// but for so many rounds of it.
    #[serde(default)]
    rounds: usize,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

fn droplets() -> String {
    "droplets".into()
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Start {
    /// No droplet, or bare hosts that exist.
    Nothing,
    /// `cluster up` is done.
    Converged,
    /// `cluster up` is about to begin the phase with this title.
    Before(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    PowerOff(String),
    PowerOn(String),
    Unreachable(String),
    Stop(String),
    Promote(String),
    /// The model's `up`.
    Up,
}

/// Puts `patch` over `base`: mappings are merged, `null` takes away, a mapping over a list names items by number.
fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (Value::Array(base), Value::Object(patch)) => {
            for (key, value) in patch {
                let index: usize = key.parse().expect("items are named by number");
                base.resize(base.len().max(index + 1), Value::Null);
                merge(&mut base[index], value);
            }
        }
        (base, patch) => *base = patch,
    }
}

fn inventory(yaml: &Value) -> Inventory {
    let text = serde_yaml::to_string(yaml).unwrap();
    Inventory::parse(Path::new("inventory.yaml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The base inventory of that name.
pub(crate) fn base(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("tests/data/plan/base/{name}.yml")).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap();
    let wrong = |error: &dyn std::fmt::Display| -> ! { panic!("{}: {error}", path.display()) };
    let value: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| wrong(&error));
    serde_json::from_value(value).unwrap_or_else(|error| wrong(&error))
}

/// The world of a case.
fn world(case: &Case) -> Model {
    let mut yaml = base(&case.base);
    merge(&mut yaml, case.inventory.clone());
    let mut model = Model::new(inventory(&yaml));
    match &case.start {
        Start::Nothing => {}
        Start::Converged => drop(model.up(|_| false)),
        Start::Before(title) => {
            let plan = model.up(|phase| phase.title() == title);
            assert!(!plan.steps.is_empty(), "no phase is called {title}");
        }
    }
    for event in &case.events {
        match event {
            Event::PowerOff(node) => model.power_off(node),
            Event::PowerOn(node) => model.power_on(node),
            Event::Unreachable(node) => model.unreachable(node),
            Event::Stop(node) => model.stop(node),
            Event::Promote(node) => model.promote(node),
            Event::Up => drop(model.up(|_| false)),
        }
    }
    merge(&mut yaml, case.change.clone());
    model.edit(inventory(&yaml));
    model.means.restore =
        case.restore.as_ref().map(|target| Restore { target: target.parse().unwrap(), source: None });
    if let Some(Killed { before, rounds }) = &case.killed {
        model.up(|phase| phase.title() == before);
        for _ in 0..*rounds {
            let plan = model.plan();
            plan.first_phase().unwrap().1.into_iter().for_each(|step| model.act(step, How::Whole));
        }
    }
    let mut facts = serde_json::to_value(&model.facts).unwrap();
    merge(&mut facts, case.facts.clone());
    model.facts = serde_json::from_value(facts).unwrap();
    model
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The plan as a person reads it; without the files, unless they are what the case is about.
fn told(plan: &Plan, diffs: bool) -> String {
    let text = plain(&text(plan));
    let lines = text.lines().filter(|line| diffs || !line.starts_with("         "));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The status of a case's world.
fn condition(path: &Path) -> String {
    let case = read(path);
    let model = world(&case);
    let health = health(&model.inventory, &model.facts, &BTreeMap::new());
    if case.json {
        return serde_json::to_string_pretty(&health).unwrap() + "\n";
    }
    plain(&status::text(&health)).lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Who would be drilled in a case's world, or why nobody is.
fn target(path: &Path) -> String {
    let case = read(path);
    let model = world(&case);
    let place = |id: u32| format!("198.51.100.{id}");
    let addresses = model.inventory.nodes.iter().map(|node| (node.name.clone(), place(node.id))).collect();
    let health = health(&model.inventory, &model.facts, &addresses);
    let fault = case.drill.expect("a case of a drill has a fault");
    match Target::choose(&model.inventory, &model.facts, &health, fault) {
        Ok(target) => format!("{}\n{target:#?}\n", fault.deed(&target.primary, &target.successor)),
        Err(error) => format!("refused: {error}\n  hint: {}\n", error.hint.as_deref().unwrap_or_default()),
    }
}

/// The plan of a case's world, and what it leads to.
fn outcome(path: &Path) -> String {
    let case = read(path);
    let mut model = world(&case);
    let plan = model.plan();
    if case.json {
        return serde_json::to_string_pretty(&as_json(&model.inventory.cluster, &plan)).unwrap() + "\n";
    }
    if let Some(node) = &case.remove {
        return removed(&mut model, node);
    }
    let mut told_now = told(&plan, case.diffs);
    if plan.refusals.is_empty() && !plan.steps.is_empty() {
        let mut phases: Vec<&str> = Vec::new();
        let cell = std::cell::RefCell::new(&mut phases);
        let end = model.up(|phase: Phase| {
            cell.borrow_mut().push(phase.title());
            false
        });
        phases.dedup();
        told_now += &format!("-- carried out: {}\n{}", phases.join(", "), told(&end, false));
    }
    told_now
}

/// The plans that take a node's vote, one after the other.
fn removed(model: &mut Model, node: &str) -> String {
    let node = model.inventory.node(node).unwrap().clone();
    let mut text = String::new();
    for _ in 0..20 {
        let plan = removal(&model.inventory, &model.facts, &model.means, &node);
        text += &told(&plan, false);
        let Some((_, steps)) = plan.first_phase() else { return text };
        steps.into_iter().for_each(|step| model.act(step, How::Whole));
    }
    panic!("it does not end: {text}");
}

/// One that has just booted grants nothing for a while, and for as long again if it is told of other members meanwhile: with it and
/// the newcomer nobody could renew the lease.
#[test]
fn a_member_that_has_granted_nothing_yet_is_waited_for() {
    let mut model = Model::new(laws::inventory("existing"));
    model.up(|_| false);
    let node = model.inventory.node("pg2").unwrap().clone();
    let removal = |model: &Model| removal(&model.inventory, &model.facts, &model.means, &node);
    let begins = |model: &Model| removal(model).first_phase().map(|(phase, _)| phase) == Some(Phase::Members);
    assert!(begins(&model));
    // The one that leaves is not needed.
    model.host("pg2").guard.as_mut().unwrap().holder = None;
    assert!(begins(&model));
    model.host("pg3").guard.as_mut().unwrap().holder = None;
    let plan = removal(&model);
    assert_eq!(plan.waits, [Waiting::Grant { node: "pg3".into(), primary: "pg1".into() }]);
    assert!(plan.first_phase().is_none(), "{plan:?}");
}

/// It has just been told of the members before, and starts anew.
#[test]
fn a_member_whose_guard_does_not_answer_yet_is_waited_for() {
    let mut model = Model::new(laws::inventory("existing"));
    model.up(|_| false);
    model.power_off("pg2");
    let node = model.inventory.node("pg2").unwrap().clone();
    let waits = |model: &Model| removal(&model.inventory, &model.facts, &model.means, &node).waits;
    assert_eq!(waits(&model), []);
    model.host("pg3").guard = None;
    assert_eq!(waits(&model), [Waiting::Guard { node: "pg3".into() }]);
    // Nothing comes of waiting for one that does not run.
    model.host("pg3").units.get_mut("cluster-node").unwrap().active = "failed".into();
    assert_eq!(waits(&model), []);
}

#[test]
fn every_world_has_the_plan_that_is_written_down() {
    golden::each("plan", outcome);
}

#[test]
fn every_world_has_the_status_that_is_written_down() {
    golden::each("status", condition);
}

#[test]
fn every_world_is_drilled_or_refused_as_written_down() {
    golden::each("drill/preflight", target);
}

#[test]
fn no_plan_shows_a_secret() {
    for path in golden::cases("plan") {
        let mut model = world(&read(&path));
        let plan = model.plan();
        let json = as_json(&model.inventory.cluster, &plan).to_string();
        for shown in [text(&plan), json, format!("{plan:?}")] {
            assert!(!shown.contains("hunter2"), "{}", path.display());
            assert!(!shown.contains("SCRAM-SHA-256$"), "{}", path.display());
        }
    }
}
