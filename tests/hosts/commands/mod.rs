//! The commands of maintenance on hosts, as a person runs them: what each prints, its exit code, and what is true on
//! the nodes afterwards.

mod explain;
mod failover;
mod pause;
mod rejoin;
mod stage;
mod switchover;

use explain::a_failover_is_explained;
use failover::{
    a_majority_comes_back_without_the_forced_one, a_majority_is_lost, force_where_a_majority_is_there,
};
use pause::{a_killed_primary_in_a_pause, a_primary_that_is_lost_in_a_pause};
use rejoin::{
    a_clone_keeps_what_lies_elsewhere_apart, a_damaged_standby_is_cloned_anew, a_rejoin_that_makes_no_sense,
    a_stop_while_it_starts_ends,
};
use stage::Stage;
use switchover::{a_switchover_and_back, one_right_after_another};

#[test]
#[ignore = "needs root and a lab"]
fn a_pause_holds_a_switchover_moves_and_a_failover_is_told() {
    let stage = Stage::set(8);
    a_switchover_and_back(&stage);
    one_right_after_another(&stage);
    a_killed_primary_in_a_pause(&stage);
    a_failover_is_explained(&stage);
    a_primary_that_is_lost_in_a_pause(&stage);
    stage.lab.stop();
}

#[test]
#[ignore = "needs root and a lab"]
fn a_node_rejoins_by_hand_and_takes_over_by_force() {
    let stage = Stage::set(9);
    a_rejoin_that_makes_no_sense(&stage);
    a_stop_while_it_starts_ends(&stage);
    a_damaged_standby_is_cloned_anew(&stage);
    a_clone_keeps_what_lies_elsewhere_apart(&stage);
    force_where_a_majority_is_there(&stage);
    a_majority_is_lost(&stage);
    a_majority_comes_back_without_the_forced_one(&stage);
    stage.lab.stop();
}
