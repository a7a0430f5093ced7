//! Every key of the inventory on a cluster that lives, with a writer: changed, one at a time, to another value that makes
//! sense, and put back. What a key's change comes to is fixed here, so that another answer is seen.

use std::time::{Duration, Instant};

use cluster_node::clock;

use crate::invariants;
use crate::stage::{Stage, Third};
use crate::support::{Lab, Run, block_on};

/// No plan and no `up` takes longer.
const LIMIT: Duration = Duration::from_secs(180);
/// By then the cluster is whole again.
const WHOLE: Duration = Duration::from_secs(60);

/// How `plan` and `up` say that something is ignored.
const IGNORED: [&str; 3] = ["is ignored", "applies to new droplets only", "belongs to"];

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Carried out, and planned before.
    Done,
    /// It counts by itself, or nothing follows from it: there is nothing to do.
    Nothing,
    /// Refused with a reason, and no host was touched.
    Refused,
    /// Said to be ignored.
    Ignored,
}

/// A change of one key.
struct Change {
    key: &'static str,
    /// What stands in the inventory, and what takes its place.
    from: String,
    to: String,
    fate: Fate,
}

fn change(key: &'static str, from: &str, to: &str, fate: Fate) -> Change {
    Change { key, from: from.into(), to: to.into(), fate }
}

/// What came of it.
struct Row {
    key: &'static str,
    to: String,
    /// What `plan` said: its steps, or why it refused.
    plan: Vec<String>,
    code: Option<i32>,
    seconds: f64,
    last: String,
    gap: u64,
    fate: Option<Fate>,
    /// What is wrong with it.
    faults: Vec<String>,
}

/// Runs the program to its end, or for as long as it may take.
fn run(lab: &Lab, args: &[&str]) -> Option<Run> {
    let program = lab.command(args);
    let mut command = std::process::Command::new("timeout");
    command
        .args(["-k", "5", &LIMIT.as_secs().to_string()])
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let run: Run = command.output().unwrap().into();
    (run.code != 124 && run.code != 137 && run.code != -1).then_some(run)
}

