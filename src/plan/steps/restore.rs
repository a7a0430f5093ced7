//! A restore that is asked for, and not needed.

use super::Planner;
use crate::plan::roles::Primary;
use crate::plan::{Trouble, TroubleKind};

impl Planner<'_> {
    pub(super) fn restore(&mut self) {
        if self.means.restore.is_none() || self.primary == Primary::Never {
            return;
        }
        self.plan.notes.push(Trouble {
            kind: TroubleKind::Ignored,
            node: None,
            message: "--from-backup is ignored: the hosts have the cluster's data".into(),
            hint: "it is for a cluster of which nothing is left".into(),
        });
    }
}
