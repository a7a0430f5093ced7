//! Two operators: a cluster is taken over by a machine that never saw it, also through a jump host and with a key that only an
//! SSH agent has; and two that work on it at the same time.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Lab, PREPARED, Run, look_again};
use super::{demo, fingerprint};

/// An operator at a machine of his own: a state directory and a home.
struct Operator<'a> {
    lab: &'a Lab,
    home: PathBuf,
}

impl<'a> Operator<'a> {
    fn new(lab: &'a Lab, name: &str) -> Operator<'a> {
        let home = lab.directory.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        Operator { lab, home }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.lab.command(words);
        command
            .env("CLUSTER_STATE_DIR", self.home.join("state"))
            .env("HOME", &self.home)
            .env("USER", self.home.file_name().unwrap())
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Run {
        self.command(words).output().unwrap().into()
    }

    /// Begins a run, and returns when it has printed a line with `mark`.
    fn begin(&self, words: &[&str], mark: &str) -> Child {
        let log = self.home.join("log");
        let file = std::fs::File::create(&log).unwrap();
        let child = self.command(words).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let begun = Instant::now();
        while !std::fs::read_to_string(&log).unwrap().contains(mark) {
            assert!(begun.elapsed().as_secs() < 120, "{}", std::fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        child
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap()
    }
}

/// An `ssh` for one operator that waits until it is told to go on, as one does whose host does not answer yet.
struct SlowSsh<'a> {
    operator: &'a Operator<'a>,
    directory: PathBuf,
}

impl SlowSsh<'_> {
    fn new<'a>(operator: &'a Operator<'a>) -> SlowSsh<'a> {
        let directory = operator.home.join("slow");
        std::fs::create_dir(&directory).unwrap();
        let place = directory.display();
        let script = format!(
            "#!/bin/sh\n: >{place}/called\nwhile [ -d {place} ] && ! [ -e {place}/go-on ]; do sleep 0.1; done\n\
             PATH=${{PATH#*:}}\nexec ssh \"$@\"\n"
        );
        std::fs::write(directory.join("ssh"), script).unwrap();
        std::fs::set_permissions(directory.join("ssh"), Permissions::from_mode(0o755)).unwrap();
        SlowSsh { operator, directory }
    }

    fn begin(&self, words: &[&str]) -> Child {
        let path = format!("{}:{}", self.directory.display(), std::env::var("PATH").unwrap());
        let mut command = self.operator.command(words);
        command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn was_called(&self) -> bool {
        self.directory.join("called").exists()
    }

    fn go_on(&self) {
        std::fs::write(self.directory.join("go-on"), "").unwrap();
    }
}

/// The program of PostgreSQL that every trial of settings begins with.
const INITDB: &str = "/usr/lib/postgresql/15/bin/initdb";

/// Trials of settings on pg2 that can be held up: the run stays in that step and goes on saying that it is there.
struct SlowTrials<'a> {
    lab: &'a Lab,
}

impl SlowTrials<'_> {
    fn new(lab: &Lab) -> SlowTrials<'_> {
        // Shorter than a step may take.
        let wrapper = format!(
            "#!/bin/sh\nend=$(($(date +%s) + 90))\n\
             while [ -e /run/hold-trials ] && [ \"$(date +%s)\" -lt $end ]; do sleep 0.1; done\nexec {INITDB}.kept \"$@\"\n"
        );
        lab.ssh(
            "pg2",
            &format!(
                "set -e; mv {INITDB} {INITDB}.kept; cat >{INITDB} <<'END'\n{wrapper}END\nchmod 755 {INITDB}"
            ),
        );
        SlowTrials { lab }
    }

    fn hold(&self) {
        self.lab.ssh("pg2", "touch /run/hold-trials");
    }

    fn go_on(&self) {
        self.lab.ssh("pg2", "rm /run/hold-trials");
    }

    /// Puts the program back; no trial may be under way.
    fn end(self) {
        self.lab.ssh("pg2", &format!("mv -f {INITDB}.kept {INITDB}"));
    }
}

