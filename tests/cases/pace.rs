//! Runs in which some hosts are faster than others: every order ends where the one that waits for all of them ends.

use std::path::Path;

use cluster::facts::{Facts, Host};
use cluster::inventory::{Inventory, Node, Role};
use cluster::plan::saved::Saved;
use cluster::plan::wish::Wishes;
use cluster::plan::{Action, Lane, Pace, Phase, Plan, Step, lint, plan};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::{How, Model};
use crate::plan::base;

/// The example, with so many standbys.
fn inventory(name: &str, standbys: u32) -> Inventory {
    inventory_with(name, standbys, "")
}

/// The same with more keys.
fn inventory_with(name: &str, standbys: u32, more: &str) -> Inventory {
    let text = serde_yaml::to_string(&base(name)).unwrap() + more;
    let mut inventory = Inventory::parse(Path::new("inventory.yaml"), &text).unwrap();
    let like = inventory.nodes.iter().find(|node| node.role == Role::Standby).unwrap().clone();
    for id in 4..standbys + 3 {
        let address = like.address.as_ref().map(|_| format!("10.20.0.{}", 10 + id));
        let connection_host = address.as_ref().map(|address| address.parse().unwrap());
        let name = format!("pg{id}");
        inventory.nodes.push(Node { name, id, address, connection_host, ..like.clone() });
    }
    inventory
}

/// A lane that works, on these steps of a phase.
type Working = (Lane, Phase, Vec<Step>);

/// A run whose lanes end in any order, which does what `up` does with the planner's values.
struct Run<'a> {
    model: &'a mut Model,
    /// What the run has seen: a lane when it has ended a batch, everything when nothing else can be done.
    seen: Facts,
    pace: Pace,
    working: Vec<Working>,
    wished: Wishes,
    /// What began, in order.
    begun: Vec<(Lane, Phase)>,
}