/// What `plan` and `up` have to say besides how they get on.
fn telling(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Everything of the nodes that a refused change must leave as it is.
fn fingerprint(stage: &Stage) -> Vec<String> {
    let script = "cd /; cat /etc/postgresql/*/main/conf.d/* /etc/postgresql/*/main/pg_hba.conf /etc/repmgr.conf \
                  /etc/cluster/node.json /var/lib/postgresql/.pgpass | sha256sum; \
                  systemctl show -p MainPID repmgrd cluster-node; runuser -u postgres -- psql -XAtqw -d postgres \
                  -c 'select pg_postmaster_start_time()' -c 'select rolname from pg_authid order by 1' \
                  -c 'select datname from pg_database order by 1'";
    stage.hosts().iter().map(|host| stage.on(&host.name, script).unwrap_or_else(|error| error)).collect()
}

/// What is wrong with the cluster, seen through the inventory that was there before.
fn whole(stage: &Stage, primary: &str) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let status = stage.lab.cluster(&["status", "-i", &stage.inventory, "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        if status["healthy"] == true && status["primary"] == primary {
            return Vec::new();
        }
        if begun.elapsed() > WHOLE {
            return vec![format!(
                "not whole after {} s: the primary is {}, {}",
                WHOLE.as_secs(),
                status["primary"],
                status["problems"]
            )];
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn fate(plan: &Run, up: &Run, untouched: bool) -> Option<Fate> {
    let said = [&plan.stdout, &plan.stderr, &up.stdout, &up.stderr].map(String::as_str).concat();
    let nothing = up.last_line().contains("nothing to do");
    match up.code {
        0 if nothing && untouched && IGNORED.iter().any(|it| said.contains(it)) => Some(Fate::Ignored),
        0 if nothing && untouched => Some(Fate::Nothing),
        0 if !nothing => Some(Fate::Done),
        0 => None,
        _ if untouched && said.contains("hint: ") => Some(Fate::Refused),
        _ => None,
    }
}

/// Changes one key and puts it back.
fn play(stage: &Stage, base: &str, change: &Change) -> Row {
    let primary = stage.primary();
    let changed = base.replacen(&change.from, &change.to, 1);
    assert_ne!(changed, base, "{}: `{}` is not there", change.key, change.from);
    let path = stage.lab.write("changed.yaml", &changed);
    let before = fingerprint(stage);
    let began = clock::now();
    let mut faults = Vec::new();

    let plan = run(&stage.lab, &["plan", "-i", &path]);
    let begun = Instant::now();
    let up = run(&stage.lab, &["up", "-i", &path]);
    let seconds = begun.elapsed().as_secs_f64();
    // What a change has begun shows a moment later. And with another key in the inventory nobody gets in by the
    // `ssh_config` that was made for it.
    std::thread::sleep(Duration::from_secs(2));
    stage.lab.cluster(&["status", "-i", &stage.inventory]);
    let untouched = fingerprint(stage) == before;
    let told = match (&plan, &up) {
        (Some(plan), Some(up)) => {
            let told = fate(plan, up, untouched);
            let planned = !plan.stdout.contains("nothing to do") && !plan.stdout.contains("Nothing to do");
            if told == Some(Fate::Done) && (plan.code != 0 || !planned) {
                faults.push("`up` did what `plan` had not said".into());
            }
            told
        }
        _ => {
            faults.push(format!("not at its end after {} s", LIMIT.as_secs()));
            None
        }
    };
    if told != Some(change.fate) {
        faults.push(format!(
            "{told:?} and not {:?}{}",
            change.fate,
            if untouched { "" } else { "; nodes have changed" }
        ));
    }
    if change.key == "cluster" {
        // Another name is another cluster, beside this one.
        run(&stage.lab, &["down", "-i", &path, "--yes"]);
    }
    // The primary's droplet is resized once another node has taken over.
    let moves = change.key == "provider.digitalocean.size";
    let after = if moves { "pg2" } else { primary.as_str() };
    faults.extend(whole(stage, after).into_iter().map(|it| format!("afterwards {it}")));
    let gap = invariants::gap(&stage.writer.since(began));

    stage.lab.write("demo.yaml", base);
    // What has touched nothing has nothing to be put back.
    match run(&stage.lab, &[if untouched { "plan" } else { "up" }, "-i", &stage.inventory]) {
        Some(back) if back.code == 0 => {
            faults.extend(whole(stage, &primary).into_iter().map(|it| format!("put back, {it}")));
        }
        Some(back) => faults.push(format!("not put back: {}", back.stderr.trim())),
        None => faults.push("not put back in time".into()),
    }
    let plan = plan.map_or_else(Vec::new, |it| telling(&(it.stdout + &it.stderr)));
    Row {
        key: change.key,
        to: change.to.trim().into(),
        plan,
        code: up.as_ref().map(|up| up.code),
        seconds,
        last: up.map_or_else(String::new, |up| {
            let error = up.stderr.lines().rfind(|line| line.starts_with("error: ")).map(str::to_owned);
            error.unwrap_or_else(|| up.last_line().to_owned())
        }),
        gap,
        fate: told,
        faults,
    }
}

fn show(row: &Row) {
    println!(
        "{} -> {}: {:?}, exit {:?} after {:.1} s, longest gap {} ms\n    up: {}",
        row.key, row.to, row.fate, row.code, row.seconds, row.gap, row.last
    );
    for line in row.plan.iter().take(14) {
        println!("    plan: {line}");
    }
    for fault in &row.faults {
        println!("    FAULT: {fault}");
    }
}

/// The keys of an inventory of droplets.
fn droplets(lab: &Lab, base: &str) -> Vec<Change> {
    use Fate::{Done, Ignored, Nothing, Refused};
    let line = |key: &str| base.lines().find(|it| it.trim().starts_with(key)).unwrap().trim().to_owned();
    let copy = |key: &str, name: &str| {
        let from = line(key);
        let text = std::fs::read_to_string(from.split_once(": ").unwrap().1).unwrap();
        (from, format!("{key}: {}", lab.write(name, &text)))
    };
    let (token, other_token) = copy("token_file", "token");
    let (failover, other_failover) = copy("failover_token_file", "failover-token");
    let api = line("api_url");
    let key = lab.directory.path().join("another-key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let with_key = format!("    ssh_key: {}\n    region: fra1", key.display());
    let region = "    region: fra1";
    let nodes = [
        "  - {name: pg1, id: 1, role: primary}",
        "  - {name: pg2, id: 2, role: standby}",
        "  - {name: pg3, id: 3, role: witness}",
    ];
    let with = |node: &str, more: &str| node.replace('}', &format!(", {more}}}"));
    vec![
        change("provider.digitalocean.api_url", &api, &api.replace("127.0.0.1", "localhost"), Done),
        change(
            "provider.digitalocean.token_file",
            &format!("    {token}"),
            &format!("    {other_token}"),
            Nothing,
        ),
        change("provider.digitalocean.failover_token_file", &failover, &other_failover, Nothing),
        change("provider.digitalocean.region", region, "    region: ams3", Ignored),
        change("provider.digitalocean.size", "size: s-1vcpu-1gb", "size: s-1vcpu-2gb", Done),
        change("provider.digitalocean.image", &line("image: "), "image: debian-12-x64", Ignored),
        change("provider.digitalocean.ssh_key", region, &with_key, Refused),
        change(
            "provider.digitalocean.vpc",
            region,
            &format!("{region}\n    vpc: 5a4981aa-9653-4bd1-bef5-d6bff52042e4"),
            Ignored,
        ),
        change(
            "provider.digitalocean.floating_ip",
            region,
            &format!("{region}\n    floating_ip: false"),
            Ignored,
        ),
        change("postgresql.version", "version: 15", "version: 17", Refused),
        change("postgresql.port", "port: 5432", "port: 5433", Refused),
        change("postgresql.settings (reload)", "work_mem: 8MB", "work_mem: 16MB", Done),
        change("postgresql.settings (restart)", "work_mem: 8MB", "work_mem: 8MB, max_connections: 120", Done),
        change("postgresql.settings (refused by the server)", "work_mem: 8MB", "work_mem: 1", Refused),
        change("postgresql.tune", "port: 5432", "port: 5432\n  tune: false", Done),
        change("extensions", "clients: [auto]", "extensions: [hstore]\nclients: [auto]", Done),
        change("failover.lease", "lease: 9s", "lease: 12s", Done),
        change("failover.lag_limit", "lag_limit: 16MB", "lag_limit: 32MB", Done),
        change("users[].name", "{name: reports", "{name: reporting", Done),
        change("users[].password", "password: \"of-the-sweep-1\"", "password: \"of-the-sweep-2\"", Done),
        change("users[].superuser", "superuser: false", "superuser: true", Done),
        change("databases[].name", "{name: shop", "{name: store", Done),
        change("databases[].owner", "owner: app", "owner: reports", Refused),
        change("clients", "clients: [auto]", "clients: [auto, 10.20.0.0/16]", Done),
        change("client_tls", "client_tls: false", "client_tls: true", Done),
        change("nodes[].name", "name: pg2", "name: pg9", Refused),
        change("nodes[].id", "id: 2", "id: 12", Refused),
        change(
            "nodes[].role (roles change places)",
            &format!("{}\n{}", nodes[0], nodes[1]),
            &format!(
                "{}\n{}",
                nodes[0].replace("primary", "standby"),
                nodes[1].replace("standby", "primary")
            ),
            Nothing,
        ),
        change(
            "nodes[].role (the witness with data)",
            &format!("{}\n{}", nodes[1], nodes[2]),
            &format!(
                "{}\n{}",
                nodes[1].replace("standby", "witness"),
                nodes[2].replace("witness", "standby")
            ),
            Refused,
        ),
        change("nodes (one is taken out)", &format!("{}\n", nodes[1]), "", Refused),
        change(
            "nodes (the primary is taken out)",
            &format!("{}\n{}", nodes[0], nodes[1]),
            &nodes[1].replace("standby", "primary"),
            Refused,
        ),
        change("nodes[].address", nodes[1], &with(nodes[1], "address: 203.0.113.7"), Refused),
        change("nodes[].connection_host", nodes[1], &with(nodes[1], "connection_host: 203.0.113.7"), Refused),
        change(
            "nodes[].host_key",
            nodes[1],
            &with(
                nodes[1],
                "host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJldHdlZW4gdHdvIHN3ZWVwcyBvZiBrZXlz",
            ),
            Refused,
        ),
        change("nodes[].droplet_id", nodes[1], &with(nodes[1], "droplet_id: 999"), Refused),
        change("cluster", "cluster: demo", "cluster: other", Done),
    ]
}

/// The same hosts by address.
fn existing(stage: &Stage, more: &str) -> String {
    let state = stage.lab.directory.path().join("state/demo");
    let known = std::fs::read_to_string(state.join("known_hosts")).unwrap();
    let config: serde_json::Value =
        serde_json::from_str(&stage.on("pg1", "cat /etc/cluster/node.json").unwrap()).unwrap();
    let roles = ["primary", "standby", "witness"];
    let nodes = stage.hosts().iter().zip(config["nodes"].as_array().unwrap()).zip(roles).map(|((host, member), role)| {
        let mark = format!("demo-{} ", host.name);
        let key = known.lines().find_map(|line| line.strip_prefix(&mark)).unwrap();
        format!(
            "  - {{name: {}, id: {}, role: {role}, address: {}, connection_host: {}, host_key: {key}, droplet_id: {}}}\n",
            host.name,
            host.id,
            host.address,
            member["host"].as_str().unwrap(),
            host.droplet
        )
    });
    let text = std::fs::read_to_string(&stage.inventory).unwrap();
    let line = |key: &str| text.lines().find(|it| it.trim().starts_with(key)).unwrap().trim().to_owned();
    format!(
        "cluster: demo\nprovider:\n  existing:\n    ssh_user: root\n    ssh_key: {}\n    floating_ip:\n      address: {}\n      \
         {}\n      {}\n{more}nodes:\n{}",
        state.join("id_ed25519").display(),
        stage.floating,
        line("api_url"),
        line("failover_token_file"),
        nodes.collect::<String>()
    )
}

/// The keys of an inventory of hosts that exist.
fn hosts(stage: &Stage, base: &str) -> Vec<Change> {
    use Fate::{Done, Nothing, Refused};
    let line = |key: &str| base.lines().find(|it| it.trim().starts_with(key)).unwrap().trim().to_owned();
    let node = base.lines().find(|it| it.contains("name: pg2")).unwrap();
    let of = |key: &str| {
        let rest = &node[node.find(&format!("{key}: ")).unwrap()..];
        rest.split([',', '}']).next().unwrap().to_owned()
    };
    let changed = |key: &str, value: &str| node.replace(&of(key), &format!("{key}: {value}"));
    let at = |name: &str| base.lines().find(|it| it.contains(name)).unwrap().to_owned();
    for host in stage.hosts() {
        let script = "useradd -m ops && install -d -m 700 -o ops /home/ops/.ssh && \
                      install -m 600 -o ops /root/.ssh/authorized_keys /home/ops/.ssh/ && \
                      echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops";
        stage.on(&host.name, script).unwrap();
    }
    let key = stage.lab.directory.path().join("same-key");
    std::fs::copy(stage.lab.directory.path().join("state/demo/id_ed25519"), &key).unwrap();
    let api = line("api_url");
    let failover = line("failover_token_file");
    let text = std::fs::read_to_string(failover.split_once(": ").unwrap().1).unwrap();
    let other_failover = format!("failover_token_file: {}", stage.lab.write("failover-token", &text));
    let private = of("connection_host").split_once(": ").unwrap().1.to_owned();
    let swapped =
        format!("{}\n{}", at("name: pg1").replace("primary", "standby"), node.replace("standby", "primary"));
    vec![
        change("provider.existing.ssh_user", "ssh_user: root", "ssh_user: ops", Nothing),
        change(
            "provider.existing.ssh_key",
            &line("ssh_key"),
            &format!("ssh_key: {}", key.display()),
            Nothing,
        ),
        change(
            "provider.existing.floating_ip.address",
            &format!("address: {}", stage.floating),
            "address: 203.0.113.77",
            Refused,
        ),
        change("provider.existing.floating_ip.api_url", &api, &api.replace("127.0.0.1", "localhost"), Done),
        change("provider.existing.floating_ip.failover_token_file", &failover, &other_failover, Nothing),
        // Nobody gets there from here.
        change("nodes[].address", node, &changed("address", &private), Refused),
        change("nodes[].connection_host", node, &changed("connection_host", "203.0.113.7"), Refused),
        change(
            "nodes[].host_key",
            node,
            &changed("host_key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJldHdlZW4gdHdvIHN3ZWVwcyBvZiBrZXlz"),
            Refused,
        ),
        change("nodes[].droplet_id", node, &changed("droplet_id", "999"), Done),
        change("nodes[].name", node, &changed("name", "pg9"), Refused),
        change("nodes[].id", node, &changed("id", "12"), Refused),
        change(
            "nodes[].role (roles change places)",
            &format!("{}\n{node}", at("name: pg1")),
            &swapped,
            Nothing,
        ),
        change("cluster", "cluster: demo", "cluster: other", Refused),
    ]
}

/// Plays all of them, or those whose keys `SWEEP` names.
pub(crate) fn sweep(number: u8) {
    let stage = Stage::set(number, Third::Witness);
    let more = "postgresql:\n  version: 15\n  port: 5432\n  settings: {work_mem: 8MB}\nfailover: {lease: 9s, lag_limit: 16MB}\n\
                users:\n  - {name: app, password: \"of-the-sweep-1\"}\n  - {name: reports, superuser: false}\n\
                databases:\n  - {name: shop, owner: app}\nclients: [auto]\nclient_tls: false\n";
    let text = std::fs::read_to_string(&stage.inventory).unwrap();
    let provider = &text[..text.find("postgresql:").unwrap()];
    let nodes = &text[text.find("nodes:").unwrap()..];
    let chosen = |change: &Change| match std::env::var("SWEEP") {
        Ok(only) => only.split(',').any(|it| change.key.contains(it)),
        Err(_) => true,
    };
    let mut rows = Vec::new();
    let mut play_all = |base: &str, changes: Vec<Change>| {
        stage.lab.write("demo.yaml", base);
        stage.lab.cluster(&["up", "-i", &stage.inventory]).ok();
        for change in changes.iter().filter(|it| chosen(it)) {
            let row = play(&stage, base, change);
            show(&row);
            rows.push(row);
        }
    };
    let base = format!("{provider}{more}{nodes}");
    play_all(&base, droplets(&stage.lab, &base));
    let base = existing(&stage, more);
    play_all(&base, hosts(&stage, &base));

    println!("{:<55} {:>8} {:>5} {:>7} {:>8}  last line", "key", "fate", "exit", "took", "gap");
    for row in &rows {
        println!(
            "{:<55} {:>8} {:>5} {:>5.1} s {:>5} ms  {}",
            row.key,
            row.fate.map_or("?".into(), |fate| format!("{fate:?}").to_lowercase()),
            row.code.map_or("-".into(), |code| code.to_string()),
            row.seconds,
            row.gap,
            row.last
        );
    }
    let wrong: Vec<String> =
        rows.iter().flat_map(|row| row.faults.iter().map(move |it| format!("{}: {it}", row.key))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let base = format!("{provider}{more}{nodes}");
    stage.lab.write("demo.yaml", &base);
    stage.writer.stop();
    run(&stage.lab, &["down", "-i", &stage.inventory, "--yes"]);
    assert_eq!(block_on(async { stage.lab.client().droplets("cluster:demo").await.unwrap().len() }), 0);
    stage.lab.stop();
}
