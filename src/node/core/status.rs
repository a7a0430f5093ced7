//! What the guard says of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Core, PEER_SILENT_AFTER};
use crate::node::lease::{Generation, Millis, Position, Report};
use crate::node::postgres::State;

/// What `cluster-node status` prints. Programs read it: fields are added, not changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// `primary`, `standby` or `down`.
    pub postgresql: String,
    /// The node that holds the lease, as far as this voter knows.
    pub holder: Option<String>,
    /// Whether this node holds it.
    pub holds: bool,
    /// Whether it took it by force, and no majority has granted it since.
    pub forced: bool,
    /// For how long it still does, in milliseconds; none where leases do not run out.
    pub holds_for: Option<Millis>,
    /// The highest term granted here.
    pub term: u64,
    /// The number of the members' configuration that this guard knows.
    pub generation: Generation,
    /// The members' names.
    pub members: Vec<String>,
    /// The WAL that is here.
    pub position: Option<Position>,
    /// What the last holder reported, as far as this voter has heard.
    pub report: Option<Report>,
    /// Whether what was written here beside another primary is kept until a person gives it up.
    pub kept: bool,
    /// Whether one lost node leaves a majority: without that there is no automatic failover.
    pub failover: bool,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Since when.
    pub paused_since: Option<String>,
    /// Whether the address was seen here at the last look; none before the first, and on other nodes.
    pub has_address: Option<bool>,
    /// What is being done.
    pub doing: Option<String>,
    /// Why nothing else is.
    pub why: String,
    /// What went wrong last, and has not gone right since.
    pub trouble: Option<String>,
    /// Why this guard cannot remember what it grants; a voter without memory grants nothing.
    pub disk: Option<String>,
    /// Why its disk takes nothing else: no journal is written then, and nothing can rejoin.
    pub room: Option<String>,
    /// Whether PostgreSQL runs a program that was replaced since: an upgrade that is not in effect.
    pub outdated: bool,
    /// Guards that have not been heard of for long, and for how many milliseconds.
    pub deaf_to: BTreeMap<String, Millis>,
    /// Whether a `standby.signal` lies beside a server that takes writes: it does no harm while that runs, and would make
    /// a standby of it when it starts again.
    pub stray_standby_signal: bool,
    /// What it last did.
    pub last: Option<String>,
}

impl Core {
    /// What there is to say at `now`.
    pub fn status(&self, now: Millis) -> Status {
        let postgresql = match self.look.as_ref().map(|look| &look.state) {
            Some(State::Primary) => "primary",
            Some(State::Standby { .. }) => "standby",
            Some(State::Silent(_) | State::Busy(_)) | None => "down",
        };
        let seen = self.see(now);
        let until = self.lease.until().filter(|until| seen.holds && *until != Millis::MAX);
        let silent = self.heard.iter().filter(|(_, heard)| now > **heard + PEER_SILENT_AFTER);
        Status {
            postgresql: postgresql.to_owned(),
            holder: self.lease.holder(now).map(|id| self.name(id).to_owned()),
            holds: seen.holds,
            forced: self.lease.is_forced(),
            position: self.look.as_ref().and_then(|look| look.position).or(seen.stopped),
            report: self.lease.report(),
            kept: self.host.kept,
            holds_for: until.map(|until| until - now),
            term: self.lease.durable().term,
            generation: self.lease.generation(),
            members: self.config.nodes.iter().map(|member| member.name.clone()).collect(),
            failover: self.config.nodes.len() > 2,
            paused: seen.paused,
            paused_since: self.host.paused.clone().flatten(),
            has_address: self.has_address,
            doing: self.job.map(|job| job.name().to_lowercase()),
            why: self.why.to_owned(),
            trouble: self.job_trouble.clone().or_else(|| self.address_trouble.clone()),
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
