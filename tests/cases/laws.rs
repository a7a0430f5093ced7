//! Laws that hold in every world: runs that are killed anywhere, hosts that come and go, and no data lost.

use std::collections::BTreeSet;
use std::path::Path;

use cluster::inventory::{Inventory, Node, Role};
use cluster::plan::files::FileChange;
use cluster::plan::lint::Breach;
use cluster::plan::members::Configuration;
use cluster::plan::roles::Data;
use cluster::plan::wish::Wish;
use cluster::plan::{
    Action, Phase, Plan, Reason, RestoreTarget, Step, Trouble, TroubleKind, lint, plan, removal,
};
use cluster_contract::marker::DataStage;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::{How, Model};
use crate::plan::base;

pub(crate) fn inventory(name: &str) -> Inventory {
    let text = serde_yaml::to_string(&base(name)).unwrap();
    Inventory::parse(Path::new("inventory.yaml"), &text).unwrap()
}

/// What must be true of a plan, whatever the world.
fn obey(model: &Model, plan: &Plan) {
    let breaches = lint(&model.inventory, &model.facts, plan);
    assert!(breaches.is_empty(), "{breaches:?}");
}

/// What all steps want, phase by phase; within a phase, lanes are worked on at the same time.
fn wishes(plan: &Plan) -> Vec<(cluster::plan::Phase, Wish)> {
    let of = |step: &Step| step.wishes().into_iter().map(|wish| (step.phase, wish)).collect::<Vec<_>>();
    let mut wishes: Vec<_> = plan.steps.iter().flat_map(of).collect();
    wishes.sort();
    wishes
}

/// A run that is killed: how many phases it does in full, then how far each lane comes in the next.
#[derive(Clone, Debug)]
struct Killed {
    phases: usize,
    lanes: Vec<(Index, bool)>,
}

fn killed() -> impl Strategy<Value = Killed> {
    (0..13usize, proptest::collection::vec((any::<Index>(), any::<bool>()), 4))
        .prop_map(|(phases, lanes)| Killed { phases, lanes })
}

/// Does what a killed run has done.
fn suffer(model: &mut Model, run: &Killed) {
    for round in 0..=run.phases {
        let plan = model.plan();
        obey(model, &plan);
        let Some((_, steps)) = plan.first_phase() else { return };
        let steps: Vec<Step> = steps.into_iter().cloned().collect();
        let mut lanes: Vec<Option<String>> = steps.iter().map(|step| step.node.clone()).collect();
        lanes.sort();
        lanes.dedup();
        majorities_meet(model);
        for (lane, (stop, half)) in lanes.iter().zip(&run.lanes) {
            let steps: Vec<&Step> = steps.iter().filter(|step| step.node == *lane).collect();
            let end = if round < run.phases { steps.len() } else { stop.index(steps.len() + 1) };
            steps[..end].iter().for_each(|step| model.act(step, How::Whole));
            if let Some(step) = steps.get(end).filter(|_| *half) {
                model.act(step, How::Half);
            }
        }
    }
}

/// What happens between two runs, to a cluster that stands.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    PrimaryLost,
    PrimaryLostAndBack,
    StandbyOff,
    StandbyStopped,
    WitnessOff,
    MemoryLost,
    MarkerLost,
    NewProgram,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        Just(Mishap::PrimaryLost),
        Just(Mishap::PrimaryLostAndBack),
        Just(Mishap::StandbyOff),
        Just(Mishap::StandbyStopped),
        Just(Mishap::WitnessOff),
        Just(Mishap::MemoryLost),
        Just(Mishap::MarkerLost),
        Just(Mishap::NewProgram),
    ]
}

