//! The backups, as the primary's service sees them.

use cluster_contract::backup::{Archive, Backup, BackupStatus, Contents, Proof, Proofs, Proving, Running};
use cluster_contract::paths;
use serde::Serialize;

use crate::facts::{Facts, Host};
use crate::inventory::{self, Inventory, Repository};

/// WAL that has waited for longer than this is late: `archive_within` and a slow upload are part of it.
const LATE_S: u64 = 300;
/// One try that fails may be followed by one that does not.
const FAILS_S: u64 = 60;

/// The state of a cluster's backups.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backups {
    /// Where they go.
    pub repository: String,
    /// What is in the repository; `None` while it has not been read.
    pub contents: Option<Contents>,
    /// The backup that is under way.
    pub running: Option<Running>,
    /// How WAL gets there.
    pub archive: Archive,
    /// When the primary looked, in seconds since 1970; `None` while nothing is known.
    pub at: Option<i64>,
    /// The recovery point: the writes of the last so many seconds would be lost with the whole cluster; `None` while nothing
    /// could be restored.
    pub recovery_point_s: Option<u64>,
    /// The restores that were tried beside standbys.
    pub restores: Restores,
}

/// The restores that were tried, on whichever node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Restores {
    /// The last one that went well.
    pub proved: Option<On<Proof>>,
    /// The last one, however it ended.
    pub last: Option<On<Proof>>,
    /// One that is under way.
    pub running: Option<On<Proving>>,
    /// When a node first could have proved one.
    pub possible_since: Option<i64>,
}

/// What a node knows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct On<T> {
    pub node: String,
    #[serde(flatten)]
    pub it: T,
}

impl Restores {
    /// The last one, if it failed.
    pub fn failed(&self) -> Option<&On<Proof>> {
        self.last.as_ref().filter(|last| last.it.error.is_some())
    }

    fn collect(inventory: &Inventory, facts: &Facts) -> Restores {
        let mut all = Restores::default();
        for node in inventory.data_nodes() {
            let file = facts.hosts.get(&node.name).and_then(|host| host.up()?.files.get(paths::PROOFS));
            let proofs = file.and_then(|file| serde_json::from_str::<Proofs>(file.content.as_deref()?).ok());
            let Some(proofs) = proofs else { continue };
            later(&mut all.proved, &node.name, proofs.good);
            later(&mut all.last, &node.name, proofs.last);
            let running = proofs.running.map(|it| On { node: node.name.clone(), it });
            all.running = all.running.take().or(running);
            all.possible_since = all.possible_since.into_iter().chain(proofs.possible_since).min();
        }
        all
    }
}

fn later(latest: &mut Option<On<Proof>>, node: &str, proof: Option<Proof>) {
    let Some(proof) = proof else { return };
    if latest.as_ref().is_none_or(|latest| latest.it.at < proof.at) {
        *latest = Some(On { node: node.to_owned(), it: proof });
    }
}

impl Backups {
    pub fn last(&self) -> Option<&Backup> {
        self.contents.as_ref()?.backups.last()
    }
}

/// The repository in words.
pub fn repository(backup: &inventory::Backup) -> String {
    match &backup.repository {
        Repository::Path(path) => format!("{path}{}", backup.folder),
        Repository::Spaces { bucket: s3, .. } | Repository::S3(s3) => {
            format!("s3://{}{} at {}", s3.bucket, backup.folder, s3.host)
        }
    }
}

/// Evaluates what the primary's service has written down.
pub(super) fn backups(
    inventory: &Inventory,
    facts: &Facts,
    primary: Option<&str>,
    problems: &mut Vec<String>,
) -> Option<Backups> {
    let backup = inventory.backup.as_ref()?;
    let mut seen = Backups {
        repository: repository(backup),
        contents: None,
        running: None,
        archive: Archive::default(),
        at: None,
        recovery_point_s: None,
        restores: Restores::collect(inventory, facts),
    };
    // Without a primary there are other worries.
    let Some(primary) = primary else { return Some(seen) };
    let host = facts.hosts.get(primary).and_then(Host::up)?;
    let service = host.units.get("cluster-backup").map(|unit| unit.active.as_str());
    if service != Some("active") {
        problems.push(format!(
            "backups: cluster-backup is {} on {primary}: `cluster up` starts it",
            service.filter(|state| !state.is_empty()).unwrap_or("missing")
        ));
        return Some(seen);
    }
    let written = host.files.get(paths::BACKUP_STATUS);
    let status = written
        .and_then(|file| file.content.as_deref())
        .and_then(|text| serde_json::from_str::<BackupStatus>(text).ok())
        .filter(|status| status.leads);
    let not_yet = || format!("backups: {primary} has not looked at the repository yet");
    let Some(status) = status else {
        problems.push(not_yet());
        return Some(seen);
    };
    if status.contents.is_none() && status.trouble.is_none() {
        problems.push(not_yet());
    }
    judge(backup, primary, &status, problems);
    judge_restores(backup, &status, &seen.restores, problems);
    seen.recovery_point_s = recovery_point(&status);
    seen.at = Some(status.at);
    (seen.contents, seen.running, seen.archive) = (status.contents, status.running, status.archive);
    Some(seen)
}

