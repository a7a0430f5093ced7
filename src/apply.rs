//! Carries out plans: does what can be done now, observes and plans again, until the plan is empty.

pub mod command;
mod host;
mod lanes;
mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Advice, Exit};
use crate::facts::Facts;
use crate::inventory::Inventory;
use crate::plan::wish::Wishes;
use crate::plan::{Action, Lane, Means, Phase, Plan, Step, Trouble, Waiting, lint, plan};
use crate::remote::{Command, Output};
use crate::report::{Event, Number};
use crate::timings::{self, Slowest};
use crate::world::World;

/// A plan has fewer phases than this, not counting that every new member is told to each node by itself; more rounds
/// mean that something undoes what is done.
const MOST_ROUNDS: usize = 40;

/// The result of a run.
pub struct Outcome {
    /// How many steps were done.
    pub steps: usize,
    /// Problems that no step solves.
    pub troubles: Vec<Trouble>,
    /// Inventory values that are ignored.
    pub notes: Vec<Trouble>,
    /// The facts at the end of the run.
    pub facts: Facts,
}

/// Brings the cluster to the state that the inventory describes.
///
/// # Errors
/// The first step that fails, and what fails before those that have begun beside it are done; a refusal; an interruption.
pub async fn converge(world: &Arc<World>, stop: &CancellationToken) -> Result<Outcome> {
    converge_by(world, stop, |inventory, facts, means, _| plan(inventory, facts, means)).await
}

/// Carries out the plans of `planner`, which is also given how many steps have been begun, until one is empty.
///
/// # Errors
/// As [`converge`].
pub async fn converge_by(
    world: &Arc<World>,
    stop: &CancellationToken,
    planner: impl Fn(&Inventory, &Facts, &Means, usize) -> Plan,
) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut looked_before_leaping = false;
    let mut rounds = 0;
    let mut waiting = None;
    loop {
        let facts = world.observe().await?;
        let means = world.means(&facts).await?;
        let plan = planner(&world.inventory, &facts, &means, tally.handed_out);
        if !plan.refusals.is_empty() {
            // What it is just doing may be the reason.
            world.refuse_while_another_works(&facts).await?;
        }
        refuse(&plan)?;
        sound(&world.inventory, &facts, &plan)?;
        remember(world, &facts)?;
        let Some((phase, list)) = plan.first_phase() else {
            let patience = plan.waits.iter().map(Waiting::patience).max().unwrap_or_default();
            let patient = waiting.is_none_or(|since: Instant| since.elapsed() < patience);
            let Some(what) = plan.waits.first().filter(|_| patient) else {
                return Ok(Outcome {
                    steps: tally.steps(),
                    troubles: plan.troubles,
                    notes: plan.notes,
                    facts,
                });
            };
            let since = *waiting.get_or_insert_with(Instant::now);
            world.report.progress("cluster", format!("waiting for {what} ({} s)", since.elapsed().as_secs()));
            let begun = Instant::now();
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    timings::part("wait", begun);
                    continue;
                }
                () = stop.cancelled() => return Err(interrupted()),
            }
        };
        rounds += 1;
        if rounds > MOST_ROUNDS + world.inventory.nodes.len().pow(2) {
            return Err(Advice::failed("the plan never became empty")
                .hint("this is a bug: please report it, with the log of this run")
                .into());
        }
        if !looked_before_leaping {
            let begun = Instant::now();
            world.preflight(&facts).await?;
            timings::part("look ahead", begun);
            looked_before_leaping = true;
        }
        let begun = Instant::now();
        let is_new = world.lock_cluster(&facts).await?;
        timings::part("lock the cluster", begun);
        if is_new {
            // Another run may have finished a moment ago.
            continue;
        }
        if waiting.take().is_some() {
            tally.heading = None;
        }
        if phase.is_apart() {
            lanes::run(world, facts, &planner, stop, &mut tally).await?;
        } else {
            tally.begin(world, phase, &list, plan.steps.len())?;
            run_phase(world, &facts, phase, list, stop, &tally).await?;
        }
    }
}

/// What a run has begun so far.
#[derive(Default)]
struct Tally {
    count: Arc<Count>,
    /// What is not to be wanted again.
    wishes: Wishes,
    /// The phase that was announced last.
    heading: Option<Phase>,
    /// Steps that were handed out.
    handed_out: usize,
}