/// An SSH agent, and the one key that it holds.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn new(socket: PathBuf, key: &Path) -> Agent {
        let process =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let agent = Agent { process: process.unwrap(), socket };
        let begun = Instant::now();
        while !agent.socket.exists() {
            assert!(begun.elapsed().as_secs() < 10, "no agent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket).status();
        assert!(added.unwrap().success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// pg1 and pg2 let in nobody but pg3, and the only key is an agent's. The cluster is made that way, its state is lost, and
/// another machine takes it over.
#[test]
#[ignore = "needs root and a lab"]
fn hosts_behind_a_jump_host_are_taken_over_with_an_agents_key() {
    let lab = Lab::start(49, PREPARED);
    let public = lab.key();
    let hosts = ["pg1", "pg2", "pg3"].map(|name| lab.bare_host(name, PREPARED, &public));
    let mut nodes = String::new();
    for (index, (host, role)) in hosts.iter().zip(["primary", "standby", "witness"]).enumerate() {
        // As the jump host reaches them; it is the last, and reached as it is.
        let (address, jump) = match index {
            2 => (&host.address, ", ssh_jump: none"),
            _ => (&host.private, ""),
        };
        nodes.push_str(&format!(
            "  - {{name: {}, id: {}, role: {role}, address: {address}, connection_host: {}, host_key: {}{jump}}}\n",
            host.name,
            index + 1,
            host.private,
            host.key
        ));
    }
    let inventory = lab.write(
        "demo.yaml",
        &format!(
            "cluster: demo\nprovider:\n  existing:\n    ssh_jump: pg3\npostgresql:\n  version: 15\nnodes:\n{nodes}"
        ),
    );
    // Whoever comes to them from elsewhere is not let in, so that no way but the one through pg3 is taken.
    for host in &hosts[..2] {
        let only = format!(
            "echo 'AllowUsers root@{}' >/etc/ssh/sshd_config.d/jump.conf; systemctl reload ssh",
            hosts[2].private
        );
        lab.bare_ssh(host, &only);
        assert_ne!(lab.try_bare_ssh(host, "true").code, 0);
    }
    let agent = Agent::new(lab.directory.path().join("agent"), &lab.directory.path().join("key"));
    // Of a connection that is kept, the part to the jump host would outlive the lab for some seconds.
    let run = |operator: &Operator, words: &[&str]| -> Run {
        let mut command = operator.command(words);
        command.env("SSH_AUTH_SOCK", &agent.socket).env("CLUSTER_SSH_KEEP_SECONDS", "0");
        command.output().unwrap().into()
    };

    let first = Operator::new(&lab, "first");
    let made = run(&first, &["up", "-i", &inventory]).ok();
    println!("made through a jump host: {}", made.last_line());
    let again = run(&first, &["up", "-i", &inventory]).ok();
    assert!(again.last_line().contains("nothing to do"), "{}", again.stderr);
    std::fs::remove_dir_all(first.home.join("state")).unwrap();

    let second = Operator::new(&lab, "second");
    // Without the agent there is no way in, and nothing is kept of the attempt.
    assert_ne!(second.run(&["adopt", "-i", &inventory, "--yes"]).code, 0);
    assert!(!second.home.join("state/demo/secrets.json").exists());
    let adopted = run(&second, &["adopt", "-i", &inventory, "--json"]).ok().json();
    assert_eq!(adopted["steps_of_next_up"], 0, "{adopted:#}");
    let up = run(&second, &["up", "-i", &inventory]).ok();
    assert!(up.last_line().contains("nothing to do"), "{}", up.stderr);
    let switched = run(&second, &["switchover", "-i", &inventory, "--json"]).ok();
    println!("switched over through a jump host: {}", switched.stdout);
    run(&second, &["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}

/// The fingerprint of a node's key, as its console shows it.
fn on_the_console(lab: &Lab, node: &str) -> String {
    let line = lab.ssh(node, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    line.split(' ').nth(1).unwrap().to_owned()
}

fn signal(process: u32, name: &str) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success()
    );
}

/// The SSH connections that a run has opened.
fn connections(operator: &Operator) -> Vec<u32> {
    let config = operator.home.join("state/demo/ssh_config");
    let output = Command::new("pgrep").args(["-f", config.to_str().unwrap()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(|it| it.parse().unwrap()).collect()
}

#[test]
#[ignore = "needs root and a lab"]
fn another_machine_takes_over_and_two_operators_meet() {
    let lab = Lab::start(48, PREPARED);
    let more =
        demo(15).replace("  - name: app\n", "  - name: app\n  - {name: shop, password: long enough}\n");
    // The database is the user's that comes first.
    let more = more.replacen(
        "databases:\n  - name: app\n  - {name: shop, password: long enough}\n",
        "databases:\n  - name: app\n",
        1,
    );
    let inventory = lab.inventory("demo.yaml", PREPARED, &more);
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    it_is_taken_over(&lab, &inventory);
    somebody_is_in_the_middle(&lab, &inventory);
    two_at_once(&lab, &inventory, &more);
    the_first_up_is_locked_at_the_provider(&lab);
    lab.stop();
}

fn it_is_taken_over(lab: &Lab, inventory: &str) {
    let eva = Operator::new(lab, "eva");
    let key = lab.directory.path().join("state/demo/id_ed25519");
    let key = key.to_str().unwrap();
    let before = fingerprint(lab);

    let lost = eva.run(&["status", "-i", inventory]);
    assert!(lost.stdout.contains("`cluster adopt` takes it over here"), "{lost:?}");
    // What a look at it has made there is no way in, and no obstacle.
    let no_way_in = eva.run(&["adopt", "-i", inventory, "--yes"]);
    assert_eq!(no_way_in.code, 3, "{no_way_in:?}");
    assert!(no_way_in.stderr.contains("recovery console"), "{no_way_in:?}");
    let nobody_to_ask = eva.run(&["adopt", "-i", inventory, "--ssh-key", key]);
    assert_eq!(nobody_to_ask.code, 3, "{nobody_to_ask:?}");
    assert!(nobody_to_ask.stderr.contains("not known; pg2 and pg3 state the same"), "{nobody_to_ask:?}");
    let wrong = format!("pg1={}", on_the_console(lab, "pg2"));
    let wrong = eva.run(&["adopt", "-i", inventory, "--ssh-key", key, "--host-key", &wrong]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(!eva.home.join("state/demo/known_hosts").exists(), "nothing is pinned");
    assert!(!eva.home.join("state/demo/secrets.json").exists(), "nothing is kept");

    let right = format!("pg3={}", on_the_console(lab, "pg3"));
    let adopted =
        eva.run(&["adopt", "-i", inventory, "--ssh-key", key, "--host-key", &right, "--json"]).ok().json();
    assert_eq!(adopted["steps_of_next_up"], 0, "{adopted:#}");
    assert_eq!(adopted["unknown_passwords"], serde_json::json!(["app"]));
    assert_eq!(adopted["host_keys"]["pg1"]["why"], "as pg3 states");
    assert_eq!(adopted["host_keys"]["pg1"]["asked"], false);
    let secrets =
        |path: &Path| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let (mut here, there) = (
        secrets(&lab.directory.path().join("state/demo/secrets.json")),
        secrets(&eva.home.join("state/demo/secrets.json")),
    );
    here["passwords"].as_object_mut().unwrap().remove("user:app");
    assert_eq!(here, there);

    let up = eva.run(&["up", "-i", inventory]).ok();
    assert!(up.last_line().contains("nothing to do"), "{}", up.stderr);
    assert!(up.stderr.contains("`app` is not stored on this machine; it is left unchanged"), "{}", up.stderr);
    look_again(|| eva.run(&["status", "-i", inventory]), |_| false).ok();
    assert_eq!(fingerprint(lab), before);
    // Again, with nothing to ask: everything is known.
    let again = eva.run(&["adopt", "-i", inventory]).ok();
    assert!(again.stderr.contains("pinned on this machine"), "{again:?}");
    eva.run(&["user", "password", "app", "-i", inventory]).ok();
    assert!(!eva.run(&["up", "-i", inventory]).ok().stderr.contains("left unchanged"));
    // The first machine does not put its own back.
    let first = lab.cluster(&["up", "-i", inventory]).ok();
    assert!(first.last_line().contains("nothing to do"), "{}", first.stderr);
    assert!(first.stderr.contains("the password of `app` was changed elsewhere"), "{}", first.stderr);

    // A public key stands for the private one that an agent holds.
    let ann = Operator::new(lab, "ann");
    let agent = Agent::new(ann.home.join("agent"), Path::new(key));
    let public = ann.home.join("agents.pub");
    std::fs::copy(format!("{key}.pub"), &public).unwrap();
    let public = public.to_str().unwrap();
    let with_agent = |words: &[&str]| -> Run {
        ann.command(words).env("SSH_AUTH_SOCK", &agent.socket).output().unwrap().into()
    };
    let adopted =
        with_agent(&["adopt", "-i", inventory, "--ssh-key", public, "--host-key", &right, "--json"])
            .ok()
            .json();
    assert_eq!(adopted["steps_of_next_up"], 0, "{adopted:#}");
    assert!(with_agent(&["up", "-i", inventory]).ok().last_line().contains("nothing to do"));

    // Existing hosts: with their keys in the inventory nobody is asked, and without them somebody is.
    let ben = Operator::new(lab, "ben");
    let existing = super::existing_inventory(lab, inventory);
    let adopted = ben.run(&["adopt", "-i", &existing, "--json"]).ok().json();
    assert_eq!(adopted["host_keys"]["pg2"]["why"], "the inventory has it as host_key");
    assert_eq!(adopted["steps_of_next_up"], 0, "{adopted:#}");
    let ida = Operator::new(lab, "ida");
    let text = std::fs::read_to_string(&existing).unwrap();
    let without = text.lines().map(|line| match (line.find(" host_key:"), line.find(" droplet_id:")) {
        (Some(from), Some(to)) => format!("{}{}\n", &line[..from], &line[to..]),
        _ => format!("{line}\n"),
    });
    let existing = lab.write("existing-without-keys.yaml", &without.collect::<String>());
    assert_eq!(ida.run(&["adopt", "-i", &existing]).code, 3);
    ida.run(&["adopt", "-i", &existing, "--yes"]).ok();
    assert!(ida.run(&["up", "-i", &existing]).ok().last_line().contains("nothing to do"));
}

/// Another host answers at the address of pg2, and says what pg2 says.
fn somebody_is_in_the_middle(lab: &Lab, inventory: &str) {
    let kim = Operator::new(lab, "kim");
    let key = lab.directory.path().join("state/demo/id_ed25519");
    // It ends by itself: there is no way in to end it.
    let change = "cd /etc/ssh; cp -p ssh_host_ed25519_key /root/kept; cp -p ssh_host_ed25519_key.pub /root/kept.pub; \
                  rm ssh_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key; \
                  systemctl restart ssh; systemd-run -q --on-active=60 sh -c 'cd /etc/ssh; \
                  cp -p /root/kept ssh_host_ed25519_key; cp -p /root/kept.pub ssh_host_ed25519_key.pub; \
                  systemctl restart ssh'";
    lab.ssh("pg2", change);
    let run = kim.run(&["adopt", "-i", inventory, "--ssh-key", key.to_str().unwrap(), "--yes"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("but pg1 and pg3 state SHA256:"), "{run:?}");
    assert!(!kim.home.join("state/demo/secrets.json").exists(), "nothing is kept");
    let begun = Instant::now();
    while lab.try_ssh("pg2", "true").code != 0 {
        assert!(begun.elapsed().as_secs() < 120, "pg2 has its key back");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn two_at_once(lab: &Lab, inventory: &str, more: &str) {
    let [max, eva, ida] = ["max", "eva", "ida"].map(|name| Operator::new(lab, name));
    let key = lab.directory.path().join("state/demo/id_ed25519");
    for operator in [&max, &ida] {
        operator.run(&["adopt", "-i", inventory, "--ssh-key", key.to_str().unwrap(), "--yes"]).ok();
    }
    let edit = |connections: u32| {
        let settings = format!("  version: 15\n  settings: {{max_connections: {connections}}}\n");
        lab.inventory("demo.yaml", PREPARED, &more.replace("  version: 15\n", &settings));
    };
    let up = ["up", "-i", inventory];
    // One is told who holds it, by `up`, by `status`, and by what changes something else.
    edit(120);
    // So that it is not over before the others have looked.
    let trials = SlowTrials::new(lab);
    trials.hold();
    let mut first = max.begin(&up, "== try settings");
    let look = || eva.run(&["status", "-i", inventory]);
    let told = |run: &Run| run.says("`cluster up` of max@");
    let (second, status, third) = std::thread::scope(|scope| {
        let second = scope.spawn(|| eva.run(&up));
        let status = scope.spawn(|| look_again(look, told));
        let third = ida.run(&["pause", "-i", inventory]);
        (second.join().unwrap(), status.join().unwrap(), third)
    });
    assert!(first.try_wait().unwrap().is_none(), "the run was over: {}", max.log());
    trials.go_on();
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.stderr.contains("`cluster up` of max@"), "{second:?}");
    assert!(status.stdout.contains("`cluster up` of max@"), "{status:?}");
    assert_eq!(third.code, 5, "{third:?}");
    assert!(first.wait().unwrap().success(), "{}", max.log());
    assert!(eva.run(&up).ok().last_line().contains("nothing to do"));

    // A run that is killed leaves nothing behind.
    edit(121);
    let mut killed = max.begin(&up, "== try settings");
    killed.kill().unwrap();
    killed.wait().unwrap();
    eva.run(&up).ok();

    // A machine that vanishes keeps the others out for half a minute, and finds that out when it is back.
    edit(122);
    let mut frozen = max.begin(&up, "== try settings");
    let processes: Vec<u32> = [frozen.id()].into_iter().chain(connections(&max)).collect();
    processes.iter().for_each(|it| signal(*it, "STOP"));
    let begun = Instant::now();
    // Until then it may as well be busy, and who comes is told so.
    std::thread::sleep(Duration::from_secs(13));
    eva.run(&up).ok();
    println!("a vanished holder: {:.1} s, with the run itself", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed().as_secs() >= 24, "it was not waited for");
    processes.iter().for_each(|it| signal(*it, "CONT"));
    frozen.wait().unwrap();
    // It has found that out, or that the other has left nothing to do.
    let log = max.log();
    assert!(log.contains("the cluster's lock was lost there") || log.contains("1 step done"), "{log}");

    // A lock is taken away with a word, and its run stops before the next step.
    edit(123);
    trials.hold();
    let mut hangs = max.begin(&up, "== try settings");
    assert_eq!(eva.run(&["unlock", "-i", inventory]).code, 3, "nobody to ask");
    let broken = eva.run(&["unlock", "-i", inventory, "--yes"]).ok();
    assert!(broken.stderr.contains("`cluster up` of max@"), "{broken:?}");
    // What it has made sure of less than five seconds ago, it believes.
    std::thread::sleep(Duration::from_secs(6));
    trials.go_on();
    assert_eq!(hangs.wait().unwrap().code(), Some(5), "{}", max.log());
    assert!(max.log().contains("was taken away by `cluster unlock` of eva@"), "{}", max.log());
    eva.run(&up).ok();
    trials.end();
    assert!(eva.run(&["unlock", "-i", inventory]).ok().stdout.contains("no run holds the lock"));
    lab.inventory("demo.yaml", PREPARED, more);
    eva.run(&up).ok();
}

/// While there are no nodes yet, a tag at the provider is the lock; it is gone when there are.
fn the_first_up_is_locked_at_the_provider(lab: &Lab) {
    let text = std::fs::read_to_string(lab.directory.path().join("demo.yaml")).unwrap();
    let inventory = lab.write("other.yaml", &text.replace("cluster: demo", "cluster: other"));
    let (max, eva) = (Operator::new(lab, "max"), Operator::new(lab, "eva"));
    let locks =
        || lab.tags().into_iter().filter(|tag| tag.starts_with("cluster-lock:other:")).collect::<Vec<_>>();
    let mut first = max.begin(&["up", "-i", &inventory], "== create");
    assert_eq!(locks().len(), 1);
    // The second sees droplets that let nobody in but the first, and gets no further before the lock has moved to them.
    while lab.running_droplets("other") < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(first.id(), "STOP");
    let slow = SlowSsh::new(&eva);
    let mut second = slow.begin(&["up", "-i", &inventory]);
    while !slow.was_called() && second.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(first.id(), "CONT");
    while !locks().is_empty() {
        assert!(first.try_wait().unwrap().is_none(), "{}", max.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    slow.go_on();
    let second = Run::from(second.wait_with_output().unwrap());
    assert_eq!(second.code, 5, "{second:?}");
    assert!(second.stderr.contains("`cluster up` of max@"), "{second:?}");
    assert!(first.wait().unwrap().success(), "{}", max.log());
    assert_eq!(locks(), [""; 0]);
    // From a machine with no way in, the lock is at the provider, too; and nothing is left of it.
    eva.run(&["down", "-i", &inventory, "--yes"]).ok();
    assert_eq!(locks(), [""; 0]);
    assert!(lab.tags().iter().all(|tag| !tag.contains(":other")), "{:?}", lab.tags());
}
