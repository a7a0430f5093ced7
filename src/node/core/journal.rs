//! What happened, in words for people and in one word for programs.

use super::{Core, Effect};
use crate::node::lease::{Event, Millis, Refusal};

/// An entry of the node's journal. The clock and the time of day are added where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One word for programs.
    pub what: &'static str,
    /// A line for people.
    pub text: String,
    /// How long ago it began, in milliseconds, and which node it is about; for what is noticed late.
    pub about: Option<(Millis, String)>,
}

impl Core {
    pub(super) fn note(&mut self, what: &'static str, text: String) {
        self.effects.push(Effect::Note(Entry { what, text, about: None }));
    }

    pub(super) fn note_silent(&mut self, text: String, ago: Millis, about: &str) {
        let about = Some((ago, about.to_owned()));
        self.effects.push(Effect::Note(Entry { what: "silent", text, about }));
    }

    /// Something has happened to the lease: what follows from it here, and how it is told.
    pub(super) fn happened(&mut self, now: Millis, event: Event) {
        match &event {
            Event::Won { .. } => {
                self.primary = None;
                (self.bootstrap, self.address.next) = (false, now);
            }
            Event::Forced { .. } => (self.bootstrap, self.address.next) = (false, now),
            Event::Refused { why: Refusal::Held { by: Some(other), .. }, .. }
                if *other != self.config.my_id() =>
            {
                // The cluster is not new after all.
                self.bootstrap = false;
            }
            _ => {}
        }
        if let Event::Refused { by, why } = &event {
            let reason = std::mem::discriminant(why);
            let is_new = self.refusals.get(by).is_none_or(|before| std::mem::discriminant(before) != reason);
            self.refusals.insert(*by, why.clone());
            if !is_new {
                return;
            }
        } else {
            self.refusals.clear();
        }
        let (what, text) = self.words(&event);
        self.note(what, text.clone());
        self.last = text;
    }

    fn words(&self, event: &Event) -> (&'static str, String) {
        match event {
            Event::Asked { term } => ("asked", format!("asks for term {term}")),
            Event::Won { term } => ("won", format!("holds the lease, term {term}")),
            Event::Raised { term } => ("raised", format!("the lease goes on as term {term}")),
            Event::GaveUp { term } => ("gave_up", format!("no majority for term {term}")),
            Event::Expired { term } => {
                ("expired", format!("the lease of term {term} has run out: no majority has renewed it"))
            }
            Event::Superseded { term, by } => (
                "superseded",
                format!(
                    "{} holds the lease, as a majority says: this node's clock has stood still in term {term}",
                    self.name(*by)
                ),
            ),
            Event::Forced { term } => {
                ("forced", format!("holds by force, term {term}: no majority stands behind it"))
            }
            Event::Confirmed { term } => (
                "confirmed",
                format!("a majority is back and has granted what was taken by force, term {term}"),
            ),
            Event::Yielded { to } => (
                "yielded",
                format!("gives way to {}, which takes writes too: this node held by force", self.name(*to)),
            ),
            Event::Released { term } => ("released", format!("has let go of term {term}")),
            Event::Refused { by, why } => ("refused", format!("{} does not grant: {why}", self.name(*by))),
        }
    }
}
