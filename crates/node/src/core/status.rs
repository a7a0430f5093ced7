//! What the guard says of itself.

use cluster_contract::Millis;
use cluster_contract::status::{Server, Status};

use super::{Core, PEER_SILENT_AFTER};
use crate::postgres::State;

impl Core {
    /// What there is to say at `now`.
    pub fn status(&self, now: Millis) -> Status {
        let postgresql = match self.look.as_ref().map(|look| &look.state) {
            Some(State::Primary) => Server::Primary,
            Some(State::Standby { .. }) => Server::Standby,
            Some(State::Silent(_) | State::Busy(_)) | None => Server::Down,
        };
        let seen = self.see(now);
        let until = self.lease.until().filter(|until| seen.holds && *until != Millis::MAX);
        let silent = self.heard.iter().filter(|(_, heard)| now > **heard + PEER_SILENT_AFTER);
        Status {
            postgresql,
            holder: self.lease.holder(now).map(|id| self.name(id).to_owned()),
            holds: seen.holds,
            forced: self.lease.is_forced(),
            position: self.look.as_ref().and_then(|look| look.position).or(seen.stopped),
            report: self.lease.report(),
            kept: self.host.kept,
            holds_for: until.map(|until| until - now),
            lease: self.lease.length(),
            term: self.lease.durable().term,
            generation: Some(self.lease.generation()),
            members: Some(self.config.nodes.iter().map(|member| member.name.clone()).collect()),
            failover: self.config.nodes.len() > 2,
            paused: seen.paused,
            paused_since: self.host.paused.clone().flatten(),
            has_address: self.has_address,
            doing: self.job.map(|job| job.kind()),
            why: self.why.to_owned(),
            // Where the address leads is the holder's matter.
            trouble: self.job_trouble.clone().or_else(|| self.address_trouble.clone().filter(|_| seen.holds)),
            disk: self.disk_trouble.clone(),
            room: self.room_trouble.clone(),
            outdated: self.outdated,
            deaf_to: silent.map(|(peer, heard)| (self.name(*peer).to_owned(), now - heard)).collect(),
            stray_standby_signal: self.host.standby_signal && self.answered_primary == Some(true),
            last: Some(self.last.clone()).filter(|last| !last.is_empty()),
        }
    }

    /// For how long this guard has run.
    pub fn runs_for(&self, now: Millis) -> Millis {
        now.saturating_sub(self.started_at)
    }
}
