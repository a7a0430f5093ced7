//! Events as lines, with the host in front: for logs of other programs, and for a terminal's scrollback.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::{Consumer, Event, Reporter};
use owo_colors::OwoColorize as _;

/// A line that says the same as the last one of its host, but for a count of seconds, is told this seldom.
const REPEAT: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct Plain {
    /// What each host is waiting for, and since when that has been on screen.
    waiting: BTreeMap<String, (String, Instant)>,
}

impl Plain {
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
            && let Some(line) = line(&event.clone().visible(), true)
        {
            // Who reads it may have gone; the run goes on.
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }
}

/// What a person reads of an event, if anything.
pub(super) fn line(event: &Event, starts: bool) -> Option<String> {
    let lane = |lane: &str| format!("{lane:<8}").bold().to_string();
    Some(match event {
        Event::Run { .. } | Event::Observing | Event::Output { .. } => return None,
        Event::Phase { title, .. } => format!("{} {title}", "==".dimmed()),
        Event::Started { lane: at, step, .. } if starts => format!("{} {}", lane(at), step.dimmed()),
        Event::Started { .. } => return None,
        Event::Progress { lane: at, text } if starts => format!("{}   {}", lane(at), text.dimmed()),
        Event::Progress { .. } => return None,
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

/// `(2.4 s)`.
pub(super) fn took(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("({seconds:.1} s)")
    } else {
        format!("({} min {:.0} s)", (seconds / 60.0) as u64, seconds % 60.0)
    }
}

/// Plays a made-up run, so that the display can be looked at without a cluster.
pub fn play(reporter: &Reporter) {
    let pause = |ms| std::thread::sleep(std::time::Duration::from_millis(ms));
    let lanes = ["pg1", "pg2", "pg3"];
    reporter.send(Event::Run { command: "up".into(), cluster: "demo".into() });
    for title in ["wait for hosts", "packages"] {
        reporter.send(Event::Phase { title: title.into(), steps: 3 });
        for lane in lanes {
            reporter.send(Event::Started {
                lane: lane.into(),
                kind: "reach",
                step: format!("do the {title}"),
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