fn judge(backup: &inventory::Backup, primary: &str, status: &BackupStatus, problems: &mut Vec<String>) {
    let age = |then: i64| status.at.saturating_sub(then).max(0).unsigned_abs();
    if let Some(trouble) = &status.trouble {
        let since =
            status.trouble_since.map_or(String::new(), |since| format!(" (for {})", span(age(since))));
        problems.push(format!("backups{since}: {trouble}"));
    }
    let archive = &status.archive;
    let failing = archive.failing.as_ref().filter(|failing| age(failing.since) > FAILS_S);
    if failing.is_some() || archive.oldest_waits_s.is_some_and(|waits| waits > LATE_S) {
        let why = failing.map_or(String::new(), |failing| {
            format!("no WAL has been archived for {} ({}): ", span(age(failing.since)), failing.why)
        });
        problems.push(format!(
            "backups: {why}{} WAL files ({}) wait to be archived, the oldest for {}{}",
            archive.waiting,
            size(archive.waiting_bytes),
            span(archive.oldest_waits_s.unwrap_or_default()),
            room(primary, archive)
        ));
    }
    // What is under way, or has failed, is told of already.
    let quiet = status.running.is_none() && status.trouble.is_none();
    match status.contents.as_ref().map(|it| it.backups.as_slice()) {
        Some([]) if quiet => problems.push("backups: there is none yet".into()),
        Some(list) => {
            if let Some(last) = list.last()
                && age(last.ended) > 2 * backup.differential_every_s
            {
                problems.push(format!("backups: the last one is {} old", span(age(last.ended))));
            }
            for damaged in list.iter().filter(|backup| backup.damaged) {
                problems.push(format!(
                    "backups: {} has pages with wrong checksums: the data on {primary} may be damaged",
                    damaged.label
                ));
            }
        }
        None => {}
    }
    let gaps = status.contents.iter().flat_map(|it| &it.gaps).filter(|gap| !gap.closed_by_backup && quiet);
    for gap in gaps {
        problems.push(format!(
            "backups: {} WAL files from {} on are not in the archive: nothing later can be restored until the next backup",
            gap.files, gap.from
        ));
    }
}

/// How long the disk lasts for the WAL that is kept.
fn room(primary: &str, archive: &Archive) -> String {
    let Some(free) = archive.free_bytes else { return String::new() };
    // At the rate at which it has come since the oldest waits.
    let seconds = archive.oldest_waits_s.and_then(|waits| {
        let rate = archive.waiting_bytes / waits.max(1);
        free.checked_div(rate)
    });
    let lasts =
        seconds.map_or(String::new(), |seconds| format!(", enough for {} at this rate", span(seconds)));
    format!("; they are kept on {primary}, whose disk has {} left{lasts}", size(free))
}

fn judge_restores(
    backup: &inventory::Backup,
    status: &BackupStatus,
    restores: &Restores,
    problems: &mut Vec<String>,
) {
    let age = |then: i64| status.at.saturating_sub(then).max(0).unsigned_abs();
    if let Some(failed) = restores.failed().filter(|failed| !failed.it.impossible) {
        problems.push(format!(
            "backups: the last restore that was tried failed ({}, {} ago): {}; `cluster drill --fault restore` tries again",
            failed.node,
            span(age(failed.it.at)),
            failed.it.error.as_deref().unwrap_or_default()
        ));
        return;
    }
    let Some(every) = backup.prove_every_s else { return };
    let oldest = status.contents.iter().flat_map(|it| &it.backups).map(|backup| backup.ended).min();
    let since = restores.proved.as_ref().map(|proved| proved.it.at).or(restores.possible_since).or(oldest);
    if let Some(since) = since.filter(|since| age(*since) > 2 * every) {
        let why = restores.failed().map_or(String::new(), |failed| {
            let error = failed.it.error.as_deref().unwrap_or_default();
            format!(
                ": on {} it is {error}; give it a larger disk, or have none proved with `backup.prove_every: never`",
                failed.node
            )
        });
        problems.push(format!("backups: no restore has been proved for {}{why}", span(age(since))));
    }
}

/// Where a file is missing, nothing behind it can be restored until the next backup.
fn recovery_point(status: &BackupStatus) -> Option<u64> {
    let contents = status.contents.as_ref().filter(|it| !it.backups.is_empty())?;
    let reaches = if contents.gaps.iter().any(|gap| !gap.closed_by_backup) {
        contents.intervals.last().map(|interval| interval.until)
    } else {
        status.archive.reaches.or(status.archive.last_at)
    };
    Some(status.at.saturating_sub(reaches?).max(0).unsigned_abs())
}

/// `45 s`, `12 min`, `5 h`, `3 d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `12 kB`, `3 MB`, `1.5 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{} kB", bytes >> 10),
        1_048_576..=1_073_741_823 => format!("{} MB", bytes >> 20),
        _ => format!("{:.1} GB", bytes as f64 / f64::from(1 << 30)),
    }
}
