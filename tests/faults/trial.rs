//! One trial: something breaks, the cluster answers, it is mended, and everything that must hold is checked.

use std::time::Duration;

use cluster_contract::Millis;
use cluster_contract::journal::{Event, Line, LostTransactions};
use cluster_contract::position::Lsn;
use cluster_node::clock;
use serde::Serialize;

use crate::fault::Fault;
use crate::invariants::{self, Entry};
use crate::stage::{BOOTED, Stage};
use crate::writer::{ADDRESS, Attempt, Writer};

/// A promotion has happened by then, whatever broke: the aims are in the documentation, this is for G6.
pub(crate) const PROMOTED: Duration = Duration::from_secs(45);
/// What was primary streams again within this, from its boot or from the moment that it can be reached.
pub(crate) const BACK: Duration = Duration::from_secs(30);
/// Everything is as it should be within this, with nobody's help.
pub(crate) const REDUNDANT: Duration = Duration::from_secs(90);
/// How often a primary is killed that comes back by itself.
const KILLS: usize = 3;
/// What a load writes at least while it lasts, in rows.
const LOAD: usize = 500;
/// The inventory's default limit of what a new primary may lack, in bytes.
const LAG_LIMIT: u64 = 16 << 20;

/// Where the seconds went, from the cut to the first write through the address.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Phases {
    /// Until the new primary asked for the lease: until it was known that the old one is gone.
    pub(crate) detect: Millis,
    /// Until a majority had granted it.
    pub(crate) decide: Millis,
    /// Until the first write.
    pub(crate) promote: Millis,
    /// Until the first write through the address.
    pub(crate) address: Millis,
}

/// What was seen. Programs read it: milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Seen {
    /// From the cut to the first write on the new primary.
    pub(crate) writable: Option<Millis>,
    /// From the cut to the first write through the address.
    pub(crate) address: Option<Millis>,
    /// Of these.
    pub(crate) phases: Option<Phases>,
    /// Until what was primary streams, from its boot, the mending, or the cut if nothing was to be mended.
    pub(crate) back: Option<Millis>,
    /// The longest time without a write through the address.
    pub(crate) gap: Millis,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Of these, those that the surviving timeline lacks.
    pub(crate) lost: usize,
    /// How many promotions there were.
    pub(crate) promotions: usize,
    /// What else is worth a word.
    pub(crate) notes: Vec<String>,
}

/// A trial under way.
pub(crate) struct Trial<'a> {
    pub(crate) stage: &'a Stage,
    began: Millis,
    /// The same on the calendar, in seconds.
    at: i64,
    /// Who was primary at the beginning.
    pub(crate) old: String,
    /// The other data node.
    pub(crate) new: String,
    /// Since when something has been broken.
    cut: Option<Millis>,
    mended: Option<Millis>,
    /// Hosts have been powered on.
    boots: bool,
    /// How many promotions there must be; any number if nobody can say.
    promotions: Option<usize>,
    lossless: bool,
    /// More writers than the one that is always there.
    load: Option<Writer>,
    pub(crate) seen: Seen,
}

