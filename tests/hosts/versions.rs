//! Other versions of PostgreSQL, on the Debian that has them, and on others from the PostgreSQL project's repository: made, failed
//! over, rewound, handed over, drilled.

use cluster_cloud::droplet::Power;
use serde_json::Value;

use super::backups::{backups, bucket, repository};
use super::drill::faults;
use super::pgdg::{Holder, POSTGRESQL_12, Packages, Repository};
use super::proofs::until;
use super::support::Lab;
use super::{demo, node, the_standby_is_set_as_the_primary_is};

fn whole_way_with(number: u8, image: &str, version: u32) {
    let lab = Lab::start(number, image);
    // Debian 11's pgBackRest is too old.
    let backup = if version > 13 { repository(&lab) } else { String::new() };
    let inventory = lab.inventory("demo.yaml", image, &(backup + &demo(version)));
    lab.cluster(&["up", "-i", &inventory]).ok();
    let running = survives(&lab, &inventory, version, true);
    for fault in faults().iter().filter(|it| ["crash", "switchover"].contains(&it.as_str())) {
        let run = lab.cluster(&["drill", "-i", &inventory, "--fault", fault, "--yes", "--json"]);
        assert_eq!(run.code, 0, "{}\n{}", run.stdout, run.stderr);
        let report = run.json();
        println!("PostgreSQL {running}: drill {fault}: {} {}", report["seconds"], report["writes"]);
        lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    }
    if version > 13 {
        is_backed_up(&lab, &inventory);
    }
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}

/// On three hosts whose Debian does not have the version: `up` adds the repository that has it, one of the lab's here.
fn from_the_projects_repository(number: u8, image: &str, version: u32, packages: &Packages) {
    from_the_project(number, image, Holder::Repository, version, packages);
}

fn from_the_project(number: u8, image: &str, holder: Holder, version: u32, packages: &Packages) {
    let lab = Lab::start(number, image);
    let three = [("pg1", "primary"), ("pg2", "standby"), ("pg3", "witness")];
    let (inventory, codename) = with_the_repository(&lab, image, holder, version, packages, &three);
    let run = lab.cluster(&["up", "-i", &inventory]).ok();
    assert!(run.stderr.contains("add the PostgreSQL apt repository"), "{}", run.stderr);
    let source = if holder == Holder::Repository {
        format!("https://apt.postgresql.org/pub/repos/apt {codename}-pgdg/main")
    } else {
        assert!(run.stderr.contains("add the PostgreSQL apt archive"), "{}", run.stderr);
        format!("https://apt-archive.postgresql.org/pub/repos/apt {codename}-pgdg-archive/main")
    };
    for (node, _) in three {
        let origin = lab.ssh(node, &format!("apt-cache policy postgresql-{version}"));
        assert!(origin.contains(&source), "{origin}");
    }
    survives(&lab, &inventory, version, false);
    if have_backups(image, packages) {
        is_backed_up(&lab, &inventory);
    }
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}

/// Debian 12's own pgBackRest is too old for what Debian 12 does not have, and not every mirror has the sources of another.
fn have_backups(image: &str, packages: &Packages) -> bool {
    matches!(packages, Packages::Made(_)) && (image != "debian-12-x64" || packages.have("pgbackrest"))
}

/// Bare hosts that trust a repository of the lab's: their inventory, and the codename of their Debian.
fn with_the_repository(
    lab: &Lab,
    image: &str,
    holder: Holder,
    version: u32,
    packages: &Packages,
    wanted: &[(&str, &str)],
) -> (String, String) {
    let public = lab.key();
    let backup = if have_backups(image, packages) { bucket(lab) } else { String::new() };
    let provider = if let Packages::OfDebian(other) = packages { other } else { image };
    let server = lab.bare_host("apt", provider, &public);
    let hosts: Vec<_> = wanted.iter().map(|(name, _)| lab.bare_host(name, image, &public)).collect();
    let codename = lab.bare_ssh(&hosts[0], ". /etc/os-release; echo $VERSION_CODENAME");
    let repository = Repository::start(lab, &server, holder, &codename, packages, version);
    let mut nodes = String::new();
    for (index, (host, (name, role))) in hosts.iter().zip(wanted).enumerate() {
        repository.is_trusted_by(lab, host);
        nodes += &format!(
            "  - {{name: {name}, id: {}, role: {role}, address: {}, connection_host: {}, host_key: {}}}\n",
            index + 1,
            host.address,
            host.private,
            host.key
        );
    }
    let key = lab.directory.path().join("key");
    let inventory = lab.write(
        "demo.yaml",
        &format!(
            "cluster: demo\nprovider:\n  existing: {{ssh_key: {}}}\npostgresql: {{version: {version}}}\nusers: [{{name: app}}]\n\
             databases: [{{name: app}}]\n{backup}nodes:\n{nodes}",
            key.display()
        ),
    );
    (inventory, codename)
}

