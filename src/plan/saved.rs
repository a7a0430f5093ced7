//! A plan that somebody has looked at, to be carried out as it is or not at all.

use std::collections::BTreeSet;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::wish::Wish;
use super::{Action, Plan, Risk, Step};
use crate::facts::Facts;

/// A plan as `cluster plan --out` writes it. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub cluster: String,
    pub made: Timestamp,
    /// The build that made it: others may carry out the same plan in another way.
    build: String,
    /// Tells the key that it was made with from another one.
    key: String,
    /// What the plan comes to, secrets included, under the cluster's key: who does not have that learns nothing from it.
    fingerprint: String,
    wishes: BTreeSet<Goal>,
    then: BTreeSet<Then>,
    /// The plan, for people and programs.
    pub plan: serde_json::Value,
}

/// A goal of a step, in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Goal {
    node: Option<String>,
    kind: String,
    object: String,
}

impl From<&Wish> for Goal {
    fn from(wish: &Wish) -> Goal {
        Goal { node: wish.node.clone(), kind: wish.kind.to_owned(), object: wish.object.clone() }
    }
}

/// What follows from the steps, whatever exactly it is then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Then {
    node: String,
    kind: String,
}

impl Saved {
    /// Takes down a plan; `shown` is the plan as JSON.
    pub fn new(
        cluster: &str,
        plan: &Plan,
        facts: &Facts,
        key: &SecretString,
        shown: serde_json::Value,
    ) -> Saved {
        let then = plan
            .then
            .iter()
            .flat_map(|it| it.nodes.iter().map(|node| Then { node: node.clone(), kind: it.kind.to_owned() }));
        Saved {
            cluster: cluster.to_owned(),
            made: Timestamp::now(),
            build: build(facts),
            key: name_of(key),
            fingerprint: fingerprint(plan, facts, key),
            wishes: goals(plan).collect(),
            then: then.collect(),
            plan: shown,
        }
    }

    /// Whether what would be done now is what was looked at; else what differs, a line each.
    ///
    /// # Errors
    /// The differences, at least one.
    pub fn compare(&self, plan: &Plan, facts: &Facts, key: &SecretString) -> Result<(), Vec<String>> {
        if self.fingerprint == fingerprint(plan, facts, key) {
            return Ok(());
        }
        if self.build != build(facts) {
            return Err(vec!["another build of this program made the plan".to_owned()]);
        }
        if self.key != name_of(key) {
            let message = "it was made with other secrets of the cluster than this machine has (`cluster adopt` takes them back)";
            return Err(vec![message.to_owned()]);
        }
        let now: BTreeSet<Goal> = goals(plan).collect();
        let gone = self.wishes.difference(&now).map(|goal| format!("no longer: {}", goal.describe()));
        let new = now.difference(&self.wishes).map(|goal| format!("now also: {}", goal.describe()));
        let mut differences: Vec<String> = gone.chain(new).collect();
        if differences.is_empty() {
            differences.push("the same steps, with other contents".to_owned());
        }
        Err(differences)
    }

    /// What a later round would interrupt or delete that neither the plan nor what was to follow from it has. The rest
    /// depends on what the hosts say after the first steps: whether a distribution has a package, which roles a backup has.
    pub fn unforeseen(&self, plan: &Plan) -> Vec<String> {
        let foreseen = |goal: &Goal| {
            let follows =
                |node: &String| self.then.contains(&Then { node: node.clone(), kind: goal.kind.clone() });
            self.wishes.contains(goal) || goal.node.as_ref().is_some_and(follows)
        };
        let costly = plan.steps.iter().filter(|step| step.risk() != Risk::Safe).flat_map(Step::wishes);
        costly
            .map(|wish| Goal::from(&wish))
            .filter(|goal| !foreseen(goal))
            .map(|goal| goal.describe())
            .collect()
    }
}

impl Goal {
    fn describe(&self) -> String {
        let Goal { node, kind, object } = self;
        let space = if object.is_empty() { "" } else { " " };
        format!("{}: {kind}{space}{object}", node.as_deref().unwrap_or("provider"))
    }
}

fn goals(plan: &Plan) -> impl Iterator<Item = Goal> {
    plan.steps.iter().flat_map(Step::wishes).map(|wish| Goal::from(&wish))
}

fn build(facts: &Facts) -> String {
    format!("{} {}", env!("CARGO_PKG_VERSION"), facts.local.node_program)
}

/// Texts under a key.
struct Sealed(Hmac<Sha256>);

impl Sealed {
    /// `what` keeps values of different things apart.
    fn new(key: &SecretString, what: &str) -> Self {
        let mac = Hmac::new_from_slice(key.expose_secret().as_bytes()).expect("any length will do");
        let mut sealed = Sealed(mac);
        sealed.add(what);
        sealed
    }

    /// Its length is in it, so that no two lists of texts have the same value.
    fn add(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    fn hex(self) -> String {
        self.0.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Tells keys apart, and nothing else of them.
fn name_of(key: &SecretString) -> String {
    Sealed::new(key, "key").hex()
}

/// A value of everything that the steps do, of the program that does it, and of nothing that may change by itself.
fn fingerprint(plan: &Plan, facts: &Facts, key: &SecretString) -> String {
    let mut sealed = Sealed::new(key, "plan");
    let mut add = |text: &str| sealed.add(text);
    add(&build(facts));
    for step in &plan.steps {
        for wish in step.wishes() {
            add(&wish.to_string());
        }
        add(&step.action.summary());
        match &step.action {
            Action::WriteFiles { files } => {
                for file in files {
                    add(&file.path);
                    add(file.mode);
                    add(file.owner);
                    add(file.content.as_ref().map_or("", |content| content.expose()));
                }
            }
            Action::Configure { file, .. } => {
                add(file.content.as_ref().map_or("", |content| content.expose()))
            }
            Action::TrySettings { text, .. } => add(text),
            Action::Role { password, superuser, replication, .. } => {
                add(password.expose_secret());
                add(&format!("{superuser} {replication}"));
            }
            Action::Database { owner, .. } => add(owner),
            _ => {}
        }
    }
    for consequence in &plan.then {
        add(&format!("{} {:?}", consequence.action, consequence.nodes));
    }
    sealed.hex()
}
