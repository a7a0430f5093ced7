//! The lease, model-checked: three voters, two of them candidates, time in whole units, and every order in which
//! messages, crashes and slow clocks can fall.
//!
//! Node 1 has just won, and everything has arrived. From there, a link holds the last message that was sent on it,
//! which arrives at any later time or never. (That messages are doubled or overtake each other is for the simulation
//! in `tests/lease`.) A node takes writes exactly as long as its lease says.

use std::collections::BTreeMap;

use cluster_contract::timing::Timing;
use cluster_contract::{Millis, NodeId, WalPosition};
use cluster_node::lease::{HardState, Lease, Message, NodeState, Output};
use stateright::{Checker as _, Model, Property};

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    AnswersBeforeDisk,
    NoAbstention,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    lease: Lease,
    disk: HardState,
    /// What only a mistaken guard has not yet synced.
    unsynced: Option<HardState>,
    /// By how much its clock is behind.
    behind: Millis,
    stopped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    time: Millis,
    nodes: Vec<Node>,
    links: BTreeMap<(NodeId, NodeId), Message>,
    crashes: u8,
    stops: u8,
    slow: u8,
    /// Which nodes have held, in order of their first time.
    held: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// One unit passes; the clock of `slow`, if any, does not see it.
    Pass {
        slow: Option<NodeId>,
    },
    Deliver {
        from: NodeId,
        to: NodeId,
    },
    /// The host dies and is back at once.
    Crash {
        node: NodeId,
    },
    /// PostgreSQL on the holder dies.
    Stop {
        node: NodeId,
    },
    /// A mistaken guard's disk catches up.
    Sync {
        node: NodeId,
    },
}

struct Leases {
    mistake: Option<Mistake>,
    /// How many crashes, stops of PostgreSQL, and slow units of a clock there may be.
    crashes: u8,
    stops: u8,
    slow: u8,
    /// How many units pass.
    until: Millis,
}

/// Small figures of the same order: a lease of 3, held for 2, waited out for 4; one unit of slack for a slow clock.
const TIMING: Timing = Timing {
    lease: 3,
    renew_interval: 1,
    fence_margin: 1,
    grant_margin: 1,
    pre_vote_interval: 1,
    reply_timeout: 2,
    crash_backoff: 0,
    deferral: 0,
    preference: 0,
    listen_window: 0,
    silent_after: 2,
    lag_limit_bytes: 0,
    expires: true,
};
const START: Millis = 10;
const MEMBERS: [NodeId; 3] = [1, 2, 3];

impl Leases {
    fn clock(state: &State, node: NodeId) -> Millis {
        START + state.time - state.nodes[node as usize - 1].behind
    }

    fn node_state(state: &State, id: NodeId) -> NodeState {
        let node = &state.nodes[id as usize - 1];
        let holds = node.lease.holds(Leases::clock(state, id));
        // What has just been fenced lets the other go first.
        let fenced = node.lease.held_term().is_some() && !holds;
        NodeState {
            position: (id != 3).then_some(WalPosition { timeline: 1, lsn: 1 }),
            candidate: id != 3 && !node.stopped && !fenced,
            should_renew: holds && !node.stopped,
            writable: holds && !node.stopped,
            cannot_write: !holds || node.stopped,
            successor: None,
            sound_standby: false,
            may_lead_first: true,
            stream_ended: false,
        }
    }

    fn put(&self, state: &mut State, id: NodeId, output: Output) {
        let now = Leases::clock(state, id);
        let node = &mut state.nodes[id as usize - 1];
        if let Some(hard_state) = output.persist {
            if self.mistake == Some(Mistake::AnswersBeforeDisk) {
                node.unsynced = Some(hard_state);
            } else {
                node.disk = hard_state;
            }
        }
        if node.lease.holds(now) && !state.held.contains(&id) {
            state.held.push(id);
        }
        for (to, message) in output.send {
            state.links.insert((id, to), message);
        }
    }

