//! Sweeps: every setting of PostgreSQL, and every key of the inventory. `make sweep-settings`, `make sweep-keys`. Both
//! need root and make laboratories of their own, so they are ignored unless asked for.

#[path = "../hosts/harness.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the whole way use more of it")]
mod harness;

mod judge;
mod settings;

/// What a sweep works on besides: one host for each version of PostgreSQL.
const SETTINGS_LABS: [(u8, &str, u32); 2] = [(80, harness::PREPARED, 15), (81, "debian-13-x64", 17)];

/// Every setting of both versions is given a bad value and its extreme ones: refused, or harmless to a failover.
#[test]
#[ignore = "needs root and a laboratory"]
fn every_setting_is_refused_or_harmless() {
    let sweeps = SETTINGS_LABS
        .map(|(lab, image, version)| std::thread::spawn(move || settings::sweep(lab, image, version)));
    let sweeps = sweeps.map(|sweep| sweep.join().expect("a sweep has failed; what it said is above"));
    println!("{}", settings::table(&sweeps));
    let harm: Vec<String> = sweeps.iter().flat_map(settings::Sweep::harm).collect();
    assert!(harm.is_empty(), "accepted, and did harm:\n{}", harm.join("\n"));
}
