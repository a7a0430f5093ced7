//! The whole way on real hosts. Every test makes a lab, which needs root: they are ignored unless asked for
//! (`make test-hosts`), and in CI they are.

#[path = "hosts/ansible.rs"]
mod ansible;
#[path = "hosts/backups.rs"]
mod backups;
#[path = "hosts/commands/mod.rs"]
mod commands;
#[path = "hosts/connections.rs"]
mod connections;
#[path = "hosts/drill.rs"]
mod drill;
#[path = "hosts/fit.rs"]
mod fit;
#[path = "hosts/members.rs"]
mod members;
#[path = "hosts/operators.rs"]
mod operators;
#[path = "hosts/pgdg.rs"]
mod pgdg;
#[path = "hosts/postgresql.rs"]
mod postgresql;
#[path = "hosts/proofs.rs"]
mod proofs;
#[path = "hosts/provider.rs"]
mod provider;
#[path = "hosts/replace.rs"]
mod replace;
#[path = "hosts/restores.rs"]
mod restores;
#[path = "hosts/room.rs"]
mod room;
#[path = "hosts/settings.rs"]
mod settings;
#[path = "hosts/shapes.rs"]
mod shapes;
#[path = "hosts/sizes.rs"]
mod sizes;
#[allow(dead_code, unused_imports, reason = "the tests of the lab use more of it")]
mod support;
#[path = "hosts/trust.rs"]
mod trust;
#[path = "hosts/versions.rs"]
mod versions;
#[path = "hosts/writer.rs"]
mod writer;

use std::time::{Duration, Instant};

use cluster::check;
use cluster_cloud::droplet::Power;
use serde_json::{Value, json};
use support::{Lab, block_on};

const NODES: &str = "nodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: witness}
";

fn demo(version: u32) -> String {
    format!("postgresql:\n  version: {version}\nusers:\n  - name: app\ndatabases:\n  - name: app\n{NODES}")
}

/// Everything of a node that a run with nothing to do must leave as it is.
fn fingerprint(lab: &Lab) -> Vec<String> {
    ["pg1", "pg2", "pg3"]
        .iter()
        .map(|node| {
            lab.ssh(
                node,
                "cd /; stat -c '%n %.Y %a %U' /etc/postgresql/*/main/* /etc/postgresql/*/main/conf.d/* /etc/repmgr.conf \
                 /etc/cluster/* /var/lib/postgresql/.pgpass /usr/local/bin/cluster-node /etc/systemd/system/*.service; \
                 systemctl show -p MainPID,ActiveEnterTimestampMonotonic repmgrd cluster-node; \
                 runuser -u postgres -- psql -XAtqw -d repmgr -c 'select pg_postmaster_start_time()' \
                 -c 'select * from repmgr.nodes order by 1'",
            )
        })
        .collect()
}

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap()
}

/// Kills PostgreSQL on `old`, the primary, until `new` is primary. The standby has all of the WAL just before; but it may lack
/// what comes last, or its guard may stand still on a busy machine, and then the old primary rightly comes back by itself.
#[track_caller]
fn killed_until_another_is_primary(lab: &Lab, inventory: &str, version: u32, old: &str, new: &str) {
    let has_all = "select count(*) from pg_stat_replication where flush_lsn >= pg_current_wal_flush_lsn()";
    let started = "select pg_postmaster_start_time()";
    // None while it does not run.
    let ask = |sql: &str| {
        let psql = format!("cd /; runuser -u postgres -- psql -XAtqw -d postgres -c '{sql}'");
        Some(lab.run_on(old, &psql).stdout.trim().to_owned()).filter(|answer| !answer.is_empty())
    };
    for _ in 0..3 {
        let before = lab.sql(old, "postgres", started);
        proofs::until(120, "the standby to have all of the WAL", || ask(has_all).as_deref() == Some("1"));
        lab.ssh(old, &format!("systemctl kill -s KILL postgresql@{version}-main"));
        let is_back =
            |status: &Value| status["primary"] == old && ask(started).is_some_and(|since| since != before);
        let (status, _) =
            lab.wait_for_status(inventory, 60, |status| status["primary"] == new || is_back(status));
        if status["primary"] == new {
            return;
        }
        println!("{old} came back by itself, and is killed again");
    }
    panic!("{old} came back by itself three times");
}

