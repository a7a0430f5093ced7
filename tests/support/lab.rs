//! A lab of a test's own, and the program as a person would run it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cluster_cloud::{Client, Pace, droplet::Power};
use serde_json::Value;
use tempfile::TempDir;

/// An image in which the packages are there. That they are installed is seen by other tests.
pub(crate) const PREPARED: &str = "debian-12-x64-postgresql-15";

/// How long a node that is there may take to greet and to exchange keys, in seconds: a busy machine takes its time.
const PATIENTLY: u32 = 30;
/// The same of a node that may not be there.
const SHORTLY: u32 = 5;
/// How often a look is repeated, or a run that late records of repmgr's have kept busy.
const AGAIN: usize = 5;

/// Which test each lab's number is of.
static TESTS: Mutex<BTreeMap<u8, String>> = Mutex::new(BTreeMap::new());

/// A lab; it stops when it is dropped.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(super) second: u8,
    /// State, inventories and logs of this test.
    pub(crate) directory: TempDir,
}

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// A host took too long to answer: this machine is busy, and that says nothing of the host.
    pub(crate) fn is_late(&self) -> bool {
        self.says("no answer within") || self.says("timed out")
    }

    /// Whether something is printed, in whichever stream.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.stdout.contains(what) || self.stderr.contains(what)
    }

    /// The line that `up` ends with.
    pub(crate) fn last_line(&self) -> &str {
        // What `up` suggests next is no result.
        self.stderr.lines().rfind(|line| !line.starts_with("next: ")).unwrap_or_default()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The node's program as it is released: static, unlike what `cargo test` builds beside the tests.
fn node_program() -> PathBuf {
    let path = std::env::var_os("CLUSTER_NODE_PROGRAM").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/x86_64-unknown-linux-gnu/node/cluster-node")
    });
    assert!(path.exists(), "{} is missing: `make node` builds it", path.display());
    path
}

impl Lab {
    /// One that is not started yet, with `10.SECOND.0.0/16` of its own.
    pub(crate) fn new(name: &str, port: u16, second: u8) -> Lab {
        let directory = tempfile::Builder::new().prefix("cluster-test-").tempdir().unwrap();
        let lab = Lab { name: name.to_owned(), port, second, directory };
        // An earlier run of this test that was stopped has left one, with a state that is gone.
        lab.cluster(&["lab", "stop", "--name", name]).ok();
        lab
    }

    /// Starts a lab. `number` is the test's own: it gives the port and the networks, so that tests can run side
    /// by side.
    pub(crate) fn start(number: u8, image: &str) -> Lab {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let mut tests = TESTS.lock().unwrap();
        let other = tests.entry(number).or_insert_with(|| test.clone()).clone();
        drop(tests);
        assert_eq!(other, test, "lab {number} is both tests'");
        Lab::in_turn(number, image)
    }

    /// The same, of tests that share a number and are played one after the other.
    pub(crate) fn in_turn(number: u8, image: &str) -> Lab {
        let lab = Lab::new(&format!("test{number}"), 8500 + u16::from(number), 100 + number);
        lab.begin(&["--image", image]);
        lab
    }

    /// `cluster lab start`; it must succeed.
    pub(crate) fn begin(&self, more: &[&str]) {
        let (port, subnet) = (self.port.to_string(), format!("10.{}.0.0/16", self.second));
        self.lab(&[&["start", "--port", &port, "--subnet", &subnet, "--no-delays"], more].concat()).ok();
    }

    /// `cluster lab …` on this lab.
    pub(crate) fn lab(&self, words: &[&str]) -> Run {
        self.cluster(&[&["lab"], words, &["--name", &self.name]].concat())
    }

