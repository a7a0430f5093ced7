//! How existing hosts are reached: the keys `ssh_user`, `ssh_key`, `ssh_port`, `ssh_jump` and `ssh_proxy_command`, for all
//! hosts under `existing`, or for one.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::check::{Checker, is_host, private_key, user};
use super::shown::quoted;
use super::{Node, Provider, file};

/// SSH's own port.
const SSH_PORT: u16 = 22;

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Who logs in; the provider's user if absent.
    pub user: Option<String>,
    /// The private key to log in with; the provider's if absent.
    pub key: Option<PathBuf>,
    pub port: u16,
    pub through: Through,
}

/// What a connection goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Through {
    Nothing,
    /// Hosts to jump over, as ssh's `ProxyJump` has them.
    Jump(String),
    /// A command whose input and output are the connection, as ssh's `ProxyCommand` has it.
    Command(String),
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { user: None, key: None, port: SSH_PORT, through: Through::Nothing }
    }
}

impl Reach {
    /// Whether this machine reaches the host by itself, and so whatever else listens there.
    pub fn is_direct(&self) -> bool {
        self.through == Through::Nothing
    }

    /// The lines of an SSH configuration.
    pub fn config(&self) -> String {
        let mut lines = String::new();
        if let Some(user) = &self.user {
            let _ = writeln!(lines, "  User {user}");
        }
        if let Some(key) = &self.key {
            let _ = writeln!(lines, "  IdentityFile \"{}\"\n  IdentitiesOnly yes", key.display());
        }
        if self.port != SSH_PORT {
            let _ = writeln!(lines, "  Port {}", self.port);
        }
        match &self.through {
            Through::Nothing => {}
            Through::Jump(hosts) => {
                let _ = writeln!(lines, "  ProxyJump {hosts}");
            }
            Through::Command(command) => {
                let _ = writeln!(lines, "  ProxyCommand {command}");
            }
        }
        lines
    }

    /// What a person adds to `ssh` or `ssh-copy-id`, with a space behind.
    pub fn options(&self) -> String {
        let mut options = String::new();
        if let Some(key) = &self.key {
            let _ = write!(options, "-i {} ", key.display());
        }
        if self.port != SSH_PORT {
            let _ = write!(options, "-p {} ", self.port);
        }
        match &self.through {
            Through::Nothing => {}
            Through::Jump(hosts) => {
                let _ = write!(options, "-o ProxyJump={hosts} ");
            }
            Through::Command(command) => {
                let _ = write!(options, "-o ProxyCommand='{}' ", command.replace('\'', "'\\''"));
            }
        }
        options
    }

    /// The jump host that ssh's words are about, as a person would log in to it. What a connection through one ends with
    /// before the node has answered is no more than that it ended, at an unknown place.
    pub fn jump_in(&self, words: &str) -> Option<String> {
        let Through::Jump(hosts) = &self.through else { return None };
        hosts.split(',').find_map(|jump| {
            let (host, port) = host_and_port(jump);
            let name = host.rsplit_once('@').map_or(host, |(_, name)| name).trim_matches(['[', ']']);
            let about = [
                format!("known for {name} "),
                format!("known for [{name}]:"),
                format!("{host}: "),
                "UNKNOWN port".to_owned(),
            ];
            let port = port.map(|port| format!("-p {port} ")).unwrap_or_default();
            about.iter().any(|about| words.contains(about)).then(|| format!("{port}{host}"))
        })
    }
}

/// Whether ssh would go in circles to reach a node: a jump host of the node's name is reached as that node is. Of several
/// only the first is; ssh says itself how the others are.
pub(super) fn circles(nodes: &[Node], node: &Node) -> bool {
    let mut seen = vec![node.name.as_str()];
    let mut at = node;
    while let Through::Jump(hosts) = &at.reach.through {
        let (first, _) = host_and_port(hosts.split(',').next().unwrap_or_default());
        let name = first.rsplit_once('@').map_or(first, |(_, name)| name);
        if seen.contains(&name) {
            // A circle that the node is not part of is told of those that are.
            return name == node.name;
        }
        let Some(next) = nodes.iter().find(|node| node.name == name) else { return false };
        seen.push(&next.name);
        at = next;
    }
    false
}

/// The keys as they are written.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) user: Option<String>,
    pub(super) key: Option<PathBuf>,
    pub(super) port: Option<u16>,
    pub(super) jump: Option<String>,
    pub(super) command: Option<String>,
}

/// The keys of all hosts.
pub(super) fn of_all(c: &mut Checker, raw: &file::Existing) -> Reach {
    let raw = Raw {
        // These two are the provider's own.
        user: None,
        key: None,
        port: raw.ssh_port.as_ref().map(|port| port.0),
        jump: raw.ssh_jump.clone(),
        command: raw.ssh_proxy_command.clone(),
    };
    check(c, "provider.existing", raw, Reach::default())
}

/// The keys of a node, whose other ones are those of all hosts.
pub(super) fn of_node(c: &mut Checker, index: usize, raw: Raw, provider: Option<&Provider>) -> Reach {
    let above = format!("nodes[{index}]");
    match provider {
        Some(Provider::Existing(existing)) => check(c, &above, raw, existing.reach.clone()),
        Some(Provider::DigitalOcean(_)) => {
            let keys = [
                ("ssh_user", raw.user.is_some()),
                ("ssh_key", raw.key.is_some()),
                ("ssh_port", raw.port.is_some()),
                ("ssh_jump", raw.jump.is_some()),
                ("ssh_proxy_command", raw.command.is_some()),
            ];
            for (key, _) in keys.iter().filter(|(_, set)| *set) {
                let hint = "remove it: droplets are reached at their public address, on port 22";
                c.wrong(format!("{above}.{key}"), "is only for existing hosts", hint);
            }
            Reach::default()
        }
        None => Reach::default(),
    }
}

