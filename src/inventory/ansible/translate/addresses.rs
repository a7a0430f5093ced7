//! The tutorial's `node1_ip`, `node2_ip`, …, which repeat addresses of the hosts.

use std::collections::BTreeSet;

use super::Translator;
use super::shape::Shape;
use crate::inventory::ansible::value::{Closed, Value};

impl Translator<'_> {
    /// The tutorial's `node1_ip`, `node2_ip`, …, which repeat addresses of the hosts.
    pub(super) fn addresses(&mut self) {
        let all = (0..self.hosts.len()).flat_map(|index| self.vars(index).keys());
        let names: BTreeSet<&str> = all.map(String::as_str).collect();
        for name in names {
            let Some(id) = node_number(name) else { continue };
            let closed = |index: usize| self.vars(index).get(name)?.closed();
            if let Some((closed, place)) = (0..self.hosts.len()).find_map(closed) {
                // It says nothing that the inventory needs.
                let what = match closed {
                    Closed::Vault => "is encrypted with Ansible Vault",
                    Closed::Template => "is a Jinja expression",
                };
                self.out.warnings.push(format!("{name} ({place}) is compared with no address: it {what}"));
                self.used.insert(name.to_owned());
                continue;
            }
            let Some((_, value)) = self.common(&[name], Shape::Any) else { continue };
            let text = value.scalar().unwrap_or_default();
            let node = (0..self.hosts.len()).find(|index| self.number(*index, "node_id") == Some(id));
            let Some(node) = node else {
                self.out
                    .warnings
                    .push(format!("{name} ({}) has no effect: no host has node_id {id}", value.place));
                continue;
            };
            let mut own = Vec::new();
            for names in [&["ansible_host", "ansible_ssh_host"][..], &["connection_host"]] {
                own.extend(self.get(node, names));
            }
            if own.is_empty() {
                let (host, place) = self.host(node);
                own.push(("its name".into(), Value::text(host, place)));
            }
            if own.iter().all(|(_, own)| own.scalar().as_deref() != Some(&text)) {
                let (variable, has) = &own[0];
                let message = format!(
                    "is {text}, but {variable} of {} is {} ({})",
                    self.host(node).0,
                    has.scalar().unwrap_or_default(),
                    has.place
                );
                let place = value.place.clone();
                self.wrong(&place, name, message, "correct the one that is wrong");
            } else {
                self.out.quiet.push((format!("{name}, as the host says itself"), value.place));
            }
        }
    }

    fn number(&self, index: usize, name: &str) -> Option<u64> {
        self.vars(index).get(name)?.scalar()?.parse().ok()
    }
}

/// The number in `node1_ip`.
fn node_number(name: &str) -> Option<u64> {
    name.strip_prefix("node")?.strip_suffix("_ip")?.parse().ok()
}
