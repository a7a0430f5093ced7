//! Events as lines for people, with the host in front.

use owo_colors::OwoColorize as _;

use super::{Event, Number};

/// Turns events into lines; knows how wide names are.
pub(super) struct Lines {
    /// The width of the longest lane's name.
    width: usize,
}

impl Lines {
    pub(super) fn new(width: usize) -> Self {
        Lines { width }
    }

    /// A lane's name, as wide as all of them.
    pub(super) fn lane(&self, lane: &str) -> String {
        format!("{lane:<width$}", width = self.width)
    }

    /// `step 4 of 31`, of a step that begins. None outside a plan.
    pub(super) fn count(event: &Event) -> Option<String> {
        match event {
            Event::Started { number: Some(Number { number, of }), .. } => {
                // A later plan may have more than were known when the last one was made.
                Some(format!("step {number} of {}", of.max(number)))
            }
            _ => None,
        }
    }

    /// What a person reads of an event, if anything.
    pub(super) fn line(&self, event: &Event) -> Option<String> {
        let lane = |lane: &str| self.lane(lane).bold().to_string();
        Some(match event {
            Event::Run { .. }
            | Event::Observing
            | Event::Output { .. }
            | Event::Started { .. }
            | Event::Progress { .. } => return None,
            Event::Phase { title } => format!("{} {title}", "==".dimmed()),
            Event::Done { lane: at, step, seconds, .. } => {
                format!("{} {} {step} {}", lane(at), "ok".green(), took(*seconds).dimmed())
            }
            Event::Failed { lane: at, step, why, .. } => {
                format!("{} {} {step}{}", lane(at), "failed".red().bold(), format!(": {why}").dimmed())
            }
            Event::Note { text } => text.clone(),
            Event::Warning { text } => format!("{} {text}", "warning:".yellow().bold()),
            Event::Finished { text, seconds, .. } => format!("{text} {}", took(*seconds).dimmed()),
        })
    }

    /// The same, with what begins and what is waited for: where nothing changes in place.
    pub(super) fn line_with_starts(&self, event: &Event) -> Option<String> {
        let count = Self::count(event);
        match event {
            Event::Started { lane, step, .. } => {
                let count = count.map_or(String::new(), |count| format!(" ({count})"));
                Some(format!("{} {}", self.lane(lane).bold(), format!("{step}{count}").dimmed()))
            }
            Event::Progress { lane, text } => Some(format!("{}   {}", self.lane(lane).bold(), text.dimmed())),
            event => self.line(event),
        }
    }
}

/// `(2.4 s)`.
fn took(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("({seconds:.1} s)")
    } else {
        format!("({} min {:.0} s)", (seconds / 60.0) as u64, seconds % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(lane: &str, number: usize) -> Event {
        let number = (number > 0).then_some(Number { number, of: 31 });
        Event::Started { lane: lane.into(), kind: "packages", step: "install repmgr".into(), number }
    }

    fn told(width: usize, events: &[Event]) -> Vec<String> {
        let lines = Lines::new(width);
        let lines = events.iter().filter_map(|event| lines.line_with_starts(event));
        lines.map(|line| anstream::adapter::strip_str(&line).to_string()).collect()
    }

    #[test]
    fn steps_are_counted_over_the_whole_run_and_names_are_aligned() {
        let done =
            Event::Done { lane: "pg1".into(), kind: "packages", step: "install".into(), seconds: 2.44 };
        let waits = Event::Progress { lane: "pg2".into(), text: "waiting".into() };
        let phase = Event::Phase { title: "packages".into() };
        let events = [phase, started("pg1", 4), started("database-12", 5), waits, done, started("pg1", 32)];
        let lines = told("database-12".len(), &events);
        assert_eq!(
            lines,
            [
                "== packages",
                "pg1         install repmgr (step 4 of 31)",
                "database-12 install repmgr (step 5 of 31)",
                "pg2           waiting",
                "pg1         ok install (2.4 s)",
                "pg1         install repmgr (step 32 of 32)",
            ]
        );
    }

    #[test]
    fn what_no_plan_has_is_not_counted() {
        assert_eq!(told(3, &[started("pg1", 0)]), ["pg1 install repmgr"]);
    }
}
