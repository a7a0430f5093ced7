//! Backups on hosts: an object storage of the lab's, a failover, a repository that is away, and the loss of everything.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use cluster_cloud::Pace;
use cluster_cloud::spaces::Place;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::support::{Lab, PREPARED, Run, block_on};

pub(super) fn inventory(lab: &Lab) -> String {
    inventory_with(lab, str::to_owned)
}

/// The same, edited.
pub(super) fn inventory_with(lab: &Lab, edit: impl FnOnce(&str) -> String) -> String {
    let more = format!(
        "{}postgresql:\n  version: 15\nusers:\n  - name: app\ndatabases:\n  - name: app\n{}",
        repository(lab),
        super::NODES
    );
    lab.inventory("demo.yaml", PREPARED, &edit(&more))
}

/// The `backup` key of an inventory: a bucket of the lab's object storage.
pub(super) fn repository(lab: &Lab) -> String {
    format!(
        "backup:\n  spaces:\n    bucket: demo-backups\n    endpoint: https://spaces.lab:{}\n    address: 127.0.0.1\n    \
         ca: /var/lib/cluster-lab/{}/spaces_ca.crt\n",
        lab.port + 1000,
        lab.name
    )
}

/// The same for hosts that no API has made: a bucket that exists, with a key for it.
pub(super) fn bucket(lab: &Lab) -> String {
    let ca = format!("/var/lib/cluster-lab/{}/spaces_ca.crt", lab.name);
    let place = Place {
        endpoint: format!("https://spaces.lab:{}", lab.port + 1000),
        region: "fra1".into(),
        bucket: "demo-backups".into(),
        ca: Some(std::fs::read_to_string(&ca).unwrap()),
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let key = block_on(lab.client().make_repository("bare", &place, Pace::urgent())).unwrap();
    let credentials = lab.write(
        "credentials",
        &format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.access_key,
            key.secret_key.expose_secret()
        ),
    );
    format!(
        "backup:\n  s3: {{endpoint: '{}', region: {}, bucket: {}, path_style: true, ca: {ca}, credentials_file: {credentials}}}\n",
        place.endpoint, place.region, place.bucket
    )
}

/// Orders a fault of the object storage.
pub(super) fn spaces(lab: &Lab, fault: &str) {
    lab.cluster(&["lab", "spaces", "--name", &lab.name, fault]).ok();
}

