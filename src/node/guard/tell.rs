//! What happened to the lease, in words.

use tokio::time::Instant;

use super::Guard;
use crate::node::lease::{Event, Refusal};
use crate::node::memory;

impl Guard {
    pub(super) fn tell(&mut self, event: Event) {
        let text = match &event {
            Event::Asked { term } => format!("asks for term {term}"),
            Event::Won { term } => {
                self.primary = None;
                (self.bootstrap, self.next_address) = (false, Instant::now());
                format!("holds the lease, term {term}")
            }
            Event::Raised { term } => format!("the lease goes on as term {term}"),
            Event::GaveUp { term } => format!("no majority for term {term}"),
            Event::Expired { term } => {
                format!("the lease of term {term} has run out: no majority has renewed it")
            }
            Event::Forced { term } => {
                (self.bootstrap, self.next_address) = (false, Instant::now());
                format!("holds by force, term {term}: no majority stands behind it")
            }
            Event::Confirmed { term } => {
                format!("a majority is back and has granted what was taken by force, term {term}")
            }
            Event::Yielded { to } => {
                format!("gives way to {}, which takes writes too: this node held by force", self.name(*to))
            }
            Event::Released { term } => format!("has let go of term {term}"),
            Event::Refused { by, why } => {
                if let Refusal::Held { by: Some(other), .. } = why
                    && *other != self.config.me().id
                {
                    // The cluster is not new after all.
                    self.bootstrap = false;
                }
                let reason = std::mem::discriminant(why);
                if self.refusals.get(by).is_some_and(|before| std::mem::discriminant(before) == reason) {
                    return;
                }
                self.refusals.insert(*by, why.clone());
                format!("{} does not grant: {why}", self.name(*by))
            }
        };
        if !matches!(event, Event::Refused { .. }) {
            self.refusals.clear();
        }
        let word = serde_json::to_value(&event)
            .ok()
            .and_then(|value| Some(value.as_object()?.keys().next()?.clone()));
        memory::note(word.as_deref().unwrap_or("lease"), &text);
        self.last = text;
    }
}