impl<'a> Trial<'a> {
    /// Begins, with a cluster that is whole.
    pub(crate) fn begin(stage: &'a Stage) -> Trial<'a> {
        let old = stage.primary();
        let new = stage.other(&old);
        let seen = Seen::default();
        let began = clock::now();
        let at = jiff::Timestamp::now().as_second();
        // A few writes before the fault: that they were there is part of what is checked.
        std::thread::sleep(Duration::from_millis(500));
        Trial {
            stage,
            began,
            at,
            old,
            new,
            cut: None,
            mended: None,
            boots: false,
            promotions: Some(0),
            lossless: false,
            load: None,
            seen,
        }
    }

    /// Breaks something.
    pub(crate) fn breaks(&mut self, fault: &Fault) -> Result<Millis, String> {
        let at = self.stage.inject(fault)?;
        self.cut.get_or_insert(at);
        Ok(at)
    }

    /// Kills PostgreSQL on `node`, which takes writes, until `heir` does. The heir may lack the last bytes, or its guard may
    /// stand still on a busy machine: then the old primary rightly comes back by itself. Returns when it was killed last.
    pub(crate) fn kills(&mut self, node: &str, heir: &str) -> Result<Millis, String> {
        for _ in 0..KILLS {
            let at = self.breaks(&Fault::KillPostgres(node.to_owned()))?;
            let first = self
                .stage
                .wait("a write after the kill", clock::now(), PROMOTED, |it| it.acknowledged().is_some())?;
            if first.acknowledged().is_some_and(|(by, _)| by == heir) {
                return Ok(at);
            }
            self.note(format!("{node} came back by itself, and was killed again"));
            if self.seen.writable.is_none() {
                self.restart_clock();
            }
        }
        Err(format!("{node} came back by itself {KILLS} times"))
    }

    /// Breaks something and mends it after `seconds`, counted from when it was surely broken.
    pub(crate) fn stalls(&mut self, fault: &Fault, seconds: f64) -> Result<(), String> {
        let began = self.breaks(fault)?;
        let broken = clock::now();
        self.sleep(seconds);
        self.mends()?;
        let least = self.mended.unwrap_or(broken) - broken;
        let (least, most) = (least as f64 / 1000.0, (clock::now() - began) as f64 / 1000.0);
        self.note(format!("it stood still for {least:.1} to {most:.1} s"));
        Ok(())
    }

    /// What broke before was the setting; the clock starts with the next fault.
    pub(crate) fn restart_clock(&mut self) {
        self.cut = None;
    }

    /// When it broke.
    pub(crate) fn cut(&self) -> Millis {
        self.cut.unwrap_or(self.began)
    }

    /// How many promotions there must be.
    pub(crate) fn promotions(&mut self, count: Option<usize>) {
        self.promotions = count;
    }

    /// Not a single acknowledged write may be lost.
    pub(crate) fn lossless(&mut self) {
        self.lossless = true;
    }

    /// More writers, through the address.
    pub(crate) fn load(&mut self) {
        self.load = Some(self.stage.load());
        self.sleep(1.0);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.seen.notes.push(text.into());
    }

    pub(crate) fn sleep(&self, seconds: f64) {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }

    /// Waits until the other node takes writes, and then until they arrive through the address.
    pub(crate) fn failover(&mut self) -> Result<(), String> {
        self.promoted()?;
        self.address_follows()
    }

    /// Waits until the other node takes writes.
    pub(crate) fn promoted(&mut self) -> Result<(), String> {
        let (cut, new) = (self.cut(), self.new.clone());
        self.promotions = Some(1);
        let first = self.stage.wait(&format!("{new} to take writes"), cut, self.limit(PROMOTED), |it| {
            it.acknowledged().is_some_and(|(node, _)| node == new)
        })?;
        self.seen.writable = Some(first.ended - cut);
        Ok(())
    }

    /// Waits until writes through the address reach the other node.
    pub(crate) fn address_follows(&mut self) -> Result<(), String> {
        let (cut, new) = (self.cut(), self.new.clone());
        let through = self.stage.wait("a write through the address", cut, self.limit(PROMOTED), |it| {
            &*it.target == ADDRESS && it.acknowledged().is_some_and(|(node, _)| node == new)
        })?;
        self.seen.address = Some(through.ended - cut);
        Ok(())
    }

    /// For `seconds`, nobody but the old primary takes writes; and at the end it does, through the address too.
    pub(crate) fn stays(&mut self, seconds: f64) -> Result<(), String> {
        self.sleep(seconds);
        self.still_primary()
    }

    /// Nobody but the old primary has taken writes since the cut, and it does now.
    pub(crate) fn still_primary(&mut self) -> Result<(), String> {
        let old = self.old.clone();
        let now = clock::now();
        for target in [old.as_str(), ADDRESS] {
            self.stage.wait(
                &format!("{old} to take writes at {target}"),
                now,
                Duration::from_secs(20),
                |it| &*it.target == target && it.acknowledged().is_some_and(|(node, _)| node == old),
            )?;
        }
        self.nobody_but(&old)
    }

    /// Nobody else has taken writes since the cut.
    pub(crate) fn nobody_but(&self, name: &str) -> Result<(), String> {
        let other = |it: &Attempt| it.acknowledged().is_some_and(|(node, _)| node != name);
        match self.stage.writer.first(self.cut(), other) {
            Some(it) => Err(format!("{:?} took row {}", it.outcome, it.sequence)),
            None => Ok(()),
        }
    }

    /// Nobody else has taken writes since the new primary took its first.
    pub(crate) fn nobody_but_since_writable(&self, name: &str) -> Result<(), String> {
        let since = self.cut() + self.seen.writable.unwrap_or_default();
        let other = |it: &Attempt| it.acknowledged().is_some_and(|(node, _)| node != name);
        match self.stage.writer.first(since, other) {
            Some(it) => Err(format!("{:?} took row {}", it.outcome, it.sequence)),
            None => Ok(()),
        }
    }

    /// For `seconds`, nobody takes writes that began later than `from`.
    pub(crate) fn nobody(&self, from: Millis, seconds: f64) -> Result<(), String> {
        self.sleep(seconds);
        match self.stage.writer.first(from, |it| it.acknowledged().is_some()) {
            Some(it) => Err(format!("{:?} took row {} at {}", it.outcome, it.sequence, it.target)),
            None => Ok(()),
        }
    }

    /// How long something may take.
    fn limit(&self, of: Duration) -> Duration {
        if self.boots { BOOTED } else { of }
    }

    /// Asks for a host's power, before everything else is mended.
    pub(crate) fn powers_on(&mut self, node: &str) {
        self.boots = true;
        self.stage.lab.ask_power(self.stage.node(node).droplet, "power_on");
    }

    /// Mends everything.
    pub(crate) fn mends(&mut self) -> Result<(), String> {
        self.boots |= self.stage.broken().iter().any(|it| matches!(it, Fault::PowerOff(_)));
        self.mended = Some(self.stage.mend()?);
        Ok(())
    }

    /// Waits until what was primary streams from the new one.
    pub(crate) fn back(&mut self) -> Result<(), String> {
        let old = self.old.clone();
        self.node_is_back(&old)
    }

    /// Waits until a node streams.
    pub(crate) fn node_is_back(&mut self, node: &str) -> Result<(), String> {
        let since = self.mended.unwrap_or(self.cut());
        let first = self.seen.writable.filter(|_| self.mended.is_none()).map_or(since, |it| since + it);
        let at = self.stage.streams(node, first, self.limit(BACK))?;
        self.seen.back = Some(at - since);
        Ok(())
    }

    /// Waits until a node streams that has to be made anew first.
    pub(crate) fn node_is_back_slowly(&mut self, node: &str) -> Result<(), String> {
        let since = self.mended.unwrap_or(self.cut());
        let at = self.stage.streams(node, since, self.limit(REDUNDANT))?;
        self.seen.back = Some(at - since);
        Ok(())
    }

    /// Waits until a node streams what is written now.
    pub(crate) fn node_streams_now(&self, node: &str) -> Result<(), String> {
        self.stage.streams(node, clock::now(), self.limit(BACK)).map(drop)
    }

    /// Waits for full redundancy, and checks everything that must hold.
    pub(crate) fn end(mut self) -> Result<Seen, String> {
        let since = self.mended.unwrap_or(self.cut());
        self.stage.redundant(since, self.limit(REDUNDANT))?;
        self.check()?;
        Ok(self.seen)
    }

    fn check(&mut self) -> Result<(), String> {
        let stage = self.stage;
        let primary = stage.primary();
        let mut attempts = stage.writer.since(self.began);
        // What is under way when the load ends is waited for.
        if let Some(load) = self.load.take() {
            load.stop();
            let of_load = load.since(self.began);
            let written = of_load.iter().filter(|it| it.acknowledged().is_some()).count();
            if written < LOAD {
                return Err(format!("the load wrote {written} rows: that is none"));
            }
            attempts.extend(of_load);
        }
        let journals = stage.journals(self.began);
        invariants::one_writer(&attempts, &stage.thawed()).map_err(|it| format!("G1, G3: {it}"))?;
        self.seen.promotions =
            invariants::granted(&journals, stage.hosts().len()).map_err(|it| format!("G2: {it}"))?;
        if let Some(wanted) = self.promotions
            && wanted != self.seen.promotions
        {
            return Err(format!("{} promotions instead of {wanted}", self.seen.promotions));
        }
        if self.promotions == Some(1) {
            let thawed = stage.thawed().iter().any(|(node, at)| *node == self.old && *at >= self.began);
            if !thawed {
                invariants::stays_down(&attempts, &self.old, &self.new).map_err(|it| format!("G4: {it}"))?;
            }
        }
        let first = attempts.iter().map(|it| it.sequence).min().unwrap_or_default();
        let survivors = stage.rows(&primary, first)?;
        let kept = invariants::kept(&attempts, &survivors).map_err(|it| format!("G7: {it}"))?;
        (self.seen.acknowledged, self.seen.lost) = (kept.acknowledged, kept.lost.len());
        if self.lossless && !kept.lost.is_empty() {
            return Err(format!("G7: {} acknowledged rows are gone: {:?}", kept.lost.len(), kept.lost));
        }
        if !kept.lost.is_empty() {
            self.reported(kept.lost.len()).map_err(|it| format!("G7: {it}"))?;
        }
        self.seen.gap = invariants::gap(&attempts);
        let holder = stage.holder();
        if holder.as_deref() != Some(&primary) {
            return Err(format!("G5: the address leads to {holder:?}, and {primary} is primary"));
        }
        if stage.guard(&primary)?["holds"] != true {
            return Err(format!("{primary} takes writes and does not hold the lease"));
        }
        self.seen.phases = self.phases(&journals);
        Ok(())
    }

    /// What was lost is told by the nodes that had it, and is within the limit.
    fn reported(&mut self, lost: usize) -> Result<(), String> {
        let file = "/var/lib/cluster/lost.json";
        let (mut transactions, mut told) = (0, String::new());
        // The old primary; the new one too, where a second promotion followed.
        for node in [&self.old, &self.new] {
            // An earlier trial's is none.
            let script =
                format!("if [ -e {file} ] && [ $(stat -c %Y {file}) -ge {} ]; then cat {file}; fi", self.at);
            let text = self.stage.on(node, &script)?;
            if text.trim().is_empty() {
                continue;
            }
            let report: LostTransactions = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let lsn = |text: &str| text.parse::<Lsn>().map_err(|error| error.to_string());
            let bytes = lsn(&report.to)?.0.saturating_sub(lsn(&report.from)?.0);
            if bytes > LAG_LIMIT {
                return Err(format!("{bytes} bytes of WAL were lost, and {LAG_LIMIT} are allowed"));
            }
            transactions += report.transactions;
            told +=
                &format!("{node} tells of {} transactions in {bytes} bytes of WAL; ", report.transactions);
        }
        if transactions < lost as u64 {
            return Err(format!("{lost} rows are lost, and the nodes tell of {transactions}: {told}"));
        }
        self.note(format!("told: {}", told.trim_end_matches("; ")));
        Ok(())
    }

    fn phases(&self, journals: &[Entry]) -> Option<Phases> {
        let (cut, writable, address) = (self.cut, self.seen.writable?, self.seen.address?);
        let cut = cut?;
        let after = journals.iter().filter(|it| it.node == self.new && it.line.clock >= cut);
        let lines: Vec<&Line> = after.map(|it| &it.line).collect();
        let won = lines.iter().find(|it| matches!(it.event, Event::LeaseWon { .. }))?.clock;
        let mut asks =
            lines.iter().filter(|it| matches!(it.event, Event::LeaseRequested { .. }) && it.clock <= won);
        let asked = asks.next_back()?.clock;
        Some(Phases {
            detect: asked - cut,
            decide: won - asked,
            promote: (cut + writable).saturating_sub(won),
            address: address.saturating_sub(writable),
        })
    }
}
