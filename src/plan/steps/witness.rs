//! The witness: its start, its registration.

use std::net::IpAddr;

use cluster_contract::marker::DataStage;

use super::Planner;
use crate::facts::HostFacts;
use crate::facts::host::RepmgrNode;
use crate::inventory::Node;
use crate::plan::reason::RoleUse;
use crate::plan::roles::{Data, Primary};
use crate::plan::{Action, Phase};
use crate::plan::{Reason, TroubleKind};

impl Planner<'_> {
    pub(super) fn witness(&mut self, node: &Node, host: &HostFacts, data: &Data, running: bool) {
        match data {
            Data::Foreign(_) => return,
            Data::Ours if !running && self.is_paused(node) => {
                return self.trouble(
                    TroubleKind::Paused,
                    Some(&node.name),
                    "is not running, and is paused",
                    "end the pause with `cluster resume`; its guard then starts it",
                );
            }
            _ if !running => {
                let why = Reason::NotRunning;
                self.step(Phase::Setup, Some(node), Action::StartNew { made: DataStage::Witness }, why);
                if *data == Data::Ours {
                    // It has run before; what it holds is for the next look to say.
                    return;
                }
            }
            _ => {}
        }
        self.role(node, Phase::Setup, "repmgr", host.postgres.as_ref(), RoleUse::Repmgr);
        let name = match &self.primary {
            Primary::One(name) => name.clone(),
            Primary::Never => self.inventory.primary().name.clone(),
            Primary::Several(_) | Primary::Lost(_) | Primary::Gone(_) => return,
        };
        let upstream = self.inventory.node(&name).map(|node| i64::from(node.id));
        let right = |rows: Option<&[RepmgrNode]>| {
            rows.unwrap_or_default().iter().find(|row| row.id == node.id).is_some_and(|row| {
                row.kind == "witness"
                    && row.active
                    && row.upstream == upstream
                    && self.is_reached_at(node, &row.conninfo)
            })
        };
        let primary_rows = self.host(&name).up().and_then(|host| host.repmgr.as_deref());
        // Its table is a copy, which may be of the node that was primary in between.
        let primaries = |rows: Option<&[RepmgrNode]>| -> Vec<u32> {
            let rows = rows.unwrap_or_default().iter();
            rows.filter(|row| row.kind == "primary" && row.active).map(|row| row.id).collect()
        };
        let own = host.repmgr.as_deref();
        if !(right(own) && right(primary_rows) && primaries(own) == primaries(primary_rows)) {
            let primary_host = self.addresses.hosts.get(&name).map(IpAddr::to_string).unwrap_or_default();
            let action = Action::RegisterWitness { primary_host };
            self.step(Phase::Follow, Some(node), action, Reason::RegistrationDiffers);
        }
    }
}
