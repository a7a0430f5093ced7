//! The commands of maintenance on hosts, as a person runs them: what each prints, its exit code, and what is true on
//! the nodes afterwards.

use std::time::{Duration, Instant};

use cluster::check;
use cluster_cloud::droplet::Power;
use serde_json::{Value, json};

use super::support::{Lab, PREPARED, Run, block_on};
use super::{demo, node};

/// Twice what a failover takes at most: what has not happened by then does not happen.
const NOTHING_HAPPENS: Duration = Duration::from_secs(20);

/// A lab with a cluster that works.
struct Stage {
    lab: Lab,
    inventory: String,
}

impl Stage {
    fn set(number: u8) -> Stage {
        let lab = Lab::start(number, PREPARED);
        let inventory = lab.inventory("demo.yaml", PREPARED, &demo(15));
        let begun = Instant::now();
        lab.cluster(&["up", "-i", &inventory]).ok();
        let stage = Stage { lab, inventory };
        stage.healthy();
        stage.lab.sql("pg1", "app", "create table t (word text)");
        println!("the cluster is up after {:.0} s", begun.elapsed().as_secs_f64());
        stage
    }

    /// Runs a command on this inventory; `words` is split at blanks.
    fn run(&self, words: &str) -> Run {
        let mut words = words.split(' ');
        let mut args = vec![words.next().unwrap(), "-i", &self.inventory];
        args.extend(words);
        self.lab.cluster(&args)
    }

    /// Runs a command that must end with `code` and print all of `wanted`, in whichever stream.
    #[track_caller]
    fn says(&self, words: &str, code: i32, wanted: &[&str]) -> Run {
        let begun = Instant::now();
        let run = self.run(words);
        let (out, error) = (run.stdout.trim_end(), run.stderr.trim_end());
        println!("$ cluster {words}  # {}, {:.1} s\n{out}\n{error}", run.code, begun.elapsed().as_secs_f64());
        assert_eq!(run.code, code, "{words}");
        for what in wanted {
            assert!(out.contains(what) || error.contains(what), "`cluster {words}` does not say `{what}`");
        }
        run
    }

    /// Runs a command that must be refused, with a hint.
    #[track_caller]
    fn refuses(&self, words: &str, code: i32, wanted: &[&str]) {
        let run = self.says(words, code, wanted);
        assert!(run.stderr.contains("hint: "), "`cluster {words}` gives no hint");
        assert_eq!(run.stdout, "", "nothing was done, and so there is no result");
    }

    fn status(&self) -> Value {
        self.lab.status(&self.inventory)
    }

    #[track_caller]
    fn wait_for(&self, seconds: u64, wanted: impl Fn(&Value) -> bool) -> (Value, Duration) {
        self.lab.wait_for_status(&self.inventory, seconds, wanted)
    }

    #[track_caller]
    fn healthy(&self) -> Value {
        self.wait_for(60, |status| status["healthy"] == true).0
    }

