//! Runs that are killed at every request, before or after it was carried out, and run again.

use cluster::cloud::destroy::Memory;
use cluster::cloud::key::fingerprint;
use cluster::cloud::{Client, Error};
use cluster::lab::api::fault::{Fault, Rule};

use crate::bench::{Bench, KEY, brittle, pace, spec};

/// What `up` does with the API.
async fn up(client: &Client) -> Result<(), Error> {
    client.ensure_ssh_key("demo", KEY).await?;
    let mut ids = Vec::new();
    for name in ["pg1", "pg2", "pg3"] {
        let id = client.ensure_droplet(&spec(name), pace()).await?.value.id;
        ids.push(client.wait_droplet_ready(id, pace()).await?.id);
    }
    let address = client.ensure_reserved_ip("demo", &ids, ids[0], pace()).await?.value;
    client.assign(address.ip, ids[0], pace()).await.map(drop)
}

async fn down(client: &Client) -> Result<(), Error> {
    let memory = Memory { addresses: Vec::new(), fingerprint: fingerprint(KEY) };
    let belongings = client.belongings("demo", &memory).await?;
    client.destroy(&belongings, pace()).await
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

#[tokio::test]
async fn up_killed_at_any_request_is_finished_by_the_next() {
    for last in [Fault::Drop, Fault::LoseReply] {
        for after in 0.. {
            let bench = Bench::new().await;
            kill(&bench, after, last.clone());
            // The killed run asks nothing twice and looks for nothing: it is dead.
            let dead = bench.client.clone().with_policy(brittle());
            let hasty = tokio::time::timeout(crate::bench::millis(400), up(&dead)).await;
            bench.heal();
            if matches!(hasty, Ok(Ok(()))) {
                assert!(after > 15, "the whole run took {after} requests");
                break;
            }
            up(&bench.client).await.unwrap();
            let state = bench.lab.state();
            assert_eq!(
                (state.droplets.len(), state.addresses.len(), state.keys.len()),
                (3, 1, 1),
                "{last:?} at {after}"
            );
        }
    }
}

#[tokio::test]
async fn down_killed_at_any_request_is_finished_by_the_next() {
    for last in [Fault::Drop, Fault::LoseReply] {
        for after in 0.. {
            let bench = Bench::new().await;
            up(&bench.client).await.unwrap();
            kill(&bench, after, last.clone());
            let dead = bench.client.clone().with_policy(brittle());
            let hasty = tokio::time::timeout(crate::bench::millis(400), down(&dead)).await;
            bench.heal();
            if matches!(hasty, Ok(Ok(()))) {
                assert!(after > 10, "the whole run took {after} requests");
                break;
            }
            down(&bench.client).await.unwrap();
            let state = bench.lab.state();
            assert!(state.droplets.is_empty() && state.addresses.is_empty(), "{last:?} at {after}");
            assert!(state.keys.is_empty() && state.tags.is_empty(), "{last:?} at {after}");
        }
    }
}