/// `cluster user` and `cluster db`: each does what it says, twice if it is run twice, and a new password takes the place
/// of the old one.
fn roles_and_databases_come_and_go(lab: &Lab, inventory: &str) {
    let says = |words: &[&str], what: &str| {
        let run = lab.cluster(&[words, &["-i", inventory]].concat()).ok();
        assert!(run.stdout.contains(what), "{words:?}: {run:?}");
    };
    let verifier = || lab.sql("pg1", "postgres", "select rolpassword from pg_authid where rolname = 'shop'");
    let login = |password: &str, wanted: bool| {
        let output = std::process::Command::new("psql")
            .args(["-XAtqw", "-h", &lab.floating_ip().to_string(), "-U", "shop", "-d", "shop"])
            .args(["-c", "select current_user"])
            .envs([("PGPASSWORD", password), ("PGSSLMODE", "require")])
            .output()
            .unwrap();
        assert_eq!(output.stdout.starts_with(b"shop"), wanted, "{output:?}");
    };
    let password = || {
        let secrets = std::fs::read_to_string(lab.directory.path().join("state/demo/secrets.json")).unwrap();
        let secrets: Value = serde_json::from_str(&secrets).unwrap();
        secrets["passwords"]["user:shop"].as_str().unwrap().to_owned()
    };
    says(&["user", "create", "shop"], "shop: created");
    says(&["db", "create", "shop", "--owner", "shop"], "shop: created, owned by shop");
    says(&["db", "create", "shop", "--owner", "shop"], "shop: already exists");
    says(&["db", "list"], "shop: owned by shop");
    says(&["user", "list"], "shop");
    let (old, old_verifier) = (password(), verifier());
    login(&old, true);
    says(&["user", "password", "shop"], "shop: ");
    assert_ne!(verifier(), old_verifier);
    login(&old, false);
    login(&password(), true);
    let owner = lab.cluster(&["user", "drop", "shop", "-i", inventory]);
    assert_eq!(owner.code, 3, "it owns a database: {owner:?}");
    says(&["db", "drop", "shop", "--yes"], "shop: dropped");
    says(&["db", "drop", "shop", "--yes"], "shop: no such database");
    says(&["user", "drop", "shop"], "shop: dropped");
}

/// It takes over with settings of its own: Debian keeps them beside the data, where no clone brings them.
fn the_standby_is_set_as_the_primary_is(lab: &Lab) {
    let settings = "select name || ' = ' || setting || ' in ' || regexp_replace(coalesce(sourcefile, ''), '^.*/', '') \
                    from pg_settings where source = 'configuration file' \
                    and name not in ('cluster_name', 'primary_conninfo', 'primary_slot_name') order by name";
    let of = |node| lab.sql(node, "postgres", settings);
    let primary = of("pg1");
    assert!(primary.contains("TimeZone = ") && primary.contains("lc_messages = C.UTF-8"), "{primary}");
    assert_eq!(of("pg2"), primary);
}

