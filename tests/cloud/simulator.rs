//! The simulator itself, where the client does not show it.

use std::net::Ipv4Addr;

use cluster_lab::api::state::{Power, Status};
use cluster_lab::api::{FakeMachines, Layout};
use serde_json::{Value, json};

use crate::bench::{Bench, FAILOVER, KEY, config, millis, pace, spec};

const NOTHING: Value = Value::Null;

#[tokio::test]
async fn a_token_that_is_not_known_may_do_nothing() {
    let bench = Bench::new().await;
    for path in ["/v2/account", "/v2/nonesuch", "/lab/state"] {
        let (status, body) = bench.raw_as("wrong", "GET", path, NOTHING).await;
        assert_eq!((status, body["id"].as_str()), (401, Some("unauthorized")), "{path}");
        assert!(body["request_id"].is_string());
    }
}

#[tokio::test]
async fn the_nodes_token_moves_addresses_and_reads_what_that_takes() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let ip = bench.client.create_reserved_ip(id).await.unwrap().ip;
    let ask = async |method: &str, path: &str, body: Value| bench.raw_as(FAILOVER, method, path, body).await;
    for (method, path) in [
        ("POST", "/v2/droplets"),
        ("DELETE", "/v2/droplets/1"),
        ("POST", "/v2/reserved_ips"),
        ("GET", "/v2/account"),
        ("GET", "/v2/tags"),
        ("GET", "/lab/state"),
    ] {
        assert_eq!(ask(method, path, NOTHING).await.0, 403, "{method} {path}");
    }
    assert_eq!(ask("DELETE", &format!("/v2/reserved_ips/{ip}"), NOTHING).await.0, 403);
    let (status, body) = ask("GET", &format!("/v2/droplets/{id}"), NOTHING).await;
    assert_eq!(status, 200);
    assert!(body["droplet"].get("tags").is_none() && body["droplet"].get("vpc_uuid").is_none());
    bench.until("assigned", |lab| lab.state().addresses[&ip].holder == Some(id)).await;
    let assign = json!({ "type": "assign", "droplet_id": id });
    assert_eq!(ask("POST", &format!("/v2/reserved_ips/{ip}/actions"), assign).await.0, 201);
}

#[tokio::test]
async fn addresses_are_there_under_both_names() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let (status, body) = bench.raw("POST", "/v2/floating_ips", json!({ "droplet_id": id })).await;
    assert_eq!((status, body["floating_ip"]["locked"].as_bool()), (202, Some(true)));
    assert_eq!(body["floating_ip"]["droplet"], NOTHING);
    let ip: Ipv4Addr = body["floating_ip"]["ip"].as_str().unwrap().parse().unwrap();
    bench.until("assigned", |lab| lab.state().addresses[&ip].holder == Some(id)).await;
    for (path, key) in [("floating_ips", "floating_ip"), ("reserved_ips", "reserved_ip")] {
        let (status, body) = bench.raw("GET", &format!("/v2/{path}/{ip}"), NOTHING).await;
        assert_eq!((status, body[key]["droplet"]["id"].as_u64()), (200, Some(id)), "{path}");
        let (_, body) = bench.raw("GET", &format!("/v2/{path}/{ip}/actions"), NOTHING).await;
        assert_eq!(body["actions"][0]["resource_type"], key);
        assert_eq!(body["actions"][0]["resource_id"], u64::from(ip.to_bits()));
    }
    let both = json!({ "droplet_id": id, "region": "fra1" });
    let (status, body) = bench.raw("POST", "/v2/reserved_ips", both).await;
    assert_eq!(status, 422);
    assert_eq!(body["message"], "Cannot specify Droplet and region, they are mutually exclusive.");
}