/// What every version goes through. Returns what runs, as it calls itself.
fn survives(lab: &Lab, inventory: &str, version: u32, has_address: bool) -> String {
    assert!(lab.cluster(&["up", "-i", inventory]).ok().last_line().contains("nothing to do"));
    let (status, _) = lab.wait_for_status(inventory, 30, |status| status["healthy"] == true);
    let running = node(&status, "pg1")["version"].as_str().unwrap().to_owned();
    assert!(running.starts_with(&format!("{version}.")), "{running}");
    the_standby_is_set_as_the_primary_is(lab);
    lab.power("pg1", Power::Off);
    let (status, took) = lab.wait_for_status(inventory, 60, |status| {
        status["primary"] == "pg2" && (!has_address || status["floating_ip"]["node"] == "pg2")
    });
    println!("PostgreSQL {running}: failover {:.1} s; {}", took.as_secs_f64(), status["floating_ip"]);
    lab.power("pg1", Power::On);
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
    rewinds(lab, inventory);
    lab.cluster(&["switchover", "pg2", "-i", inventory]).ok();
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true && status["primary"] == "pg2");
    lab.cluster(&["switchover", "pg1", "-i", inventory]).ok();
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true && status["primary"] == "pg1");
    running
}

/// The backups that were turned on at the beginning: a table is dropped and had again, and a restore is proved.
fn is_backed_up(lab: &Lab, inventory: &str) {
    let whole = |status: &Value| status["healthy"] == true && !backups(status).is_empty();
    let (status, _) = lab.wait_for_status(inventory, 180, whole);
    let primary = status["primary"].as_str().unwrap();
    println!("{} with {} backups", lab.ssh(primary, "pgbackrest version"), backups(&status).len());
    lab.sql(primary, "app", "create table kept as select generate_series(1, 1000) a");
    lab.cluster(&["backup", "mark", "before", "-i", inventory]).ok();
    lab.sql(primary, "app", "drop table kept");
    let run = lab.cluster(&["restore", "-i", inventory, "--to", "before", "--yes", "--json"]).ok();
    println!("restored: {}", run.json());
    assert_eq!(lab.sql(primary, "app", "select count(*) from kept"), "1000");
    lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
    let proved = lab.cluster(&["drill", "-i", inventory, "--fault", "restore", "--json"]).ok();
    println!("proved: {}", proved.json()["proof"]);
}

