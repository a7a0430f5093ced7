//! What `cluster connect` prints, for each driver; and what `psql`, `db` and `user` refuse before they reach anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::connect::format::Format;
use cluster::connect::{self, Connection, Password};
use cluster::facts::host::DatabaseFacts;
use cluster::health::{Failover, FloatingIp, Health, Node};
use cluster::inventory::{Inventory, Role};

use crate::golden;

const INVENTORY: &str = "
cluster: demo
provider:
  digitalocean: {region: fra1, size: s-1vcpu-1gb, image: debian-12-x64}
postgresql: {version: 15}
users:
  - {name: postgres, password: '123456789012'}
  - {name: app}
databases:
  - {name: tutorial, owner: postgres}
  - {name: countries, owner: app}
nodes:
  - {name: pg1, id: 1, role: primary}
  - {name: pg2, id: 2, role: standby}
  - {name: pg3, id: 3, role: witness}
  - {name: pg4, id: 4, role: standby}
";

/// Compares with `tests/data/connect/NAME.txt`.
fn check(name: &str, text: &str) {
    golden::check(&format!("tests/data/connect/{name}.txt"), text);
}

fn inventory() -> Inventory {
    Inventory::parse(Path::new("demo.yaml"), INVENTORY).unwrap()
}

/// Nodes as (role, state), in the inventory's order.
fn health(floating_ip: Option<&str>, nodes: [(&str, &str); 4]) -> Health {
    let nodes = inventory()
        .nodes
        .iter()
        .zip(nodes)
        .map(|(node, (role, state))| Node {
            name: node.name.clone(),
            role: role.into(),
            inventory_role: node.role,
            state: state.into(),
            address: Some(format!("198.51.100.{}", node.id)),
            timeline: None,
            lag_bytes: None,
            replay_stopped: false,
            repmgrd: None,
            guard: None,
            version: None,
            votes: None,
            paused: None,
            guard_says: None,
            lease_ms: None,
            kept: None,
            disk: None,
        })
        .collect();
    Health {
        cluster: "demo".into(),
        healthy: true,
        primary: None,
        floating_ip: floating_ip.map(|address| FloatingIp {
            address: address.into(),
            node: None,
            known: true,
        }),
        holder: None,
        holder_confirmed: true,
        lease_ms: 9_000,
        monthly_cost: None,
        provider: None,
        run: None,
        failover: Failover { automatic: true, why: None },
        paused: false,
        nodes,
        backups: None,
        problems: Vec::new(),
    }
}

const CALM: [(&str, &str); 4] =
    [("primary", "running"), ("standby", "streaming"), ("witness", "running"), ("standby", "streaming")];

fn connection(floating_ip: Option<&str>, nodes: [(&str, &str); 4], password: Password) -> Connection {
    let inventory = inventory();
    let login = connect::login(&inventory, None, None, &[]).unwrap();
    connect::connection(&inventory, &health(floating_ip, nodes), login, password).unwrap()
}

fn calm(password: Password) -> Connection {
    connection(Some("203.0.113.9"), CALM, password)
}

const FORMATS: [(&str, Format); 7] = [
    ("sequelize", Format::Sequelize),
    ("node-postgres", Format::NodePostgres),
    ("libpq", Format::Libpq),
    ("jdbc", Format::Jdbc),
    ("sqlalchemy", Format::Sqlalchemy),
    ("env", Format::Env),
    ("json", Format::Json),
];

#[test]
fn each_format_names_the_password_file_or_leaves_the_password_out() {
    for (name, format) in FORMATS {
        let text = format.render(&calm(Password::In("/state/pgpass-app".into())));
        assert!(!text.contains("password\""), "{text}");
        check(name, &text);
    }
}

#[test]
fn a_password_that_needs_quotes_everywhere_gets_them() {
    for (name, format) in FORMATS {
        let text = format.render(&calm(Password::Plain(r"p@ss:w'or\d/?".to_owned().into())));
        assert!(!text.contains("pgpass"), "{text}");
        check(&format!("{name}-with-password"), &text);
    }
}

fn hosts(servers: &[connect::Server]) -> Vec<&str> {
    servers.iter().map(|server| server.host.as_str()).collect()
}

#[test]
fn reads_go_to_standbys_first_and_to_the_dead_last_and_never_to_the_witness() {
    let password = || Password::In(PathBuf::from("/state/pgpass-app"));
    assert_eq!(hosts(&calm(password()).read), ["198.51.100.2", "198.51.100.4", "198.51.100.1"]);
    // pg2 has taken over, pg1 is off.
    let after = [("none", "off"), ("primary", "running"), ("witness", "running"), ("standby", "streaming")];
    let after = connection(Some("203.0.113.9"), after, password());
    assert_eq!(hosts(&after.read), ["198.51.100.4", "198.51.100.2", "198.51.100.1"]);
    assert_eq!(hosts(&after.write), ["203.0.113.9"]);
}