    /// Looks for as long as it takes to be sure that something does not happen.
    #[track_caller]
    fn all_the_while(&self, is: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < NOTHING_HAPPENS {
            let status = self.status();
            assert!(is(&status), "after {:?}: {status:#}", begun.elapsed());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// What a node's own PostgreSQL says of itself; empty if it does not run.
    fn recovers(&self, node: &str) -> String {
        let ask = "cd / && runuser -u postgres -- psql -XAtqw -d postgres -c 'select pg_is_in_recovery()'";
        self.lab.try_ssh(node, ask).stdout.trim().to_owned()
    }

    /// Writes a word through the floating IP's node, and says what all words are there.
    #[track_caller]
    fn write(&self, node: &str, word: &str) {
        self.lab.sql(node, "app", &format!("insert into t values ('{word}')"));
    }

    fn words(&self, node: &str) -> String {
        self.lab.sql(node, "app", "select string_agg(word, ' ' order by word) from t")
    }

    /// The node that an application reaches through the floating IP.
    #[track_caller]
    fn answers(&self) -> String {
        let (address, password) = (self.lab.floating_ip().to_string(), self.lab.check_password());
        let write = check::write_through(&address, 5432, &password, Duration::from_secs(30));
        block_on(write).unwrap().node
    }
}

fn problems(status: &Value) -> String {
    status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

fn has_problem(status: &Value, words: &str) -> bool {
    problems(status).contains(words)
}

/// A node takes writes, and the floating IP leads to it.
fn serves(name: &str) -> impl Fn(&Value) -> bool {
    move |status| status["primary"] == name && status["floating_ip"]["node"] == name
}

#[test]
#[ignore = "needs root and a lab"]
fn a_pause_holds_a_switchover_moves_and_a_failover_is_told() {
    let stage = Stage::set(8);
    a_switchover_and_back(&stage);
    a_killed_primary_in_a_pause(&stage);
    a_failover_is_explained(&stage);
    a_primary_that_is_lost_in_a_pause(&stage);
    stage.lab.stop();
}

fn a_switchover_and_back(stage: &Stage) {
    stage.refuses("switchover pg9", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("switchover pg3", 3, &["pg3 is the witness and holds no data", "name a data node"]);
    stage.refuses("switchover pg1", 3, &["pg1 is already the primary"]);
    assert_eq!(stage.healthy()["primary"], "pg1");

    stage.write("pg1", "a");
    stage.says("switchover pg2", 0, &["pg2 takes writes (", "pg1 streams from it ("]);
    let status = stage.healthy();
    assert_eq!((&status["primary"], &status["holder"]), (&json!("pg2"), &json!("pg2")));
    assert_eq!((stage.recovers("pg1"), stage.recovers("pg2")), ("t".into(), "f".into()));
    assert_eq!(stage.answers(), "pg2");
    stage.write("pg2", "b");

    // Back, and to nobody in particular: there is one standby.
    let told = stage.says("switchover --json", 0, &[]).json();
    assert_eq!((&told["from"], &told["to"]), (&json!("pg2"), &json!("pg1")));
    let (moved, whole) = (told["seconds"].as_f64().unwrap(), told["redundant_after"].as_f64().unwrap());
    assert!(0.0 < moved && moved < whole && whole < 60.0, "{told}");
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!(stage.words("pg1"), "a b", "nothing acknowledged is lost");
}

/// What `pause --json` and `resume --json` say of every node.
#[track_caller]
fn told(run: &Run, paused: bool, changed: bool) {
    let told = run.json();
    assert_eq!((&told["paused"], &told["complete"]), (&json!(paused), &json!(true)));
    for name in ["pg1", "pg2", "pg3"] {
        assert_eq!(told["nodes"][name], json!({"paused": paused, "changed": changed, "error": null}));
    }
}

fn a_killed_primary_in_a_pause(stage: &Stage) {
    told(&stage.says("pause --json", 0, &[]), true, true);
    told(&stage.says("pause --json", 0, &[]), true, false);
    stage.says("pause", 0, &["pg1: already paused", "no failover until `cluster resume`"]);
    let loud = [
        "PAUSED on pg1, pg2, pg3 since ",
        "`cluster resume` ends the pause",
        "failover: off: every streaming standby is paused",
    ];
    stage.says("status", 4, &loud);
    let status = stage.status();
    assert_eq!((&status["paused"], &status["healthy"]), (&json!(true), &json!(false)));
    assert_eq!(status["failover"]["automatic"], false);
    let timeline = node(&status, "pg1")["timeline"].clone();
    for name in ["pg1", "pg2", "pg3"] {
        assert_eq!(node(&status, name)["paused"], true);
    }
    assert_eq!(stage.answers(), "pg1", "the primary goes on");
    stage.refuses("drill --fault crash --yes", 3, &["failover is paused on pg1", "`cluster resume`"]);
    stage.refuses("switchover pg2", 3, &["the cluster is paused", "`cluster resume`"]);

    stage.lab.ssh("pg1", "kill -9 $(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)");
    let stands_still = |status: &Value| {
        status["primary"].is_null() && status["holder"] == "pg1" && node(status, "pg2")["role"] == "standby"
    };
    stage.wait_for(5, stands_still);
    stage.all_the_while(stands_still);
    stage.refuses("failover", 3, &["the cluster is paused", "`cluster resume`"]);
    stage.refuses("failover pg2 --force --yes", 3, &["pg2 is paused and would not promote"]);
    let before = stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()");
    stage.says("up", 1, &["paused on pg1, pg2, pg3", "`cluster resume` ends the pause"]);
    assert!(stands_still(&stage.status()), "{:#}", stage.status());
    assert_eq!((stage.recovers("pg1"), stage.recovers("pg2")), (String::new(), "t".into()));
    assert_eq!(stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()"), before);

    told(&stage.says("resume --json", 0, &[]), false, true);
    let (status, took) = stage.wait_for(30, serves("pg1"));
    println!("resume to pg1: {:.1} s", took.as_secs_f64());
    assert_eq!(node(&status, "pg1")["timeline"], timeline, "nobody was promoted");
    told(&stage.says("resume --json", 0, &[]), false, false);
    stage.says("resume", 0, &["pg1: not paused"]);
    assert_eq!(stage.healthy()["paused"], false);
    assert_eq!(stage.words("pg1"), "a b");
}

fn seconds(incident: &Value, key: &str) -> f64 {
    incident[key].as_f64().unwrap_or_else(|| panic!("{key}: {incident:#}"))
}

/// The parts of a failover follow one another without a gap, so they come to the whole.
#[track_caller]
fn parts_make_the_whole(incident: &Value, seen: Duration) {
    let phases = incident["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["detect", "decide", "promote", "move the address"], "{incident:#}");
    let sum: f64 = phases.iter().map(|phase| seconds(phase, "seconds")).sum();
    let (writable, address) = (seconds(incident, "writable_after"), seconds(incident, "address_after"));
    assert!((sum - address).abs() < 0.05, "{sum} s of parts, {address} s in all: {incident:#}");
    assert!(0.0 < writable && writable <= address, "{incident:#}");
    // The last word of the primary came up to a second before its power went.
    assert!(address < seen.as_secs_f64() + 1.5, "{address} s, and it was seen after {seen:?}");
}

fn a_failover_is_explained(stage: &Stage) {
    let cut = Instant::now();
    stage.lab.power("pg1", Power::Off);
    stage.wait_for(60, serves("pg2"));
    let seen = cut.elapsed();
    let story = stage.says("explain --json", 0, &[]).json();
    assert_eq!(story["incident"]["kind"], "failover");
    assert_eq!((&story["incident"]["from"], &story["incident"]["to"]), (&json!("pg1"), &json!("pg2")));
    assert!(story["missing"]["pg1"].is_string(), "its journal is on its disk, and it is off");
    parts_make_the_whole(&story["incident"], seen);
    let parts = ["failover: pg1 to pg2", "detect", "decide", "promote", "move the address", "writes after "];
    stage.says("explain", 0, &parts);
    stage.says("explain", 0, &["the provider reports that pg1 is off", "the journal of pg1 is missing: "]);

    // The same story, once everybody can tell his part.
    stage.lab.power("pg1", Power::On);
    stage.healthy();
    let story = stage.run("explain --json").ok().json();
    assert_eq!(story["missing"], json!({}));
    parts_make_the_whole(&story["incident"], seen);
    assert!(seconds(&story["incident"], "redundant_after") > seconds(&story["incident"], "address_after"));
    stage.says("explain", 0, &["failover: pg1 to pg2", "redundancy after "]);
    let list = stage.says("explain --list", 0, &["beginning", "switchover", "pg2 to pg1"]).stdout;
    assert!(list.lines().last().unwrap().contains("failover           pg1 to pg2; writes after "), "{list}");
    let list = stage.run("explain --list --json").ok().json();
    let last = list.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["kind"], &last["from"], &last["to"]),
        (&json!("failover"), &json!("pg1"), &json!("pg2"))
    );
    assert_eq!((stage.recovers("pg1"), stage.words("pg2")), ("t".into(), "a b".into()));
}

fn a_primary_that_is_lost_in_a_pause(stage: &Stage) {
    stage.says("pause", 0, &["pg1: paused", "pg2: paused", "pg3: paused"]);
    stage.lab.power("pg2", Power::Off);
    let lost = |status: &Value| {
        status["primary"].is_null()
            && node(status, "pg1")["role"] == "standby"
            && node(status, "pg2")["state"] == "off"
    };
    stage.all_the_while(lost);
    stage.says("up", 1, &["paused on pg1, pg3"]);
    assert!(lost(&stage.status()), "no droplet is switched on in a pause: {:#}", stage.status());

    // Who cannot be told is named, and the others go on.
    let told = stage.says("resume --json", 1, &[]).json();
    assert_eq!(told["complete"], false);
    assert_eq!(told["nodes"]["pg1"], json!({"paused": false, "changed": true, "error": null}));
    assert!(told["nodes"]["pg2"]["error"].is_string(), "{told}");
    let (_, took) = stage.wait_for(30, serves("pg1"));
    println!("resume to pg1: {:.1} s", took.as_secs_f64());
    assert_eq!(stage.answers(), "pg1");

    // A host that boots in its pause starts nothing, and the mixture is a problem.
    stage.lab.power("pg2", Power::On);
    let mixed = "PAUSED on pg2 since ";
    stage.wait_for(60, |status| has_problem(status, mixed));
    stage.all_the_while(|status| node(status, "pg2")["state"] == "stopped" && status["primary"] == "pg1");
    stage.says("status", 4, &[mixed, "(not on pg1, not on pg3)"]);
    stage.says("resume", 0, &["pg1: not paused", "pg2: resumed", "pg3: not paused"]);
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a b".into()));
}

#[test]
#[ignore = "needs root and a lab"]
fn a_node_rejoins_by_hand_and_takes_over_by_force() {
    let stage = Stage::set(9);
    a_rejoin_that_makes_no_sense(&stage);
    a_stop_while_it_starts_ends(&stage);
    a_damaged_standby_is_cloned_anew(&stage);
    a_clone_keeps_what_lies_elsewhere_apart(&stage);
    force_where_a_majority_is_there(&stage);
    a_majority_is_lost(&stage);
    a_majority_comes_back_without_the_forced_one(&stage);
    stage.lab.stop();
}

fn a_rejoin_that_makes_no_sense(stage: &Stage) {
    stage.refuses("rejoin pg9", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("rejoin pg3", 3, &["pg3 is the witness"]);
    stage.refuses("rejoin pg1", 3, &["pg1 takes writes", "`cluster switchover`"]);
    stage.refuses("rejoin pg1 --clone", 3, &["pg1 takes writes", "`cluster switchover`"]);
    let started = stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()");
    stage.says("rejoin pg2", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(
        stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()"),
        started,
        "nothing to do"
    );
}

/// A standby that is to stop before its start has ended used to stay behind for ever, one time of ten.
fn a_stop_while_it_starts_ends(stage: &Stage) {
    stage.lab.ssh(
        "pg2",
        "cluster-node pause; unit=postgresql@15-main; \
         for n in $(seq 20); do \
             systemctl stop $unit && systemctl start --no-block $unit && sleep 1.$((n % 10)) && \
             timeout 20 systemctl stop $unit || { systemctl kill -s KILL $unit; exit 1; }; \
         done; cluster-node resume",
    );
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// Removes a file of a standby's data while PostgreSQL stands still there, as a person would: with that node paused.
fn damage(stage: &Stage, file: &str) {
    stage.lab.ssh(
        "pg2",
        &format!(
            "cluster-node pause && systemctl stop postgresql@15-main && rm -r /var/lib/postgresql/15/main/{file} && \
             cluster-node resume"
        ),
    );
}

fn a_damaged_standby_is_cloned_anew(stage: &Stage) {
    stage.write("pg1", "a");
    let data = "/var/lib/postgresql/15/main";
    let ours = "sha256sum /etc/cluster/* /etc/repmgr.conf /etc/postgresql/15/main/conf.d/*";
    for file in ["global/pg_filenode.map", "global/pg_control"] {
        let before = stage.lab.ssh("pg2", ours);
        // By this the directory that is kept is told from the one that is made.
        stage
            .lab
            .ssh("pg2", &format!("runuser -u postgres -- touch {data}/before-{}", file.replace('/', "-")));
        damage(stage, file);
        let (status, _) = stage.wait_for(30, |status| node(status, "pg2")["state"] == "stopped");
        assert_eq!(status["primary"], "pg1");
        // Its guard tries to start it: the server without its map runs, and answers nobody.
        stage.refuses(
            "rejoin pg2",
            3,
            &["this node is a standby", "--clone replaces its data with a fresh clone"],
        );
        stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
        assert_eq!(stage.healthy()["primary"], "pg1");
        assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a".into()));
        // The old data is beside it as it was, damage and all, and nothing else of ours was touched.
        let mark = format!("before-{}", file.replace('/', "-"));
        let look = format!(
            "ls -d {data}.cluster-old/{mark} {data}.cluster-old/base {data}.cluster-old/{file} {data}/{mark} {data}.cluster-new 2>&1 || :"
        );
        let there = stage.lab.ssh("pg2", &look);
        let found: Vec<&str> = there.lines().filter(|line| line.starts_with('/')).collect();
        assert_eq!(
            found,
            [format!("{data}.cluster-old/base"), format!("{data}.cluster-old/{mark}")],
            "{there}"
        );
        assert_eq!(stage.lab.ssh("pg2", ours), before);
    }
    // A clone of what is well is made, too, when it is asked for.
    let made = stage.lab.ssh("pg2", &format!("stat -c %i {data}"));
    stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.lab.ssh("pg2", &format!("stat -c %i {data}.cluster-old")), made);
    assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
    // Cut off between the two moves that put a clone in its place, and after them: the clone is whole, it is not made
    // again, and the old data, which is nowhere else, stays where it is.
    let inodes = || stage.lab.ssh("pg2", &format!("stat -c %i {data} {data}.cluster-old"));
    let before = inodes();
    for moved in ["mv DATA DATA.cluster-new", ":"] {
        let script = format!(
            "systemctl stop cluster-node; systemctl stop postgresql@15-main; {}; \
             echo placing >/var/lib/cluster/rewinding; systemctl start cluster-node",
            moved.replace("DATA", data)
        );
        stage.lab.ssh("pg2", &script);
        stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
        assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
        assert_eq!(inodes(), before, "{moved}");
    }
    // Without that note nobody knows that there is a clone: the old data is taken back, and cloned anew.
    let moved = format!(
        "systemctl stop cluster-node; systemctl stop postgresql@15-main; \
         rm -rf {data}.cluster-old; mv {data} {data}.cluster-old; systemctl start cluster-node"
    );
    stage.lab.ssh("pg2", &moved);
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
}

/// A tablespace, and WAL on a disk of its own.
fn a_clone_keeps_what_lies_elsewhere_apart(stage: &Stage) {
    for node in ["pg1", "pg2"] {
        stage.lab.ssh(node, "install -d -o postgres -g postgres -m 700 /srv/apart");
    }
    stage.lab.sql("pg1", "postgres", "create tablespace apart location '/srv/apart'");
    stage.lab.sql("pg1", "app", "create table elsewhere tablespace apart as select 1 as number");
    let data = "/var/lib/postgresql/15/main";
    stage.lab.ssh(
        "pg2",
        &format!(
            "cluster-node pause && systemctl stop postgresql@15-main && mv {data}/pg_wal /srv/wal && \
             ln -s /srv/wal {data}/pg_wal && systemctl start postgresql@15-main && cluster-node resume"
        ),
    );
    stage.healthy();
    let mut before = String::new();
    for round in 0..2 {
        let inodes = stage.lab.ssh("pg2", &format!("stat -c %i {data} /srv/apart /srv/wal"));
        stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
        assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
        let links = format!("readlink {data}/pg_wal {data}/pg_tblspc/*");
        assert_eq!(stage.lab.ssh("pg2", &links).trim(), "/srv/wal\n/srv/apart", "round {round}");
        // What was there is beside it, whole: one data directory that leads to the others.
        let old = format!("{data}.cluster-old");
        let kept = stage.lab.ssh("pg2", &format!("stat -Lc %i {old} {old}/pg_tblspc/* {old}/pg_wal"));
        assert_eq!(kept, inodes, "round {round}");
        assert_ne!(kept, before, "round {round}");
        before = kept;
    }
    // Cut off when the tablespace had been moved and the link to it not yet.
    let moved = format!(
        "systemctl stop cluster-node; systemctl stop postgresql@15-main; touch /var/lib/cluster/rewinding; \
         rm -rf {data}.cluster-old /srv/apart.cluster-old; mv /srv/apart /srv/apart.cluster-old; \
         systemctl start cluster-node"
    );
    stage.lab.ssh("pg2", &moved);
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
    assert_eq!(stage.healthy()["primary"], "pg1");
    // What is mounted is left as it is.
    let mounted = "mount --bind /srv/apart /srv/apart";
    stage.lab.ssh("pg2", mounted);
    stage.says("rejoin pg2 --clone", 1, &["/srv/apart", "it is a mount point"]);
    stage.lab.ssh("pg2", "umount /srv/apart");
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    // And so is what somebody else has called by our names.
    stage.lab.ssh("pg2", "sed -i /apart/d /var/lib/cluster/vacated");
    stage.says("rejoin pg2 --clone", 1, &["/srv/apart.cluster-old is in the way"]);
    stage.lab.ssh("pg2", "rm -r /srv/apart.cluster-old");
    stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
    assert_eq!(stage.healthy()["primary"], "pg1");
}

fn force_where_a_majority_is_there(stage: &Stage) {
    stage.refuses(
        "failover",
        3,
        &["pg1 takes writes: there is nothing to fail over from", "`cluster switchover`"],
    );
    stage.refuses("failover pg9 --force --yes", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("failover pg3 --force --yes", 3, &["pg3 is the witness and holds no data"]);
    stage.refuses("failover pg2 --force --yes", 3, &["pg1 takes writes", "`cluster switchover`"]);
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// The witness first: with it, pg2 would take over by itself.
fn lose_the_majority(stage: &Stage) {
    stage.lab.power("pg3", Power::Off);
    stage.lab.power("pg1", Power::Off);
}

const FORCED: &str = "pg2 took over BY FORCE and has had no majority since";

fn force(stage: &Stage) {
    stage.says("failover pg2 --force --yes", 0, &["pg2 takes writes, by force ("]);
    let status = stage.status();
    assert_eq!((&status["primary"], &status["holder"]), (&json!("pg2"), &json!("pg2")), "{status:#}");
    assert_eq!(stage.recovers("pg2"), "f");
    stage.says("status", 4, &[FORCED, "failover: off: "]);
}

fn a_majority_is_lost(stage: &Stage) {
    lose_the_majority(stage);
    stage.all_the_while(|status| status["primary"].is_null() && node(status, "pg2")["role"] == "standby");
    stage.refuses("failover", 3, &["1 of 3 guards are reachable", "`cluster failover NODE --force`"]);
    // Nobody to ask: what it may cost is told, and nothing is done.
    let costs = [
        "pg2 will be forced to become primary:",
        "it has WAL up to ",
        "pg1 is off. Transactions that pg2 never received are set aside when pg1 rejoins",
        "until a majority of the nodes is back, there is no failover from pg2",
        "cannot ask for confirmation",
    ];
    stage.refuses("failover pg2 --force", 3, &costs);
    stage.refuses("failover pg1 --force --yes", 3, &["pg1: its droplet is off", "name a reachable node"]);
    assert_eq!(stage.recovers("pg2"), "t", "nothing was changed");
    force(stage);
    assert_eq!(stage.answers(), "pg2");
    stage.write("pg2", "b");

    // The others come back: never a second primary, and in the end three nodes of one mind.
    stage.lab.power("pg3", Power::On);
    stage.lab.power("pg1", Power::On);
    let begun = Instant::now();
    loop {
        let status = stage.status();
        assert_eq!(status["primary"], "pg2", "{status:#}");
        assert_ne!(stage.recovers("pg1"), "f", "{status:#}");
        if status["healthy"] == true {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{status:#}");
    }
    println!("power on to health: {:.1} s", begun.elapsed().as_secs_f64());
    assert!(!stage.says("status", 0, &["healthy"]).stdout.contains("BY FORCE"));
    assert_eq!((stage.recovers("pg1"), stage.words("pg1")), ("t".into(), "a b".into()));
    stage.says("explain", 0, &["forced failover: pg1 to pg2"]);
    stage.says("switchover pg1", 0, &["pg1 takes writes ("]);
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// Nothing passes between pg2 and the other nodes; a person reaches all of them.
fn cut_off(stage: &Stage) {
    let peers =
        stage.lab.ssh("pg2", "grep -o '\"host\": *\"[^\"]*\"' /etc/cluster/node.json | cut -d'\"' -f4");
    let own = stage.lab.ssh("pg2", "hostname -I");
    let others: Vec<&str> = peers.lines().filter(|peer| !own.split(' ').any(|own| own == *peer)).collect();
    assert_eq!(others.len(), 2, "{peers}, {own}");
    let others = others.join(", ");
    stage.lab.ssh(
        "pg2",
        &format!(
            "nft 'add table inet test_cut; add chain inet test_cut in {{ type filter hook input priority -200; }}; \
             add rule inet test_cut in ip saddr {{ {others} }} drop; \
             add chain inet test_cut out {{ type filter hook output priority -200; }}; \
             add rule inet test_cut out ip daddr {{ {others} }} drop'"
        ),
    );
}

/// What cannot be prevented (decision 10): both take writes until they hear of each other. It ends with one primary,
/// and nothing is thrown away before somebody has looked.
fn a_majority_comes_back_without_the_forced_one(stage: &Stage) {
    lose_the_majority(stage);
    stage.wait_for(30, |status| status["primary"].is_null());
    force(stage);
    stage.write("pg2", "forced");
    cut_off(stage);
    stage.lab.power("pg3", Power::On);
    stage.lab.power("pg1", Power::On);
    let (status, took) = stage.wait_for(90, |status| has_problem(status, "SPLIT BRAIN: pg1 and pg2"));
    println!("two primaries, told after {:.1} s", took.as_secs_f64());
    assert!(status["primary"].is_null(), "{status:#}");
    stage.refuses("up", 3, &["pg1 and pg2 take writes at the same time"]);
    stage.write("pg1", "majority");

    stage.lab.ssh("pg2", "nft delete table inet test_cut");
    let kept = "pg2: took writes while another node was primary; its data is kept";
    // Both kept the address; the one that is left looks after it every 15 s.
    let (_, took) = stage.wait_for(60, |status| serves("pg1")(status) && has_problem(status, kept));
    println!("the forced one gave way after {:.1} s", took.as_secs_f64());
    stage.all_the_while(|status| {
        serves("pg1")(status) && node(status, "pg2")["state"] == "stopped" && has_problem(status, kept)
    });
    stage.says("status", 4, &[kept, "given it up with `cluster rejoin pg2`"]);
    stage.refuses("rejoin pg2", 3, &["cannot ask for confirmation"]);
    stage.says("status", 4, &[kept]);
    stage.says("rejoin pg2 --yes", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.healthy()["primary"], "pg1");
    assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a b majority".into()));
    let lost: Value = serde_json::from_str(&stage.lab.ssh("pg2", "cat /var/lib/cluster/lost.json")).unwrap();
    assert!(lost["transactions"].as_u64() >= Some(1), "{lost}");
    let wal = stage.lab.ssh("pg2", &format!("ls {}", lost["wal"].as_str().unwrap()));
    assert!(wal.contains("transactions"), "{wal}");
}
