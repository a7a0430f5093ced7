//! The stage: one lab, one cluster, one writer, and many faults on it, one after the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use cluster_contract::Millis;
use cluster_contract::journal::Line;
use cluster_node::clock;
use serde_json::{Value, json};

use crate::bucket;
use crate::fault::{Fault, From};
use crate::invariants::Entry;
use crate::support::{Lab, PREPARED, block_on};
use crate::writer::{ADDRESS, Attempt, Outcome, Pace, Target, Writer};

/// The delay of the lab's API when an address is moved.
const ASSIGN_MILLIS: u64 = 2_000;
/// For a host that has to boot, and for what comes after: on two slow cores that alone may take a minute.
pub(crate) const BOOTED: Duration = Duration::from_secs(120);
/// A line of a journal says when, on the clock of all hosts.
const JOURNAL: &str =
    "tail -qn 600 /var/lib/cluster/journal.jsonl.1 /var/lib/cluster/journal.jsonl 2>/dev/null";

/// A host of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) droplet: u64,
    pub(crate) address: IpAddr,
    pub(crate) witness: bool,
}

/// A lab with a cluster and a writer.
pub(crate) struct Stage {
    // Stopped before the lab is.
    pub(crate) writer: Writer,
    pub(crate) lab: Lab,
    pub(crate) inventory: String,
    pub(crate) floating: Ipv4Addr,
    hosts: Vec<Host>,
    /// What is broken now.
    broken: RefCell<Vec<Fault>>,
    /// Hosts that were thawed, and when.
    thawed: RefCell<Vec<(String, Millis)>>,
    /// How many loads there were.
    loads: Cell<i64>,
}

/// Which nodes there are beside a primary and a standby.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Third {
    /// None.
    None,
    /// A witness.
    Witness,
    /// Another standby.
    Standby,
}

/// The inventory of these tests behind its provider.
pub(crate) fn nodes(third: Third) -> String {
    let third = match third {
        Third::None => "",
        Third::Witness => "  - {name: pg3, id: 3, role: witness}\n",
        Third::Standby => "  - {name: pg3, id: 3, role: standby}\n",
    };
    format!(
        "postgresql:\n  version: 15\n  settings: {{max_connections: 600}}\nclient_tls: false\nnodes:\n  - {{name: pg1, id: 1, role: primary}}\n  \
         - {{name: pg2, id: 2, role: standby}}\n{third}"
    )
}

/// The inventory's repository: the lab's object storage.
fn repository(lab: &Lab) -> String {
    format!(
        "backup:\n  spaces:\n    bucket: {}\n    endpoint: https://spaces.lab:{}\n    address: 127.0.0.1\n    \
         ca: /var/lib/cluster-lab/{}/spaces_ca.crt\n  prove_every: never\n",
        bucket::NAME,
        lab.port + 1000,
        lab.name
    )
}

impl Stage {
    /// Makes all of it. `number` is the lab's.
    pub(crate) fn set(number: u8, third: Third) -> Stage {
        Stage::set_with(number, third, |_| String::new())
    }

    /// The same with a backup repository, in which there is a backup.
    pub(crate) fn with_repository(number: u8) -> Stage {
        let stage = Stage::set_with(number, Third::Witness, repository);
        stage.lab.wait_for_status(&stage.inventory, 180, |status| {
            !status["backups"]["contents"]["backups"][0].is_null() && status["healthy"] == true
        });
        stage
    }

