//! What whoever is postgres on a node, or any other user there, can bring root and the guard to do: nothing.

use std::time::Duration;

use serde_json::Value;

use super::proofs::until;
use super::support::{Lab, PREPARED};
use super::{demo, node};

const DATA: &str = "/var/lib/postgresql/15/main";
const CONFIG: &str = "/etc/postgresql/15/main";

/// Runs a script on a node, as postgres.
fn as_postgres(lab: &Lab, node: &str, script: &str) -> String {
    lab.ssh(node, &format!("cd /; runuser -u postgres -- sh -ec '{script}'"))
}

fn healthy(lab: &Lab, inventory: &str) -> Value {
    lab.wait_for_status(inventory, 90, |status| status["healthy"] == true).0
}

#[test]
#[ignore = "needs root and a lab"]
fn postgres_leads_root_nowhere() {
    let lab = Lab::start(21, PREPARED);
    let inventory = lab.inventory("demo.yaml", PREPARED, &demo(15));
    lab.cluster(&["up", "-i", &inventory]).ok();
    healthy(&lab, &inventory);
    // What packages and administrators expect of the log.
    let log = lab.ssh("pg1", "stat -c '%U %G %a' /var/log/postgresql/postgresql-15-main.log");
    assert_eq!(log, "postgres adm 640");
    a_link_of_a_tablespace(&lab, &inventory);
    a_tablespace_that_another_node_makes_up(&lab, &inventory);
    links_in_the_configuration(&lab, &inventory);
    a_password_file_that_nobody_writes(&lab, &inventory);
    a_wal_file_that_is_made_up(&lab);
    a_link_in_the_place_of_the_pid_file(&lab, &inventory);
    questions_of_others(&lab);
    locks_that_others_hold(&lab, &inventory);
    a_link_in_the_place_of_a_trial(&lab);
    lab.stop();
}

/// Who holds a lock keeps every command from the host, or every run from the cluster: that is for root alone.
fn locks_that_others_hold(lab: &Lab, inventory: &str) {
    let held = ["/run/cluster.lock", "/run/cluster-operator.lock", "/run/lock/cluster.lock"].map(|lock| {
        format!(
            "for way in -s -x; do (timeout 120 flock $way -n {lock} sleep 60 >/dev/null 2>&1 &) || :; done"
        )
    });
    as_postgres(lab, "pg1", &held.join("; "));
    assert!(lab.cluster(&["up", "-i", inventory]).ok().last_line().contains("nothing to do"));
    // One that has been made before is no other.
    let modes = lab.ssh("pg1", "stat -c '%U %a' /run/cluster.lock /run/cluster-operator.lock");
    assert_eq!(modes, "root 600\nroot 600");
}

/// Settings are tried below a directory of postgres', who may be quicker than root.
fn a_link_in_the_place_of_a_trial(lab: &Lab) {
    let trial = "/var/lib/postgresql/.cluster-trial";
    let owner = || lab.ssh("pg2", "stat -c '%U %a' /srv/mine");
    lab.ssh("pg2", "mkdir -m 755 /srv/mine; echo secret-of-root >/srv/mine/log; chmod 600 /srv/mine/log");
    // Either a link in its place, or one in the place of the log in it.
    let links =
        format!("while :; do ln -s /srv/mine {trial}; ln -sf /srv/mine/log {trial}/log; done 2>/dev/null");
    lab.ssh("pg2", &format!("systemd-run -q --unit=links --uid=postgres sh -c '{links}'"));
    for size in 5..9 {
        let settings = format!("postgresql:\n  version: 15\n  settings: {{work_mem: {size}MB}}");
        let changed = demo(15).replace("postgresql:\n  version: 15", &settings);
        let inventory = lab.inventory("changed.yaml", PREPARED, &changed);
        let run = lab.cluster(&["up", "-i", &inventory]);
        assert!(!run.stderr.contains("secret-of-root"), "{}", run.stderr);
        assert_eq!(owner(), "root 755", "{}", run.stderr);
    }
    lab.ssh("pg2", &format!("systemctl stop links; rm -rf {trial}"));
    lab.cluster(&["up", "-i", &lab.inventory("demo.yaml", PREPARED, &demo(15))]).ok();
}

