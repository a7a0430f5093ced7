//! `cluster switchover`: another node takes over, planned, and nothing acknowledged is lost.

use anyhow::Result;

use super::{declared_with_data, in_world, read};
use crate::error::Exit;
use crate::handover::{End, HandOver, chosen, hand_over};
use crate::inventory::Source;
use crate::report::{Format, visible};
use crate::{data, screen};

pub(super) async fn run(source: &Source, to: Option<String>, json: bool) -> Result<Exit> {
    let inventory = read(source)?;
    in_world(inventory, Format::beside_result(json), Some("switchover"), |world| async move {
        if let Some(to) = to.as_deref() {
            declared_with_data(&world.inventory, to)?;
        }
        let _lock = world.begin("switchover")?;
        let pair = chosen(&world, None, to.as_deref()).await?;
        world.lock_cluster(&world.observe_or_remember().await?).await?;
        let HandOver { from, to, moved, whole, end } = hand_over(&world, pair).await?;
        if json {
            screen::json(&serde_json::json!({
                "from": from, "to": to, "seconds": moved.as_secs_f64(),
                "redundant_after": whole.map(|it| it.as_secs_f64()),
                "trouble": end.trouble, "lost_transactions": end.lost,
            }))?;
        } else {
            data!("{to} takes writes ({:.1} s)", moved.as_secs_f64());
            match whole {
                Some(whole) => data!("{from} streams from it ({:.1} s)", whole.as_secs_f64()),
                None => data!("{from} does not stream from it yet; see `cluster status`"),
            }
            if let Some(trouble) = &end.trouble {
                data!("it took over, but not by an orderly hand-over: {}", visible(trouble));
            }
            if end.lost > 0 {
                data!("{} transactions of {from} are not on {to}; see `cluster explain`", end.lost);
            }
        }
        Ok(if whole.is_some() && end == End::default() { Exit::Done } else { Exit::Unhealthy })
    })
    .await
}
