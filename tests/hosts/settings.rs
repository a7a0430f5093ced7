//! Settings that would not work, and hosts that speak another language: what only hosts can show.

use super::support::PREPARED;
use super::{Lab, demo, node};

/// A value that PostgreSQL refuses reaches no node; one that needs a restart costs one node at a time.
#[test]
#[ignore = "needs root and a lab"]
fn a_setting_is_tried_before_any_node_has_it() {
    let lab = Lab::start(31, PREPARED);
    let inventory = |settings: &str| {
        let postgresql =
            demo(15).replace("version: 15\n", &format!("version: 15\n  settings: {{{settings}}}\n"));
        lab.inventory("demo.yaml", PREPARED, &postgresql)
    };
    let path = inventory("");
    let up = || lab.cluster(&["up", "-i", &path]);
    up().ok();
    let conf = || {
        ["pg1", "pg2", "pg3"].map(|node| {
            lab.ssh(node, "sha256sum </etc/postgresql/15/main/conf.d/90-cluster.conf; runuser -u postgres -- psql -XAtq \
                           -d postgres -c 'select pg_postmaster_start_time(), pg_conf_load_time()'")
        })
    };
    let before = conf();
    for (settings, words) in [
        ("max_connections: abc", "invalid value for parameter \"max_connections\": \"abc\""),
        ("shared_buffers: 999GB", "could not map anonymous shared memory: Cannot allocate memory"),
        ("shared_preload_libraries: nowhere", "could not access file \"nowhere\""),
        ("session_preload_libraries: nowhere", "could not access file \"nowhere\""),
    ] {
        inventory(settings);
        let run = up();
        assert_eq!(run.code, 1, "{settings}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{settings}: {}", run.stderr);
        assert!(run.stderr.contains("correct postgresql.settings"), "{}", run.stderr);
        assert_eq!(conf(), before, "{settings}");
        assert!(lab.ssh("pg2", "ls -A /var/lib/postgresql").lines().all(|name| name != ".cluster-trial"));
    }

    inventory("max_connections: 150");
    let plan = lab.look(&["plan", "-i", &path]).ok();
    assert!(
        plan.stdout.contains("restart PostgreSQL for max_connections on pg2, then pg3, then pg1"),
        "{}",
        plan.stdout
    );
    let run = up().ok();
    let restarts: Vec<&str> =
        run.stderr.lines().filter(|line| line.contains("restart PostgreSQL for")).collect();
    let order: Vec<&str> = restarts.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(order, ["pg2", "pg2", "pg3", "pg3", "pg1", "pg1"], "begun and done, one after the other");
    assert_eq!(lab.sql("pg1", "postgres", "show max_connections"), "150");
    lab.wait_for_status(&path, 60, |status| status["healthy"] == true);

    // What somebody writes by hand is told, and its default does not blind those who look.
    lab.ssh(
        "pg2",
        "cd /; echo \"default_transaction_isolation = serializable\" >/etc/postgresql/15/main/conf.d/99-own.conf; \
         systemctl reload postgresql@15-main; echo 'echo Welcome to production' >>/root/.bashrc; \
         sed -i '1i echo Welcome to production' /root/.bashrc",
    );
    let (status, _) = lab.wait_for_status(&path, 30, |status| status["healthy"] == true);
    assert_eq!(node(&status, "pg2")["state"], "streaming");
    // The same for a value that does not count.
    lab.ssh("pg2", "echo 'max_connections = abc' >/etc/postgresql/15/main/conf.d/99-own.conf; sleep 1; systemctl reload postgresql@15-main");
    let (status, _) = lab.wait_for_status(&path, 30, |status| status["healthy"] == false);
    assert!(status["problems"].to_string().contains("value of max_connections"), "{status:#}");
}

/// What programs say on a German host is read all the same.
#[test]
#[ignore = "needs root and a lab"]
fn hosts_that_speak_german_become_a_cluster() {
    let lab = Lab::start(32, "debian-12-x64");
    let hosts = lab.bare_hosts(["pg1", "pg2", "pg3"]);
    let mut nodes = String::from("nodes:\n");
    for (id, (host, role)) in hosts.iter().zip(["primary", "standby", "witness"]).enumerate() {
        lab.bare_ssh(
            host,
            "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install locales >/dev/null && \
             localedef -i de_DE -f UTF-8 de_DE.UTF-8 && echo LANG=de_DE.UTF-8 >/etc/default/locale && \
             echo LC_ALL=de_DE.UTF-8 >>/etc/environment",
        );
        nodes += &format!(
            "  - {{name: {}, id: {}, role: {role}, address: {}, connection_host: {}, host_key: {}}}\n",
            host.name,
            id + 1,
            host.address,
            host.private,
            host.key
        );
    }
    let key = lab.directory.path().join("key");
    let inventory = lab.write(
        "german.yaml",
        &format!(
            "cluster: demo\nprovider:\n  existing: {{ssh_key: {}}}\npostgresql: {{version: 15}}\n{nodes}",
            key.display()
        ),
    );
    lab.cluster(&["up", "-i", &inventory]).ok();
    assert!(lab.cluster(&["up", "-i", &inventory]).ok().last_line().contains("nothing to do"));
    assert!(lab.ssh("pg1", "cat /etc/cluster/data.json").contains("system_identifier"));
}
