//! Values that depend on the host: the rules, each a pure function of what the host has. docs/tuning.md says where they
//! come from.

use serde::{Deserialize, Serialize};

/// What a host has to work with, as the kernel and the limits of its container say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    /// Memory, in KiB.
    pub memory_kib: u64,
    /// Processors that it may use.
    pub cores: u32,
    /// Size of the file system that PostgreSQL's data is on, or its WAL if that one is smaller, in KiB.
    pub disk_kib: u64,
    /// Whether that disk is known to spin.
    pub spinning: bool,
}

/// What a node's settings are fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// PostgreSQL's major version.
    pub version: u32,
    /// Whether the node is the witness, whose PostgreSQL holds next to nothing.
    pub witness: bool,
    pub size: Size,
    /// `max_connections`, the same on all data nodes; PostgreSQL's own if none.
    pub connections: Option<u64>,
    /// `max_worker_processes`, the same on all data nodes; PostgreSQL's own if none.
    pub workers: Option<u64>,
}

/// A host, as it is sold: what hosts of one size have in common, whatever their kernels keep for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Memory, in MiB.
    pub memory_mib: u64,
    pub cores: u64,
    /// Size of the file system with the data or the WAL, in GiB.
    pub disk_gib: u64,
    /// Whether that disk is known to spin.
    pub spinning: bool,
}

impl Fit {
    /// How much memory to set aside in huge pages, in MiB, where they pay: with 8 GB of `shared_buffers` and pages of 4 kB,
    /// every session has up to 16 MB of page tables. A little more than the buffers, for what else is shared.
    pub fn huge_pages_mib(&self) -> Option<u64> {
        let buffers = self.size.shared_buffers();
        (!self.witness && buffers >= 8 * GIB).then_some(buffers + buffers / 16)
    }
}

/// How a node's settings are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitting {
    /// Not at all: `postgresql.tune` is `false`.
    Off,
    /// Not yet: nobody has seen the host.
    Unknown,
    To(Fit),
}

/// PostgreSQL's own `max_connections`.
const CONNECTIONS: u64 = 100;
/// PostgreSQL's own `max_worker_processes`.
const WORKERS: u64 = 8;
/// What PostgreSQL, as it is packaged, has by itself: of what is fitted and needs a restart to change, and of what a standby
/// must not have less of than its primary.
const STOCK: &[(&str, &str)] = &[
    ("autovacuum_max_workers", "3"),
    ("max_connections", "100"),
    ("max_locks_per_transaction", "64"),
    ("max_prepared_transactions", "0"),
    ("max_worker_processes", "8"),
    ("shared_buffers", "128MB"),
];

/// The value that a setting has where no file of ours says anything, if it is one for which that matters.
pub fn stock(name: &str) -> Option<&'static str> {
    STOCK.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
}

const GIB: u64 = 1024;

impl Size {
    /// The size that is nearest above: the kernel keeps some percent of the memory, more or less with every version, and
    /// what was fitted yesterday must fit tomorrow. At most an eighth too much.
    pub fn of(machine: Machine) -> Size {
        let memory = (machine.memory_kib / 1024).max(64);
        let step = memory.next_power_of_two() / 8;
        Size {
            memory_mib: memory.div_ceil(step) * step,
            cores: u64::from(machine.cores.max(1)),
            disk_gib: machine.disk_kib / (1024 * 1024),
            spinning: machine.spinning,
        }
    }

    /// What PostgreSQL may count on, in MiB. On a small host the system, the guard, repmgrd and a backup take a share that
    /// matters, and a primary that runs out of memory is killed.
    fn budget(self) -> u64 {
        if self.memory_mib < 2 * GIB { self.memory_mib.saturating_sub(GIB / 4) } else { self.memory_mib }
    }

    fn shared_buffers(self) -> u64 {
        (self.budget() / 4).max(128)
    }

    /// How many connections data nodes of this size take: as many for each GiB as DigitalOcean's own PostgreSQL.
    pub fn connections(self) -> u64 {
        (self.memory_mib / GIB * 25).clamp(CONNECTIONS, 500)
    }

    /// How many worker processes: for parallel queries one a core, and a few for extensions.
    pub fn workers(self) -> u64 {
        (self.cores + 4).max(WORKERS)
    }

    /// The host in a few words.
    pub fn words(self) -> String {
        let memory = size(self.memory_mib);
        let (number, unit) =
            memory.split_at(memory.find(|c: char| !c.is_ascii_digit()).unwrap_or(memory.len()));
        let cores = if self.cores == 1 { "1 core".to_owned() } else { format!("{} cores", self.cores) };
        let disk = if self.spinning { "a spinning disk" } else { "an SSD" };
        format!("{number} {unit} of memory, {cores}, {disk}")
    }
}

/// As PostgreSQL writes it.
fn size(mib: u64) -> String {
    if mib > 0 && mib.is_multiple_of(GIB) { format!("{}GB", mib / GIB) } else { format!("{mib}MB") }
}

/// For a data node only: the witness keeps PostgreSQL's own values.
fn on_data(fit: &Fit, value: impl FnOnce(Size) -> String) -> Option<String> {
    (!fit.witness).then(|| value(fit.size))
}

