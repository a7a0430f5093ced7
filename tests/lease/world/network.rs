//! The network of the simulation: messages on their way, lost, late and doubled; links that are cut.

use cluster_contract::{Millis, NodeId};
use cluster_node::core::Input;
use cluster_node::lease::{Message, Refusal};

use super::{STEP, World};
use crate::laws::Mistake;

pub(super) struct Flight {
    arrives: Millis,
    from: usize,
    to: usize,
    message: Message,
}

impl World {
    /// A network that loses little: what is looked at is not whether three messages in a row arrive.
    pub(crate) fn calm(&mut self) {
        (self.loss, self.doubling) = (self.loss / 8, self.doubling / 2);
    }

    /// A network that loses nothing, and is quick.
    pub(crate) fn quiet(&mut self) {
        (self.loss, self.doubling, self.delay, self.is_late) = (0, 0, self.delay.min(50), false);
    }

    /// Whether messages arrive in time to be counted on: not late, and seldom lost.
    pub(crate) fn is_quick(&self) -> bool {
        self.loss <= 2
    }

    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        self.cuts.extend([(one, other), (other, one)]);
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.tell("all links are mended".to_owned());
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// What a node has requested of some others, and is still on its way, does not arrive.
    pub(crate) fn lose_requests(&mut self, from: usize, to: &[usize]) {
        let is_one = |message: &Message| matches!(message, Message::RequestLease { .. });
        self.flights.retain(|it| it.from != from || !to.contains(&it.to) || !is_one(&it.message));
    }

    pub(super) fn send(&mut self, from: usize, messages: Vec<(NodeId, Message)>) {
        for (to, message) in messages {
            let to = to as usize - 1;
            if let Message::RequestLease { asked_at, position, writable: true, .. } = &message {
                self.said.insert((from, *asked_at), *position);
            }
            let copies = 1 + u64::from(self.random.chance(self.doubling));
            for _ in 0..copies {
                if self.random.chance(self.loss) || self.is_cut(from, to) {
                    continue;
                }
                let late =
                    if self.is_late && self.random.chance(2) { self.random.between(0, 15_000) } else { 0 };
                let arrives = self.real + self.random.between(1, self.delay) + late;
                self.flights.push(Flight { arrives, from, to, message: message.clone() });
            }
        }
    }

    pub(super) fn deliver(&mut self) -> Result<(), String> {
        let real = self.real;
        if self.flights.iter().all(|flight| flight.arrives > real) {
            return Ok(());
        }
        let (due, flights) = self.flights.drain(..).partition(|flight| flight.arrives <= real);
        self.flights = flights;
        let due: Vec<Flight> = due;
        for flight in due {
            let node = &mut self.nodes[flight.to];
            if !node.on {
                continue;
            }
            if !node.guard_runs(real) {
                // It waits in the socket of a process that is frozen, and is lost with one that is gone.
                if node.guard.is_some() {
                    self.flights.push(Flight { arrives: real + STEP, ..flight });
                }
                continue;
            }
            let now = node.clock(real);
            let mut message = flight.message;
            if self.mistake == Some(Mistake::CountsFromReply)
                && let Message::LeaseReply { asked_at, .. } = &mut message
            {
                *asked_at = now;
            }
            if self.mistake == Some(Mistake::KnowsItsOwnLengthOnly) {
                match &mut message {
                    Message::RequestLease { lease, .. } => *lease = self.nodes[flight.to].timing.lease,
                    Message::LeaseReply { lease, .. } => *lease = Millis::MAX,
                    _ => {}
                }
            }
            if self.mistake == Some(Mistake::PrefersNobody)
                && let Message::PreVoteReply { refusal, .. } = &mut message
                && matches!(refusal, Some(Refusal::BetterCandidate { .. } | Refusal::InspectingOwnWal))
            {
                *refusal = None;
            }
            if self.mistake == Some(Mistake::GrantsToOldMembers)
                && let Message::RequestLease { generation, .. } | Message::PreVote { generation, .. } =
                    &mut message
            {
                *generation = u64::MAX;
            }
            let from = self.nodes[flight.from].id;
            // A guard knows the address of its members alone.
            if self.nodes[flight.to].members.iter().any(|(id, _)| *id == from) {
                self.feed(flight.to, Input::Message(from, message))?;
            }
        }
        Ok(())
    }
}
