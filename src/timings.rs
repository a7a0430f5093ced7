//! `--timings`: where the seconds of a run went. Parts follow each other and do not overlap; what no part says is the rest, so
//! that they add up.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The clock of this process; none unless `--timings` asks for it.
static CLOCK: Mutex<Option<Clock>> = Mutex::new(None);

struct Clock {
    begun: Instant,
    parts: Vec<Part>,
    /// When each of them began, and its seconds.
    spans: Vec<(Instant, f64)>,
}

/// One part of a run, as often as it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What was done.
    pub part: String,
    /// How often.
    pub times: usize,
    /// All of them together.
    pub seconds: f64,
    /// The host that took longest, at the time that took longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowest: Option<Slowest>,
}

/// The host that all others waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slowest {
    pub node: String,
    pub seconds: f64,
    /// Of them, until there was a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_seconds: Option<f64>,
}

/// Where the seconds of a run went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timings {
    event: &'static str,
    /// From the start of the program.
    pub seconds: f64,
    pub parts: Vec<Part>,
    /// What is in no part: reading the inventory, planning, writing the state.
    pub rest_seconds: f64,
}

/// Starts the clock.
pub fn start(begun: Instant) {
    *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Clock { begun, parts: Vec::new(), spans: Vec::new() });
}

/// A part that began then ends now.
pub fn part(name: &str, begun: Instant) {
    part_of(name, begun, None);
}

/// A part that several hosts did at the same time ends now.
pub fn part_of(name: &str, begun: Instant, slowest: Option<Slowest>) {
    if let Some(clock) = &mut *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) {
        // What is done within a part is a part of its own, and counts once.
        let inner: f64 = clock.spans.iter().filter(|(at, _)| *at >= begun).map(|(_, seconds)| seconds).sum();
        let seconds = (begun.elapsed().as_secs_f64() - inner).max(0.0);
        clock.spans.push((begun, seconds));
        add(&mut clock.parts, name, seconds, slowest);
    }
}

fn add(parts: &mut Vec<Part>, name: &str, seconds: f64, slowest: Option<Slowest>) {
    let Some(known) = parts.iter_mut().find(|part| part.part == name) else {
        return parts.push(Part { part: name.to_owned(), times: 1, seconds, slowest });
    };
    known.times += 1;
    known.seconds += seconds;
    let longest = known.slowest.as_ref().map_or(0.0, |slowest| slowest.seconds);
    if let Some(slowest) = slowest.filter(|slowest| slowest.seconds > longest) {
        known.slowest = Some(slowest);
    }
}

/// Stops the clock, if it was started.
pub fn stop() -> Option<Timings> {
    let clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some(Timings::new(clock.begun.elapsed(), clock.parts))
}

impl Timings {
    fn new(took: Duration, parts: Vec<Part>) -> Timings {
        let seconds = took.as_secs_f64();
        let known: f64 = parts.iter().map(|part| part.seconds).sum();
        Timings { event: "timings", seconds, parts, rest_seconds: (seconds - known).max(0.0) }
    }

    /// As an object for programs, on one line.
    pub fn json(&self) -> String {
        crate::screen::escaped(&serde_json::to_string(self).unwrap_or_default())
    }

    /// As a table for people.
    pub fn text(&self) -> String {
        let name = |part: &Part| match part.times {
            1 => part.part.clone(),
            times => format!("{} ({times} times)", part.part),
        };
        let width = self.parts.iter().map(|part| name(part).chars().count()).fold("all".len(), usize::max);
        let mut text = String::from("timings:\n");
        let mut line = |name: &str, seconds: f64, slowest: &str| {
            let line = format!("  {name:<width$} {seconds:>8.2} s{slowest}");
            text.push_str(line.trim_end());
            text.push('\n');
        };
        for part in &self.parts {
            let slowest = part.slowest.as_ref().map_or(String::new(), |slowest| {
                let connect = slowest
                    .connect_seconds
                    .map_or(String::new(), |connect| format!(", {connect:.2} s of it to connect"));
                format!("   longest {}: {:.2} s{connect}", slowest.node, slowest.seconds)
            });
            line(&name(part), part.seconds, &slowest);
        }
        line("rest", self.rest_seconds, "");
        line("all", self.seconds, "");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_up_and_the_rest_is_what_is_left() {
        let slow = |node: &str, seconds, connect| {
            Some(Slowest { node: node.into(), seconds, connect_seconds: connect })
        };
        let mut parts = Vec::new();
        add(&mut parts, "look at the hosts", 0.5, slow("pg2", 0.49, Some(0.25)));
        add(&mut parts, "services", 1.5, slow("pg1", 1.5, None));
        add(&mut parts, "look at the hosts", 0.25, slow("pg3", 0.25, Some(0.0)));
        let timings = Timings::new(Duration::from_millis(2500), parts);
        assert_eq!(
            timings.text(),
            "timings:\n  \
             look at the hosts (2 times)     0.75 s   longest pg2: 0.49 s, 0.25 s of it to connect\n  \
             services                        1.50 s   longest pg1: 1.50 s\n  \
             rest                            0.25 s\n  \
             all                             2.50 s\n"
        );
        let sum: f64 = timings.parts.iter().map(|part| part.seconds).sum();
        assert!((sum + timings.rest_seconds - timings.seconds).abs() < 1e-9);
    }
}
