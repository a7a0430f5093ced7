//! The disk of PostgreSQL's data and WAL: how much room there is, the reserve, and what PostgreSQL is told about it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use cluster_contract::config::Config;
use cluster_contract::paths;
use cluster_contract::status::WalKept;
use tokio::process::Command;
use tokio_postgres::Client;

use crate::core::Relief;
use crate::room::{self, FileSystem, Space};
use crate::{postgres, processes, psql};

/// Making the reserve and giving it up are single calls of the kernel's.
const RESERVE_LIMIT: Duration = Duration::from_secs(60);
/// PostgreSQL has read its configuration again by then.
const RELOAD_LIMIT: Duration = Duration::from_secs(3);
const RELOAD_POLL: Duration = Duration::from_millis(50);
/// A short question, or the end of a few sessions.
const RELIEF_LIMIT: Duration = Duration::from_secs(10);
/// A checkpoint of a large server takes a while.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(600);

/// While writes are taken.
const WRITES_TAKEN: &str = "# Written by cluster-node: there is room, and writes are taken.\n";
/// While they are refused. Without `archive_timeout = 0` the guard's heartbeats alone would fill a WAL file a minute, and
/// none goes away while the repository does.
const WRITES_REFUSED: &str = "\
# Written by cluster-node: the disk is full. It goes away by itself when there is room; `cluster status` shows how much.
default_transaction_read_only = on
archive_timeout = 0
";

/// The room that PostgreSQL has; none before it has data.
pub(super) fn observe(config: &Config) -> Option<Space> {
    let data = PathBuf::from(config.data_directory());
    let wal = data.join("pg_wal");
    let reserve = reserve_path(config).as_deref().map_or(0, reserved);
    let is_one = fs::metadata(&data).ok()?.dev() == fs::metadata(&wal).ok()?.dev();
    Some(Space {
        wal: FileSystem { reserve, ..file_system(&wal)? },
        data: if is_one { None } else { file_system(&data) },
    })
}

fn file_system(path: &Path) -> Option<FileSystem> {
    let seen = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
    let (size, free) = (bytes(seen.f_blocks), bytes(seen.f_bavail));
    // Some file systems do not say: that is no disk that is full.
    (size > 0).then_some(FileSystem { size, free, reserve: 0 })
}

/// Where the reserve is: the first of these directories that lies on the file system of the WAL. The guard's own is, on
/// a host with one disk. The data directory itself is none of them: a clone and a backup would copy it, and they leave
/// out what is with the WAL.
fn reserve_path(config: &Config) -> Option<PathBuf> {
    let places = reserve_places(config);
    let device = fs::metadata(places.last()?.parent()?).ok()?.dev();
    let is_there = |path: &PathBuf| {
        path.parent().and_then(|it| fs::metadata(it).ok()).is_some_and(|it| it.dev() == device)
    };
    places.into_iter().find(is_there)
}

/// Wherever it may be, the place beside the WAL last.
fn reserve_places(config: &Config) -> [PathBuf; 4] {
    let version = format!("{}/{}", paths::POSTGRES_HOME, config.version);
    let wal = format!("{}/pg_wal", config.data_directory());
    [paths::STATE, paths::POSTGRES_HOME, &version, &wal].map(|place| Path::new(place).join(paths::RESERVE))
}

/// What the reserve really takes.
fn reserved(path: &Path) -> u64 {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    found.map_or(0, |found| found.blocks().saturating_mul(512))
}

/// Makes the reserve, or nothing.
pub(super) async fn make_reserve(config: &Config, bytes: u64) -> Result<String> {
    let path = reserve_path(config).context("there is no place for the reserve on the disk")?;
    // The WAL was moved to another disk since.
    for old in reserve_places(config).iter().filter(|old| **old != path && old.symlink_metadata().is_ok()) {
        at_place(old, "rm", &["-f", "--", &old.display().to_string()]).await?;
    }
    let text = path.display().to_string();
    let made = at_place(&path, "fallocate", &["--length", &bytes.to_string(), &text]).await;
    if let Err(error) = made {
        // Half of it would be taken for it.
        let _ = at_place(&path, "rm", &["-f", "--", &text]).await;
        return Err(error.context(format!("cannot reserve {} on the disk", room::size(bytes))));
    }
    Ok(format!("{} are held in reserve: {text}", room::size(bytes)))
}

/// Gives the reserve up.
pub(super) async fn free_reserve(config: &Config) -> Result<String> {
    let path = reserve_path(config).context("there is no place for the reserve on the disk")?;
    let bytes = reserved(&path);
    at_place(&path, "rm", &["-f", "--", &path.display().to_string()]).await?;
    Ok(format!("the reserve of {} was given up", room::size(bytes)))
}

/// Whether nobody but root can change any part of this place. Whose a directory is does not tell: postgres may lead its
/// own elsewhere, to one of root's.
fn is_roots(path: &Path) -> bool {
    path.starts_with(paths::STATE)
}

