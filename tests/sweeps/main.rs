//! Sweeps: every setting of PostgreSQL, every key of the inventory, moments to restore to, and gaps in the archive. `make
//! sweep-settings`, `make sweep-keys`, `make sweep-moments`, `make sweep-gaps`. They need root and make labs of their own, so they are ignored unless asked
//! for.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the whole way use more of it")]
mod support;

#[path = "../faults/bucket.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod bucket;
#[path = "../faults/fault.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod fault;
#[path = "../faults/invariants.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod invariants;
#[path = "../faults/lab.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod lab;
#[path = "../faults/stage.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod stage;
#[path = "../faults/writer.rs"]
#[allow(dead_code, reason = "the fault matrix uses all of it")]
mod writer;

mod gaps;
mod judge;
mod keys;
mod ledger;
mod lost;
mod moments;
mod settings;

/// What a sweep works on besides: one host for each version of PostgreSQL.
const SETTINGS_LABS: [(u8, &str, u32); 2] = [(80, support::PREPARED, 15), (81, "debian-13-x64", 17)];

/// The lab in which keys are changed.
const KEYS_LAB: u8 = 82;

/// The lab in which moments are restored.
const MOMENTS_LAB: u8 = 83;

/// The lab in which primaries are lost with WAL that is not archived.
const GAPS_LAB: u8 = 84;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn count(name: &str, default: u64) -> usize {
    usize::try_from(number(name, default)).unwrap()
}

/// Every setting of both versions is given a bad value and its extreme ones: refused, or harmless to a failover.
#[test]
#[ignore = "needs root and a lab"]
fn every_setting_is_refused_or_harmless() {
    let sweeps = SETTINGS_LABS
        .map(|(lab, image, version)| std::thread::spawn(move || settings::sweep(lab, image, version)));
    let sweeps = sweeps.map(|sweep| sweep.join().expect("a sweep has failed; what it said is above"));
    println!("{}", settings::table(&sweeps));
    let harm: Vec<String> = sweeps.iter().flat_map(settings::Sweep::harm).collect();
    assert!(harm.is_empty(), "accepted, and did harm:\n{}", harm.join("\n"));
}

/// Every key of the inventory is changed on a cluster that lives: done, refused or said to be ignored, and the primary
/// goes on.
#[test]
#[ignore = "needs root and a lab"]
fn every_key_is_done_or_refused_or_ignored() {
    keys::sweep(KEYS_LAB);
}

/// `MOMENTS` of them, drawn from `SEED`, are restored from the repository of a cluster that has failed over twice.
#[test]
#[ignore = "needs root and a lab"]
fn every_moment_is_restored_as_it_was() {
    moments::sweep(MOMENTS_LAB, count("MOMENTS", 100), number("SEED", 1));
}

/// `GAPS` primaries are lost with WAL that is not archived, in every second run for good.
#[test]
#[ignore = "needs root and a lab"]
fn every_gap_is_closed_or_told() {
    gaps::sweep(GAPS_LAB, count("GAPS", 20), number("SEED", 1));
}

/// 1 GB and a writer: every server is deleted, and what this machine knew.
#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_that_is_lost_whole_is_had_again_with_its_data() {
    lost::sweep(GAPS_LAB);
}
