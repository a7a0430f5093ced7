//! Members come and go one at a time, while anything else happens.

use crate::laws::{Broken, Mistake};
use crate::world::{World, run_in};

/// What an operator does to a cluster of three or more: one configuration after the other, each brought to the nodes one
/// by one (who comes, the primary, the others, who leaves), the next only when a majority of the last and of the new know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    /// Two nodes are added.
    Grow,
    /// Two are taken out.
    Shrink,
    /// Two take the place of two.
    Replace,
    /// The same as `Grow`, and the third of the three is a witness: of the old ones but two could lead.
    GrowBesideWitness,
}

fn scenario(seed: u64, edit: Edit, mistake: Option<Mistake>) -> Result<(), Broken> {
    let has_witness = edit == Edit::GrowBesideWitness;
    let mut world = World::new(seed, 5 - u32::from(has_witness), has_witness, mistake, false);
    // Five hosts; three of them are the cluster, or all. A witness is the last of them.
    let (before, after): (&[u32], &[u32]) = match edit {
        Edit::Grow => (&[1, 2, 3], &[1, 2, 3, 4, 5]),
        Edit::GrowBesideWitness => (&[1, 2, 5], &[1, 2, 5, 3, 4]),
        Edit::Shrink => (&[1, 2, 3, 4, 5], &[1, 2, 3]),
        Edit::Replace => (&[1, 2, 3], &[1, 4, 5]),
    };
    world.set_members(before);
    let mut steps = Vec::new();
    let mut members = before.to_vec();
    // In the order in which `up` takes them: what is added first, so that no step leaves fewer than there were.
    for id in after.iter().filter(|id| !before.contains(id)) {
        members.push(*id);
        steps.push(members.clone());
    }
    for id in before.iter().filter(|id| !after.contains(id)) {
        members.retain(|member| member != id);
        steps.push(members.clone());
    }
    if mistake == Some(Mistake::ChangesTwoMembers) {
        steps = vec![after.to_vec()];
    }
    world.plan_members(steps);
    run_in(world)
}

fn all_hold(edit: Edit, seeds: u64) {
    let times: u64 = std::env::var("LEASE_TIMES").map_or(1, |times| times.parse().unwrap());
    for seed in 0..seeds * times {
        if let Err(broken) = scenario(seed, edit, None) {
            panic!("seed {seed}, {edit:?}: {broken}");
        }
    }
}

fn is_caught(edit: Edit, mistake: Mistake, seeds: u64) {
    let caught = (0..seeds).find_map(|seed| Some((seed, scenario(seed, edit, Some(mistake)).err()?)));
    let (seed, broken) = caught.unwrap_or_else(|| panic!("{mistake:?} was not caught by {seeds} seeds"));
    println!("{mistake:?} was caught by seed {seed}: {}", broken.law);
}

#[test]
fn two_nodes_can_be_added() {
    all_hold(Edit::Grow, 60);
}

#[test]
fn two_standbys_can_be_added_to_two_data_nodes_and_a_witness() {
    all_hold(Edit::GrowBesideWitness, 60);
}

#[test]
fn two_nodes_can_be_taken_out() {
    all_hold(Edit::Shrink, 60);
}

#[test]
fn two_nodes_can_be_replaced() {
    all_hold(Edit::Replace, 60);
}

/// The named successor comes late, and a node with more WAL cannot be granted anything, since a change of members was cut
/// off before it: the successor was refused in its favour for ever.
#[test]
fn a_change_that_was_cut_off_leaves_no_candidate_that_bars_the_others() {
    if let Err(broken) = scenario(1_889, Edit::Grow, None) {
        panic!("{broken}");
    }
}

/// What was primary asks for a term in vain, and is killed by then: it had more than its last checkpoint all the same, and
/// nobody else could take over. It was refused for ever, for what it seemed to lack of its own report.
#[test]
fn a_primary_that_has_asked_in_vain_lacks_nothing_of_what_it_reported() {
    if let Err(broken) = scenario(2_065, Edit::Grow, None) {
        panic!("{broken}");
    }
}

#[test]
fn two_members_exchanged_at_once_are_caught() {
    is_caught(Edit::Replace, Mistake::ChangesTwoMembers, 2_000);
}

#[test]
fn a_voter_that_grants_to_those_who_know_older_members_is_caught() {
    is_caught(Edit::Replace, Mistake::GrantsToOldMembers, 5_000);
}
