//! `/v2/actions`, and what droplets' and addresses' actions have in common.

use serde_json::{Value, json};

use super::render;
use super::route::World;
use super::state::Subject;
use super::wire::{Reply, Request};

impl World<'_> {
    pub(super) fn all_actions(&self, request: &Request) -> Reply {
        let all = self.state.actions.values().rev().map(|action| render::action(self, "reserved_ip", action));
        Reply::page(request, "actions", all.collect())
    }

    pub(super) fn any_action(&self, id: &str) -> Reply {
        match id.parse().ok().and_then(|id: u64| self.state.actions.get(&id)) {
            Some(action) => Reply::ok(200, json!({ "action": render::action(self, "reserved_ip", action) })),
            None => Reply::not_found(),
        }
    }

    /// The actions on one thing, latest first.
    pub(super) fn actions_of(&self, request: &Request, subject: Subject, address_type: &str) -> Reply {
        let actions = self.state.actions.values().rev().filter(|action| action.subject == subject);
        let all: Vec<Value> = actions.map(|action| render::action(self, address_type, action)).collect();
        Reply::page(request, "actions", all)
    }

    /// One action on one thing.
    pub(super) fn action_of(&self, subject: Subject, id: &str, address_type: &str) -> Reply {
        match id.parse().ok().and_then(|id: u64| self.state.actions.get(&id)) {
            Some(action) if action.subject == subject => {
                Reply::ok(200, json!({ "action": render::action(self, address_type, action) }))
            }
            _ => Reply::not_found(),
        }
    }
}
