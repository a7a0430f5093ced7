//! What a guard does about a disk that fills up: it gives up its reserve, has writes refused, drops slots of standbys
//! that are gone, and takes all of it back when there is room. The lease is kept meanwhile.

use cluster_contract::Millis;
use cluster_contract::journal::Event;
use cluster_contract::status::{Level, Space, WalKept};

use super::{
    Core, Effect, REFUSAL_RETRY, RELIEF_INTERVAL, RELIEF_INTERVAL_FULL, RESERVE_RETRY, SLOT_IDLE_LIMIT,
};
use crate::decision::{Job, Observation};
use crate::postgres::ServerState;
use crate::room;

/// What a look into PostgreSQL has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relief {
    /// What keeps the WAL, after what was done.
    pub wal: WalKept,
    /// The slots that were dropped.
    pub dropped: Vec<String>,
    /// How many transactions that had begun to write before writes were refused were ended.
    pub ended: u64,
}

impl Core {
    /// Takes what was seen of the disk into account.
    pub(super) fn notice_room(&mut self, now: Millis) {
        let Some(space) = &self.host.space else { return };
        if !self.room.observe(now, space) {
            return;
        }
        let level = self.room.level();
        // Where both have room, the WAL's is told.
        let (tightest, is_wal) =
            if level == Level::Ample { (space.wal, true) } else { self.room.tightest(space) };
        let text = format!(
            "{} for PostgreSQL's {}: {} of {} are free{}",
            match level {
                Level::Ample => "there is room again",
                Level::Low => "room runs low",
                Level::Scarce => "room is scarce",
                Level::Full | Level::Unknown => "there is no room",
            },
            if is_wal { "WAL" } else { "data" },
            room::size(tightest.free),
            room::size(tightest.size),
            if level == Level::Full { "; writes are refused until there is more" } else { "" }
        );
        // Whatever is due, is due now.
        (self.reserve.next, self.refusal.next, self.relief.next) = (now, now, now);
        self.journal(Event::Room { level }, text);
    }

    /// Whether PostgreSQL here is to refuse writes. On a standby that has no effect, until it is promoted.
    fn should_refuse(&self) -> bool {
        self.room.level() == Level::Full && !self.is_witness()
    }

    /// Does what the room calls for.
    pub(super) fn keep_room(&mut self, now: Millis, observed: &Observation) {
        if self.is_witness() || !observed.data_ready {
            return;
        }
        self.keep_reserve(now, observed);
        if self.refuses != Some(self.should_refuse()) && self.refusal.is_due(now) {
            self.refusal.begin();
            self.effects.push(Effect::RefuseWrites(self.should_refuse()));
        }
        let Some(server) = observed.server.as_ref().filter(|_| observed.has_processes) else { return };
        if !matches!(server.state, ServerState::Primary | ServerState::Standby { .. }) {
            return;
        }
        let level = self.room.level();
        if level == Level::Ample {
            (self.wal_kept, self.idle_slots) = (None, std::collections::BTreeMap::new());
            return;
        }
        if self.relief.is_due(now) {
            self.relief.begin();
            let gone = |(slot, since): (&String, &Millis)| {
                (now >= since + SLOT_IDLE_LIMIT && level >= Level::Scarce).then(|| slot.clone())
            };
            self.effects.push(Effect::Relieve {
                drop_slots: self.idle_slots.iter().filter_map(gone).collect(),
                end_writers: level == Level::Full && self.refuses == Some(true),
                checkpoint: level >= Level::Scarce,
            });
        }
    }

    /// The reserve is made where there is ample room, and given up where there is next to none, or where a rejoin needs
    /// all of it.
    fn keep_reserve(&mut self, now: Millis, observed: &Observation) {
        let Some(space) = self.host.space.as_ref().filter(|_| self.reserve.is_due(now)) else { return };
        let (held, level) = (space.wal.reserve, self.room.level());
        let rejoins = matches!(observed.job, Some(Job::Rejoin { .. }));
        if held > 0 && (space.wal.needs_reserve() || level == Level::Full || rejoins) {
            self.reserve.begin();
            self.effects.push(Effect::FreeReserve);
        } else if held == 0 && level == Level::Ample && !rejoins && !observed.half_rewound {
            self.reserve.begin();
            self.effects.push(Effect::MakeReserve { bytes: space.wal.reserve_size() });
        }
    }

    pub(super) fn reserve_changed(&mut self, now: Millis, result: Result<String, String>) {
        self.reserve.ended(now + RESERVE_RETRY);
        match result {
            Ok(text) => {
                self.journal(Event::Reserve, text);
                self.reserve_trouble = None;
            }
            Err(why) => {
                if self.reserve_trouble.as_ref() != Some(&why) {
                    self.journal(Event::Trouble, why.clone());
                }
                self.reserve_trouble = Some(why);
            }
        }
    }

    pub(super) fn refusal_set(&mut self, now: Millis, refuses: bool, result: Result<u64, String>) {
        self.refusal.ended(now + REFUSAL_RETRY);
        match result {
            Ok(ended) => {
                let before = self.refuses.replace(refuses);
                self.writers_ended(ended);
                if before != Some(refuses) && (refuses || before.is_some()) {
                    let text = if refuses { "writes are refused" } else { "writes are taken again" };
                    self.journal(Event::WritesRefused { refused: refuses }, text);
                }
                self.refusal_trouble = None;
            }
            Err(why) => {
                if self.refusal_trouble.as_ref() != Some(&why) {
                    self.journal(Event::Trouble, why.clone());
                }
                self.refusal_trouble = Some(why);
            }
        }
    }

    pub(super) fn relieved(&mut self, now: Millis, result: Result<Relief, String>) {
        let full = self.room.level() == Level::Full;
        self.relief.ended(now + if full { RELIEF_INTERVAL_FULL } else { RELIEF_INTERVAL });
        let Ok(relief) = result else {
            // It does not answer, which is seen elsewhere.
            self.wal_kept = None;
            return;
        };
        self.writers_ended(relief.ended);
        for slot in &relief.dropped {
            self.journal(
                Event::Repaired,
                format!("dropped the replication slot {slot}: its standby is gone, and the disk fills up"),
            );
        }
        self.idle_slots.retain(|slot, _| relief.wal.idle_slots.contains_key(slot));
        for slot in relief.wal.idle_slots.keys() {
            self.idle_slots.entry(slot.clone()).or_insert(now);
        }
        self.wal_kept = Some(relief.wal);
    }

    fn writers_ended(&mut self, count: u64) {
        if count > 0 {
            let text =
                format!("ended {count} transactions that had begun to write before writes were refused");
            self.journal(Event::Repaired, text);
        }
    }

    /// The room as the status has it.
    pub(super) fn space(&self, now: Millis) -> Option<Space> {
        let (tightest, is_wal) = self.room.tightest(self.host.space.as_ref()?);
        let data = self.config.data_directory();
        Some(Space {
            level: self.room.level(),
            level_for: now.saturating_sub(self.room.since()),
            path: if is_wal { format!("{data}/pg_wal") } else { data },
            size: tightest.size,
            free: tightest.free,
            reserve: tightest.reserve,
            full_below: tightest.full_below(),
            writes_again_at: tightest.writes_again_at(),
            refuses_writes: self.refuses == Some(true),
            trouble: self.refusal_trouble.clone().or_else(|| self.reserve_trouble.clone()),
            wal: self.wal_kept.clone(),
        })
    }
}
