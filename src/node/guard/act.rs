//! What the decision says, done: work that takes a while is begun here and goes on beside the loop.

use tokio::time::Instant;

use super::{ASTRAY, Done, Guard, INQUIRY, MEND, TROUBLED, YIELD, jobs};
use crate::node::decision::{Act, Job, Seen};
use crate::node::lease::Millis;
use crate::node::postgres::{self, State};
use crate::node::{address, clock, memory, processes, provider};

impl Guard {
    /// Does what the decision says.
    pub(super) async fn act(&mut self) {
        let seen = self.see(clock::now());
        let (act, why) = seen.decide();
        self.why = why;
        let config = self.config.clone();
        match act {
            Act::Rest => {}
            Act::Fence => {
                let text = match processes::kill(&self.config) {
                    Ok(count) => format!("fenced: killed {count} processes of PostgreSQL; {why}"),
                    Err(error) => format!("fenced, and {error:#}"),
                };
                memory::note("fenced", &text);
                self.last = text;
                // What a job was about is gone; it will say so itself.
                self.unfit_until = clock::now() + YIELD;
            }
            Act::Start | Act::Rejoin(_) if seen.now < self.retry_at => {}
            Act::Start => self.begin(Job::Start, why, jobs::start(config)),
            Act::Promote => self.begin(Job::Promote, why, jobs::promote(config)),
            Act::Rejoin(primary) => {
                if let Some(primary) = self.member(primary).cloned() {
                    self.begin(Job::Rejoin, why, jobs::rejoin(config, primary, false));
                }
            }
        }
    }

    pub(super) fn look_again(&mut self) {
        if self.looking || Instant::now() < self.next_look {
            return;
        }
        self.looking = true;
        let config = self.config.clone();
        self.spawn(async move { Done::Look(postgres::look(&config).await) });
    }

    pub(super) fn keep_address(&mut self, seen: &Seen) {
        if !seen.leads() {
            (self.has_address, self.next_address) = (None, Instant::now());
            // A move takes seconds and is tried again for minutes; the address is another's by then.
            if let Some(moving) = self.moving.take() {
                moving.abort();
            }
            return;
        }
        if self.config.floating_ip.is_none() || self.moving.is_some() || Instant::now() < self.next_address {
            return;
        }
        let config = self.config.clone();
        let patient = self.has_address == Some(false);
        let work = async move { address::take(&config, patient).await.map_err(|error| format!("{error:#}")) };
        self.moving = Some(self.spawn(async move { Done::Address(work.await) }));
    }

    /// Asks the provider whether a holder that has fallen silent is off. The lease ends by itself a few seconds later,
    /// so that is asked a few times at most.
    pub(super) fn inquire(&mut self, now: Millis) {
        let Some(holder) = self.lease.silent_holder(now) else { return };
        if self.inquiring || Instant::now() < self.next_inquiry || self.config.floating_ip.is_none() {
            return;
        }
        let (Some(member), config) = (self.member(holder).cloned(), self.config.clone()) else { return };
        (self.inquiring, self.next_inquiry) = (true, Instant::now() + INQUIRY);
        self.spawn(async move { Done::Off(holder, now, provider::is_off(&config, &member).await) });
    }

    pub(super) fn mend(&mut self, seen: &Seen) {
        if self.mending || seen.job.is_some() || seen.paused || Instant::now() < self.next_mend {
            return;
        }
        let primary = if seen.holds { Some(self.config.me().id) } else { seen.primary };
        let Some(primary) = primary.and_then(|id| self.member(id)).cloned() else { return };
        let Some(look) = seen.look.as_ref().filter(|_| seen.processes) else { return };
        let astray = match &look.state {
            State::Standby { from } => from.as_deref() != Some(primary.host.to_string().as_str()),
            State::Primary => false,
            State::Silent(_) => return,
        };
        self.astray_since = if astray { self.astray_since.or(Some(seen.now)) } else { None };
        let astray = self.astray_since.is_some_and(|since| seen.now >= since + ASTRAY);
        (self.mending, self.next_mend) =
            (true, Instant::now() + if self.astray_since.is_some() { TROUBLED } else { MEND });
        let config = self.config.clone();
        self.spawn(async move { Done::Mend(jobs::mend(config, primary, astray).await) });
    }
}
