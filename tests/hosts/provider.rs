//! When the provider's part of the world is not as this program left it: the API is away, a tag is gone, a droplet was
//! never made.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::demo;
use super::support::{Lab, PREPARED, Run, look_again};

/// How a run ended, and that it said all of `wanted`. Where it only looks, a host that is late is looked at again.
#[track_caller]
fn says(lab: &Lab, words: &[&str], code: i32, wanted: &[&str]) -> Run {
    let is_as_wanted = |run: &Run| run.code == code && wanted.iter().all(|what| run.says(what));
    let looks = ["status", "plan", "explain"].contains(&words[0]);
    let run = if looks { lab.look_for(words, is_as_wanted) } else { lab.cluster(words) };
    println!("$ cluster {}  # {}\n{}{}", words.join(" "), run.code, run.stdout, run.stderr);
    assert_eq!(run.code, code, "{words:?}");
    for what in wanted {
        assert!(run.says(what), "`cluster {}` does not say `{what}`", words.join(" "));
    }
    run
}

fn set_tag(lab: &Lab, method: &str, droplet: u64) {
    let resources =
        json!({ "resources": [{ "resource_id": droplet.to_string(), "resource_type": "droplet" }] });
    lab.request(method, "/v2/tags/cluster:demo/resources", Some(&resources));
}

#[test]
#[ignore = "needs root and a lab"]
fn what_needs_ssh_alone_works_without_the_api_and_nothing_is_made_twice_or_forgotten() {
    let lab = Lab::start(36, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, &demo(15));
    let file = inventory.as_str();
    lab.cluster(&["up", "-i", file]).ok();
    lab.wait_for_status(file, 60, |status| status["healthy"] == true);
    let known_hosts =
        || std::fs::read_to_string(lab.directory.path().join("state/demo/known_hosts")).unwrap();
    let pinned = known_hosts();

    // The API is away: the hosts are where they were.
    lab.control("PUT", "away", Some(&json!({ "away": true })));
    let away = "the provider's API does not answer (http://127.0.0.1:";
    // The guards miss the API too, and may have said so already.
    let status = lab.look_for(&["status", "-i", file], |run| run.says("primary pg1"));
    assert!([0, 4].contains(&status.code), "{status:?}");
    assert!(
        status.stderr.contains(away) && status.stderr.contains("showing its state from memory of 20"),
        "{status:?}"
    );
    assert!(status.stdout.contains("primary pg1"), "{status:?}");
    let status = lab.status(file);
    assert!(status["provider"].as_str().is_some_and(|text| text.starts_with(away)), "{status}");
    assert_eq!((&status["primary"], &status["floating_ip"]["node"]), (&json!("pg1"), &json!("pg1")));
    says(&lab, &["pause", "-i", file], 0, &[away]);
    says(&lab, &["resume", "-i", file], 0, &[away]);
    says(&lab, &["switchover", "-i", file, "pg2"], 0, &[away, "pg2 takes writes"]);
    says(&lab, &["explain", "-i", file], 0, &["pg1 to pg2"]);
    says(&lab, &["connect", "-i", file], 0, &[away]);
    says(&lab, &["ssh", "-i", file, "pg3", "--", "hostname"], 0, &["pg3"]);
    says(&lab, &["logs", "-i", file, "pg2", "--since", "-10min"], 0, &["pg2 ", "cluster-node"]);
    says(&lab, &["down", "-i", file, "--yes"], 1, &["hint: "]);
    lab.control("PUT", "away", Some(&json!({ "away": false })));
    lab.wait_for_status(file, 60, |status| status["healthy"] == true);

    // A list that lacks a droplet once: no other is made, and its pinned key stays.
    let listed = lab.request("GET", "/v2/droplets?tag_name=cluster:demo", None);
    let droplets = listed["droplets"].as_array().unwrap();
    let id =
        |name: &str| droplets.iter().find(|it| it["name"] == name).and_then(|it| it["id"].as_u64()).unwrap();
    let short: Vec<&Value> = droplets.iter().filter(|it| it["name"] != "pg2").collect();
    lab.fault(&json!({
        "method": "GET", "path": "/v2/droplets", "fault": "status", "code": 200, "count": 1,
        "body": { "droplets": short, "links": {}, "meta": { "total": 2 } },
    }));
    lab.nothing_to_do(file);
    assert_eq!(known_hosts(), pinned);

    // One host lets us in and then hangs, as with a dead disk, and one runs nothing for us: the third is told of all the
    // same, and soon.
    let disk = |name: &str| format!("/var/lib/cluster-lab/{}/droplets/{}/root", lab.name, id(name));
    let (timeout, profile) =
        (format!("{}/usr/bin/timeout", disk("pg1")), format!("{}/root/.bashrc", disk("pg3")));
    let greeting = std::fs::read(&profile).unwrap_or_default();
    std::fs::rename(&timeout, format!("{timeout}.away")).unwrap();
    std::fs::write(&timeout, "#!/bin/sh\nexec sleep 300\n").unwrap();
    std::fs::set_permissions(&timeout, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&profile, "echo This account is currently not available. >&2; exit 1\n").unwrap();
    let took = Cell::new(Duration::ZERO);
    let look = || {
        let begun = Instant::now();
        let run = lab.cluster(&["status", "-i", file]);
        took.set(begun.elapsed());
        run
    };
    let wanted = ["no answer within 8 s", "This account is currently not available.", "primary pg2"];
    let status = look_again(look, |run| wanted.iter().all(|what| run.says(what)));
    assert_eq!(status.code, 4, "{status:?}");
    assert!(wanted.iter().all(|what| status.says(what)), "{status:?}");
    assert!(took.get() < Duration::from_secs(40), "{took:?}");
    std::fs::write(&profile, greeting).unwrap();
    std::fs::rename(format!("{timeout}.away"), &timeout).unwrap();
    lab.wait_for_status(file, 60, |status| status["healthy"] == true);

    // A droplet that has lost its tag: named, not made again, and neither forgotten by `down`.
    set_tag(&lab, "DELETE", id("pg1"));
    let lost = format!("its droplet {} has lost the tag cluster:demo", id("pg1"));
    says(&lab, &["status", "-i", file], 4, &[&lost, "primary pg2"]);
    says(&lab, &["up", "-i", file], 3, &[&lost, "hint: give it the tag cluster:demo again"]);
    let all = lab.request("GET", "/v2/droplets", None);
    assert_eq!(all["droplets"].as_array().unwrap().len(), 3);
    lab.request("DELETE", "/v2/tags/cluster:demo", None);
    let gone = ["untagged; created from this machine", "the provider lists nothing that belongs to it"];
    says(&lab, &["down", "-i", file, "--yes"], 0, &gone);
    let all = lab.request("GET", "/v2/droplets", None);
    assert_eq!((all["droplets"].as_array().unwrap().len(), lab.count()), (0, (0, 0)));
    says(&lab, &["down", "-i", file, "--yes"], 0, &["the provider lists nothing that belongs to it"]);
    lab.stop();
}
