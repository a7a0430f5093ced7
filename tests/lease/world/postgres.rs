//! PostgreSQL in a grain of time: it writes, dies, rises, streams and rejoins.

use cluster::node::lease::Millis;

use super::World;
use crate::node::Postgres;

/// The bytes that a primary writes in a grain of time.
const WRITES: u64 = 2_000;
/// How long a guard that starts may take to believe that another node is primary.
const HEARS_AFTER: Millis = 2_500;

impl World {
    /// PostgreSQL itself: writes, dies, rises, follows.
    pub(super) fn postgres(&mut self, index: usize) {
        let real = self.real;
        let node = &mut self.nodes[index];
        if node.dies_at.is_some_and(|at| real >= at) {
            (node.postgres, node.dies_at, node.postgres_frozen_until) = (Postgres::Off, None, 0);
            node.yields_until = real + 5_000;
        }
        if real < node.postgres_frozen_until {
            return;
        }
        match node.postgres {
            Postgres::Rising(at) if real >= at => {
                if node.standby_signal {
                    node.standby_signal = false;
                    node.position.timeline += 1;
                }
                node.postgres = Postgres::Primary;
            }
            Postgres::Primary => node.position.lsn += WRITES,
            _ => {}
        }
        self.follow(index);
    }

    /// Streams from a primary that can be reached, or rejoins it.
    fn follow(&mut self, index: usize) {
        let real = self.real;
        let upstream = (0..self.nodes.len()).find(|other| {
            let node = &self.nodes[*other];
            *other != index
                && node.runs(real)
                && node.postgres == Postgres::Primary
                && !self.is_cut(index, *other)
                && !self.is_cut(*other, index)
        });
        let theirs = upstream.map(|upstream| self.nodes[upstream].position);
        let node = &mut self.nodes[index];
        let (Some(theirs), true, false) = (theirs, node.data, node.kept) else { return };
        match node.postgres {
            // Streaming, a little late.
            Postgres::Standby if node.position.timeline == theirs.timeline => {
                node.position.lsn = node.position.lsn.max(theirs.lsn.saturating_sub(8_000));
            }
            // Another timeline, or what was primary: rewound or cloned in some seconds.
            Postgres::Standby | Postgres::Off
                if theirs.timeline > node.position.timeline && real >= node.booted + HEARS_AFTER =>
            {
                match node.rejoins_at {
                    None => node.rejoins_at = Some(real + 3_000),
                    Some(at) if real >= at => {
                        (node.rejoins_at, node.standby_signal) = (None, true);
                        (node.position, node.postgres) = (theirs, Postgres::Standby);
                    }
                    Some(_) => {}
                }
            }
            // What was primary, and nobody was promoted since.
            _ => {}
        }
    }
}