impl<'a> Run<'a> {
    fn new(model: &'a mut Model) -> Run<'a> {
        let seen = model.facts.clone();
        let pace = Pace::default();
        Run { model, seen, pace, working: Vec::new(), wished: Wishes::default(), begun: Vec::new() }
    }

    fn plan(&self) -> Plan {
        let plan = plan(&self.model.inventory, &self.seen, &self.model.means);
        let breaches = lint(&self.model.inventory, &self.seen, &plan);
        assert!(breaches.is_empty(), "{breaches:?}");
        plan
    }

    fn wish(&mut self, steps: &[Step]) {
        self.wished.begin(steps).unwrap_or_else(|again| panic!("`{again}` succeeded but had no effect"));
    }

    /// Begins what can begin.
    fn go_on(&mut self) {
        let plan = self.plan();
        assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
        for batch in self.pace.ready(&plan) {
            self.pace.begin(&batch);
            let steps: Vec<Step> = batch.steps.iter().map(|step| (*step).clone()).collect();
            self.wish(&steps);
            self.begun.push((batch.lane.clone(), batch.phase));
            self.working.push((batch.lane, batch.phase, steps));
        }
    }

    /// One of the lanes that work ends its batch.
    fn end(&mut self, which: usize) {
        let (lane, phase, steps) = self.working.remove(which);
        steps.iter().for_each(|step| self.model.act(step, How::Whole));
        self.pace.end(&lane);
        if let Some(node) = &lane {
            self.seen.hosts.insert(node.clone(), self.model.facts.hosts[node].clone());
        }
        if lane.is_none() || phase == Phase::Reach {
            self.seen.cloud = self.model.facts.cloud.clone();
        }
        // It notes who takes writes.
        self.model.plan();
        self.seen.local = self.model.facts.local.clone();
    }

    /// From the look at everything to where nothing can be done before the next one. False when nothing is left at all, and
    /// when no lane is to end any more.
    fn stretch(&mut self, mut which: impl FnMut(&[Working]) -> Option<usize>) -> bool {
        self.seen = self.model.facts.clone();
        // It notes who takes writes.
        self.model.plan();
        let plan = self.plan();
        let Some((phase, steps)) = plan.first_phase() else { return false };
        if !phase.is_apart() {
            let steps: Vec<Step> = steps.into_iter().cloned().collect();
            self.wish(&steps);
            steps.iter().for_each(|step| self.model.act(step, How::Whole));
            return true;
        }
        self.pace = Pace::default();
        loop {
            self.go_on();
            if self.working.is_empty() {
                return true;
            }
            match which(&self.working) {
                Some(which) => self.end(which),
                None => return false,
            }
        }
    }
}

/// Runs to the end; `order` says which lane ends next.
fn up(model: &mut Model, order: &[Index]) {
    let first = model.plan();
    let saved = Saved::new("demo", &first, &model.facts, &model.means.cluster_key, serde_json::Value::Null);
    let mut order = order.iter().cycle();
    let mut run = Run::new(model);
    for _ in 0..60 {
        if !run.stretch(|working| Some(order.next().unwrap().index(working.len()))) {
            return;
        }
        assert_eq!(saved.unforeseen(&run.plan()), [""; 0], "not in the first plan");
    }
    panic!("the plan does not become empty: {:#?}", run.plan().steps);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_cluster_is_made_at_any_pace(
        base in prop_oneof![Just("droplets"), Just("existing")],
        standbys in 1..5u32,
        order in proptest::collection::vec(any::<Index>(), 1..60),
    ) {
        let mut model = Model::new(inventory(base, standbys));
        up(&mut model, &order);
        let end = model.plan();
        prop_assert!(end.refusals.is_empty() && end.troubles.is_empty() && end.steps.is_empty(), "{end:?}");
        prop_assert_eq!(model.writers(), ["pg1"]);
    }

    /// Nodes are added, and settings changed: nothing is begun on the new ones that the old ones do not know of.
    #[test]
    fn a_cluster_grows_at_any_pace(
        base in prop_oneof![Just("droplets"), Just("existing")],
        more in 1..5u32,
        changed: bool,
        order in proptest::collection::vec(any::<Index>(), 1..60),
    ) {
        let mut model = Model::new(inventory(base, 1));
        model.up(|_| false);
        let mut next = inventory(base, 1 + more);
        if changed {
            next.postgresql.settings.insert("work_mem".into(), "8MB".into());
        }
        model.edit(next);
        up(&mut model, &order);
        let end = model.plan();
        prop_assert!(end.refusals.is_empty() && end.troubles.is_empty() && end.steps.is_empty(), "{end:?}");
        prop_assert_eq!(model.writers(), ["pg1"]);
    }

    /// A run that is killed with its lanes anywhere is finished by the next.
    #[test]
    fn a_run_at_any_pace_that_was_killed_is_finished_by_the_next(
        base in prop_oneof![Just("droplets"), Just("existing")],
        batches in 0..40usize,
        order in proptest::collection::vec(any::<Index>(), 1..40),
        stops in proptest::collection::vec((any::<Index>(), any::<bool>()), 5),
    ) {
        let mut model = Model::new(inventory(base, 2));
        let mut order = order.iter().cycle();
        let mut left = batches;
        let mut run = Run::new(&mut model);
        while run.stretch(|working| {
            left = left.checked_sub(1)?;
            Some(order.next().unwrap().index(working.len()))
        }) {}
        for ((_, _, steps), (stop, half)) in std::mem::take(&mut run.working).into_iter().zip(&stops) {
            let end = stop.index(steps.len() + 1);
            steps[..end].iter().for_each(|step| run.model.act(step, How::Whole));
            if let Some(step) = steps.get(end).filter(|_| *half) {
                run.model.act(step, How::Half);
            }
        }
        let end = model.up(|_| false);
        prop_assert!(end.refusals.is_empty() && end.troubles.is_empty(), "{end:?}");
        prop_assert_eq!(model.writers(), ["pg1"]);
    }
}

/// What has begun when nothing can go on but for this lane.
fn begun(model: &mut Model, slow: &str) -> Vec<(Lane, Phase)> {
    let mut run = Run::new(model);
    run.seen = run.model.facts.clone();
    loop {
        run.go_on();
        let fast = run.working.iter().position(|(lane, ..)| lane.as_deref() != Some(slow));
        match fast {
            Some(fast) => run.end(fast),
            None => return run.begun,
        }
    }
}

fn has_begun(begun: &[(Lane, Phase)], node: &str, phase: Phase) -> bool {
    begun.contains(&(Some(node.to_owned()), phase))
}

#[test]
fn a_standby_is_cloned_while_another_host_still_installs() {
    for slow in ["pg3", "pg4"] {
        let mut model = Model::new(inventory("existing", 2));
        let begun = begun(&mut model, slow);
        assert!(has_begun(&begun, "pg2", Phase::Follow), "{slow}: {begun:?}");
        assert!(!has_begun(&begun, slow, Phase::Setup), "{slow}: {begun:?}");
        let standby = model.host("pg2").postgres.as_ref().expect("it runs");
        assert!(standby.in_recovery);
    }
}

/// After a switchover repmgr's daemons may write that the old primary is one still; whoever copies that before it is put right
/// copies it again.
#[test]
fn a_witness_copies_again_what_was_put_right_a_moment_later() {
    let mut model = Model::new(inventory("existing", 1));
    model.up(|_| false);
    model.copies_late = true;
    let records = model.host("pg1").repmgr.as_mut().expect("it is registered");
    let late = records.iter_mut().find(|row| row.name == "pg2").expect("it is registered");
    (late.kind, late.upstream) = ("primary".into(), None);
    let mut run = Run::new(&mut model);
    let mut copied = 0;
    while run.stretch(|working| {
        let witness = working.iter().position(|(lane, ..)| lane.as_deref() == Some("pg3"));
        copied += usize::from(witness.is_some());
        Some(witness.unwrap_or(0))
    }) {}
    assert_eq!(copied, 2, "{:?}", run.begun);
}

#[test]
fn a_record_that_nothing_puts_right_is_an_error() {
    let mut model = Model::new(inventory("existing", 1));
    let step = model.plan().steps.into_iter().find(|step| matches!(step.action, Action::RegisterStandby));
    let step = [step.expect("a new standby is registered")];
    let mut wishes = Wishes::default();
    for _ in 0..3 {
        assert_eq!(wishes.begin(&step), Ok(()));
    }
    assert_eq!(wishes.begin(&step).unwrap_err().to_string(), "pg2: register-standby");
}

#[test]
fn a_standby_waits_for_its_primary() {
    let mut model = Model::new(inventory("existing", 2));
    let begun = begun(&mut model, "pg1");
    assert!(has_begun(&begun, "pg2", Phase::Setup), "{begun:?}");
    assert!(!begun.iter().any(|(_, phase)| *phase == Phase::Follow), "{begun:?}");
}

/// The one that tries them may still be installing.
#[test]
fn no_node_has_settings_that_were_not_tried() {
    let mut model = Model::new(inventory("existing", 1));
    model.up(|_| false);
    let mut next = inventory_with("existing", 1, "extensions: [pg_cron]\n");
    next.postgresql.settings.insert("work_mem".into(), "8MB".into());
    model.edit(next);
    let begun = begun(&mut model, "pg2");
    assert!(
        has_begun(&begun, "pg1", Phase::Install) && has_begun(&begun, "pg2", Phase::Install),
        "{begun:?}"
    );
    assert!(!begun.iter().any(|(_, phase)| *phase > Phase::Install), "{begun:?}");
}

/// Its guard need not fear to have forgotten anything, however late it is.
#[test]
fn a_slow_node_of_a_new_cluster_is_one_of_a_new_cluster() {
    let mut model = Model::new(inventory("existing", 1));
    begun(&mut model, "pg3");
    assert_eq!(model.writers(), ["pg1"]);
    let plan = model.plan();
    let is_first = |step: &Step| matches!(step.action, Action::CreateData { first: true });
    assert!(plan.steps.iter().any(|step| step.node.as_deref() == Some("pg3") && is_first(step)), "{plan:?}");
}

/// It may hold the cluster's data.
#[test]
fn nothing_is_begun_while_a_host_was_not_looked_at() {
    let mut model = Model::new(inventory("existing", 2));
    model.facts.hosts.insert("pg4".into(), Host::Unreachable { why: "no route".into(), young: true });
    let begun = begun(&mut model, "pg4");
    assert!(has_begun(&begun, "pg1", Phase::Install), "{begun:?}");
    assert!(!begun.iter().any(|(_, phase)| *phase > Phase::Install), "{begun:?}");
}

#[test]
fn clones_share_the_primary() {
    let mut model = Model::new(inventory("existing", 9));
    let mut run = Run::new(&mut model);
    let mut most = 0;
    while run.stretch(|working| {
        let clones =
            |(_, _, steps): &&Working| steps.iter().any(|step| matches!(step.action, Action::Clone { .. }));
        most = most.max(working.iter().filter(clones).count());
        // Whoever makes none is faster.
        Some(working.iter().position(|lane| !clones(&lane)).unwrap_or(0))
    }) {}
    assert_eq!(most, 4);
}
