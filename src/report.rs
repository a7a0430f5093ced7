//! The stream of events of a run. The terminal, plain lines, JSON and the run's log file
//! consume it; nothing else prints progress.

mod line;
mod log;
mod plain;
mod terminal;

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::screen;
pub use crate::visible::visible;
pub use plain::play;

/// Something that happened. `lane` is a node's name, or `provider`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins.
    Run { command: String, cluster: String },
    /// The current state is being observed.
    Observing,
    /// The first steps of a phase begin. Some hosts may still be at the one before.
    Phase { title: String },
    /// A step begins.
    Started {
        lane: String,
        /// What kind of step ([`crate::plan::Action::kind`]).
        kind: &'static str,
        step: String,
        /// None outside a plan.
        #[serde(flatten)]
        number: Option<Number>,
    },
    /// Progress of a step.
    Progress { lane: String, text: String },
    /// A line that a host printed.
    Output { lane: String, text: String },
    /// A step was done.
    Done {
        lane: String,
        /// What kind of step ([`crate::plan::Action::kind`]).
        kind: &'static str,
        step: String,
        seconds: f64,
    },
    /// A step failed.
    Failed {
        lane: String,
        /// What kind of step ([`crate::plan::Action::kind`]).
        kind: &'static str,
        step: String,
        /// Why, in a line.
        why: String,
    },
    /// A notice.
    Note { text: String },
    /// A problem to fix.
    Warning { text: String },
    /// A run ends well.
    Finished {
        /// Number of steps done.
        steps: usize,
        /// The result.
        text: String,
        seconds: f64,
    },
}

/// Which step of a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Number {
    pub number: usize,
    /// With all that is planned now; later plans may have more.
    pub of: usize,
}

impl Event {
    /// The event as a terminal may show it.
    fn visible(self) -> Event {
        let show = |text: String| visible(&text);
        match self {
            Event::Run { command, cluster } => Event::Run { command: show(command), cluster: show(cluster) },
            Event::Observing => Event::Observing,
            Event::Phase { title } => Event::Phase { title: show(title) },
            Event::Started { lane, kind, step, number } => {
                Event::Started { lane: show(lane), kind, step: show(step), number }
            }
            Event::Progress { lane, text } => Event::Progress { lane: show(lane), text: show(text) },
            Event::Output { lane, text } => Event::Output { lane: show(lane), text: show(text) },
            Event::Done { lane, kind, step, seconds } => {
                Event::Done { lane: show(lane), kind, step: show(step), seconds }
            }
            Event::Failed { lane, kind, step, why } => {
                Event::Failed { lane: show(lane), kind, step: show(step), why: show(why) }
            }
            Event::Note { text } => Event::Note { text: show(text) },
            Event::Warning { text } => Event::Warning { text: show(text) },
            Event::Finished { steps, text, seconds } => Event::Finished { steps, text: show(text), seconds },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A person at a terminal: one line a host that changes in place.
    Terminal,
    /// Lines with the host in front.
    Plain,
    /// One JSON object a line, on standard output.
    Json,
    /// No output.
    Quiet,
}

impl Format {
    /// The format for a command whose result goes to standard output: progress is for people only.
    pub fn beside_result(json: bool) -> Format {
        if json { Format::Quiet } else { Format::choose(false) }
    }

    /// The format that fits: JSON if asked for, a live display on a terminal, lines elsewhere.
    pub fn choose(json: bool) -> Format {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if json {
            Format::Json
        } else if std::io::stderr().is_terminal()
            && !set("CI")
            && std::env::var("TERM").as_deref() != Ok("dumb")
        {
            Format::Terminal
        } else {
            Format::Plain
        }
    }
}

/// What the consumers are sent.
enum Message {
    /// Something happened.
    Event(Event),
    /// Something else is about to be printed: what changes in place goes, and then this is answered.
    Settle(Sender<()>),
}

/// Takes events. Cheap to clone; the consumers end when the last clone is gone.
#[derive(Clone)]
pub struct Reporter(Sender<Message>);

/// How long a result waits for what was reported before it.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

impl Reporter {
    pub fn send(&self, event: Event) {
        // Consumers are gone only at the very end.
        let _ = self.0.send(Message::Event(event));
    }

    /// Waits until everything was told and nothing on the terminal moves any more: before a result is printed.
    pub fn settle(&self) {
        let (done, wait) = channel();
        if self.0.send(Message::Settle(done)).is_ok() {
            // A terminal that hangs is no reason to keep the result back.
            let _ = wait.recv_timeout(SETTLES_WITHIN);
        }
    }

    /// What a step is waiting for.
    pub fn progress(&self, lane: &str, text: impl Into<String>) {
        self.send(Event::Progress { lane: lane.to_owned(), text: text.into() });
    }

    pub fn warning(&self, text: impl Into<String>) {
        self.send(Event::Warning { text: text.into() });
    }

    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note { text: text.into() });
    }
}

/// The consumers at work.
pub struct Consumers(JoinHandle<()>);

impl Consumers {
    /// Waits until all events are printed. Every [`Reporter`] must have been dropped.
    pub fn finish(self) {
        screen::taken_by(None);
        // A consumer that panicked has nothing more to say.
        let _ = self.0.join();
    }
}

trait Consumer: Send {
    fn take(&mut self, event: &Event);

    /// Something else is about to be printed.
    fn settle(&mut self) {}
}

/// Starts the consumers: one for people or programs, and the log file if there is one. `width` is that of the longest
/// lane's name.
pub fn start(format: Format, width: usize, log: Option<&Path>) -> (Reporter, Consumers) {
    let mut consumers: Vec<Box<dyn Consumer>> = Vec::new();
    match format {
        Format::Terminal => consumers.push(Box::new(terminal::Terminal::new(line::Lines::new(width)))),
        Format::Plain => consumers.push(Box::new(plain::Plain::new(line::Lines::new(width)))),
        Format::Json => consumers.push(Box::new(log::JsonLines::stdout())),
        Format::Quiet => {}
    }
    if let Some(log) = log.and_then(log::JsonLines::file) {
        consumers.push(Box::new(log));
    }
    let (sender, receiver) = channel::<Message>();
    let thread = std::thread::spawn(move || {
        for message in receiver {
            match message {
                Message::Event(event) => consumers.iter_mut().for_each(|consumer| consumer.take(&event)),
                Message::Settle(done) => {
                    consumers.iter_mut().for_each(|consumer| consumer.settle());
                    // Who asked may have gone on without.
                    let _ = done.send(());
                }
            }
        }
        consumers.iter_mut().for_each(|consumer| consumer.settle());
    });
    let reporter = Reporter(sender);
    screen::taken_by(Some(reporter.clone()));
    (reporter, Consumers(thread))
}