#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_is_made_kept_lost_and_found_again() {
    let lab = Lab::start(1, "debian-12-x64");
    let inventory = lab.inventory("demo.yaml", "debian-12-x64", &demo(15));
    let floating = || lab.floating_ip().to_string();
    let up = || lab.cluster(&["up", "-i", &inventory]);

    // From nothing to three hosts; a write through the floating IP, a read on the standby.
    up().ok();
    let (status, _) = lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    assert_eq!(status["primary"], "pg1");
    let leads = json!({"address": floating(), "node": "pg1", "known": true});
    assert_eq!(status["floating_ip"], leads);
    assert_eq!(node(&status, "pg2")["state"], "streaming");
    assert_eq!(node(&status, "pg3")["role"], "witness");
    assert_eq!(lab.count(), (3, 1));
    let write = |seconds| {
        block_on(check::write_through(&floating(), 5432, &lab.check_password(), Duration::from_secs(seconds)))
            .unwrap()
    };
    assert_eq!(write(5).node, "pg1");
    lab.sql("pg1", "app", "create table t as select 42 as answer");
    lab.wait_for_status(&inventory, 60, |status| node(status, "pg2")["lag_bytes"] == 0);
    assert_eq!(lab.sql("pg2", "app", "select answer from t"), "42");
    for node in ["pg1", "pg2", "pg3"] {
        assert_eq!(
            lab.sql(node, "postgres", "select count(*) from pg_hba_file_rules where auth_method = 'trust'"),
            "0"
        );
    }

    the_standby_is_set_as_the_primary_is(&lab);

    // Again: nothing to do, nothing touched.
    let before = fingerprint(&lab);
    let again = up().ok();
    assert!(again.last_line().contains("nothing to do"), "{}", again.stderr);
    assert_eq!(fingerprint(&lab), before);

    roles_and_databases_come_and_go(&lab, &inventory);

    // A setting that a reload brings, and one that needs a restart.
    let changed = demo(15)
        .replace("  version: 15\n", "  version: 15\n  settings: {work_mem: 8MB, max_connections: 120}\n");
    lab.inventory("demo.yaml", "debian-12-x64", &changed);
    let run = up().ok();
    assert!(run.stderr.contains("restart PostgreSQL for max_connections"), "{}", run.stderr);
    for node in ["pg1", "pg2"] {
        assert_eq!(lab.sql(node, "postgres", "show work_mem"), "8MB");
        assert_eq!(lab.sql(node, "postgres", "show max_connections"), "120");
    }
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
    assert_eq!(status["primary"], "pg1", "a restart is no failover");
    lab.inventory("demo.yaml", "debian-12-x64", &demo(15));
    up().ok();
    assert_eq!(lab.sql("pg1", "postgres", "show max_connections"), "100");
    assert_eq!(lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true).0["primary"], "pg1");

    // The same hosts by address, with no API at all: converged.
    let existing = existing_inventory(&lab, &inventory);
    let found = lab.cluster(&["up", "-i", &existing]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    assert!(found.last_line().contains("nothing to do"), "{}", found.stderr);
    // And back: the state of both is this machine's.
    assert!(up().ok().last_line().contains("nothing to do"));

    // The plug is pulled: the other node takes over, and the address follows.
    let cut = Instant::now();
    lab.power("pg1", Power::Off);
    lab.wait_for_status(&inventory, 60, |status| {
        status["primary"] == "pg2" && status["floating_ip"]["node"] == "pg2"
    });
    println!("power off to pg2 with the address: {:.1} s", cut.elapsed().as_secs_f64());
    assert_eq!(write(30).node, "pg2");
    assert_eq!(lab.sql("pg2", "app", "select answer from t"), "42");

    // The old primary comes back, and is never a second one.
    lab.power("pg1", Power::On);
    let back = Instant::now();
    while back.elapsed() < Duration::from_secs(25) {
        let status = lab.status(&inventory);
        assert_eq!(status["primary"], "pg2", "{status:#}");
        assert_ne!(node(&status, "pg1")["role"], "primary", "{status:#}");
        std::thread::sleep(Duration::from_millis(500));
    }
    // It is a standby again by itself, and `up` leaves the roles as they are.
    lab.wait_for_status(&inventory, 60, |status| node(status, "pg1")["state"] == "streaming");
    println!("power on to streaming: at most {:.1} s", back.elapsed().as_secs_f64());
    up().ok();
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
    assert_eq!(status["primary"], "pg2", "up never demotes");

    // Down: exactly what was made, and the provider says so.
    let refused = lab.cluster(&["down", "-i", &inventory]);
    assert_eq!(refused.code, 3, "nobody to ask: {}", refused.stderr);
    assert_eq!(lab.count(), (3, 1));
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    assert_eq!(lab.count(), (0, 0));
    lab.stop();
}

