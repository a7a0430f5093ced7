//! What happened, for people and for programs.

use cluster_contract::Millis;
use cluster_contract::journal::Event;

use super::{Core, Effect};
use crate::lease::{LeaseEvent, Refusal};

/// An entry of the node's journal. The clock and the time of day are added where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub event: Event,
    /// A line for people.
    pub text: String,
    /// How long ago it began; for what is noticed late.
    pub ago: Option<Millis>,
}

impl Core {
    pub(super) fn journal(&mut self, event: Event, text: impl Into<String>) {
        self.effects.push(Effect::Journal(JournalEntry { event, text: text.into(), ago: None }));
    }

    pub(super) fn journal_late(&mut self, event: Event, text: String, ago: Millis) {
        self.effects.push(Effect::Journal(JournalEntry { event, text, ago: Some(ago) }));
    }

    /// Something has happened to the lease: what follows from it here, and how it is reported.
    pub(super) fn lease_event(&mut self, now: Millis, event: LeaseEvent) {
        match &event {
            LeaseEvent::Won { .. } => {
                self.other_primary = None;
                (self.bootstrap, self.address.next) = (false, now);
            }
            // Others may have granted what this node never heard of, and may grant the next term after that.
            LeaseEvent::NoMajority { .. } => self.bootstrap = false,
            LeaseEvent::TakenByForce { .. } => (self.bootstrap, self.address.next) = (false, now),
            LeaseEvent::Refused { why: Refusal::LeaseActive { by: Some(other), .. }, .. }
                if *other != self.config.my_id() =>
            {
                // The cluster is not new after all.
                self.bootstrap = false;
            }
            _ => {}
        }
        if let LeaseEvent::Refused { by, why } = &event {
            let reason = std::mem::discriminant(why);
            let is_new = self.refusals.get(by).is_none_or(|before| std::mem::discriminant(before) != reason);
            self.refusals.insert(*by, why.clone());
            if !is_new {
                return;
            }
        } else {
            self.refusals.clear();
        }
        let (event, text) = self.words(&event);
        self.journal(event, text.clone());
        self.last_action = text;
    }

    fn words(&self, event: &LeaseEvent) -> (Event, String) {
        match event {
            LeaseEvent::Requested { term } => {
                (Event::LeaseRequested { term: *term }, format!("requests the lease for term {term}"))
            }
            LeaseEvent::Won { term } => {
                (Event::LeaseWon { term: *term }, format!("holds the lease, term {term}"))
            }
            LeaseEvent::TermRaised { term } => {
                (Event::TermRaised { term: *term }, format!("the lease continues as term {term}"))
            }
            LeaseEvent::NoMajority { term } => {
                (Event::NoMajority { term: *term }, format!("no majority for term {term}"))
            }
            LeaseEvent::Expired { term } => (
                Event::LeaseExpired { term: *term },
                format!("the lease of term {term} has expired: no majority renewed it"),
            ),
            LeaseEvent::Superseded { term, by } => (
                Event::Superseded { term: *term },
                format!(
                    "{} holds the lease according to a majority: this node's clock stood still in term {term}",
                    self.name(*by)
                ),
            ),
            LeaseEvent::TakenByForce { term } => (
                Event::TakenByForce { term: *term },
                format!("holds the lease by force, term {term}: no majority has granted it"),
            ),
            LeaseEvent::Confirmed { term } => (
                Event::ForceConfirmed { term: *term },
                format!("a majority is back and has granted the forced lease, term {term}"),
            ),
            LeaseEvent::Yielded { to } => (
                Event::Yielded,
                format!(
                    "steps down in favor of {}, which takes writes too: this node held the lease by force",
                    self.name(*to)
                ),
            ),
            LeaseEvent::Released { term } => {
                (Event::LeaseReleased { term: *term }, format!("released the lease, term {term}"))
            }
            LeaseEvent::Refused { by, why } => {
                let why = match why {
                    // A person knows nodes by their names.
                    Refusal::LeaseActive { by: Some(holder), millis } => format!(
                        "{} may hold it for another {}.{} s",
                        self.name(*holder),
                        millis / 1000,
                        millis % 1000 / 100
                    ),
                    why => why.to_string(),
                };
                (Event::Refused, format!("{} refuses the lease: {why}", self.name(*by)))
            }
        }
    }
}
