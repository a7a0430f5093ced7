//! Which host keys are believed when a machine takes over a cluster that it has never seen. A pure function: `contact`
//! is what asks the hosts.
//!
//! Every node holds the host keys of all of them. One host that is known already (by the inventory, by this machine, by
//! its fingerprint on the command line) therefore vouches for the rest. Where none is known, a person has to compare:
//! that the hosts agree with each other excludes somebody on the way to one of them, and nobody who has all ways.

pub mod contact;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cluster_contract::marker::{DataStage, Marker};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a host says of itself and of the others. Everybody on it may read that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Statement {
    /// Its own host key (type and key), as the file has it.
    pub own: Option<String>,
    /// The cluster that it is a node of.
    pub cluster: Option<String>,
    /// The node that it is.
    pub node: Option<String>,
    pub marker: Option<Marker>,
    /// The host keys that it holds, by node.
    pub keys: BTreeMap<String, String>,
}

/// Why a key is believed before anybody has stated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// The node's `host_key`.
    Inventory,
    /// `--host-key`.
    CommandLine,
    /// Pinned by an earlier run.
    Pinned,
    /// The operator's own known_hosts.
    OwnFiles,
}

impl Known {
    fn place(self) -> &'static str {
        match self {
            Known::Inventory => "the inventory has it as host_key",
            Known::CommandLine => "given as --host-key",
            Known::Pinned => "pinned on this machine",
            Known::OwnFiles => "in your own known_hosts",
        }
    }
}

/// A key or a fingerprint that a host should show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub known: Known,
    /// `ssh-ed25519 AAAA…` or `SHA256:…`.
    pub key: String,
}

/// What came of asking a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    Reached {
        /// The key that it showed.
        key: String,
        /// What is known of it; none of these need be what it showed.
        #[serde(default)]
        expected: Vec<Expected>,
        #[serde(default)]
        statement: Statement,
    },
    /// It was not reached, or does not let us in.
    Silent { why: String },
}

/// Why a key is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    Known(Known),
    /// These nodes state it, and they are believed.
    Stated(Vec<String>),
    /// Nobody who is known says so; these nodes state the same.
    Asked(Vec<String>),
}

impl Trust {
    /// For a person.
    pub fn words(&self) -> String {
        match self {
            Trust::Known(known) => known.place().to_owned(),
            Trust::Stated(by) => {
                format!("as {} {}", list(by), if by.len() == 1 { "states" } else { "state" })
            }
            Trust::Asked(by) if by.is_empty() => "not known".to_owned(),
            Trust::Asked(by) => {
                format!("not known; {} {} the same", list(by), if by.len() == 1 { "states" } else { "state" })
            }
        }
    }
}

/// A key that is to be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    pub key: String,
    pub trust: Trust,
}

/// What is to be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// By node.
    pub keys: BTreeMap<String, Believed>,
    /// Reasons to take nothing over, each with what to do.
    pub refusals: Vec<(String, String)>,
    /// What is odd, and no reason to refuse.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether a person has to compare fingerprints.
    pub fn asks(&self) -> bool {
        self.keys.values().any(|it| matches!(it.trust, Trust::Asked(_)))
    }
}

/// The fingerprint of a key (type and base64), as ssh prints it; the key itself where it is none.
pub fn fingerprint(key: &str) -> String {
    let blob = key.split_whitespace().nth(1).and_then(|blob| STANDARD.decode(blob).ok());
    blob.map_or_else(
        || key.to_owned(),
        |blob| format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))),
    )
}

