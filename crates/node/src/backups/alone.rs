//! What can be restored from a repository whose cluster is gone: which timelines that had, and how large its WAL files
//! were, the repository itself tells.

use cluster_contract::backup::Contents;
use cluster_contract::position::Lsn;

use super::{LIST_LIMIT, QUESTION_LIMIT, coverage};
use crate::pgbackrest::{self, Failed};

/// What is in a stanza that no server is asked about. `config` is pgBackRest's configuration, `version` PostgreSQL's.
///
/// # Errors
/// When the repository cannot be read.
pub(super) async fn contents(version: u32, config: &str, stanza: &str) -> Result<Contents, Failed> {
    let run = async |args: &[&str], limit| pgbackrest::run_of(config, stanza, args, limit).await;
    let unreadable =
        |error: serde_json::Error| Failed::new(format!("cannot read what `repo-ls` printed: {error}"));
    let info = run(&["info", "--output=json"], QUESTION_LIMIT).await?;
    let backups = pgbackrest::backups(stanza, &info)?;
    let (Some(last), Some(size)) =
        (backups.last(), coverage::segment_size(&pgbackrest::starts(stanza, &info)))
    else {
        return Ok(Contents { backups, ..Contents::default() });
    };
    let list = ["repo-ls", "--recurse", "--output=json", &format!("archive/{stanza}")];
    let listing = run(&list, LIST_LIMIT).await?;
    let archived = coverage::archived(&listing, version, size).map_err(unreadable)?;
    let histories = coverage::histories(&listing, version).map_err(unreadable)?;
    let newest = coverage::newest(&histories, last.timeline);
    // The first timeline has none.
    let history = match histories.get(&newest) {
        Some(path) => run(&["repo-get", &format!("archive/{stanza}/{path}")], QUESTION_LIMIT).await?,
        None => String::new(),
    };
    let way = coverage::way(&history, newest)
        .ok_or_else(|| Failed::new(format!("the history of timeline {newest} is damaged")))?;
    let of_newest = archived.keys().filter(|segment| segment.timeline == newest);
    let end = Lsn(of_newest.map(|segment| (segment.number + 1) * size).max().unwrap_or_default());
    let found = coverage::coverage(&way, &archived, &backups, end, size);
    Ok(Contents { backups, intervals: found.intervals, gaps: found.gaps })
}