fn befall(model: &mut Model, mishap: Mishap) {
    let primary = model.writers().first().cloned();
    let standby = ["pg1", "pg2"]
        .into_iter()
        .find(|name| model.host(name).postgres.as_ref().is_some_and(|postgres| postgres.in_recovery));
    match mishap {
        Mishap::PrimaryLost | Mishap::PrimaryLostAndBack => {
            if let (Some(primary), Some(standby)) = (primary, standby) {
                model.power_off(&primary);
                model.promote(standby);
                if matches!(mishap, Mishap::PrimaryLostAndBack) {
                    model.power_on(&primary);
                }
            }
        }
        Mishap::StandbyOff => standby.into_iter().for_each(|standby| model.power_off(standby)),
        Mishap::StandbyStopped => standby.into_iter().for_each(|standby| model.stop(standby)),
        Mishap::WitnessOff => model.power_off("pg3"),
        // Either says whose the data is; with both gone, a person has to.
        Mishap::MemoryLost if model.host("pg1").marker.is_some() => {
            model.facts.local.system_identifier = None
        }
        Mishap::MarkerLost if model.facts.local.system_identifier.is_some() => {
            model.host("pg1").marker = None
        }
        Mishap::MemoryLost | Mishap::MarkerLost => {}
        Mishap::NewProgram => model.facts.local.node_program.push('+'),
    }
}

/// Never could two disjoint majorities each take a node for their primary: a guard that knows newer members refuses those
/// that know older ones.
fn majorities_meet(model: &mut Model) {
    let names: Vec<String> = model.facts.hosts.keys().cloned().collect();
    let mut guards = Vec::new();
    for name in names {
        // What is switched off may come back.
        if let Some(in_use) = model.seen_or_not(&name).and_then(Configuration::in_use) {
            guards.push((name, in_use));
        }
    }
    let voters = |members: &Configuration| -> BTreeSet<String> {
        let grant = guards.iter().filter(|(_, known)| known.generation <= members.generation);
        // A guard that is no member of what it knows itself grants nothing.
        let grant = grant.filter(|(name, known)| members.names.contains(name) && known.names.contains(name));
        grant.map(|(name, _)| name.clone()).collect()
    };
    for (one, a) in &guards {
        for (other, b) in &guards {
            let (of_a, of_b) = (voters(a), voters(b));
            let meet = of_a.len() < a.majority()
                || of_b.len() < b.majority()
                || of_a.union(&of_b).count() < a.majority() + b.majority();
            // Whoever asks grants to itself: each must be in its own majority.
            assert!(
                meet || !a.names.contains(one) || !b.names.contains(other),
                "two majorities: {guards:#?}"
            );
        }
    }
}

/// A change of the nodes that have a vote, or something that disturbs it.
#[derive(Clone, Debug)]
enum Change {
    /// The inventory has these besides the first three.
    Nodes(Vec<u32>),
    Unreachable(Index),
    Reachable,
    Promote,
    /// `cluster remove`, killed after so many rounds.
    Remove(Index, usize),
    Run(Killed),
    Up,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => proptest::collection::btree_set(4..8u32, 0..3).prop_map(|ids| Change::Nodes(ids.into_iter().collect())),
        2 => any::<Index>().prop_map(Change::Unreachable),
        2 => Just(Change::Reachable),
        1 => Just(Change::Promote),
        3 => late().prop_map(Change::Run),
        2 => (any::<Index>(), 1..9usize).prop_map(|(index, rounds)| Change::Remove(index, rounds)),
        1 => Just(Change::Up),
    ]
}

/// Killed where members are changed, for the most part.
fn late() -> impl Strategy<Value = Killed> {
    (5..24usize, proptest::collection::vec((any::<Index>(), any::<bool>()), 8))
        .prop_map(|(phases, lanes)| Killed { phases, lanes })
}

