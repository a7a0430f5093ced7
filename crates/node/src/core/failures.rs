//! What has failed on this node, and when it is tried again.

use cluster_contract::{Millis, NodeId};

use super::JOB_RETRY;

/// How soon, at the latest, a clone is tried again after several have failed.
const CLONE_RETRY_MOST: Millis = 3_600_000;

/// Why a job has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    pub text: String,
    /// Whether it was a clone: what is in the way of one, a disk above all, is seldom gone a moment later.
    pub cloning: bool,
}

impl From<&str> for JobFailure {
    fn from(text: &str) -> JobFailure {
        JobFailure { text: text.to_owned(), cloning: false }
    }
}

/// Clones that have failed in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailedClones {
    /// Of this primary.
    pub(super) of: NodeId,
    count: u32,
    /// When the next one is tried.
    pub(super) next: Millis,
}

impl FailedClones {
    /// One more: the pause after it is twice as long as the last one.
    pub(super) fn and(before: Option<FailedClones>, of: NodeId, now: Millis) -> FailedClones {
        let count =
            before.filter(|before| before.of == of).map_or(1, |before| before.count.saturating_add(1));
        let pause = JOB_RETRY << (count - 1).min(16);
        FailedClones { of, count, next: now + pause.min(CLONE_RETRY_MOST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_that_fail_are_tried_less_and_less_often_until_there_is_another_primary() {
        let mut failed = None;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let now = FailedClones::and(failed, 1, 5_000);
            pauses.push((now.next - 5_000) / 1_000);
            failed = Some(now);
        }
        assert_eq!(pauses[..10], [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600]);
        assert!(pauses[10..].iter().all(|pause| *pause == 3_600));
        assert_eq!(FailedClones::and(failed, 2, 0), FailedClones { of: 2, count: 1, next: JOB_RETRY });
    }
}
