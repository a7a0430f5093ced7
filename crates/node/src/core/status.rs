//! What the guard reports of itself.

use cluster_contract::Millis;
use cluster_contract::status::{Server, Status};

use super::{Core, PEER_SILENT_AFTER};
use crate::postgres::ServerState;

impl Core {
    /// The status as of `now`.
    pub fn status(&self, now: Millis) -> Status {
        let postgresql = match self.server.as_ref().map(|server| &server.state) {
            Some(ServerState::Primary) => Server::Primary,
            Some(ServerState::Standby { .. }) => Server::Standby,
            Some(ServerState::Silent(_) | ServerState::Busy(_)) | None => Server::Down,
        };
        let observed = self.observe(now);
        let until = self.lease.until().filter(|until| observed.holds_lease && *until != Millis::MAX);
        let silent = self.last_heard.iter().filter(|(_, heard)| now > **heard + PEER_SILENT_AFTER);
        Status {
            postgresql,
            holder: self.lease.holder(now).map(|id| self.name(id).to_owned()),
            holds: observed.holds_lease,
            forced: self.lease.is_forced(),
            position: self.server.as_ref().and_then(|server| server.position).or(observed.stopped_at),
            report: self.lease.report(),
            diverged_data_kept: self.host.diverged_data_kept,
            lease_left: until.map(|until| until - now),
            lease_length: self.lease.lease_length(),
            term: self.lease.hard_state().term,
            generation: Some(self.lease.generation()),
            members: Some(self.config.members.iter().map(|member| member.name.clone()).collect()),
            automatic_failover: self.config.members.len() > 2,
            paused: observed.paused,
            paused_since: self.host.paused.clone().and_then(|pause| pause.since),
            has_address: self.has_address,
            job: self.job.map(|job| job.kind()),
            why: self.why.to_owned(),
            // Where the address leads is the holder's matter.
            trouble: self
                .job_trouble
                .clone()
                .or_else(|| self.address_trouble.clone().filter(|_| observed.holds_lease)),
            cannot_persist: self.cannot_persist.clone(),
            no_room: self.no_room.clone(),
            space: self.space(now),
            runs_old_program: self.runs_old_program,
            silent_peers: silent.map(|(peer, heard)| (self.name(*peer).to_owned(), now - heard)).collect(),
            stray_standby_signal: self.host.standby_signal && self.server_answered_primary == Some(true),
            last_action: Some(self.last_action.clone()).filter(|last| !last.is_empty()),
        }
    }

    /// For how long this guard has run.
    pub fn runs_for(&self, now: Millis) -> Millis {
        now.saturating_sub(self.started_at)
    }
}
