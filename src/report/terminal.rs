//! Events on a terminal: one line a host that changes in place, and what was done above it.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::line::Lines;
use super::{Consumer, Event};

pub(super) struct Terminal {
    lines: Lines,
    all: MultiProgress,
    bars: BTreeMap<String, Bar>,
}

struct Bar {
    bar: ProgressBar,
    /// None for what is waited for outside any step.
    step: Option<String>,
}

impl Terminal {
    pub(super) fn new(lines: Lines) -> Self {
        Terminal { lines, all: MultiProgress::new(), bars: BTreeMap::new() }
    }

    fn print(&self, text: &str) {
        // A terminal that is gone is no reason to stop.
        let _ = self.all.println(text);
    }

    fn begin(&mut self, lane: &str, message: &str, step: Option<String>) {
        let bar = self.spinner().with_prefix(self.lines.lane(lane)).with_message(message.to_owned());
        self.bars.insert(lane.to_owned(), Bar { bar, step });
    }

    fn spinner(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:.bold} {spinner} {wide_msg} {elapsed:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

impl Consumer for Terminal {
    fn take(&mut self, event: &Event) {
        let event = &event.clone().visible();
        let count = Lines::count(event);
        match event {
            Event::Started { lane, step, .. } => {
                let step = &count.map_or(step.clone(), |count| format!("{count}: {step}"));
                if let Some(bar) = self.bars.remove(lane) {
                    bar.bar.finish_and_clear();
                }
                self.begin(lane, step, Some(step.clone()));
            }
            Event::Progress { lane, text } | Event::Output { lane, text } if !text.trim().is_empty() => {
                match self.bars.get(lane) {
                    Some(Bar { bar, step: Some(step) }) => {
                        bar.set_message(format!("{step}: {}", text.trim()))
                    }
                    Some(Bar { bar, step: None }) => bar.set_message(text.trim().to_owned()),
                    // Something is waited for outside any step.
                    None if matches!(event, Event::Progress { .. }) => self.begin(lane, text.trim(), None),
                    None => {}
                }
            }
            Event::Phase { .. } => {
                self.bars.retain(|_, bar| {
                    if bar.step.is_none() {
                        bar.bar.finish_and_clear();
                    }
                    bar.step.is_some()
                });
            }
            Event::Finished { .. } => self.settle(),
            Event::Done { lane, .. } | Event::Failed { lane, .. } => {
                if let Some(bar) = self.bars.remove(lane) {
                    bar.bar.finish_and_clear();
                    self.all.remove(&bar.bar);
                }
            }
            _ => {}
        }
        if let Some(line) = self.lines.line(event) {
            self.print(&line);
        }
    }
    fn settle(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.bar.finish_and_clear();
            self.all.remove(&bar.bar);
        }
    }
}