/// Runs a program that touches `path`: as postgres, unless the place is root's.
async fn at_place(path: &Path, program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    if !is_roots(path) {
        psql::become_postgres(&mut command)?;
    }
    command.args(args).current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(RESERVE_LIMIT, command.output())
        .await
        .with_context(|| format!("{program} did not finish within {} s", RESERVE_LIMIT.as_secs()))?
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Has PostgreSQL refuse what writes, or take it again. A server that does not run reads it when it starts. Returns how
/// many transactions were ended that had begun to write before.
pub(super) async fn refuse_writes(config: &Config, refuses: bool) -> Result<u64> {
    let text = if refuses { WRITES_REFUSED } else { WRITES_TAKEN };
    let path = Path::new(paths::FULL_DISK_CONF);
    let before = fs::read_to_string(path).ok();
    if before.as_deref() != Some(text) {
        write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !refuses && before.is_none() {
        // Nothing was ever refused in this boot.
        return Ok(0);
    }
    // A kernel that does not tell leaves it to PostgreSQL.
    if processes::list(config).is_ok_and(|it| it.is_empty()) {
        return Ok(0);
    }
    let changed = fs::metadata(path)?.modified()?.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    let has_read = format!("select pg_conf_load_time() > to_timestamp({changed:.6})");
    let in_force = match (refuses, before.as_deref() == Some(text)) {
        // Not where a file that is read later, or none of ours, says otherwise.
        (true, _) => format!(
            "{has_read} and exists (select from pg_file_settings where sourcefile = '{}' \
             and name = 'default_transaction_read_only' and applied)",
            paths::FULL_DISK_CONF
        ),
        (false, false) => has_read,
        // The guard has just started. What else has changed meanwhile is none of its business.
        (false, true) => {
            format!(
                "select not exists (select from pg_settings where sourcefile = '{}')",
                paths::FULL_DISK_CONF
            )
        }
    };
    let told = async {
        let client = reload(config, &in_force).await?;
        // At once: what writes a lot has used up what is left by the next look.
        if refuses { anyhow::Ok(postgres::row(&client, END_WRITERS).await?[0].parse()?) } else { Ok(0) }
    };
    let told = tokio::time::timeout(RELOAD_LIMIT, told).await;
    told.unwrap_or_else(|_| bail!("its configuration does not say so after a reload"))
        .with_context(|| format!("PostgreSQL does not {} writes", if refuses { "refuse" } else { "take" }))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    // postgres reads it.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

/// Has PostgreSQL read its configuration, unless it says that `in_force` is true; returns when it is.
async fn reload(config: &Config, in_force: &str) -> Result<Arc<Client>> {
    let mut asked = false;
    loop {
        // A new session each time: it begins with what the postmaster has read.
        let client = postgres::connect_or_reuse(config).await?;
        if postgres::row(&client, in_force).await? == ["t"] {
            return Ok(client);
        }
        if !asked {
            client.batch_execute("select pg_reload_conf()").await?;
            asked = true;
        }
        tokio::time::sleep(RELOAD_POLL).await;
    }
}

/// What keeps WAL: its size, what is not archived, and slots that nobody reads.
const KEPT: &str = "\
    select (select coalesce(sum(size), 0)::bigint from pg_ls_waldir() where name ~ '^[0-9A-F]{24}'), \
        (select count(*) from pg_ls_dir('pg_wal/archive_status') as it where it like '%.ready'), \
        (select coalesce(json_object_agg(slot_name, bytes), '{}') from ( \
            select slot_name, greatest(pg_wal_lsn_diff( \
                case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, \
                restart_lsn), 0)::bigint as bytes \
            from pg_replication_slots \
            where not active and restart_lsn is not null and slot_name like 'repmgr\\_slot\\_%') as idle)";
/// Transactions that had begun to write before writes were refused. A statement is cancelled; a session that waits
/// within such a transaction would not notice, and is ended. Who has begun since and writes all the same, a person who
/// makes room above all, has asked for it.
const END_WRITERS: &str = "\
    select count(case when state = 'active' then pg_cancel_backend(pid) else pg_terminate_backend(pid) end) \
    from pg_stat_activity \
    where backend_type = 'client backend' and backend_xid is not null and usename <> 'repmgr' \
        and xact_start < pg_conf_load_time()";

/// Makes room in PostgreSQL as far as it can be made, and finds out what takes it.
pub(super) async fn relieve(
    config: &Config,
    drop_slots: &[String],
    end_writers: bool,
    checkpoint: bool,
) -> Result<Relief> {
    let client = postgres::connect_or_reuse(config).await?;
    let work = async {
        let mut relief = Relief::default();
        if end_writers {
            relief.ended = postgres::row(&client, END_WRITERS).await?[0].parse()?;
        }
        for slot in drop_slots {
            if drop_slot(&client, slot).await? {
                relief.dropped.push(slot.clone());
            }
        }
        anyhow::Ok(relief)
    };
    let mut relief =
        tokio::time::timeout(RELIEF_LIMIT, work).await.context("PostgreSQL does not answer")??;
    if checkpoint {
        tokio::time::timeout(CHECKPOINT_LIMIT, client.batch_execute("checkpoint"))
            .await
            .context("the checkpoint takes too long")??;
    }
    let kept = tokio::time::timeout(RELIEF_LIMIT, postgres::row(&client, KEPT)).await;
    let kept = kept.context("PostgreSQL does not answer")??;
    relief.wal = WalKept {
        bytes: kept[0].parse()?,
        unarchived: kept[1].parse()?,
        idle_slots: serde_json::from_str(&kept[2])?,
    };
    Ok(relief)
}

/// Drops a slot, unless somebody reads it by now. Whether it did.
async fn drop_slot(client: &Client, slot: &str) -> Result<bool> {
    // repmgr gives such names; nothing else is put into a statement.
    if !slot.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_') {
        return Ok(false);
    }
    let sql = format!(
        "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots \
         where slot_name = '{slot}' and not active"
    );
    Ok(postgres::row(client, &sql).await? == ["1"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_made_as_postgres_wherever_postgres_can_lead_it() {
        let config =
            r#"{"cluster":"demo","node":"pg1","version":15,"port":5432,"nodes":[],"floating_ip":null}"#;
        let config: Config = serde_json::from_str(config).unwrap();
        assert_eq!(reserve_places(&config).map(|place| is_roots(&place)), [true, false, false, false]);
        assert!(!is_roots(Path::new("/var/lib/cluster-backup/cluster-reserve")));
    }
}
