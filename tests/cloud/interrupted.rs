//! Runs that are killed at every request, before or after it was carried out, and run again.

use cluster_cloud::destroy::Memory;
use cluster_cloud::{Client, Error, Pace};
use cluster_lab::api::fault::{Fault, Rule};
use tokio::task::JoinSet;

use crate::bench::{Bench, KEY, brittle, millis, pace, spec};

/// What `up` does with the API.
async fn up(client: &Client, pace: Pace) -> Result<(), Error> {
    client.ensure_ssh_key("demo", KEY).await?;
    let mut ids = Vec::new();
    for name in ["pg1", "pg2", "pg3"] {
        let id = client.ensure_droplet(&spec(name), pace).await?.value.id;
        ids.push(client.wait_droplet_ready(id, pace).await?.id);
    }
    let address = client.ensure_reserved_ip("demo", &ids, ids[0], pace).await?.value;
    client.assign(address.ip, ids[0], pace).await.map(drop)
}

async fn down(client: &Client, pace: Pace) -> Result<(), Error> {
    let belongings = client.belongings("demo", &Memory::default(), pace).await?;
    client.destroy(&belongings, pace).await.map_err(|mut errors| errors.swap_remove(0))
}

/// Kills the API for good after `after` requests: the request then under way is lost before or after its work.
fn kill(bench: &Bench, after: u32, last: Fault) {
    bench.fault(Rule { method: None, path: "/v2/*".into(), fault: last, after, count: Some(1) });
    bench.fault(Rule {
        method: None,
        path: "/v2/*".into(),
        fault: Fault::Drop,
        after: after + 1,
        count: None,
    });
}

/// Runs `case` for every request that a run could be killed at, several at a time. `case` tells whether the run
/// had ended by itself before; then all requests have had their turn.
pub(crate) async fn at_every_request<F: Future<Output = bool> + Send + 'static>(
    case: impl Fn(u32, Fault) -> F,
) {
    for first in (0..).step_by(8) {
        let mut cases = JoinSet::new();
        for after in first..first + 8 {
            cases.spawn(case(after, Fault::Drop));
            cases.spawn(case(after, Fault::LoseReply));
        }
        if cases.join_all().await.into_iter().any(|ended| ended) {
            assert!(first > 0, "a whole run in eight requests");
            return;
        }
    }
}

/// Begins `run` with a client that dies at a request; tells whether it ended before that.
pub(crate) async fn die<F: Future<Output = Result<(), Error>>>(
    bench: &Bench,
    after: u32,
    last: Fault,
    run: impl FnOnce(Client) -> F,
) -> bool {
    kill(bench, after, last.clone());
    let result = run(bench.client.clone().with_policy(brittle())).await;
    let ended = bench.is_waiting(&last);
    bench.heal();
    assert_eq!(result.is_ok(), ended, "{result:?}");
    ended
}

/// The patience of a run that is about to die: it gives up soon, and with nothing under way.
pub(crate) fn dying() -> Pace {
    Pace { deadline: millis(3000), ..pace() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_killed_at_any_request_is_finished_by_the_next() {
    at_every_request(|after, last| async move {
        let bench = Bench::new().await;
        let ended = die(&bench, after, last.clone(), async |client| up(&client, dying()).await).await;
        up(&bench.client, pace()).await.unwrap();
        let state = bench.lab.state();
        let counts = (state.droplets.len(), state.addresses.len(), state.keys.len());
        assert_eq!(counts, (3, 1, 1), "{last:?} at {after}");
        ended
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_killed_at_any_request_is_finished_by_the_next() {
    at_every_request(|after, last| async move {
        let bench = Bench::new().await;
        up(&bench.client, pace()).await.unwrap();
        let ended = die(&bench, after, last.clone(), async |client| down(&client, dying()).await).await;
        down(&bench.client, pace()).await.unwrap();
        assert_empty(&bench, &format!("{last:?} at {after}"));
        ended
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_leaves_nothing_of_an_up_killed_at_any_request() {
    at_every_request(|after, last| async move {
        let bench = Bench::new().await;
        let ended = die(&bench, after, last.clone(), async |client| up(&client, dying()).await).await;
        down(&bench.client, pace()).await.unwrap();
        assert_empty(&bench, &format!("{last:?} at {after}"));
        ended
    })
    .await;
}

fn assert_empty(bench: &Bench, when: &str) {
    let state = bench.lab.state();
    assert!(state.droplets.is_empty() && state.addresses.is_empty(), "{when}: {state:#?}");
    assert!(state.keys.is_empty() && state.tags.is_empty(), "{when}: {state:#?}");
    assert!(bench.machines.running().is_empty() && bench.machines.routes().is_empty(), "{when}");
}