    fn tick(&self, state: &mut State, id: NodeId) {
        let (now, node_state) = (Leases::clock(state, id), Leases::node_state(state, id));
        let output = state.nodes[id as usize - 1].lease.tick(now, node_state);
        self.put(state, id, output);
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = |id| {
            // The first term was node 1's, so long ago that nobody has to wait.
            let granted_for = Some(TIMING.lease);
            let disk =
                HardState { term: 1, holder: Some(1), released: true, granted_for, ..HardState::default() };
            let lease = Lease::new(id, MEMBERS.to_vec(), TIMING, disk.clone(), START);
            Node { lease, disk, unsynced: None, behind: 0, stopped: false }
        };
        let mut state = State {
            time: 0,
            nodes: MEMBERS.map(node).to_vec(),
            links: BTreeMap::new(),
            crashes: self.crashes,
            stops: self.stops,
            slow: self.slow,
            held: Vec::new(),
        };
        self.tick(&mut state, 1);
        while let Some(((from, to), _)) = state.links.first_key_value().map(|(link, it)| (*link, it.clone()))
        {
            state = self.next_state(&state, Action::Deliver { from, to }).unwrap();
        }
        for node in &mut state.nodes {
            // Whatever the mistake: this was long ago.
            node.disk = node.unsynced.take().unwrap_or(node.disk.clone());
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.time < self.until {
            actions.push(Action::Pass { slow: None });
            if state.slow > 0 {
                actions.extend([1, 2, 3].map(|node| Action::Pass { slow: Some(node) }));
            }
        }
        actions.extend(state.links.keys().map(|(from, to)| Action::Deliver { from: *from, to: *to }));
        for node in MEMBERS {
            if state.crashes > 0 {
                actions.push(Action::Crash { node });
            }
            if state.stops > 0 && state.nodes[node as usize - 1].lease.holds(Leases::clock(state, node)) {
                actions.push(Action::Stop { node });
            }
            if state.nodes[node as usize - 1].unsynced.is_some() {
                actions.push(Action::Sync { node });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass { slow } => {
                state.time += 1;
                if let Some(slow) = slow {
                    state.slow -= 1;
                    state.nodes[slow as usize - 1].behind += 1;
                }
                for id in MEMBERS {
                    self.tick(&mut state, id);
                }
            }
            Action::Deliver { from, to } => {
                let message = state.links.remove(&(from, to))?;
                let now = Leases::clock(&state, to);
                let output = state.nodes[to as usize - 1].lease.receive(now, from, message);
                self.put(&mut state, to, output);
            }
            Action::Crash { node: id } => {
                state.crashes -= 1;
                let now = Leases::clock(&state, id);
                let from =
                    if self.mistake == Some(Mistake::NoAbstention) { now - TIMING.voter_wait() } else { now };
                let node = &mut state.nodes[id as usize - 1];
                (node.unsynced, node.stopped) = (None, false);
                node.lease = Lease::new(id, MEMBERS.to_vec(), TIMING, node.disk.clone(), from);
            }
            Action::Stop { node } => {
                state.stops -= 1;
                state.nodes[node as usize - 1].stopped = true;
                self.tick(&mut state, node);
                // It may want the lease again later.
                state.nodes[node as usize - 1].stopped = false;
            }
            Action::Sync { node: id } => {
                let node = &mut state.nodes[id as usize - 1];
                if let Some(hard_state) = node.unsynced.take() {
                    node.disk = hard_state;
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holders(state: &State) -> usize {
            MEMBERS
                .iter()
                .filter(|id| {
                    let node = &state.nodes[**id as usize - 1];
                    node.lease.holds(Leases::clock(state, **id)) && !node.stopped
                })
                .count()
        }
        vec![
            Property::always("never two holders", |_, state: &State| holders(state) < 2),
            Property::sometimes("one holds", |_, state: &State| state.held == [1]),
            Property::sometimes("another takes over", |_, state: &State| state.held.len() > 1),
        ]
    }
}

fn check(model: Leases) -> usize {
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

#[test]
fn no_order_of_messages_and_a_crash_makes_two_holders() {
    let until = std::env::var("MODEL_TIME").map_or(3, |time| time.parse().unwrap());
    println!("{} states", check(Leases { mistake: None, crashes: 1, stops: 0, slow: 0, until }));
}

#[test]
fn no_order_of_messages_and_a_slow_clock_makes_two_holders() {
    let until = std::env::var("MODEL_TIME").map_or(3, |time| time.parse().unwrap());
    println!("{} states", check(Leases { mistake: None, crashes: 0, stops: 0, slow: 1, until }));
}

#[test]
fn no_order_of_messages_and_a_release_makes_two_holders() {
    let until = std::env::var("MODEL_TIME").map_or(3, |time| time.parse().unwrap());
    println!("{} states", check(Leases { mistake: None, crashes: 0, stops: 1, slow: 0, until }));
}

#[test]
fn the_model_finds_planted_mistakes() {
    for (mistake, crashes, stops, until) in
        [(Mistake::NoAbstention, 2, 0, 3), (Mistake::AnswersBeforeDisk, 1, 1, 1)]
    {
        let model = Leases { mistake: Some(mistake), crashes, stops, slow: 0, until };
        let checker = model.checker().threads(2).spawn_dfs().join();
        println!("{mistake:?}: {} states", checker.unique_state_count());
        assert!(checker.discovery("never two holders").is_some(), "{mistake:?} was not found");
    }
}
