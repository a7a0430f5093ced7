//! Does what the decision says, and what is done again and again beside it.

use cluster_contract::Millis;
use cluster_contract::journal::Event;

use super::{
    CRASH_BACKOFF, Core, Effect, GREETING_INTERVAL, HOST_CHECK_INTERVAL, OBSERVE_INTERVAL,
    OBSERVE_INTERVAL_WANTED, PRIMARY_SILENT_AFTER, PROVIDER_POLL, WRONG_UPSTREAM_LIMIT,
};
use crate::decision::{Act, Job, Observation};
use crate::postgres::ServerState;

impl Core {
    /// Does what the decision says.
    pub(super) fn act(&mut self, observed: &Observation) {
        let (act, why) = observed.decide();
        self.why = why;
        let now = observed.now;
        match act {
            Act::Rest => {}
            Act::Fence => {
                self.effects.push(Effect::Fence(why));
                self.last_action = format!("fenced: {why}");
                // What a job was about is gone; it will say so itself.
                (self.backoff_until, self.failed_at) = (now + CRASH_BACKOFF, None);
            }
            Act::Start | Act::Rejoin(_) if now < self.retry_at => {}
            Act::Rejoin(of) if self.failed_clones.is_some_and(|it| it.of == of && now < it.next) => {}
            Act::Start => self.begin_job(now, Job::Start, why),
            Act::Promote => self.begin_job(now, Job::Promote, why),
            Act::Rejoin(_) if self.has_writes_that_the_primary_never_knew() => {
                // A voter of the primary's majority had forgotten this node's term: its disk was an older one.
                self.keep_diverged_data();
                self.journal(
                    Event::DivergedDataKept,
                    "took writes in a term that the new primary's voters do not know: the data is kept until \
                     `cluster rejoin`",
                );
            }
            Act::Rejoin(of) => self.begin_job(now, Job::Rejoin { of, clone: false }, why),
        }
    }

    /// Whether the present primary began its claim without knowing of the last term in which this node took writes. A
    /// majority that remembers gives every new holder a higher one.
    fn has_writes_that_the_primary_never_knew(&self) -> bool {
        let claim_term = self.other_primary.as_ref().map_or(0, |primary| primary.claim_term);
        claim_term > 0 && self.lease.last_held().is_some_and(|held| held >= claim_term)
    }

    pub(super) fn observe_again(&mut self, now: Millis) {
        if self.lease.wants_observation(now) {
            self.observations.next = self.observations.next.min(now + OBSERVE_INTERVAL_WANTED);
        }
        if self.observations.is_due(now) {
            self.observations.begin();
            self.observations.next = now + OBSERVE_INTERVAL;
            self.effects.push(Effect::ObserveServer);
        }
    }

    pub(super) fn keep_address(&mut self, now: Millis, observed: &Observation) {
        if !observed.should_hold_address() {
            (self.has_address, self.address_trouble, self.address.next) = (None, None, now);
            // A move takes seconds and is tried again for minutes; the address is another's by then.
            if self.address.running {
                self.address.running = false;
                self.effects.push(Effect::StopMovingAddress);
            }
            return;
        }
        if self.config.floating_ip.is_none() || !self.address.is_due(now) {
            return;
        }
        self.address.begin();
        self.effects.push(Effect::MoveAddress { patient: self.address_trouble.is_some() });
    }

    /// Asks the provider whether a holder that has fallen silent is off. The lease ends by itself a few seconds later,
    /// so that is asked a few times at most.
    pub(super) fn ask_provider(&mut self, now: Millis) {
        let Some(holder) = self.lease.silent_holder(now) else { return };
        if self.config.floating_ip.is_none()
            || self.member(holder).is_none()
            || !self.provider_poll.is_due(now)
        {
            return;
        }
        self.provider_poll.begin();
        self.provider_poll.next = now + PROVIDER_POLL;
        self.effects.push(Effect::AskProvider(holder));
    }

    pub(super) fn repair_replication(&mut self, now: Millis, observed: &Observation) {
        if !self.repair.is_due(now) || observed.job.is_some() || observed.paused || !observed.is_member {
            return;
        }
        let primary = if observed.holds_lease { Some(self.config.my_id()) } else { observed.other_primary };
        let Some(primary) = primary.and_then(|id| self.member(id)) else { return };
        let (primary, host) = (primary.id, primary.host.to_string());
        let Some(server) = observed.server.as_ref().filter(|_| observed.has_processes) else { return };
        let wrong_upstream = match &server.state {
            ServerState::Standby { upstream } => upstream.as_deref() != Some(host.as_str()),
            ServerState::Primary => false,
            ServerState::Silent(_) | ServerState::Busy(_) => return,
        };
        self.wrong_upstream_since =
            if wrong_upstream { self.wrong_upstream_since.or(Some(now)) } else { None };
        if !wrong_upstream {
            self.diverged = false;
        }
        let wrong_upstream =
            self.wrong_upstream_since.is_some_and(|since| now >= since + WRONG_UPSTREAM_LIMIT);
        self.repair.begin();
        self.effects.push(Effect::RepairReplication { primary, wrong_upstream });
    }

    pub(super) fn check_host(&mut self, now: Millis) {
        if self.host_check.is_due(now) {
            self.host_check.begin();
            self.host_check.next = now + HOST_CHECK_INTERVAL;
            self.effects.push(Effect::CheckHost);
        }
    }

    /// Between two nodes neither of which is primary nothing is sent for days. A link that is cut there is missed when
    /// it is needed: so they greet each other.
    pub(super) fn greet(&mut self, now: Millis) {
        if now < self.greeted_at + GREETING_INTERVAL || !self.lease.is_member() {
            return;
        }
        self.greeted_at = now;
        let peers: Vec<_> = self.config.peers().map(|peer| peer.id).collect();
        self.effects.extend(peers.into_iter().map(|peer| Effect::Send(peer, None)));
    }

    /// Reports that another node, which took writes, has not been heard of for too long: with that the story of a
    /// failover begins.
    pub(super) fn notice_silent_primary(&mut self, now: Millis) {
        let Some(primary) =
            self.other_primary.take_if(|primary| now > primary.last_heard + PRIMARY_SILENT_AFTER)
        else {
            return;
        };
        self.silent_primary = Some(primary.node);
        let name = self.name(primary.node).to_owned();
        let silent = now - primary.last_heard;
        let text = format!("no message from {name} for {:.1} s", silent as f64 / 1000.0);
        self.journal_late(Event::PrimarySilent { about: Some(name) }, text, silent);
    }
}
