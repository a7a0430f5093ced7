//! What a guard sees without waiting.

use std::path::Path;

use super::{BELIEVED, Guard, HEARD, YIELD, finished};
use crate::node::decision::Seen;
use crate::node::lease::{Millis, NodeId};
use crate::node::{memory, postgres, processes};

impl Guard {
    /// Everything that is seen without waiting.
    pub(super) fn see(&mut self, now: Millis) -> Seen {
        // A kernel that does not tell leaves the worst to be assumed.
        let processes = processes::list(&self.config).map_or(true, |list| !list.is_empty());
        let data = self.config.data_directory();
        let standby_signal = Path::new(&data).join("standby.signal").exists();
        let restarting = now < self.restarting_until;
        let ended = self.had_processes && !processes;
        let reads = !processes && self.job.is_none() && !self.config.me().witness && finished();
        if reads && (ended || self.stopped.is_none()) {
            // A primary that was killed has more than its last checkpoint. What it reported was flushed.
            let reported = self.lease.own_report().filter(|_| !standby_signal);
            self.stopped =
                postgres::stopped_position(&self.config).ok().map(|at| reported.map_or(at, |it| at.max(it)));
        }
        if ended && !self.config.me().witness {
            memory::note("ended", "PostgreSQL has ended");
            if self.lease.term().is_some() && !restarting && self.job.is_none() {
                self.unfit_until = self.unfit_until.max(now + YIELD);
            }
        }
        self.restart_ended |= ended;
        self.had_processes = processes;
        Seen {
            now,
            witness: self.config.me().witness,
            finished: finished(),
            standby_signal,
            processes,
            look: self.look.clone(),
            stopped: self.stopped,
            holds: self.lease.holds(now),
            term: self.lease.durable().term,
            bootstrap: self.bootstrap,
            job: self.job,
            restarting,
            paused: memory::paused().is_some(),
            kept: memory::keeps_data(),
            half_rewound: Path::new(memory::REWINDING).exists(),
            primary: self.other_primary(now),
            unfit: now < self.unfit_until,
        }
    }

    pub(super) fn other_primary(&self, now: Millis) -> Option<NodeId> {
        let primary = self.primary.as_ref()?;
        (now <= primary.heard + HEARD && primary.heard >= primary.since + BELIEVED).then_some(primary.node)
    }

    /// Notes when another node that took writes has not been heard of for too long: from when on, if from anything, a
    /// story of a failover begins.
    pub(super) fn miss_primary(&mut self, now: Millis) {
        let Some(primary) = self.primary.take_if(|primary| now > primary.heard + HEARD) else { return };
        let name = self.name(primary.node);
        let silent = now - primary.heard;
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_millis(silent.cast_signed());
        memory::note_with(
            "silent",
            &format!("{name} has not been heard of for {:.1} s", silent as f64 / 1000.0),
            serde_json::json!({"since": since.to_string(), "about": name}),
        );
    }
}
