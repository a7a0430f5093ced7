//! What the decision says, done; and what is done again and again beside it.

use cluster_contract::Millis;
use cluster_contract::journal::Event;

use super::{
    ASTRAY, Core, DISK_CHECK, Effect, GREETING, INQUIRY, LOOK, LOOK_CLOSELY, PRIMARY_SILENT_AFTER,
    STANDS_BACK,
};
use crate::decision::{Act, Job, Seen};
use crate::postgres::State;

impl Core {
    /// Does what the decision says.
    pub(super) fn act(&mut self, seen: &Seen) {
        let (act, why) = seen.decide();
        self.why = why;
        let now = seen.now;
        match act {
            Act::Rest => {}
            Act::Fence => {
                self.effects.push(Effect::Fence(why));
                self.last = format!("fenced: {why}");
                // What a job was about is gone; it will say so itself.
                self.unfit_until = now + STANDS_BACK;
            }
            Act::Start | Act::Rejoin(_) if now < self.retry_at => {}
            Act::Start => self.begin(now, Job::Start, why),
            Act::Promote => self.begin(now, Job::Promote, why),
            Act::Rejoin(_) if self.has_writes_that_the_primary_never_knew() => {
                // A voter of the primary's majority had forgotten this node's term: its disk was an older one.
                self.keep_data();
                self.note(
                    Event::Kept,
                    "took writes in a term that the new primary's voters do not know: the data is kept until \
                     `cluster rejoin`",
                );
            }
            Act::Rejoin(of) => self.begin(now, Job::Rejoin { of, clone: false }, why),
        }
    }

    /// Whether the present primary began its claim without knowing of the last term in which this node took writes. A
    /// majority that remembers gives every new holder a higher one.
    fn has_writes_that_the_primary_never_knew(&self) -> bool {
        let won = self.primary.as_ref().map_or(0, |primary| primary.won);
        won > 0 && self.lease.last_held().is_some_and(|held| held >= won)
    }

    pub(super) fn look_again(&mut self, now: Millis) {
        if self.lease.wants_look(now) {
            self.looks.next = self.looks.next.min(now + LOOK_CLOSELY);
        }
        if self.looks.is_due(now) {
            self.looks.begin();
            self.looks.next = now + LOOK;
            self.effects.push(Effect::Look);
        }
    }

    pub(super) fn keep_address(&mut self, now: Millis, seen: &Seen) {
        if !seen.leads() {
            (self.has_address, self.address_trouble, self.address.next) = (None, None, now);
            // A move takes seconds and is tried again for minutes; the address is another's by then.
            if self.address.runs {
                self.address.runs = false;
                self.effects.push(Effect::StopMoving);
            }
            return;
        }
        if self.config.floating_ip.is_none() || !self.address.is_due(now) {
            return;
        }
        self.address.begin();
        self.effects.push(Effect::MoveAddress { patient: self.has_address == Some(false) });
    }

    /// Asks the provider whether a holder that has fallen silent is off. The lease ends by itself a few seconds later,
    /// so that is asked a few times at most.
    pub(super) fn inquire(&mut self, now: Millis) {
        let Some(holder) = self.lease.silent_holder(now) else { return };
        if self.config.floating_ip.is_none() || self.member(holder).is_none() || !self.inquiry.is_due(now) {
            return;
        }
        self.inquiry.begin();
        self.inquiry.next = now + INQUIRY;
        self.effects.push(Effect::AskProvider(holder));
    }

    pub(super) fn look_at_records(&mut self, now: Millis, seen: &Seen) {
        if !self.mend.is_due(now) || seen.job.is_some() || seen.paused || !seen.member {
            return;
        }
        let primary = if seen.holds { Some(self.config.my_id()) } else { seen.primary };
        let Some(primary) = primary.and_then(|id| self.member(id)) else { return };
        let (primary, host) = (primary.id, primary.host.to_string());
        let Some(look) = seen.look.as_ref().filter(|_| seen.processes) else { return };
        let astray = match &look.state {
            State::Standby { from } => from.as_deref() != Some(host.as_str()),
            State::Primary => false,
            State::Silent(_) | State::Busy(_) => return,
        };
        self.astray_since = if astray { self.astray_since.or(Some(now)) } else { None };
        if !astray {
            self.diverged = false;
        }
        let astray = self.astray_since.is_some_and(|since| now >= since + ASTRAY);
        self.mend.begin();
        self.effects.push(Effect::Mend { primary, astray });
    }

    pub(super) fn try_disk(&mut self, now: Millis) {
        if self.disk.is_due(now) {
            self.disk.begin();
            self.disk.next = now + DISK_CHECK;
            self.effects.push(Effect::TryDisk);
        }
    }

    /// Between two nodes neither of which is primary nothing is said for days. A link that is cut there is missed when it
    /// is needed: so they greet each other.
    pub(super) fn greet(&mut self, now: Millis) {
        if now < self.greeted_at + GREETING || !self.lease.is_member() {
            return;
        }
        self.greeted_at = now;
        let peers: Vec<_> = self.config.peers().map(|peer| peer.id).collect();
        self.effects.extend(peers.into_iter().map(|peer| Effect::Send(peer, None)));
    }

    /// Notes when another node that took writes has not been heard of for too long: from when on, if from anything, a
    /// story of a failover begins.
    pub(super) fn miss_primary(&mut self, now: Millis) {
        let Some(primary) = self.primary.take_if(|primary| now > primary.heard + PRIMARY_SILENT_AFTER) else {
            return;
        };
        let name = self.name(primary.node).to_owned();
        let silent = now - primary.heard;
        let text = format!("no message from {name} for {:.1} s", silent as f64 / 1000.0);
        self.note_late(Event::Silent { about: Some(name) }, text, silent);
    }
}
