//! What a translation is, and how it is told of its parts: by the variables that they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_yaml::Mapping;

use crate::inventory::Problem;
use crate::inventory::ansible::problem;
use crate::inventory::ansible::value::Place;

/// An inventory of this program, made from an Ansible inventory.
#[derive(Debug, Default)]
pub struct Translation {
    /// What the YAML would be.
    pub document: Mapping,
    /// Where its values come from, by the path of their keys (`nodes[1].role`).
    pub origins: BTreeMap<String, Origin>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Reasons for which there is no inventory.
    pub problems: Vec<Problem>,
    /// Variables that are understood and change nothing here.
    pub quiet: Vec<(String, Place)>,
    /// Variables that are not understood.
    pub unknown: Vec<(String, Place)>,
    /// The names of the nodes, in order.
    pub nodes: Vec<String>,
    /// Keys without a value that the inventory needs.
    pub missing: BTreeMap<String, &'static str>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The variable; none where a value is part of one, or of no variable.
    pub variable: Option<String>,
    /// None for what this program adds.
    pub place: Option<Place>,
    /// Why it is what it is, where that is not plain.
    pub remark: Option<String>,
}

impl Translation {
    /// The files that passwords stand in.
    pub(in crate::inventory::ansible) fn password_files(&self) -> Vec<PathBuf> {
        let passwords = self.origins.iter().filter(|(key, _)| key.ends_with("].password"));
        let files: BTreeSet<PathBuf> = passwords
            .filter_map(|(_, origin)| origin.place.as_ref())
            .filter(|place| **place != Place::CommandLine)
            .map(|place| place.file().to_owned())
            .collect();
        files.into_iter().collect()
    }

    /// The variable that a key of the document comes from, or the key, and where it stands.
    pub(in crate::inventory::ansible) fn label(&self, key: &str) -> (String, Option<Place>) {
        let mut place = None;
        let mut at = key;
        while !at.is_empty() {
            if let Some(origin) = self.origins.get(at) {
                place = place.or_else(|| origin.place.clone());
                if let Some(variable) = &origin.variable {
                    let rest = &key[at.len()..];
                    let node = self.node_of(at).map(|name| format!("{name}: ")).unwrap_or_default();
                    return (format!("{node}{variable}{rest}"), place);
                }
            }
            at = at.rfind(['.', '[']).map_or("", |end| &at[..end]);
        }
        let label = match (self.node_of(key), key.split_once("].")) {
            (Some(name), Some((_, rest))) => format!("{name}: {rest}"),
            (Some(name), None) => name.to_owned(),
            _ => key.to_owned(),
        };
        (label, place)
    }

    fn node_of(&self, key: &str) -> Option<&str> {
        let index = key.strip_prefix("nodes[")?.split(']').next()?;
        self.nodes.get(index.parse::<usize>().ok()?).map(String::as_str)
    }

    /// A message of the inventory's checks, in which a node has its name.
    pub(in crate::inventory::ansible) fn named(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (index, name) in self.nodes.iter().enumerate() {
            message = message.replace(&format!("nodes[{index}]"), name);
        }
        message
    }

    /// A problem that the checks have found, where the Ansible inventory has its cause.
    pub(in crate::inventory::ansible) fn placed(&self, found: Problem, inventory: &Path) -> Problem {
        let (key, place) = self.label(&found.key);
        let place = place.unwrap_or_else(|| Place::Whole(inventory.into()));
        let mut hint = found.hint.unwrap_or_default();
        let origin = self.origins.get(&found.key).filter(|origin| origin.variable.is_none());
        if origin.is_some() && found.key.starts_with("nodes[") && found.key.ends_with("].name") {
            hint.push_str("; or keep the host's name, and set `cluster_node_name` for it");
        }
        problem(&place, key, self.named(&found.message), hint)
    }
}