/// An inventory of the same hosts, by address.
fn existing_inventory(lab: &Lab, inventory: &str) -> String {
    let status = lab.status(inventory);
    let state = lab.directory.path().join("state/demo");
    let known = std::fs::read_to_string(state.join("known_hosts")).unwrap();
    let config: Value = serde_json::from_str(&lab.ssh("pg1", "cat /etc/cluster/node.json")).unwrap();
    let mut nodes = String::new();
    for member in config["nodes"].as_array().unwrap() {
        let name = member["name"].as_str().unwrap();
        let key = known.lines().find_map(|line| line.strip_prefix(&format!("demo-{name} "))).unwrap();
        nodes.push_str(&format!(
            "  - {{name: {name}, id: {}, role: {}, address: {}, connection_host: {}, host_key: {key}, droplet_id: {}}}\n",
            member["id"],
            node(&status, name)["inventory_role"].as_str().unwrap(),
            node(&status, name)["address"].as_str().unwrap(),
            member["host"].as_str().unwrap(),
            member["droplet_id"],
        ));
    }
    let text = std::fs::read_to_string(inventory).unwrap();
    let line = |key: &str| text.lines().find(|line| line.trim().starts_with(key)).unwrap().trim().to_owned();
    lab.write(
        "existing.yaml",
        &format!(
            "cluster: demo\nprovider:\n  existing:\n    ssh_key: {}\n    floating_ip:\n      address: {}\n      {}\n      {}\n\
             postgresql:\n  version: 15\nusers:\n  - name: app\ndatabases:\n  - name: app\nnodes:\n{nodes}",
            state.join("id_ed25519").display(),
            status["floating_ip"]["address"].as_str().unwrap(),
            line("api_url"),
            line("failover_token_file"),
        ),
    )
}

/// Which of the ten moments are tried: all, or those that `CLUSTER_TEST_MOMENTS` names (`3,7`).
fn moments(all: std::ops::RangeInclusive<u32>) -> Vec<u32> {
    match std::env::var("CLUSTER_TEST_MOMENTS") {
        Ok(list) => list.split(',').map(|moment| moment.trim().parse().unwrap()).collect(),
        Err(_) => all.collect(),
    }
}

#[test]
#[ignore = "needs root and a lab"]
fn a_run_that_was_killed_is_finished_by_the_next() {
    let lab = Lab::start(4, "debian-12-x64");
    let inventory = lab.inventory("demo.yaml", "debian-12-x64", &demo(15));
    let up = ["up", "-i", &inventory];
    let down = ["down", "-i", &inventory, "--yes"];
    let begun = Instant::now();
    lab.cluster(&up).ok();
    let mut whole = begun.elapsed();
    lab.cluster(&down).ok();
    for moment in moments(1..=10) {
        // On a machine that had more to do a moment ago, the measure is too long: the run that was not killed is a new
        // one, and the moment is tried again.
        let (limit, tries) = (1..=4)
            .find_map(|tries| {
                let (begun, limit) = (Instant::now(), whole.mul_f64(f64::from(moment) / 11.0));
                if lab.cluster_killed_after(&up, limit) {
                    return Some((limit, tries));
                }
                whole = begun.elapsed();
                lab.cluster(&down).ok();
                None
            })
            .expect("a run is killed before it ends");
        let before = lab.count();
        lab.cluster(&up).ok();
        assert_eq!(lab.count(), (3, 1), "killed after {limit:?}");
        let (status, _) = lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
        assert_eq!(status["primary"], "pg1");
        assert!(lab.cluster(&up).ok().last_line().contains("nothing to do"));
        println!(
            "moment {moment} of 10 (killed after {:.1} s of {:.1} s, try {tries}): {before:?} before, three droplets and one address after",
            limit.as_secs_f64(),
            whole.as_secs_f64()
        );
        lab.cluster(&down).ok();
        assert_eq!(lab.count(), (0, 0));
    }
    lab.stop();
}

#[test]
#[ignore = "needs root and a lab"]
fn a_lost_answer_to_any_post_makes_no_second_thing() {
    let lab = Lab::start(5, "debian-12-x64");
    let inventory = lab.inventory("demo.yaml", "debian-12-x64", &demo(15));
    let up = ["up", "-i", &inventory];
    // The provider has done its part by then. A host may have gone on with what the killed run began there, and have its
    // packages before the others.
    let at_the_hosts = |line: &str| ["== packages", "== set up"].contains(&line);
    let killed_at_the_hosts = || lab.cluster_killed_when(&up, at_the_hosts, Duration::ZERO);
    for number in 0.. {
        lab.clear_faults();
        lab.forget_requests();
        lab.fault(
            &json!({"method": "POST", "path": "/v2/*", "fault": "lose_reply", "after": number, "count": 1}),
        );
        // The hosts' part is the other test's. The lost answer may end the run before it.
        let _ = killed_at_the_hosts();
        let lost = lab.lost_requests();
        lab.clear_faults();
        assert!(killed_at_the_hosts(), "the run gets to the hosts");
        assert_eq!(lab.count(), (3, 1), "after {lost:?} was lost");
        println!("POST {number}: {lost:?}");
        if lost.is_empty() {
            break;
        }
        if number == 2 {
            lab.cluster(&up).ok();
            assert!(lab.cluster(&up).ok().last_line().contains("nothing to do"));
        }
        lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
        assert_eq!(lab.count(), (0, 0));
        assert!(number < 20, "there are not that many POSTs");
    }
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}

