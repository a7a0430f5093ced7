//! Three data nodes under load: of two standbys the one with more WAL takes over, and the other follows it by itself.

use std::time::Duration;

use cluster_contract::status::Status;
use cluster_node::clock;

use crate::fault::Fault;
use crate::invariants;
use crate::stage::Stage;
use crate::trial::{PROMOTED, REDUNDANT};

/// For so long one standby is cut off from the primary before that is lost: it lacks what the load writes meanwhile.
const BEHIND: Duration = Duration::from_millis(1_500);

pub(crate) fn play(stage: &Stage, rounds: usize) {
    for round in 0..rounds {
        let began = clock::now();
        if let Err(error) = failover(stage, round) {
            let told = stage.journals(began).into_iter().map(|it| {
                let seconds = it.line.clock.saturating_sub(began) as f64 / 1000.0;
                format!("\n  {seconds:>6.2} s  {}: {}", it.node, it.line.text)
            });
            panic!("round {round}: {error}{}{}", stage.describe(), told.collect::<String>());
        }
    }
}

fn failover(stage: &Stage, round: usize) -> Result<(), String> {
    let old = stage.primary();
    let standbys: Vec<String> =
        stage.hosts().iter().map(|host| host.name.clone()).filter(|name| *name != old).collect();
    let (behind, ahead) = (&standbys[round % 2], &standbys[(round + 1) % 2]);
    let load = stage.load();
    std::thread::sleep(Duration::from_secs(1));
    stage.inject(&Fault::between(&old, behind))?;
    std::thread::sleep(BEHIND);
    let lacks = position(stage, ahead)?.saturating_sub(position(stage, behind)?);
    if lacks == 0 {
        return Err(format!("{behind} lacks nothing: there is nothing to choose between"));
    }
    let cut = stage.inject(&Fault::PowerOff(old.clone()))?;
    let taken = |node: &str| node != old;
    let first = stage.wait("a standby to take over", cut, PROMOTED, |it| {
        it.acknowledged().is_some_and(|(node, _)| taken(node))
    })?;
    let (winner, _) = first.acknowledged().ok_or("nobody")?;
    if winner != ahead {
        return Err(format!("{winner} has taken over, and lacked {lacks} bytes that {ahead} has"));
    }
    let follows = stage.streams(behind, first.ended, REDUNDANT)?;
    let mended = stage.mend()?;
    let back = stage.streams(&old, mended, REDUNDANT)?;
    drop(load);
    stage.redundant(mended, REDUNDANT)?;
    invariants::one_writer(&stage.writer.since(cut.saturating_sub(5_000)), &stage.thawed())?;
    invariants::granted(&stage.journals(cut.saturating_sub(1_000)), stage.hosts().len())?;
    println!(
        "round {round:>2}: {old} lost; {ahead} takes over after {:.1} s; {behind}, {} kB behind, follows it after {:.1} s; \
         {old} streams {:.1} s after its boot",
        (first.ended - cut) as f64 / 1000.0,
        lacks / 1000,
        (follows - cut) as f64 / 1000.0,
        (back - mended) as f64 / 1000.0,
    );
    Ok(())
}

/// The WAL of a node, as its guard says.
fn position(stage: &Stage, node: &str) -> Result<u64, String> {
    let status: Status = serde_json::from_value(stage.guard(node)?).map_err(|error| error.to_string())?;
    status.position.map(|position| position.lsn).ok_or_else(|| format!("{node} does not know its WAL"))
}
