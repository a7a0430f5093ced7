//! Who can go on. Up to the standbys' clones, what a node does next waits for what it needs, and not for the slowest.

use std::collections::BTreeMap;

use super::{Action, Phase, Plan, Step};

/// How many clones are made at the same time: they share the primary's disk and link, and the first standby that is done
/// is worth more than all of them half done.
const CLONES: usize = 4;

/// A node, or `None` for the provider.
pub type Lane = Option<String>;

/// What one lane does before it is looked at again: its steps of one phase.
#[derive(Debug)]
pub struct Batch<'a> {
    pub lane: Lane,
    pub phase: Phase,
    pub steps: Vec<&'a Step>,
}

/// How far the lanes have come since all of them were looked at.
#[derive(Debug, Default)]
pub struct Pace {
    busy: BTreeMap<Lane, Busy>,
    /// The last phase that a lane has done. It does none twice: whether that is needed, only a look at all of them can tell.
    done: BTreeMap<Lane, Phase>,
}

#[derive(Clone, Copy, Debug)]
struct Busy {
    phase: Phase,
    clones: bool,
}

impl Phase {
    /// Whether each lane comes to it at its own pace. Before any other phase all that is due is done, and looked at.
    pub fn is_apart(self) -> bool {
        matches!(
            self,
            Phase::Reach | Phase::Lists | Phase::Install | Phase::Setup | Phase::Reload | Phase::Follow
        )
    }

    /// Whether another lane, whose next phase is this, holds up one that could begin `next`.
    fn holds_up(self, next: Phase, is_primary: bool) -> bool {
        // Files hold everybody's address; and nothing is begun while a host that was not looked at may hold the cluster.
        let unknown = self <= Phase::Reach;
        match next {
            Phase::Reach | Phase::Lists | Phase::Install => self <= Phase::Provide,
            Phase::Setup => unknown,
            Phase::Reload => unknown || self == Phase::Setup,
            Phase::Follow => unknown || (is_primary && self < next),
            _ => self < next,
        }
    }
}

impl Pace {
    /// A lane begins a batch.
    pub fn begin(&mut self, batch: &Batch<'_>) {
        self.busy.insert(batch.lane.clone(), Busy { phase: batch.phase, clones: batch.clones() });
    }

    /// A lane has done its batch.
    pub fn end(&mut self, lane: &Lane) {
        if let Some(busy) = self.busy.remove(lane) {
            self.done.insert(lane.clone(), busy.phase);
        }
    }

    pub fn is_busy(&self, node: &str) -> bool {
        self.busy.contains_key(&Some(node.to_owned()))
    }

    /// The phase of the run: that of the lanes that are furthest back, and one of these.
    pub fn slowest(&self) -> Option<(Phase, &Lane)> {
        self.busy.iter().map(|(lane, busy)| (busy.phase, lane)).min()
    }

    /// How many steps of a plan have not begun.
    pub fn left(&self, plan: &Plan) -> usize {
        let has_begun = |step: &&Step| {
            self.busy.get(&step.node).is_some_and(|busy| step.phase <= busy.phase)
                || self.done.get(&step.node).is_some_and(|done| step.phase <= *done)
        };
        plan.steps.len() - plan.steps.iter().filter(has_begun).count()
    }

    /// What can begin, by a plan made from what was seen last.
    pub fn ready<'a>(&self, plan: &'a Plan) -> Vec<Batch<'a>> {
        let mut fronts: BTreeMap<&Lane, Phase> =
            self.busy.iter().map(|(lane, busy)| (lane, busy.phase)).collect();
        for step in &plan.steps {
            fronts
                .entry(&step.node)
                .and_modify(|front| *front = step.phase.min(*front))
                .or_insert(step.phase);
        }
        let is_primary = |lane: &Lane| lane.is_some() && *lane == plan.primary;
        // No node has settings that are to be tried, wherever the one is that tries them.
        let tries = plan.steps.iter().any(|step| step.phase == Phase::Try);
        let mut clones = self.busy.values().filter(|busy| busy.clones).count();
        let mut ready = Vec::new();
        for (lane, phase) in &fronts {
            let held_up = fronts
                .iter()
                .any(|(other, front)| other != lane && front.holds_up(*phase, is_primary(other)));
            let again = self.done.get(*lane).is_some_and(|done| done >= phase);
            let untried = tries && *phase > Phase::Try;
            if !phase.is_apart() || held_up || untried || again || self.busy.contains_key(*lane) {
                continue;
            }
            let steps = plan.steps.iter().filter(|step| step.node == **lane && step.phase == *phase);
            let batch = Batch { lane: (*lane).clone(), phase: *phase, steps: steps.collect() };
            if batch.clones() {
                if clones == CLONES {
                    continue;
                }
                clones += 1;
            }
            ready.push(batch);
        }
        ready
    }
}

impl Batch<'_> {
    fn clones(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Clone { .. }))
    }
}