/// Of steps.
#[derive(Default)]
struct Count {
    begun: AtomicUsize,
    /// With all that is planned now; later plans may have more.
    planned: AtomicUsize,
}

impl Tally {
    fn steps(&self) -> usize {
        self.count.begun.load(Ordering::Relaxed)
    }

    /// Notes that these steps begin, of so many that the plan has left.
    fn begin(&mut self, world: &World, phase: Phase, steps: &[&Step], planned: usize) -> Result<()> {
        self.wishes.begin(steps.iter().copied()).map_err(|again| {
            Advice::failed(format!("`{again}` succeeded but had no effect"))
                .hint("the log of this run has the host's output; check the host, then run this again")
        })?;
        self.count.planned.store(self.handed_out + planned, Ordering::Relaxed);
        self.handed_out += steps.len();
        // Those that come later to the same phase, or are behind, are told by their steps.
        let is_news =
            self.heading.is_none_or(|last| if phase.is_apart() { last < phase } else { last != phase });
        if is_news {
            self.heading = Some(phase);
            world.report.send(Event::Phase { title: phase.title().to_owned() });
        }
        hand_out(world, steps)
    }
}

pub(crate) fn refuse(plan: &Plan) -> Result<()> {
    if plan.refusals.is_empty() {
        return Ok(());
    }
    let place = |trouble: &Trouble| trouble.node.as_ref().map_or(String::new(), |node| format!("{node} "));
    let reasons = plan.refusals.iter().map(|it| (format!("{}{}", place(it), it.message), it.hint.clone()));
    Err(Advice::refused_for(reasons).into())
}

/// A plan that breaks a law is a bug in the planner; none of its steps is carried out.
fn sound(inventory: &Inventory, facts: &Facts, plan: &Plan) -> Result<()> {
    let breaches: Vec<String> = lint(inventory, facts, plan).iter().map(ToString::to_string).collect();
    if breaches.is_empty() {
        return Ok(());
    }
    Err(Advice::failed(format!(
        "the plan breaks a safety rule, so nothing was done: {}",
        breaches.join("; ")
    ))
    .hint("this is a bug: please report it, with the log of this run and the output of `cluster plan --json`")
    .into())
}

/// Records that this cluster exists.
fn remember(world: &World, facts: &Facts) -> Result<()> {
    let mut identifier = None;
    if let crate::plan::roles::Primary::One(name) = crate::plan::roles::primary(&world.inventory, facts) {
        let postgres = facts.hosts.get(&name).and_then(|host| host.up()?.postgres.as_ref());
        identifier = postgres.map(|postgres| postgres.system_identifier.clone());
    }
    match identifier {
        Some(_) => world.state.remember(|memory| memory.system_identifier = identifier),
        None => Ok(()),
    }
}

/// Numbers of configurations are not used twice, whatever becomes of this run.
fn hand_out(world: &World, steps: &[&Step]) -> Result<()> {
    let generations = steps.iter().filter_map(|step| match &step.action {
        Action::Configure { members, .. } => Some(members.generation),
        _ => None,
    });
    match generations.max() {
        Some(most) => world.state.remember(|memory| memory.generation = memory.generation.max(most)),
        None => Ok(()),
    }
}

async fn run_phase(
    world: &Arc<World>,
    facts: &Facts,
    phase: Phase,
    steps: Vec<&Step>,
    stop: &CancellationToken,
    tally: &Tally,
) -> Result<()> {
    let mut lanes: BTreeMap<Lane, Vec<Step>> = BTreeMap::new();
    for step in steps {
        lanes.entry(step.node.clone()).or_default().push(step.clone());
    }
    let facts = Arc::new(facts.clone());
    let begun = Instant::now();
    let mut slowest: Option<Slowest> = None;
    let mut took = |lane: &Lane, seconds: f64| {
        if slowest.as_ref().is_none_or(|slowest| slowest.seconds < seconds) {
            slowest = Some(Slowest { node: title(lane), seconds, connect_seconds: None });
        }
    };
    let mut errors = Vec::new();
    if phase.one_at_a_time() {
        for (lane, steps) in std::mem::take(&mut lanes) {
            let begun = Instant::now();
            errors.extend(run_lane(world, &facts, steps, stop, &tally.count).await.err());
            took(&lane, begun.elapsed().as_secs_f64());
            if !errors.is_empty() {
                break;
            }
        }
    }
    let mut tasks = JoinSet::new();
    for (lane, steps) in lanes {
        let (world, facts, stop, count) = (world.clone(), facts.clone(), stop.clone(), tally.count.clone());
        tasks.spawn(async move {
            let begun = Instant::now();
            let result = run_lane(&world, &facts, steps, &stop, &count).await;
            (lane, begun.elapsed().as_secs_f64(), result)
        });
    }
    for (lane, seconds, result) in tasks.join_all().await {
        took(&lane, seconds);
        errors.extend(result.err());
    }
    timings::part_of(phase.title(), begun, slowest);
    all_or_nothing(errors, stop)
}

