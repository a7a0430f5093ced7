//! The host on which servers judge: one with PostgreSQL and nothing else, where settings are tried and pairs play.

use std::collections::BTreeMap;

use cluster::settings::{ROLE, SESSION, Scope, render};
use cluster_contract::timing;
use cluster_node::postgres;

use crate::support::{BareHost, Lab};

const HOME: &str = "/var/tmp/sweep";
/// How many pairs play side by side: they wait more than they work.
const AT_ONCE: usize = 3;

/// What a server says of one of its settings.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) least: String,
    pub(crate) most: String,
    pub(crate) default: String,
    pub(crate) members: Vec<String>,
    pub(crate) category: String,
}

/// What came of a trial, or of a pair.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) good: bool,
    pub(crate) words: String,
}

/// A host with PostgreSQL.
pub(crate) struct Judge {
    lab: Lab,
    host: BareHost,
    version: u32,
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl Judge {
    /// Makes the host, and the data directories that all trials and pairs are copies of. Returns what the server lists:
    /// its settings, and the names of `--describe-config`.
    pub(crate) fn new(number: u8, image: &str, version: u32) -> (Judge, Vec<Known>, Vec<String>) {
        let lab = Lab::start(number, image);
        let host = lab.bare_host("judge", image, &lab.key());
        let judge = Judge { lab, host, version };
        judge.run(
            &format!(
                "command -v pkill >/dev/null && ls /usr/lib/postgresql/{version}/lib/repmgr.so >/dev/null 2>&1 || {{ \
                 mkdir -p /etc/postgresql-common/createcluster.d; \
                 echo create_main_cluster = false >/etc/postgresql-common/createcluster.d/sweep.conf; apt-get -q update; \
                 DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-unsafe-io \
                 --no-install-recommends install procps ssl-cert postgresql-{version} postgresql-{version}-repmgr; }} >&2"
            ),
            "",
        );
        let roles: String = ROLE.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        judge.write("prepare.sh", include_str!("prepare.sh"));
        let told = judge.run(&format!("sh /run/prepare.sh {version} {HOME}"), &roles);
        let (settings, described) = told.split_once("described:\n").expect("both lists");
        let settings = settings.lines().map(|line| {
            let [name, kind, least, most, default, members, category, _context] =
                line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().expect(line);
            let members = members.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
            Known { name, kind, least, most, default, members, category }
        });
        let settings = settings.collect();
        let described = described.lines().map(str::to_owned).collect();

        let script = cluster::script::ALL.iter().find(|(name, _)| *name == "try-settings");
        // The data directory of a trial is a copy.
        let ours = "bin=/usr/lib/postgresql/$version/bin\n";
        let script = script.expect("the script of a trial").1;
        assert!(script.contains(ours), "the script has changed");
        judge.write("try-settings.sh", &script.replace(ours, &format!("bin={HOME}/bin\n")));
        judge.write("trials.sh", include_str!("trials.sh"));
        judge.write("pairs.sh", include_str!("pairs.sh"));
        judge.write("pair.sh", include_str!("pair.sh"));
        let session = SESSION
            .iter()
            .map(|(name, value)| format!("-c {name}={}", value.replace("\", ", "\",").replace(' ', "\\ ")));
        let words = [
            ("guard", postgres::options(version)),
            ("session", session.collect::<Vec<_>>().join(" ")),
            ("limit", (timing::HEARTBEAT_TIMEOUT / 1000).to_string()),
            ("heartbeat", postgres::HEARTBEAT.into()),
            ("table", postgres::HEARTBEAT_TABLE.into()),
            ("primary", postgres::PRIMARY_POSITION.into()),
            ("standby", postgres::STANDBY_POSITION.into()),
        ];
        let words: String = words.iter().map(|(name, text)| format!("{name}={}\n", quoted(text))).collect();
        judge.write("words", &words);
        judge
            .run(&format!("cp /run/pair.sh /run/words {HOME}/ && chmod 644 {HOME}/pair.sh {HOME}/words"), "");
        (judge, settings, described)
    }

    fn run(&self, script: &str, input: &str) -> String {
        let run = self.lab.bare_ssh_with(&self.host, script, input);
        assert_eq!(run.code, 0, "PostgreSQL {}: {script}: {}{}", self.version, run.stdout, run.stderr);
        run.stdout
    }

    fn write(&self, name: &str, text: &str) {
        self.run(&format!("cat >/run/{name}"), text);
    }

    fn judged(&self, script: &str, jobs: &[String]) -> Vec<Verdict> {
        let mut input = String::new();
        for (number, job) in jobs.iter().enumerate() {
            input.push_str(&format!("#job {number}\n{}\n", job.trim_end()));
        }
        let told = self.run(script, &input);
        let mut verdicts = BTreeMap::new();
        for line in told.lines() {
            let (number, rest) = line.split_once('\t').expect("a verdict");
            let (verdict, words) = rest.split_once('\t').expect("a verdict");
            let good = verdict == "0" || verdict == "ok";
            verdicts
                .insert(number.parse::<usize>().expect(line), Verdict { good, words: words.trim().into() });
        }
        let missing = Verdict { good: false, words: "no verdict".into() };
        (0..jobs.len()).map(|number| verdicts.remove(&number).unwrap_or_else(|| missing.clone())).collect()
    }

    /// What `up`'s own script says of these texts of settings.
    pub(crate) fn trials(&self, texts: &[String]) -> Vec<Verdict> {
        if texts.is_empty() {
            return Vec::new();
        }
        self.judged(&format!("sh /run/trials.sh {} {HOME} /run/try-settings.sh", self.version), texts)
    }

    /// What pairs come to with settings of the inventory, and with what `pair.sh` knows to do besides.
    pub(crate) fn pairs(&self, own: &[(BTreeMap<String, String>, Vec<&'static str>)]) -> Vec<Verdict> {
        if own.is_empty() {
            return Vec::new();
        }
        let scope = Scope {
            version: self.version,
            port: 5432,
            node: "p",
            nodes: 3,
            archive_within_s: 60,
            fit: None,
            libraries: &[],
        };
        let text = |(own, marks): &(BTreeMap<String, String>, Vec<&'static str>)| {
            let rendered = render(scope, own);
            let ours = rendered.mandatory.into_iter().chain(rendered.defaults);
            let lines = ours.map(|(name, value)| (name.to_owned(), value)).chain(rendered.own);
            let line = |(name, value): (String, String)| {
                format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
            };
            lines.map(line).chain(marks.iter().map(|mark| format!("#{mark}\n"))).collect()
        };
        let texts: Vec<String> = own.iter().map(text).collect();
        self.judged(&format!("sh /run/pairs.sh {} {HOME} {AT_ONCE}", self.version), &texts)
    }

    pub(crate) fn stop(&self) {
        self.lab.stop();
    }
}
