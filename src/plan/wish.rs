//! When two steps have the same goal: one that is planned again after it was done had no effect.

use std::collections::BTreeMap;
use std::fmt;

use super::{Action, Phase, Step};

/// One goal of a step on one node. A step that writes three files has three.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wish {
    /// The node; none for the provider.
    pub node: Option<String>,
    /// What is done.
    pub kind: &'static str,
    /// To what: a path, a role, a unit, …; empty where there is but one.
    pub object: String,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.node.as_deref().unwrap_or("provider");
        if self.object.is_empty() {
            write!(f, "{place}: {}", self.kind)
        } else {
            write!(f, "{place}: {} {}", self.kind, self.object)
        }
    }
}

impl Step {
    /// All goals of the step.
    pub fn wishes(&self) -> Vec<Wish> {
        let kind = self.action.kind();
        let wish = |object: String| Wish { node: self.node.clone(), kind, object };
        let objects = match &self.action {
            Action::WriteFiles { files } => files.iter().map(|file| file.path.clone()).collect(),
            Action::Install { packages } => packages.clone(),
            Action::Services { units, .. } => units.iter().map(|unit| unit.name().to_owned()).collect(),
            Action::Restart { settings } => settings.clone(),
            Action::Role { name, .. } | Action::Database { name, .. } => vec![name.clone()],
            Action::Extension { name, database } => vec![format!("{name} in {database}")],
            Action::Configure { members, .. } => vec![members.generation.to_string()],
            Action::AddRepository { archive: true } => vec!["archive".to_owned()],
            Action::CreateFloatingIp { node } | Action::AssignFloatingIp { node, .. } => vec![node.clone()],
            Action::Resize { size, .. } => vec![size.clone()],
            Action::Switchover { to } => vec![to.clone()],
            Action::AwaitServer { server } | Action::RemakeServer { server } => vec![server.to_string()],
            _ => vec![String::new()],
        };
        objects.into_iter().map(wish).collect()
    }
}

/// How often repmgr's record of a node is written before it counts as something that has no effect: its daemons and the guards
/// write the same rows when roles change, and a witness copies what may be out of date a moment later.
const MOST_RECORDS: u32 = 3;

/// What a run has wanted so far.
#[derive(Default)]
pub struct Wishes(BTreeMap<Wish, u32>);

impl Wishes {
    /// Notes that these steps begin.
    ///
    /// # Errors
    /// With the goal of a step that was done before and had no effect.
    pub fn begin<'a>(&mut self, steps: impl IntoIterator<Item = &'a Step>) -> Result<(), Wish> {
        for step in steps {
            let most = match (&step.action, step.phase) {
                // A host can reboot in the middle of its first boot.
                (_, Phase::Reach) => continue,
                (Action::RegisterStandby | Action::RegisterWitness { .. }, _) => MOST_RECORDS,
                _ => 1,
            };
            for wish in step.wishes() {
                let times = self.0.entry(wish.clone()).or_default();
                *times += 1;
                if *times > most {
                    return Err(wish);
                }
            }
        }
        Ok(())
    }
}
