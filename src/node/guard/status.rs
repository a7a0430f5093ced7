//! What the guard says of itself.

use serde::Serialize;

use super::Guard;
use crate::node::clock;
use crate::node::lease::{Millis, Position, Report};
use crate::node::memory;
use crate::node::postgres::State;

/// What `cluster-node status` prints. Programs read it: fields are added, not changed.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
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
    /// What it last did.
    pub last: Option<String>,
}

impl Guard {
    pub(super) fn status(&self) -> Status {
        let (now, paused) = (clock::now(), memory::paused());
        let postgresql = match self.look.as_ref().map(|look| &look.state) {
            Some(State::Primary) => "primary",
            Some(State::Standby { .. }) => "standby",
            Some(State::Silent(_)) | None => "down",
        };
        let holds = self.lease.holds(now);
        let until = self.lease.until().filter(|until| holds && *until != Millis::MAX);
        Status {
            postgresql: postgresql.to_owned(),
            holder: self.lease.holder(now).map(|id| self.name(id).to_owned()),
            holds,
            forced: self.lease.is_forced(),
            position: self.look.as_ref().and_then(|look| look.position).or(self.stopped),
            report: self.lease.report(),
            kept: memory::keeps_data(),
            holds_for: until.map(|until| until - now),
            term: self.lease.durable().term,
            failover: self.config.nodes.len() > 2,
            paused: paused.is_some(),
            paused_since: paused.and_then(|pause| pause.since),
            has_address: self.has_address,
            doing: self.job.map(|job| format!("{job:?}").to_lowercase()),
            why: self.why.to_owned(),
            trouble: self.trouble.clone(),
            last: Some(self.last.clone()).filter(|last| !last.is_empty()),
        }
    }
}
