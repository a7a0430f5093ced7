//! One node of the simulation: a host, its disk, its PostgreSQL, and a guard that is the real one.

use cluster_contract::config::{Config, Failover, FloatingIp, Member};
use cluster_contract::timing::Timing;
use cluster_contract::{Millis, NodeId, WalPosition};
use cluster_node::control_file::{ControlFile, DbState};
use cluster_node::core::{Core, HostObservation, Input, Startup};
use cluster_node::decision::Job;
use cluster_node::lease::HardState;
use cluster_node::room::{FileSystem, Space};
use cluster_node::store::{HeldLease, Pause};

use crate::laws::Mistake;

/// What PostgreSQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Postgres {
    Off,
    /// Begins: a standby or what was primary, at this real time.
    Starting(Millis),
    Standby,
    /// Is being promoted, and takes writes at this real time.
    Rising(Millis),
    Primary,
    /// Is shut down in order: it writes no more, and sends what its standbys lack.
    Stopping,
}

/// A job of the guard's that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) begun: Millis,
    /// Whether it has done what can be seen: asked for a start, stopped, removed.
    pub(crate) acted: bool,
}

/// Something that comes to the guard.
pub(crate) struct Mail {
    pub(crate) due: Millis,
    /// The run of the guard that asked for it: with that it is lost.
    pub(crate) run: u32,
    pub(crate) what: Letter,
}

pub(crate) enum Letter {
    /// An observation that began at that real time ends.
    Observation(Millis),
    ReplicationRepaired,
    Is(Input),
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) data: bool,
    /// The members as its configuration has them, and its number.
    pub(crate) members: Vec<(NodeId, bool)>,
    pub(crate) generation: u64,
    pub(crate) timing: Timing,
    /// By how many thousandths its clock is too fast.
    pub(crate) rate_per_mille: i64,
    pub(crate) booted: Millis,
    /// When its clock stood still: from, until.
    pub(crate) still: Vec<(Millis, Millis)>,
    /// Up, and not frozen as a whole.
    pub(crate) on: bool,
    pub(crate) frozen_until: Millis,
    pub(crate) back_at: Option<Millis>,
    pub(crate) guard: Option<Core>,
    /// Counts the runs of the guard.
    pub(crate) runs: u32,
    pub(crate) guard_frozen_since: Option<Millis>,
    pub(crate) guard_back_at: Option<Millis>,
    pub(crate) next_tick: Millis,
    pub(crate) mail: Vec<Mail>,
    pub(crate) work: Option<Work>,
    /// The last one, and whether it came to what it was for.
    pub(crate) worked: Option<(Job, bool)>,
    pub(crate) postgres: Postgres,
    pub(crate) control: DbState,
    pub(crate) checkpoint: WalPosition,
    pub(crate) postgres_frozen_until: Millis,
    /// Killed, and dead at this time.
    pub(crate) dies_at: Option<Millis>,
    /// The file. Whether it means anything is another question.
    pub(crate) standby_signal: bool,
    pub(crate) position: WalPosition,
    /// The timelines that its own came from, and where each ended.
    pub(crate) history: Vec<WalPosition>,
    /// Where it streams from, and when anything came from there.
    pub(crate) upstream: Option<(usize, Millis)>,
    /// Bytes that reach it in a grain of time.
    pub(crate) bandwidth: u64,
    pub(crate) kept: bool,
    pub(crate) paused: bool,
    pub(crate) half_rewound: bool,
    // What survives: a crash of the host (synced), one of the guard (in memory).
    pub(crate) disk: HardState,
    /// Whether the disk is not the one that this boot has written to.
    pub(crate) restored: bool,
    /// Written and not synced; only a mistaken guard leaves something here.
    pub(crate) unsynced: Option<(Millis, HardState)>,
    /// Nothing can be written before this.
    pub(crate) disk_full_until: Millis,
    /// PostgreSQL has no room from then until then; what the guard keeps has space of its own.
    pub(crate) no_room: (Millis, Millis),
    pub(crate) run: Option<HeldLease>,
    /// When its guard began.
    pub(crate) guard_began: Millis,
    /// The end of the last lease that this node had proof of, kept for the laws.
    pub(crate) last_until: Millis,
}