    fn set_with(number: u8, third: Third, more: impl FnOnce(&Lab) -> String) -> Stage {
        let lab = Lab::in_turn(number, PREPARED);
        lab.set(&json!({"times": {"assign": ASSIGN_MILLIS}}));
        let inventory = lab.inventory("demo.yaml", PREPARED, &(more(&lab) + &nodes(third)));
        let begun = Instant::now();
        lab.cluster(&["up", "-i", &inventory]).ok();
        println!("the cluster is up after {:.0} s", begun.elapsed().as_secs_f64());
        let (status, _) = lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
        lab.sql(
            status["primary"].as_str().unwrap(),
            "cluster",
            "create table writes (sequence bigint primary key, target text not null); \
             alter table writes owner to cluster",
        );
        for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
            assert_eq!(lab.sql("pg1", "cluster", &format!("show {setting}")), "on");
        }
        let hosts = hosts(&lab, &status);
        let floating = lab.floating_ip();
        let mut targets: Vec<Target> = hosts
            .iter()
            .filter(|host| !host.witness)
            .map(|host| Target { name: host.name.clone(), host: host.address })
            .collect();
        targets.push(Target { name: ADDRESS.into(), host: floating.into() });
        let writer = Writer::start(targets, &lab.check_password(), Pace::STEADY);
        let stage = Stage {
            writer,
            lab,
            inventory,
            floating,
            hosts,
            broken: RefCell::default(),
            loads: Cell::default(),
            thawed: RefCell::default(),
        };
        stage.redundant(clock::now(), Duration::from_secs(60)).unwrap();
        stage
    }

    /// A load through the address, beside the writer.
    pub(crate) fn load(&self) -> Writer {
        let target = Target { name: ADDRESS.into(), host: self.floating.into() };
        // None writes a row that another has written.
        self.loads.set(self.loads.get() + 1);
        let from = Pace::BUSY.from * self.loads.get();
        Writer::start(vec![target], &self.lab.check_password(), Pace { from, ..Pace::BUSY })
    }

    /// Looks again who the hosts are, after an inventory has changed.
    pub(crate) fn look(&mut self) {
        self.hosts = hosts(&self.lab, &self.lab.status(&self.inventory));
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) fn node(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).unwrap()
    }

    /// The data nodes but this one.
    pub(crate) fn other(&self, name: &str) -> String {
        let other = self.hosts.iter().find(|host| !host.witness && host.name != name);
        other.map(|host| host.name.clone()).unwrap()
    }

    /// The unit of PostgreSQL.
    pub(crate) fn unit(&self) -> &'static str {
        "postgresql@15-main.service"
    }

    /// The node that acknowledged last.
    pub(crate) fn primary(&self) -> String {
        let recent = self.writer.since(clock::now().saturating_sub(30_000));
        recent.iter().rev().find_map(|it| Some(it.acknowledged()?.0.to_owned())).expect("nobody takes writes")
    }

    /// Whether a node is off, frozen or cut off: who asks it waits in vain, and what is to happen next would come late.
    fn is_away(&self, node: &str) -> bool {
        self.broken.borrow().iter().any(|fault| match fault {
            Fault::PowerOff(away) | Fault::FreezeHost(away) => away == node,
            Fault::Cut { node: away, from, .. } => away == node && *from == From::Everything,
            _ => false,
        })
    }

    /// Runs a script on a node.
    pub(crate) fn on(&self, node: &str, script: &str) -> Result<String, String> {
        let lab = &self.lab;
        let run = if self.is_away(node) { lab.try_ssh(node, script) } else { lab.run_on(node, script) };
        match run.code {
            0 => Ok(run.stdout.trim().to_owned()),
            code => {
                let line = script.trim().lines().next().unwrap_or_default();
                Err(format!("{node}: `{line}`: exit {code}: {}", run.stderr.trim()))
            }
        }
    }

    /// Runs a script on a node, and says when it began there.
    pub(crate) fn at_once(&self, node: &str, script: &str) -> Result<Millis, String> {
        let out = self
            .on(node, &format!("read up rest </proc/uptime; {script} >&2; code=$?; echo $up; exit $code"))?;
        let seconds: f64 = out.parse().map_err(|_| format!("{node}: `{out}` is no time"))?;
        Ok((seconds * 1000.0) as Millis)
    }

    /// Waits until the lab reports a node's power off, which is only asked for. Returns when.
    pub(crate) fn is_off(&self, node: &str) -> Result<Millis, String> {
        let id = self.node(node).droplet;
        let is_it = |droplet: &Value| droplet["id"] == id && droplet["state"] == "off";
        self.until(&format!("{node} to be off"), || {
            self.lab.lab_status()["droplets"].as_array().is_some_and(|all| all.iter().any(is_it))
        })
    }

    /// Waits until a node that was powered on lets us in. Returns when.
    pub(crate) fn lets_in(&self, node: &str) -> Result<Millis, String> {
        self.until(&format!("{node} to boot"), || self.lab.try_ssh(node, "true").code == 0)
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) -> Result<Millis, String> {
        let begun = Instant::now();
        while !is() {
            if begun.elapsed() > BOOTED {
                return Err(format!("waited {} s in vain for {what}", BOOTED.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(clock::now())
    }

    /// `cluster lab …`.
    pub(crate) fn lab_does(&self, words: &[&str]) -> Result<(), String> {
        let run = self.lab.lab(words);
        if run.code == 0 { Ok(()) } else { Err(format!("cluster lab {words:?}: {}", run.stderr)) }
    }

    /// Breaks something. Returns when.
    pub(crate) fn inject(&self, fault: &Fault) -> Result<Millis, String> {
        self.broken.borrow_mut().push(fault.clone());
        fault.inject(self)
    }

    /// Mends everything that is broken. Returns when it began to.
    pub(crate) fn mend(&self) -> Result<Millis, String> {
        let began = clock::now();
        let mut first = Ok(());
        let mut broken: Vec<Fault> = self.broken.borrow_mut().drain(..).collect();
        // What ran on a host that was powered off is gone with it.
        let off: Vec<Fault> = broken.iter().filter(|it| matches!(it, Fault::PowerOff(_))).cloned().collect();
        broken.retain(|fault| {
            off.contains(fault)
                || fault.inside().is_none_or(|node| !off.contains(&Fault::PowerOff(node.to_owned())))
        });
        // Networks first: a host that is cut off cannot be asked for anything.
        let (hosts, rest): (Vec<_>, Vec<_>) = broken.into_iter().partition(|fault| {
            matches!(fault, Fault::Cut { .. } | Fault::SlowLink(_) | Fault::ApiAway | Fault::Api(_))
        });
        for fault in hosts.iter().chain(&rest) {
            if let Fault::FreezeHost(node) = fault {
                self.thawed.borrow_mut().push((node.clone(), clock::now()));
            }
            let mended = fault.mend(self);
            first = first.and(mended);
        }
        first.map(|()| began)
    }

    /// Whether something is broken.
    pub(crate) fn broken(&self) -> Vec<Fault> {
        self.broken.borrow().clone()
    }

    /// Hosts that were thawed, and when.
    pub(crate) fn thawed(&self) -> Vec<(String, Millis)> {
        self.thawed.borrow().clone()
    }

    /// Waits for an attempt that is as wanted.
    pub(crate) fn wait(
        &self,
        what: &str,
        since: Millis,
        limit: Duration,
        wanted: impl Fn(&Attempt) -> bool,
    ) -> Result<Attempt, String> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.writer.first(since, &wanted) {
                return Ok(found);
            }
            if begun.elapsed() > limit {
                return Err(format!("waited {} s in vain for {what}; {}", limit.as_secs(), self.describe()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `node` is a standby that has a row that was written after `since`.
    pub(crate) fn streams(&self, node: &str, since: Millis, limit: Duration) -> Result<Millis, String> {
        let first = self.wait("any write", since, limit, |it| it.acknowledged().is_some())?;
        let behind = |it: &Attempt| {
            &*it.target == node
                && matches!(it.outcome, Outcome::Standby { newest } if newest >= first.sequence)
        };
        self.wait(&format!("{node} to stream"), since, limit, behind).map(|it| it.ended)
    }

    /// Waits for full redundancy: every data node streams or is primary, the address is where the primary is, the
    /// witness counts, and `status` finds nothing wrong.
    pub(crate) fn redundant(&self, since: Millis, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        self.wait("a write through the address", since, limit, |it| {
            &*it.target == ADDRESS && it.acknowledged().is_some()
        })?;
        loop {
            let status = self.lab.cluster(&["status", "-i", &self.inventory, "--json"]);
            let found: Option<Value> = serde_json::from_str(&status.stdout).ok();
            let healthy = found.as_ref().is_some_and(|it| it["healthy"] == true);
            if healthy && let Some(primary) = found.as_ref().and_then(|it| it["primary"].as_str()) {
                let records = self.records(primary);
                if records.is_ok() {
                    return Ok(());
                }
                if begun.elapsed() > limit {
                    return records;
                }
            }
            if begun.elapsed() > limit {
                return Err(format!(
                    "no full redundancy within {} s: {}{}",
                    limit.as_secs(),
                    found.map_or(status.stderr, |it| it["problems"].to_string()),
                    self.describe()
                ));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// What the guards and repmgrd last said for themselves, and what PostgreSQL does beside its clients' work.
    pub(crate) fn units(&self) -> String {
        let script = "journalctl -q --no-pager -o short-precise -u cluster-node -u repmgrd -n 60; \
                      runuser -u postgres -- timeout 5 psql -Xw -d repmgr -c \"select * from repmgr.nodes\" \
                      -c \"select pid, application_name, state, wait_event, now() - xact_start as open, query \
                          from pg_stat_activity where backend_type = 'client backend'\" 2>&1";
        let told = |it: &Host| format!("{}:\n{}", it.name, self.on(&it.name, script).unwrap_or_else(|it| it));
        self.hosts.iter().map(told).collect::<Vec<_>>().join("\n")
    }

    /// Waits until repmgr's records are right on every node.
    pub(crate) fn recorded(&self, limit: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let records = self.records(&self.primary());
            if records.is_ok() || begun.elapsed() > limit {
                return records;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// repmgr's records, on every node: all active, and all follow the primary.
    fn records(&self, primary: &str) -> Result<(), String> {
        let id = self.node(primary).id;
        let sql = format!(
            "select count(*) from repmgr.nodes where active and case when node_id = {id} then type = 'primary' \
             else upstream_node_id = {id} and type <> 'primary' end"
        );
        for host in &self.hosts {
            let right = self.sql(&host.name, "repmgr", &sql)?;
            if right != self.hosts.len().to_string() {
                return Err(format!("{} has {right} right records of {}", host.name, self.hosts.len()));
            }
        }
        Ok(())
    }

    /// Runs SQL on a node, as postgres.
    pub(crate) fn sql(&self, node: &str, database: &str, sql: &str) -> Result<String, String> {
        self.on(
            node,
            &format!("cd / && timeout 15 runuser -u postgres -- psql -XAtqw -d {database} -c \"{sql}\""),
        )
    }

    /// Rules of a node's own packet filter.
    pub(crate) fn in_network(&self, node: &str, rules: &str) -> Result<(), String> {
        self.in_namespace(node, &["nft", rules])
    }

    /// How quickly a node's packets leave it.
    pub(crate) fn shape_link(&self, node: &str, words: &[&str]) -> Result<(), String> {
        self.in_namespace(node, &[&["tc", "qdisc"], words].concat())
    }

    fn in_namespace(&self, node: &str, words: &[&str]) -> Result<(), String> {
        let namespace = self.lab.namespace(self.node(node).droplet);
        let ended = std::process::Command::new("ip")
            .args(["netns", "exec", &namespace])
            .args(words)
            .output()
            .map_err(|error| error.to_string())?;
        if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
    }

    /// The rows that a node has, from this one on.
    pub(crate) fn rows(&self, node: &str, from: i64) -> Result<BTreeSet<i64>, String> {
        let text =
            self.sql(node, "cluster", &format!("select sequence from writes where sequence >= {from}"))?;
        text.lines().map(|line| line.parse().map_err(|_| format!("`{line}` is no row"))).collect()
    }

    /// What the guards noted since a moment, in its order.
    pub(crate) fn journals(&self, since: Millis) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        for host in &self.hosts {
            let Ok(text) = self.on(&host.name, &format!("{JOURNAL} || :")) else { continue };
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
            let recent = lines.filter(|line| line.clock >= since);
            all.extend(recent.map(|line| Entry { node: host.name.clone(), line }));
        }
        all.sort_by_key(|entry| entry.line.clock);
        all
    }

    /// The node that the API says the address leads to.
    pub(crate) fn holder(&self) -> Option<String> {
        let droplet =
            block_on(async { self.lab.client().reserved_ip(self.floating).await }).ok()??.holder()?;
        self.hosts.iter().find(|host| host.droplet == droplet).map(|host| host.name.clone())
    }

    /// What a guard says.
    pub(crate) fn guard(&self, node: &str) -> Result<Value, String> {
        let text = self.on(node, "cluster-node status --json")?;
        serde_json::from_str(&text).map_err(|error| format!("{node}: {error}: {text}"))
    }

    /// What the last attempt at each target came to, and what the guards say: for a report of what went wrong.
    pub(crate) fn describe(&self) -> String {
        let recent = self.writer.since(clock::now().saturating_sub(5_000));
        let mut text = String::new();
        for target in self.hosts.iter().map(|host| host.name.as_str()).chain([ADDRESS]) {
            if let Some(last) = recent.iter().rev().find(|it| &*it.target == target) {
                text.push_str(&format!("\n  {target}: {:?}", last.outcome));
            }
        }
        for host in &self.hosts {
            match self.on(&host.name, "timeout 5 cluster-node status --json") {
                Ok(status) => text.push_str(&format!("\n  guard of {}: {status}", host.name)),
                Err(error) => text.push_str(&format!("\n  guard of {}: {error}", host.name)),
            }
        }
        text
    }
}

fn hosts(lab: &Lab, status: &Value) -> Vec<Host> {
    let config: Value = serde_json::from_str(&lab.ssh("pg1", "cat /etc/cluster/node.json")).unwrap();
    let address = |name: &str| {
        let nodes = status["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["name"] == name).unwrap();
        node["address"].as_str().unwrap().parse().unwrap()
    };
    config["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            let name = node["name"].as_str().unwrap();
            Host {
                name: name.to_owned(),
                id: node["id"].as_u64().unwrap(),
                droplet: node["droplet_id"].as_u64().unwrap(),
                address: address(name),
                witness: node["witness"].as_bool().unwrap(),
            }
        })
        .collect()
}