pub(super) fn backups(status: &Value) -> &[Value] {
    status["backups"]["contents"]["backups"].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn last_timeline(status: &Value) -> Option<u64> {
    backups(status).last()?["timeline"].as_u64()
}

/// Finishes a WAL file and waits until the primary has archived it.
fn archive(lab: &Lab, primary: &str) {
    let file = lab.sql(primary, "postgres", "select pg_walfile_name(pg_switch_wal())");
    let sql = format!("select last_archived_wal >= '{file}' from pg_stat_archiver");
    let begun = Instant::now();
    while lab.sql(primary, "postgres", &sql) != "t" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{file} is not archived");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A standby that lacks WAL which its primary has no more takes it from the archive, and is not cloned.
fn lacks_wal(lab: &Lab, inventory: &str) {
    lab.ssh("pg2", "systemctl stop cluster-node; systemctl stop postgresql@15-main");
    let little = [("wal_keep_size", "0"), ("min_wal_size", "32MB"), ("max_wal_size", "48MB")];
    for (setting, value) in little {
        lab.sql("pg1", "postgres", &format!("alter system set {setting} = '{value}'"));
    }
    lab.sql("pg1", "postgres", "select pg_reload_conf()");
    let begun = Instant::now();
    // The slot is held until the primary notices that the standby is gone.
    let drop = "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots where not active";
    while lab.sql("pg1", "postgres", drop) == "0" {
        assert!(begun.elapsed() < Duration::from_secs(30), "the slot stays in use");
        std::thread::sleep(Duration::from_millis(300));
    }
    let needs = lab.ssh(
        "pg2",
        "cd /; runuser -u postgres -- /usr/lib/postgresql/15/bin/pg_controldata -D /var/lib/postgresql/15/main \
         | sed -n \"s/^Latest checkpoint's REDO WAL file: *//p\"",
    );
    let oldest = "select min(name) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'";
    while lab.sql("pg1", "postgres", oldest) <= needs {
        assert!(begun.elapsed() < Duration::from_secs(120), "{needs} stays on the primary");
        lab.sql("pg1", "app", "create table if not exists w (a int); insert into w values (1)");
        archive(lab, "pg1");
        lab.sql("pg1", "postgres", "checkpoint");
    }
    lab.ssh("pg2", "systemctl start cluster-node");
    let (_, took) = lab.wait_for_status(inventory, 90, |status| status["healthy"] == true);
    println!("a standby that lacked {needs} streams after {:.0} s", took.as_secs_f64());
    lab.ssh(
        "pg2",
        &format!("grep 'restored log file \"{needs}\"' /var/log/postgresql/postgresql-15-main.log"),
    );
    assert_eq!(lab.ssh("pg2", "grep -c '\"cloned\"' /var/lib/cluster/journal.jsonl || :"), "0");
    for (setting, _) in little {
        lab.sql("pg1", "postgres", &format!("alter system reset {setting}"));
    }
    lab.sql("pg1", "postgres", "select pg_reload_conf()");
}

/// Notes every command line on the data nodes from now on.
fn watch_processes(lab: &Lab) {
    for node in ["pg1", "pg2"] {
        lab.ssh(
            node,
            "umask 077; systemd-run -q --collect -u watch-processes sh -c \
             'for look in $(seq 3000); do ps axww -o args; sleep 0.1; done >/root/processes'",
        );
    }
}

/// Nothing that opens the repository or the database is in a log, a command line, a file that everybody can read, or what
/// the program prints.
fn keeps_secrets(lab: &Lab, inventory: &str) {
    let state = lab.directory.path().join("state/demo");
    let text = std::fs::read_to_string(state.join("secrets.json")).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let passwords = kept["passwords"].as_object().unwrap();
    for name in ["backup", "backup-secret-key", "repmgr", "cluster"] {
        assert!(passwords.contains_key(name), "{name} is not among {:?}", passwords.keys());
    }
    let secrets: Vec<&str> = passwords
        .iter()
        .filter(|(name, _)| *name != "backup-access-key")
        .map(|(_, it)| it.as_str().unwrap())
        .collect();
    // Not as they are: this is a command line, too.
    let list = base64::engine::general_purpose::STANDARD
        .encode(secrets.iter().map(|secret| format!("{secret}\n")).collect::<String>());
    for node in ["pg1", "pg2", "pg3"] {
        // The looks are for what the node has; that they can find something, the configuration shows.
        let script = format!(
            "umask 077; echo {list} | base64 -d >/run/secrets\n\
             grep -qF -f /run/secrets /etc/cluster/node.json /etc/cluster/pgbackrest.conf /var/lib/postgresql/.pgpass || echo 'no secret is found at all'\n\
             if [ -e /root/processes ]; then grep -F -f /run/secrets /root/processes; test -s /root/processes || echo 'no processes'; fi\n\
             journalctl --no-pager -q | grep -F -f /run/secrets\n\
             grep -rlF -f /run/secrets /var/log /run/log 2>/dev/null\n\
             find / -xdev -type f -perm -004 -newer /etc/machine-id -not -path '/proc/*' -not -path '/sys/*' \
                 -exec grep -lF -f /run/secrets {{}} + 2>/dev/null\n\
             rm /run/secrets\n"
        );
        assert_eq!(lab.ssh(node, &script), "", "{node}");
    }
    let shown = |text: &str| secrets.iter().any(|secret| text.contains(secret));
    for words in
        [["plan"].as_slice(), &["plan", "--json"], &["status"], &["backup", "list"], &["status", "--json"]]
    {
        let run = lab.cluster(&[words, &["-i", inventory]].concat());
        assert!(!shown(&run.stdout) && !shown(&run.stderr), "{words:?}");
    }
    let mut logs = 0;
    for entry in walk(&state) {
        if entry.file_name().is_some_and(|name| name != "secrets.json") {
            assert!(!shown(&String::from_utf8_lossy(&std::fs::read(&entry).unwrap())), "{}", entry.display());
            logs += usize::from(entry.to_string_lossy().contains("log"));
        }
    }
    assert!(logs > 0, "no log of a run is there");
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_of_which_nothing_is_left_is_had_again() {
    let lab = Lab::start(41, PREPARED);
    let inventory = inventory(&lab);
    lab.cluster(&["up", "-i", &inventory]).ok();
    let (status, took) = lab.wait_for_status(&inventory, 120, |status| !backups(status).is_empty());
    println!("the first backup after {:.0} s: {}", took.as_secs_f64(), backups(&status)[0]);
    lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
    assert!(lab.cluster(&["up", "-i", &inventory]).ok().last_line().contains("nothing to do"));

    // No key of the account is in the nodes' configuration, and none of its secrets is for everybody.
    let modes = lab.ssh("pg1", "stat -c '%a %U:%G' /etc/cluster/pgbackrest.conf");
    assert_eq!(modes, "640 root:postgres");
    let checked = lab.cluster(&["backup", "check", "-i", &inventory]).ok();
    assert!(checked.stdout.contains("pg1 archives to s3://demo-backups/demo"), "{}", checked.stdout);

    lab.sql("pg1", "app", "create table t (a int)");
    lab.sql("pg1", "app", "insert into t select generate_series(1, 1000)");
    archive(&lab, "pg1");

    watch_processes(&lab);
    lacks_wal(&lab, &inventory);

    // A repository that is away holds up no switchover, and what was not archived is archived by the next primary.
    spaces(&lab, "away");
    lab.sql("pg1", "app", "insert into t select generate_series(1001, 2000)");
    lab.sql("pg1", "postgres", "select pg_switch_wal()");
    lab.sql("pg1", "app", "insert into t select generate_series(2001, 3000)");
    let moved = lab.cluster(&["switchover", "-i", &inventory, "--json"]).ok().json();
    println!("a switchover without the repository: {moved}");
    assert!(moved["seconds"].as_f64().unwrap() < 30.0, "{moved}");
    let (status, _) = lab.wait_for_status(&inventory, 60, |status| {
        let problems = status["problems"].as_array().unwrap();
        problems.iter().any(|it| it.as_str().unwrap().starts_with("backups"))
    });
    println!("meanwhile: {}", status["problems"]);
    spaces(&lab, "heal");
    let (status, took) = lab.wait_for_status(&inventory, 300, |status| last_timeline(status) == Some(2));
    println!("a backup of timeline 2 after {:.0} s", took.as_secs_f64());
    assert_eq!(status["backups"]["contents"]["gaps"].as_array().map(Vec::len), Some(0), "{status:#}");
    assert_eq!(status["backups"]["contents"]["intervals"].as_array().map(Vec::len), Some(1), "{status:#}");

    keeps_secrets(&lab, &inventory);

    // A node of another time, at an address that somebody else has by the time of the restore.
    let stranger = "insert into repmgr.nodes (node_id, node_name, type, location, priority, conninfo, repluser, slot_name, \
        config_file, active) values (9, 'elsewhere', 'primary', 'default', 100, \
        'host=127.0.0.1 user=repmgr dbname=repmgr', 'repmgr', 'slot', '/etc/repmgr.conf', false)";
    lab.sql("pg2", "repmgr", stranger);

    // A moment between two changes, and then a mistake.
    lab.sql("pg2", "app", "insert into t select generate_series(3001, 4000)");
    std::thread::sleep(Duration::from_millis(1_100));
    let moment =
        lab.sql("pg2", "app", "select to_char(now() at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'");
    std::thread::sleep(Duration::from_millis(1_100));
    lab.sql("pg2", "app", "delete from t");
    archive(&lab, "pg2");
    let passphrase = lab.cluster(&["backup", "passphrase", "-i", &inventory]).ok().stdout.trim().to_owned();

    // Everything is lost: every server, and what this machine knew.
    for node in ["pg1", "pg2", "pg3"] {
        lab.delete_droplet(node);
    }
    let begun = Instant::now();
    while lab.count().0 > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "droplets are left");
        std::thread::sleep(Duration::from_millis(300));
    }
    std::fs::rename(lab.directory.path().join("state"), lab.directory.path().join("lost")).unwrap();
    let words = ["up", "-i", &inventory, "--from-backup", "--to", &moment];
    let refused = lab.cluster(&words);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("CLUSTER_BACKUP_PASSPHRASE"), "{}", refused.stderr);
    // A moment that cannot be restored is refused before anything is, with those that can; nothing is in the way afterwards.
    let early = ["up", "-i", &inventory, "--from-backup", "--to", "2020-01-01T00:00:00Z"];
    let refused = lab.command(&early).env("CLUSTER_BACKUP_PASSPHRASE", &passphrase).output().unwrap();
    let refused = Run::from(refused);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot be restored: the first moment is 20"), "{}", refused.stderr);
    assert_eq!(lab.ssh("pg1", "cut -d, -f1-3 /etc/cluster/data.json | grep -c primary || :"), "0");
    let begun = Instant::now();
    let restored = lab.command(&words).env("CLUSTER_BACKUP_PASSPHRASE", &passphrase).output().unwrap();
    let restored = Run::from(restored).ok();
    println!("had again after {:.0} s: {}", begun.elapsed().as_secs_f64(), restored.last_line());
    assert!(!restored.stderr.contains(&passphrase));
    assert!(restored.stderr.contains("pg1: restored up to "), "{}", restored.stderr);
    assert_eq!(lab.sql("pg1", "app", "select count(*), max(a) from t"), "4000|4000");
    let nodes =
        lab.sql("pg1", "repmgr", "select string_agg(node_name, ',' order by node_id) from repmgr.nodes");
    assert_eq!(nodes, "pg1,pg2,pg3");
    let (_, took) = lab.wait_for_status(&inventory, 180, |status| {
        status["healthy"] == true && last_timeline(status) == Some(3)
    });
    println!("healthy with a backup of its own after {:.0} s more", took.as_secs_f64());
    lab.stop();
}