pub(super) fn shared_buffers(fit: &Fit) -> Option<String> {
    Some(size(if fit.witness { 32 } else { fit.size.shared_buffers() }))
}

pub(super) fn effective_cache_size(fit: &Fit) -> Option<String> {
    on_data(fit, |it| size(it.budget() * 3 / 4))
}

pub(super) fn maintenance_work_mem(fit: &Fit) -> Option<String> {
    on_data(fit, |it| size((it.budget() / 16).clamp(64, 2 * GIB)))
}

pub(super) fn work_mem(fit: &Fit) -> Option<String> {
    let users = (fit.connections.unwrap_or(CONNECTIONS) + fit.workers.unwrap_or(WORKERS)) * 3;
    on_data(fit, |it| size((it.budget().saturating_sub(it.shared_buffers()) / users).max(4)))
}

pub(super) fn max_connections(fit: &Fit) -> Option<String> {
    fit.connections.filter(|_| !fit.witness).map(|it| it.to_string())
}

pub(super) fn max_worker_processes(fit: &Fit) -> Option<String> {
    fit.workers.filter(|_| !fit.witness).map(|it| it.to_string())
}

pub(super) fn max_parallel_workers(fit: &Fit) -> Option<String> {
    // No more than there are worker processes.
    on_data(fit, |it| it.cores.min(fit.workers.unwrap_or(WORKERS)).to_string())
}

pub(super) fn half_the_cores(fit: &Fit) -> Option<String> {
    on_data(fit, |it| (it.cores / 2).min(4).to_string())
}

/// What WAL may take before a checkpoint comes early, in MiB. A slot may keep 4 GB more.
fn wal(it: Size) -> u64 {
    match it.disk_gib {
        40.. => 4 * GIB,
        20.. => 2 * GIB,
        _ => GIB,
    }
}

pub(super) fn max_wal_size(fit: &Fit) -> Option<String> {
    on_data(fit, |it| size(wal(it)))
}

pub(super) fn min_wal_size(fit: &Fit) -> Option<String> {
    on_data(fit, |it| size(wal(it) / 4))
}

pub(super) fn checkpoint_completion_target(fit: &Fit) -> Option<String> {
    // From 14 on it is PostgreSQL's own.
    on_data(fit, |_| "0.9".to_owned()).filter(|_| fit.version < 14)
}

pub(super) fn random_page_cost(fit: &Fit) -> Option<String> {
    on_data(fit, |_| "1.1".to_owned()).filter(|_| !fit.size.spinning)
}

pub(super) fn effective_io_concurrency(fit: &Fit) -> Option<String> {
    // From 18 on it means another thing, and PostgreSQL's own is for such disks.
    on_data(fit, |_| "200".to_owned()).filter(|_| !fit.size.spinning && fit.version < 18)
}

pub(super) fn autovacuum_max_workers(fit: &Fit) -> Option<String> {
    let by = |cores| match cores {
        32.. => 5,
        16.. => 4,
        _ => 3,
    };
    on_data(fit, |it| by(it.cores).to_string())
}

pub(super) fn autovacuum_vacuum_cost_limit(fit: &Fit) -> Option<String> {
    on_data(fit, |_| "500".to_owned()).filter(|_| !fit.size.spinning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_of_the_size_that_it_is_sold_as() {
        // What the kernel leaves of it, and what it is sold as, in MiB.
        for (seen, sold) in [
            (470, 512),
            (961, 1024),
            (981, 1024),
            (1024, 1024),
            (1963, 2048),
            (3915, 4096),
            (5920, 6144),
            (7937, 8192),
            (15_989, 16_384),
            (32_092, 32_768),
            (64_297, 65_536),
            (128_700, 131_072),
        ] {
            let machine = Machine { memory_kib: seen * 1024 + 17, ..Machine::default() };
            assert_eq!(Size::of(machine).memory_mib, sold, "{seen}");
        }
    }

    /// A kernel with another appetite restarts nobody's PostgreSQL.
    #[test]
    fn a_little_more_or_less_memory_changes_nothing() {
        for sold in [512, 1024, 2048, 4096, 8192, 16_384, 65_536_u64] {
            let of = |kib| Size::of(Machine { memory_kib: kib, ..Machine::default() });
            let (least, most) = (of(sold * 1024 * 94 / 100), of(sold * 1024));
            assert_eq!(least, most, "{sold}");
        }
    }

    #[test]
    fn what_all_nodes_have_grows_with_the_host_and_is_never_less_than_postgresqls_own() {
        let size = |gib: u64, cores| Size { memory_mib: gib * GIB, cores, disk_gib: 80, spinning: false };
        for (gib, cores, connections, workers) in
            [(1, 1, 100, 8), (4, 2, 100, 8), (8, 4, 200, 8), (16, 8, 400, 12), (64, 16, 500, 20)]
        {
            let size = size(gib, cores);
            assert_eq!((size.connections(), size.workers()), (connections, workers), "{gib} GiB");
        }
    }
}
