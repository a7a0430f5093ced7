//! Every setting of PostgreSQL through the inventory. The inventory refuses it, or a server that is started with it does,
//! as `cluster up` has it tried; or it is harmless: a primary and its standby with it do what a failover needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use cluster::inventory::Inventory;
use cluster::plan::{Extras, files};
use cluster::settings::{Bound, find, hot_standby};

use crate::judge::{Judge, Known, Verdict};

/// So many values of different settings are judged together. What is good together is good alone; the rest is halved.
const TOGETHER: usize = 16;
/// And so many of those that may come near a failover, lest one hides what another does.
const NEAR: usize = 4;

/// Settings that can hardly come near a failover, by the beginning of their category.
const FAR: &[&str] = &[
    "Autovacuum",
    "Client Connection Defaults / Locale",
    "Query Tuning",
    "Reporting and Logging",
    "Statistics",
    "Version and Platform",
];

/// How many nodes the inventory has.
const NODES: usize = 3;

/// With settings of these, a standby that hangs is tried besides.
const VANISHES: &[&str] = &["Replication", "Connections and Authentication"];

/// A value that is tried.
#[derive(Clone, Debug)]
struct Value {
    name: String,
    value: String,
    bad: bool,
    category: String,
    /// Less than before of what a standby must not have less of than its primary.
    shrinks: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
enum Fate {
    /// The inventory says no.
    Inventory,
    /// A server that is started with it does.
    Server(String),
    Harmless,
    Harm(String),
}

/// A version's sweep.
pub(crate) struct Sweep {
    version: u32,
    /// How many settings there are.
    settings: usize,
    fates: Vec<(Value, Fate)>,
    /// The slowest promotion, until the new primary's first heartbeat.
    slowest: u64,
    seconds: f64,
}

fn inventory(version: u32, own: &BTreeMap<String, String>) -> Result<Inventory, String> {
    let own = serde_json::to_string(own).expect("a map of texts");
    let text = format!(
        "cluster: demo\nprovider:\n  digitalocean: {{region: fra1, size: s-1vcpu-1gb, image: debian-12-x64}}\n\
         postgresql: {{version: {version}, settings: {own}}}\nnodes:\n  - {{name: pg1, id: 1, role: primary}}\n  \
         - {{name: pg2, id: 2, role: standby}}\n  - {{name: pg3, id: 3, role: witness}}\n"
    );
    Inventory::parse(Path::new("sweep.yaml"), &text).map_err(|problems| format!("{problems:?}"))
}

fn values(known: &Known) -> Vec<Value> {
    let mut values: BTreeSet<String> = match known.kind.as_str() {
        "bool" => [if known.default == "on" { "off" } else { "on" }.to_owned()].into(),
        "integer" | "real" => [known.least.clone(), known.most.clone()].into(),
        "enum" => known.members.iter().cloned().collect(),
        _ => [String::new()].into(),
    };
    // Where we stop before the server does, the last that we let pass.
    if let Some(ours) = find(&known.name) {
        values.extend(ours.least.map(|least| least(NODES).to_string()));
        match ours.bound {
            Some(Bound::Time(least, most, _)) => values.extend([least.to_owned(), most.to_owned()]),
            Some(Bound::Most(most)) => values.extend([most.to_string()]),
            Some(Bound::Only(_)) | None => {}
        }
    }
    values.remove(&known.default);
    let less = |value: &str| Some(value.parse::<i64>().ok()? < known.default.parse().ok()?);
    let counts = hot_standby().any(|(name, _)| name == known.name);
    let value = |value: String, bad| Value {
        name: known.name.clone(),
        shrinks: counts && less(&value) == Some(true),
        value,
        bad,
        category: known.category.clone(),
    };
    let bad = std::iter::once(value("nonsense".into(), true));
    bad.chain(values.into_iter().map(|it| value(it, false))).collect()
}

fn all(values: &[&Value]) -> BTreeMap<String, String> {
    values.iter().map(|it| (it.name.clone(), it.value.clone())).collect()
}

/// Groups in which no setting stands twice.
fn groups(values: Vec<&Value>, together: usize) -> Vec<Vec<&Value>> {
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for value in values {
        let room = groups
            .iter_mut()
            .find(|group| group.len() < together && group.iter().all(|it| it.name != value.name));
        match room {
            Some(group) => group.push(value),
            None => groups.push(vec![value]),
        }
    }
    groups
}

/// Judges groups, and halves those that are not good until each value is judged.
fn halve<'a>(
    mut left: Vec<Vec<&'a Value>>,
    judged: impl Fn(&[Vec<&'a Value>]) -> Vec<Verdict>,
) -> (Vec<&'a Value>, Vec<(&'a Value, String)>, u64) {
    let (mut good, mut bad, mut slowest) = (Vec::new(), Vec::new(), 0);
    while !left.is_empty() {
        let verdicts = judged(&left);
        let mut next = Vec::new();
        for (group, verdict) in left.into_iter().zip(verdicts) {
            if !verdict.good && group.len() == 1 {
                println!("not good: {} = '{}': {}", group[0].name, group[0].value, verdict.words);
            }
            if verdict.good {
                slowest = slowest.max(verdict.words.parse().unwrap_or(0));
                good.extend(group);
            } else if let [value] = group[..] {
                bad.push((value, verdict.words));
            } else {
                let (one, other) = group.split_at(group.len() / 2);
                next.extend([one.to_vec(), other.to_vec()]);
            }
        }
        left = next;
    }
    (good, bad, slowest)
}

/// Sweeps through one version.
pub(crate) fn sweep(lab: u8, image: &str, version: u32) -> Sweep {
    let (judge, known, described) = Judge::new(lab, image, version);
    let begun = Instant::now();
    let said = |what: &str| println!("PostgreSQL {version}, {:.0} s: {what}", begun.elapsed().as_secs_f64());
    // A name that only we know, or only the server's list, is tried with a bad value at least.
    let mut names: BTreeSet<String> = described.into_iter().collect();
    names.extend(
        include_str!("../../src/settings/names.txt")
            .lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned),
    );
    names.extend(known.iter().map(|it| it.name.clone()));
    if let Ok(only) = std::env::var("SWEEP") {
        names.retain(|name| only.split(',').any(|it| it == name));
    }
    let tried: Vec<Value> = names
        .iter()
        .flat_map(|name| match known.iter().find(|it| it.name == *name) {
            Some(known) => values(known),
            None => vec![Value {
                name: name.clone(),
                value: "nonsense".into(),
                bad: true,
                category: "unknown".into(),
                shrinks: false,
            }],
        })
        .collect();