fn check(c: &mut Checker, above: &str, raw: Raw, all: Reach) -> Reach {
    let mut reach = all;
    if let Some(name) = raw.user {
        user(c, &format!("{above}.ssh_user"), &name);
        reach.user = Some(name);
    }
    reach.key = private_key(c, &format!("{above}.ssh_key"), raw.key.as_deref()).or(reach.key);
    match raw.port {
        Some(0) => {
            c.wrong(format!("{above}.ssh_port"), "0 is not a port", "use 1 to 65535; 22 is the usual port")
        }
        Some(port) => reach.port = port,
        None => {}
    }
    if raw.jump.is_some() && raw.command.is_some() {
        let hint = "keep the one that reaches the host";
        c.wrong(format!("{above}.ssh_jump"), "stands beside ssh_proxy_command", hint);
    }
    if let Some(jump) = raw.jump {
        if jump == "none" {
            reach.through = Through::Nothing;
        } else if jump.split(',').all(is_jump) {
            reach.through = Through::Jump(jump);
        } else {
            c.wrong(
                format!("{above}.ssh_jump"),
                format!("{} is not a jump host", quoted(&jump)),
                "use HOST, USER@HOST or USER@HOST:PORT, with commas between several, or `none`",
            );
        }
    }
    if let Some(command) = raw.command {
        if command == "none" {
            reach.through = Through::Nothing;
        } else if let Some(why) = refused_command(&command) {
            let hint = "write it as in ~/.ssh/config: %h is the host, %p the port, %r the user";
            c.wrong(format!("{above}.ssh_proxy_command"), why, hint);
        } else {
            reach.through = Through::Command(command);
        }
    }
    reach
}

/// Splits `user@host:port`. An IPv6 address with a port stands in brackets.
fn host_and_port(jump: &str) -> (&str, Option<u16>) {
    match jump.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (jump, None),
    }
}

fn is_jump(jump: &str) -> bool {
    let (place, port) = host_and_port(jump);
    if place != jump && port.is_none_or(|port| port == 0) {
        return false;
    }
    let (user, host) = match place.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_user = |user: &str| !user.is_empty() && user.chars().all(plain) && !user.starts_with('-');
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // ssh takes what follows the last colon for a port.
    user.is_none_or(is_user) && (address.is_some() || !host.contains(':')) && is_host(address.unwrap_or(host))
}

/// Why ssh would not take a command.
fn refused_command(command: &str) -> Option<String> {
    if command.trim().is_empty() || command.contains(char::is_control) {
        return Some("is empty, or has a line break or another control character".into());
    }
    let mut rest = command;
    while let Some((_, after)) = rest.split_once('%') {
        let token = after.chars().next();
        if !token.is_some_and(|token| "%hnpr".contains(token)) {
            let token = token.map(String::from).unwrap_or_default();
            return Some(format!("has `%{token}`, which ssh does not know there"));
        }
        rest = &after[1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_have_users_and_ports() {
        for jump in ["bastion", "a@bastion", "a@198.51.100.1:2222", "a@[2001:db8::1]:22", "[2001:db8::1]"] {
            assert!(is_jump(jump), "{jump}");
        }
        for jump in [
            "",
            "@bastion",
            "a@",
            "bastion:",
            "bastion:0",
            "bastion:99999",
            "a b",
            "-oX=y",
            "-J@bastion",
            "2001:db8::1",
        ] {
            assert!(!is_jump(jump), "{jump}");
        }
    }

    #[test]
    fn a_command_has_only_what_ssh_replaces() {
        assert_eq!(refused_command("ssh -W %h:%p -l %r a%%b"), None);
        for command in ["", " ", "a\nb", "ssh %x", "ssh %"] {
            assert!(refused_command(command).is_some(), "{command}");
        }
    }

    #[test]
    fn a_person_is_told_the_options_that_the_program_uses() {
        let jump = Reach { port: 2222, through: Through::Jump("a@bastion:2200".into()), ..Reach::default() };
        assert_eq!(jump.config(), "  Port 2222\n  ProxyJump a@bastion:2200\n");
        assert_eq!(jump.options(), "-p 2222 -o ProxyJump=a@bastion:2200 ");
        let command = Reach { through: Through::Command("nc '%h' %p".into()), ..Reach::default() };
        assert_eq!(command.config(), "  ProxyCommand nc '%h' %p\n");
        assert_eq!(command.options(), "-o ProxyCommand='nc '\\''%h'\\'' %p' ");
        assert_eq!((Reach::default().config(), Reach::default().options()), (String::new(), String::new()));
    }

    #[test]
    fn what_ssh_says_of_a_jump_host_is_not_about_the_node() {
        let reach = Reach { through: Through::Jump("a@bastion:2200".into()), ..Reach::default() };
        let words = "No ED25519 host key is known for [bastion]:2200 and you have requested strict checking.";
        assert_eq!(reach.jump_in(words).as_deref(), Some("-p 2200 a@bastion"));
        assert_eq!(
            reach.jump_in("a@bastion: Permission denied (publickey).").as_deref(),
            Some("-p 2200 a@bastion")
        );
        assert!(reach.jump_in("Connection closed by UNKNOWN port 65535").is_some());
        assert_eq!(reach.jump_in("No ED25519 host key is known for 198.51.100.11 and"), None);
    }
}