#[tokio::test]
async fn an_address_outlives_its_droplet() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    let ip = bench.client.create_reserved_ip(id).await.unwrap().ip;
    bench.client.assign(ip, id, pace()).await.unwrap();
    bench.client.destroy_droplets(&[id], pace()).await.unwrap();
    let left = bench.client.reserved_ip(ip).await.unwrap().unwrap();
    assert_eq!((left.holder(), left.locked), (None, false));
    bench.until("no longer routed", |_| bench.machines.routes().is_empty()).await;
    let (status, _) =
        bench.raw("POST", &format!("/v2/reserved_ips/{ip}/actions"), json!({ "type": "unassign" })).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn one_thing_at_a_time_happens_to_a_droplet_or_an_address() {
    let bench = Bench::new().await;
    let id = bench.ready("pg1").await.id;
    bench.lab.set(|settings| {
        settings.times.power = 60_000;
        settings.times.assign = 60_000;
    });
    let ip = bench.client.create_reserved_ip(id).await.unwrap().ip;
    let (droplet, address) = (format!("/v2/droplets/{id}"), format!("/v2/reserved_ips/{ip}"));
    let (actions, moves) = (format!("{droplet}/actions"), format!("{address}/actions"));
    assert_eq!(bench.raw("POST", &actions, json!({ "type": "reboot" })).await.0, 201);
    for (method, path, body, message) in [
        ("POST", &actions, json!({ "type": "power_off" }), "Droplet already has a pending event."),
        ("DELETE", &droplet, NOTHING, "Droplet already has a pending event."),
        ("POST", &moves, json!({ "type": "unassign" }), "The floating IP already has a pending event."),
        ("DELETE", &address, NOTHING, "The floating IP already has a pending event."),
    ] {
        let (status, body) = bench.raw(method, path, body).await;
        assert_eq!((status, body["message"].as_str()), (422, Some(message)), "{method} {path}");
    }
    assert!(bench.client.droplet(id).await.unwrap().unwrap().locked);
}

