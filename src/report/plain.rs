//! Events as lines, with the host in front: for logs of other programs, and for a terminal's scrollback.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::line::Lines;
use super::{Consumer, Event, Number, Reporter};

/// A line that says the same as the last one of its host, but for a count of seconds, is told this seldom.
const REPEAT: Duration = Duration::from_secs(15);

pub(super) struct Plain {
    lines: Lines,
    /// What each host is waiting for, and since when that has been on screen.
    waiting: BTreeMap<String, (String, Instant)>,
}

impl Plain {
    pub(super) fn new(lines: Lines) -> Self {
        Plain { lines, waiting: BTreeMap::new() }
    }

    /// Whether this has just been said.
    fn repeats(&mut self, event: &Event) -> bool {
        let (lane, text) = match event {
            Event::Progress { lane, text } => (lane, without_numbers(text)),
            Event::Started { lane, .. } | Event::Done { lane, .. } | Event::Failed { lane, .. } => {
                self.waiting.remove(lane);
                return false;
            }
            _ => return false,
        };
        match self.waiting.get(lane) {
            Some((last, told)) if *last == text && told.elapsed() < REPEAT => true,
            _ => {
                self.waiting.insert(lane.clone(), (text, Instant::now()));
                false
            }
        }
    }
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

impl Consumer for Plain {
    fn take(&mut self, event: &Event) {
        if !self.repeats(event)
            && let Some(line) = self.lines.line_with_starts(&event.clone().visible())
        {
            // Who reads it may have gone; the run goes on.
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }
}

/// Plays a made-up run, so that the display can be looked at without a cluster.
pub fn play(reporter: &Reporter) {
    let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
    let lanes = ["pg1", "pg2", "pg3"];
    reporter.send(Event::Run { command: "up".into(), cluster: "demo".into() });
    for (before, title) in [(0, "wait for hosts"), (3, "packages")] {
        reporter.send(Event::Phase { title: title.into() });
        for (lane, number) in lanes.into_iter().zip(before + 1..) {
            reporter.send(Event::Started {
                lane: lane.into(),
                kind: "reach",
                step: format!("do the {title}"),
                number: Some(Number { number, of: 6 }),
            });
        }
        for round in 1..6 {
            for lane in lanes {
                reporter.progress(lane, format!("line {round} of what it says"));
            }
            pause(300);
        }
        for lane in lanes {
            reporter.send(Event::Done {
                lane: lane.into(),
                kind: "reach",
                step: format!("do the {title}"),
                seconds: 1.5,
            });
        }
    }
    reporter.warning("this was a play");
    reporter.send(Event::Finished { steps: 6, text: "demo is up".into(), seconds: 3.0 });
}