    let mut fates: BTreeMap<usize, Fate> = BTreeMap::new();
    let at = |value: &Value| {
        let same = |it: &Value| it.name == value.name && it.value == value.value;
        tried.iter().position(same).expect("one of them")
    };
    let mut left: Vec<&Value> = Vec::new();
    for value in &tried {
        match inventory(version, &all(&[value])) {
            Err(_) => drop(fates.insert(at(value), Fate::Inventory)),
            Ok(_) => left.push(value),
        }
    }
    said(&format!("{} values, {} of them pass the inventory", tried.len(), left.len()));
    let text = |values: &[&Value]| {
        files::trial(&inventory(version, &all(values)).expect("each passes"), &Extras::none())
    };
    let plain = judge.trials(&[text(&[])]);
    assert!(plain[0].good, "without any setting: {}", plain[0].words);

    // A server names every value that it cannot read, in one go.
    loop {
        let bad: Vec<&Value> = left.iter().copied().filter(|it| it.bad).collect();
        let verdict = judge.trials(&[text(&bad)]).remove(0);
        let named: Vec<&Value> = bad
            .into_iter()
            .filter(|it| !verdict.good && verdict.words.contains(&format!("\"{}\"", it.name)))
            .collect();
        for value in &named {
            fates.insert(at(value), Fate::Server("it cannot read the value".into()));
        }
        left.retain(|it| !named.iter().any(|named| std::ptr::eq(*named, *it)));
        if named.is_empty() {
            break;
        }
    }
    let trials = |groups: &[Vec<&Value>]| {
        said(&format!("{} trials", groups.len()));
        judge.trials(&groups.iter().map(|it| text(it)).collect::<Vec<_>>())
    };
    let (accepted, refused, _) = halve(groups(left, TOGETHER), trials);
    said(&format!("servers accept {} and refuse {}", accepted.len(), tried.len() - accepted.len()));
    for (value, words) in refused {
        fates.insert(at(value), Fate::Server(words));
    }

