//! Configurations of members in the simulation: an operator who brings the next one to the nodes, one by one.

use super::World;
use crate::node::Postgres;

/// How long an operator's run takes for one node, at least.
const PACE: u64 = 1_000;

impl World {
    /// The cluster has these members from the beginning.
    pub(crate) fn set_members(&mut self, ids: &[u32]) {
        self.bring(ids, 0);
        self.members = ids.to_vec();
        for index in 0..self.nodes.len() {
            let member = ids.contains(&self.nodes[index].id);
            let node = &mut self.nodes[index];
            // What is no member yet has an empty disk, and a copy of the data.
            if !member {
                node.disk = cluster_node::lease::HardState::default();
            }
            self.start_again(index);
        }
    }

    pub(crate) fn plan_members(&mut self, steps: Vec<Vec<u32>>) {
        self.steps = steps.into();
    }

    /// Every node's file names these members; a guard that runs goes by it when it is started again.
    pub(crate) fn bring(&mut self, ids: &[u32], generation: u64) {
        for index in 0..self.nodes.len() {
            self.configure(index, ids, generation);
        }
    }

    fn configure(&mut self, index: usize, ids: &[u32], generation: u64) {
        let members = ids.iter().map(|id| (*id, self.nodes[*id as usize - 1].data)).collect();
        (self.nodes[index].members, self.nodes[index].generation) = (members, generation);
    }

    pub(crate) fn start_again(&mut self, index: usize) {
        let (real, mistake) = (self.real, self.mistake);
        if self.nodes[index].on && self.nodes[index].guard.is_some() {
            self.nodes[index].start_guard(real, mistake);
        }
    }

    /// The operator's run goes on: one node at a time, who comes first, then the primary, who leaves last; a node that cannot
    /// be reached is left out. Runs are cut off, and begun again.
    pub(super) fn operate(&mut self) {
        if self.steps.is_empty() || self.real < self.next_step {
            return;
        }
        self.next_step = self.real + PACE + self.random.between(0, 4_000);
        if self.random.chance(5) {
            self.next_step += 20_000;
            self.tell("the operator's run is cut off".to_owned());
            return;
        }
        let Some(ids) = self.steps.front().cloned() else { return };
        let generation = self.generation + 1;
        let knows = |world: &World, index: usize| world.nodes[index].generation >= generation;
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|index| {
            let node = &self.nodes[*index];
            match (self.members.contains(&node.id), ids.contains(&node.id)) {
                (false, true) => 0,
                (true, false) | (false, false) => 3,
                (true, true) if node.postgres == Postgres::Primary => 1,
                (true, true) => 2,
            }
        });
        let next = order.into_iter().find(|index| {
            let node = &self.nodes[*index];
            // A node that leaves is told as well; the primary itself is never taken out.
            let reached = node.runs(self.real) && node.guard.is_some();
            reached && !knows(self, *index)
        });
        // Nothing is taken out while nobody is primary, nor the primary itself: it may be the only one with everything.
        let leads = |node: &crate::node::Node| {
            node.postgres == Postgres::Primary && node.runs(self.real) && ids.contains(&node.id)
        };
        let removes = ids.len() < self.members.len();
        if removes && self.mistake.is_none() && !self.nodes.iter().any(leads) {
            return;
        }
        // Nor while those who are left could grant the primary nothing: it asks by the next members from its first step on.
        let can_grant = |id: &&u32| {
            let node = &self.nodes[**id as usize - 1];
            let is_told = !self.members.contains(*id) || node.generation >= self.generation;
            node.runs(self.real) && node.guard.is_some() && is_told
        };
        let is_begun = (0..self.nodes.len()).any(|index| knows(self, index));
        if !is_begun && self.mistake.is_none() && ids.iter().filter(can_grant).count() <= ids.len() / 2 {
            return;
        }
        if let Some(index) = next {
            self.configure(index, &ids, generation);
            self.start_again(index);
            let id = self.nodes[index].id;
            self.tell(format!("{id} is told of configuration {generation}: {ids:?}"));
            return;
        }
        // The next one begins when a majority of the last and of the new have accepted this one.
        let majority =
            |ids: &[u32]| ids.iter().filter(|id| knows(self, **id as usize - 1)).count() > ids.len() / 2;
        if majority(&ids) && majority(&self.members) {
            self.tell(format!("configuration {generation} is known: {ids:?}"));
            (self.members, self.generation) = (ids, generation);
            self.steps.pop_front();
        }
    }
}