#[test]
fn without_a_floating_ip_writes_look_for_the_primary_and_a_warning_says_who_cannot() {
    let after =
        [("standby", "streaming"), ("standby", "streaming"), ("witness", "running"), ("primary", "running")];
    let connection = connection(None, after, Password::In("/state/pgpass-app".into()));
    assert_eq!(hosts(&connection.write), ["198.51.100.4", "198.51.100.1", "198.51.100.2"]);
    let warned = FORMATS.iter().filter(|(_, format)| format.warning(&connection).is_some());
    assert_eq!(warned.map(|(name, _)| *name).collect::<Vec<_>>(), ["sequelize", "node-postgres", "json"]);
    let with_address = calm(Password::In("/state/pgpass-app".into()));
    assert!(FORMATS.iter().all(|(_, format)| format.warning(&with_address).is_none()));
    check("libpq-without-floating-ip", &Format::Libpq.render(&connection));
}

#[test]
fn the_login_is_no_superuser_and_its_database_its_own_unless_asked_for() {
    let inventory = inventory();
    let login =
        |user: Option<&str>, database: Option<&str>| connect::login(&inventory, user, database, &[]).unwrap();
    assert_eq!(login(None, None), ("app".into(), "countries".into()));
    assert_eq!(login(Some("postgres"), None), ("postgres".into(), "tutorial".into()));
    assert_eq!(login(Some("other"), Some("x")), ("other".into(), "x".into()));
    assert_eq!(login(Some("other"), None), ("other".into(), "postgres".into()), "somebody else's database");
    let database = |name: &str, owner: &str| DatabaseFacts { name: name.into(), owner: owner.into() };
    let live = [database("template1", "postgres"), database("shop", "other"), database("countries", "app")];
    let login = |user, database| connect::login(&inventory, Some(user), database, &live);
    assert_eq!(login("other", None).unwrap(), ("other".into(), "shop".into()), "made by hand");
    assert_eq!(login("app", None).unwrap(), ("app".into(), "countries".into()));
    let nope = login("app", Some("nope")).unwrap_err();
    assert_eq!(nope.message, "there is no database `nope`");
    assert_eq!(nope.hint.unwrap(), "the databases are shop, countries; `cluster db create nope` creates it");
}

#[test]
fn a_password_file_has_a_line_for_every_address_and_escapes_colons() {
    let connection = calm(Password::In("/state/pgpass-app".into()));
    let lines = connection.pgpass(r"a:b\c");
    assert_eq!(lines.lines().count(), 5);
    let together = r"198.51.100.1,198.51.100.2,198.51.100.4:5432,5432,5432:*:app:a\:b\\c";
    assert_eq!(lines.lines().last(), Some(together), "as Java's driver asks for it, whatever the roles");
    assert_eq!(lines.lines().next(), Some(r"203.0.113.9:5432:*:app:a\:b\\c"));
    assert!(!lines.contains("198.51.100.3"), "the witness has no business with applications");
}

#[test]
fn a_cluster_that_is_not_there_yet_is_refused() {
    let mut health = health(None, CALM);
    health.nodes.iter_mut().for_each(|node| node.address = None);
    let error = connect::connection(
        &inventory(),
        &health,
        ("app".into(), "app".into()),
        Password::In("/state/pgpass-app".into()),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "cluster `demo` has no running data node");
    assert_eq!(inventory().nodes[2].role, Role::Witness);
}

/// Runs the program with an inventory that leads nowhere; says its exit code and what it printed.
fn refusal(args: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.yaml");
    std::fs::write(&file, INVENTORY).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cluster"))
        .args(args)
        .env("CLUSTER_INVENTORY", &file)
        .env("CLUSTER_STATE_DIR", directory.path().join("state"))
        .env_remove("DIGITALOCEAN_TOKEN")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let text = text.replace(directory.path().to_str().unwrap(), "DIR");
    format!("$ cluster {}\n{text}exit code {}\n", args.join(" "), output.status.code().unwrap())
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_reached() {
    let transcript: Vec<String> = [
        &["user", "create", "app"][..],
        &["user", "drop", "postgres"],
        &["user", "create", "Robert'); drop table students"],
        &["user", "drop", "pg_monitor"],
        &["db", "create", "repmgr"],
        &["connect", "--user", "nobody"],
        &["connect", "--json", "-f", "env"],
        &["connect", "--json", "-f", "json", "--user", "nobody"],
    ]
    .map(refusal)
    .into();
    check("refusals", &transcript.join("\n"));
}