/// A clone moves what the links in pg_tblspc lead to: not what is none of PostgreSQL's.
fn a_link_of_a_tablespace(lab: &Lab, inventory: &str) {
    let look = "stat -c '%n %U %a %i' /usr/local/bin /usr/local/bin/* /etc/cluster/*; ls -d /usr/local/*";
    let before = lab.ssh("pg2", look);
    as_postgres(
        lab,
        "pg2",
        &format!(
            "ln -s /usr/local/bin {DATA}/pg_tblspc/66666; ln -s /etc/cluster {DATA}/pg_tblspc/66667; \
             echo nonsense = 1 >>{DATA}/postgresql.auto.conf; rm {DATA}/standby.signal; \
             sudo -n /bin/systemctl stop postgresql@15-main"
        ),
    );
    // The clone is made, and the old data is beside it, links and all.
    let link = format!("readlink {DATA}.cluster-old/pg_tblspc/66666");
    until(240, "the old data to be put aside", || lab.run_on("pg2", &link).stdout.trim() == "/usr/local/bin");
    healthy(lab, inventory);
    assert_eq!(lab.ssh("pg2", look), before);
    assert_eq!(lab.ssh("pg2", &link), "/usr/local/bin");
}

/// Where a tablespace lies is read from a link on the primary: its word does not make directories elsewhere.
fn a_tablespace_that_another_node_makes_up(lab: &Lab, inventory: &str) {
    for node in ["pg1", "pg2"] {
        lab.ssh(node, "install -d -o postgres -g postgres -m 700 /srv/made");
    }
    lab.sql("pg1", "postgres", "create tablespace made location '/srv/made'");
    healthy(lab, inventory);
    let link = format!("{DATA}/pg_tblspc/$(basename $(ls -d {DATA}/pg_tblspc/*))");
    as_postgres(lab, "pg1", &format!("ln -sfn /etc/systemd/system/ssh.service.d {link}"));
    let run = lab.cluster(&["rejoin", "pg2", "-i", inventory, "--clone"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("a tablespace in /etc/systemd/system/ssh.service.d, which is missing here"),
        "{}",
        run.stderr
    );
    lab.ssh("pg2", "test ! -e /etc/systemd/system/ssh.service.d");
    as_postgres(lab, "pg1", &format!("ln -sfn /srv/made {link}"));
    healthy(lab, inventory);
    lab.sql("pg1", "postgres", "drop tablespace made");
}

/// `up` writes below directories of postgres', and the probe reads there.
fn links_in_the_configuration(lab: &Lab, inventory: &str) {
    let secret = lab.ssh("pg2", "cat /etc/cluster/failover-token");
    as_postgres(
        lab,
        "pg2",
        &format!(
            "cd {CONFIG}; mv conf.d conf.real; ln -s /etc/apt/apt.conf.d conf.d; \
             mv pg_hba.conf hba.real; ln -s /etc/cluster/failover-token pg_hba.conf"
        ),
    );
    let before = lab.ssh("pg2", "ls -la /etc/apt/apt.conf.d /etc/cluster");
    let plan = lab.look(&["plan", "-i", inventory]);
    assert!(!plan.stdout.contains(&secret) && !plan.stderr.contains(&secret), "the token is in the plan");
    assert!(plan.stdout.contains("pg_hba.conf"), "{}", plan.stdout);
    // A name with answers in it, and a link that is as long as what it leads to.
    as_postgres(
        lab,
        "pg2",
        &format!(
            "cd {CONFIG}; odd=$(printf \"/var/lib/postgresql/x\\nroot\\nroot\\nroot\"); mkdir \"$odd\"; \
             ln -sfn \"$odd\" conf.d; token=/etc/cluster/failover-token; size=$(stat -c %s $token); \
             while [ ${{#token}} -lt $((size - 1)) ]; do token=/etc/./${{token#/etc/}}; done; \
             if [ ${{#token}} -lt $size ]; then token=/etc//${{token#/etc/}}; fi; ln -sf $token pg_hba.conf"
        ),
    );
    let plan = lab.look(&["plan", "-i", inventory]);
    assert!(!plan.stdout.contains(&secret) && !plan.stderr.contains(&secret), "the token is in the plan");
    as_postgres(
        lab,
        "pg2",
        &format!("cd {CONFIG}; ln -sfn /etc/apt/apt.conf.d conf.d; rm -r /var/lib/postgresql/x*"),
    );
    let run = lab.cluster(&["up", "-i", inventory]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("Permission denied"), "{}", run.stderr);
    assert_eq!(lab.ssh("pg2", "ls -la /etc/apt/apt.conf.d /etc/cluster"), before);
    as_postgres(lab, "pg2", &format!("cd {CONFIG}; rm conf.d; mv conf.real conf.d"));
    lab.cluster(&["up", "-i", inventory]).ok();
    let owner = lab.ssh(
        "pg2",
        &format!("stat -c '%F %U %a' {CONFIG}/pg_hba.conf; stat -c '%U %a' /etc/cluster/failover-token"),
    );
    assert_eq!(owner, "regular file postgres 640\nroot 600");
    as_postgres(lab, "pg2", &format!("rm -f {CONFIG}/hba.real"));
    healthy(lab, inventory);
}

/// A FIFO keeps whoever opens it waiting, the guard too.
fn a_password_file_that_nobody_writes(lab: &Lab, inventory: &str) {
    let guard = "systemctl show -p NRestarts -p MainPID cluster-node";
    let before = lab.ssh("pg3", guard);
    as_postgres(
        lab,
        "pg3",
        "mv /var/lib/postgresql/.pgpass /var/lib/postgresql/kept; mkfifo /var/lib/postgresql/.pgpass",
    );
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(lab.ssh("pg3", guard), before, "it was not killed by the watchdog");
    let status: Value =
        serde_json::from_str(&lab.ssh("pg3", "timeout 3 cluster-node status --json")).unwrap();
    assert_eq!(status["holder"], "pg1", "it votes: {status:#}");
    as_postgres(lab, "pg3", "mv -f /var/lib/postgresql/kept /var/lib/postgresql/.pgpass");
    assert_eq!(node(&healthy(lab, inventory), "pg3")["role"], "witness");
}

/// Names in pg_wal say nothing of what a standby has.
fn a_wal_file_that_is_made_up(lab: &Lab) {
    let position = || -> Value {
        let status: Value = serde_json::from_str(&lab.ssh("pg2", "cluster-node status --json")).unwrap();
        status["position"].clone()
    };
    let before = position();
    let file = format!("{DATA}/pg_wal/000000FF0000000000000001");
    as_postgres(lab, "pg2", &format!("touch {file}; sleep 3"));
    let after = position();
    as_postgres(lab, "pg2", &format!("rm {file}"));
    assert!(before["timeline"].is_u64() && before["timeline"] == after["timeline"], "{before} {after}");
}

/// Where the server writes its number, root looks for it.
fn a_link_in_the_place_of_the_pid_file(lab: &Lab, inventory: &str) {
    lab.ssh("pg2", "umask 077; echo a-word-of-root >/root/word");
    lab.cluster(&["pause", "-i", inventory]).ok();
    lab.ssh("pg2", "systemctl stop postgresql@15-main");
    as_postgres(lab, "pg2", "ln -sfn /root/word /run/postgresql/15-main.pid");
    lab.run_on("pg2", "timeout 60 systemctl start postgresql@15-main");
    let said = lab.ssh("pg2", "journalctl -q -o cat -u postgresql@15-main");
    assert!(said.contains("cannot open '/run/postgresql/15-main.pid'"), "it was looked at: {said}");
    assert!(!said.contains("a-word-of-root"), "{said}");
    as_postgres(lab, "pg2", "rm -f /run/postgresql/15-main.pid");
    lab.cluster(&["resume", "-i", inventory]).ok();
    healthy(lab, inventory);
}

/// Only root asks what changes something, and whoever reads no further ends nothing.
fn questions_of_others(lab: &Lab) {
    for question in ["start-check", "restart", "take", "hand-over pg2"] {
        let run = lab.run_on("pg1", &format!("cd /; runuser -u postgres -- cluster-node {question}"));
        assert_eq!(run.code, 1, "{question}: {}", run.stdout);
        assert!(run.stdout.contains("only root may ask for that"), "{question}: {}", run.stdout);
    }
    let run =
        lab.run_on("pg1", "cd /; setpriv --reuid nobody --regid nogroup --clear-groups cluster-node status");
    assert!(run.code != 0 && run.stderr.contains("Permission denied"), "{}{}", run.stdout, run.stderr);
    let cut = lab.ssh("pg1", "{ sleep 0.5; cluster-node status 2>/run/said; } | true; cat /run/said");
    assert_eq!(cut, "");
}
