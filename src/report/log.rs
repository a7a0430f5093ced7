//! Events as JSON, one a line, with the time: on standard output for programs, in a file for later.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::{Consumer, Event};
use crate::screen::escaped;

pub(super) struct JsonLines {
    out: Box<dyn Write + Send>,
    everything: bool,
}

impl JsonLines {
    /// For programs: what hosts print is left out.
    pub(super) fn stdout() -> Self {
        JsonLines { out: Box::new(std::io::stdout()), everything: false }
    }

    /// For later: with every line that a host printed. None if the file cannot be made; a log is a convenience.
    pub(super) fn file(path: &Path) -> Option<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok()?;
        Some(JsonLines { out: Box::new(file), everything: true })
    }
}

impl Consumer for JsonLines {
    fn take(&mut self, event: &Event) {
        if !self.everything && matches!(event, Event::Output { .. }) {
            return;
        }
        let Ok(mut value) = serde_json::to_value(event) else { return };
        value["at"] = jiff::Timestamp::now().to_string().into();
        // Who reads it may have gone; the run goes on.
        let _ = writeln!(self.out, "{}", escaped(&value.to_string()));
        let _ = self.out.flush();
    }
}
