//! How the hosts are reached: user, key, port and what stands between.

use serde_yaml::Mapping;

use super::shape::Shape;
use super::{SEE, Translator};
use crate::inventory::ansible::ssh_args::{self, Through};
use crate::inventory::ansible::value::{Data, Value};

/// How one host is reached, with where that stands.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reach {
    user: Option<(String, Value)>,
    key: Option<(String, Value)>,
    port: Option<(String, Value)>,
    jump: Option<(String, Value)>,
    command: Option<(String, Value)>,
}

const PORT: &[&str] = &["ansible_port", "ansible_ssh_port"];
const USER: &[&str] = &["ansible_user", "ansible_ssh_user"];
const KEY: &[&str] = &["ansible_private_key_file", "ansible_ssh_private_key_file"];
/// What a user may do, and how. No key stands for it but the user's.
const RIGHTS: &[&str] =
    &["ansible_become", "ansible_become_method", "ansible_become_user", "ansible_connection"];
/// Options of ssh, in the order in which Ansible gives them.
const ARGS: &[&str] = &["ansible_ssh_common_args", "ansible_ssh_extra_args"];

impl Translator<'_> {
    /// What is the same for all hosts.
    pub(super) fn existing(&mut self) {
        self.set("provider.existing", Mapping::new());
        let all: Vec<Reach> = (0..self.hosts.len()).map(|index| self.reach(index)).collect();
        self.user_of_all(&all);
        if all.iter().all(|reach| reach.user.is_none()) && !self.is_closed_for_all("ssh_user") {
            self.set("provider.existing.ssh_user", "root");
            let remark = "no ansible_user is set";
            self.origin("provider.existing.ssh_user", None, None, Some(remark));
        }
        let is_root = |reach: &Reach| {
            reach.user.as_ref().is_none_or(|(_, value)| value.scalar().as_deref() == Some("root"))
        };
        for (index, reach) in all.iter().enumerate() {
            let root = is_root(reach) && !self.is_closed("ssh_user", index);
            self.rights(index, root);
        }
        for (key, of) in KEYS {
            if self.is_closed_for_all(key) {
                self.set_missing(&format!("provider.existing.{key}"));
            } else if let Some((variable, value)) = shared(&all, *of) {
                self.set_value(&format!("provider.existing.{key}"), &variable, &value, shape(key));
            }
        }
        let key = "provider.existing.floating_ip";
        let floating_ip = self.common(&["cluster_floating_ip"], Shape::Any);
        if self.is_refused("cluster_floating_ip") {
            self.set_missing(key);
        } else if let Some((variable, value)) = floating_ip {
            match &value.data {
                Data::Map(_) => self.set_value(key, &variable, &value, Shape::Any),
                _ => self.set_value(&format!("{key}.address"), &variable, &value, Shape::Any),
            }
        }
    }

    /// Ansible logs in as whoever runs it where no user is set, or as ssh's own configuration says: where some hosts have a
    /// user, nobody can tell who that would be for the others.
    fn user_of_all(&mut self, all: &[Reach]) {
        if shared(all, |reach| &reach.user).is_none() && all.iter().any(|reach| reach.user.is_some()) {
            // Who that is would be the user of all hosts.
            let nobody = |reach: &Reach| {
                reach.jump.clone().filter(|(_, value)| !value.scalar().unwrap_or_default().contains('@'))
            };
            if let Some((variable, value)) = all.iter().find_map(nobody) {
                let message = "does not say who logs in to the jump host, and the hosts have different users";
                self.wrong(&value.place, &variable, message, "write USER@HOST for it");
            }
        }
        let other =
            |reach: &Reach| reach.user.clone().filter(|(_, value)| value.scalar().as_deref() != Some("root"));
        let Some((variable, value)) = all.iter().find_map(other) else { return };
        let without = |index: &usize| all[*index].user.is_none() && !self.is_closed("ssh_user", *index);
        if let Some(index) = (0..all.len()).find(without) {
            let name = self.host(index).0;
            let message = format!("is set for other hosts, but not for {name}");
            self.wrong(&value.place, &variable, message, format!("set it for {name}, too"));
        }
    }

    /// What Ansible needs to become root. Here it is always sudo.
    fn rights(&mut self, index: usize, root: bool) {
        if let Some((name, value)) = self.get(index, &["ansible_become"]) {
            match value.truth() {
                None => {
                    self.wrong(&value.place, &name, "is neither true nor false", "write true or false");
                    self.refused.insert((self.hosts[index], name));
                }
                Some(false) if !root => {
                    let hint = "log in as root, or let the user run any command with `sudo -n` and take ansible_become out";
                    self.wrong(&value.place, &name, "is false, and the user is not root", hint);
                }
                Some(_) => self.out.quiet.push((name, value.place)),
            }
        }
        for (name, accepted, instead) in [
            ("ansible_become_method", &["sudo", "ansible.builtin.sudo"][..], "sudo"),
            ("ansible_become_user", &["root"], "root"),
            ("ansible_connection", &["ssh", "smart", "ansible.builtin.ssh"], "ssh"),
        ] {
            let Some((name, value)) = self.get(index, &[name]) else { continue };
            let text = value.scalar().unwrap_or_default();
            if accepted.contains(&text.as_str()) {
                self.out.quiet.push((name, value.place));
            } else {
                let hint = format!(
                    "cluster knows `{instead}` only: correct it, or leave the host out with cluster_group"
                );
                self.wrong(&value.place, &name, format!("is `{text}`"), hint);
            }
        }
        // Nothing here asks for them, and what they are does not matter.
        for name in ["ansible_python_interpreter", "ansible_ssh_pipelining", "ansible_pipelining"] {
            self.used.insert(name.to_owned());
            if let Some(value) = self.vars(index).get(name) {
                self.out.quiet.push((name.to_owned(), value.place.clone()));
            }
        }
    }

    fn reach(&mut self, index: usize) -> Reach {
        let mut reach = Reach {
            user: self.get(index, USER),
            key: self.get(index, KEY),
            port: self.get(index, PORT),
            ..Reach::default()
        };
        let mut first: Option<(String, Value, Through)> = None;
        for name in ARGS {
            let Some((variable, value)) = self.get(index, &[name]) else { continue };
            let args = match ssh_args::read(&value.scalar().unwrap_or_default()) {
                Ok(args) => args,
                Err((message, hint)) => {
                    self.wrong(&value.place, &variable, message, hint);
                    self.refused.insert((self.hosts[index], (*name).to_owned()));
                    continue;
                }
            };
            let quiet = |option: String| (format!("{variable}: {option}"), value.place.clone());
            self.out.quiet.extend(args.quiet.into_iter().map(quiet));
            let place = &value.place;
            if args.has_later {
                self.warn(format!(
                    "{variable} ({place}) says twice what a connection goes through: the first counts, as with ssh"
                ));
            }
            let Some(through) = args.through else { continue };
            match &first {
                Some((before, at, known)) if !known.contradicts(&through) => {
                    if *known != through {
                        let at = &at.place;
                        self.warn(format!(
                            "{before} ({at}) says what a connection goes through and comes before {variable} ({place}): the \
                             first counts, as with ssh"
                        ));
                    }
                    continue;
                }
                // The checks refuse a jump host beside a command.
                _ => {}
            }
            let found = |text: &String| Some((variable.clone(), Value::text(text, place)));
            match &through {
                Through::Nothing => {}
                Through::Jump(hosts) => reach.jump = found(hosts),
                Through::Command(command) => reach.command = found(command),
            }
            if first.is_none() {
                first = Some((variable.clone(), value.clone(), through));
            }
        }
        reach
    }

    /// Whether a host has a variable for this key that has been refused.
    fn is_closed(&self, key: &str, index: usize) -> bool {
        let variables = match key {
            "ssh_user" => [USER, RIGHTS].concat(),
            "ssh_key" => KEY.to_vec(),
            "ssh_port" => PORT.to_vec(),
            // A jump host or a command, whichever it would be.
            "ssh_jump" => ARGS.to_vec(),
            _ => Vec::new(),
        };
        variables.iter().any(|name| self.is_refused_for(index, name))
    }

    fn is_closed_for_all(&self, key: &str) -> bool {
        !self.hosts.is_empty() && (0..self.hosts.len()).all(|index| self.is_closed(key, index))
    }

    /// What a host has of its own, where the hosts differ.
    pub(super) fn own_reach(&mut self, index: usize) {
        let all: Vec<Reach> = (0..self.hosts.len()).map(|index| self.reach(index)).collect();
        for (key, of) in KEYS {
            if self.is_closed_for_all(key) {
                continue;
            }
            if self.is_closed(key, index) {
                self.put_missing(index, key, SEE);
            } else if shared(&all, *of).is_none()
                && let Some((variable, value)) = of(&all[index])
            {
                self.put_value(index, key, variable, value, shape(key));
            }
        }
    }
}

/// A part of how a host is reached.
type Part = fn(&Reach) -> &Option<(String, Value)>;

const KEYS: &[(&str, Part)] = &[
    ("ssh_user", |reach| &reach.user),
    ("ssh_key", |reach| &reach.key),
    ("ssh_port", |reach| &reach.port),
    ("ssh_jump", |reach| &reach.jump),
    ("ssh_proxy_command", |reach| &reach.command),
];

fn shape(key: &str) -> Shape {
    if key == "ssh_port" { Shape::Number } else { Shape::Any }
}

/// What all hosts have alike.
fn shared(all: &[Reach], of: Part) -> Option<(String, Value)> {
    let first = of(all.first()?).clone()?;
    let alike = |reach: &Reach| of(reach).as_ref().is_some_and(|(_, value)| value.same(&first.1));
    all.iter().all(alike).then_some(first)
}
