//! The hosts as nodes.

use serde_yaml::{Mapping, Value as Yaml};

use super::shape::Shape;
use super::{SEE, Translator};
use crate::inventory::ansible::value::Value;
use crate::inventory::shown::MISSING;

/// Variables of a node, and the keys that they become.
const KEYS: &[(&[&str], &str, Shape)] = &[
    (&["connection_host"], "connection_host", Shape::Any),
    (&["cluster_host_key"], "host_key", Shape::Any),
    (&["cluster_droplet_id"], "droplet_id", Shape::Number),
];

impl Translator<'_> {
    /// Every host as a node.
    pub(super) fn nodes(&mut self) {
        if self.hosts.is_empty() {
            let place = self.inventory();
            let hint = format!(
                "list the nodes in a group: `pg1 ansible_host=198.51.100.11 node_id=1 role=primary`{}",
                self.perhaps_in(None)
            );
            self.wrong(&place, "", "names no host", hint);
        }
        let strangers = self.strangers();
        self.set("nodes", Vec::<Yaml>::new());
        for index in 0..self.hosts.len() {
            let name = self.name(index);
            self.out.nodes.push(name.clone());
            let place = self.host(index).1;
            self.origin(&format!("nodes[{index}]"), None, Some(place), None);
            self.put(index, "name", name);
            self.required(
                index,
                "node_id",
                "id",
                Shape::Number,
                "a number of its own, which never changes",
                strangers,
            );
            self.required(index, "role", "role", Shape::Any, "primary, standby or witness", strangers);
            self.address(index);
            for (variables, key, shape) in KEYS {
                if let Some((variable, value)) = self.get(index, variables) {
                    self.put_value(index, key, &variable, &value, *shape);
                } else if self.is_refused_for(index, variables[0]) {
                    self.put_missing(index, key, SEE);
                }
            }
            self.own_reach(index);
        }
        if self.is_refused("cluster_group") {
            // Nobody knows which hosts are meant.
            self.set_missing("nodes");
        }
    }

    /// Whether some hosts have nothing of a node, while others do: they are told as what they probably are.
    fn strangers(&mut self) -> bool {
        let reading = self.reading;
        let is_stranger =
            |host: &usize| !["node_id", "role"].iter().any(|name| reading.hosts[*host].contains_key(*name));
        let strangers: Vec<usize> = self.hosts.iter().copied().filter(|host| is_stranger(host)).collect();
        if strangers.is_empty() || strangers.len() == self.hosts.len() {
            return false;
        }
        for host in strangers {
            let host = &reading.groups.hosts[host];
            self.wrong(
                &host.place,
                &host.name,
                "has neither `node_id` nor `role`, and the other hosts do",
                "give it both; if it is no node of the cluster, name the group of those that are: `-e cluster_group=GROUP`",
            );
        }
        true
    }

    /// The node's name: the host's, which may be a whole domain name.
    fn name(&mut self, index: usize) -> String {
        let key = format!("nodes[{index}].name");
        let (host, place) = self.host(index);
        if let Some((variable, value)) = self.get(index, &["cluster_node_name"]) {
            self.origin(&key, Some(&variable), Some(&value.place), None);
            return value.scalar().unwrap_or_default();
        }
        if self.is_refused_for(index, "cluster_node_name") {
            self.missing(&key, SEE);
            return MISSING.into();
        }
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        if is_address {
            let hint =
                "a node needs a name: list it as `pg1 ansible_host=ADDRESS`, or set `cluster_node_name`";
            self.wrong(place, host, "is an address", hint);
            self.missing(&key, "a name");
            return MISSING.into();
        }
        match host.split_once('.') {
            Some((short, _)) => {
                self.origin(&key, None, Some(place), Some("the first part of the host's name"));
                short.to_owned()
            }
            None => {
                self.origin(&key, None, Some(place), None);
                host.to_owned()
            }
        }
    }

    fn address(&mut self, index: usize) {
        if let Some((variable, value)) = self.get(index, &["ansible_host", "ansible_ssh_host"]) {
            self.put_value(index, "address", &variable, &value, Shape::Any);
        } else if self.is_refused_for(index, "ansible_host") {
            self.put_missing(index, "address", SEE);
        } else {
            let (host, place) = self.host(index);
            let key = format!("nodes[{index}].address");
            self.origin(&key, None, Some(place), Some("the host's name; ansible_host is not set"));
            self.put(index, "address", host);
        }
    }

    fn required(
        &mut self,
        index: usize,
        variable: &str,
        key: &str,
        shape: Shape,
        what: &'static str,
        strangers: bool,
    ) {
        if let Some((variable, value)) = self.get(index, &[variable]) {
            self.put_value(index, key, &variable, &value, shape);
            return;
        }
        let what = if self.is_refused_for(index, variable) { SEE } else { what };
        self.put_missing(index, key, what);
        let vars = self.vars(index);
        let told = strangers && !vars.contains_key("node_id") && !vars.contains_key("role");
        if !told && !self.is_refused_for(index, variable) {
            let (host, place) = self.host(index);
            let perhaps = self.perhaps_in(Some(host));
            self.wrong(place, host, format!("`{variable}` is missing"), format!("set it: {what}{perhaps}"));
        }
    }

    pub(super) fn put_missing(&mut self, index: usize, key: &str, what: &'static str) {
        self.put(index, key, MISSING);
        self.missing(&format!("nodes[{index}].{key}"), what);
    }

    pub(super) fn put_value(&mut self, index: usize, key: &str, variable: &str, value: &Value, shape: Shape) {
        let path = format!("nodes[{index}].{key}");
        self.origin(&path, Some(variable), Some(&value.place), None);
        self.places(&path, value);
        self.put(index, key, shape.of(value));
    }

    pub(super) fn put(&mut self, index: usize, key: &str, value: impl Into<Yaml>) {
        let Some(Yaml::Sequence(nodes)) = self.out.document.get_mut("nodes") else { return };
        while nodes.len() <= index {
            nodes.push(Mapping::new().into());
        }
        if let Yaml::Mapping(node) = &mut nodes[index] {
            node.insert(key.into(), value.into());
        }
    }
}
