//! The provider's API in the simulation: it knows which hosts are off. It answers late, or not at all.

use std::collections::BTreeMap;

use cluster_contract::{Millis, NodeId};
use cluster_node::core::Input;

use crate::laws::Mistake;
use crate::random::Random;
use crate::world::World;

/// How long a guard waits between two questions.
const INQUIRY: Millis = 1_000;
/// How long it waits for an answer.
const PATIENCE: Millis = 4_000;

/// A question under way.
struct Inquiry {
    asker: usize,
    /// The run of the asker's guard: an answer for an earlier one is lost with it.
    generation: u32,
    holder: NodeId,
    /// On the asker's clock.
    asked_at: Millis,
    /// When the provider looks.
    looks: Millis,
    answers: Millis,
    /// What it saw; none before it has looked, or if it is away.
    word: Option<bool>,
}

/// What it is like, and what it is being asked.
#[derive(Default)]
pub(crate) struct Provider {
    pub(crate) away: bool,
    inquiries: Vec<Inquiry>,
    next: BTreeMap<usize, Millis>,
}

impl Provider {
    /// A guard asks whether a silent holder is off.
    pub(crate) fn ask(
        &mut self,
        random: &mut Random,
        real: Millis,
        (asker, generation): (usize, u32),
        holder: NodeId,
        asked_at: Millis,
        mistake: Option<Mistake>,
    ) {
        let next = self.next.entry(asker).or_default();
        if real < *next {
            return;
        }
        *next = real + INQUIRY;
        // Mostly quick, at times as slow as it may be. What it says is true at some moment in between.
        let slow = if mistake == Some(Mistake::TrustsOldWord) { 100 } else { 30 };
        let slow = random.chance(slow);
        let took = if slow { random.between(500, PATIENCE + 500) } else { random.between(20, 500) };
        let looks = real + random.between(0, took);
        let answers = real + took.min(PATIENCE);
        self.inquiries.push(Inquiry { asker, generation, holder, asked_at, looks, answers, word: None });
    }
}

impl World {
    /// Time passes at the provider: it looks, and its answers arrive.
    pub(crate) fn ask_around(&mut self) -> Result<(), String> {
        let real = self.real;
        if self.provider.inquiries.is_empty() {
            return Ok(());
        }
        let off: Vec<bool> = self.nodes.iter().map(|node| !node.on).collect();
        let away = self.provider.away;
        for inquiry in &mut self.provider.inquiries {
            if inquiry.word.is_none() && real >= inquiry.looks && !away {
                inquiry.word = Some(off[inquiry.holder as usize - 1]);
            }
        }
        let (due, rest) = self.provider.inquiries.drain(..).partition(|it| real >= it.answers);
        self.provider.inquiries = rest;
        let due: Vec<Inquiry> = due;
        for mut inquiry in due {
            let node = &mut self.nodes[inquiry.asker];
            if node.runs != inquiry.generation || node.guard.is_none() {
                continue;
            }
            if !node.guard_runs(real) {
                // It lies in the socket of a process that stands still.
                inquiry.answers = real + 10;
                self.provider.inquiries.push(inquiry);
                continue;
            }
            let (now, mistake) = (node.clock(real), self.mistake);
            let silence =
                if mistake == Some(Mistake::TakesSilenceForOff) { Ok(true) } else { Err("away".to_owned()) };
            let answer = inquiry.word.map_or(silence, Ok);
            let asked_at = if mistake == Some(Mistake::TrustsOldWord) { now } else { inquiry.asked_at };
            self.feed(inquiry.asker, Input::ProviderAnswered(inquiry.holder, asked_at, answer))?;
        }
        Ok(())
    }
}
