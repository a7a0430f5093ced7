//! Servers whose size is not the inventory's. One node at a time is switched off for it, and never one that takes writes:
//! the primary hands over first, and its turn is the last.

use super::Planner;
use crate::facts::{Host, HostFacts};
use crate::inventory::{Node, Provider, Role};
use crate::plan::roles::Primary;
use crate::plan::{Action, Consequence, Interruption, Phase, Reason, Risk, TroubleKind, Waiting};

/// A server that is to have another size.
pub(super) struct Resize<'a> {
    node: &'a Node,
    action: Action,
}

impl<'a> Planner<'a> {
    /// What would give a node's server its size. None where it has it, where the provider does not say, and where it
    /// cannot be.
    pub(super) fn resize(&self, node: &'a Node) -> Option<Resize<'a>> {
        self.resize_or_why(node)?.ok()
    }

    /// The same; where it cannot be, why not, and what a person can do about it.
    fn resize_or_why(&self, node: &'a Node) -> Option<Result<Resize<'a>, (String, String)>> {
        let Provider::DigitalOcean(settings) = &self.inventory.provider else { return None };
        let cloud = self.facts.cloud.as_ref().filter(|cloud| cloud.remembered.is_none())?;
        let server = cloud.servers.get(&node.name)?;
        let (is, wanted) = (server.size.as_deref()?, settings.size_of(node));
        let size = cloud.sizes.get(wanted);
        let has = server.disk_gib;
        let gets = size.and_then(|size| size.disk_gib);
        let grows = settings.resize_disk && matches!((has, gets), (Some(has), Some(gets)) if gets > has);
        if is == wanted && !grows {
            return None;
        }
        if size.is_none() {
            return Some(Err((
                format!("has size {is}, and the provider has no size {wanted}"),
                "correct `size`; `doctl compute size list` shows them all".into(),
            )));
        }
        if let (Some(has), Some(gets)) = (has, gets)
            && gets < has
        {
            return Some(Err((
                format!(
                    "has size {is} with a disk of {has} GiB, and {wanted} has {gets}: a disk cannot shrink"
                ),
                format!(
                    "keep `size: {is}`, or choose a size with at least {has} GiB; `cluster replace {}` makes the node \
                     anew on a droplet of size {wanted}",
                    node.name
                ),
            )));
        }
        let action = Action::Resize {
            server: server.id,
            from: is.to_owned(),
            size: wanted.to_owned(),
            disk_gib: gets.filter(|_| grows),
            kept_gib: has.filter(|has| !grows && gets.is_some_and(|gets| gets > *has)),
        };
        Some(Ok(Resize { node, action }))
    }

    pub(super) fn sizes(&mut self) {
        let mut resizes = Vec::new();
        for node in &self.inventory.nodes {
            match self.resize_or_why(node) {
                None => {}
                // It is done before the server is switched on: see `provider`.
                Some(Ok(_)) if matches!(self.host(&node.name), Host::Off) => {}
                Some(Ok(resize)) => resizes.push(resize),
                Some(Err((message, hint))) => {
                    self.trouble(TroubleKind::CannotResize, Some(&node.name), message, hint);
                }
            }
        }
        let Primary::One(primary) = self.primary.clone() else { return };
        resizes.sort_by_key(|resize| (resize.node.name == primary, resize.node.role != Role::Witness));
        let Some(first) = resizes.first() else { return };
        if !self.paused.is_empty() {
            // That is said already.
            return;
        }
        let node = first.node;
        if let Some(host) = self.host(&node.name).up()
            && host.rejoins()
        {
            self.wait(Waiting::Rejoin { node: node.name.clone() });
            return self.trouble(
                TroubleKind::CannotResize,
                Some(&node.name),
                "is not resized yet: its guard is making it a standby",
                "`cluster status` shows the progress; run this again once it streams",
            );
        }
        if let Some((ailing, why)) = self.ailing(node, &primary) {
            if self.plan.steps.iter().any(|step| step.node.as_deref() == Some(ailing.name.as_str())) {
                // That is being seen to; the plan after it shows what is left.
                return self.then_resize(&resizes, &primary);
            }
            if let Some(host) = self.host(&ailing.name).up().filter(|_| ailing.name != primary) {
                if self.guard_runs(host) {
                    let (node, primary) = (ailing.name.clone(), primary);
                    self.wait(Waiting::Streaming { node, primary });
                } else {
                    self.wait(Waiting::Guard { node: ailing.name.clone() });
                }
            }
            return self.trouble(
                TroubleKind::CannotResize,
                Some(&node.name),
                format!("is not resized yet: {} {why}, and one node at a time is switched off", ailing.name),
                "`cluster status` shows what is wrong; run this again once all is well",
            );
        }
        let rest = if node.name == primary {
            let successor =
                self.inventory.data_nodes().find(|it| it.name != primary && self.streams(it, &primary));
            let Some(successor) = successor else {
                return self.trouble(
                    TroubleKind::CannotResize,
                    Some(&primary),
                    "takes writes and has no standby: switching it off would be an outage",
                    "add a standby first; or resize the droplet at the provider yourself, powered off, in a maintenance window",
                );
            };
            let action = Action::Switchover { to: successor.name.clone() };
            self.step(Phase::Resize, Some(node), action, Reason::ResizeNeedsAnother);
            // It is left to be resized as a standby.
            return self.then_resized(&first.action, node);
        } else {
            self.step(Phase::Resize, Some(node), first.action.clone(), Reason::SizeDiffers);
            &resizes[1..]
        };
        self.then_resize(rest, &primary);
    }

    /// What is resized after the steps of this plan.
    fn then_resize(&mut self, resizes: &[Resize<'a>], primary: &str) {
        for resize in resizes {
            if resize.node.name == primary {
                let action = Action::Switchover { to: "a standby".into() };
                self.then_resized(&action, resize.node);
            }
            self.then_resized(&resize.action, resize.node);
        }
    }

    fn then_resized(&mut self, action: &Action, node: &Node) {
        let interruption = |what| Interruption { node: node.name.clone(), what };
        let interrupts = self.interrupts(node, action).map(interruption).into_iter().collect();
        let (kind, action, nodes) = (action.kind(), action.summary(), vec![node.name.clone()]);
        let (risk, settings) = (Risk::Restart, Vec::new());
        self.plan.then.push(Consequence { kind, action, nodes, risk, settings, interrupts });
    }

    /// Of all nodes but this one, the first that could not be relied upon while this one is off, and why.
    fn ailing(&self, but: &Node, primary: &str) -> Option<(&'a Node, &'static str)> {
        self.inventory.nodes.iter().filter(|node| node.name != but.name).find_map(|node| {
            let why = match self.host(&node.name).up() {
                None => "is not reachable",
                Some(host) if !self.guard_runs(host) => "has no running guard",
                Some(host) if host.holds_lease() == Some(false) && node.name == primary => {
                    "does not hold the lease"
                }
                Some(_) if node.role == Role::Witness || node.name == primary => return None,
                Some(_) if self.streams(node, primary) => return None,
                Some(_) => "does not stream",
            };
            Some((node, why))
        })
    }

    /// Whether a node streams from the primary, as the primary sees it.
    fn streams(&self, node: &Node, primary: &str) -> bool {
        let host: Option<&HostFacts> = self.host(primary).up();
        let replicas = host.and_then(|host| host.postgres.as_ref()).map(|it| it.replication.as_slice());
        replicas.unwrap_or_default().iter().any(|it| it.name == node.name && it.state == "streaming")
    }
}

impl Resize<'_> {
    pub(super) fn into_action(self) -> Action {
        self.action
    }
}