impl Node {
    pub(crate) fn new(id: NodeId, data: bool, members: Vec<(NodeId, bool)>, timing: Timing) -> Node {
        let position = WalPosition { timeline: 1, lsn: 1 << 24 };
        Node {
            id,
            data,
            members,
            generation: 0,
            timing,
            rate_per_mille: 0,
            booted: 0,
            still: Vec::new(),
            on: true,
            frozen_until: 0,
            back_at: None,
            guard: None,
            runs: 0,
            guard_frozen_since: None,
            guard_back_at: None,
            next_tick: 0,
            mail: Vec::new(),
            work: None,
            worked: None,
            postgres: if id == 1 || !data { Postgres::Off } else { Postgres::Standby },
            control: if id == 1 { DbState::InProduction } else { DbState::InArchiveRecovery },
            checkpoint: position,
            postgres_frozen_until: 0,
            dies_at: None,
            standby_signal: id != 1,
            position,
            history: Vec::new(),
            upstream: None,
            bandwidth: 200_000,
            kept: false,
            paused: false,
            half_rewound: false,
            disk: HardState { term: 1, holder: Some(1), ..HardState::default() },
            restored: false,
            unsynced: None,
            disk_full_until: 0,
            no_room: (0, 0),
            run: None,
            guard_began: 0,
            last_until: 0,
        }
    }

    /// What its clock shows.
    pub(crate) fn clock(&self, real: Millis) -> Millis {
        let still: Millis = self
            .still
            .iter()
            .filter(|(from, _)| *from >= self.booted)
            .map(|(from, until)| real.min(*until).saturating_sub(*from))
            .sum();
        let since = i64::try_from(real.saturating_sub(self.booted).saturating_sub(still)).unwrap();
        u64::try_from(1_000 + since + since * self.rate_per_mille / 1000).unwrap()
    }

    pub(crate) fn runs(&self, real: Millis) -> bool {
        self.on && real >= self.frozen_until
    }

    pub(crate) fn guard_runs(&self, real: Millis) -> bool {
        self.runs(real) && self.guard.is_some() && self.guard_frozen_since.is_none()
    }

    pub(crate) fn answers(&self, real: Millis) -> bool {
        real >= self.postgres_frozen_until && self.dies_at.is_none()
    }

    pub(crate) fn is_member(&self) -> bool {
        self.members.iter().any(|(id, _)| *id == self.id)
    }