#[test]
#[ignore = "needs root and a lab"]
fn bare_hosts_are_converged_without_an_api_and_what_stands_in_the_way_is_named() {
    let lab = Lab::start(6, "debian-12-x64");
    let hosts = lab.bare_hosts(["pg1", "pg2", "pg3"]);
    let roles = ["primary", "standby", "witness"];
    let text = |edit: &dyn Fn(usize, &mut support::BareHost)| {
        let mut text = format!(
            "cluster: demo\nprovider:\n  existing:\n    ssh_key: {}\npostgresql:\n  version: 15\nusers:\n  - name: app\nnodes:\n",
            lab.directory.path().join("key").display()
        );
        for (index, host) in hosts.iter().enumerate() {
            let mut host = host.clone();
            edit(index, &mut host);
            text.push_str(&format!(
                "  - {{name: {}, id: {}, role: {}, address: {}, connection_host: {}, host_key: {}}}\n",
                host.name,
                index + 1,
                roles[index],
                host.address,
                host.private,
                host.key
            ));
        }
        text
    };
    let inventory = lab.write("demo.yaml", &text(&|_, _| ()));
    // What `up` prints and its exit code, for an inventory or for hosts that something is wrong with.
    let refused = |file: &str, code: i32, wanted: &[&str]| {
        let run = lab.cluster(&["up", "-i", file]);
        let error = run.stderr.find("error: ").map_or("", |at| &run.stderr[at..]);
        println!("exit {}: {error}", run.code);
        assert_eq!(run.code, code, "{}", run.stderr);
        for words in wanted {
            assert!(error.contains(words), "`{words}` is not in: {}", run.stderr);
        }
        assert!(error.contains("hint: "), "{}", run.stderr);
    };

    let wrong_key = lab.write(
        "key.yaml",
        &text(&|index, host| {
            if index == 0 {
                host.key = hosts[1].key.clone();
            }
        }),
    );
    refused(&wrong_key, 3, &["pg1", "another key than the pinned one"]);
    // Nobody is there, and nobody ever was.
    let silent = hosts[1].address.rsplit_once('.').unwrap().0.to_owned() + ".250";
    let unreachable = lab.write(
        "silent.yaml",
        &text(&|index, host| {
            if index == 1 {
                host.address.clone_from(&silent);
            }
        }),
    );
    refused(&unreachable, 3, &["pg2 may hold data of this cluster, but is unreachable"]);

    // Somebody else's database.
    lab.bare_ssh(
        &hosts[0],
        "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install postgresql-15",
    );
    lab.bare_ssh(&hosts[0], "cd / && runuser -u postgres -- psql -c 'create database billing'");
    let control = "/usr/lib/postgresql/15/bin/pg_controldata /var/lib/postgresql/15/main";
    let identifier =
        lab.bare_ssh(&hosts[0], &format!("{control} | sed -n 's/^Database system identifier: *//p'"));
    refused(&inventory, 3, &["pg1", &identifier, "billing", "is left alone"]);
    let count = "cd / && runuser -u postgres -- psql -XAtc 'select count(*) from pg_database'";
    assert_eq!(lab.bare_ssh(&hosts[0], count), "4");
    // Whoever clears away after that refusal stops nobody's server.
    let down = lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    assert!(down.stderr.contains("billing; left alone"), "{down:?}");
    assert!(down.stderr.contains("pg2: it holds nothing of cluster `demo`; left alone"), "{down:?}");
    assert_eq!(lab.bare_ssh(&hosts[0], count), "4");
    lab.bare_ssh(&hosts[0], "pg_dropcluster --stop 15 main");

    // apt cannot fetch, on one host of three.
    let broken = "/etc/apt/sources.list.d/broken.list";
    lab.bare_ssh(&hosts[1], &format!("echo 'deb http://127.0.0.1:9/ bookworm main' >{broken}"));
    refused(&inventory, 1, &["pg2: cannot update the apt package lists", "127.0.0.1:9", "apt sources"]);
    lab.bare_ssh(&hosts[1], &format!("rm {broken}"));

    // A disk that is full. The others have gone on meanwhile: pg1 had its packages.
    let place = "/var/lib/postgresql/15";
    lab.bare_ssh(&hosts[1], &format!("mkdir -p {place} && mount -t tmpfs -o size=4m tmpfs {place}"));
    refused(
        &inventory,
        1,
        &["pg2: cannot create a new data directory", "No space left on device", "free some space"],
    );
    lab.bare_ssh(&hosts[1], &format!("umount {place}"));

    // Nothing stands in the way any more: the next run finishes all of it, and no API was asked for anything.
    let asked = lab.requests();
    lab.cluster(&["up", "-i", &inventory]).ok();
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
    assert_eq!(status["primary"], "pg1");
    assert!(lab.cluster(&["up", "-i", &inventory]).ok().last_line().contains("nothing to do"));
    assert_eq!(lab.requests(), asked);

    // Down stops and disables; the data stays, and `up` brings it back. It can be run on any half: on what is stopped,
    // and where an `up` that was cut off has left PostgreSQL without a guard.
    lab.sql("pg1", "postgres", "create table kept as select 7 as seven");
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.bare_ssh(&hosts[2], "systemctl start postgresql@15-main");
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    for host in &hosts {
        let look = "systemctl is-active postgresql@15-main repmgrd cluster-node || :; ls -d /var/lib/postgresql/15/main";
        let state = lab.bare_ssh(host, look);
        assert_eq!(state.lines().filter(|line| *line == "active").count(), 0, "{state}");
        assert!(state.ends_with("/var/lib/postgresql/15/main"));
    }
    lab.cluster(&["up", "-i", &inventory]).ok();
    assert_eq!(lab.sql("pg1", "postgres", "select seven from kept"), "7");
    assert_eq!(lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true).0["primary"], "pg1");
    by_another_user_on_each_host(&lab, &hosts, &inventory);
    lab.stop();
}