fn list(nodes: &[String]) -> String {
    match nodes {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn contradicts(node: &str, key: &str, by: &[String], said: &str) -> String {
    let (key, said) = (fingerprint(key), fingerprint(said));
    let state = if by.len() == 1 { "states" } else { "state" };
    format!("{node} presents {key}, but {} {state} {said}", list(by))
}

/// The host keys that are believed; none is, if anything contradicts.
pub fn judge(cluster: &str, contacts: &BTreeMap<String, Contact>) -> Verdict {
    let mut judge = Judge { cluster, contacts, verdict: Verdict::default() };
    judge.identities();
    // What hosts say that are not the cluster's says nothing of its keys.
    if judge.verdict.refusals.is_empty() {
        judge.expectations();
        judge.spread();
        judge.strangers();
        judge.silent();
        judge.nobody_is_left_out();
    }
    judge.verdict
}

struct Judge<'a> {
    cluster: &'a str,
    contacts: &'a BTreeMap<String, Contact>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn reached(
        &self,
    ) -> impl Iterator<Item = (&'a String, &'a String, &'a [Expected], &'a Statement)> + use<'a> {
        self.contacts.iter().filter_map(|(node, contact)| match contact {
            Contact::Reached { key, expected, statement } => {
                Some((node, key, expected.as_slice(), statement))
            }
            Contact::Silent { .. } => None,
        })
    }

    fn refuse(&mut self, message: String, hint: impl Into<String>) {
        self.verdict.refusals.push((message, hint.into()));
    }

    /// Whether the hosts are what the inventory takes them for.
    fn identities(&mut self) {
        let mut identifiers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut is_ours = false;
        for (node, _, _, statement) in self.reached() {
            let marked = statement.marker.as_ref();
            let others = [statement.cluster.as_deref(), marked.map(|marker| marker.cluster.as_str())];
            let others: BTreeSet<&str> = others.into_iter().flatten().collect();
            is_ours |= others.contains(self.cluster);
            if let Some(other) = others.iter().find(|name| **name != self.cluster) {
                self.refuse(
                    format!("{node} belongs to cluster `{other}`"),
                    "use the inventory of that cluster, or correct the node's address",
                );
            } else if let Some(other) = statement.node.as_ref().filter(|name| *name != node) {
                self.refuse(
                    format!("the host at the address of {node} is node `{other}` of this cluster"),
                    "correct the addresses in the inventory",
                );
            }
            if let Some(identifier) = marked
                .filter(|marker| marker.stage != DataStage::Witness)
                .and_then(|marker| marker.system_identifier.as_deref())
            {
                identifiers.entry(identifier).or_default().push(node.clone());
            }
        }
        if identifiers.len() > 1 {
            let each = identifiers.iter().map(|(it, nodes)| format!("{it} on {}", list(nodes)));
            let each = each.collect::<Vec<_>>().join(", ");
            self.refuse(
                format!("the hosts hold two clusters named `{}`: system identifier {each}", self.cluster),
                "the inventory must name the hosts of one of them",
            );
        }
        if !is_ours && self.verdict.refusals.is_empty() && self.reached().next().is_some() {
            self.refuse(
                format!("no host that answers is a node of cluster `{}`", self.cluster),
                "check the addresses and `cluster` in the inventory; `cluster up` creates a cluster that does not exist yet",
            );
        }
    }

    /// Keys that are known, or known to be others.
    fn expectations(&mut self) {
        for (node, key, expected, statement) in self.reached() {
            let is_shown = |it: &&Expected| it.key == *key || it.key == fingerprint(key);
            // What a person has said counts before what this machine remembers.
            let wrong = expected.iter().find(|it| it.known != Known::Pinned && !is_shown(it));
            if let Some(wrong) = wrong {
                let expected = fingerprint(&wrong.key);
                self.refuse(
                    format!("{node} presents {}, not {expected} ({})", fingerprint(key), wrong.known.place()),
                    "if the host was reinstalled, correct that; otherwise do not continue: somebody may be intercepting the connection",
                );
            } else if let Some(right) = expected.iter().filter(is_shown).map(|it| it.known).min() {
                let believed = Believed { key: key.clone(), trust: Trust::Known(right) };
                self.verdict.keys.insert(node.clone(), believed);
            }
            let kind = |key: &str| key.split(' ').next().map(str::to_owned);
            if let Some(own) = statement.own.as_ref().filter(|own| kind(own) == kind(key) && *own != key) {
                self.refuse(
                    format!("{node} presents {}, but its own key is {}", fingerprint(key), fingerprint(own)),
                    "do not continue: somebody may be intercepting the connection; if sshd uses another key than \
                     /etc/ssh/ssh_host_ed25519_key, give the node its `host_key`",
                );
            }
        }
    }

    /// What a node that is believed states of another is believed, and so on.
    fn spread(&mut self) {
        loop {
            let mut stated: BTreeMap<&String, Vec<String>> = BTreeMap::new();
            let mut contradicted: BTreeMap<(&String, &String, &String), Vec<String>> = BTreeMap::new();
            for (by, _, _, statement) in self.reached().filter(|(by, ..)| self.verdict.keys.contains_key(*by))
            {
                for (node, key, _, _) in self.reached().filter(|(node, ..)| *node != by) {
                    match statement.keys.get(node) {
                        Some(said) if said == key => stated.entry(node).or_default().push(by.clone()),
                        Some(said) => contradicted.entry((node, key, said)).or_default().push(by.clone()),
                        None => {}
                    }
                }
            }
            let before = self.verdict.keys.len();
            for (node, by) in stated {
                let Some(Contact::Reached { key, .. }) = self.contacts.get(node) else { continue };
                let believed = || Believed { key: key.clone(), trust: Trust::Stated(by) };
                self.verdict.keys.entry(node.clone()).or_insert_with(believed);
            }
            if self.verdict.keys.len() > before {
                continue;
            }
            for ((node, key, said), by) in contradicted {
                let message = contradicts(node, key, &by, said);
                // Known by itself: the other has not been told yet.
                match self.verdict.keys.get(node).map(|it| &it.trust) {
                    Some(Trust::Known(Known::Inventory | Known::CommandLine)) => self.note(message),
                    _ => self.contradiction(node, message),
                }
            }
            return;
        }
    }

    fn note(&mut self, message: String) {
        if !self.verdict.notes.contains(&message) {
            self.verdict.notes.push(message);
        }
    }

    fn contradiction(&mut self, node: &str, message: String) {
        self.refuse(
            message,
            format!(
                "do not continue before you have compared: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the \
                 console of {node} prints its fingerprint. If what it presents is right, add --host-key {node}=SHA256:…"
            ),
        );
    }

    /// Hosts that nobody vouches for.
    fn strangers(&mut self) {
        let believed: BTreeSet<String> = self.verdict.keys.keys().cloned().collect();
        for (node, key, expected, _) in self.reached() {
            if self.verdict.keys.contains_key(node) {
                continue;
            }
            if let Some(pinned) = expected.iter().find(|it| it.known == Known::Pinned) {
                self.contradiction(
                    node,
                    format!(
                        "{node} presents {}, this machine has pinned {}, and no node that is known states the change",
                        fingerprint(key),
                        fingerprint(&pinned.key)
                    ),
                );
                continue;
            }
            let said = self.reached().filter(|(by, ..)| *by != node);
            let said: Vec<(&String, &String)> =
                said.filter_map(|(by, _, _, statement)| Some((by, statement.keys.get(node)?))).collect();
            if let Some((_, other)) = said.iter().find(|(_, it)| *it != key) {
                let by: Vec<String> =
                    said.iter().filter(|(_, it)| it == other).map(|(by, _)| (*by).clone()).collect();
                // One that is believed has said so already.
                if !by.iter().any(|by| believed.contains(by)) {
                    self.contradiction(node, contradicts(node, key, &by, other));
                }
                continue;
            }
            let by = said.into_iter().map(|(by, _)| by.clone()).collect();
            let believed = Believed { key: key.clone(), trust: Trust::Asked(by) };
            self.verdict.keys.insert(node.clone(), believed);
        }
    }

    /// A host that shows a key is believed, or everything is refused.
    fn nobody_is_left_out(&mut self) {
        let doubtful = self.reached().find(|(node, ..)| !self.verdict.keys.contains_key(*node));
        if let Some((node, key, _, _)) = doubtful.filter(|_| self.verdict.refusals.is_empty()) {
            self.contradiction(node, format!("nobody states that {node} presents {}", fingerprint(key)));
        }
    }

    /// The keys of hosts that cannot be reached, as the others state them.
    fn silent(&mut self) {
        for (node, contact) in self.contacts {
            let Contact::Silent { .. } = contact else { continue };
            let mut said: BTreeMap<&String, Vec<String>> = BTreeMap::new();
            for (by, _, _, statement) in self.reached().filter(|(by, ..)| self.verdict.keys.contains_key(*by))
            {
                if let Some(key) = statement.keys.get(node) {
                    said.entry(key).or_default().push(by.clone());
                }
            }
            match said.len() {
                0 => self.note(format!("no node states the host key of {node}")),
                1 => {
                    let (key, by) = said.into_iter().next().expect("there is one");
                    let is_sure = |by: &String| !matches!(self.verdict.keys[by].trust, Trust::Asked(_));
                    let trust = if by.iter().any(is_sure) { Trust::Stated(by) } else { Trust::Asked(by) };
                    self.verdict.keys.insert(node.clone(), Believed { key: key.clone(), trust });
                }
                _ => self.note(format!("the nodes state different host keys of {node}: none is pinned")),
            }
        }
    }
}