    fn config(&self) -> Config {
        let member = |(id, data): (NodeId, bool)| Member {
            name: format!("n{id}"),
            id,
            witness: !data,
            host: std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()).into(),
            droplet_id: Some(id.into()),
        };
        let members: Vec<Member> = self.members.iter().copied().map(member).collect();
        Config {
            cluster: "simulated".into(),
            node: format!("n{}", self.id),
            version: 15,
            port: 5432,
            generation: self.generation,
            members,
            observer: (!self.is_member()).then(|| member((self.id, self.data))),
            floating_ip: Some(FloatingIp {
                address: std::net::Ipv4Addr::new(10, 0, 3, 1).into(),
                api_url: "http://127.0.0.1:1".into(),
            }),
            failover: Failover { lease_ms: self.timing.lease, lag_limit_bytes: self.timing.lag_limit_bytes },
        }
    }

    pub(crate) fn start_guard(&mut self, real: Millis, mistake: Option<Mistake>) {
        let now = self.clock(real);
        let abstains_from = if mistake == Some(Mistake::NoAbstention) {
            now.saturating_sub(self.timing.voter_wait())
        } else {
            now
        };
        let mut timing = self.timing;
        if mistake == Some(Mistake::WaitsTooShort) {
            (timing.lease, timing.fence_margin, timing.grant_margin) = (timing.holder_window(), 0, 0);
        }
        if mistake == Some(Mistake::NoListening) {
            timing.listen_window = 0;
        }
        if mistake == Some(Mistake::IgnoresLag) {
            timing.lag_limit_bytes = u64::MAX;
        }
        if mistake == Some(Mistake::PrefersBriefly) {
            timing.preference = timing.deferral;
        }
        let mut hard_state = self.disk.clone();
        if mistake == Some(Mistake::ForgetsTheLength) {
            hard_state.granted_for = Some(timing.lease);
        }
        let mut held = self.run;
        if mistake == Some(Mistake::ResumesAfresh)
            && let Some(held) = &mut held
        {
            held.until = now + self.timing.holder_window();
        }
        if mistake == Some(Mistake::TakesNoMemoryForNew) && hard_state == HardState::default() {
            hard_state.released = true;
        }
        let disk_restored = self.restored && mistake != Some(Mistake::TrustsARestoredMemory);
        let startup = Startup { config: self.config(), hard_state, held_lease: held, disk_restored };
        self.guard = Some(Core::with_timing(startup, self.host(real, mistake), timing, abstains_from));
        self.runs += 1;
        self.guard_began = real;
        (self.guard_frozen_since, self.guard_back_at, self.work) = (None, None, None);
        self.mail.clear();
        self.next_tick = real;
    }

    /// What the edges of the guard see.
    pub(crate) fn host(&self, real: Millis, mistake: Option<Mistake>) -> HostObservation {
        let mut state = self.control;
        if mistake == Some(Mistake::BelievesTheFile) && self.standby_signal {
            state = DbState::InArchiveRecovery;
        }
        let mut has_processes = !self.data || self.postgres != Postgres::Off;
        if mistake == Some(Mistake::ReleasesTooEarly) && self.dies_at.is_some() {
            has_processes = false;
        }
        HostObservation {
            has_processes,
            control_file: Some(ControlFile { state, checkpoint: self.checkpoint }),
            standby_signal: self.standby_signal,
            data_ready: true,
            paused: self.paused.then(Pause::default),
            diverged_data_kept: self.kept,
            half_rewound: self.half_rewound,
            space: Some(Space {
                wal: FileSystem {
                    size: 100 << 30,
                    free: if self.has_room(real) { 50 << 30 } else { 1 << 20 },
                    reserve: 0,
                },
                data: None,
            }),
        }
    }

    /// Whether PostgreSQL has room.
    pub(crate) fn has_room(&self, real: Millis) -> bool {
        real < self.no_room.0 || real >= self.no_room.1
    }

    /// PostgreSQL is gone, and has not been shut down.
    pub(crate) fn postgres_ends(&mut self) {
        (self.postgres, self.dies_at, self.postgres_frozen_until) = (Postgres::Off, None, 0);
        self.upstream = None;
    }

    /// Power is cut.
    pub(crate) fn crash(&mut self) {
        self.postgres_ends();
        (self.on, self.guard, self.run, self.unsynced) = (false, None, None, None);
        (self.work, self.frozen_until) = (None, 0);
        (self.guard_frozen_since, self.guard_back_at) = (None, None);
        self.mail.clear();
    }

    pub(crate) fn boot(&mut self, real: Millis, mistake: Option<Mistake>) {
        (self.on, self.booted, self.back_at, self.restored) = (true, real, None, false);
        self.start_guard(real, mistake);
    }

    /// Whether what it has is part of `other`'s history.
    pub(crate) fn can_follow(&self, other: &Node) -> bool {
        self.position.timeline == other.position.timeline
            || other
                .history
                .iter()
                .any(|end| end.timeline == self.position.timeline && self.position.lsn <= end.lsn)
    }
}