/// pg2 is primary and cut off from the others while a client writes there: what it alone has is given up, told and set
/// aside, and it streams from pg1.
fn rewinds(lab: &Lab, inventory: &str) {
    lab.sql("pg2", "app", "create table history (row int)");
    lab.sql("pg2", "app", "insert into history select generate_series(1, 100)");
    let cut = |what: &str| lab.cluster(&["lab", "cut", "pg2", what, "--name", &lab.name]).ok();
    lab.wait_for_status(inventory, 30, |status| status["healthy"] == true);
    // A WAL file that is archived after the cut would bring pg1 what was written here; the next is a minute away now.
    lab.sql("pg2", "app", "select pg_switch_wal()");
    // Until it fences itself: the loop ends with the first write that is refused.
    lab.ssh(
        "pg2",
        "cd /; systemd-run -q --collect sh -c 'row=100; while [ $row -lt 3000 ] && runuser -u postgres -- psql -XAtqw -d app \
         -c \"insert into history values ($((row + 1)))\" 2>/dev/null; do row=$((row + 1)); sleep 0.1; done; \
         echo $row >/root/alone'",
    );
    // What it writes reaches the standby until that is cut off.
    for what in ["api", "pg3", "pg1"] {
        cut(what);
    }
    lab.wait_for_status(inventory, 60, |status| status["primary"] == "pg1");
    let rows = || -> u32 { lab.sql("pg1", "app", "select count(*) from history").parse().unwrap() };
    let reached = rows();
    until(60, "the loop to end", || lab.run_on("pg2", "test -s /root/alone").code == 0);
    let alone: u32 = lab.ssh("pg2", "cat /root/alone").parse().unwrap();
    assert!((reached + 1..3000).contains(&alone), "{alone} and {reached}");
    lab.cluster(&["lab", "heal", "--name", &lab.name]).ok();
    let (_, took) = lab.wait_for_status(inventory, 60, |status| status["healthy"] == true);
    assert_eq!(lab.sql("pg2", "app", "select pg_is_in_recovery()"), "t");
    assert_eq!(rows(), reached);
    assert_eq!(lab.sql("pg2", "app", "select count(*) from history"), reached.to_string());
    assert_eq!(
        lab.ssh("pg2", "ls -d /var/lib/postgresql/*/main.cluster-old 2>/dev/null || :"),
        "",
        "it was rewound"
    );
    let lost: Value = serde_json::from_str(&lab.ssh("pg2", "cat /var/lib/cluster/lost.json")).unwrap();
    // Heartbeats are transactions, too.
    let alone = alone - reached;
    assert!(lost["transactions"].as_u64() >= Some(u64::from(alone)), "{lost} for {alone} rows");
    let kept = lab.ssh("pg2", &format!("ls {} | wc -l", lost["wal"].as_str().unwrap()));
    assert_ne!(kept, "0");
    println!("{alone} rows that pg2 alone had: {lost}; whole again after {:.1} s", took.as_secs_f64());
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_13_on_bullseye() {
    whole_way_with(2, "debian-11-x64", 13);
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_17_on_trixie() {
    whole_way_with(3, "debian-13-x64", 17);
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_18_on_sid() {
    whole_way_with(46, "debian-sid-x64", 18);
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_15_on_trixie_from_the_projects_repository() {
    from_the_projects_repository(50, "debian-13-x64", 15, &Packages::OfDebian("debian-12-x64"));
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_15_on_sid_from_the_projects_repository() {
    from_the_projects_repository(51, "debian-sid-x64", 15, &Packages::OfDebian("debian-12-x64"));
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_17_on_sid_from_the_projects_repository() {
    from_the_projects_repository(52, "debian-sid-x64", 17, &Packages::OfDebian("debian-13-x64"));
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_18_on_trixie_from_the_projects_repository() {
    from_the_projects_repository(54, "debian-13-x64", 18, &Packages::made("trixie", 18));
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_18_on_bookworm_from_the_projects_repository() {
    from_the_projects_repository(55, "debian-12-x64", 18, &Packages::made("bookworm", 18));
}

#[test]
#[ignore = "needs root and a lab"]
fn postgresql_17_on_bookworm_from_the_projects_repository() {
    from_the_projects_repository(56, "debian-12-x64", 17, &Packages::made("bookworm", 17));
}

/// The tutorial's version, which is in the archive for the systems that the repository still has.
#[test]
#[ignore = "needs root, a lab and packages"]
fn postgresql_12_on_bookworm_from_the_projects_repository() {
    let packages = Packages::named_by(POSTGRESQL_12);
    from_the_project(57, "debian-12-x64", Holder::Archive, 12, &packages);
}

/// What PostgreSQL's repository no longer has for a system is in its archive.
#[test]
#[ignore = "needs root and a lab"]
fn a_system_that_the_projects_repository_has_dropped() {
    let image = "debian-13-x64";
    let lab = Lab::start(53, image);
    let one = [("pg1", "primary")];
    let packages = Packages::OfDebian("debian-12-x64");
    let (inventory, _) = with_the_repository(&lab, image, Holder::ArchiveAlone, 15, &packages, &one);
    lab.cluster(&["up", "-i", &inventory]).ok();
    let origin = lab.ssh("pg1", "apt-cache policy postgresql-15");
    assert!(
        origin.contains("https://apt-archive.postgresql.org/pub/repos/apt trixie-pgdg-archive/main"),
        "{origin}"
    );
    assert_eq!(lab.ssh("pg1", "ls /etc/apt/sources.list.d | grep cluster"), "cluster-archive.list");
    assert!(lab.cluster(&["up", "-i", &inventory]).ok().last_line().contains("nothing to do"));
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}
