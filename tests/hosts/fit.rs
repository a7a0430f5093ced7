//! Settings that fit the host, and extensions, on a cluster that was made without either.

use super::proofs::until;
use super::support::Lab;
use super::{NODES, demo};

/// A Debian that has pgvector, and its PostgreSQL.
const IMAGE: &str = "debian-13-x64";
const VERSION: u32 = 17;

/// What a setting is on a node.
fn show(lab: &Lab, node: &str, setting: &str) -> String {
    lab.sql(node, "postgres", &format!("show {setting}"))
}

fn names(lab: &Lab, node: &str, database: &str) -> String {
    lab.sql(node, database, "select string_agg(extname, ' ' order by extname) from pg_extension")
}

/// A standby has what was created on the primary, in a moment.
#[track_caller]
fn has(lab: &Lab, node: &str, database: &str, extensions: &str) {
    until(60, &format!("{node} to have {extensions}"), || names(lab, node, database) == extensions);
}

#[test]
#[ignore = "needs root and a lab"]
fn a_cluster_that_lives_is_fitted_to_its_hosts_and_gets_extensions() {
    let lab = Lab::start(58, IMAGE);
    // As an older version of this program made it.
    let old = demo(VERSION)
        .replace("users:", "  tune: false\nextensions: [{name: pg_stat_statements, databases: []}]\nusers:");
    let inventory = lab.inventory("demo.yaml", IMAGE, &old);
    lab.cluster(&["up", "-i", &inventory]).ok();
    assert_eq!(show(&lab, "pg1", "shared_buffers"), "128MB");
    assert_eq!(names(&lab, "pg1", "postgres"), "plpgsql");

    // A newer one shows what it would change, and why, before it does.
    lab.inventory("demo.yaml", IMAGE, &demo(VERSION));
    let plan = lab.look(&["plan", "-i", &inventory]).ok().stdout;
    for line in [
        "+shared_buffers = '192MB' # a quarter of the memory",
        "then: restart PostgreSQL for shared_buffers, shared_preload_libraries on pg2, then pg3, then pg1",
        "create the extension `pg_stat_statements` in `postgres`",
    ] {
        assert!(plan.contains(line), "{line}\n{plan}");
    }
    lab.cluster(&["up", "-i", &inventory]).ok();
    for node in ["pg1", "pg2"] {
        assert_eq!(show(&lab, node, "shared_buffers"), "192MB", "{node}");
        assert_eq!(show(&lab, node, "effective_cache_size"), "576MB", "{node}");
    }
    assert_eq!(show(&lab, "pg3", "shared_buffers"), "32MB");
    has(&lab, "pg2", "postgres", "pg_stat_statements plpgsql");
    lab.nothing_to_do(&inventory);

    // Extensions: a package, a library that takes a restart, and one that comes with the server.
    let with = |list: &str| demo(VERSION).replace("users:", &format!("extensions: [{list}]\nusers:"));
    lab.inventory("demo.yaml", IMAGE, &with("vector, hstore, pg_cron"));
    lab.cluster(&["up", "-i", &inventory]).ok();
    has(&lab, "pg2", "app", "hstore plpgsql vector");
    lab.sql("pg1", "app", "create table items as select '[1,2,3]'::vector v");
    lab.sql(
        "pg1",
        "postgres",
        "create table ticks(at timestamptz); select cron.schedule('tick', '1 seconds', 'insert into ticks select now()')",
    );
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    assert_eq!(lab.sql("pg2", "app", "select v <-> '[1,2,4]' from items"), "1");
    lab.sql("pg2", "postgres", "truncate ticks");
    until(60, "the new primary ticks", || {
        lab.sql("pg2", "postgres", "select count(*) > 2 from ticks") == "t"
    });
    lab.nothing_to_do(&inventory);

    // Nothing is dropped with the list; what was dropped by hand takes its library along.
    lab.inventory("demo.yaml", IMAGE, &with("vector, hstore"));
    let run = lab.cluster(&["up", "-i", &inventory]).ok();
    assert!(run.stderr.contains("`pg_cron` is in `postgres` but not in `extensions`"), "{}", run.stderr);
    assert_eq!(show(&lab, "pg2", "shared_preload_libraries"), "repmgr,pg_stat_statements,pg_cron");
    lab.sql("pg2", "postgres", "drop extension pg_cron");
    lab.cluster(&["up", "-i", &inventory]).ok();
    for node in ["pg1", "pg2"] {
        assert_eq!(show(&lab, node, "shared_preload_libraries"), "repmgr,pg_stat_statements", "{node}");
    }

    // A node that is added has the packages before it has data; and one that is away keeps an extension waiting.
    let third = NODES.trim_end().to_owned() + "\n  - {name: pg4, id: 4, role: standby}\n";
    let more = with("vector, hstore, hypopg").replace(NODES, &third);
    lab.inventory("demo.yaml", IMAGE, &more);
    lab.power("pg1", cluster_cloud::droplet::Power::Off);
    let run = lab.cluster(&["plan", "-i", &inventory]).ok();
    println!("{}", run.stdout);
    lab.cluster(&["up", "-i", &inventory]).ok();
    assert_eq!(lab.sql("pg4", "app", "select v <-> '[1,2,4]' from items"), "1");
    has(&lab, "pg4", "app", "hstore hypopg plpgsql vector");
    assert_eq!(show(&lab, "pg4", "shared_buffers"), "192MB");
    lab.stop();
}
