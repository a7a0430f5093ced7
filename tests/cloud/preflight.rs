//! What is known to fail before anything is made.

use cluster_cloud::preflight::{Setting, Wanted};
use cluster_lab::api::fault::{Fault, Rule};

use crate::bench::{Bench, FAILOVER, client};

fn setting(key: &str, value: &str) -> Setting {
    Setting { key: key.into(), value: value.into() }
}

fn wanted() -> Wanted {
    Wanted {
        cluster: setting("cluster", "demo"),
        region: setting("provider.region", "fra1"),
        sizes: vec![setting("provider.size", "s-1vcpu-1gb")],
        images: vec![setting("provider.image", "debian-12-x64")],
        vpc: None,
        new_droplets: 3,
        new_addresses: 1,
    }
}

/// The problems, one line each.
async fn problems(bench: &Bench, wanted: &Wanted) -> Vec<String> {
    let found = bench.client.preflight(wanted).await.unwrap();
    found.iter().map(|problem| format!("{}: {} ({})", problem.place, problem.what, problem.hint)).collect()
}

#[tokio::test]
async fn what_would_work_has_no_problems() {
    let bench = Bench::new().await;
    assert_eq!(problems(&bench, &wanted()).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_mistake_is_told_with_place_and_hint() {
    let bench = Bench::new().await;
    let vpc_of = |region: &str| {
        let region = cluster_lab::api::catalog::Region::find(region).unwrap();
        Some(setting("provider.vpc", &region.vpc()))
    };
    let table: [(Wanted, &str); 10] = [
        (
            Wanted { images: vec![setting("provider.image", "ubuntu-18-04-x64")], ..wanted() },
            "provider.image: image ubuntu-18-04-x64 is not offered (similar: debian-11-x64, debian-12-x64, debian-13-x64)",
        ),
        (
            Wanted { images: vec![setting("provider.image", "../account")], ..wanted() },
            "provider.image: image ../account is not offered (similar: debian-11-x64, debian-12-x64, debian-13-x64)",
        ),
        (
            Wanted { region: setting("provider.region", "fra9"), sizes: vec![], ..wanted() },
            "provider.region: region fra9 does not exist (available: nyc1, ",
        ),
        (
            Wanted { region: setting("provider.region", "nyc2"), images: vec![], sizes: vec![], ..wanted() },
            "provider.region: region nyc2 takes no new droplets (available: nyc1, ",
        ),
        (
            Wanted {
                sizes: vec![setting("nodes.pg1.size", "so-2vcpu-16gb")],
                region: setting("r", "ams3"),
                ..wanted()
            },
            "nodes.pg1.size: size so-2vcpu-16gb is not available in ams3 (available in: nyc1, fra1)",
        ),
        (
            Wanted { sizes: vec![setting("provider.size", "s-1vcpu-2g")], ..wanted() },
            "provider.size: size s-1vcpu-2g does not exist (similar: s-1vcpu-2gb, ",
        ),
        (
            Wanted { new_droplets: 26, ..wanted() },
            "account: 26 more droplets are needed; the account has 0, and its limit is 25 (delete unused ",
        ),
        (
            Wanted { new_addresses: 4, ..wanted() },
            "account: 4 more floating IPs are needed; the account has 0, and its limit is 3 (delete unused ",
        ),
        (
            Wanted { vpc: Some(setting("provider.vpc", "nonesuch")), ..wanted() },
            "provider.vpc: VPC nonesuch does not exist (the VPCs in fra1 are: 760e09ef-",
        ),
        (
            Wanted { vpc: vpc_of("ams3"), ..wanted() },
            "is in ams3, not in fra1 (name a VPC of this region, or leave the key out for the region's default)",
        ),
    ];
    for (wanted, expected) in table {
        let found = problems(&bench, &wanted).await;
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}\n{found:#?}");
        assert!(bench.lab.journal().is_empty());
    }
}

#[tokio::test]
async fn a_tag_that_is_spelled_otherwise_is_told() {
    let bench = Bench::new().await;
    for tag in ["cluster:demo", "Cluster:demo2"] {
        bench.client.create_tag(tag).await.unwrap();
    }
    assert_eq!(problems(&bench, &wanted()).await, Vec::<String>::new());
    let found = problems(&bench, &Wanted { cluster: setting("cluster", "demo2"), ..wanted() }).await;
    let told =
        "cluster: the account has the tag Cluster:demo2, which DigitalOcean takes for cluster:demo2 (delete";
    assert!(found.len() == 1 && found[0].starts_with(told), "{found:?}");
}

#[tokio::test]
async fn an_account_that_is_locked_is_told() {
    let bench = Bench::new().await;
    bench.lab.set(|settings| settings.limits.account_status = "locked".into());
    let found = problems(&bench, &wanted()).await;
    assert_eq!(
        found,
        ["account: the account is locked: Please contact support. (ask DigitalOcean's support to unlock it)"]
    );
}

#[tokio::test]
async fn existing_droplets_count_against_the_limit() {
    let bench = Bench::new().await;
    bench.ready("pg1").await;
    bench.lab.set(|settings| settings.limits.droplets = 3);
    let found = problems(&bench, &wanted()).await;
    assert!(
        found[0].starts_with("account: 3 more droplets are needed; the account has 1, and its limit is 3"),
        "{found:?}"
    );
    let found = problems(&bench, &Wanted { new_droplets: 2, ..wanted() }).await;
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_token_is_one_problem() {
    let bench = Bench::new().await;
    let found = client(&bench.url, "dop_v1_revoked").preflight(&wanted()).await.unwrap();
    assert_eq!((found.len(), found[0].place.as_str()), (1, "token"));
    assert!(found[0].what.contains("Unable to authenticate you."), "{found:?}");
}

#[tokio::test]
async fn a_token_with_few_scopes_is_told_which_it_lacks() {
    let bench = Bench::new().await;
    let found = client(&bench.url, FAILOVER).preflight(&wanted()).await.unwrap();
    let hints: Vec<&str> = found.iter().map(|problem| problem.hint.as_str()).collect();
    assert_eq!(hints, ["the token needs the scope account:read", "the token needs the scope tag:read"]);
}

#[tokio::test]
async fn a_token_that_may_not_read_tags_is_told_before_anything_is_made() {
    let bench = Bench::new().await;
    bench.once("GET", "/v2/tags", Fault::Status { code: 403, body: None });
    let found = problems(&bench, &wanted()).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("token: GET /v2/tags failed with HTTP 403"), "{found:?}");
    assert!(found[0].ends_with("(the token needs the scope tag:read)"), "{found:?}");
}

#[tokio::test]
async fn an_api_that_is_down_is_an_error_and_not_a_problem() {
    let bench = Bench::new().await;
    bench.fault(Rule {
        count: None,
        ..Rule::once("GET", "/v2/regions", Fault::Status { code: 503, body: None })
    });
    assert_eq!(bench.client.preflight(&wanted()).await.unwrap_err().status(), Some(503));
}
