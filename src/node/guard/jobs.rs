//! Work that takes a while, done beside the loop.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::Instant;

use crate::node::config::{Config, Member};
use crate::node::postgres::{self, State};
use crate::node::{memory, processes, view};

/// Crash recovery of a large database takes minutes; while it goes on the lease is kept.
const START_PATIENCE: Duration = Duration::from_secs(900);
/// A promotion has replayed everything within seconds.
const PROMOTE_PATIENCE: Duration = Duration::from_secs(45);
/// A server that works answers a small question by then.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Of a primary that is to stop. What the shutdown's own checkpoint would take otherwise.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(60);
/// A fast shutdown waits for a checkpoint and for walsenders.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// The shutdown itself waits for the heir's walsender; an heir that lacks something after that has vanished, and the
/// primary goes on.
const HEIR_PATIENCE: Duration = Duration::from_secs(5);
/// Rewinding copies what differs; a clone that takes its place copies all.
const REJOIN_PATIENCE: Duration = Duration::from_secs(86_400);

async fn systemctl(words: &[&str], limit: Duration) -> Result<()> {
    let mut command = Command::new("systemctl");
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let what = words.join(" ");
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("systemctl {what} does not end"))?
        .context("cannot run systemctl")?;
    if !output.status.success() {
        bail!("systemctl {what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Starts PostgreSQL and waits until it answers.
pub(super) async fn start(config: Config) -> Result<String> {
    let begun = Instant::now();
    // It may not have failed.
    let _ = systemctl(&["reset-failed", &config.unit()], Duration::from_secs(5)).await;
    systemctl(&["start", &config.unit()], START_PATIENCE).await?;
    loop {
        let look = postgres::look(&config).await;
        match look.state {
            State::Primary | State::Standby { .. } => {
                return Ok(format!("PostgreSQL was started in {:.1} s", begun.elapsed().as_secs_f64()));
            }
            State::Silent(why) if processes::list(&config)?.is_empty() => {
                bail!("PostgreSQL ended again: {why}")
            }
            State::Silent(why) if begun.elapsed() > START_PATIENCE => {
                bail!("PostgreSQL does not answer: {why}")
            }
            State::Silent(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// What repmgr's table must say of a primary. The old one is not active any more: it comes back as a standby.
const REGISTER: &str = "\
    update repmgr.nodes set active = false where type = 'primary' and node_id <> $me; \
    update repmgr.nodes set type = 'primary', upstream_node_id = null, active = true where node_id = $me; \
    insert into repmgr.events (node_id, event, successful, details) \
        values ($me, 'standby_promote', true, 'promoted by cluster-node')";

/// Promotes. Not through `repmgr standby promote`: that first waits for the old primary to not answer, and the lease
/// already says that it does not write.
pub(super) async fn promote(config: Config) -> Result<String> {
    let begun = Instant::now();
    let work = async {
        let client = postgres::connect(&config).await?;
        if postgres::row(&client, "select pg_promote(true, 30)").await? != ["t"] {
            bail!("PostgreSQL has not ended its recovery within 30 s");
        }
        Ok(client)
    };
    let client =
        tokio::time::timeout(PROMOTE_PATIENCE, work).await.context("the promotion does not end")??;
    let writable = begun.elapsed();
    let text = format!("promoted in {:.2} s", writable.as_secs_f64());
    // It takes writes; whatever is left is mended later.
    let register = REGISTER.replace("$me", &config.me().id.to_string());
    let told = match tokio::time::timeout(ANSWER_PATIENCE, client.batch_execute(&register)).await {
        Ok(told) => told.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    if let Err(error) = told {
        memory::note("trouble", &format!("cannot tell repmgr's table of the promotion: {error}"));
    }
    tokio::spawn(async move {
        // pg_rewind reads the new timeline from the control file, which a checkpoint writes.
        if let Err(error) = client.batch_execute("checkpoint").await {
            eprintln!("checkpoint after the promotion: {error}");
        }
    });
    Ok(text)
}

/// How a standby is made of what was primary.
const REJOIN: &str = concat!(include_str!("../../remote/whose.sh"), include_str!("rejoin.sh"));

/// What the last rejoin gave up, if anything.
const LOST: &str = "/var/lib/cluster/lost.json";

/// Makes a standby of what was primary: the recipe is in `rejoin.sh`. With `clone` nothing is rewound.
pub(super) async fn rejoin(config: Config, primary: Member, clone: bool) -> Result<String> {
    let begun = Instant::now();
    let mut command = Command::new("sh");
    command
        .args(["-s", &config.version.to_string(), &config.port.to_string(), &primary.host.to_string()])
        .args([&primary.id.to_string(), &Config::conninfo(primary.host, config.port, config.version)])
        .arg(if clone { "clone" } else { "rewind" })
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run sh")?;
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(REJOIN.as_bytes()).await?;
    drop(input);
    let output = tokio::time::timeout(REJOIN_PATIENCE, child.wait_with_output())
        .await
        .context("the rejoin does not end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Ok(lost) = std::fs::read_to_string(LOST)
        && let Ok(lost) = serde_json::from_str::<serde_json::Value>(&lost)
        && !memory::tells(lost["wal"].as_str().unwrap_or("?"))
    {
        let text = format!(
            "{} transactions ({} to {}) never reached {}; their WAL is kept in {}",
            lost["transactions"],
            lost["from"].as_str().unwrap_or("?"),
            lost["to"].as_str().unwrap_or("?"),
            primary.name,
            lost["wal"].as_str().unwrap_or("?")
        );
        memory::note_with("lost", &text, serde_json::json!({ "lost": lost }));
    }
    if !output.status.success() {
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        bail!("{}", last.into_iter().rev().collect::<Vec<_>>().join("; "));
    }
    if let Some(why) = said.lines().find_map(|line| line.strip_prefix("rejoin: not rewound: ")) {
        memory::note(
            "cloned",
            &format!("could not be rewound ({why}), and was cloned; the old data is beside it"),
        );
    }
    Ok(format!("rejoined {} as a standby in {:.1} s", primary.name, begun.elapsed().as_secs_f64()))
}

/// Stops the primary cleanly and makes sure that `heir` has everything. The lease is handed over after that.
pub(super) async fn stop_for(config: Config, heir: Member) -> Result<String> {
    // Nothing else is begun here while this goes on, so nothing of it may hang.
    let sql = format!(
        "select coalesce((select state from pg_stat_replication where application_name = '{}' limit 1), 'nothing')",
        heir.name
    );
    let ask = async {
        let client = postgres::connect(&config).await?;
        let state = postgres::row(&client, &sql).await?.remove(0);
        anyhow::Ok((client, state))
    };
    let (client, state) =
        tokio::time::timeout(ANSWER_PATIENCE, ask).await.context("PostgreSQL does not answer")??;
    if state != "streaming" {
        bail!("{} does not stream from here ({state})", heir.name);
    }
    tokio::time::timeout(CHECKPOINT_PATIENCE, client.batch_execute("checkpoint"))
        .await
        .context("the checkpoint does not end")??;
    drop(client);
    let begun = Instant::now();
    systemctl(&["stop", &config.unit()], STOP_PATIENCE).await?;
    let (end, clean) = postgres::stopped(&config)?;
    if !clean {
        bail!("PostgreSQL was not shut down cleanly: what it wrote last may be here alone");
    }
    // The shutdown's own record lies behind this; whoever has more than its beginning has all.
    let sql = "select pg_last_wal_receive_lsn()";
    let stopped = Instant::now();
    loop {
        let has = view::query(&config, &heir, sql).await.and_then(|text| postgres::lsn(&text));
        match has {
            Ok(has) if has > end.lsn => break,
            _ if stopped.elapsed() > HEIR_PATIENCE => bail!("{} does not get the end of the WAL", heir.name),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    Ok(format!("stopped in {:.2} s, and {} has everything", begun.elapsed().as_secs_f64(), heir.name))
}

/// Puts right what repmgr does not: the witness's record, a standby's upstream, slots that would fill the disk.
pub(super) async fn mend(config: Config, primary: Member, astray: bool) -> Result<()> {
    let limit = Duration::from_secs(60);
    let me = config.me();
    if me.witness {
        // A copy that is made anew only when repmgrd here knows whom to follow: two failovers in a row, or a node that
        // returns, can leave it behind. And a copy of a table in which its own row, which it alone sees to, is wrong.
        let sql = format!(
            "select count(*) filter (where node_id = {} and upstream_node_id = {} and active), \
             string_agg(concat_ws(' ', node_id, type, active, upstream_node_id), ',' order by node_id) \
             from repmgr.nodes",
            me.id, primary.id
        );
        let copy = view::query(&config, me, &sql).await?;
        if !copy.starts_with("1|") || copy != view::query(&config, &primary, &sql).await? {
            let host = primary.host.to_string();
            let args = ["-f", "/etc/repmgr.conf", "witness", "register", "--force", "-h", &host];
            view::as_postgres(&config, "repmgr", &args, limit).await?;
            memory::note("mended", &format!("the witness's records are those of {} again", primary.name));
        }
        return Ok(());
    }
    if primary.id == me.id {
        let client = postgres::connect(&config).await?;
        let sql = format!("select type = 'primary' and active from repmgr.nodes where node_id = {}", me.id);
        if postgres::row(&client, &sql).await? != ["t"] {
            client.batch_execute(&REGISTER.replace("$me", &me.id.to_string())).await?;
            memory::note("mended", "repmgr's table says that this node is primary now");
        }
        return Ok(());
    }
    if astray {
        let id = format!("--upstream-node-id={}", primary.id);
        view::as_postgres(&config, "repmgr", &["-f", "/etc/repmgr.conf", "standby", "follow", &id], limit)
            .await?;
        memory::note("mended", &format!("follows {} now", primary.name));
    }
    let client = postgres::connect(&config).await?;
    let sql = "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots \
               where not active and slot_name like 'repmgr_slot_%' and pg_is_in_recovery()";
    let dropped = postgres::row(&client, sql).await?.remove(0);
    if dropped != "0" {
        memory::note("mended", &format!("dropped {dropped} replication slots that nobody uses"));
    }
    Ok(())
}