/// Two of the hosts let in a user that is not root, with a key of its own; one of them lets root in no more.
fn by_another_user_on_each_host(lab: &Lab, hosts: &[support::BareHost], inventory: &str) {
    let key = lab.directory.path().join("of-admin");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let user = format!(
        "useradd -m -s /bin/bash admin; echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin; \
         install -d -o admin -m 700 ~admin/.ssh; echo '{}' >~admin/.ssh/authorized_keys",
        public.trim()
    );
    let text = std::fs::read_to_string(inventory).unwrap();
    let mut changed = text.replace("  version: 15\n", "  version: 15\n  settings: {work_mem: 8MB}\n");
    for host in [&hosts[0], &hosts[2]] {
        lab.bare_ssh(host, &user);
        let line = format!("name: {}, ", host.name);
        let with = format!("{line}ssh_user: admin, ssh_key: {}, ", key.display());
        changed = changed.replace(&line, &with);
    }
    lab.bare_ssh(
        &hosts[2],
        "echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/0.conf && systemctl reload ssh",
    );
    let changed = lab.write("users.yaml", &changed);
    let run = lab.cluster(&["up", "-i", &changed]).ok();
    assert!(run.stderr.contains("reload"), "{}", run.stderr);
    assert_eq!(lab.bare_ssh(&hosts[1], "cd / && runuser -u postgres -- psql -XAtc 'show work_mem'"), "8MB");
    lab.wait_for_status(&changed, 30, |status| status["healthy"] == true);
    for node in ["pg2", "pg3"] {
        let logs = lab.cluster(&["logs", node, "-i", &changed]).ok();
        assert!(logs.stdout.contains("cluster-node"), "{logs:?}");
    }
    // By the file of before nobody is let in there, but for a connection that was kept.
    let mut before = lab.command(&["plan", "-i", inventory]);
    let before: support::Run = before.env("CLUSTER_SSH_KEEP_SECONDS", "0").output().unwrap().into();
    assert!(before.stdout.contains("the host does not accept your key for root"), "{before:?}");
}
