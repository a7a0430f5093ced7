//! A lab with a cluster that works, and a person at its command line.

use std::time::{Duration, Instant};

use cluster::check;
use serde_json::Value;

use crate::demo;
use crate::support::{Lab, PREPARED, Run, block_on, look_again};

/// Twice what a failover takes at most: what has not happened by then does not happen.
const NOTHING_HAPPENS: Duration = Duration::from_secs(20);

/// A lab with a cluster that works.
pub(super) struct Stage {
    pub(super) lab: Lab,
    inventory: String,
}

impl Stage {
    pub(super) fn set(number: u8) -> Stage {
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
    pub(super) fn run(&self, words: &str) -> Run {
        let mut words = words.split(' ');
        let mut args = vec![words.next().unwrap(), "-i", &self.inventory];
        args.extend(words);
        self.lab.cluster(&args)
    }

    /// A command that only looks; a host that is late is looked at again.
    pub(super) fn look(&self, words: &str) -> Run {
        look_again(|| self.run(words), |_| false)
    }

    /// Runs a command that must end with `code` and print all of `wanted`, in whichever stream. Where it only looks, a host
    /// that is late is looked at again.
    #[track_caller]
    pub(super) fn says(&self, words: &str, code: i32, wanted: &[&str]) -> Run {
        let begun = Instant::now();
        let is_as_wanted = |run: &Run| run.code == code && wanted.iter().all(|what| run.says(what));
        let looks = words.split(' ').next().is_some_and(|it| ["status", "plan", "explain"].contains(&it));
        let run = if looks { look_again(|| self.run(words), is_as_wanted) } else { self.run(words) };
        let (out, error) = (run.stdout.trim_end(), run.stderr.trim_end());
        println!("$ cluster {words}  # {}, {:.1} s\n{out}\n{error}", run.code, begun.elapsed().as_secs_f64());
        assert_eq!(run.code, code, "{words}");
        for what in wanted {
            assert!(run.says(what), "`cluster {words}` does not say `{what}`");
        }
        run
    }

    /// Runs a command that must be refused, with a hint.
    #[track_caller]
    pub(super) fn refuses(&self, words: &str, code: i32, wanted: &[&str]) {
        let run = self.says(words, code, wanted);
        assert!(run.stderr.contains("hint: "), "`cluster {words}` gives no hint");
        assert_eq!(run.stdout, "", "nothing was done, and so there is no result");
    }

    pub(super) fn status(&self) -> Value {
        self.lab.status(&self.inventory)
    }

    #[track_caller]
    pub(super) fn wait_for(&self, seconds: u64, wanted: impl Fn(&Value) -> bool) -> (Value, Duration) {
        self.lab.wait_for_status(&self.inventory, seconds, wanted)
    }

    #[track_caller]
    pub(super) fn healthy(&self) -> Value {
        self.wait_for(60, |status| status["healthy"] == true).0
    }

    /// Looks for as long as it takes to be sure that something does not happen.
    #[track_caller]
    pub(super) fn all_the_while(&self, is: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while begun.elapsed() < NOTHING_HAPPENS {
            let status = self.status();
            assert!(is(&status), "after {:?}: {status:#}", begun.elapsed());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// What a node's own PostgreSQL says of itself; empty if it does not run.
    pub(super) fn recovers(&self, node: &str) -> String {
        let ask = "cd / && runuser -u postgres -- psql -XAtqw -d postgres -c 'select pg_is_in_recovery()'";
        self.lab.run_on(node, ask).stdout.trim().to_owned()
    }

    /// Writes a word through the floating IP's node, and says what all words are there.
    #[track_caller]
    pub(super) fn write(&self, node: &str, word: &str) {
        self.lab.sql(node, "app", &format!("insert into t values ('{word}')"));
    }

    pub(super) fn words(&self, node: &str) -> String {
        self.lab.sql(node, "app", "select string_agg(word, ' ' order by word) from t")
    }

    /// The node that an application reaches through the floating IP.
    #[track_caller]
    pub(super) fn answers(&self) -> String {
        let (address, password) = (self.lab.floating_ip().to_string(), self.lab.check_password());
        let write = check::write_through(&address, 5432, &password, Duration::from_secs(30));
        block_on(write).unwrap().node
    }
}

pub(super) fn problems(status: &Value) -> String {
    status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn has_problem(status: &Value, words: &str) -> bool {
    problems(status).contains(words)
}

/// A node takes writes, and the floating IP leads to it.
pub(super) fn serves(name: &str) -> impl Fn(&Value) -> bool {
    move |status| status["primary"] == name && status["floating_ip"]["node"] == name
}