#[tokio::test]
async fn actions_can_be_had_by_tag() {
    let bench = Bench::new().await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let path = "/v2/droplets/actions?tag_name=cluster%3Ademo";
    let (status, body) = bench.raw("POST", path, json!({ "type": "power_off" })).await;
    assert_eq!((status, body["actions"].as_array().unwrap().len()), (201, 2));
    bench.until("off", |lab| lab.state().droplets.values().all(|droplet| droplet.power == Power::Off)).await;
    assert_eq!(bench.machines.running(), [(one, false), (two, false)].into());
    assert_eq!(bench.raw("POST", path, json!({ "type": "reboot" })).await.0, 422);
    assert_eq!(bench.raw("DELETE", "/v2/droplets?tag_name=cluster%3Ademo", NOTHING).await.0, 204);
    bench.until("gone", |lab| lab.state().droplets.is_empty()).await;
    assert!(bench.machines.running().is_empty());
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_apis_words() {
    let bench = Bench::new().await;
    bench.client.create_ssh_key("laptop", KEY).await.unwrap();
    let good = json!({ "name": "a", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64" });
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for (path, body, status, message) in [
        (
            "/v2/droplets",
            with("name", json!("a b")),
            422,
            "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)",
        ),
        (
            "/v2/droplets",
            with("size", json!("huge")),
            422,
            "You specified an invalid size for Droplet creation.",
        ),
        (
            "/v2/droplets",
            with("image", json!("ubuntu-18-04-x64")),
            422,
            "You specified an invalid image for Droplet creation.",
        ),
        ("/v2/droplets", with("region", json!("nyc2")), 422, "Region is not available"),
        (
            "/v2/droplets",
            with("ssh_keys", json!(["aa:bb"])),
            422,
            "aa:bb are invalid key identifiers for Droplet creation.",
        ),
        ("/v2/droplets", with("tags", json!(["a.b"])), 422, "tag a.b is invalid"),
        (
            "/v2/droplets",
            with("user_data", json!("x".repeat(65_537))),
            422,
            "User data is too long (maximum is 64 KiB)",
        ),
        (
            "/v2/account/keys",
            json!({ "name": "b", "public_key": KEY }),
            422,
            "SSH Key is already in use on your account",
        ),
        (
            "/v2/reserved_ips",
            json!({ "droplet_id": 7 }),
            404,
            "The resource you requested could not be found.",
        ),
    ] {
        let (seen, body) = bench.raw("POST", path, body).await;
        assert_eq!((seen, body["message"].as_str()), (status, Some(message)), "{path}");
    }
    let (_, body) = bench.raw("POST", "/v2/droplets", with("region", json!("ams3"))).await;
    assert_eq!(body["droplet"]["status"], "new");
    let (status, body) = bench
        .raw(
            "POST",
            "/v2/droplets",
            json!({ "name": "a", "region": "ams3", "size": "so-2vcpu-16gb", "image": "debian-12-x64" }),
        )
        .await;
    assert_eq!((status, &body["error_attributes"]["available_regions"]), (422, &json!(["nyc1", "fra1"])));
    bench.lab.set(|settings| settings.limits.droplets = 1);
    let (status, body) = bench.raw("POST", "/v2/droplets", good.clone()).await;
    assert_eq!(
        (status, body["message"].as_str()),
        (422, Some("creating this/these droplet(s) will exceed your droplet limit"))
    );
    let (status, body) = bench.raw("POST", "/v2/tags", json!({ "name": "a.b" })).await;
    assert_eq!((status, body["error"].is_string()), (400, true));
}

#[tokio::test]
async fn an_image_has_a_slug_and_a_number() {
    let bench = Bench::new().await;
    let (_, by_slug) = bench.raw("GET", "/v2/images/debian-12-x64", NOTHING).await;
    let number = by_slug["image"]["id"].as_u64().unwrap();
    let (status, by_number) = bench.raw("GET", &format!("/v2/images/{number}"), NOTHING).await;
    assert_eq!((status, &by_number["image"]), (200, &by_slug["image"]));
    assert_eq!(bench.raw("GET", "/v2/images/7", NOTHING).await.0, 404);
    for image in [json!(number), json!(number.to_string())] {
        let body = json!({ "name": "a", "region": "fra1", "size": "s-1vcpu-1gb", "image": image });
        let (status, body) = bench.raw("POST", "/v2/droplets", body).await;
        assert_eq!((status, body["droplet"]["image"]["slug"].as_str()), (202, Some("debian-12-x64")));
    }
    let body = json!({ "name": "a", "region": "fra1", "size": "s-1vcpu-1gb", "image": 7 });
    let (status, body) = bench.raw("POST", "/v2/droplets", body).await;
    assert_eq!(
        (status, body["message"].as_str()),
        (422, Some("You specified an invalid image for Droplet creation."))
    );
}

#[tokio::test]
async fn a_region_can_be_left_to_the_api() {
    let bench = Bench::new().await;
    let ask = async |region: Option<&str>, size: &str| {
        let mut body = json!({ "name": "a", "size": size, "image": "debian-12-x64" });
        if let Some(region) = region {
            body["region"] = region.into();
        }
        let (status, body) = bench.raw("POST", "/v2/droplets", body).await;
        (status, body["droplet"]["region"]["slug"].as_str().or(body["message"].as_str()).map(str::to_owned))
    };
    let is = |status, text: &str| (status, Some(text.to_owned()));
    assert_eq!(ask(None, "s-1vcpu-1gb").await, is(202, "nyc1"));
    assert_eq!(ask(Some("sfo"), "s-1vcpu-1gb").await, is(202, "sfo2"));
    assert_eq!(ask(Some("fra"), "so-2vcpu-16gb").await, is(202, "fra1"));
    assert_eq!(ask(Some("sfo"), "so-2vcpu-16gb").await, is(422, "Size is not available in this region."));
    for unknown in ["fra9", "fr", "1"] {
        let refused = is(422, "You specified an invalid region for Droplet creation.");
        assert_eq!(ask(Some(unknown), "s-1vcpu-1gb").await, refused, "{unknown}");
    }
}

#[tokio::test]
async fn a_tag_keeps_the_spelling_that_made_it() {
    let bench = Bench::new().await;
    assert_eq!(bench.raw("POST", "/v2/tags", json!({ "name": "PROD" })).await.0, 201);
    let (_, again) = bench.raw("POST", "/v2/tags", json!({ "name": "prod" })).await;
    assert_eq!(again["tag"]["name"], "PROD");
    let body = json!({ "name": "a", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64",
                       "tags": ["Prod", "web"] });
    let (_, made) = bench.raw("POST", "/v2/droplets", body).await;
    assert_eq!(made["droplet"]["tags"], json!(["PROD", "web"]));
    assert_eq!(bench.lab.state().tags.iter().collect::<Vec<_>>(), ["PROD", "web"]);
    // In a path, only the spelling that made it is known.
    let resources = json!({ "resources": [] });
    assert_eq!(bench.raw("POST", "/v2/tags/prod/resources", resources.clone()).await.0, 404);
    assert_eq!(bench.raw("POST", "/v2/tags/PROD/resources", resources).await.0, 204);
}

#[tokio::test]
async fn what_has_the_wrong_type_is_refused() {
    let bench = Bench::new().await;
    let good = json!({ "name": "a", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64" });
    for (key, value) in [
        ("ssh_keys", json!("aa:bb")),
        ("ssh_keys", json!([true])),
        ("tags", json!("web")),
        ("tags", json!([5])),
        ("region", json!(5)),
        ("user_data", json!(5)),
        ("vpc_uuid", json!(5)),
        ("volumes", json!("none")),
        ("volumes", json!(["nonesuch"])),
    ] {
        let mut body = good.clone();
        body[key] = value.clone();
        let (status, _) = bench.raw("POST", "/v2/droplets", body).await;
        assert_eq!(status, 422, "{key}: {value}");
    }
    for (path, body, want) in [
        ("/v2/droplets", json!({ "names": ["a", 5], "size": "s-1vcpu-1gb", "image": "debian-12-x64" }), 422),
        ("/v2/account/keys", json!({ "name": " ", "public_key": KEY }), 422),
        ("/v2/projects/default/resources", json!({ "resources": "do:droplet:1" }), 422),
        ("/v2/reserved_ips", json!({ "region": "fra1", "project_id": "nonesuch" }), 404),
        ("/v2/droplets/actions", json!({ "type": "power_off" }), 422),
    ] {
        assert_eq!(bench.raw("POST", path, body.clone()).await.0, want, "{path} {body}");
    }
    // What is null is not there.
    let mut body = good;
    (body["tags"], body["vpc_uuid"], body["ssh_keys"]) = (NOTHING, NOTHING, NOTHING);
    assert_eq!(bench.raw("POST", "/v2/droplets", body).await.0, 202);
    assert_eq!((bench.lab.state().droplets.len(), bench.lab.state().addresses.len()), (1, 0));
}

#[tokio::test]
async fn an_answer_can_be_a_strangers_or_break_off() {
    let bench = Bench::new().await;
    let rules = json!([
        { "path": "/v2/account", "fault": "body", "code": 302, "text": "<html>", "count": 1,
          "headers": { "location": "https://login.example/" } },
        { "path": "/v2/account", "fault": "truncate", "count": 1 },
        { "method": "DELETE", "path": "/v2/tags/*", "fault": "truncate", "count": 1 },
    ]);
    assert_eq!(bench.raw("POST", "/lab/faults", rules).await.0, 201);
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    let http = http.unwrap();
    let ask = async || {
        let request = http.get(format!("{}/v2/account", bench.url)).bearer_auth(crate::bench::OPERATOR);
        request.send().await.unwrap()
    };
    let answer = ask().await;
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!((answer.status().as_u16(), header("location")), (302, Some("https://login.example/".into())));
    assert_eq!((header("content-type"), header("x-request-id")), (Some("text/html".into()), None));
    assert_eq!(answer.text().await.unwrap(), "<html>");

    let mut answer = ask().await;
    let announced = answer.content_length().unwrap();
    let begun = answer.chunk().await.unwrap().unwrap();
    assert_eq!(begun.len() as u64, announced / 2);
    assert!(answer.chunk().await.is_err());

    // It is carried out all the same, and so is what has no body to break off in.
    bench.client.create_tag("a").await.unwrap();
    bench.client.clone().with_policy(crate::bench::brittle()).delete_tag("a").await.unwrap_err();
    assert!(bench.lab.state().tags.is_empty());
    assert!(bench.lab.journal().last().unwrap().lost);
}

#[tokio::test]
async fn a_creation_can_be_accepted_and_come_to_nothing() {
    let bench = Bench::new().await;
    let rules = json!({ "method": "POST", "path": "/v2/droplets", "fault": "fail_create", "count": 1 });
    assert_eq!(bench.raw("POST", "/lab/faults", rules).await.0, 201);
    let body =
        json!({ "names": ["a", "b"], "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64" });
    let (status, body) = bench.raw("POST", "/v2/droplets", body).await;
    assert_eq!((status, &body["droplets"][1]["status"]), (202, &json!("new")));
    for droplet in body["droplets"].as_array().unwrap() {
        let id = droplet["id"].as_u64().unwrap();
        bench.until("failed", |lab| lab.state().creation_failed(id).is_some()).await;
        let (_, actions) = bench.raw("GET", &format!("/v2/droplets/{id}/actions"), NOTHING).await;
        assert_eq!(actions["actions"][0]["status"], "errored");
    }
    assert!(bench.machines.running().is_empty());
    bench.ready("pg1").await;
}

#[tokio::test]
async fn several_droplets_can_be_asked_for_at_once() {
    let bench = Bench::new().await;
    let body =
        json!({ "names": ["a", "b"], "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-12-x64" });
    let (status, body) = bench.raw("POST", "/v2/droplets", body).await;
    assert_eq!((status, body["droplets"].as_array().unwrap().len()), (202, 2));
    assert_eq!(body["links"]["actions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_lab_goes_on_where_it_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.save_to = Some(directory.path().join("state.json"));
    config.settings.times.assign = 60_000;
    let machines = FakeMachines::default();
    let bench = Bench::with(config.clone(), machines.clone()).await;
    let (one, two) = (bench.ready("pg1").await.id, bench.ready("pg2").await.id);
    let ip = bench.client.create_reserved_ip(one).await.unwrap().ip;
    machines.take(millis(100));
    let third = bench.client.create_droplet(&spec("pg3")).await.unwrap().id;
    let before = bench.lab.state();
    drop(bench);
    machines.crash(two);

    // A create is under way, an assignment waits for its time, and a machine has died unseen.
    config.settings.times.create = 0;
    let bench = Bench::with(config, machines.clone()).await;
    assert_eq!(bench.lab.state().last_action, before.last_action);
    bench.client.wait_droplet_ready(third, pace()).await.unwrap();
    bench.until("the dead machine is seen", |lab| lab.state().droplets[&two].power == Power::Off).await;
    assert_eq!(machines.running(), [(one, true), (two, false), (third, true)].into());
    let waiting =
        bench.lab.state().actions.values().filter(|action| action.status == Status::InProgress).count();
    assert_eq!((waiting, bench.lab.state().addresses[&ip].holder), (1, None));
    let new = bench.client.create_droplet(&spec("pg4")).await.unwrap().id;
    assert!(new > third);
    bench.stop().await;
}

#[tokio::test]
async fn routes_are_set_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.save_to = Some(directory.path().join("state.json"));
    let bench = Bench::with(config.clone(), FakeMachines::default()).await;
    let id = bench.ready("pg1").await.id;
    let ip = bench.client.create_reserved_ip(id).await.unwrap().ip;
    bench.client.assign(ip, id, pace()).await.unwrap();
    bench.stop().await;
    let bench = Bench::with(config, FakeMachines::default()).await;
    bench.until("routed", |_| !bench.machines.routes().is_empty()).await;
    assert!(bench.machines.routes().contains_key(&ip));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    std::fs::write(&path, "{").unwrap();
    let mut config = config();
    config.save_to = Some(path);
    let error = cluster_lab::api::Lab::open(config, FakeMachines::default()).err().unwrap();
    assert!(error.to_string().contains("understand the lab's state"), "{error}");
}

#[tokio::test]
async fn a_stop_finishes_the_work_that_has_begun() {
    let bench = Bench::new().await;
    bench.machines.take(millis(100));
    bench.client.create_droplet(&spec("pg1")).await.unwrap();
    tokio::time::sleep(millis(20)).await;
    let machines = bench.machines.clone();
    assert!(machines.running().is_empty());
    bench.stop().await;
    assert_eq!(machines.running().len(), 1);
}

#[tokio::test]
async fn labs_stand_side_by_side() {
    let mut second = config();
    second.layout = Layout::new(98, 16);
    let (one, two) = (Bench::new().await, Bench::with(second, FakeMachines::default()).await);
    let (here, there) = (one.ready("pg1").await, two.ready("pg1").await);
    assert_eq!(here.public_ipv4(), Some(Ipv4Addr::new(10, 99, 0, 10)));
    assert_eq!(there.public_ipv4(), Some(Ipv4Addr::new(10, 98, 16, 10)));
    assert_eq!(there.private_ipv4(), Some(Ipv4Addr::new(10, 98, 17, 10)));
    let (first, other) =
        (one.client.create_reserved_ip(here.id).await, two.client.create_reserved_ip(there.id).await);
    assert_eq!(first.unwrap().ip, Ipv4Addr::new(10, 99, 3, 10));
    assert_eq!(other.unwrap().ip, Ipv4Addr::new(10, 98, 19, 10));
    one.client.destroy_droplets(&[here.id], pace()).await.unwrap();
    assert!(two.client.droplet(there.id).await.unwrap().is_some());
}

#[tokio::test]
async fn one_lab_can_listen_at_several_places() {
    use cluster_lab::api::{Lab, serve};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let urls = [&first, &second].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let lab = Lab::open(config(), FakeMachines::default()).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(lab, vec![first, second], stop.clone()));
    for url in &urls {
        crate::bench::client(url, crate::bench::OPERATOR).account().await.unwrap();
    }
    stop.cancel();
    server.await.unwrap().unwrap();
    for url in &urls {
        assert!(crate::bench::client(url, crate::bench::OPERATOR).account().await.is_err());
    }
}

#[tokio::test]
async fn a_lab_is_set_and_watched_over_http() {
    let bench = Bench::new().await;
    let (status, body) = bench.raw("PUT", "/lab/settings", json!({ "times": { "assign": 7 } })).await;
    assert_eq!((status, &body["settings"]["times"]["assign"]), (200, &json!(7)));
    assert_eq!(body["settings"]["times"]["create"], 30, "the rest stays");
    assert_eq!(bench.raw("PUT", "/lab/settings", json!({ "tmes": {} })).await.0, 422);

    let rules = json!([
        { "method": "POST", "path": "/v2/droplets", "fault": "lose_reply", "count": 1 },
        { "path": "/v2/reserved_ips*", "fault": "rate_limit", "retry_after": 1, "after": 2 },
    ]);
    assert_eq!(bench.raw("POST", "/lab/faults", rules).await.0, 201);
    assert_eq!(bench.raw("POST", "/lab/faults", json!({ "path": "/", "fault": "explode" })).await.0, 422);
    let (_, faults) = bench.raw("GET", "/lab/faults", NOTHING).await;
    assert_eq!(faults["rules"].as_array().unwrap().len(), 2);

    let made = bench.client.ensure_droplet(&spec("pg1"), pace()).await.unwrap();
    let (_, journal) = bench.raw("GET", "/lab/requests", NOTHING).await;
    let entry = &journal["requests"][0];
    assert_eq!((entry["path"].as_str(), entry["status"].as_u64()), (Some("/v2/droplets"), Some(202)));
    assert_eq!((entry["lost"].as_bool(), entry["token"].as_str()), (Some(true), Some("operator")));

    assert_eq!(bench.raw("DELETE", "/lab/faults", NOTHING).await.0, 204);
    bench.raw("PUT", "/lab/away", json!({ "away": true })).await;
    assert!(bench.client.account().await.is_err());
    bench.raw("PUT", "/lab/away", json!({ "away": false })).await;
    assert!(bench.client.account().await.is_ok());

    let (_, metadata) = bench.raw("GET", &format!("/lab/metadata/{}", made.value.id), NOTHING).await;
    assert_eq!(metadata["hostname"], "pg1");
    assert_eq!(metadata["interfaces"]["public"][0]["anchor_ipv4"]["ip_address"], "10.99.2.10");
}

#[tokio::test]
async fn user_data_is_not_shown_in_the_labs_state() {
    let bench = Bench::new().await;
    let mut spec = spec("pg1");
    spec.user_data = Some("#cloud-config with a key".into());
    bench.client.create_droplet(&spec).await.unwrap();
    let (_, state) = bench.raw("GET", "/lab/state", NOTHING).await;
    assert!(!state.to_string().contains("cloud-config"));
    let state = bench.lab.state();
    let kept = state.droplets.values().next().unwrap();
    assert_eq!(kept.spec.user_data.as_deref(), Some("#cloud-config with a key"));
}
