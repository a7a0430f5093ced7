//! pgBackRest, as the distribution has it, against the lab's object storage.

use std::path::Path;
use std::process::{Command, Output};

use cluster_cloud::model::NewSpacesKey;
use cluster_lab::api::fault::Rule;
use cluster_lab::api::spaces_fault::SpacesFault;
use secrecy::ExposeSecret;

use crate::bench::pace;
use crate::buckets::Stand;

/// Runs the whole life of a repository, in a mount namespace of its own.
async fn live(stand: &Stand, home: &Path, key: &NewSpacesKey) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/pgbackrest.sh");
    let ca = home.join("ca.crt");
    std::fs::write(&ca, stand.place("demo").ca.unwrap()).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", script])
        .args([home, Path::new(&stand.port().to_string()), &ca])
        .env("ACCESS_KEY", &key.access_key)
        .env("SECRET_KEY", key.secret_key.expose_secret());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, pgbackrest and PostgreSQL"]
async fn a_repository_lives_in_a_bucket() {
    let stand = Stand::new().await;
    let key = stand.bench.client.make_repository("demo", &stand.place("demo"), pace()).await.unwrap();
    let home = tempfile::Builder::new().prefix("cluster-pgbackrest-").tempdir().unwrap();
    // What passes is outlasted: requests are sent again.
    stand.fault(Rule::once("PUT", "/demo/*", SpacesFault::SlowDown).after(3));
    stand.fault(Rule::once("PUT", "/demo/*/backup/*", SpacesFault::Reset { after_bytes: 1000 }));
    let output = live(&stand, home.path(), &key).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}\n{wrong}");
    assert!(said.contains("status: ok") && said.contains("rows: 60001"), "{said}\n{wrong}");
    assert!(
        !said.contains(key.secret_key.expose_secret()) && !wrong.contains(key.secret_key.expose_secret())
    );
    assert!(stand.bench.lab.state().spaces_faults.rules.is_empty(), "the faults have struck");

    // Everything is gone, on the disk as well.
    let asking = stand.asking("demo", key);
    assert_eq!(asking.keys().await, Vec::<String>::new());
    let objects = stand.directory.path().join("spaces/buckets/demo/objects");
    assert_eq!(std::fs::read_dir(objects).unwrap().count(), 0);
}
