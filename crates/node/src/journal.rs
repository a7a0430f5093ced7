//! What happened on this node, written down.

use std::fs;
use std::io::Write as _;

use cluster_contract::Millis;
use cluster_contract::journal::{Event, Line};
use cluster_contract::paths::{self, JOURNAL};

/// Beyond this the journal begins anew, and the old one is kept once.
const JOURNAL_BYTES: u64 = 4 << 20;

/// Tells the system's journal and our own what happened: `event` for programs, `text` for people.
pub fn note(event: Event, text: &str) {
    note_since(event, text, None);
}

/// The same of what began `ago` milliseconds ago.
pub fn note_since(event: Event, text: &str, ago: Option<Millis>) {
    // The system's journal may be started anew at this moment; ours has it, too.
    let _ = writeln!(std::io::stdout(), "{text}");
    let now = jiff::Timestamp::now();
    let since = ago.map(|ago| (now - jiff::SignedDuration::from_millis(ago.cast_signed())).to_string());
    let line = Line { at: now.to_string(), clock: crate::clock::now(), event, text: text.to_owned(), since };
    let append = || -> std::io::Result<()> {
        fs::create_dir_all(paths::STATE)?;
        if fs::metadata(JOURNAL).is_ok_and(|it| it.len() > JOURNAL_BYTES) {
            fs::rename(JOURNAL, format!("{JOURNAL}.1"))?;
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(JOURNAL)?;
        writeln!(file, "{}", serde_json::to_string(&line)?)
    };
    if let Err(error) = append() {
        // The system's journal has it, if anybody reads that.
        warn(&format!("cannot write {JOURNAL}: {error}"));
    }
}

/// Whether the journal tells already of the transactions whose WAL is kept there.
pub fn tells_of_lost(wal: &str) -> bool {
    let is_it = |line: &str| {
        let line = serde_json::from_str::<Line>(line).ok();
        line.is_some_and(|line| matches!(line.event, Event::TransactionsLost { lost } if lost.wal == wal))
    };
    let journals = [JOURNAL.to_owned(), format!("{JOURNAL}.1")];
    journals.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(is_it)))
}

/// Tells the system's journal alone. Nobody may read it at this moment, which is no reason to end.
pub fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