/// What an operator does on a cluster of three: `known` are the nodes that were there before.
fn undergo(model: &mut Model, three: &Inventory, change: &Change) {
    match change {
        Change::Nodes(ids) => {
            let mut next = three.clone();
            for id in ids {
                let like = three.nodes.iter().find(|node| node.role == Role::Standby).unwrap().clone();
                let address = format!("10.20.0.{}", 10 + id);
                next.nodes.push(Node {
                    name: format!("pg{id}"),
                    id: *id,
                    address: Some(address.clone()),
                    connection_host: address.parse().ok(),
                    ..like
                });
            }
            model.edit(next);
        }
        Change::Unreachable(index) => {
            let names: Vec<String> = model.inventory.nodes.iter().map(|node| node.name.clone()).collect();
            model.unreachable(&names[index.index(names.len())]);
        }
        Change::Reachable => {
            let names: Vec<String> = model.facts.hosts.keys().cloned().collect();
            names.iter().for_each(|name| model.reachable(name));
        }
        Change::Promote => {
            let names: Vec<String> = model.inventory.data_nodes().map(|node| node.name.clone()).collect();
            let primary = model.writers();
            let streams = |model: &mut Model, name: &String| {
                let host = model.seen_or_not(name);
                host.is_some_and(|host| host.postgres.as_ref().is_some_and(|it| it.in_recovery))
                    && Configuration::in_use(host.unwrap()).is_some_and(|it| it.names.contains(name))
            };
            let successor = names.iter().find(|name| streams(model, name)).cloned();
            if let ([primary], Some(successor)) = (primary.as_slice(), successor) {
                model.power_off(primary);
                model.promote(&successor);
                model.power_on(primary);
            }
        }
        Change::Run(run) => suffer(model, run),
        Change::Remove(index, rounds) => {
            let node = model.inventory.nodes[index.index(model.inventory.nodes.len())].clone();
            for _ in 0..*rounds {
                let plan = removal(&model.inventory, &model.facts, &model.means, &node);
                obey(model, &plan);
                let Some((_, steps)) = plan.first_phase() else { return };
                steps.into_iter().for_each(|step| model.act(step, How::Whole));
                majorities_meet(model);
            }
        }
        Change::Up => {
            if model.plan().refusals.is_empty() {
                model.up(|_| false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However the nodes of the inventory change, whoever is out of reach, and wherever a run is killed.
    #[test]
    fn majorities_meet_while_members_change(changes in proptest::collection::vec(change(), 1..9)) {
        let three = inventory("existing");
        let mut model = Model::new(three.clone());
        model.up(|_| false);
        for change in &changes {
            undergo(&mut model, &three, change);
            majorities_meet(&mut model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However often a run is killed, and wherever, the next one finishes the job.
    #[test]
    fn a_run_that_was_killed_is_finished_by_the_next(
        base in prop_oneof![Just("droplets"), Just("existing")],
        runs in proptest::collection::vec(killed(), 1..4),
    ) {
        let mut model = Model::new(inventory(base));
        for run in &runs {
            suffer(&mut model, run);
        }
        let end = model.up(|_| false);
        prop_assert!(end.refusals.is_empty() && end.troubles.is_empty(), "{end:?}");
        prop_assert_eq!(model.writers(), ["pg1"]);
    }

    /// Whatever befalls a cluster, `up` mends what it may, touches no data, and leaves the live primary what it is.
    #[test]
    fn up_after_a_mishap_keeps_the_primary_and_all_data(
        mishaps in proptest::collection::vec((mishap(), killed()), 1..4),
    ) {
        let mut model = Model::new(inventory("droplets"));
        model.up(|_| false);
        for (mishap, run) in &mishaps {
            befall(&mut model, *mishap);
            let primary = model.writers();
            let plan = model.plan();
            obey(&model, &plan);
            prop_assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
            let harm = plan.steps.iter().find(|step| matches!(
                step.action,
                Action::Clone { .. } | Action::CreateData { .. } | Action::StartNew { .. } | Action::Restart { .. }
            ));
            prop_assert!(harm.is_none(), "{harm:?}");
            suffer(&mut model, run);
            model.up(|_| false);
            prop_assert_eq!(model.writers(), primary);
            prop_assert!(model.plan().steps.is_empty());
        }
    }

    /// The order of the nodes in the file says nothing.
    #[test]
    fn the_order_of_nodes_does_not_matter(run in killed(), rotate in 1..3usize) {
        let mut model = Model::new(inventory("droplets"));
        suffer(&mut model, &run);
        let mut turned = model.inventory.clone();
        turned.nodes.rotate_left(rotate);
        let (a, b) = (model.plan(), plan(&turned, &model.facts, &model.means));
        // Files name the nodes in the inventory's order; that they are written is the same wish.
        let without_files = |plan: &Plan| {
            let mut wishes = wishes(plan);
            wishes.retain(|(_, wish)| wish.kind != "write-files");
            wishes
        };
        prop_assert_eq!(without_files(&a), without_files(&b));
    }
}

/// A plan that a mistake of the planner has made is not carried out.
#[test]
fn a_plan_that_breaks_a_law_is_seen() {
    let mut model = Model::new(inventory("droplets"));
    model.up(|_| false);
    let of = |node: &str, phase, action| Step {
        phase,
        node: Some(node.to_owned()),
        action,
        why: Reason::NotRunning,
        interrupts: None,
    };
    let breaches = |steps: Vec<Step>, refused: bool| {
        let refusals = if refused {
            let node = None;
            vec![Trouble { kind: TroubleKind::Paused, node, message: String::new(), hint: String::new() }]
        } else {
            Vec::new()
        };
        lint(&model.inventory, &model.facts, &Plan { steps, refusals, ..Plan::default() })
    };
    assert_eq!(breaches(Vec::new(), false), []);
    let reload = of("pg1", Phase::Reload, Action::Reload);
    assert_eq!(breaches(vec![reload.clone()], true), [Breach::StepsOfRefused]);
    assert!(matches!(breaches(vec![reload.clone(), reload], false)[..], [Breach::Twice(_)]));
    let clone = Action::Clone { from: "pg1".into(), conninfo: String::new() };
    assert!(matches!(
        &breaches(vec![of("pg2", Phase::Follow, clone)], false)[..],
        [Breach::ReplacesData { node, data: Data::Ours }] if node == "pg2"
    ));
    let create = Action::CreateData { first: true };
    assert!(matches!(
        breaches(vec![of("pg1", Phase::Setup, create)], false)[..],
        [Breach::ReplacesData { .. }]
    ));
    let restore = Action::Restore { target: RestoreTarget::Latest, source: None };
    assert!(matches!(
        breaches(vec![of("pg1", Phase::Setup, restore)], false)[..],
        [Breach::ReplacesData { .. }]
    ));
    let begin = Action::StartNew { made: DataStage::Primary };
    assert!(matches!(
        breaches(vec![of("pg1", Phase::Setup, begin)], false)[..],
        [Breach::SecondBeginning { .. }]
    ));
    let restart =
        |node| of(node, Phase::Reload, Action::Restart { settings: vec!["max_connections".into()] });
    assert_eq!(
        breaches(vec![restart("pg1"), restart("pg2")], false),
        [Breach::RestartsAtOnce { phase: Phase::Reload }]
    );
    let newest = Configuration::newest(&model.inventory, &model.facts).unwrap();
    let configure = |members: &Configuration| {
        let file = FileChange {
            path: "/etc/cluster/node.json".into(),
            mode: "644",
            owner: "root:root",
            content: None,
            before: None,
        };
        of("pg1", Phase::Members, Action::Configure { members: members.clone(), file: Box::new(file) })
    };
    let one = newest.next("pg4");
    let two = one.next("pg5");
    assert_eq!(breaches(vec![configure(&one)], false), []);
    assert!(matches!(
        breaches(vec![configure(&two)], false)[..],
        [Breach::LeapOfMembers { generation: 2, .. }]
    ));
}