    /// The program, ready to run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        // Another program may be named, for a build that must not change while a long test runs.
        let program =
            std::env::var_os("CLUSTER_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_cluster").into());
        let mut command = Command::new(program);
        command
            .args(args)
            .env("CLUSTER_STATE_DIR", self.directory.path().join("state"))
            .env("CLUSTER_NODE_PROGRAM", node_program())
            .env("CI", "true")
            .env_remove("DIGITALOCEAN_TOKEN")
            .env_remove("DIGITALOCEAN_API_URL");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn cluster(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Runs the program and kills it (SIGKILL) after a while, unless it ends before. Says whether it was killed.
    pub(crate) fn cluster_killed_after(&self, args: &[&str], limit: Duration) -> bool {
        let mut child = self
            .command(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        true
    }

    /// Runs the program and kills it (SIGKILL) some time after it has printed a line with `mark`, however that is
    /// aligned. Says whether it was killed: a mark that is never printed is no kill.
    #[must_use]
    pub(crate) fn cluster_killed_at(&self, args: &[&str], mark: &str, wait: Duration) -> bool {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.cluster_killed_when(args, |line| words(line).contains(mark), wait)
    }

    /// The same, at the first line that is wanted.
    #[must_use]
    pub(crate) fn cluster_killed_when(
        &self,
        args: &[&str],
        is_mark: impl Fn(&str) -> bool,
        wait: Duration,
    ) -> bool {
        use std::io::BufRead as _;
        let mut child = self
            .command(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut told = Vec::new();
        let marked = lines.any(|line| {
            told.push(line);
            is_mark(&told[told.len() - 1])
        });
        if !marked {
            println!("the mark did not come:\n{}", told.join("\n"));
        }
        std::thread::sleep(wait);
        let killed = marked && child.try_wait().unwrap().is_none();
        // It may have ended at this very moment.
        let _ = child.kill();
        child.wait().unwrap();
        killed
    }

    /// Writes an inventory for this lab. `more` is put behind the provider.
    pub(crate) fn inventory(&self, file: &str, image: &str, more: &str) -> String {
        let home = format!("/var/lib/cluster-lab/{}", self.name);
        let text = format!(
            "cluster: demo\nprovider:\n  digitalocean:\n    api_url: http://127.0.0.1:{}\n    token_file: {home}/token\n    \
             failover_token_file: {home}/failover_token\n    region: fra1\n    size: s-1vcpu-1gb\n    image: {image}\n{more}",
            self.port
        );
        self.write(file, &text)
    }

    /// Writes a file into the test's directory and says where.
    pub(crate) fn write(&self, file: &str, text: &str) -> String {
        let path = self.directory.path().join(file);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `cluster status --json`. Where a host took too long to answer, it is asked again: this machine is busy, and that says
    /// nothing of the host.
    pub(crate) fn status(&self, inventory: &str) -> Value {
        let status = || self.cluster(&["status", "-i", inventory, "--json"]).json();
        let is_whole = |status: &Value| !status.to_string().contains("no answer within");
        (0..5).map(|_| status()).find(is_whole).unwrap_or_else(status)
    }

    /// A command that only looks (`status`, `plan`, `explain`), where every host is there. It is repeated while a host took
    /// too long to answer, as `status` is.
    pub(crate) fn look(&self, words: &[&str]) -> Run {
        self.look_for(words, |_| false)
    }

    /// The same, and no longer than until it shows what is wanted: a host may be silent on purpose.
    pub(crate) fn look_for(&self, words: &[&str], is_wanted: impl Fn(&Run) -> bool) -> Run {
        look_again(|| self.cluster(words), is_wanted)
    }

    /// There is nothing to do for `up`. After a change of roles repmgr's records of it may be some seconds late, more than
    /// once, and are all that may be left to do.
    #[track_caller]
    pub(crate) fn nothing_to_do(&self, inventory: &str) {
        let up = || self.cluster(&["up", "-i", inventory]).ok();
        let mut run = up();
        for _ in 0..AGAIN {
            let mut steps = run.stderr.lines().filter(|line| line.contains("(step "));
            assert!(steps.all(|step| step.contains(" register the ")), "{}", run.stderr);
            if run.last_line().contains("nothing to do") {
                return;
            }
            run = up();
        }
        assert!(run.last_line().contains("nothing to do"), "{}", run.stderr);
    }

    /// Waits until the status is as wanted; fails with the last one. `seconds` is for a machine that does nothing else.
    #[track_caller]
    pub(crate) fn wait_for_status(
        &self,
        inventory: &str,
        seconds: u64,
        wanted: impl Fn(&Value) -> bool,
    ) -> (Value, Duration) {
        // How long it takes is not what is tested: a machine with two slow cores and another lab beside this one needs longer.
        let (begun, seconds) = (Instant::now(), seconds.max(240));
        // A job ends a moment after what it was for, and refuses whatever a test does next until then.
        let works = |node: &Value| node["guard_says"].as_str().is_some_and(|it| it.ends_with("in progress"));
        let rests = |status: &Value| {
            status["healthy"] != true || !status["nodes"].as_array().unwrap().iter().any(works)
        };
        loop {
            let status = self.status(inventory);
            if wanted(&status) && rests(&status) {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed().as_secs() < seconds, "not within {seconds} s; at last: {status:#}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Runs a shell command on a node.
    #[track_caller]
    pub(crate) fn ssh(&self, node: &str, script: &str) -> String {
        let run = self.run_on(node, script);
        assert_eq!(run.code, 0, "{node}: {script}: {}", run.stderr);
        run.stdout.trim().to_owned()
    }

    /// Runs a shell command that may fail, on a node that is there.
    pub(crate) fn run_on(&self, node: &str, script: &str) -> Run {
        self.ssh_within(PATIENTLY, node, script)
    }

    /// Runs a shell command on a node that may not be there: whoever waits for it tries again.
    pub(crate) fn try_ssh(&self, node: &str, script: &str) -> Run {
        self.ssh_within(SHORTLY, node, script)
    }

    fn ssh_within(&self, seconds: u32, node: &str, script: &str) -> Run {
        let config = self.directory.path().join("state/demo/ssh_config");
        let limit = format!("ConnectTimeout={seconds}");
        let limits = ["-o", &limit, "-o", "ServerAliveInterval=2"];
        super::ssh().args(limits).arg("-F").arg(config).args([node, script]).output().unwrap().into()
    }

    /// Runs SQL on a node, as postgres.
    #[track_caller]
    pub(crate) fn sql(&self, node: &str, database: &str, sql: &str) -> String {
        self.ssh(node, &format!("cd / && runuser -u postgres -- psql -XAtqw -d {database} -c \"{sql}\""))
    }

    /// A client of this lab's API.
    pub(crate) fn client(&self) -> Client {
        let token = std::fs::read_to_string(format!("/var/lib/cluster-lab/{}/token", self.name)).unwrap();
        Client::new(&format!("http://127.0.0.1:{}", self.port), token.trim().into()).unwrap()
    }

    /// `power_off` or `power_on`, through the API.
    pub(crate) fn power(&self, node: &str, power: Power) {
        block_on(async {
            let client = self.client();
            let mut droplets = client.droplets("cluster:demo").await.unwrap();
            // Hosts that a test made itself.
            droplets.extend(client.droplets("cluster:bare").await.unwrap());
            let id = droplets.iter().find(|droplet| droplet.name == node).unwrap().id;
            client.power(id, power, Pace::urgent()).await.unwrap();
        });
    }

    /// Deletes a node's droplet, through the API.
    pub(crate) fn delete_droplet(&self, node: &str) {
        block_on(async {
            let client = self.client();
            let droplets = client.droplets("cluster:demo").await.unwrap();
            let id = droplets.iter().find(|droplet| droplet.name == node).unwrap().id;
            client.delete_droplet(id).await.unwrap();
        });
    }

    /// All tags of the account.
    pub(crate) fn tags(&self) -> Vec<String> {
        block_on(async { self.client().tags().await.unwrap() }).into_iter().map(|tag| tag.name).collect()
    }

    /// Droplets and floating IPs that the API lists.
    pub(crate) fn count(&self) -> (usize, usize) {
        block_on(async {
            let client = self.client();
            (client.droplets("cluster:demo").await.unwrap().len(), client.reserved_ips().await.unwrap().len())
        })
    }

    /// Droplets of a cluster that can be reached, as the API has it.
    pub(crate) fn running_droplets(&self, cluster: &str) -> usize {
        let droplets =
            block_on(async { self.client().droplets(&format!("cluster:{cluster}")).await.unwrap() });
        droplets.iter().filter(|droplet| droplet.public_ipv4().is_some()).count()
    }

    /// Orders a fault of the API.
    pub(crate) fn fault(&self, rule: &Value) {
        self.control("POST", "faults", Some(rule));
    }

    /// No more faults.
    pub(crate) fn clear_faults(&self) {
        self.control("DELETE", "faults", None);
    }

    /// Forgets the journal of requests.
    pub(crate) fn forget_requests(&self) {
        self.control("DELETE", "requests", None);
    }

    /// Requests whose answers were lost.
    pub(crate) fn lost_requests(&self) -> Vec<String> {
        let journal = self.control("GET", "requests", None);
        let list = journal["requests"].as_array().unwrap();
        list.iter()
            .filter(|request| request["lost"] == true)
            .map(|it| format!("{} {}", it["method"].as_str().unwrap(), it["path"].as_str().unwrap()))
            .collect()
    }

    /// How many requests that change something the API has had.
    pub(crate) fn requests(&self) -> usize {
        self.control("GET", "requests", None)["requests"].as_array().unwrap().len()
    }

    /// The lab's own end of its API.
    pub(crate) fn control(&self, method: &str, what: &str, body: Option<&Value>) -> Value {
        self.request(method, &format!("/lab/{what}"), body)
    }

    /// A request to its API.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let token = std::fs::read_to_string(format!("/var/lib/cluster-lab/{}/token", self.name)).unwrap();
        block_on(async {
            let url = format!("http://127.0.0.1:{}{path}", self.port);
            // The program's own client has been made before this one, and has chosen the provider of TLS.
            drop(self.client());
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let request = client.request(method.parse().unwrap(), url).bearer_auth(token.trim());
            let request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            let answer = request.send().await.unwrap();
            assert!(answer.status().is_success(), "{:?}", answer.text().await);
            serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
        })
    }

    /// The floating IP.
    pub(crate) fn floating_ip(&self) -> Ipv4Addr {
        block_on(async { self.client().reserved_ips().await.unwrap()[0].ip })
    }

    /// The password of the role `cluster`, from this machine's state.
    pub(crate) fn check_password(&self) -> secrecy::SecretString {
        let text = std::fs::read_to_string(self.directory.path().join("state/demo/secrets.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["passwords"]["cluster"].as_str().unwrap().into()
    }

    /// Stops the lab and proves that nothing of it is left.
    pub(crate) fn stop(&self) {
        self.lab(&["stop"]).ok();
        assert_eq!(self.traces(), "", "left behind");
    }

    /// Everything on this machine that has this lab's name, tag or addresses.
    pub(crate) fn traces(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(self.name.as_bytes());
        let link = format!("cl{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
        let marks = [
            link,
            format!("cluster-lab-{}-", self.name),
            format!("cluster-lab/{}", self.name),
            format!("cluster_lab_{}", self.name.replace('-', "_")),
            format!("lab serve --name {}", self.name),
            format!("10.{}.", self.second),
        ];
        let looks = "cat /proc/self/mounts; ip -o link; ip -o address; ip route show table all; ip netns; \
                     nft list tables; ps -eo pid,args; \
                     find /var/lib/cluster-lab /run/systemd/nspawn -maxdepth 2 2>/dev/null; \
                     find /sys/fs/cgroup -maxdepth 4 -path '*cluster-lab*'";
        let output = Run::from(Command::new("sh").args(["-c", looks]).output().unwrap());
        // A name may be the beginning of another's, which stands beside it.
        let is_mark = |line: &str, mark: &str| {
            line.match_indices(mark).any(|(at, _)| {
                let next = line[at + mark.len()..].chars().next();
                !next.is_some_and(|next| next.is_ascii_alphanumeric() && !mark.ends_with(['.', '-']))
            })
        };
        output
            .stdout
            .lines()
            .filter(|line| marks.iter().any(|mark| is_mark(line, mark)) && !line.contains("sh -c"))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// How much of each node's journal a test that fails shows.
const LAST_ENTRIES: usize = 40;

impl Lab {
    /// What the nodes' guards have done last, for whoever reads why a test has failed: the lab is gone then.
    fn tell_journals(&self) {
        let droplets = format!("/var/lib/cluster-lab/{}/droplets", self.name);
        for droplet in std::fs::read_dir(droplets).into_iter().flatten().flatten() {
            // Below the merged root, which is not there while a droplet is off.
            let path = droplet.path().join("upper/var/lib/cluster/journal.jsonl");
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            let entries: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            eprintln!("the last entries of droplet {}'s journal:", droplet.file_name().display());
            for entry in &entries[entries.len().saturating_sub(LAST_ENTRIES)..] {
                let word = |key| entry[key].as_str().unwrap_or_default();
                eprintln!("    {} {}", word("at").get(11..23).unwrap_or_default(), word("text"));
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_journals();
        }
        if std::env::var_os("CLUSTER_TEST_KEEP").is_some() {
            eprintln!("kept: lab {}, {}", self.name, self.directory.path().display());
            self.directory.disable_cleanup(true);
            return;
        }
        // After `stop` there is nothing to stop.
        let _ = self.lab(&["stop"]);
    }
}

/// Looks again while a host was late, unless it shows what is wanted all the same.
pub(crate) fn look_again(look: impl Fn() -> Run, is_wanted: impl Fn(&Run) -> bool) -> Run {
    (1..AGAIN).map(|_| look()).find(|run| is_wanted(run) || !run.is_late()).unwrap_or_else(&look)
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
