//! What happened, for people and for programs.

use cluster_contract::Millis;
use cluster_contract::journal::Event;

use super::{Core, Effect};
use crate::lease::{self, Refusal};

/// An entry of the node's journal. The clock and the time of day are added where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For programs.
    pub event: Event,
    /// A line for people.
    pub text: String,
    /// How long ago it began, in milliseconds; for what is noticed late.
    pub ago: Option<Millis>,
}

impl Core {
    pub(super) fn note(&mut self, event: Event, text: impl Into<String>) {
        self.effects.push(Effect::Note(Entry { event, text: text.into(), ago: None }));
    }

    pub(super) fn note_late(&mut self, event: Event, text: String, ago: Millis) {
        self.effects.push(Effect::Note(Entry { event, text, ago: Some(ago) }));
    }

    /// Something has happened to the lease: what follows from it here, and how it is told.
    pub(super) fn happened(&mut self, now: Millis, event: lease::Event) {
        match &event {
            lease::Event::Won { .. } => {
                self.primary = None;
                (self.bootstrap, self.address.next) = (false, now);
            }
            lease::Event::Forced { .. } => (self.bootstrap, self.address.next) = (false, now),
            lease::Event::Refused { why: Refusal::Held { by: Some(other), .. }, .. }
                if *other != self.config.my_id() =>
            {
                // The cluster is not new after all.
                self.bootstrap = false;
            }
            _ => {}
        }
        if let lease::Event::Refused { by, why } = &event {
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
        self.note(event, text.clone());
        self.last = text;
    }

    fn words(&self, event: &lease::Event) -> (Event, String) {
        match event {
            lease::Event::Asked { term } => {
                (Event::Asked { term: *term }, format!("requests the lease for term {term}"))
            }
            lease::Event::Won { term } => {
                (Event::Won { term: *term }, format!("holds the lease, term {term}"))
            }
            lease::Event::Raised { term } => {
                (Event::Raised { term: *term }, format!("the lease continues as term {term}"))
            }
            lease::Event::GaveUp { term } => {
                (Event::GaveUp { term: *term }, format!("no majority for term {term}"))
            }
            lease::Event::Expired { term } => (
                Event::Expired { term: *term },
                format!("the lease of term {term} has expired: no majority renewed it"),
            ),
            lease::Event::Superseded { term, by } => (
                Event::Superseded { term: *term },
                format!(
                    "{} holds the lease according to a majority: this node's clock stood still in term {term}",
                    self.name(*by)
                ),
            ),
            lease::Event::Forced { term } => (
                Event::Forced { term: *term },
                format!("holds the lease by force, term {term}: no majority has granted it"),
            ),
            lease::Event::Confirmed { term } => (
                Event::Confirmed { term: *term },
                format!("a majority is back and has granted the forced lease, term {term}"),
            ),
            lease::Event::Yielded { to } => (
                Event::Yielded,
                format!(
                    "steps down in favor of {}, which takes writes too: this node held the lease by force",
                    self.name(*to)
                ),
            ),
            lease::Event::Released { term } => {
                (Event::Released { term: *term }, format!("released the lease, term {term}"))
            }
            lease::Event::Refused { by, why } => {
                (Event::Refused, format!("{} refuses the lease: {why}", self.name(*by)))
            }
        }
    }
}