    let is_one_of = |list: &[&str], value: &Value| list.iter().any(|it| value.category.starts_with(it));
    let pairs = |groups: &[Vec<&Value>]| {
        said(&format!("{} pairs", groups.len()));
        let marks = |group: &[&Value]| {
            let frozen = group.iter().any(|it| is_one_of(VANISHES, it)).then_some("frozen");
            frozen.into_iter().chain(group.iter().any(|it| it.shrinks).then_some("shrinks")).collect()
        };
        judge.pairs(&groups.iter().map(|it| (all(it), marks(it))).collect::<Vec<_>>())
    };
    // The ground on which all others stand.
    let plain = judge.pairs(&[(BTreeMap::new(), vec![]), (BTreeMap::new(), vec!["frozen", "shrinks"])]);
    for verdict in &plain {
        assert!(verdict.good, "a pair without any setting: {}", verdict.words);
    }
    let (far, near): (Vec<_>, Vec<_>) = accepted.into_iter().partition(|it| is_one_of(FAR, it));
    let mut together = groups(far, TOGETHER);
    together.extend(groups(near, NEAR));
    let count = together.len();
    let (mut harmless, harm, slowest) = halve(together, pairs);
    // What a busy machine did is not what a setting does.
    let (again, harm, slow) = halve(harm.iter().map(|(value, _)| vec![*value]).collect(), pairs);
    let slowest = slowest.max(slow);
    for value in &again {
        said(&format!("{} = '{}' was harmless only the second time", value.name, value.value));
    }
    harmless.extend(again);
    said(&format!("{count} pairs at first; {} did harm", harm.len()));
    for value in harmless {
        fates.insert(at(value), Fate::Harmless);
    }
    // Together with another value a server may have borne what it does not bear alone.
    let alone = judge.trials(&harm.iter().map(|(value, _)| text(&[*value])).collect::<Vec<_>>());
    for ((value, words), trial) in harm.into_iter().zip(alone) {
        fates.insert(at(value), if trial.good { Fate::Harm(words) } else { Fate::Server(trial.words) });
    }
    judge.stop();
    let fates = fates.into_iter().map(|(index, fate)| (tried[index].clone(), fate)).collect();
    Sweep { version, settings: names.len(), fates, slowest, seconds: begun.elapsed().as_secs_f64() }
}

impl Sweep {
    /// What was accepted and did harm.
    pub(crate) fn harm(&self) -> Vec<String> {
        let harm = self.fates.iter().filter_map(|(value, fate)| match fate {
            Fate::Harm(words) => {
                Some(format!("PostgreSQL {}: {} = '{}': {words}", self.version, value.name, value.value))
            }
            _ => None,
        });
        harm.collect()
    }

    fn row(&self, bad: bool) -> String {
        let mut counts = [0; 4];
        for (_, fate) in self.fates.iter().filter(|(value, _)| value.bad == bad) {
            counts[match fate {
                Fate::Inventory => 0,
                Fate::Server(_) => 1,
                Fate::Harmless => 2,
                Fate::Harm(_) => 3,
            }] += 1;
        }
        let [inventory, server, harmless, harm] = counts;
        format!(
            "{:>10} {:>8} {:>8} {:>7} {inventory:>22} {server:>21} {harmless:>9} {harm:>5}\n",
            self.version,
            self.settings,
            if bad { "bad" } else { "extreme" },
            counts.iter().sum::<usize>()
        )
    }
}

/// The counts of all sweeps.
pub(crate) fn table(sweeps: &[Sweep]) -> String {
    let mut text = String::from(
        "PostgreSQL settings   values   count refused by the inventory refused by the server  harmless  harm\n",
    );
    for sweep in sweeps {
        text += &(sweep.row(true) + &sweep.row(false));
    }
    for sweep in sweeps {
        text += &format!(
            "PostgreSQL {}: {:.0} s; the slowest promotion took {:.1} s until the first heartbeat\n",
            sweep.version,
            sweep.seconds,
            sweep.slowest as f64 / 1000.0
        );
    }
    for (value, fate) in sweeps.iter().flat_map(|sweep| &sweep.fates) {
        if let Fate::Server(words) = fate
            && !value.bad
        {
            text += &format!("refused by the server: {} = '{}': {words}\n", value.name, value.value);
        }
    }
    text
}