/// What a lane is called.
fn title(lane: &Lane) -> String {
    lane.clone().unwrap_or_else(|| "provider".into())
}

/// All errors as one.
fn all_or_nothing(mut errors: Vec<anyhow::Error>, stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() {
        return Err(interrupted());
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => {
            let text: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
            let hint = errors.iter().find_map(crate::error::hint_of);
            let mut advice = Advice::failed(text.join("\n  and: "));
            advice.hint = hint;
            Err(advice.into())
        }
    }
}

fn interrupted() -> anyhow::Error {
    Advice::failed("interrupted")
        .hint("the steps in progress were finished and no others were started; run this again to continue")
        .exit(Exit::Interrupted)
        .into()
}

/// Nothing more is begun once the operator has asked to stop.
///
/// # Errors
/// When they have.
pub(crate) fn unless_interrupted(stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() { Err(interrupted()) } else { Ok(()) }
}

/// Runs one command on a node, as a step that is reported like those of a plan.
///
/// # Errors
/// When the node is not reached, or the command fails there.
pub async fn on_host(
    world: &World,
    node: &str,
    kind: &'static str,
    step: &str,
    command: &Command,
) -> Result<Output> {
    let (lane, step) = (node.to_owned(), step.to_owned());
    world.report.send(Event::Started { lane: lane.clone(), kind, step: step.clone(), number: None });
    let begun = Instant::now();
    match host::run_command(world, node, command).await {
        Ok(output) => {
            let seconds = begun.elapsed().as_secs_f64();
            world.report.send(Event::Done { lane, kind, step, seconds });
            Ok(output)
        }
        Err(error) => {
            let why = error.to_string().lines().next().unwrap_or_default().to_owned();
            world.report.send(Event::Failed { lane: lane.clone(), kind, step: step.clone(), why });
            Err(error.context(format!("{lane}: cannot {step}")))
        }
    }
}

/// Carries out the steps of one lane in sequence.
async fn run_lane(
    world: &Arc<World>,
    facts: &Facts,
    steps: Vec<Step>,
    stop: &CancellationToken,
    count: &Count,
) -> Result<()> {
    for step in steps {
        if stop.is_cancelled() {
            return Ok(());
        }
        if world.has_lost_lock().await {
            return Err(Advice::failed("the cluster's lock was lost: no node holds it for this run any more")
                .hint("`cluster status` shows who works on the cluster; run this again when the nodes can be reached")
                .exit(Exit::Locked)
                .into());
        }
        let (kind, summary) = (step.action.kind(), step.action.summary());
        let lane = title(&step.node);
        let number = count.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let number = Some(Number { number, of: count.planned.load(Ordering::Relaxed) });
        world.report.send(Event::Started { lane: lane.clone(), kind, step: summary.clone(), number });
        let begun = Instant::now();
        let work = async {
            match &step.node {
                None => provider::run(world, facts, &step).await,
                Some(node) => host::run(world, facts, node, &step).await,
            }
        };
        let only_waits = matches!(step.action, Action::Reach | Action::AwaitServer { .. });
        let result = tokio::select! {
            result = work => result,
            () = stop.cancelled(), if only_waits => return Ok(()),
        };
        match result {
            Ok(()) => {
                let seconds = begun.elapsed().as_secs_f64();
                world.report.send(Event::Done { lane, kind, step: summary, seconds });
            }
            Err(error) => {
                // The other lanes may go on for minutes: why is said now, and the whole of it at the end.
                let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                world.report.send(Event::Failed { lane: lane.clone(), kind, step: summary.clone(), why });
                return Err(error.context(format!("{lane}: cannot {summary}")));
            }
        }
    }
    Ok(())
}
