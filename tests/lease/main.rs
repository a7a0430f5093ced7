//! The lease under random schedules of faults, and under planted mistakes, which must be caught.

mod forced;
mod laws;
mod lengths;
mod members;
mod memory;
mod newcomers;
mod node;
mod pairs;
mod provider;
mod random;
mod restores;
mod room;
mod standbys;
mod stops;
mod voters;
mod world;

use laws::Mistake;
use world::{run, run_changing, run_standing_still};

/// Runs `seeds` schedules of a protocol without mistakes, `LEASE_TIMES` as many if that is set; the first that breaks
/// a law is printed and fails.
fn all_hold(seeds: u64, data: u32, witness: bool) {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..seeds * times {
        if let Err(broken) = run(seed, data, witness, None) {
            panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
        }
    }
}

/// Some schedule among `seeds` must break a law when the protocol has this mistake.
fn is_caught(mistake: Mistake, seeds: u64) {
    is_caught_by(run, mistake, seeds);
}

fn is_caught_by(
    run: fn(u64, u32, bool, Option<Mistake>) -> Result<(), laws::Broken>,
    mistake: Mistake,
    seeds: u64,
) {
    let caught = (0..seeds).find_map(|seed| Some((seed, run(seed, 2, true, Some(mistake)).err()?)));
    let (seed, broken) = caught.unwrap_or_else(|| panic!("{mistake:?} was not caught by {seeds} seeds"));
    println!("{mistake:?} was caught by seed {seed}: {}", broken.law);
}

#[test]
fn two_data_nodes_and_a_witness_keep_the_laws() {
    all_hold(300, 2, true);
}

#[test]
fn three_data_nodes_keep_the_laws() {
    all_hold(100, 3, false);
}

#[test]
fn three_data_nodes_and_a_witness_keep_the_laws() {
    all_hold(100, 3, true);
}

#[test]
fn four_data_nodes_and_a_witness_keep_the_laws() {
    all_hold(60, 4, true);
}

#[test]
fn two_data_nodes_alone_keep_the_laws() {
    all_hold(100, 2, false);
}

#[test]
fn guards_with_leases_of_different_lengths_keep_the_laws() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..150 * times {
        for (data, witness) in [(2, true), (3, true)] {
            if let Err(broken) = run_changing(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes: {broken}");
            }
        }
    }
}

#[test]
fn a_voter_that_knows_its_own_length_only_is_caught() {
    is_caught_by(run_changing, Mistake::KnowsItsOwnLengthOnly, 500);
}

#[test]
fn a_grant_that_is_answered_before_it_is_on_disk_is_caught() {
    is_caught(Mistake::AnswersBeforeDisk, 20_000);
}

#[test]
fn a_renewal_that_is_counted_from_its_reply_is_caught() {
    is_caught(Mistake::CountsFromReply, 2_000);
}

#[test]
fn a_voter_that_grants_as_soon_as_it_restarts_is_caught() {
    is_caught(Mistake::NoAbstention, 2_000);
}

#[test]
fn a_holder_that_does_not_fence_is_caught() {
    is_caught(Mistake::NeverFences, 2_000);
}

#[test]
fn a_voter_that_waits_too_short_is_caught() {
    is_caught(Mistake::WaitsTooShort, 2_000);
}

#[test]
fn a_guard_that_takes_a_whole_new_lease_when_it_restarts_is_caught() {
    is_caught(Mistake::ResumesAfresh, 5_000);
}

#[test]
fn a_promotion_without_a_grant_is_caught() {
    is_caught(Mistake::PromotesUngranted, 500);
}

#[test]
fn a_voter_that_ignores_lag_is_caught() {
    is_caught(Mistake::IgnoresLag, 5_000);
}

#[test]
fn a_holder_without_a_second_watch_is_caught() {
    is_caught(Mistake::NoSentinel, 5_000);
}

#[test]
fn an_old_word_of_the_provider_that_counts_from_now_is_caught() {
    is_caught(Mistake::TrustsOldWord, 20_000);
}

#[test]
fn a_provider_whose_silence_counts_as_off_is_caught() {
    is_caught(Mistake::TakesSilenceForOff, 2_000);
}

#[test]
fn a_file_that_is_taken_for_what_the_server_is_is_caught() {
    is_caught(Mistake::BelievesTheFile, 5_000);
}

#[test]
fn a_clock_that_stands_still_is_bounded_by_what_voters_say() {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..150 * times {
        for (data, witness) in [(2, true), (3, false), (4, true)] {
            if let Err(broken) = run_standing_still(seed, data, witness, None) {
                panic!("seed {seed}, {data} data nodes, witness {witness}: {broken}");
            }
        }
    }
}
